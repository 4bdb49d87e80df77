//! When segments are worth a walk for expired items, without memory per item.
//!
//! A segment that is appended to counts its bytes by deadline in classes that grow with the distance
//! (each 1/16 of it wide). When it is sealed, the class at which enough bytes will have expired gives
//! the time of its next walk; the walk counts anew what it leaves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pinnace_mem::SegmentId;

use crate::segment::Segments;

/// Classes for each doubling of the distance, as a shift.
const STEPS_SHIFT: u32 = 4;

/// Classes for distances up to 48 bits of milliseconds.
const CLASSES: usize = ((48 - STEPS_SHIFT as usize) + 1) << STEPS_SHIFT;

/// Bytes by deadline.
#[derive(Debug)]
pub(crate) struct Deadlines {
    base: u64,
    total: u64,
    bytes: Box<[u32]>,
}

fn class_of(distance: u64) -> usize {
    if distance < 1 << STEPS_SHIFT {
        return distance as usize;
    }
    let magnitude = 63 - distance.leading_zeros();
    let step = (distance >> (magnitude - STEPS_SHIFT)) as usize & ((1 << STEPS_SHIFT) - 1);
    ((((magnitude - STEPS_SHIFT + 1) as usize) << STEPS_SHIFT) + step).min(CLASSES - 1)
}

/// The longest distance of a class.
fn class_end(class: usize) -> u64 {
    let (magnitude, step) = (class >> STEPS_SHIFT, class as u64 & ((1 << STEPS_SHIFT) - 1));
    if magnitude == 0 {
        return step;
    }
    (((1 << STEPS_SHIFT) + step + 1) << (magnitude - 1)) - 1
}

impl Deadlines {
    pub(crate) const HEAP_BYTES: u64 = (CLASSES * size_of::<u32>()) as u64;

    pub(crate) fn new() -> Self {
        Self { base: 0, total: 0, bytes: vec![0; CLASSES].into_boxed_slice() }
    }

    /// Starts counting from a point in time.
    pub(crate) fn restart(&mut self, base: u64) {
        if self.total > 0 {
            self.bytes.fill(0);
        }
        (self.base, self.total) = (base, 0);
    }

    /// Counts an item; a raw deadline of 0 is none.
    #[inline]
    pub(crate) fn add(&mut self, raw: u64, bytes: u64) {
        if raw != 0 {
            let class = &mut self.bytes[class_of(raw.saturating_sub(self.base))];
            *class = class.saturating_add(bytes.min(u64::from(u32::MAX)) as u32);
            self.total += bytes;
        }
    }

    /// The time at which at least `threshold` bytes will have expired.
    pub(crate) fn due(&self, threshold: u64) -> Option<u64> {
        if self.total < threshold {
            return None;
        }
        let mut sum = 0;
        let reached = |&bytes: &u32| {
            sum += u64::from(bytes);
            sum >= threshold
        };
        // Past the class' last instant: an item lives through its deadline's millisecond.
        let class = self.bytes.iter().position(reached)?;
        Some(self.base + class_end(class) + 1)
    }
}

/// A walk through a segment that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u32,
}

/// The times of walks.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// Entries whose time is not the segment's any more are stale and skipped.
    times: BinaryHeap<Reverse<(u64, SegmentId)>>,
    pub(crate) walk: Option<Walk>,
    /// What the walk leaves.
    pub(crate) left: Deadlines,
    /// When segments that are still appended to were last looked at.
    pub(crate) open_checked_at: u64,
}

impl Expiry {
    pub(crate) fn new(segments: u32) -> Self {
        Self {
            times: BinaryHeap::with_capacity(Self::capacity(segments)),
            walk: None,
            left: Deadlines::new(),
            open_checked_at: 0,
        }
    }

    fn capacity(segments: u32) -> usize {
        2 * segments as usize + 16
    }

    /// Heap bytes for a number of segments.
    pub(crate) fn heap_bytes(segments: u64) -> u64 {
        (2 * segments + 16) * size_of::<Reverse<(u64, SegmentId)>>() as u64 + Deadlines::HEAP_BYTES
    }

    /// Sets the time of a segment's next walk.
    pub(crate) fn schedule(&mut self, segments: &mut Segments, segment: SegmentId, at: u64) {
        let meta = segments.at_mut(segment);
        (meta.check_at, meta.early_bytes, meta.early_last) = (at, 0, 0);
        if at == u64::MAX {
            return;
        }
        if self.times.len() >= Self::capacity(segments.len()) {
            self.times.clear();
            let listed = segments.listed().map(|s| (segments.at(s).check_at, s));
            self.times.extend(listed.filter(|&(at, _)| at != u64::MAX).map(Reverse));
        } else {
            self.times.push(Reverse((at, segment)));
        }
    }

    /// The next segment whose time has come.
    pub(crate) fn take_due(&mut self, segments: &Segments, now: u64) -> Option<SegmentId> {
        while let Some(&Reverse((at, segment))) = self.times.peek() {
            let is_current = segments.at(segment).is_listed && segments.at(segment).check_at == at;
            if is_current && at > now {
                return None;
            }
            self.times.pop();
            if is_current {
                return Some(segment);
            }
        }
        None
    }

    /// Whether there is a walk to begin or to go on with.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.walk.is_some() || self.times.peek().is_some_and(|&Reverse((at, _))| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_distance_in_order() {
        let mut last = 0;
        for distance in (0..5000u64).chain((13..48).map(|shift| 1 << shift)).chain([(1 << 48) - 1]) {
            let class = class_of(distance);
            assert!(class >= last && class < CLASSES, "{distance}");
            assert!(class_end(class) >= distance);
            assert!(class_end(class) <= distance + distance / 16 + 1);
            last = class;
        }
    }

    #[test]
    fn due_is_when_enough_has_expired() {
        let mut deadlines = Deadlines::new();
        deadlines.restart(1000);
        deadlines.add(0, 500);
        deadlines.add(1100, 10);
        deadlines.add(5000, 10);
        assert_eq!(deadlines.due(30), None);
        assert!((1101..1110).contains(&deadlines.due(10).unwrap()));
        assert!((5001..5300).contains(&deadlines.due(20).unwrap()));
    }
}
