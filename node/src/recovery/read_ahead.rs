//! Reads files on a thread of its own, so that the disk works while a core applies what was read.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::failure::Failure;

/// Pieces that wait to be applied, beside the one that is being read and the one that is being applied.
const PIECES_AHEAD: usize = 1;

/// A part of a file that is read in pieces.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    /// Bytes of the part; what the file has less is no error here.
    pub(super) bytes: u64,
    /// Bytes of a piece, the last one excepted.
    pub(super) piece_bytes: u64,
    /// Whether the file is synced first: a log that goes on behind it says that it was.
    pub(super) is_synced: bool,
}

/// What the thread has read, in the order of the jobs. A job that has no bytes gives one empty piece.
pub(super) struct ReadAhead {
    pieces: Receiver<Result<Vec<u8>, Failure>>,
    used: Sender<Vec<u8>>,
}

impl ReadAhead {
    /// Starts the thread; it ends when all is read, at the first error, or when this is dropped.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(jobs: Vec<Job>) -> Result<Self, Failure> {
        let (sender, pieces) = sync_channel(PIECES_AHEAD);
        let (used, spare) = channel();
        thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn(move || read_all(&jobs, &sender, &spare))
            .map_err(|error| {
                Failure::CoreLost(format!("cannot start a thread that reads the log: {error}"))
            })?;
        Ok(Self { pieces, used })
    }

    /// The next piece.
    ///
    /// # Errors
    /// [`Failure::Disk`] if the file cannot be read.
    pub(super) fn next(&self) -> Result<Vec<u8>, Failure> {
        self.pieces.recv().expect("as many pieces are taken as there are")
    }

    /// Gives a piece's memory back.
    pub(super) fn give_back(&self, piece: Vec<u8>) {
        // The thread may have read its last.
        let _ = self.used.send(piece);
    }
}

fn read_all(jobs: &[Job], pieces: &SyncSender<Result<Vec<u8>, Failure>>, spare: &Receiver<Vec<u8>>) {
    for job in jobs {
        let read = read_job(job, |bytes| pieces.send(Ok(bytes)).is_ok(), spare);
        match read {
            Ok(true) => {}
            // Whoever took the pieces is gone.
            Ok(false) => return,
            Err(error) => {
                let text = format!("cannot read {}: {error}", job.path.display());
                let _ = pieces.send(Err(Failure::Disk(text)));
                return;
            }
        }
    }
}

fn read_job(job: &Job, send: impl Fn(Vec<u8>) -> bool, spare: &Receiver<Vec<u8>>) -> io::Result<bool> {
    let mut file = File::open(&job.path)?;
    if job.is_synced {
        file.sync_data()?;
    }
    file.seek(SeekFrom::Start(job.offset))?;
    let mut rest = job.bytes;
    loop {
        let len = rest.min(job.piece_bytes);
        let mut bytes = spare.try_recv().unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(usize::try_from(len).unwrap_or(usize::MAX));
        let read = file.by_ref().take(len).read_to_end(&mut bytes)? as u64;
        rest -= read;
        let is_last = rest == 0 || read < len;
        if !send(bytes) {
            return Ok(false);
        }
        if is_last {
            return Ok(true);
        }
    }
}
