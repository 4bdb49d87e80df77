//! One core's keyspace: index, deadlines, eviction and large values, in an exact memory budget.
//!
//! Pure: no clock, no thread, no I/O. The time comes in through [`Keyspace::set_now`]; background
//! work is done by [`Keyspace::maintain`] and, where memory is needed, by the writer that needs it.
//! Raw memory lives in `pinnace-mem`. See `docs/internals/engine.md`.
#![forbid(unsafe_code)]

mod absence;
mod config;
mod effect;
mod entry;
mod error;
mod expiry;
mod ghost;
mod key;
mod keyspace;
mod large;
mod segment;
mod sizing;
mod stats;
pub mod value;

pub use config::{EngineConfig, GhostKind, MemoryPolicy};
pub use effect::EffectSink;
pub use entry::{AbsenceStamp, Entry, ValueKind, ValueRef, Version};
pub use error::{EngineError, WriteError};
pub use key::{Key, ScanCursor};
pub use keyspace::Keyspace;
pub use pinnace_mem::{LargeValue, Spot};
pub use stats::{EngineStats, MemoryUse};

/// A large value that stays in memory, unchanged, for as long as the handle lives: what a reply
/// borrows until its send has completed.
pub type PinnedValue = LargeValue;
