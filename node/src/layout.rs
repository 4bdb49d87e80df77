//! The end of a change of the number of cores.
//!
//! After such a change logs and snapshots hold shards of other cores, and all of them are needed until every core has a
//! complete snapshot of its own shards. Then `node.toml` says so first, durably, and only then anything goes: what cores
//! wrote that are no more, each directory under another name before it is emptied, logs before the snapshots that cover
//! them, so that what a crash leaves is whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use pinnace_types::CoreId;
use pinnace_wal_disk::{core_directories, sync_directory};

use crate::data_dir::Identity;
use crate::failure::Failure;

/// What directories are called that are being removed.
const RETIRED: &str = "old-";

/// Whether directories hold shards of other cores, shared by the cores of a run.
#[derive(Debug)]
pub(crate) struct Layout {
    data_dir: PathBuf,
    /// The log's directory and that of the snapshots, in the order in which they are cleared.
    roots: [PathBuf; 2],
    identity: Identity,
    is_mixed: AtomicBool,
    /// Cores that have no complete snapshot of this run yet.
    missing: Mutex<BTreeSet<CoreId>>,
    is_ending: AtomicBool,
}

impl Layout {
    pub(crate) fn new(data_dir: &Path, log_dir: &Path, snapshot_dir: &Path, identity: Identity) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            roots: [log_dir.to_owned(), snapshot_dir.to_owned()],
            is_mixed: AtomicBool::new(identity.mixed),
            missing: Mutex::new((0..identity.cores).map(CoreId).collect()),
            is_ending: AtomicBool::new(false),
            identity,
        }
    }

    /// Nothing of logs and older snapshots may go.
    pub(crate) fn is_mixed(&self) -> bool {
        self.is_mixed.load(Ordering::Acquire)
    }

    /// A core has a complete snapshot of its shards. The last of all ends the change, on a thread of its own.
    pub(crate) fn on_complete(self: &Arc<Self>, core: CoreId) {
        if !self.is_mixed() {
            return;
        }
        let is_last = {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            missing.remove(&core);
            missing.is_empty()
        };
        if !is_last || self.is_ending.swap(true, Ordering::AcqRel) {
            return;
        }
        let layout = Arc::clone(self);
        let end = move || {
            if let Err(failure) = layout.end() {
                tracing::error!("{failure}; what earlier cores wrote stays for now");
            }
            layout.is_ending.store(false, Ordering::Release);
        };
        if let Err(error) = thread::Builder::new().name("layout".to_owned()).spawn(end) {
            tracing::error!("cannot start a thread: {error}");
            self.is_ending.store(false, Ordering::Release);
        }
    }

    fn end(&self) -> Result<(), Failure> {
        Identity { mixed: false, ..self.identity.clone() }.write(&self.data_dir)?;
        self.is_mixed.store(false, Ordering::Release);
        tracing::info!("all cores have snapshots of their shards: logs are shortened again");
        for root in &self.roots {
            self.retire(root)?;
        }
        self.roots.iter().try_for_each(|root| sweep(root))
    }

    /// Takes the names from directories of cores that are no more.
    fn retire(&self, root: &Path) -> Result<(), Failure> {
        let disk = |error: &dyn std::fmt::Display| Failure::Disk(error.to_string());
        let found = core_directories(root).map_err(|error| disk(&error))?;
        for (_, directory) in found.into_iter().filter(|(core, _)| core.0 >= self.identity.cores) {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // With the run's number: what an earlier end has left has another name.
            let retired = root.join(format!("{RETIRED}{name}-{}", self.identity.run));
            fs::rename(&directory, &retired)
                .map_err(|error| disk(&format_args!("cannot rename {}: {error}", directory.display())))?;
        }
        if root.is_dir() { sync_directory(root).map_err(|error| disk(&error)) } else { Ok(()) }
    }
}

/// Removes what has been retired, also by a run that was ended meanwhile.
fn sweep(root: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Disk(format!("cannot clear {}: {error}", root.display()));
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(RETIRED) {
            let path = entry.path();
            // A link is one to another disk: what it points to is not this node's to remove.
            let is_link = entry.file_type().map_err(failed)?.is_symlink();
            if is_link { fs::remove_file(path) } else { fs::remove_dir_all(path) }.map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Layout;
    use crate::data_dir::DataDir;
    use pinnace_types::CoreId;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn nothing_goes_before_every_core_has_a_snapshot() {
        let root = std::env::temp_dir().join(format!("pinnace-layout-end-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let (wal, snapshots) = (root.join("wal"), root.join("snapshots"));
        let take = |cores| DataDir::take(&root, &wal, 16, cores, 1).unwrap();
        drop(take(3));
        let data = take(2);
        assert!(data.identity.mixed);
        for name in ["wal/core-0001", "wal/core-0002", "snapshots/core-0002", "wal/old-core-0007-1"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("0000000000000001.wal"), b"log").unwrap();
        }
        let layout = Arc::new(Layout::new(&root, &wal, &snapshots, data.identity.clone()));
        layout.on_complete(CoreId(1));
        layout.on_complete(CoreId(1));
        assert!(layout.is_mixed() && wal.join("core-0002").is_dir());
        layout.on_complete(CoreId(0));
        let started = Instant::now();
        while std::fs::read_dir(&wal).unwrap().count() > 2 || snapshots.join("core-0002").exists() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        assert!(!layout.is_mixed() && wal.join("core-0001/0000000000000001.wal").is_file());
        drop(data);
        assert!(!take(2).identity.mixed, "the next start knows");
        assert!(take(3).identity.mixed);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
