//! What a thread counts and measures, without sharing and without allocation.

use hdrhistogram::Histogram;

use crate::workload::{OP_COUNT, Op};

/// Latencies are told apart up to this: one hour, in ns.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Digits to which histograms are exact.
const DIGITS: u8 = 3;

/// An empty latency histogram.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("the bounds are constants in range")
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Answered, whatever the answer.
    pub(crate) answered: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// A condition did not hold, as in a lost compare-and-set.
    pub(crate) refused: u64,
    /// The server said that it could not.
    pub(crate) errors: u64,
    /// The connection broke before the answer.
    pub(crate) lost: u64,
    /// No answer in time.
    pub(crate) timeouts: u64,
    /// Answers that are not what the key was given.
    pub(crate) wrong: u64,
    /// Values compared in full.
    pub(crate) verified: u64,
    /// Intended, but never sent.
    pub(crate) unsent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.hits += other.hits;
        self.misses += other.misses;
        self.refused += other.refused;
        self.errors += other.errors;
        self.lost += other.lost;
        self.timeouts += other.timeouts;
        self.wrong += other.wrong;
        self.verified += other.verified;
        self.unsent += other.unsent;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }
}

/// Classes of latency a factor of 2 apart, eight to a factor: enough for a picture over time.
pub(crate) const CLASS_COUNT: usize = 256;
/// 2^8 ns is the upper end of class 0.
const CLASS_SHIFT: u32 = 8;

/// The class of a latency.
#[inline]
pub(crate) fn class_of(latency_ns: u64) -> usize {
    let latency = latency_ns.max(1 << CLASS_SHIFT);
    let octave = 63 - latency.leading_zeros();
    let eighth = (latency >> (octave - 3)) & 7;
    (((octave - CLASS_SHIFT) as usize) << 3 | eighth as usize).min(CLASS_COUNT - 1)
}

/// The lower end of a class, in ns.
pub(crate) fn class_start_ns(class: usize) -> u64 {
    let octave = (class >> 3) as u32 + CLASS_SHIFT;
    (8 + (class as u64 & 7)) << (octave - 3)
}

/// The latencies of one interval of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) classes: [u32; CLASS_COUNT],
    pub(crate) max_ns: u64,
}

impl Row {
    pub(crate) const EMPTY: Self = Self { classes: [0; CLASS_COUNT], max_ns: 0 };

    pub(crate) fn count(&self) -> u64 {
        self.classes.iter().map(|&count| u64::from(count)).sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            *mine = mine.saturating_add(*theirs);
        }
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The latency below which `share` of the answers came, to the upper end of its class.
    pub(crate) fn quantile_ns(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        for (class, &count) in self.classes.iter().enumerate() {
            sum += u64::from(count);
            if sum >= wanted {
                return class_start_ns(class + 1).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

/// The measurements of one thread in one phase.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Response time by operation: from the intended start.
    pub(crate) operations: [Option<Box<Histogram<u64>>>; OP_COUNT],
    /// Time from the actual send, where it differs from the intended start (open loop).
    pub(crate) service: Option<Box<Histogram<u64>>>,
    pub(crate) rows: Vec<Row>,
    row_ns: u64,
    /// Row under way and when it ends.
    row: usize,
    row_end: u64,
    /// Equal latencies in succession are written at once: whole batches share one.
    run: Run,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    op: Op,
    latency: u64,
    service: u64,
    count: u64,
}

impl Recorder {
    /// Rows of `row_ns` each, `rows` of them, from `start` on; what comes later counts to the last.
    pub(super) fn new(ops: &[Op], open_loop: bool, start: u64, row_ns: u64, rows: usize) -> Self {
        let operations = std::array::from_fn(|index| {
            ops.iter().any(|op| op.index() == index).then(|| Box::new(latency_histogram()))
        });
        Self {
            operations,
            service: open_loop.then(|| Box::new(latency_histogram())),
            rows: vec![Row::EMPTY; rows.max(1)],
            row_ns,
            row: 0,
            row_end: start + row_ns,
            run: Run { op: Op::Get, latency: 0, service: 0, count: 0 },
            counts: Counts::default(),
        }
    }

    /// Moves on to the row of `now`.
    #[inline]
    pub(super) fn advance(&mut self, now: u64) {
        if now >= self.row_end {
            self.flush();
            while now >= self.row_end && self.row + 1 < self.rows.len() {
                self.row += 1;
                self.row_end += self.row_ns;
            }
        }
    }

    /// The rows that will not change any more.
    pub(super) fn complete_rows(&self) -> &[Row] {
        &self.rows[..self.row]
    }

    /// Counts one answer: `latency` from the intended start, `service` from the send.
    #[inline]
    pub(super) fn record(&mut self, op: Op, latency: u64, service: u64) {
        let run = &mut self.run;
        if run.latency != latency || run.op != op || run.service != service {
            self.flush();
            self.run = Run { op, latency, service, count: 0 };
        }
        self.run.count += 1;
    }

    /// Writes out what is held back. Call before reading.
    pub(super) fn flush(&mut self) {
        let Run { op, latency, service, count } = self.run;
        if count == 0 {
            return;
        }
        self.run.count = 0;
        if let Some(histogram) = &mut self.operations[op.index()] {
            histogram.saturating_record_n(latency.max(1), count);
        }
        if let Some(histogram) = &mut self.service {
            histogram.saturating_record_n(service.max(1), count);
        }
        let row = &mut self.rows[self.row];
        let class = &mut row.classes[class_of(latency)];
        *class = class.saturating_add(count.min(u64::from(u32::MAX)) as u32);
        row.max_ns = row.max_ns.max(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::{CLASS_COUNT, Recorder, Row, class_of, class_start_ns};
    use crate::workload::Op;

    #[test]
    fn classes_meet_without_a_gap() {
        assert_eq!(class_of(0), 0);
        for class in 0..CLASS_COUNT - 1 {
            let (start, next) = (class_start_ns(class), class_start_ns(class + 1));
            assert_eq!((class_of(start), class_of(next - 1), class_of(next)), (class, class, class + 1));
        }
        assert_eq!(class_of(u64::MAX), CLASS_COUNT - 1);
    }

    #[test]
    fn runs_of_equal_latency_count_each() {
        let mut recorder = Recorder::new(&[Op::Get, Op::Set], true, 0, 1000, 3);
        for latency in [500, 500, 500, 700, 500] {
            recorder.record(Op::Get, latency, latency - 100);
        }
        recorder.record(Op::Set, 500, 500);
        recorder.advance(2500);
        assert_eq!(recorder.complete_rows().iter().map(Row::count).sum::<u64>(), 6);
        assert_eq!(recorder.complete_rows().len(), 2);
        recorder.record(Op::Get, 9_000_000, 1);
        recorder.advance(99_000);
        recorder.flush();
        let gets = recorder.operations[Op::Get.index()].as_ref().unwrap();
        assert_eq!((gets.len(), gets.count_at(500), gets.count_at(700)), (6, 4, 1));
        assert_eq!(recorder.operations[Op::Set.index()].as_ref().unwrap().len(), 1);
        assert_eq!(recorder.service.as_ref().unwrap().count_at(400), 4);
        assert_eq!(recorder.rows.iter().map(Row::count).collect::<Vec<_>>(), [6, 0, 1]);
        assert_eq!(recorder.rows[2].quantile_ns(0.5), 9_000_000);
    }
}
