//! Rates of the last second and a half, from samples taken every 100 ms, as Redis takes them.

use crate::config::DriverCounters;
use crate::core::Core;

const SAMPLES: usize = 16;

/// What is counted at an instant.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    commands: u64,
    input_bytes: u64,
    output_bytes: u64,
}

/// Rates per second of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct PerSecond {
    pub(super) commands: u64,
    pub(super) input_bytes: u64,
    pub(super) output_bytes: u64,
}

/// Samples of one core, and what its driver had counted when statistics were last reset.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: [PerSecond; SAMPLES],
    next: usize,
    last: Option<(u64, Counted)>,
    driver_base: DriverCounters,
    memory_peak: u64,
}

impl Rates {
    pub(super) fn memory_peak(&self) -> u64 {
        self.memory_peak
    }

    /// The mean of the samples.
    pub(super) fn per_second(&self) -> PerSecond {
        let mean =
            |field: fn(&PerSecond) -> u64| self.samples.iter().map(field).sum::<u64>() / SAMPLES as u64;
        PerSecond {
            commands: mean(|sample| sample.commands),
            input_bytes: mean(|sample| sample.input_bytes),
            output_bytes: mean(|sample| sample.output_bytes),
        }
    }

    fn add(&mut self, now_ns: u64, counted: Counted) {
        if let Some((last_ns, last)) = self.last
            && now_ns > last_ns
        {
            // Counters are below last time's after a reset: that sample counts as nothing.
            let rate = |now: u64, before: u64| {
                let delta = u128::from(now.saturating_sub(before));
                (delta * 1_000_000_000 / u128::from(now_ns - last_ns)) as u64
            };
            self.samples[self.next] = PerSecond {
                commands: rate(counted.commands, last.commands),
                input_bytes: rate(counted.input_bytes, last.input_bytes),
                output_bytes: rate(counted.output_bytes, last.output_bytes),
            };
            self.next = (self.next + 1) % SAMPLES;
        }
        self.last = Some((now_ns, counted));
    }
}

/// Takes a sample.
pub(in super::super) fn sample_rates(core: &mut Core) {
    let driver = driver_counters(core);
    let counted = Counted {
        commands: core.stats.commands_processed,
        input_bytes: driver.input_bytes,
        output_bytes: driver.output_bytes,
    };
    let memory = super::memory_in_use(&core.ks.memory());
    let rates = &mut core.server.rates;
    rates.memory_peak = rates.memory_peak.max(memory);
    rates.add(core.time.monotonic_ns, counted);
}

/// CONFIG RESETSTAT: the driver's counters count from here.
pub(in super::super) fn reset_rates(core: &mut Core) {
    let base = core.config.driver_counters.as_ref().map_or_else(DriverCounters::default, |read| read());
    core.server.rates = Rates { driver_base: base, ..Rates::default() };
}

/// What the driver has counted since statistics were reset.
pub(super) fn driver_counters(core: &Core) -> DriverCounters {
    let Some(read) = &core.config.driver_counters else { return DriverCounters::default() };
    let (now, base) = (read(), &core.server.rates.driver_base);
    DriverCounters {
        connections_rejected: now.connections_rejected.saturating_sub(base.connections_rejected),
        input_bytes: now.input_bytes.saturating_sub(base.input_bytes),
        output_bytes: now.output_bytes.saturating_sub(base.output_bytes),
        turns: now.turns.saturating_sub(base.turns),
        parks: now.parks.saturating_sub(base.parks),
        busy_ns: now.busy_ns.saturating_sub(base.busy_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::{Counted, PerSecond, Rates, SAMPLES};

    #[test]
    fn a_steady_load_is_told_once_all_samples_have_seen_it() {
        let mut rates = Rates::default();
        for tick in 0..=SAMPLES as u64 {
            let counted = Counted { commands: tick * 100, input_bytes: tick * 10, output_bytes: 0 };
            rates.add(tick * 100_000_000, counted);
        }
        let expected = PerSecond { commands: 1000, input_bytes: 100, output_bytes: 0 };
        assert_eq!(rates.per_second(), expected);
    }

    #[test]
    fn a_reset_counter_is_no_rate() {
        let mut rates = Rates::default();
        rates.add(1, Counted { commands: 1_000_000, ..Counted::default() });
        rates.add(100_000_001, Counted::default());
        assert_eq!(rates.per_second(), PerSecond::default());
    }
}
