//! Plain per-core counters. Written by the driver, read by the service on the same core.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one core's driver, shared with the service as `Rc<DriverStats>`.
        #[derive(Debug, Default)]
        pub struct DriverStats {
            $($(#[$doc])* pub $name: Cell<u64>,)*
        }

        /// The values of [`DriverStats`] at one moment; may be sent to another core and added up.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct DriverStatsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl DriverStats {
            /// All counters now.
            #[must_use]
            pub fn snapshot(&self) -> DriverStatsSnapshot {
                DriverStatsSnapshot { $($name: self.$name.get(),)* }
            }
        }

        impl DriverStatsSnapshot {
            /// Names and values, for metrics pages.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        impl std::ops::AddAssign for DriverStatsSnapshot {
            fn add_assign(&mut self, other: Self) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepts,
    /// Connections turned away at the connection limit.
    accepts_refused,
    /// Accepts that failed, for instance for want of file descriptors.
    accept_errors,
    /// Connections open on this core now.
    connections,
    /// Connections taken over from other cores.
    attached,
    /// Connections given to other cores.
    detached,
    /// Connections closed, for whatever reason.
    closed,
    /// Connections closed because they sent nothing for too long.
    closed_idle,
    /// Connections closed because they did not read their replies.
    closed_output_limit,
    /// Connections closed because the unsent replies of all connections took too much memory and they
    /// held most of it.
    closed_output_total,
    /// Connections closed by an error of the socket, such as a reset.
    closed_error,
    /// Times a connection was no longer read because of unsent replies.
    output_pauses,
    /// Memory held now by replies that are not sent yet, values in the engine's memory not counted.
    output_bytes,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
    /// Receive completions that carried bytes.
    receives,
    /// Send completions.
    sends,
    /// Send completions that covered only a part of what was to be sent.
    sends_partial,
    /// Turns of the loop in which something happened.
    turns,
    /// `io_uring_enter` calls.
    enters,
    /// Times the provided buffers ran dry for a connection.
    buffers_dry,
    /// Times a connection was put on one buffer at a time for taking more than its share.
    greedy,
    /// Times the loop began to spin for want of work.
    spins,
    /// Spins that ended with work.
    spins_hit,
    /// Times the core slept until several requests of a crowd were there.
    gathers,
    /// Times the core slept in its ring.
    naps,
    /// Times the core went to sleep for long, leaving the thread to other tasks.
    parks,
    /// Wake-ups written to other cores.
    wakeups_sent,
    /// Messages received from other cores.
    mails_in,
    /// Messages handed to other cores.
    mails_out,
    /// Nanoseconds spent in turns in which something happened.
    busy_ns,
}

/// Adds to a counter.
#[inline]
pub(crate) fn add(counter: &Cell<u64>, amount: u64) {
    counter.set(counter.get().wrapping_add(amount));
}

#[cfg(test)]
mod tests {
    use super::{DriverStats, add};
    use std::collections::BTreeSet;

    #[test]
    fn snapshots_add_up_and_names_are_unique() {
        let stats = DriverStats::default();
        add(&stats.accepts, 2);
        let mut sum = stats.snapshot();
        sum += stats.snapshot();
        assert_eq!(sum.accepts, 4);
        let names: BTreeSet<_> = sum.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), sum.iter().count());
    }
}
