//! Equal units cut from whole segments: index pages, and the blocks of large values.

use crate::pool::{Pool, SegmentId, Use};

/// Segments that are remembered as not to be emptied.
const GIVEN_UP_MAX: usize = 32;

/// An allocator of units of one size. A segment goes back to the pool when its last unit does.
#[derive(Debug)]
pub(crate) struct Units {
    purpose: Use,
    unit_shift: u32,
    segment_shift: u32,
    /// Bit set: unit taken. `words` words a segment.
    taken: Vec<u64>,
    words: usize,
    /// Segments of this purpose that have a free unit.
    partial: Vec<SegmentId>,
    units_free: u32,
    units_taken: u32,
    /// A segment that is being emptied: nothing is taken from it, and its free units do not count.
    drained: Option<SegmentId>,
    /// Those that could not be emptied lately: they are left alone until all others were tried.
    given_up: Vec<SegmentId>,
}

impl Units {
    pub(crate) fn new(purpose: Use, unit_shift: u32, segment_shift: u32, segments: u32) -> Self {
        assert!(unit_shift < segment_shift);
        let words = (1usize << (segment_shift - unit_shift)).div_ceil(64);
        Self {
            purpose,
            unit_shift,
            segment_shift,
            taken: vec![0; words * segments as usize],
            words,
            partial: Vec::with_capacity(segments as usize),
            units_free: 0,
            units_taken: 0,
            drained: None,
            given_up: Vec::new(),
        }
    }

    fn per_segment(&self) -> u32 {
        1 << (self.segment_shift - self.unit_shift)
    }

    pub(crate) fn unit_bytes(&self) -> u64 {
        1 << self.unit_shift
    }

    pub(crate) fn units_free(&self) -> u32 {
        self.units_free
    }

    pub(crate) fn units_taken(&self) -> u32 {
        self.units_taken
    }

    fn masks(&mut self, segment: SegmentId) -> &mut [u64] {
        let from = segment as usize * self.words;
        &mut self.taken[from..from + self.words]
    }

    /// The mask of a segment's word with the units that do not exist marked as taken.
    fn full_word(&self) -> u64 {
        let units = self.per_segment();
        if units >= 64 { u64::MAX } else { (1 << units) - 1 }
    }

    /// Takes up to `units_max` neighbouring units; gives their offset and number.
    pub(crate) fn take(&mut self, units_max: u32, pool: &mut Pool) -> Option<(u64, u32)> {
        debug_assert!(units_max > 0);
        if self.partial.is_empty() {
            let segment = pool.take(self.purpose)?;
            self.masks(segment).fill(0);
            self.partial.push(segment);
            self.units_free += self.per_segment();
        }
        let segment = *self.partial.last().expect("a partial segment was just pushed");
        let full = self.full_word();
        let words = self.masks(segment);
        let word = words.iter().position(|&w| w != full).expect("a partial segment has a free unit");
        let first = words[word].trailing_ones();
        let run = (words[word] >> first).trailing_zeros().min(64 - first).min(units_max);
        let run = run.min(full.count_ones() - first);
        let bits = if run == 64 { u64::MAX } else { ((1 << run) - 1) << first };
        words[word] |= bits;
        if words.iter().all(|&w| w == full) {
            self.partial.pop();
        }
        self.units_free -= run;
        self.units_taken += run;
        let unit = word as u64 * 64 + u64::from(first);
        Some(((u64::from(segment) << self.segment_shift) + (unit << self.unit_shift), run))
    }

    /// Gives `units` neighbouring units at `offset` back.
    ///
    /// # Panics
    /// If one of them is not taken.
    pub(crate) fn give_back(&mut self, offset: u64, units: u32, pool: &mut Pool) {
        let segment = (offset >> self.segment_shift) as SegmentId;
        assert_eq!(pool.use_of(segment), self.purpose, "units are given back to their own allocator");
        let first = ((offset & ((1 << self.segment_shift) - 1)) >> self.unit_shift) as usize;
        let full = self.full_word();
        let words = self.masks(segment);
        let was_full = words.iter().all(|&w| w == full);
        for unit in first..first + units as usize {
            let bit = 1u64 << (unit % 64);
            assert!(words[unit / 64] & bit != 0, "a unit is given back once");
            words[unit / 64] &= !bit;
        }
        let is_empty = words.iter().all(|&w| w == 0);
        self.units_taken -= units;
        if self.drained == Some(segment) {
            if is_empty {
                self.drained = None;
                pool.give_back(segment, self.purpose);
            }
            return;
        }
        self.units_free += units;
        if is_empty {
            self.units_free -= self.per_segment();
            if !was_full {
                self.partial.retain(|&s| s != segment);
            }
            pool.give_back(segment, self.purpose);
        } else if was_full {
            self.partial.push(segment);
        }
    }
}

impl Units {
    /// The segment that is being emptied.
    pub(crate) fn drained(&self) -> Option<SegmentId> {
        self.drained
    }

    fn taken_in(&self, segment: SegmentId) -> u32 {
        let from = segment as usize * self.words;
        self.taken[from..from + self.words].iter().map(|word| word.count_ones()).sum()
    }

    /// Begins to empty the segment with the fewest units taken, if the others have room for more than
    /// what is in it.
    pub(crate) fn begin_drain(&mut self) -> bool {
        if self.drained.is_some() || self.units_free < 2 * self.per_segment() {
            return self.drained.is_some();
        }
        let candidates = (0..self.partial.len()).filter(|&i| !self.given_up.contains(&self.partial[i]));
        let Some(index) = candidates.min_by_key(|&index| self.taken_in(self.partial[index])) else {
            self.given_up.clear();
            return false;
        };
        let segment = self.partial.swap_remove(index);
        self.units_free -= self.per_segment() - self.taken_in(segment);
        self.drained = Some(segment);
        true
    }

    /// Leaves the segment that was being emptied as it is.
    pub(crate) fn end_drain(&mut self) {
        if let Some(segment) = self.drained.take() {
            self.units_free += self.per_segment() - self.taken_in(segment);
            self.partial.push(segment);
            if self.given_up.len() >= GIVEN_UP_MAX {
                self.given_up.clear();
            }
            self.given_up.push(segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_from_one_segment_after_another_and_empty_segments_go_back() {
        let mut pool = Pool::new(3);
        let mut units = Units::new(Use::Pages, 12, 15, 3);
        let taken: Vec<u64> = (0..24).map(|_| units.take(1, &mut pool).unwrap().0).collect();
        assert_eq!(units.take(1, &mut pool), None);
        assert_eq!(taken.iter().collect::<std::collections::BTreeSet<_>>().len(), 24);
        for offset in taken {
            units.give_back(offset, 1, &mut pool);
        }
        assert_eq!((pool.free_count(), units.units_free(), units.units_taken()), (3, 0, 0));
    }

    #[test]
    fn runs_are_as_long_as_they_can_be() {
        let mut pool = Pool::new(1);
        let mut units = Units::new(Use::Blocks, 10, 16, 1);
        assert_eq!(units.take(40, &mut pool), Some((0, 40)));
        assert_eq!(units.take(40, &mut pool), Some((40 << 10, 24)));
        units.give_back(4 << 10, 2, &mut pool);
        assert_eq!(units.take(40, &mut pool), Some((4 << 10, 2)));
    }
}
