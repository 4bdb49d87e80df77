//! The replies of one connection that the driver has not taken yet.
//!
//! Small replies are appended to one byte vector. A large value is not copied: it stands between
//! two byte runs as a shared, pinned value, whose memory stays put until the send has completed.

/// A value that lies in memory as several slices.
pub trait Slices {
    /// Number of slices.
    fn slice_count(&self) -> usize;
    /// Slice `index`; every call with the same index gives the same bytes at the same address for
    /// as long as the value lives.
    fn slice(&self, index: usize) -> &[u8];
    /// Bytes of all slices.
    fn byte_len(&self) -> usize {
        (0..self.slice_count()).map(|index| self.slice(index).len()).sum()
    }
}

/// One run of reply bytes.
#[derive(Debug)]
pub enum OutPart<P> {
    /// Copied bytes.
    Bytes(Vec<u8>),
    /// Memory of the engine, shared until the send completes.
    Pinned(P),
}

/// Reply bytes in order. `P` is the engine's pinned value.
#[derive(Debug)]
pub struct OutBuf<P> {
    /// What precedes `tail`, in order; empty unless a pinned value is under way.
    parts: Vec<OutPart<P>>,
    parts_bytes: usize,
    /// Capacity of the vectors among the parts.
    parts_owned: usize,
    tail: Vec<u8>,
}

impl<P: Slices> Default for OutBuf<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Slices> OutBuf<P> {
    /// An empty buffer that owns no memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { parts: Vec::new(), parts_bytes: 0, parts_owned: 0, tail: Vec::new() }
    }

    /// The vector that replies are appended to. Bytes already in it must be left alone.
    #[inline]
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a value without copying it.
    pub fn push_pinned(&mut self, value: P) {
        self.end_tail();
        self.parts_bytes += value.byte_len();
        self.parts.push(OutPart::Pinned(value));
    }

    /// Appends a large byte vector without copying it.
    pub fn push_owned(&mut self, bytes: Vec<u8>) {
        self.end_tail();
        self.push_bytes(bytes);
    }

    /// Makes what was appended so far a part, so that another can follow.
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.push_bytes(tail);
        }
    }

    fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.parts_bytes += bytes.len();
        self.parts_owned += bytes.capacity();
        self.parts.push(OutPart::Bytes(bytes));
    }

    /// Bytes waiting.
    #[inline]
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.parts_bytes + self.tail.len()
    }

    /// Memory that the waiting replies hold: that of pinned values, which belongs to the engine, does
    /// not count, and the unused end of a vector does.
    #[inline]
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        self.parts_owned + self.parts.capacity() * size_of::<OutPart<P>>() + self.tail.capacity()
    }

    /// Whether nothing waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.tail.is_empty()
    }

    /// Whether all that waits is one plain run of bytes: the usual case, and the fast one.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes everything that waits as plain bytes by exchanging vectors: `spare` must be empty and
    /// becomes the vector that replies are appended to next. Only for [`OutBuf::is_plain`] buffers.
    ///
    /// # Panics
    /// If parts wait, or `spare` is not empty: both would reorder replies.
    #[inline]
    pub fn swap_plain(&mut self, spare: &mut Vec<u8>) {
        assert!(self.parts.is_empty() && spare.is_empty());
        std::mem::swap(&mut self.tail, spare);
    }

    /// Takes everything that waits, in order.
    pub fn take_parts(&mut self) -> Vec<OutPart<P>> {
        self.end_tail();
        self.parts_bytes = 0;
        self.parts_owned = 0;
        std::mem::take(&mut self.parts)
    }

    /// Drops everything that waits; the vector that replies are appended to keeps its memory.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.parts_bytes = 0;
        self.parts_owned = 0;
        self.tail.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{OutBuf, OutPart, Slices};

    #[derive(Debug, Clone, PartialEq)]
    struct Pinned([&'static [u8]; 2]);

    impl Slices for Pinned {
        fn slice_count(&self) -> usize {
            self.0.len()
        }

        fn slice(&self, index: usize) -> &[u8] {
            self.0[index]
        }
    }

    fn flatten(parts: &[OutPart<Pinned>]) -> Vec<u8> {
        let slices = |part: &OutPart<Pinned>| match part {
            OutPart::Bytes(bytes) => bytes.clone(),
            OutPart::Pinned(value) => value.0.concat(),
        };
        parts.iter().flat_map(slices).collect()
    }

    #[test]
    fn parts_come_out_in_the_order_they_went_in() {
        let mut out = OutBuf::new();
        assert!(out.is_empty() && out.is_plain());
        out.bytes().extend(b"a");
        out.push_pinned(Pinned([b"bc", b"d"]));
        out.push_owned(b"ef".to_vec());
        out.bytes().extend(b"g");
        out.push_pinned(Pinned([b"", b"h"]));
        out.bytes().extend(b"i");
        assert!(!out.is_empty() && !out.is_plain());
        assert_eq!(out.byte_len(), 9);
        let parts = out.take_parts();
        assert_eq!(flatten(&parts), b"abcdefghi");
        assert!(out.is_empty() && out.is_plain() && out.byte_len() == 0);
    }

    #[test]
    fn plain_bytes_are_exchanged_for_an_empty_vector() {
        let mut out: OutBuf<Pinned> = OutBuf::new();
        out.bytes().extend(b"reply");
        let mut spare = Vec::with_capacity(64);
        out.swap_plain(&mut spare);
        assert_eq!(spare, b"reply");
        assert!(out.is_empty());
        assert!(out.bytes().capacity() >= 64, "the spare vector is used next");
    }

    #[test]
    fn memory_of_vectors_is_owned_and_that_of_pinned_values_is_not() {
        let mut out = OutBuf::new();
        assert_eq!(out.owned_bytes(), 0);
        *out.bytes() = Vec::with_capacity(100);
        out.bytes().push(b'a');
        assert_eq!(out.owned_bytes(), 100);
        out.push_pinned(Pinned([&[0; 5000], &[0; 5000]]));
        let of_list = out.owned_bytes() - 100;
        assert!(of_list < 1000, "{of_list}");
        out.push_owned(Vec::with_capacity(70));
        assert_eq!(out.owned_bytes(), 170 + of_list);
        out.take_parts();
        assert_eq!(out.owned_bytes(), 0);
    }

    #[test]
    fn cleared_means_that_nothing_waits() {
        let mut out = OutBuf::new();
        out.push_pinned(Pinned([b"x", b"y"]));
        out.bytes().extend(b"z");
        out.clear();
        assert_eq!((out.is_empty(), out.byte_len(), out.parts_owned), (true, 0, 0));
        assert!(out.take_parts().is_empty());
    }
}
