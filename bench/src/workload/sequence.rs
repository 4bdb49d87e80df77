//! The operations of one client, in order.
//!
//! Every client (connection) has a generator of its own. If all shared one sequence they would ask for
//! the same keys at the same time, everything would sit in the CPU's cache, and a server would look two
//! to three times faster than it is.

use pinnace_types::Prng;

use super::keys::mix;
use super::{Op, Workload};

/// New keys of one thread: it owns every `stride`th number past the preloaded ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inserts {
    /// Keys that were there at the start.
    pub(crate) base: u64,
    pub(crate) thread: u64,
    pub(crate) stride: u64,
    pub(crate) inserted: u64,
}

impl Inserts {
    fn add(&mut self) -> u64 {
        let number = self.number(self.inserted);
        self.inserted += 1;
        number
    }

    fn number(&self, index: u64) -> u64 {
        self.base + self.thread + index * self.stride
    }

    /// The key that is `age` writes old, as this thread knows it.
    fn aged(&self, age: u64) -> u64 {
        match self.inserted.checked_sub(age + 1) {
            Some(index) => self.number(index),
            None => self.base - 1 - (age - self.inserted).min(self.base - 1),
        }
    }
}

/// The requests of one client.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) prng: Prng,
}

impl Sequence {
    /// The sequence of client `client` of a run with `seed`.
    pub(crate) fn new(seed: u64, client: u64) -> Self {
        Self { prng: Prng::new(mix(seed) ^ mix(client.wrapping_add(1)).rotate_left(17)) }
    }

    /// The next operation and its key's number.
    #[inline]
    pub(crate) fn next(&mut self, workload: &Workload, inserts: &mut Inserts) -> (Op, u64) {
        let op = match workload.single_op {
            Some(op) => op,
            None => workload.mix.at(self.prng.next_u64() as u32),
        };
        let number = match op {
            Op::Insert => inserts.add(),
            // The keys of a multi-get follow from a generator of their own, seeded by this.
            Op::MultiGet => self.prng.next_u64(),
            _ => workload.picker.pick(&mut self.prng, |age| inserts.aged(age)),
        };
        (op, number)
    }
}

#[cfg(test)]
mod tests {
    use super::{Inserts, Sequence};
    use crate::workload::{Workload, WorkloadSpec};

    #[test]
    fn no_two_clients_ask_for_the_same_keys_at_the_same_time() {
        let workload = Workload::resolve(&WorkloadSpec::default(), 42).unwrap();
        let mut inserts = Inserts { base: workload.keys, thread: 0, stride: 1, inserted: 0 };
        let keys = |client, inserts: &mut Inserts| -> Vec<u64> {
            let mut sequence = Sequence::new(42, client);
            (0..1000).map(|_| sequence.next(&workload, inserts).1).collect()
        };
        let sequences: Vec<Vec<u64>> = (0..64).map(|client| keys(client, &mut inserts)).collect();
        for (client, mine) in sequences.iter().enumerate() {
            for theirs in &sequences[..client] {
                // Neither at the same place, nor shifted by a few.
                for shift in 0..4 {
                    let same = mine.iter().zip(&theirs[shift..]).filter(|(a, b)| a == b).count();
                    assert!(same <= 5, "{same} of 1000 requests of two clients are the same");
                }
            }
        }
        assert_eq!(keys(3, &mut inserts), sequences[3], "the same seed repeats a run");
    }

    #[test]
    fn inserted_keys_are_new_and_the_newest_comes_first() {
        let mut inserts = Inserts { base: 100, thread: 1, stride: 4, inserted: 0 };
        assert_eq!((inserts.aged(0), inserts.aged(99), inserts.aged(5000)), (99, 0, 0));
        assert_eq!((inserts.add(), inserts.add()), (101, 105));
        assert_eq!((inserts.aged(0), inserts.aged(1), inserts.aged(2)), (105, 101, 99));
    }
}
