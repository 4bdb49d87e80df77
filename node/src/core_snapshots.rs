//! A core with its snapshots: hands what the core's pass makes to the disk, and lets go of the log that a complete snapshot
//! covers.
//!
//! A snapshot that cannot be written costs nothing but itself: the one before and the log stay, and the core tells its
//! clients. Before anything of the log goes, the file is read back and compared, shard by shard, with what the log held when the pass began.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use pinnace_core::{Core, SnapshotEffect, SnapshotSetup};
use pinnace_driver::{DriverSettings, OtherWork, Waker};
use pinnace_types::{CommitNumber, CoreId, LogIndex, LogPosition, ShardId, Term};
use pinnace_wal_disk::{SnapshotDisk, SnapshotDone, snapshots};

use crate::core_log::CoreLog;
use crate::failure::Failure;
use crate::layout::Layout;
use crate::recovery;

/// What a core's snapshots are made of.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotSeed {
    pub(crate) core: CoreId,
    /// The core's own directory.
    pub(crate) directory: PathBuf,
    pub(crate) node_id: u64,
    pub(crate) run_number: u64,
    pub(crate) nonce: u64,
    pub(crate) interval_ms: u64,
    pub(crate) log_bytes: u64,
    pub(crate) layout: Arc<Layout>,
}

/// The pass that the core has begun.
struct Pass {
    number: u64,
    /// Where the log ended.
    position: LogPosition,
    /// The last entry of each shard of this core.
    last: Vec<(ShardId, Term, LogIndex)>,
    /// The core has made all of it, and the log must be synced up to a commit.
    ends_after: Option<CommitNumber>,
}

/// The snapshots of one core.
pub(crate) struct CoreSnapshots {
    core: CoreId,
    disk: SnapshotDisk,
    directory: PathBuf,
    settings: Rc<DriverSettings>,
    shards: Vec<ShardId>,
    layout: Arc<Layout>,
    /// The log before this position is covered and goes as soon as it may.
    superfluous: Option<LogPosition>,
    pass: Option<Pass>,
}

impl SnapshotSeed {
    /// Makes snapshots possible. `covered` is to where the last one covers the log.
    pub(crate) async fn open(
        self,
        core: &mut Core,
        covered: LogPosition,
        waker: Waker,
        settings: Rc<DriverSettings>,
    ) -> Result<CoreSnapshots, Failure> {
        let refuse = |error| {
            Failure::DataDir(format!(
                "snapshots cannot be written: {error}; make room, or choose another --data-dir"
            ))
        };
        let disk = SnapshotDisk::open(self.directory.clone(), Box::new(move || waker.wake()))
            .await
            .map_err(refuse)?;
        let first_number = disk.next_number().map_err(refuse)?;
        // Earlier ones hold shards that are another core's now, which may not have a snapshot of its own yet.
        disk.keep_before(if self.layout.is_mixed() { first_number } else { 0 });
        core.enable_snapshots(SnapshotSetup {
            node_id: self.node_id,
            run_number: self.run_number,
            nonce: self.nonce,
            first_number,
            interval_ms: self.interval_ms,
            log_bytes: self.log_bytes,
            covered,
        });
        let shards = core.own_shards().collect();
        Ok(CoreSnapshots {
            core: self.core,
            disk,
            directory: self.directory,
            settings,
            shards,
            layout: self.layout,
            superfluous: None,
            pass: None,
        })
    }
}

impl CoreSnapshots {
    /// Before a turn: what the disk has done since the last one.
    pub(crate) fn before_turn(&mut self, core: &mut Core, mut log: Option<&mut CoreLog>) {
        while let Some(done) = self.disk.take_done() {
            match done {
                SnapshotDone::Written(bytes) => core.on_snapshot_written(bytes),
                SnapshotDone::Complete(number) => {
                    let Some(pass) = self.pass.take_if(|pass| pass.number == number) else { continue };
                    core.on_snapshot_synced();
                    self.on_complete(&pass);
                }
                SnapshotDone::Failed { number, error } => {
                    tracing::error!("the snapshot is given up, the one before stays: {error}");
                    // The core may have given it up already and begun another.
                    if self.pass.take_if(|pass| pass.number == number).is_some() {
                        core.on_snapshot_failed();
                    }
                }
            }
        }
        if let Some(log) = log.as_deref_mut() {
            self.shorten(log);
        }
        self.end_when_synced(log.as_deref());
    }

    /// After a turn and its commit: what the core wants done.
    pub(crate) fn after_turn(&mut self, core: &mut Core, log: Option<&CoreLog>) {
        while let Some(effect) = core.take_snapshot_effect() {
            match effect {
                SnapshotEffect::Begin(info) => {
                    self.disk.begin(info.number);
                    let last = core.with_log(|log| {
                        let last =
                            |&shard: &ShardId| (shard, log.last_index(shard).0, log.last_index(shard).1);
                        self.shards.iter().map(last).collect()
                    });
                    self.pass = Some(Pass {
                        number: info.number,
                        position: info.log_position(),
                        last: last.unwrap_or_default(),
                        ends_after: None,
                    });
                }
                SnapshotEffect::Write(bytes) => self.disk.write(bytes),
                SnapshotEffect::End { after } => {
                    let submitted = log.map_or(CommitNumber(0), CoreLog::submitted);
                    if let Some(pass) = &mut self.pass {
                        // What the position counts may end with a mark, which has no effect.
                        pass.ends_after = Some(after.unwrap_or_default().max(submitted));
                    }
                }
                SnapshotEffect::Abandon => {
                    self.disk.abandon();
                    self.pass = None;
                }
            }
        }
        self.end_when_synced(log);
        if self.pass.is_some() && self.settings.other_work.get() == OtherWork::None {
            self.settings.other_work.set(OtherWork::Patient);
        }
    }

    fn end_when_synced(&mut self, log: Option<&CoreLog>) {
        let Some(pass) = &mut self.pass else { return };
        let is_synced = |after: &mut CommitNumber| log.is_none_or(|log| log.is_synced(*after));
        if pass.ends_after.take_if(is_synced).is_some() {
            self.disk.end();
        }
    }

    fn on_complete(&mut self, pass: &Pass) {
        match self.check(pass) {
            Ok(()) => {
                self.superfluous = Some(pass.position);
                self.layout.on_complete(self.core);
            }
            Err(failure) => tracing::error!("the log is not shortened: {failure}"),
        }
    }

    /// Lets go of the log that a complete snapshot covers, once no other core needs any of it.
    fn shorten(&mut self, log: &mut CoreLog) {
        if self.superfluous.is_none() || self.layout.is_mixed() {
            return;
        }
        if let Some(position) = self.superfluous.take() {
            log.forget(position);
            // The next complete one replaces all before it.
            self.disk.keep_before(0);
        }
    }

    /// Whether the file holds every shard at the last entry that the log had when the pass began, or a later one.
    fn check(&self, pass: &Pass) -> Result<(), Failure> {
        let files = snapshots(&self.directory).map_err(|error| Failure::Disk(error.to_string()))?;
        let path = files.iter().find(|(number, _)| *number == pass.number).map(|(_, path)| path);
        let path = path.ok_or_else(|| Failure::Damaged(format!("snapshot {} is gone", pass.number)))?;
        let sections = recovery::sections_of(path)?;
        for &(shard, term, index) in &pass.last {
            let section = sections.iter().find(|section| section.shard() == shard);
            if section.is_none_or(|section| section.last() < (term, index)) {
                let shown = path.display();
                return Err(Failure::Damaged(format!("{shown} does not cover shard {}", shard.0)));
            }
        }
        Ok(())
    }
}
