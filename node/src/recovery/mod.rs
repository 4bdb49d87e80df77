//! What a core does before it serves: reads the newest snapshot and the log behind it, and applies what belongs to its
//! shards.
//!
//! All cores do that at the same time, each on its own thread. If the number of cores has changed since something was
//! written, every core reads all directories and takes its own shards; else only its own. Nothing on the disk is
//! changed: a torn tail is cut by what the next run writes.

mod damage;
mod found;
mod progress;
mod read_ahead;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinnace_core::Core;
use pinnace_types::{CoreId, LogPosition, SegmentNumber, ShardId, ShardMap, UnixMillis};
use pinnace_wal::snapshot::{SectionEntry, SnapshotEvent, SnapshotReader};
use pinnace_wal::{GroupLogs, GroupStart, RecordKind, Verdict};
use pinnace_wal_disk::{core_directories, core_directory};

pub(crate) use progress::{Progress, show};

use crate::failure::Failure;
use found::{FoundLog, FoundSnapshot};
use read_ahead::{Job, ReadAhead};

/// Bytes of a snapshot that are read at a time.
const SNAPSHOT_PIECE_BYTES: u64 = 4 << 20;

/// Entries of so many bytes are applied together: enough to fetch ahead over many small ones, few enough to be still in
/// the cache from when their checksum was taken.
const BATCH_BYTES: usize = 32 << 10;

/// What one core recovers from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) log_dir: PathBuf,
    pub(crate) snapshot_dir: PathBuf,
    pub(crate) node_id: u64,
    /// Directories may hold shards of other cores.
    pub(crate) is_mixed: bool,
    pub(crate) shards: ShardMap,
    pub(crate) core: CoreId,
    pub(crate) progress: Arc<Progress>,
}

/// What was found, and where the core's log goes on.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) position: LogPosition,
    pub(crate) next_segment: SegmentNumber,
    pub(crate) groups: Vec<GroupStart>,
    /// To where the core's own snapshot covers its log.
    pub(crate) covered: LogPosition,
    /// Where segments of the core's own directory begin.
    pub(crate) begins: Vec<(LogPosition, SegmentNumber)>,
    /// Segment files of the core's own directory.
    pub(crate) segments: Vec<(SegmentNumber, PathBuf)>,
    /// Entries that were applied, without those that a snapshot covers.
    pub(crate) entries: u64,
    /// Items and effects of snapshots.
    pub(crate) snapshot_items: u64,
}

/// A section that holds a shard's newest state.
struct Chosen<'a> {
    file: &'a FoundSnapshot,
    section: SectionEntry,
}

/// Entries of a segment that are to be applied.
#[derive(Default)]
struct Batch<'b> {
    payloads: Vec<(ShardId, &'b [u8])>,
    /// Where in the file the commit of each begins.
    offsets: Vec<u64>,
    bytes: usize,
    /// Those that have been applied.
    entries: u64,
}

impl<'b> Batch<'b> {
    fn add(&mut self, shard: ShardId, payload: &'b [u8], offset: u64) {
        self.payloads.push((shard, payload));
        self.offsets.push(offset);
        self.bytes += payload.len();
    }

    fn apply(&mut self, core: &mut Core, path: &Path) -> Result<(), Failure> {
        core.recover_payloads(&self.payloads).map_err(|(entry, error)| {
            damage::payload(error, |error| damage::records(path, self.offsets[entry], error))
        })?;
        self.entries += self.payloads.len() as u64;
        self.payloads.clear();
        self.offsets.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl Source {
    /// Applies everything to `core`.
    ///
    /// # Errors
    /// [`Failure::Damaged`], [`Failure::Disk`], or [`Failure::DataDir`] for files of another node.
    pub(crate) fn recover(&self, core: &mut Core) -> Result<Recovered, Failure> {
        let mut recovered = Recovered { next_segment: SegmentNumber(1), ..Recovered::default() };
        let mut groups = GroupLogs::new(self.shards.shard_count());
        let snapshots = self.find_snapshots()?;
        let chosen = self.choose(&snapshots);
        let mut logs = self.find_logs()?;
        self.begin_logs(&mut logs, &snapshots, &mut recovered)?;
        let order = merge(&logs);
        let mut jobs: Vec<Job> = chosen.iter().map(section_job).collect();
        jobs.extend(segment_jobs(&logs, &order)?);
        self.progress.add_total(jobs.iter().map(|job| job.bytes).sum());
        let pieces = ReadAhead::start(jobs)?;
        for chosen in &chosen {
            let (term, index) = chosen.section.last();
            groups.cover(chosen.section.shard(), term, index);
            recovered.snapshot_items += chosen.section.items + chosen.section.effects;
            forget_time(core);
            self.apply_section(core, chosen, &pieces)?;
        }
        for (log, segment) in order {
            let bytes = pieces.next()?;
            forget_time(core);
            recovered.entries += self.apply_segment(core, &mut groups, &mut logs[log], segment, &bytes)?;
            self.progress.add_done(bytes.len() as u64);
            pieces.give_back(bytes);
        }
        for log in logs {
            self.end_log(log, &mut recovered);
        }
        recovered.groups = groups.starts(self.owned());
        Ok(recovered)
    }

    fn owned(&self) -> impl Iterator<Item = ShardId> {
        (0..self.shards.shard_count()).map(ShardId).filter(|shard| self.shards.core_of(*shard) == self.core)
    }

    /// The directories below `root` that may hold shards of this core.
    fn directories(&self, root: &Path) -> Result<Vec<(CoreId, PathBuf)>, Failure> {
        if self.is_mixed {
            return core_directories(root).map_err(|error| Failure::Disk(error.to_string()));
        }
        let own = core_directory(root, self.core);
        Ok(if own.is_dir() { vec![(self.core, own)] } else { Vec::new() })
    }

    fn find_snapshots(&self) -> Result<Vec<FoundSnapshot>, Failure> {
        let mut found = Vec::new();
        for (core, directory) in self.directories(&self.snapshot_dir)? {
            let shards = self.shards.shard_count();
            // One of an earlier number of cores may hold shards that newer ones of its directory do not.
            found.extend(FoundSnapshot::look(core, &directory, self.node_id, shards, self.is_mixed)?);
        }
        Ok(found)
    }

    fn find_logs(&self) -> Result<Vec<FoundLog>, Failure> {
        let directories = self.directories(&self.log_dir)?;
        directories
            .into_iter()
            .map(|(core, directory)| FoundLog::look(core, &directory, self.node_id))
            .collect()
    }

    /// Lets logs begin where snapshots cover them.
    fn begin_logs(
        &self,
        logs: &mut [FoundLog],
        snapshots: &[FoundSnapshot],
        recovered: &mut Recovered,
    ) -> Result<(), Failure> {
        for snapshot in snapshots {
            let position = snapshot.info.log_position();
            if snapshot.info.core == self.core.0 {
                recovered.covered = position;
            }
            let log = logs.iter_mut().find(|log| log.core.0 == snapshot.info.core);
            match log {
                // The log may hold shards that were other cores' when that snapshot was made.
                Some(log) if self.is_mixed => log.begin_within(position),
                Some(log) => {
                    self.check_sections(snapshot)?;
                    log.skip_covered(position);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// What a snapshot covers is not looked for in the log: it must have all of the core's shards.
    fn check_sections(&self, snapshot: &FoundSnapshot) -> Result<(), Failure> {
        let has = |shard| snapshot.sections.iter().any(|section| section.shard() == shard);
        match self.owned().find(|&shard| !has(shard)) {
            None => Ok(()),
            Some(shard) => {
                Err(damage::snapshot(&snapshot.path, &format_args!("it has no section of shard {}", shard.0)))
            }
        }
    }

    /// The newest section of each of the core's shards, in the order of files and places.
    fn choose<'a>(&self, snapshots: &'a [FoundSnapshot]) -> Vec<Chosen<'a>> {
        let mut chosen: Vec<Chosen<'a>> = Vec::new();
        for shard in self.owned() {
            let sections = snapshots.iter().flat_map(|file| {
                let of_shard = file.sections.iter().filter(|section| section.shard() == shard);
                of_shard.map(move |section| Chosen { file, section: *section })
            });
            chosen.extend(sections.max_by_key(|chosen| (chosen.section.last(), chosen.file.info.run_number)));
        }
        chosen.sort_by_key(|chosen| (&chosen.file.path, chosen.section.offset));
        chosen
    }

    fn apply_section(&self, core: &mut Core, chosen: &Chosen<'_>, pieces: &ReadAhead) -> Result<(), Failure> {
        let path = &chosen.file.path;
        let refuse = |error: &dyn std::fmt::Display| damage::snapshot(path, error);
        let mut reader = SnapshotReader::section(&chosen.section, chosen.file.nonce);
        let mut rest = Vec::new();
        let mut left = chosen.section.bytes;
        while !reader.is_done() {
            if left == 0 {
                return Err(refuse(&"a section ends before its end"));
            }
            let piece = pieces.next()?;
            left = left.saturating_sub((piece.len() as u64).max(1));
            self.progress.add_done(piece.len() as u64);
            rest.extend_from_slice(&piece);
            pieces.give_back(piece);
            let mut used = 0;
            while !reader.is_done() {
                let Some((event, len)) = reader.read(&rest[used..]).map_err(|error| refuse(&error))? else {
                    break;
                };
                if let SnapshotEvent::Frames(shard, frames) = event {
                    core.recover_payload(shard, frames).map_err(|error| damage::payload(error, refuse))?;
                }
                used += len;
            }
            rest.drain(..used);
        }
        Ok(())
    }

    /// Applies what a segment holds for this core's shards; the number of entries.
    fn apply_segment(
        &self,
        core: &mut Core,
        groups: &mut GroupLogs,
        log: &mut FoundLog,
        segment: usize,
        bytes: &[u8],
    ) -> Result<u64, Failure> {
        let directory = core_directory(&self.log_dir, log.core);
        let path = &log.files[segment].0;
        log.reader.begin_segment(segment).map_err(|error| damage::log(&directory, &error))?;
        let mut batch = Batch::default();
        while let Some(commit) =
            log.reader.next_commit(bytes).map_err(|error| damage::log(&directory, &error))?
        {
            let refuse = |error: &dyn std::fmt::Display| damage::records(path, commit.offset, error);
            for record in commit.records() {
                if record.group.0 >= self.shards.shard_count() {
                    return Err(refuse(&"a record of a shard that is not there"));
                }
                if self.shards.core_of(record.group) != self.core {
                    continue;
                }
                let verdict = groups.accept(&record).map_err(|error| refuse(&error))?;
                if verdict == Verdict::Apply && record.kind == RecordKind::Entry {
                    batch.add(record.group, record.payload, commit.offset);
                }
            }
            if batch.bytes >= BATCH_BYTES {
                batch.apply(core, path)?;
            }
        }
        batch.apply(core, path)?;
        Ok(batch.entries)
    }

    fn end_log(&self, log: FoundLog, recovered: &mut Recovered) {
        let (begun, begins) = (log.begun(), log.begins());
        let end = log.reader.finish();
        if let Some(torn) = end.torn {
            tracing::warn!(
                "core {}: the log's last write was not finished: cut at {}, offset {}",
                log.core.0,
                core_directory(&self.log_dir, log.core).join(format!("{:016}.wal", torn.segment.0)).display(),
                torn.offset
            );
        }
        if end.padding_flaws > 0 {
            tracing::warn!(
                "core {}: {} commits are whole but the zeros behind them are not: the disk returns other bytes than were \
                 written",
                log.core.0,
                end.padding_flaws
            );
        }
        if log.core == self.core {
            recovered.position = end.position;
            recovered.next_segment = begun.last().map_or(SegmentNumber(1), |(number, _)| number.next());
            recovered.segments = begun;
            recovered.begins = begins;
        }
    }
}

/// Every section and every segment has a clock of its own: nothing may expire by one that another has left behind.
fn forget_time(core: &mut Core) {
    core.ks.set_now(UnixMillis(0));
}

/// The shards that a complete snapshot file holds, and the entries that it is the state at.
///
/// # Errors
/// [`Failure::Disk`] or [`Failure::Damaged`] if it is not what was written.
pub(crate) fn sections_of(path: &Path) -> Result<Vec<SectionEntry>, Failure> {
    FoundSnapshot::read(path).map(|found| found.sections)
}

/// In which order segments are read: log by log within a run, the runs one after the other, since a shard's entries may be in
/// the directories of several cores.
fn merge(logs: &[FoundLog]) -> Vec<(usize, usize)> {
    let mut order = Vec::new();
    for (log, found) in logs.iter().enumerate() {
        order.extend(found.files.iter().enumerate().map(|(segment, (_, run))| (*run, log, segment)));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, log, segment)| (log, segment)).collect()
}

fn section_job(chosen: &Chosen<'_>) -> Job {
    Job {
        path: chosen.file.path.clone(),
        offset: chosen.section.offset,
        bytes: chosen.section.bytes,
        piece_bytes: SNAPSHOT_PIECE_BYTES,
        is_synced: false,
    }
}

fn segment_jobs(logs: &[FoundLog], order: &[(usize, usize)]) -> Result<Vec<Job>, Failure> {
    let job = |&(log, segment): &(usize, usize)| {
        let path = logs[log].files[segment].0.clone();
        let bytes = std::fs::metadata(&path)
            .map_err(|error| Failure::Disk(format!("cannot read {}: {error}", path.display())))?
            .len();
        Ok(Job { path, offset: 0, bytes, piece_bytes: bytes, is_synced: true })
    };
    order.iter().map(job).collect()
}
