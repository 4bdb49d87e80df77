//! The time of a turn, read once per turn.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pinnace_protocol::wire::TurnTime;
use pinnace_types::UnixMillis;

/// The wall clock is told from the monotonic one and compared with the real one this often, so that a
/// turn reads one clock and a step of the wall clock still shows within this time.
const RESYNC_NS: u64 = 5_000_000;

/// A common start, so that monotonic times of different cores may be compared.
static START: OnceLock<Instant> = OnceLock::new();

/// One core's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Wall clock in ns since the epoch when the monotonic clock was at 0.
    wall_offset_ns: u64,
    resync_at_ns: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: *START.get_or_init(Instant::now), wall_offset_ns: 0, resync_at_ns: 0 }
    }

    /// Nanoseconds since the first clock of the process was made.
    #[inline]
    pub(crate) fn monotonic_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Both clocks now.
    #[inline]
    pub(crate) fn now(&mut self) -> TurnTime {
        let monotonic_ns = self.monotonic_ns();
        if monotonic_ns >= self.resync_at_ns {
            self.resync(monotonic_ns);
        }
        let wall_us = self.wall_offset_ns.wrapping_add(monotonic_ns) / 1000;
        TurnTime { wall: UnixMillis(wall_us / 1000), wall_micros: (wall_us % 1000) as u16, monotonic_ns }
    }

    #[cold]
    fn resync(&mut self, monotonic_ns: u64) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.wall_offset_ns = (wall.as_nanos() as u64).wrapping_sub(monotonic_ns);
        self.resync_at_ns = monotonic_ns.saturating_add(RESYNC_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn wall_time_is_the_systems_and_monotonic_time_is_common() {
        let (mut a, mut b) = (Clock::new(), Clock::new());
        let (first, second) = (a.now(), b.now());
        assert!(second.monotonic_ns >= first.monotonic_ns);
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!(system - second.wall.0 < 1000 && second.wall_micros < 1000);
    }
}
