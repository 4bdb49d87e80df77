//! Which commits are under way: what waits to be written, what is written, what is synced.
//!
//! Pure bookkeeping, so that the order of things can be tested without a disk.

use std::collections::VecDeque;

use pinnace_types::{CommitNumber, SegmentNumber};
use pinnace_wal::Sealed;

/// Bytes that go to one place: one or more commits that stand behind each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment: SegmentNumber,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// The last commit in it.
    pub(crate) last: CommitNumber,
}

/// Commits that wait for their write, and writes that wait for their end.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// The bytes of `extents`, one behind the other.
    gathered: Vec<u8>,
    extents: Vec<Extent>,
    /// Writes under way in their order, with whether they have ended.
    under_way: VecDeque<(CommitNumber, bool)>,
    written: CommitNumber,
}

/// An extent is not made longer than this: the next write can start while it is on its way.
const EXTENT_BYTES_MAX: u64 = 1 << 20;

impl Writes {
    /// Where commits are to be appended, followed by [`Self::add`].
    pub(crate) fn gathered(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    /// The commit that was appended.
    pub(crate) fn add(&mut self, sealed: &Sealed) {
        let extent =
            Extent { segment: sealed.segment, offset: sealed.offset, len: sealed.len, last: sealed.number };
        match self.extents.last_mut() {
            Some(before)
                if before.segment == extent.segment
                    && before.offset + before.len == extent.offset
                    && before.len + extent.len <= EXTENT_BYTES_MAX =>
            {
                before.len += extent.len;
                before.last = extent.last;
            }
            _ => self.extents.push(extent),
        }
    }

    pub(crate) fn has_gathered(&self) -> bool {
        !self.extents.is_empty()
    }

    /// Everything that waits for its write, which is from now on under way. `spare` is memory for
    /// what is gathered meanwhile.
    pub(crate) fn take(&mut self, spare: (Vec<u8>, Vec<Extent>)) -> (Vec<u8>, Vec<Extent>) {
        let taken =
            (std::mem::replace(&mut self.gathered, spare.0), std::mem::replace(&mut self.extents, spare.1));
        self.under_way.extend(taken.1.iter().map(|extent| (extent.last, false)));
        taken
    }

    /// Writes that have not ended.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// A write has ended, in whatever order.
    pub(crate) fn on_written(&mut self, last: CommitNumber) {
        let entry = self.under_way.iter_mut().find(|(number, _)| *number == last);
        entry.expect("a write ends once").1 = true;
        while let Some((number, true)) = self.under_way.front().copied() {
            self.under_way.pop_front();
            self.written = number;
        }
    }

    /// Everything up to this commit is written.
    pub(crate) fn written(&self) -> CommitNumber {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::Writes;
    use pinnace_types::{CommitNumber, LogPosition, SegmentNumber};
    use pinnace_wal::Sealed;

    fn sealed(number: u64, segment: u64, offset: u64, len: u64) -> Sealed {
        Sealed {
            number: CommitNumber(number),
            position: LogPosition(0),
            segment: SegmentNumber(segment),
            offset,
            len,
        }
    }

    #[test]
    fn neighbours_become_one_write_and_a_new_segment_another() {
        let mut writes = Writes::default();
        for (number, segment, offset) in [(1, 1, 0), (2, 1, 4096), (3, 2, 0), (4, 2, 4096)] {
            writes.add(&sealed(number, segment, offset, 4096));
        }
        writes.add(&sealed(5, 2, 8192, 1 << 20));
        let (_, extents) = writes.take(Default::default());
        let lasts: Vec<_> = extents.iter().map(|extent| (extent.last.0, extent.len)).collect();
        assert_eq!(lasts, [(2, 8192), (4, 8192), (5, 1 << 20)]);
    }

    #[test]
    fn a_commit_is_written_when_all_before_it_are() {
        let mut writes = Writes::default();
        for (number, segment) in [(1, 1), (2, 2), (3, 3)] {
            writes.add(&sealed(number, segment, 0, 4096));
        }
        assert!(writes.has_gathered());
        writes.take(Default::default());
        assert!(!writes.has_gathered());
        writes.on_written(CommitNumber(2));
        writes.on_written(CommitNumber(3));
        assert_eq!((writes.written(), writes.under_way()), (CommitNumber(0), 3));
        writes.on_written(CommitNumber(1));
        assert_eq!((writes.written(), writes.under_way()), (CommitNumber(3), 0));
    }
}
