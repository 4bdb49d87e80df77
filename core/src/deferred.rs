//! Requests of other cores that wait for a later turn. The cores that asked take turns, so that one
//! which asks for much does not hold up the others; of one core they stay in order.

use std::collections::VecDeque;

use pinnace_types::CoreId;

use crate::mail::Handover;

/// Hand-overs that wait, by the core that has sent them.
pub(crate) struct Deferred {
    of_core: Vec<VecDeque<Box<Handover>>>,
    len: usize,
    /// The core that is looked at first the next time.
    turn: usize,
}

impl Deferred {
    pub(crate) fn new(core_count: usize) -> Self {
        Self { of_core: (0..core_count).map(|_| VecDeque::new()).collect(), len: 0, turn: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether requests of a core wait: later ones of it have to, as well.
    #[inline]
    pub(crate) fn waits(&self, from: CoreId) -> bool {
        self.len > 0 && !self.of_core[from.index()].is_empty()
    }

    pub(crate) fn push_back(&mut self, from: CoreId, handover: Box<Handover>) {
        self.len += 1;
        self.of_core[from.index()].push_back(handover);
    }

    /// For the rest of what was taken from there.
    pub(crate) fn push_front(&mut self, from: CoreId, handover: Box<Handover>) {
        self.len += 1;
        self.of_core[from.index()].push_front(handover);
    }

    /// Takes the first hand-over of the core whose turn it is.
    pub(crate) fn next(&mut self) -> Option<(CoreId, Box<Handover>)> {
        if self.len == 0 {
            return None;
        }
        let cores = self.of_core.len();
        for core in (self.turn..self.turn + cores).map(|core| core % cores) {
            if let Some(handover) = self.of_core[core].pop_front() {
                self.len -= 1;
                self.turn = (core + 1) % cores;
                return Some((CoreId(core as u16), handover));
            }
        }
        unreachable!("as many wait as are counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Ask, ReturnTo};
    use pinnace_protocol::resp;
    use pinnace_types::{KeyHash, ShardId};

    fn handover(number: u64) -> Box<Handover> {
        let mut handover = Box::<Handover>::default();
        let ask = Ask::Native { hash: KeyHash(number), shard: ShardId(0) };
        handover.push(ask, resp::Version::V2, ReturnTo::Nobody, true, std::iter::empty());
        handover
    }

    fn number(handover: &Handover) -> u64 {
        match handover.request(0).ask {
            Ask::Native { hash, .. } => hash.0,
            _ => panic!("only numbered ones were made"),
        }
    }

    #[test]
    fn a_core_that_asks_for_much_does_not_hold_up_another() {
        let mut deferred = Deferred::new(4);
        (10..13).for_each(|number| deferred.push_back(CoreId(1), handover(number)));
        deferred.push_back(CoreId(3), handover(30));
        assert!(deferred.waits(CoreId(1)) && !deferred.waits(CoreId(2)));
        let mut order = Vec::new();
        while let Some((from, next)) = deferred.next() {
            order.push(number(&next));
            if number(&next) == 10 {
                // Answered in part: the rest comes before what the core has asked later.
                deferred.push_front(from, handover(100));
                deferred.push_back(CoreId(2), handover(20));
            }
        }
        assert_eq!(order, [10, 20, 30, 100, 11, 12]);
        assert!(deferred.is_empty());
    }
}
