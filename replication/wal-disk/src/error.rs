//! What a disk refuses, with the file it was about.

use std::io;
use std::path::{Path, PathBuf};

use glommio::GlommioError;
use thiserror::Error;

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
const EFBIG: i32 = 27;
const EINVAL: i32 = 22;
const ENOTSUP: i32 = 95;

/// A failed operation on a file of the log or of a snapshot.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// For `map_err` on what glommio returns.
    pub(crate) fn glommio(action: &'static str, path: &Path) -> impl FnOnce(GlommioError<()>) -> Self {
        move |error| Self::new(action, path, plain(error))
    }

    /// For `map_err` on what the standard library returns.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(action, path, source)
    }

    /// There is no room (or no quota) left: may be over in a moment.
    #[must_use]
    pub fn is_space(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(ENOSPC | EDQUOT | EFBIG))
    }

    /// The file system does not take such calls, or not in this way.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(EINVAL | ENOTSUP))
    }
}

/// The system's error inside glommio's, which repeats path and action.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}
