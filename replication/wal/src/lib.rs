//! The write-ahead log and the snapshots of one core, as bytes: what is written, and what bytes found on a disk say.
//!
//! Pure: bytes in, bytes out. Whoever owns the files (`pinnace-wal-disk`) writes what [`LogWriter`] seals, in order,
//! and says what is synced; at a start [`LogReader`] is handed the files' bytes. The format: `docs/wal.md`.
#![forbid(unsafe_code)]

mod control;
mod format;
mod groups;
mod pending;
mod reader;
pub mod snapshot;
mod writer;

pub use control::{ControlError, HardState};
pub use format::{
    BLOCK_BYTES, COMMIT_HEADER_BYTES, CommitHeader, FORMAT_VERSION, HeaderError, RECORD_HEADER_BYTES,
    RecordHeader, RecordKind, Run, SegmentHeader,
};
pub use groups::{GroupError, GroupLogs, Verdict};
pub use reader::{
    Commit, FoundSegment, LogDamage, LogEnd, LogError, LogReader, LogSegment, Record, TornTail,
};
pub use writer::{GroupStart, LogLimits, LogRoom, LogStart, LogWriter, Sealed};
