//! Ids, units, limits and the seeded generator that every Pinnace crate shares.
//!
//! Pure: no clock, no I/O, no threads, no randomness from the operating system.
#![forbid(unsafe_code)]

mod hash;
mod ids;
mod limits;
mod log;
mod prng;
mod size;
mod slot;
mod time;

pub use hash::{HashSeed, KeyHash};
pub use ids::{ConnId, CoreId, ShardId};
pub use limits::Limits;
pub use log::{CommitNumber, LogIndex, LogPosition, SegmentNumber, Term};
pub use prng::Prng;
pub use size::{ByteSize, ParseSizeError};
pub use slot::{SLOT_COUNT, ShardMap, Slot, crc16, hash_tag, key_slot};
pub use time::{Deadline, UnixMillis};
