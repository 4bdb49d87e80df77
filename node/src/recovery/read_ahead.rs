//! Reads files on a thread of its own, so that the disk works while a core applies what was read.
//!
//! What one core alone reads is read past the page cache where the file system lets it: taking pages for it and copying from
//! them costs more than applying large values.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use pinnace_wal::BLOCK_BYTES;

use crate::failure::Failure;

/// What memory, offset and length of a read past the page cache must be multiples of.
const ALIGN_BYTES: usize = BLOCK_BYTES as usize;

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
    /// Nobody else reads the file, so that the page cache is of no use.
    pub(super) is_read_once: bool,
}

/// Bytes that were read, in memory that is aligned for reads past the page cache.
#[derive(Debug, Default)]
pub(super) struct Piece {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl Piece {
    /// Room for `len` bytes and what a read of whole blocks has behind them.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let wanted = len.next_multiple_of(ALIGN_BYTES);
        if self.memory.len() < wanted + ALIGN_BYTES {
            self.memory = vec![0; wanted + ALIGN_BYTES];
        }
        self.start = self.memory.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        &mut self.memory[self.start..self.start + wanted]
    }
}

/// What the thread has read, in the order of the jobs. A job that has no bytes gives one empty piece.
pub(super) struct ReadAhead {
    pieces: Receiver<Result<Piece, Failure>>,
    used: Sender<Piece>,
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
    pub(super) fn next(&self) -> Result<Piece, Failure> {
        self.pieces.recv().expect("as many pieces are taken as there are")
    }

    /// Gives a piece's memory back.
    pub(super) fn give_back(&self, piece: Piece) {
        // The thread may have read its last.
        let _ = self.used.send(piece);
    }
}

fn read_all(jobs: &[Job], pieces: &SyncSender<Result<Piece, Failure>>, spare: &Receiver<Piece>) {
    for job in jobs {
        let read = read_job(job, |piece| pieces.send(Ok(piece)).is_ok(), spare);
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

fn read_job(job: &Job, send: impl Fn(Piece) -> bool, spare: &Receiver<Piece>) -> io::Result<bool> {
    let mut source = Source::open(job)?;
    let mut rest = job.bytes;
    loop {
        let len = rest.min(job.piece_bytes);
        let mut piece = spare.try_recv().unwrap_or_default();
        let whole = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        piece.len = source.fill(piece.room(whole), whole)?;
        let read = piece.len as u64;
        rest -= read;
        let is_last = rest == 0 || read < len;
        if !send(piece) {
            return Ok(false);
        }
        if is_last {
            return Ok(true);
        }
    }
}

/// A file that is read from some place on.
struct Source<'j> {
    job: &'j Job,
    file: File,
    offset: u64,
    is_direct: bool,
}

impl<'j> Source<'j> {
    fn open(job: &'j Job) -> io::Result<Self> {
        let can_be_direct = job.is_read_once
            && job.offset.is_multiple_of(BLOCK_BYTES)
            && job.piece_bytes.is_multiple_of(BLOCK_BYTES);
        let direct = || File::options().read(true).custom_flags(libc::O_DIRECT).open(&job.path);
        let (file, is_direct) = match can_be_direct.then(direct) {
            Some(Ok(file)) => (file, true),
            // If the file is what is wrong, this says so.
            _ => (File::open(&job.path)?, false),
        };
        if job.is_synced {
            file.sync_data()?;
        }
        let mut source = Self { job, file, offset: job.offset, is_direct };
        source.file.seek(SeekFrom::Start(source.offset))?;
        Ok(source)
    }

    /// Reads `len` bytes, less only at the end of the file. `room` ends at a block.
    fn fill(&mut self, room: &mut [u8], len: usize) -> io::Result<usize> {
        let mut filled = 0;
        while filled < len {
            // A read past the cache goes on at a block; one that ends within a block has met the end of the file.
            let to = if self.is_direct { room.len() } else { len };
            match self.file.read(&mut room[filled..to]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.is_direct && error.kind() == io::ErrorKind::InvalidInput => {
                    self.go_on_buffered(filled as u64)?;
                }
                Err(error) => return Err(error),
            }
            if self.is_direct && !filled.is_multiple_of(ALIGN_BYTES) {
                break;
            }
        }
        let filled = filled.min(len);
        self.offset += filled as u64;
        Ok(filled)
    }

    /// The file system has taken the flag and refuses the read.
    fn go_on_buffered(&mut self, filled: u64) -> io::Result<()> {
        self.file = File::open(&self.job.path)?;
        self.file.seek(SeekFrom::Start(self.offset + filled))?;
        self.is_direct = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, ReadAhead};

    #[test]
    fn every_part_of_a_file_is_read_whatever_its_end_and_place() {
        let directory = std::env::temp_dir().join(format!("pinnace-read-ahead-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("file");
        let content: Vec<u8> = (0..50_001_u32).map(|number| (number % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        for (offset, bytes, piece_bytes) in [
            (0, 50_001, 50_001),
            (0, 50_001, 8192),
            (0, 40_960, 40_960),
            (4096, 45_000, 12_288),
            (17, 40_000, 4096),
            (8192, 90_000, 90_112),
            (49_152, 849, 4096),
            (0, 0, 4096),
        ] {
            let job =
                Job { path: path.clone(), offset, bytes, piece_bytes, is_synced: true, is_read_once: true };
            let pieces = ReadAhead::start(vec![job]).unwrap();
            let end = content.len().min((offset + bytes) as usize);
            let mut found = Vec::new();
            loop {
                let piece = pieces.next().unwrap();
                found.extend_from_slice(&piece);
                if found.len() >= end - offset as usize {
                    break;
                }
                pieces.give_back(piece);
            }
            assert!(found == content[offset as usize..end], "{bytes} bytes at {offset} by {piece_bytes}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
