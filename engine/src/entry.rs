//! What a lookup gives.

use pinnace_mem::LargeValue;
use pinnace_protocol::Slices;
use pinnace_types::Deadline;

/// The version of an item: grows with every change, never repeats for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// Says of a key when it was seen to be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsenceStamp(pub u64);

/// The data type of a value. 4 bits in an item's header: room for 15 more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// A byte string.
    String = 0,
}

/// A live item, borrowed from the keyspace.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its value.
    pub value: ValueRef<'a>,
    /// When it expires.
    pub deadline: Deadline,
    /// Hits since it last moved in its queue, 0 to 3.
    pub frequency: u8,
    /// Its data type.
    pub kind: ValueKind,
    /// Its version, once [`crate::Keyspace::version`] has asked for one.
    pub version: Option<Version>,
}

/// The bytes of a value.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// Bytes in the log: copy what is kept, the next write may move them.
    Bytes(&'a [u8]),
    /// Blocks of a large value: clone the handle to keep them without a copy.
    Large(&'a LargeValue),
}

impl<'a> ValueRef<'a> {
    /// Bytes of the value.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Large(large) => large.len(),
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the value to `out`.
    #[inline]
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Large(_) => self.slices().for_each(|slice| out.extend_from_slice(slice)),
        }
    }

    /// The value as the slices it lies in.
    pub fn slices(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, large) = match *self {
            Self::Bytes(bytes) => (Some(bytes), None),
            Self::Large(large) => (None, Some(large)),
        };
        let blocks = large.into_iter().flat_map(|l| (0..l.slice_count()).map(|index| l.slice(index)));
        bytes.into_iter().chain(blocks)
    }
}
