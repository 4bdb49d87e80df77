//! Why a keyspace cannot be built and why a write is refused.

use pinnace_types::ByteSize;

/// Why a keyspace cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The budget does not hold the smallest working keyspace.
    #[error(
        "memory budget of {} per core is too small for {shards} shards on it: give at least {} per core",
        ByteSize(*budget_bytes), ByteSize(*minimum_bytes)
    )]
    BudgetTooSmall {
        /// What was configured.
        budget_bytes: u64,
        /// What is needed at least.
        minimum_bytes: u64,
        /// Shards of this core.
        shards: u32,
    },
    /// A setting is out of its range.
    #[error("{setting} is out of range: {allowed}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// The operating system refused the address range.
    #[error("cannot reserve {} of address space: {reason}", ByteSize(*bytes))]
    Reserve {
        /// How much was asked for.
        bytes: u64,
        /// The system's answer.
        reason: String,
    },
}

/// Why a write was refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The budget is used up and nothing may, or can, be evicted.
    #[error("out of memory: the budget is used up")]
    OutOfMemory,
    /// The log has no room for the effect, for now.
    #[error("no room in the log")]
    LogFull,
    /// The key is longer than allowed.
    #[error("key of {len} bytes is longer than the limit of {max}")]
    KeyTooLong {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: u32,
    },
    /// The value is longer than allowed, or than the budget can ever hold.
    #[error("value of {len} bytes is longer than the limit of {max}")]
    ValueTooLarge {
        /// Its bytes.
        len: u64,
        /// The limit.
        max: u64,
    },
}
