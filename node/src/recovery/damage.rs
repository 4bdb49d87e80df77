//! How damage is told: which file, where, and what can be done.

use std::fmt::Display;
use std::path::Path;

use pinnace_core::ReplayError;
use pinnace_types::SegmentNumber;
use pinnace_wal::LogError;

use crate::failure::Failure;

/// A log that cannot be what was written.
pub(super) fn log(directory: &Path, error: &LogError) -> Failure {
    let file = segment_file(directory, error.segment);
    Failure::Damaged(format!(
        "the log is damaged: {file}, offset {}: {}; nothing was changed. {}",
        error.offset, error.damage, ADVICE
    ))
}

/// Records that do not follow each other, or that make no sense.
pub(super) fn records(file: &Path, offset: u64, error: &dyn Display) -> Failure {
    Failure::Damaged(format!(
        "the log is damaged: {}, offset {offset}: {error}; nothing was changed. {ADVICE}",
        file.display()
    ))
}

/// A snapshot that is complete and not what was written.
pub(super) fn snapshot(path: &Path, error: &dyn Display) -> Failure {
    Failure::Damaged(format!(
        "the snapshot {} is damaged: {error}; nothing was changed. Restore the data directory from a backup",
        path.display()
    ))
}

/// A payload that cannot be replayed: it makes no sense, or there is no memory for it.
pub(super) fn payload(error: ReplayError, damaged: impl FnOnce(&dyn Display) -> Failure) -> Failure {
    match error {
        ReplayError::Write { .. } => Failure::Memory(format!(
            "what the log and the snapshots hold does not fit into the memory: {error}; raise --memory, or let older items              make room with --memory-policy evict"
        )),
        _ => damaged(&error),
    }
}

/// What every damage of a log can be met with.
const ADVICE: &str = "Copy the directory away first; then restore it from a backup, or see `pinnace wal verify DATA_DIR` and \
                      `pinnace wal repair`, which gives up what is behind the damage";

fn segment_file(directory: &Path, segment: SegmentNumber) -> String {
    directory.join(format!("{:016}.wal", segment.0)).display().to_string()
}
