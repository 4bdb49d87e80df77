//! What one core answers another: reply bytes, with large values between them that are not copied.
//!
//! A large value stays in the memory of the core that owns its key. The handle travels, and keeps the
//! value as it was; the owner takes the memory back once the last handle is gone, wherever that was.
//! So what a reply costs beside the budget does not depend on how many cores it was gathered from.

use pinnace_engine::PinnedValue;
use pinnace_protocol::{OutBuf, OutPart, Slices};

/// A large value and the position, among the bytes of its answer, that it stands in front of.
#[derive(Clone, Debug)]
struct Placed {
    at: usize,
    value: PinnedValue,
}

/// Bytes with large values between them; one answer, or several in a row.
#[derive(Debug, Default)]
pub struct Answer {
    bytes: Vec<u8>,
    values: Vec<Placed>,
}

/// A place between two answers in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    byte: usize,
    value: usize,
}

/// A stretch of an [`Answer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    bytes: &'a [u8],
    values: &'a [Placed],
    /// The position of the first byte, as the values count.
    start: usize,
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, values: Vec::new() }
    }
}

impl Answer {
    /// The vector that plain bytes are appended to; those already in it must be left alone.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes of memory of its own, which large values are not.
    #[inline]
    pub(crate) fn owned_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The present end.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        Mark { byte: self.bytes.len(), value: self.values.len() }
    }

    /// All of it.
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        View { bytes: &self.bytes, values: &self.values, start: 0 }
    }

    /// What lies between two marks.
    #[inline]
    pub(crate) fn between(&self, from: Mark, to: Mark) -> View<'_> {
        View {
            bytes: &self.bytes[from.byte..to.byte],
            values: &self.values[from.value..to.value],
            start: from.byte,
        }
    }

    /// Lets `write` append to it by way of an output buffer.
    #[inline]
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut OutBuf<PinnedValue>)) {
        let mut out = OutBuf::new();
        std::mem::swap(out.bytes(), &mut self.bytes);
        write(&mut out);
        if out.is_plain() {
            std::mem::swap(out.bytes(), &mut self.bytes);
        } else {
            self.append_parts(&mut out);
        }
    }

    /// Moves everything in `out` behind what is there.
    pub(crate) fn append(&mut self, out: &mut OutBuf<PinnedValue>) {
        if out.is_plain() {
            self.bytes.extend_from_slice(out.bytes());
            out.clear();
        } else {
            self.append_parts(out);
        }
    }

    #[cold]
    fn append_parts(&mut self, out: &mut OutBuf<PinnedValue>) {
        for part in out.take_parts() {
            match part {
                OutPart::Bytes(bytes) if self.bytes.is_empty() => self.bytes = bytes,
                OutPart::Bytes(bytes) => self.bytes.extend_from_slice(&bytes),
                OutPart::Pinned(value) => self.values.push(Placed { at: self.bytes.len(), value }),
            }
        }
    }

    /// Appends another answer, sharing its large values.
    pub(crate) fn push(&mut self, view: View<'_>) {
        let base = self.bytes.len();
        let placed = |placed: &Placed| Placed { at: placed.at - view.start + base, ..placed.clone() };
        self.values.extend(view.values.iter().map(placed));
        self.bytes.extend_from_slice(view.bytes);
    }

    /// Appends a large value.
    pub(crate) fn push_value(&mut self, value: PinnedValue) {
        self.values.push(Placed { at: self.bytes.len(), value });
    }

    /// One run of bytes; copies the large values if there are any.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        if self.values.is_empty() {
            return self.bytes;
        }
        let mut out = OutBuf::new();
        self.view().write_to(&mut out);
        let mut flat = Vec::with_capacity(out.byte_len());
        for part in out.take_parts() {
            match part {
                OutPart::Bytes(bytes) => flat.extend_from_slice(&bytes),
                OutPart::Pinned(value) => {
                    (0..value.slice_count()).for_each(|index| flat.extend_from_slice(value.slice(index)));
                }
            }
        }
        flat
    }

    /// Empties it and keeps at most `keep_bytes` of memory.
    pub(crate) fn clear(&mut self, keep_bytes: usize) {
        self.values = Vec::new();
        self.bytes.clear();
        self.bytes.shrink_to(keep_bytes);
    }
}

impl<'a> View<'a> {
    /// The bytes, without the large values between them.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The large values, without the bytes between them.
    pub(crate) fn values(self) -> impl Iterator<Item = &'a PinnedValue> {
        self.values.iter().map(|placed| &placed.value)
    }

    /// The number of large values.
    pub(crate) fn value_count(self) -> usize {
        self.values.len()
    }

    /// Bytes of the reply, large values included.
    #[inline]
    pub(crate) fn reply_bytes(self) -> usize {
        self.bytes.len() + self.values.iter().map(|placed| placed.value.len()).sum::<usize>()
    }

    /// Whether a large value stands in front of byte `index` of this stretch.
    pub(crate) fn has_value_at(self, index: usize) -> bool {
        self.values.first().is_some_and(|placed| placed.at == self.start + index)
    }

    /// Two stretches: the first one with that many bytes and large values.
    pub(crate) fn split_at(self, bytes: usize, values: usize) -> (Self, Self) {
        let (head, tail) = self.bytes.split_at(bytes);
        let (head_values, tail_values) = self.values.split_at(values);
        (
            Self { bytes: head, values: head_values, start: self.start },
            Self { bytes: tail, values: tail_values, start: self.start + bytes },
        )
    }

    /// Appends it to the output of a connection.
    #[inline]
    pub(crate) fn write_to(self, out: &mut OutBuf<PinnedValue>) {
        let mut from = 0;
        for placed in self.values {
            let at = placed.at - self.start;
            out.bytes().extend_from_slice(&self.bytes[from..at]);
            out.push_pinned(placed.value.clone());
            from = at;
        }
        out.bytes().extend_from_slice(&self.bytes[from..]);
    }
}
