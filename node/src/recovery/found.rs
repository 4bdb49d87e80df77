//! What one core's directories hold, before any of it is applied.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use pinnace_types::{CoreId, LogPosition, SegmentNumber};
use pinnace_wal::snapshot::{
    SectionEntry, SnapshotEvent, SnapshotInfo, SnapshotReader, Trailer, read_footer,
};
use pinnace_wal::{BLOCK_BYTES, FoundSegment, HeaderError, LogReader, SegmentHeader};
use pinnace_wal_disk::{segments, snapshots};

use super::damage;
use crate::failure::Failure;

/// The log of one core directory.
#[derive(Debug)]
pub(super) struct FoundLog {
    pub(super) core: CoreId,
    pub(super) reader: LogReader,
    /// The files of `reader.segments()`, in their order, with the run that wrote each.
    pub(super) files: Vec<(PathBuf, u64)>,
    /// All segment files, for later use.
    pub(super) all: Vec<(SegmentNumber, PathBuf)>,
}

/// A complete snapshot of one core directory.
#[derive(Debug)]
pub(super) struct FoundSnapshot {
    pub(super) path: PathBuf,
    pub(super) info: SnapshotInfo,
    pub(super) nonce: u64,
    pub(super) sections: Vec<SectionEntry>,
}

impl FoundLog {
    pub(super) fn look(core: CoreId, directory: &Path, node_id: u64) -> Result<Self, Failure> {
        let all = segments(directory).map_err(|error| Failure::Disk(error.to_string()))?;
        let mut found = Vec::new();
        for (number, path) in &all {
            let header = read_header(path).map_err(|error| unreadable(path, &error))?;
            if let Ok(header) = &header
                && header.node_id != node_id
            {
                return Err(foreign(path, header.node_id, node_id));
            }
            found.push(FoundSegment { number: *number, header });
        }
        let reader = LogReader::new(core, found, &[]).map_err(|error| damage::log(directory, &error))?;
        let mut run = 0;
        let files = reader
            .segments()
            .iter()
            .map(|segment| {
                run = segment.header.map_or(run, |header| header.run.number);
                let (_, path) =
                    all.iter().find(|(number, _)| *number == segment.number).expect("it was found here");
                (path.clone(), run)
            })
            .collect();
        Ok(Self { core, reader, files, all })
    }

    /// The files that a run has begun. Later ones were made ahead and never used: the next run begins with them.
    pub(super) fn begun(&self) -> Vec<(SegmentNumber, PathBuf)> {
        let begun = self.reader.segments().iter().filter(|segment| segment.header.is_some());
        let last = begun.map(|segment| segment.number).max().unwrap_or(SegmentNumber(0));
        self.all.iter().filter(|(number, _)| *number <= last).cloned().collect()
    }

    /// Where the segments begin that a run has begun, in their order.
    pub(super) fn begins(&self) -> Vec<(LogPosition, SegmentNumber)> {
        let segments = self.reader.segments().iter();
        segments.filter_map(|segment| Some((segment.header?.position, segment.number))).collect()
    }

    /// Accepts that segments before `position` are not there any more, and reads all that are.
    pub(super) fn begin_within(&mut self, position: LogPosition) {
        self.reader.begin_within(position);
    }

    /// Leaves out segments that end before `position`.
    pub(super) fn skip_covered(&mut self, position: LogPosition) {
        self.reader.skip_covered(position);
        let left_out = self.files.len() - self.reader.segments().len();
        self.files.drain(..left_out);
    }
}

impl FoundSnapshot {
    /// The newest one of a core's directory, or all of them, the oldest first. A file has its name only since it was complete
    /// and synced, so that one that is not whole is damaged.
    pub(super) fn look(
        core: CoreId,
        directory: &Path,
        node_id: u64,
        shards: u16,
        all: bool,
    ) -> Result<Vec<Self>, Failure> {
        let mut files = snapshots(directory).map_err(|error| Failure::Disk(error.to_string()))?;
        let superfluous = if all { 0 } else { files.len().saturating_sub(1) };
        let files = files.drain(superfluous..);
        files.map(|(_, path)| Self::open(core, &path, node_id, shards)).collect()
    }

    fn open(core: CoreId, path: &Path, node_id: u64, shards: u16) -> Result<Self, Failure> {
        let found = Self::read(path)?;
        let info = &found.info;
        if info.node_id != node_id {
            return Err(foreign(path, info.node_id, node_id));
        }
        let shown = path.display();
        if info.shard_count != shards {
            let text = format!("{shown} is a snapshot of {} shards, not {shards}", info.shard_count);
            return Err(Failure::DataDir(text));
        }
        if info.core != core.0 {
            return Err(damage::snapshot(path, &format_args!("it is one of core {}", info.core)));
        }
        Ok(found)
    }

    /// What a file says of itself at its beginning and its end.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let refuse = |error: &dyn std::fmt::Display| damage::snapshot(path, error);
        let ends = Ends::read(path).map_err(|error| unreadable(path, &error))?;
        let trailer = ends
            .trailer
            .map_err(|error| refuse(&format_args!("it was complete and has lost its end ({error})")))?;
        let sections = read_footer(&ends.footer, &trailer).map_err(|error| refuse(&error))?;
        match SnapshotReader::new().read(&ends.head).map_err(|error| refuse(&error))? {
            Some((SnapshotEvent::Header(info), _)) => {
                Ok(Self { path: path.to_owned(), info, nonce: trailer.nonce, sections })
            }
            _ => Err(refuse(&"it does not begin with a header")),
        }
    }
}

/// What a snapshot file begins and ends with.
struct Ends {
    head: Vec<u8>,
    trailer: Result<Trailer, HeaderError>,
    footer: Vec<u8>,
}

impl Ends {
    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let (mut head, mut end, mut footer) = (Vec::new(), Vec::new(), Vec::new());
        file.by_ref().take(BLOCK_BYTES).read_to_end(&mut head)?;
        file.seek(SeekFrom::Start(len.saturating_sub(BLOCK_BYTES)))?;
        file.read_to_end(&mut end)?;
        let trailer = Trailer::decode(&end);
        if let Ok(trailer) = &trailer {
            file.seek(SeekFrom::Start(trailer.footer_offset))?;
            file.read_to_end(&mut footer)?;
        }
        Ok(Self { head, trailer, footer })
    }
}

fn read_header(path: &Path) -> io::Result<Result<SegmentHeader, HeaderError>> {
    let mut block = Vec::new();
    File::open(path)?.take(BLOCK_BYTES).read_to_end(&mut block)?;
    Ok(SegmentHeader::decode(&block))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Disk(format!("cannot read {}: {error}", path.display()))
}

fn foreign(path: &Path, theirs: u64, ours: u64) -> Failure {
    Failure::DataDir(format!(
        "{} was written by node {theirs}, this is node {ours}: give --data-dir and --wal-dir that belong together",
        path.display()
    ))
}
