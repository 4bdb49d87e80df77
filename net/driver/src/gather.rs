//! For how many requests a core that has run out of work waits before it wakes up.
//!
//! A wake-up and a turn cost about as much as a request. Under a crowd of clients that send one request
//! at a time, a core faster than they are would wake up for each. So it sleeps until several requests are
//! there, or for [`crate::DriverTuning::gather_us`] at most. What it waits for follows from the last
//! millisecond, so that a core that has time answers at once:
//!
//! - the busier the core, the longer: the time it aims at is its busy share of the bound;
//! - never for more than a third of the clients that were heard: what the others send is on its way, and
//!   a few clients, let alone one, are never kept waiting for each other;
//! - not while other cores send mail, whose wake-ups count as one request only.

use crate::sockets::tick_of;

/// Of the clients that were heard, the part that is waited for.
const CROWD_PART: u64 = 3;

/// Counters at the beginning of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Receives that brought bytes.
    pub(crate) receives: u64,
    /// Nanoseconds of work.
    pub(crate) busy_ns: u64,
    /// Messages of other cores.
    pub(crate) mails: u64,
}

/// What the last window says about the next one. A window is a tick, about a millisecond.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    from_ns: u64,
    at_start: Seen,
    wanted: u64,
}

impl Gather {
    /// Called at every turn; `crowd` is taken when a window ends: the clients heard in it.
    #[inline]
    pub(crate) fn on_turn(&mut self, now_ns: u64, max_us: u32, seen: impl FnOnce() -> (Seen, u64)) {
        if tick_of(now_ns) != tick_of(self.from_ns) {
            let (seen, crowd) = seen();
            self.end_window(now_ns, max_us, seen, crowd);
        }
    }

    fn end_window(&mut self, now_ns: u64, max_us: u32, seen: Seen, crowd: u64) {
        let window_ns = now_ns - self.from_ns;
        let receives = seen.receives - self.at_start.receives;
        let busy_ns = (seen.busy_ns - self.at_start.busy_ns).min(window_ns);
        let has_mail = seen.mails != self.at_start.mails;
        let aim_ns = u64::from(max_us) * 1000 * busy_ns / window_ns;
        let expected = receives.saturating_mul(aim_ns) / window_ns;
        self.wanted = if has_mail { 0 } else { expected.min(crowd / CROWD_PART) };
        (self.from_ns, self.at_start) = (now_ns, seen);
    }

    /// Requests worth waiting for; fewer than two: none.
    #[inline]
    pub(crate) fn wanted(&self) -> Option<usize> {
        (self.wanted > 1).then_some(self.wanted as usize)
    }

    /// Nothing came: the crowd has gone.
    pub(crate) fn give_up(&mut self) {
        self.wanted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Gather, Seen};

    const WINDOW_NS: u64 = 1 << 20;
    const MAX_US: u32 = 200;

    /// What is waited for after a window with these counts.
    fn wanted(receives: u64, busy_percent: u64, mails: u64, crowd: u64) -> Option<usize> {
        let mut gather = Gather::default();
        let seen = Seen { receives, busy_ns: WINDOW_NS * busy_percent / 100, mails };
        gather.on_turn(WINDOW_NS, MAX_US, || (seen, crowd));
        gather.wanted()
    }

    #[test]
    fn the_busier_the_core_and_the_more_come_the_more_it_waits_for() {
        assert_eq!(wanted(80, 70, 0, 1000), Some(10));
        assert_eq!(wanted(80, 35, 0, 1000), Some(5));
        assert_eq!(wanted(20, 10, 0, 1000), None, "a core with time answers at once");
    }

    #[test]
    fn few_clients_are_not_kept_waiting_for_each_other() {
        for crowd in 0..6 {
            assert_eq!(wanted(500, 100, 0, crowd), None);
        }
        assert_eq!(wanted(500, 100, 0, 48), Some(16));
    }

    #[test]
    fn mail_of_other_cores_is_not_kept_waiting() {
        assert_eq!(wanted(80, 70, 1, 1000), None);
    }

    #[test]
    fn a_bound_of_zero_and_a_crowd_that_left_end_it() {
        let mut gather = Gather::default();
        let seen = Seen { receives: 100, busy_ns: WINDOW_NS, mails: 0 };
        gather.on_turn(WINDOW_NS, 0, || (seen, 1000));
        assert_eq!(gather.wanted(), None);
        let seen = Seen { receives: 200, busy_ns: 2 * WINDOW_NS, mails: 0 };
        gather.on_turn(2 * WINDOW_NS, MAX_US, || (seen, 1000));
        assert!(gather.wanted().is_some());
        gather.give_up();
        assert_eq!(gather.wanted(), None);
    }
}
