//! A decoded command as a view on the bytes it was received in: no copy, no allocation.

/// Where one argument stands in its buffer. Requests are bounded by 1 GiB, so 32 bits suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgRange {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// The arguments of one command, the command's name first.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    ranges: &'a [ArgRange],
}

impl<'a> Args<'a> {
    /// Every range must lie within `buffer`; the decoder that made the ranges keeps that.
    #[must_use]
    pub fn new(buffer: &'a [u8], ranges: &'a [ArgRange]) -> Self {
        debug_assert!(ranges.iter().all(|r| (r.start + r.len) as usize <= buffer.len()));
        Self { buffer, ranges }
    }

    /// The number of arguments, name included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no argument at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Argument `index`.
    ///
    /// # Panics
    /// If there are not that many; arity is checked before a command runs.
    #[inline]
    #[must_use]
    pub fn at(&self, index: usize) -> &'a [u8] {
        let range = self.ranges[index];
        &self.buffer[range.start as usize..][..range.len as usize]
    }

    /// Argument `index`, if it is there.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.ranges.len()).then(|| self.at(index))
    }

    /// The arguments from `index` on.
    #[must_use]
    pub fn from(&self, index: usize) -> Self {
        Self { buffer: self.buffer, ranges: self.ranges.get(index..).unwrap_or(&[]) }
    }

    /// All arguments in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let this = *self;
        (0..this.len()).map(move |index| this.at(index))
    }

    /// Bytes of all arguments together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.ranges.iter().map(|r| r.len as usize).sum()
    }
}

impl std::fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| String::from_utf8_lossy(arg).into_owned())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{ArgRange, Args};

    const RANGES: [ArgRange; 3] =
        [ArgRange { start: 0, len: 3 }, ArgRange { start: 4, len: 0 }, ArgRange { start: 5, len: 2 }];

    #[test]
    fn arguments_are_slices_of_the_buffer() {
        let args = Args::new(b"GET  k1", &RANGES);
        assert_eq!(args.iter().collect::<Vec<_>>(), [&b"GET"[..], b"", b"k1"]);
        assert_eq!((args.len(), args.byte_len(), args.is_empty()), (3, 5, false));
        assert_eq!((args.at(2), args.get(2), args.get(3)), (&b"k1"[..], Some(&b"k1"[..]), None));
    }

    #[test]
    fn a_tail_beyond_the_end_is_empty() {
        let args = Args::new(b"GET  k1", &RANGES);
        assert_eq!(args.from(1).len(), 2);
        assert!(args.from(3).is_empty() && args.from(9).is_empty());
        assert_eq!(format!("{args:?}"), r#"["GET", "", "k1"]"#);
    }
}
