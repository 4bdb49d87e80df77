//! `pinnace restore`: makes a data directory of a backup.
//!
//! What a node finds there is what it would have found had it stopped behind those snapshots and lost its log:
//! the directories of the logs are there, and empty, so that the logs go on where the snapshots cover them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use pinnace_types::CoreId;
use pinnace_wal_disk::core_directory;

use super::{FileName, archive, failed};
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::host;

/// Where the files are until all of them are checked.
const UNFINISHED: &str = "restore.unfinished";
const SNAPSHOTS: &str = "snapshots";

/// What was restored.
pub(super) struct Restored {
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) cores: u16,
    pub(super) shards: u16,
    /// Where what was there before is kept.
    pub(super) kept: Option<PathBuf>,
}

/// Restores into `data_dir`, the log's directory being `log_dir`. With `force` what is there is put aside.
pub(super) fn restore(
    from: &Path,
    data_dir: &Path,
    log_dir: &Path,
    force: bool,
    bar: &ProgressBar,
) -> Result<Restored, Failure> {
    // Fail before anything is made.
    fs::metadata(from).map_err(failed("read", from))?;
    let is_filled = has_files(data_dir) || has_files(log_dir);
    if is_filled && !force {
        return Err(Failure::DataDir(format!(
            "{} is not empty: name a directory that is not there yet, or put aside what is there with --force",
            if has_files(data_dir) { data_dir } else { log_dir }.display()
        )));
    }
    let _lock = DataDir::hold(data_dir, log_dir)?;
    let unfinished = data_dir.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
    }
    let place = |name: &FileName| {
        let directory = core_directory(&unfinished.join(SNAPSHOTS), CoreId(name.core));
        Some(directory.join(FileName { is_zstd: false, ..*name }.file_name()))
    };
    let read = archive::read(from, bar, &place);
    if read.is_err() {
        // The reason is what matters; what is left over is removed by the next attempt.
        let _ = fs::remove_dir_all(&unfinished);
    }
    let (manifest, checked) = read?;
    let kept = if is_filled { put_aside(data_dir, log_dir)? } else { None };
    for file in &checked {
        let log = core_directory(log_dir, CoreId(file.info.core));
        fs::create_dir_all(&log).map_err(failed("create", &log))?;
    }
    let sync = |path: &Path| archive::sync_tree(path).map_err(failed("sync", path));
    sync(log_dir)?;
    sync(&unfinished)?;
    let snapshots = data_dir.join(SNAPSHOTS);
    fs::rename(unfinished.join(SNAPSHOTS), &snapshots).map_err(failed("rename", &snapshots))?;
    let _ = fs::remove_dir(&unfinished);
    File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed("sync", data_dir))?;
    // Without it no node takes the directory for its own.
    DataDir::restore_identity(data_dir, manifest.node_id, manifest.run, manifest.shards, manifest.cores)?;
    Ok(Restored {
        items: checked.iter().map(|file| file.items).sum(),
        bytes: checked.iter().map(|file| file.bytes).sum(),
        cores: manifest.cores,
        shards: manifest.shards,
        kept,
    })
}

/// What an attempt that was cut off has left does not count, nor does the lock of a node that is gone.
fn has_files(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut others = entries.filter(|entry| {
        let name = entry.file_name();
        name != "LOCK" && name != UNFINISHED
    });
    others.any(|entry| !entry.path().is_dir() || has_files(&entry.path()))
}

/// Moves what is in the way into a directory beside it.
fn put_aside(data_dir: &Path, log_dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let name = format!("before-restore-{}", host::unix_millis());
    let mut kept = None;
    for directory in [data_dir, log_dir] {
        if directory == log_dir && log_dir.starts_with(data_dir) {
            continue;
        }
        let aside = directory.join(&name);
        fs::create_dir(&aside).map_err(failed("create", &aside))?;
        let entries = fs::read_dir(directory).map_err(failed("read", directory))?;
        for entry in entries {
            let entry = entry.map_err(failed("read", directory))?;
            let file_name = entry.file_name();
            let is_kept = file_name.to_string_lossy().starts_with("before-restore-");
            if is_kept || file_name == "LOCK" || file_name == UNFINISHED {
                continue;
            }
            fs::rename(entry.path(), aside.join(&file_name)).map_err(failed("move", &entry.path()))?;
        }
        kept.get_or_insert(aside);
    }
    Ok(kept)
}
