//! The bytes of an item in the log.
//!
//! `flags u8 | key_len u16 | value_len u24 | [deadline u48] | [version u64] | key | value`, little-endian,
//! packed without alignment. A dead item keeps its lengths, so that a segment can be walked. Gaps
//! are dead items without a key, or, below the header's size, single [`FILLER`] bytes.

/// Bytes of the fixed part.
pub const HEADER_BYTES: u32 = 6;
/// Bytes of a deadline.
pub const DEADLINE_BYTES: u32 = 6;
/// Bytes of a version.
pub const VERSION_BYTES: u32 = 8;
/// Longest value in the log: 24 bits.
pub const LOG_VALUE_BYTES_MAX: u32 = (1 << 24) - 1;

const HAS_DEADLINE: u8 = 1;
const HAS_VERSION: u8 = 2;
const LARGE: u8 = 4;
const DEAD: u8 = 8;

/// A gap of one byte. No item looks like it: a dead one has neither kind nor the large flag.
pub(crate) const FILLER: u8 = 0xff;

/// The fixed part of an item: the word it is read as, so that copying it never waits for a store of
/// its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header(u64);

/// What an item consists of besides its key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// 4-bit data type.
    pub kind: u8,
    /// The value in the log is the number of a large value.
    pub large: bool,
    /// The deadline's raw form, if the item has room for one (0 in it: none at present).
    pub deadline: Option<u64>,
    /// The version, if the item has one.
    pub version: Option<u64>,
}

impl Header {
    pub(crate) fn new(traits: &Traits, key_len: u16, value_len: u32) -> Self {
        debug_assert!(value_len <= LOG_VALUE_BYTES_MAX && traits.kind < 16);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(traits.deadline.is_some(), HAS_DEADLINE)
            | flag(traits.version.is_some(), HAS_VERSION)
            | flag(traits.large, LARGE)
            | traits.kind << 4;
        Self::from_parts(flags, key_len, value_len)
    }

    fn from_parts(flags: u8, key_len: u16, value_len: u32) -> Self {
        Self(u64::from(flags) | u64::from(key_len) << 8 | u64::from(value_len) << 24)
    }

    /// A dead item of `bytes` bytes, header included.
    pub(crate) fn gap(bytes: u32) -> Self {
        Self::from_parts(DEAD, 0, bytes - HEADER_BYTES)
    }

    #[inline(always)]
    pub(crate) fn from_word(word: u64) -> Self {
        Self(word & 0xffff_ffff_ffff)
    }

    #[inline(always)]
    pub(crate) fn flags(self) -> u8 {
        self.0 as u8
    }

    /// Bytes of the key.
    #[inline(always)]
    #[must_use]
    pub fn key_len(self) -> u16 {
        (self.0 >> 8) as u16
    }

    /// Bytes of the value in the log.
    #[inline(always)]
    #[must_use]
    pub fn value_len(self) -> u32 {
        (self.0 >> 24) as u32
    }

    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES as usize] {
        let b = self.0.to_le_bytes();
        [b[0], b[1], b[2], b[3], b[4], b[5]]
    }

    /// Whether this is a gap of one byte rather than an item.
    #[inline]
    #[must_use]
    pub fn is_filler(&self) -> bool {
        self.flags() == FILLER
    }

    /// Whether the item was overwritten, deleted, expired or evicted, or is a gap.
    #[inline]
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.flags() & DEAD != 0
    }

    /// Whether the value is the number of a large value.
    #[inline]
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.flags() & LARGE != 0
    }

    /// Whether there is room for a deadline.
    #[inline]
    #[must_use]
    pub fn has_deadline(&self) -> bool {
        self.flags() & HAS_DEADLINE != 0
    }

    /// Whether there is a version.
    #[inline]
    #[must_use]
    pub fn has_version(&self) -> bool {
        self.flags() & HAS_VERSION != 0
    }

    /// The data type.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.flags() >> 4
    }

    /// Offset of the version within the item.
    #[inline]
    pub(crate) fn version_offset(&self) -> u32 {
        HEADER_BYTES + if self.has_deadline() { DEADLINE_BYTES } else { 0 }
    }

    /// Offset of the key within the item.
    #[inline(always)]
    pub(crate) fn key_offset(&self) -> u32 {
        const OFFSETS: [u8; 4] = [6, 12, 14, 20];
        u32::from(OFFSETS[usize::from(self.flags() & 3)])
    }

    /// Offset of the value within the item.
    #[inline(always)]
    pub(crate) fn value_offset(&self) -> u32 {
        self.key_offset().wrapping_add(u32::from(self.key_len()))
    }

    /// Bytes of the whole item; 1 for a filler.
    #[inline(always)]
    #[must_use]
    pub fn item_bytes(&self) -> u32 {
        if self.is_filler() { 1 } else { self.value_offset().wrapping_add(self.value_len()) }
    }

    /// The same item, dead: kind and large flag go, so that it cannot be taken for a [`FILLER`].
    #[inline]
    pub(crate) fn killed(self) -> Self {
        let kept = self.flags() & (HAS_DEADLINE | HAS_VERSION) | DEAD;
        Self(self.0 & !0xff | u64::from(kept))
    }
}

impl Traits {
    /// Bytes of an item with these traits.
    #[inline]
    #[must_use]
    pub fn item_bytes(&self, key_len: usize, value_len: usize) -> usize {
        let deadline = if self.deadline.is_some() { DEADLINE_BYTES } else { 0 };
        let version = if self.version.is_some() { VERSION_BYTES } else { 0 };
        (HEADER_BYTES + deadline + version) as usize + key_len + value_len
    }
}

/// An item borrowed from the log.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its header.
    pub header: Header,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Item<'a> {
    /// The key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        &self.bytes[self.header.key_offset() as usize..][..usize::from(self.header.key_len())]
    }

    /// The value's bytes in the log.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        &self.bytes[self.header.value_offset() as usize..]
    }

    /// The deadline's raw form; 0: none.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> u64 {
        if !self.header.has_deadline() {
            return 0;
        }
        let b = &self.bytes[HEADER_BYTES as usize..][..DEADLINE_BYTES as usize];
        u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0])
    }

    /// The version, if it has one.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        let at = self.header.version_offset() as usize;
        let read = || self.bytes[at..].first_chunk().copied().map(u64::from_le_bytes);
        self.header.has_version().then(read).flatten()
    }

    /// The number of the large value that this item stands for.
    #[must_use]
    pub fn large_id(&self) -> Option<u32> {
        let read = || self.value().first_chunk().copied().map(u32::from_le_bytes);
        self.header.is_large().then(read).flatten()
    }

    /// All traits.
    #[must_use]
    pub fn traits(&self) -> Traits {
        Traits {
            kind: self.header.kind(),
            large: self.header.is_large(),
            deadline: self.header.has_deadline().then(|| self.deadline()),
            version: self.version(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_item_looks_like_a_filler() {
        for bits in 0..16u8 {
            let traits = Traits {
                kind: 15,
                large: bits & 1 != 0,
                deadline: (bits & 2 != 0).then_some(1),
                version: (bits & 4 != 0).then_some(1),
            };
            let header = Header::new(&traits, 3, 5);
            assert!(!header.is_filler() && !header.killed().is_filler());
            assert_eq!(header.killed().item_bytes(), header.item_bytes());
        }
    }

    #[test]
    fn headers_survive_encoding() {
        let header = Header::from_parts(3, 65_535, LOG_VALUE_BYTES_MAX);
        let mut word = [0; 8];
        word[..6].copy_from_slice(&header.to_bytes());
        assert_eq!(Header::from_word(u64::from_le_bytes(word)), header);
        assert_eq!(header.item_bytes(), 6 + 6 + 8 + 65_535 + LOG_VALUE_BYTES_MAX);
    }
}
