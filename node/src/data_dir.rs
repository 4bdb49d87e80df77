//! The data directory: made, tried out and locked before it is needed, and who it belongs to.
//!
//! `LOCK` is held by the process that serves from the directory, for as long as it lives; it names its pid. `node.toml` says
//! whose directory it is and how its log is laid out. It is replaced as a whole, so that it is either the old or the
//! new one after a power failure.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;

use crate::failure::Failure;

/// The newest layout of a directory that this program knows.
const FORMAT: u32 = 1;
const IDENTITY: &str = "node.toml";
const LOCK: &str = "LOCK";
/// A killed process lets go of its files a moment after it is gone.
const ORPHANED_LOCK_WAIT: Duration = Duration::from_secs(1);
const ORPHANED_LOCK_POLL: Duration = Duration::from_millis(10);

/// What `node.toml` holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Identity {
    /// The layout of the directory.
    pub(crate) format: u32,
    /// Random, given once; every segment and snapshot repeats it.
    pub(crate) node_id: u64,
    /// Runs so far, the one under way included.
    pub(crate) run: u64,
    /// Shards of the key space; a log cannot be read with another number.
    pub(crate) shards: u16,
    /// Cores of the last run.
    pub(crate) cores: u16,
    /// Directories may hold shards of other cores, from runs with another number of them.
    pub(crate) mixed: bool,
}

/// A directory that this process holds.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) identity: Identity,
    /// Held while the process lives.
    _locks: Vec<File>,
}

impl DataDir {
    /// Takes the data directory and the log's, and begins a run in them: `shards` and `cores` are the run's.
    ///
    /// # Errors
    /// [`Failure::DataDir`] with what to do, if another node has it, it is another node's, newer, or laid out for another
    /// number of shards.
    pub(crate) fn take(
        path: &Path,
        log_dir: &Path,
        shards: u16,
        cores: u16,
        new_id: u64,
    ) -> Result<Self, Failure> {
        let locks = Self::hold(path, log_dir)?;
        let identity = match read_identity(path)? {
            Some(known) => {
                known.check(path, shards)?;
                Identity { run: known.run + 1, cores, mixed: known.mixed || known.cores != cores, ..known }
            }
            None => Identity { format: FORMAT, node_id: new_id, run: 1, shards, cores, mixed: false },
        };
        identity.write(path)?;
        Ok(Self { identity, _locks: locks })
    }

    /// Makes both directories and holds them, so that no node starts in them meanwhile.
    ///
    /// # Errors
    /// [`Failure::DataDir`] as for [`Self::take`].
    pub(crate) fn hold(path: &Path, log_dir: &Path) -> Result<Vec<File>, Failure> {
        prepare(path)?;
        prepare(log_dir)?;
        let mut locks = vec![lock(path)?];
        if !log_dir.starts_with(path) {
            locks.push(lock(log_dir)?);
        }
        Ok(locks)
    }

    /// Makes a directory that was restored that of a node again. Whoever does must hold it.
    ///
    /// # Errors
    /// [`Failure::DataDir`] if it cannot be written.
    pub(crate) fn restore_identity(
        path: &Path,
        node_id: u64,
        run: u64,
        shards: u16,
        cores: u16,
    ) -> Result<(), Failure> {
        Identity { format: FORMAT, node_id, run, shards, cores, mixed: false }.write(path)
    }

    /// Whether this run is the directory's first.
    pub(crate) fn is_new(&self) -> bool {
        self.identity.run == 1
    }
}

impl Identity {
    /// Replaces the file in a data directory, durably.
    ///
    /// # Errors
    /// [`Failure::DataDir`] with the system's reason.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Failure> {
        let Self { format, node_id, run, shards, cores, mixed } = self;
        let text = format!(
            "# Whose directory this is. Written by pinnace; do not edit.\nformat = {format}\nnode_id = {node_id}\nrun = {run}\nshards = \
             {shards}\ncores = {cores}\nmixed = {mixed}\n"
        );
        let path = directory.join(IDENTITY);
        let unfinished = directory.join("node.toml.tmp");
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(|error| unwritable(&path, &error))
    }

    fn check(&self, path: &Path, shards: u16) -> Result<(), Failure> {
        let shown = path.display();
        if self.format > FORMAT {
            return Err(Failure::DataDir(format!(
                "the data directory {shown} was written by a newer pinnace (format {}, this one knows {FORMAT}): run that \
                 version or a later one, or choose another --data-dir",
                self.format
            )));
        }
        if self.shards != shards {
            return Err(Failure::DataDir(format!(
                "the data directory {shown} is laid out for {} shards, this start asks for {shards}: give --shards {}, or choose \
                 another --data-dir and move the keys over with a backup",
                self.shards, self.shards
            )));
        }
        Ok(())
    }
}

/// A random number that a TOML integer holds.
pub(crate) const fn node_id(random: u64) -> u64 {
    random >> 1 | 1
}

/// Whose directory it is; `None` if it is nobody's.
pub(crate) fn read_identity(directory: &Path) -> Result<Option<Identity>, Failure> {
    let path = directory.join(IDENTITY);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::DataDir(format!("cannot read {}: {error}", path.display()))),
    };
    Figment::from(Toml::string(&text)).extract().map(Some).map_err(|error| {
        Failure::DataDir(format!(
            "{} is not what pinnace wrote ({error}): restore it from a backup, or choose another --data-dir",
            path.display()
        ))
    })
}

/// Locks a directory for the life of the process.
fn lock(directory: &Path) -> Result<File, Failure> {
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| unwritable(&path, &error))?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(unwritable(&path, &error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let mut holder = String::new();
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
        let holder = holder.trim();
        if started.elapsed() > ORPHANED_LOCK_WAIT {
            return Err(Failure::DataDir(format!(
                "the data directory {} is in use by process {holder}: stop that node, or choose another --data-dir",
                directory.display()
            )));
        }
        thread::sleep(ORPHANED_LOCK_POLL);
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| unwritable(&path, &error))?;
    Ok(file)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::DataDir(format!(
        "cannot write {}: {error}; make room or give this user the right to write there, or choose another --data-dir",
        path.display()
    ))
}

/// Makes sure that the directory exists and can be written to.
///
/// # Errors
/// [`Failure::DataDir`] with the system's reason.
pub(crate) fn prepare(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    fs::create_dir_all(directory).map_err(|error| {
        Failure::DataDir(format!(
            "cannot make the data directory {shown}: {error}; choose another --data-dir or change the rights of its \
             parent"
        ))
    })?;
    let probe = directory.join(".pinnace-write-test");
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(|error| {
        Failure::DataDir(format!(
            "cannot write to the data directory {shown}: {error}; choose another --data-dir or give this user the \
             right to write there"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::{DataDir, Identity, node_id, prepare, read_identity};
    use std::path::PathBuf;

    fn fresh(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pinnace-data-dir-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_directory_is_made_and_left_empty() {
        let directory = fresh("made");
        prepare(&directory.join("deep")).unwrap();
        assert_eq!(std::fs::read_dir(directory.join("deep")).unwrap().count(), 0);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_an_error_with_its_name() {
        let error = prepare(std::path::Path::new("/proc/version")).unwrap_err().to_string();
        assert!(error.contains("/proc/version") && error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn runs_are_counted_and_another_number_of_cores_is_remembered() {
        let directory = fresh("runs");
        let take =
            |cores, id| DataDir::take(&directory, &directory.join("wal"), 256, cores, node_id(id)).unwrap();
        let first = take(2, u64::MAX);
        assert!(first.is_new());
        let id = first.identity.node_id;
        drop(first);
        let second = take(2, 5).identity;
        assert_eq!(second, Identity { format: 1, node_id: id, run: 2, shards: 256, cores: 2, mixed: false });
        assert!(take(1, 5).identity.mixed);
        assert!(take(1, 5).identity.mixed);
        assert_eq!(read_identity(&directory).unwrap().unwrap().run, 4);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_to_do() {
        let directory = fresh("refused");
        let take = |shards| DataDir::take(&directory, &directory.join("wal"), shards, 2, node_id(9));
        let held = take(16).unwrap();
        let error = take(16).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        let error = take(32).unwrap_err().to_string();
        assert!(error.contains("--shards 16"), "{error}");
        for (text, expected) in [
            ("format = 2\nnode_id = 1\nrun = 1\nshards = 16\ncores = 1\nmixed = false\n", "newer"),
            ("format = 1\n", "not what pinnace wrote"),
            ("\u{0}\u{0}\u{0}", "not what pinnace wrote"),
        ] {
            std::fs::write(directory.join("node.toml"), text).unwrap();
            let error = take(16).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("--data-dir"), "{error}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
