//! Lets a running node make a snapshot, and takes hold of its files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pinnace_types::CoreId;
use pinnace_wal_disk::{core_directory, snapshots};

use super::{FileName, failed};
use crate::data_dir::{self, Identity};
use crate::failure::Failure;
use crate::import::connection::{Connection, Reply};
use crate::import::endpoint::Endpoint;

const POLL: Duration = Duration::from_millis(50);
/// A node that says that it is done has its files in their places by then.
const FILES_WAIT: Duration = Duration::from_secs(10);
/// Files are taken hold of again if a newer snapshot has replaced one meanwhile.
const ATTEMPTS: usize = 20;

/// The snapshot files of all cores. A file that is open stays readable when a newer one replaces it.
pub(super) struct Taken {
    pub(super) identity: Identity,
    pub(super) files: Vec<(FileName, File, u64)>,
}

/// Connects, asks for a snapshot, waits until it is complete, and opens its files.
pub(super) fn take(
    endpoint: &Endpoint,
    data_dir: Option<&Path>,
    bar: &ProgressBar,
) -> Result<Taken, Failure> {
    let mut node = Node::connect(endpoint)?;
    let directory = match data_dir {
        Some(given) => given.to_owned(),
        None => node.data_dir()?,
    };
    let identity = data_dir::read_identity(&directory)?.ok_or_else(|| {
        Failure::Backup(format!(
            "{} is not the data directory of a node with a log: run the backup on the node's machine, with its --data-dir",
            directory.display()
        ))
    })?;
    node.check_directory(&directory)?;
    let root = directory.join("snapshots");
    let before = newest(&root, identity.cores)?;
    node.begin_snapshot()?;
    let started = Instant::now();
    let mut done_at = None;
    loop {
        bar.set_message(format!("{:>9}", format!("{} s", started.elapsed().as_secs())));
        let is_running = node.is_saving()?;
        let now = newest(&root, identity.cores)?;
        let is_newer = now.iter().zip(&before).all(|(now, before)| now > before);
        if !is_running && is_newer {
            break;
        }
        let done_at = *done_at.get_or_insert_with(Instant::now);
        if !is_running && done_at.elapsed() > FILES_WAIT {
            return Err(Failure::Backup(format!(
                "the node says that its snapshot is complete, but {} has no new one: is that its data directory?",
                root.display()
            )));
        }
        thread::sleep(POLL);
    }
    let files = open_all(&root, identity.cores)?;
    Ok(Taken { identity, files })
}

/// The number of each core's newest snapshot; 0 without one.
fn newest(root: &Path, cores: u16) -> Result<Vec<u64>, Failure> {
    let number = |core| {
        let found = snapshots(&core_directory(root, CoreId(core)));
        found
            .map(|found| found.last().map_or(0, |(number, _)| *number))
            .map_err(|error| Failure::Backup(error.to_string()))
    };
    (0..cores).map(number).collect()
}

/// Opens the newest file of each core.
fn open_all(root: &Path, cores: u16) -> Result<Vec<(FileName, File, u64)>, Failure> {
    'again: for _ in 0..ATTEMPTS {
        let mut files = Vec::new();
        for (core, number) in (0..cores).zip(newest(root, cores)?) {
            let name = FileName { core, number, is_zstd: false };
            let path = core_directory(root, CoreId(core)).join(name.file_name());
            match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
                Ok((len, file)) => files.push((name, file, len)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue 'again,
                Err(error) => return Err(failed("read", &path)(error)),
            }
        }
        return Ok(files);
    }
    Err(Failure::Backup(format!("the snapshots in {} are replaced all the time", root.display())))
}

struct Node<'e> {
    endpoint: &'e Endpoint,
    connection: Connection,
}

impl<'e> Node<'e> {
    fn connect(endpoint: &'e Endpoint) -> Result<Self, Failure> {
        let connection = Connection::open(endpoint)
            .map_err(|error| Failure::Backup(format!("cannot reach the node at {endpoint}: {error}")))?;
        Ok(Self { endpoint, connection })
    }

    fn ask(&mut self, arguments: &[&[u8]]) -> Result<Reply, Failure> {
        let reply = self.connection.ask(arguments);
        reply.map_err(|error| Failure::Backup(format!("the node at {} is gone: {error}", self.endpoint)))
    }

    fn refuse(&self, command: &str, reply: &Reply) -> Failure {
        let text = match reply {
            Reply::Error(text) => text.clone(),
            other => format!("an unexpected reply: {other:?}"),
        };
        Failure::Backup(format!("the node at {} answers {command}: {text}", self.endpoint))
    }

    /// A field of a section of INFO.
    fn info(&mut self, section: &str, field: &str) -> Result<String, Failure> {
        let reply = self.ask(&[b"INFO", section.as_bytes()])?;
        let Reply::Bulk(Some(text)) = &reply else { return Err(self.refuse("INFO", &reply)) };
        let text = String::from_utf8_lossy(text);
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value
            .map(str::to_owned)
            .ok_or_else(|| Failure::Backup(format!("the node's INFO {section} has no {field}")))
    }

    /// Where the node has its files.
    fn data_dir(&mut self) -> Result<PathBuf, Failure> {
        let reply = self.ask(&[b"CONFIG", b"GET", b"dir"])?;
        let Reply::Array(pair) = &reply else { return Err(self.refuse("CONFIG GET dir", &reply)) };
        let [_, Reply::Bulk(Some(path))] = &pair[..] else {
            return Err(self.refuse("CONFIG GET dir", &reply));
        };
        Ok(PathBuf::from(String::from_utf8_lossy(path).into_owned()))
    }

    /// The directory must be the one that this process holds.
    fn check_directory(&mut self, directory: &Path) -> Result<(), Failure> {
        let process = self.info("server", "process_id")?;
        let lock = directory.join("LOCK");
        let holder = fs::read_to_string(&lock).map_err(failed("read", &lock))?;
        if holder.trim() == process {
            return Ok(());
        }
        Err(Failure::Backup(format!(
            "{} is held by process {}, the node at {} is process {process}: give the --data-dir of that node",
            directory.display(),
            holder.trim(),
            self.endpoint
        )))
    }

    /// What it has written by now will be in the snapshot: one that is under way already is waited for.
    fn begin_snapshot(&mut self) -> Result<(), Failure> {
        loop {
            match self.ask(&[b"BGSAVE"])? {
                Reply::Simple(_) => return Ok(()),
                Reply::Error(text) if text.contains("in progress") => thread::sleep(POLL),
                reply => return Err(self.refuse("BGSAVE", &reply)),
            }
        }
    }

    fn is_saving(&mut self) -> Result<bool, Failure> {
        if self.info("persistence", "rdb_bgsave_in_progress")? == "1" {
            return Ok(true);
        }
        if self.info("persistence", "rdb_last_bgsave_status")? != "ok" {
            let text = "the node could not write its snapshot: its log says why".to_owned();
            return Err(Failure::Backup(text));
        }
        Ok(false)
    }
}
