//! How long an idle core looks for work before it parks.
//!
//! Waking a parked core costs tens of microseconds, spinning costs CPU. The window doubles when work
//! came while spinning, or so soon after parking that spinning would have met it, and halves when it
//! did not: a busy core does not park between requests, an idle one does not spin.

/// The smallest window is this part of the largest: enough for completions that are just arriving.
const WINDOW_PARTS: u64 = 32;

/// The spin state of one core.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    window_ns: u64,
    idle_since_ns: Option<u64>,
}

/// What an idle core does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Begins to look for work.
    Begin,
    /// Looks on.
    Look,
    /// Sleeps.
    Sleep,
}

impl Spin {
    /// There was work; true if it ended a spin.
    #[inline]
    pub(crate) fn on_work(&mut self, max_ns: u64) -> bool {
        let was_spinning = self.idle_since_ns.take().is_some();
        if was_spinning {
            self.widen(max_ns);
        }
        was_spinning
    }

    /// What came was waited for in another way: says nothing about spinning.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.idle_since_ns = None;
    }

    /// There was no work.
    #[inline]
    pub(crate) fn on_idle(&mut self, now_ns: u64, max_ns: u64) -> Idle {
        self.window_ns = self.window_ns.clamp(max_ns / WINDOW_PARTS, max_ns);
        match self.idle_since_ns {
            _ if max_ns == 0 => Idle::Sleep,
            None => {
                self.idle_since_ns = Some(now_ns);
                Idle::Begin
            }
            Some(since_ns) if now_ns.saturating_sub(since_ns) < self.window_ns => Idle::Look,
            Some(_) => Idle::Sleep,
        }
    }

    /// The core slept from `from_ns` to `to_ns`.
    pub(crate) fn on_slept(&mut self, from_ns: u64, to_ns: u64, max_ns: u64) {
        self.idle_since_ns = None;
        if to_ns.saturating_sub(from_ns) < max_ns {
            self.widen(max_ns);
        } else {
            self.window_ns /= 2;
        }
    }

    fn widen(&mut self, max_ns: u64) {
        self.window_ns = (self.window_ns * 2).clamp(max_ns / WINDOW_PARTS, max_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::{Idle, Spin};

    const MAX_NS: u64 = 50_000;

    /// Nanoseconds spun before parking.
    fn spun(spin: &mut Spin, from_ns: u64) -> u64 {
        (from_ns..).step_by(100).find(|&now| spin.on_idle(now, MAX_NS) == Idle::Sleep).unwrap() - from_ns
    }

    #[test]
    fn hits_widen_the_window_up_to_the_limit_and_misses_narrow_it() {
        let mut spin = Spin::default();
        for _ in 0..10 {
            spin.on_idle(0, MAX_NS);
            assert!(spin.on_work(MAX_NS));
        }
        assert_eq!(spun(&mut spin, 1000), MAX_NS);
        for _ in 0..10 {
            spin.on_slept(0, 1_000_000, MAX_NS);
        }
        assert!(spun(&mut spin, 1000) <= MAX_NS / 16);
    }

    #[test]
    fn work_right_after_parking_widens_it_too() {
        let mut spin = Spin::default();
        for _ in 0..10 {
            spin.on_slept(0, 20_000, MAX_NS);
        }
        assert_eq!(spun(&mut spin, 0), MAX_NS);
    }

    #[test]
    fn a_limit_of_zero_parks_at_once() {
        assert_eq!(Spin::default().on_idle(5, 0), Idle::Sleep);
    }
}
