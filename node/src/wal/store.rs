//! The files of a data directory, as they were found.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use pinnace_types::{CoreId, LogPosition, SegmentNumber};
use pinnace_wal::snapshot::{SectionEntry, SnapshotEvent, SnapshotInfo, SnapshotReader, Trailer};
use pinnace_wal::{BLOCK_BYTES, FoundSegment, HeaderError, LogError, LogReader, SegmentHeader};
use pinnace_wal_disk::{core_directories, segments, snapshots};

use super::Place;
use crate::failure::Failure;

/// A data directory.
pub(super) struct Store {
    data_dir: PathBuf,
    pub(super) cores: Vec<CoreFiles>,
}

/// What one core left.
pub(super) struct CoreFiles {
    pub(super) core: CoreId,
    pub(super) directory: PathBuf,
    pub(super) segments: Vec<(SegmentNumber, PathBuf)>,
    pub(super) snapshots: Vec<SnapshotFile>,
}

/// A snapshot that has its end.
pub(super) struct SnapshotFile {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) content: Result<(SnapshotInfo, Vec<SectionEntry>), String>,
}

impl Store {
    pub(super) fn open(place: &Place) -> Result<Self, Failure> {
        let log_dir = place.log_dir.clone().unwrap_or_else(|| place.data_dir.join("wal"));
        let snapshot_dir = place.data_dir.join("snapshots");
        let unreadable = |error: pinnace_wal_disk::DiskError| Failure::DataDir(error.to_string());
        let mut cores = Vec::new();
        for (core, directory) in core_directories(&log_dir).map_err(unreadable)? {
            if place.core.is_some_and(|wanted| wanted != core.0) {
                continue;
            }
            let found = snapshots(&snapshot_dir.join(format!("core-{:04}", core.0))).map_err(unreadable)?;
            let snapshots = found.into_iter().map(|(_, path)| snapshot(path)).collect::<Result<_, _>>()?;
            let segments = segments(&directory).map_err(unreadable)?;
            cores.push(CoreFiles { core, directory, segments, snapshots });
        }
        if cores.is_empty() {
            return Err(Failure::DataDir(format!(
                "no log is in {}: name the data directory of a node that had durability on",
                log_dir.display()
            )));
        }
        Ok(Self { data_dir: place.data_dir.clone(), cores })
    }

    /// Holds the directory, so that no node starts meanwhile.
    pub(super) fn lock(&self) -> Result<File, Failure> {
        let path = self.data_dir.join("LOCK");
        let file =
            File::options().create(true).append(true).open(&path).map_err(|error| failed(&path, &error))?;
        file.try_lock().map_err(|_| {
            Failure::DataDir(format!("a node uses {}: stop it first", self.data_dir.display()))
        })?;
        Ok(file)
    }
}

impl CoreFiles {
    /// The newest snapshot that is whole.
    pub(super) fn newest(&self) -> Option<(&SnapshotInfo, &[SectionEntry])> {
        let sound = self.snapshots.iter().rev().find_map(|snapshot| snapshot.content.as_ref().ok());
        sound.map(|(info, sections)| (info, sections.as_slice()))
    }

    /// The sections of all snapshots that are whole: after a change of the number of cores an older one may have shards
    /// that newer ones do not.
    pub(super) fn sections(&self) -> impl Iterator<Item = &SectionEntry> {
        self.snapshots.iter().filter_map(|snapshot| snapshot.content.as_ref().ok()).flat_map(|(_, all)| all)
    }

    /// Where the log may begin.
    pub(super) fn covered(&self) -> LogPosition {
        self.newest().map_or(LogPosition(0), |(info, _)| info.log_position())
    }

    /// A reader of the log, which may begin where the newest snapshot covers it.
    pub(super) fn reader(&self) -> Result<LogReader, Failure> {
        let mut found = Vec::new();
        for (number, path) in &self.segments {
            found.push(FoundSegment { number: *number, header: header(path)? });
        }
        let mut reader = LogReader::new(self.core, found, &[]).map_err(|error| self.damaged(&error))?;
        reader.begin_within(self.covered());
        Ok(reader)
    }

    /// The file of a segment.
    pub(super) fn file(&self, number: SegmentNumber) -> &Path {
        let found = self.segments.iter().find(|(found, _)| *found == number);
        &found.expect("the reader names segments that were found").1
    }

    pub(super) fn read(&self, number: SegmentNumber) -> Result<Vec<u8>, Failure> {
        let path = self.file(number);
        fs::read(path).map_err(|error| failed(path, &error))
    }

    /// What the operator is told.
    pub(super) fn damaged(&self, error: &LogError) -> Failure {
        Failure::Damaged(format!(
            "the log of core {} is damaged: {}/{error}. Restore the data directory from a backup; or, if the loss of all behind \
             it is better than that: pinnace wal repair DATA_DIR --core {} --to {}",
            self.core.0,
            self.directory.display(),
            self.core.0,
            error.position
        ))
    }
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::DataDir(format!("{}: {error}", path.display()))
}

fn header(path: &Path) -> Result<Result<SegmentHeader, HeaderError>, Failure> {
    let mut block = Vec::new();
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    file.take(BLOCK_BYTES).read_to_end(&mut block).map_err(|error| failed(path, &error))?;
    Ok(SegmentHeader::decode(&block))
}

/// Reads a whole snapshot.
fn snapshot(path: PathBuf) -> Result<SnapshotFile, Failure> {
    let bytes = fs::read(&path).map_err(|error| failed(&path, &error))?;
    let content = match Trailer::decode(&bytes) {
        Ok(_) => read_snapshot(&bytes),
        Err(error) => Err(format!("it was complete and has lost its end ({error})")),
    };
    Ok(SnapshotFile { path, bytes: bytes.len() as u64, content })
}

fn read_snapshot(bytes: &[u8]) -> Result<(SnapshotInfo, Vec<SectionEntry>), String> {
    let mut reader = SnapshotReader::new();
    let (mut info, mut sections) = (None, Vec::new());
    while !reader.is_done() {
        let rest = usize::try_from(reader.offset()).ok().and_then(|offset| bytes.get(offset..));
        match reader.read(rest.unwrap_or_default()).map_err(|error| error.to_string())? {
            Some((SnapshotEvent::Header(header), _)) => info = Some(header),
            Some((SnapshotEvent::SectionEnd(end), _)) => sections.push(end),
            Some(_) => {}
            None => return Err(format!("the file ends within a piece at offset {}", reader.offset())),
        }
    }
    info.map(|info| (info, sections)).ok_or_else(|| "no header".to_owned())
}
