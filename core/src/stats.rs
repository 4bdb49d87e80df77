//! Counters of one core: plain integers, written by one thread, read by whoever asks that thread.

use std::collections::BTreeMap;

use crate::command::CommandId;

/// Buckets of a [`LatencyHistogram`]: powers of two of a nanosecond, up to 2^47 ns (39 hours).
pub const LATENCY_BUCKETS: usize = 48;

/// Durations counted by power of two: `buckets[b]` counts durations in `[2^b, 2^(b+1))` ns.
///
/// Coarse on purpose: recording is one addition, and LATENCY HISTOGRAM reports powers of two.
#[derive(Clone, Debug)]
pub struct LatencyHistogram {
    /// Counts by power of two.
    pub buckets: [u64; LATENCY_BUCKETS],
}

impl LatencyHistogram {
    const EMPTY: Self = Self { buckets: [0; LATENCY_BUCKETS] };

    #[inline]
    fn record(&mut self, count: u64, duration_ns: u64) {
        self.buckets[bucket_of(duration_ns)] += count;
    }
}

#[inline]
fn bucket_of(duration_ns: u64) -> usize {
    (duration_ns.max(1).ilog2() as usize).min(LATENCY_BUCKETS - 1)
}

/// What one command did on this core.
#[derive(Clone, Debug)]
pub struct CommandStats {
    /// Calls that ran.
    pub calls: u64,
    /// Time spent running them.
    pub duration_ns: u64,
    /// Calls refused before they ran: arity, permission, memory.
    pub rejected: u64,
    /// Calls that ran and replied with an error.
    pub failed: u64,
    /// Durations of the calls that ran.
    pub latency: LatencyHistogram,
}

impl CommandStats {
    const EMPTY: Self =
        Self { calls: 0, duration_ns: 0, rejected: 0, failed: 0, latency: LatencyHistogram::EMPTY };
}

/// Counters of one core.
#[derive(Clone, Debug)]
pub struct CoreStats {
    /// Per command, indexed by [`CommandId`].
    pub commands: Vec<CommandStats>,
    /// Error replies by their code (`ERR`, `WRONGTYPE`, `OOM` ...), bounded by [`ERROR_CODES_MAX`].
    pub errors: BTreeMap<String, u64>,
    /// Error replies in all.
    pub error_replies: u64,
    /// Connections accepted.
    pub connections_received: u64,
    /// Commands run.
    pub commands_processed: u64,
    /// Commands that came from a client of another core.
    pub commands_forwarded_in: u64,
    /// Commands that were handed to another core.
    pub commands_forwarded_out: u64,
    /// Batches handed to another core.
    pub handovers: u64,
    /// Connections closed because of a protocol error.
    pub protocol_errors: u64,
    /// Connections closed because the core's input buffers were full.
    pub input_limit_closes: u64,
    /// Connections that moved to another core.
    pub connections_moved: u64,
    /// Bytes received from clients.
    pub input_bytes: u64,
}

/// Different error codes that are counted; clients cannot make more, but a bug could.
pub const ERROR_CODES_MAX: usize = 128;

impl CoreStats {
    /// All zero, for `command_count` commands.
    #[must_use]
    pub fn new(command_count: usize) -> Self {
        Self {
            commands: vec![CommandStats::EMPTY; command_count],
            errors: BTreeMap::new(),
            error_replies: 0,
            connections_received: 0,
            commands_processed: 0,
            commands_forwarded_in: 0,
            commands_forwarded_out: 0,
            handovers: 0,
            protocol_errors: 0,
            input_limit_closes: 0,
            connections_moved: 0,
            input_bytes: 0,
        }
    }

    /// Starts again from zero (CONFIG RESETSTAT).
    pub fn reset(&mut self) {
        *self = Self::new(self.commands.len());
    }

    /// Counts a call that ran for `duration_ns`.
    #[inline]
    pub fn count_call(&mut self, command: CommandId, duration_ns: u64) {
        self.count_calls(command, 1, duration_ns);
    }

    /// Counts calls that ran for `each_ns` each.
    #[inline]
    pub fn count_calls(&mut self, command: CommandId, count: u64, each_ns: u64) {
        self.commands_processed += count;
        let stats = &mut self.commands[command.index()];
        stats.calls += count;
        stats.duration_ns += count * each_ns;
        stats.latency.record(count, each_ns);
    }

    /// Counts an error reply by the code that `text` starts with.
    #[cold]
    pub fn count_error(&mut self, text: &str) {
        self.error_replies += 1;
        let code = text.split(' ').next().unwrap_or("ERR");
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else if self.errors.len() < ERROR_CODES_MAX {
            self.errors.insert(code.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CoreStats, ERROR_CODES_MAX, bucket_of};

    #[test]
    fn buckets_are_powers_of_two() {
        assert_eq!([0, 1, 2, 3, 4, 1023, 1024].map(bucket_of), [0, 0, 1, 1, 2, 9, 10]);
        assert_eq!(bucket_of(u64::MAX), super::LATENCY_BUCKETS - 1);
    }

    #[test]
    fn error_codes_are_bounded() {
        let mut stats = CoreStats::new(0);
        for code in 0..1000 {
            stats.count_error(&format!("E{code} text"));
        }
        stats.count_error("E1 again");
        assert_eq!(stats.errors.len(), ERROR_CODES_MAX);
        assert_eq!(stats.errors["E1"], 2);
        assert_eq!(stats.error_replies, 1001);
    }
}
