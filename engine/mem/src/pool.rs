//! Which segment is used for what, and the free ones.

/// Number of a segment: its offset in the memory divided by the segment size.
pub type SegmentId = u32;

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Use {
    /// Nothing.
    Free,
    /// Items, one after another.
    Log,
    /// Pages of index tables and of the ghost.
    Pages,
    /// Blocks of large values.
    Blocks,
    /// One large value alone.
    Whole,
}

/// All segments. Those given back last are taken first: they are resident and perhaps still cached.
#[derive(Debug)]
pub(crate) struct Pool {
    uses: Vec<Use>,
    free: Vec<SegmentId>,
    /// Segments from here on were never used, and are not resident.
    fresh: SegmentId,
}

impl Pool {
    pub(crate) fn new(segments: u32) -> Self {
        let count = segments as usize;
        Self { uses: vec![Use::Free; count], free: Vec::with_capacity(count), fresh: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.uses.len() as u32
    }

    #[inline]
    pub(crate) fn free_count(&self) -> u32 {
        self.free.len() as u32 + (self.len() - self.fresh)
    }

    #[inline]
    pub(crate) fn use_of(&self, segment: SegmentId) -> Use {
        self.uses[segment as usize]
    }

    pub(crate) fn count(&self, wanted: Use) -> u32 {
        self.uses.iter().filter(|&&u| u == wanted).count() as u32
    }

    pub(crate) fn take(&mut self, wanted: Use) -> Option<SegmentId> {
        debug_assert_ne!(wanted, Use::Free);
        let segment = match self.free.pop() {
            Some(segment) => segment,
            None if self.fresh < self.len() => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return None,
        };
        self.uses[segment as usize] = wanted;
        Some(segment)
    }

    /// # Panics
    /// If the segment is not in use for `expected`: giving it back twice would hand it out twice.
    pub(crate) fn give_back(&mut self, segment: SegmentId, expected: Use) {
        let current = &mut self.uses[segment as usize];
        assert_eq!(*current, expected, "a segment is given back by its owner, once");
        *current = Use::Free;
        self.free.push(segment);
    }
}
