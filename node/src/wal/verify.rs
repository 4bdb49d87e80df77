//! `inspect` and `verify`: what is there, and whether it is what was written.

use std::fmt::Write as _;

use pinnace_types::ShardId;
use pinnace_wal::{GroupLogs, LogEnd, LogReader, RecordKind, Verdict};

use super::store::{CoreFiles, Store};
use crate::failure::Failure;

/// Shards that a log may name: as many as ids there are.
const GROUP_COUNT_MAX: u16 = u16::MAX;

#[derive(Default)]
struct Count {
    commits: u64,
    entries: u64,
    payload_bytes: u64,
}

/// Lists what is there; damage is told and is no failure.
pub(super) fn inspect(store: &Store) -> Result<String, Failure> {
    let mut out = String::new();
    for files in &store.cores {
        let _ = writeln!(out, "core {}: {}", files.core.0, files.directory.display());
        list_snapshots(&mut out, files);
        let mut reader = match files.reader() {
            Ok(reader) => reader,
            Err(failure) => {
                let _ = writeln!(out, "  {failure}");
                continue;
            }
        };
        let told = list_segments(&mut out, files, &mut reader)?;
        if let Some(failure) = told {
            let _ = writeln!(out, "  {failure}");
        } else {
            list_end(&mut out, &reader.finish());
        }
    }
    Ok(out)
}

fn list_snapshots(out: &mut String, files: &CoreFiles) {
    for snapshot in &files.snapshots {
        let shown = snapshot.path.display();
        let _ = match &snapshot.content {
            Ok((info, sections)) => writeln!(
                out,
                "  snapshot {shown}: {} bytes, {} shards, {} items, covers the log to {}",
                snapshot.bytes,
                sections.len(),
                sections.iter().map(|section| section.items).sum::<u64>(),
                info.position
            ),
            Err(reason) => writeln!(out, "  snapshot {shown}: {reason}"),
        };
    }
}

/// Lists the segments up to the first damage, which is returned.
fn list_segments(
    out: &mut String,
    files: &CoreFiles,
    reader: &mut LogReader,
) -> Result<Option<Failure>, Failure> {
    let listed = reader.segments().to_vec();
    for (number, path) in &files.segments {
        if !listed.iter().any(|segment| segment.number == *number) {
            let _ = writeln!(out, "  {}: void or covered by a snapshot", path.display());
        }
    }
    for (index, segment) in listed.iter().enumerate() {
        let bytes = files.read(segment.number)?;
        let mut count = Count::default();
        let damage = read_segment(reader, index, &bytes, &mut count).err();
        let shown = files.file(segment.number).display();
        let _ = match segment.header {
            Some(header) => writeln!(
                out,
                "  {shown}: run {}, begins at {}, {} commits, {} entries, {} bytes of payload",
                header.run.number, header.position, count.commits, count.entries, count.payload_bytes
            ),
            None => writeln!(out, "  {shown}: not begun"),
        };
        if let Some(error) = damage {
            return Ok(Some(files.damaged(&error)));
        }
    }
    Ok(None)
}

fn read_segment(
    reader: &mut LogReader,
    index: usize,
    bytes: &[u8],
    count: &mut Count,
) -> Result<(), pinnace_wal::LogError> {
    reader.begin_segment(index)?;
    while let Some(commit) = reader.next_commit(bytes)? {
        count.commits += 1;
        for record in commit.records().filter(|record| record.kind == RecordKind::Entry) {
            count.entries += 1;
            count.payload_bytes += record.payload.len() as u64;
        }
    }
    Ok(())
}

fn list_end(out: &mut String, end: &LogEnd) {
    let _ = writeln!(out, "  the log ends at {}", end.position);
    if let Some(torn) = end.torn {
        let _ = writeln!(
            out,
            "  a commit behind it was not written to its end (segment {:016}, offset {}); nobody was told that it was safe",
            torn.segment, torn.offset
        );
    }
    if end.padding_flaws > 0 {
        let _ = writeln!(
            out,
            "  {} commits are whole, but their filling is not all zeros: check the disk",
            end.padding_flaws
        );
    }
}

/// Checks everything, all cores' logs together as a start does.
pub(super) fn verify(store: &Store) -> Result<String, Failure> {
    for files in &store.cores {
        if let Some((snapshot, reason)) = damaged_snapshot(files) {
            return Err(Failure::Damaged(format!(
                "the snapshot {snapshot} is damaged: {reason}. Restore the data directory from a backup"
            )));
        }
    }
    let mut groups = GroupLogs::new(GROUP_COUNT_MAX);
    for section in store.cores.iter().flat_map(CoreFiles::sections) {
        let (term, index) = section.last();
        if groups.last(section.shard()).1 < index {
            groups.cover(section.shard(), term, index);
        }
    }
    let mut out = String::new();
    let mut readers = store.cores.iter().map(CoreFiles::reader).collect::<Result<Vec<_>, _>>()?;
    let mut count = Count::default();
    // A shard's entries are in the order of runs, whichever core had it.
    for (_, core, index) in order_of_runs(&readers) {
        verify_segment(&store.cores[core], &mut readers[core], index, &mut groups, &mut count)?;
    }
    let _ = writeln!(
        out,
        "{} commits, {} entries with {} bytes behind the snapshots: sound",
        count.commits, count.entries, count.payload_bytes
    );
    for (files, reader) in store.cores.iter().zip(readers) {
        let _ = writeln!(out, "core {}: {}", files.core.0, files.directory.display());
        list_snapshots(&mut out, files);
        list_end(&mut out, &reader.finish());
    }
    let shards = (0..GROUP_COUNT_MAX).filter(|&group| groups.last(ShardId(group)).1.0 > 0).count();
    let _ = writeln!(out, "{shards} shards have entries");
    Ok(out)
}

/// A file has its name only since it was complete.
fn damaged_snapshot(files: &CoreFiles) -> Option<(String, &str)> {
    files.snapshots.iter().find_map(|snapshot| {
        let reason = snapshot.content.as_ref().err()?;
        Some((snapshot.path.display().to_string(), reason.as_str()))
    })
}

/// Every segment as run, core and index, in the order in which they were written.
fn order_of_runs(readers: &[LogReader]) -> Vec<(u64, usize, usize)> {
    let mut order = Vec::new();
    for (core, reader) in readers.iter().enumerate() {
        let mut run = 0;
        for (index, segment) in reader.segments().iter().enumerate() {
            run = segment.header.map_or(run, |header| header.run.number);
            order.push((run, core, index));
        }
    }
    order.sort_unstable();
    order
}

fn verify_segment(
    files: &CoreFiles,
    reader: &mut LogReader,
    index: usize,
    groups: &mut GroupLogs,
    count: &mut Count,
) -> Result<(), Failure> {
    let number = reader.segments()[index].number;
    let bytes = files.read(number)?;
    let damaged = |error| files.damaged(&error);
    reader.begin_segment(index).map_err(damaged)?;
    while let Some(commit) = reader.next_commit(&bytes).map_err(damaged)? {
        count.commits += 1;
        for record in commit.records() {
            let verdict = groups.accept(&record).map_err(|error| {
                Failure::Damaged(format!(
                    "the log is damaged: {}, offset {} (log position {}): {error}. Restore the data directory from a backup",
                    files.file(number).display(),
                    commit.offset,
                    commit.header.position
                ))
            })?;
            if verdict == Verdict::Apply {
                count.entries += 1;
                count.payload_bytes += record.payload.len() as u64;
            }
        }
    }
    Ok(())
}
