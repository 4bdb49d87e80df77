//! Snapshots: the items of a core's shards at one log index each, as one file.
//!
//! A file is a sequence of pieces, each with a CRC32C of its own: a header, for each shard a section (begin, frames,
//! end), a footer that lists the sections, and at the very end of the file a trailer that says where the footer is.
//! A file without its trailer is incomplete and worth nothing.
//!
//! Nothing is copied on write. A section's frames are the shard's items as a walk meets them, and between them, in the
//! order of time, the effects that were applied meanwhile. Whoever applies the frames in the file's order has the state
//! at the index of the section's end: an item that was met before it changed is followed by its change.

mod pieces;
mod reader;
mod writer;

pub use pieces::{SectionEntry, SnapshotInfo, Trailer};
pub use reader::{SnapshotError, SnapshotEvent, SnapshotReader, read_footer};
pub use writer::SnapshotWriter;

#[cfg(test)]
mod tests;
