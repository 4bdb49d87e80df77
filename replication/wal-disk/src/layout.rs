//! Where files are: `DIR/core-0003/0000000000000001.wal`, and snapshots alike.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use pinnace_types::{CoreId, SegmentNumber};

use crate::DiskError;

const PREFIX: &str = "core-";
pub(crate) const SEGMENT: &str = "wal";
pub(crate) const SNAPSHOT: &str = "snap";
/// What a file is called until it is complete.
pub(crate) const UNFINISHED: &str = "tmp";

/// The directory of one core below `root`.
#[must_use]
pub fn core_directory(root: &Path, core: CoreId) -> PathBuf {
    root.join(format!("{PREFIX}{:04}", core.0))
}

/// The directories of all cores that ever ran on `root`, by core; none if `root` does not exist.
///
/// # Errors
/// If the directory cannot be read.
pub fn core_directories(root: &Path) -> Result<Vec<(CoreId, PathBuf)>, DiskError> {
    named(root, |name| name.strip_prefix(PREFIX)?.parse().ok().map(CoreId))
}

/// The segment files of a core, in their order.
///
/// # Errors
/// If the directory cannot be read.
pub fn segments(directory: &Path) -> Result<Vec<(SegmentNumber, PathBuf)>, DiskError> {
    named(directory, |name| numbered(name, SEGMENT).map(SegmentNumber))
}

/// The complete snapshot files of a core by number, the oldest first.
///
/// # Errors
/// If the directory cannot be read.
pub fn snapshots(directory: &Path) -> Result<Vec<(u64, PathBuf)>, DiskError> {
    named(directory, |name| numbered(name, SNAPSHOT))
}

/// The files of a core that were never completed.
pub(crate) fn unfinished(directory: &Path) -> Result<Vec<(u64, PathBuf)>, DiskError> {
    named(directory, |name| numbered(name, UNFINISHED))
}

/// Makes the names in a directory last.
///
/// # Errors
/// If it cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> Result<(), DiskError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(DiskError::io("sync", directory))
}

/// The file of a number.
pub(crate) fn numbered_path(directory: &Path, number: u64, extension: &str) -> PathBuf {
    directory.join(format!("{number:016}.{extension}"))
}

fn numbered(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    digits.parse().ok().filter(|_| digits.len() >= 16)
}

fn named<T: Ord>(
    directory: &Path,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(T, PathBuf)>, DiskError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::new("read", directory, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::io("read", directory))?;
        if let Some(key) = entry.file_name().to_str().and_then(&parse) {
            found.push((key, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{core_directories, core_directory, numbered_path, segments};
    use pinnace_types::{CoreId, SegmentNumber};

    #[test]
    fn only_files_with_our_names_are_found_and_in_their_order() {
        let root = std::env::temp_dir().join(format!("pinnace-layout-{}", std::process::id()));
        let directory = core_directory(&root, CoreId(3));
        assert_eq!(core_directories(&root).unwrap(), []);
        std::fs::create_dir_all(&directory).unwrap();
        for name in
            ["0000000000000010.wal", "0000000000000002.wal", "2.wal", "next.tmp", "0000000000000001.snap"]
        {
            std::fs::write(directory.join(name), b"").unwrap();
        }
        let found: Vec<_> = segments(&directory).unwrap();
        assert_eq!(
            found.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [SegmentNumber(2), SegmentNumber(10)]
        );
        assert_eq!(found[1].1, numbered_path(&directory, 10, "wal"));
        assert_eq!(core_directories(&root).unwrap(), [(CoreId(3), directory)]);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
