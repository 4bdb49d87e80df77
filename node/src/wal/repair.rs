//! `repair`: lets a core's log end at a position, because somebody prefers the loss of the rest to having no node.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use pinnace_types::{CoreId, LogPosition, SegmentNumber};
use pinnace_wal::{BLOCK_BYTES, CommitHeader, LogReader, RecordHeader, RecordKind, SegmentHeader};
use pinnace_wal_disk::sync_directory;

use super::store::{CoreFiles, Store, failed};
use crate::failure::Failure;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where the cut goes.
struct Cut {
    segment: SegmentNumber,
    header: SegmentHeader,
    offset: u64,
}

/// Cuts, if `is_confirmed`; else says what would be lost.
pub(super) fn repair(
    store: &Store,
    core: CoreId,
    to: LogPosition,
    is_confirmed: bool,
) -> Result<(), Failure> {
    let files = store.cores.iter().find(|files| files.core == core);
    let files = files.ok_or_else(|| Failure::Config(format!("core {} has no log", core.0)))?;
    let cut = place(files, to)?;
    let mut out = String::new();
    tell_loss(&mut out, files, &cut)?;
    if !is_confirmed {
        crate::print(&out);
        return Err(Failure::Config(format!(
            "nothing was changed: {} would be cut at offset {}. To lose the above for good, add --yes-lose-data",
            files.file(cut.segment).display(),
            cut.offset
        )));
    }
    let kept = carry_out(files, &cut, to)?;
    let _ = writeln!(out, "cut; what was cut is kept in {}", kept.display());
    crate::print(&out);
    Ok(())
}

/// Finds the position, which must be the end of a commit that can be read.
fn place(files: &CoreFiles, to: LogPosition) -> Result<Cut, Failure> {
    let mut reader = files.reader()?;
    let mut last = None;
    for index in 0..reader.segments().len() {
        let segment = reader.segments()[index].clone();
        let Some(header) = segment.header else { continue };
        let ends = commit_ends(files, &mut reader, index)?;
        let cut = Cut { segment: segment.number, header, offset: to.0.wrapping_sub(header.position.0) };
        let begin = header.position.plus(BLOCK_BYTES);
        if to == begin || ends.contains(&to) {
            return Ok(cut);
        }
        last = ends.into_iter().chain([begin]).filter(|end| *end < to).max().or(last);
    }
    let near = last.map_or_else(String::new, |end| {
        format!("; the last commit that can be read before it ends at {end}")
    });
    Err(Failure::Config(format!("no commit of core {} ends at log position {to}{near}", files.core.0)))
}

/// Where the commits of a segment end, up to the first that is broken. Damage is what this is about, so it is no failure.
fn commit_ends(files: &CoreFiles, reader: &mut LogReader, index: usize) -> Result<Vec<LogPosition>, Failure> {
    let bytes = files.read(reader.segments()[index].number)?;
    let mut ends = Vec::new();
    if reader.begin_segment(index).is_ok() {
        while let Ok(Some(commit)) = reader.next_commit(&bytes) {
            ends.push(commit.header.position.plus(commit.header.padded_len()));
        }
    }
    Ok(ends)
}

/// Counts the commits behind the cut that are whole.
fn tell_loss(out: &mut String, files: &CoreFiles, cut: &Cut) -> Result<(), Failure> {
    let (mut commits, mut entries) = (0, 0);
    for (number, path) in files.segments.iter().filter(|(number, _)| *number >= cut.segment) {
        let bytes = fs::read(path).map_err(|error| failed(path, &error))?;
        let first = if *number == cut.segment { cut.offset } else { 0 };
        for offset in (first..bytes.len() as u64).step_by(BLOCK_BYTES as usize) {
            let Ok((commit, records)) = CommitHeader::decode(&bytes[offset as usize..]) else { continue };
            let is_same_log = commit.core == files.core && commit.segment == *number;
            if is_same_log && commit.position >= cut.header.position.plus(cut.offset) {
                commits += 1;
                entries += entries_of(records);
            }
        }
    }
    let _ = writeln!(
        out,
        "behind the cut are {commits} commits that can be read, with {entries} entries, beside what is damaged; all of it is lost"
    );
    Ok(())
}

fn entries_of(mut records: &[u8]) -> u64 {
    let mut entries = 0;
    while let Ok((record, _, behind)) = RecordHeader::decode(records) {
        entries += u64::from(record.kind == RecordKind::Entry);
        records = behind;
    }
    entries
}

/// Copies the segment, moves later files away, and fills the segment with zeros from the cut on. Returns where the copies are.
fn carry_out(files: &CoreFiles, cut: &Cut, to: LogPosition) -> Result<PathBuf, Failure> {
    let kept = files.directory.join(format!("cut-at-{to}"));
    fs::create_dir(&kept).map_err(|error| failed(&kept, &error))?;
    let source = files.file(cut.segment);
    let copy = kept.join(source.file_name().expect("a segment's file has a name"));
    fs::copy(source, &copy).map_err(|error| failed(&copy, &error))?;
    File::open(&copy).and_then(|file| file.sync_all()).map_err(|error| failed(&copy, &error))?;
    for (_, path) in files.segments.iter().filter(|(number, _)| *number > cut.segment) {
        let to = kept.join(path.file_name().expect("a segment's file has a name"));
        fs::rename(path, &to).map_err(|error| failed(path, &error))?;
    }
    let synced = |error: pinnace_wal_disk::DiskError| Failure::DataDir(error.to_string());
    sync_directory(&kept).map_err(synced)?;
    sync_directory(&files.directory).map_err(synced)?;
    clear_from(source, cut.offset).map_err(|error| failed(source, &error))?;
    Ok(kept)
}

fn clear_from(path: &std::path::Path, offset: u64) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    let mut rest = file.metadata()?.len().saturating_sub(offset);
    file.seek(SeekFrom::Start(offset))?;
    while rest > 0 {
        let piece = rest.min(ZEROS.len() as u64);
        file.write_all(&ZEROS[..piece as usize])?;
        rest -= piece;
    }
    file.sync_all()
}
