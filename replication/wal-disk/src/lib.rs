//! The log and the snapshots of one core on a disk, through glommio.
//!
//! [`LogDisk`] takes commits that a [`pinnace_wal::LogWriter`] has sealed, writes them in their order and says which
//! are synced. Commits that arrive while a sync runs are written meanwhile and covered by the next one: one `fdatasync`
//! for as many commits as there are (`docs/adr/0005-one-fdatasync-for-many-commits.md`). A write or a sync that fails is
//! the end: nothing is ever tried again, since the kernel may have dropped what it could not write.
//!
//! Segment files are prepared ahead: allocated, filled with zeros once, so that a sync has no metadata to write, and used
//! again when a snapshot has made their content superfluous. No room for the next one is not the end: the core is told
//! ([`LogDisk::shortage`]) and refuses writes until there is.
#![forbid(unsafe_code)]

mod bell;
mod disk;
mod error;
mod file;
mod layout;
mod prepare;
mod snapshot;
mod writes;

pub use disk::{LogDisk, LogDiskConfig, Notify, SyncPolicy};
pub use error::DiskError;
pub use layout::{core_directories, core_directory, segments, snapshots, sync_directory};
pub use snapshot::{SnapshotDisk, SnapshotDone};
