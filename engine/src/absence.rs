//! Keys that somebody has seen to be absent, until they are written to: WATCH of a key that is not
//! there has no item whose version could tell.
//!
//! The table has a fixed size. A key that has been pushed out by younger ones counts as written to,
//! so the error is on the safe side: a transaction that could have run does not.

/// Sets of the table; a power of two.
const SETS: usize = 1024;
/// Keys of one set. Five absent keys of one set have to be watched at the same time for one to be
/// pushed out, which a few hundred clients with a few keys each do not bring about.
const WAYS: usize = 4;
/// The bits of the hash that choose the set.
const SET_SHIFT: u32 = 32;

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    hash: u64,
    /// 0: nothing here.
    stamp: u64,
}

/// The table; exists from the first such key on.
#[derive(Debug)]
pub(crate) struct Absences {
    sets: Vec<[Seen; WAYS]>,
    last_stamp: u64,
}

impl Absences {
    pub(crate) fn new() -> Self {
        Self { sets: vec![[Seen::default(); WAYS]; SETS], last_stamp: 0 }
    }

    fn set(&mut self, hash: u64) -> &mut [Seen; WAYS] {
        &mut self.sets[(hash >> SET_SHIFT) as usize % SETS]
    }

    /// Remembers a key that is absent; the stamp is good until it is written to.
    pub(crate) fn see(&mut self, hash: u64) -> u64 {
        let next_stamp = self.last_stamp + 1;
        let set = self.set(hash);
        if let Some(seen) = set.iter().find(|seen| seen.stamp != 0 && seen.hash == hash) {
            return seen.stamp;
        }
        let oldest = set.iter_mut().min_by_key(|seen| seen.stamp).expect("a set has places");
        *oldest = Seen { hash, stamp: next_stamp };
        self.last_stamp = next_stamp;
        next_stamp
    }

    /// A key has been written.
    #[inline]
    pub(crate) fn written(&mut self, hash: u64) {
        for seen in self.set(hash) {
            if seen.hash == hash {
                seen.stamp = 0;
            }
        }
    }

    /// Whether a key has certainly not been written to since it got this stamp.
    pub(crate) fn holds(&self, hash: u64, stamp: u64) -> bool {
        let set = &self.sets[(hash >> SET_SHIFT) as usize % SETS];
        stamp != 0 && set.iter().any(|seen| (seen.hash, seen.stamp) == (hash, stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_until_its_key_is_written() {
        let mut absences = Absences::new();
        let (a, b) = (absences.see(7), absences.see(8));
        assert_eq!(absences.see(7), a);
        absences.written(7);
        assert!(!absences.holds(7, a) && absences.holds(8, b) && !absences.holds(7, b));
        let again = absences.see(7);
        assert!(absences.holds(7, again) && !absences.holds(7, a));
        assert!(!absences.holds(9, 0));
    }

    #[test]
    fn a_key_that_was_pushed_out_counts_as_written() {
        let mut absences = Absences::new();
        let stamps: Vec<u64> = (0..=WAYS as u64).map(|hash| absences.see(hash)).collect();
        assert!(!absences.holds(0, stamps[0]));
        assert!((1..=WAYS).all(|hash| absences.holds(hash as u64, stamps[hash])));
    }
}
