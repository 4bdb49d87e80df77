//! The requests of one connection that are not answered yet.

use crate::workload::Op;

/// The step of what only prepares another request.
const ASKING: u8 = u8::MAX;
/// A request that servers send to each other more often than this is answered with an error.
const HOPS_MAX: u8 = 8;

/// What is remembered of a request until its reply comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// When it should have been sent, in ns of the run's clock: latency counts from here.
    pub(super) intended: u64,
    /// When it was handed to the socket.
    pub(super) sent: u64,
    /// Its key's number, or what its keys follow from.
    pub(super) number: u64,
    pub(super) op: Op,
    /// How many round trips of an operation that takes two are done.
    pub(super) step: u8,
    /// How often a server has sent it elsewhere.
    hops: u8,
    /// Whether it stands in a flight; kept by that.
    live: bool,
}

impl Entry {
    pub(super) fn new(op: Op, number: u64, intended: u64, sent: u64) -> Self {
        Self { intended, sent, number, op, step: 0, hops: 0, live: false }
    }

    /// The next round trip of the same operation.
    pub(super) fn again(self, step: u8, now: u64) -> Self {
        Self { step, sent: now, ..self }
    }

    /// The same round trip on another connection; `None` if it was sent around too often.
    pub(super) fn redirected(self, now: u64) -> Option<Self> {
        (self.hops < HOPS_MAX).then(|| Self { hops: self.hops + 1, sent: now, ..self })
    }

    /// What precedes a redirected request.
    pub(super) fn asking(&self) -> Self {
        Self { step: ASKING, ..*self }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.step == ASKING
    }
}

/// A ring of requests in flight. Ids count up; an id's place is its low bits.
#[derive(Debug)]
pub(super) struct Flight {
    entries: Vec<Entry>,
    /// The oldest id that may be live.
    head: u32,
    /// The next id.
    tail: u32,
    live: usize,
}

impl Flight {
    /// Room for `depth` requests in any order of replies.
    pub(super) fn new(depth: usize) -> Self {
        let vacant = Entry::new(Op::Get, 0, 0, 0);
        Self { entries: vec![vacant; (2 * depth).next_power_of_two().max(8)], head: 0, tail: 0, live: 0 }
    }

    #[inline]
    fn place(&self, id: u32) -> usize {
        id as usize & (self.entries.len() - 1)
    }

    /// Adds a request and names it.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) -> u32 {
        assert!(self.live < self.entries.len(), "a connection's depth bounds its requests in flight");
        // With replies out of order an old request may still sit where the next id would go.
        while self.entries[self.place(self.tail)].live {
            self.tail = self.tail.wrapping_add(1);
        }
        let id = self.tail;
        let place = self.place(id);
        self.entries[place] = Entry { live: true, ..entry };
        self.tail = id.wrapping_add(1);
        self.live += 1;
        id
    }

    /// Takes the oldest request: for protocols that answer in order.
    #[inline]
    pub(super) fn take_oldest(&mut self) -> Option<Entry> {
        if self.live == 0 {
            return None;
        }
        let id = self.head;
        self.head = id.wrapping_add(1);
        self.take(id)
    }

    /// Takes the request of that id.
    #[inline]
    pub(super) fn take(&mut self, id: u32) -> Option<Entry> {
        let place = self.place(id);
        let entry = &mut self.entries[place];
        if !entry.live {
            return None;
        }
        entry.live = false;
        self.live -= 1;
        Some(*entry)
    }

    /// Takes all that are left, in no order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        self.live = 0;
        self.head = self.tail;
        self.entries.iter_mut().filter(|entry| entry.live).map(|entry| {
            entry.live = false;
            *entry
        })
    }

    /// When the oldest request in flight was sent.
    pub(super) fn oldest_sent(&self) -> Option<u64> {
        self.entries.iter().filter(|entry| entry.live).map(|entry| entry.sent).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Flight};
    use crate::workload::Op;

    fn entry(number: u64) -> Entry {
        Entry::new(Op::Get, number, number, number)
    }

    #[test]
    fn in_order_replies_find_their_requests() {
        let mut flight = Flight::new(4);
        for round in 0..100 {
            for n in 0..4 {
                flight.push(entry(round * 4 + n));
            }
            assert_eq!(flight.oldest_sent(), Some(round * 4));
            for n in 0..4 {
                assert_eq!(flight.take_oldest().unwrap().number, round * 4 + n);
            }
            assert!(flight.take_oldest().is_none());
        }
    }

    #[test]
    fn a_late_reply_keeps_its_place_while_others_come_and_go() {
        let mut flight = Flight::new(4);
        let late = flight.push(entry(7));
        for number in 100..400 {
            let id = flight.push(entry(number));
            assert_eq!(flight.take(id).unwrap().number, number);
            assert!(flight.take(id).is_none(), "a second reply to one request");
        }
        assert_eq!(flight.take(late).unwrap().number, 7);
        assert!(flight.take_oldest().is_none());
        flight.push(entry(1));
        assert_eq!(flight.drain().count(), 1);
        assert_eq!(flight.oldest_sent(), None);
    }
}
