//! A core with its log: hands the core's commits to the disk, and tells the core what is synced.
//!
//! The log's tasks run beside the driver in the same executor. They ask for a turn when something is synced, and the driver
//! is told while somebody waits for them.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use pinnace_core::{Core, Mail};
use pinnace_driver::{DriverSettings, OtherWork};
use pinnace_engine::PinnedValue;
use pinnace_protocol::wire::Wire;
use pinnace_types::{CommitNumber, LogPosition, SegmentNumber};
use pinnace_wal_disk::{DiskError, LogDisk};

use crate::failure::Failure;

/// With durability async a commit is made once in so many ns, and not at every turn: its blocks and its write are then
/// shared by more effects.
const ASYNC_COMMIT_NS: u64 = 1_000_000;

/// After a time of so many ns without a commit the log is marked as synced to its end, so that damage there is not
/// taken for a write that was never finished.
const MARK_AFTER_NS: u64 = 1_000_000_000;

/// The log of one core.
pub(crate) struct CoreLog {
    disk: LogDisk,
    settings: Rc<DriverSettings>,
    is_sync: bool,
    /// What the core knows to be synced.
    told: CommitNumber,
    last_commit_ns: u64,
    /// Where each segment begins, the oldest first, the one that is written to included.
    begins: VecDeque<(LogPosition, SegmentNumber)>,
    /// The commit that must be synced before the core may stop, once it is asked to.
    stop_after: Cell<Option<CommitNumber>>,
}

impl CoreLog {
    /// `begins`: where the segments begin that there are, in their order.
    pub(crate) fn new(
        disk: LogDisk,
        settings: Rc<DriverSettings>,
        is_sync: bool,
        begins: Vec<(LogPosition, SegmentNumber)>,
    ) -> Self {
        Self {
            disk,
            settings,
            is_sync,
            told: CommitNumber(0),
            last_commit_ns: 0,
            begins: begins.into(),
            stop_after: Cell::new(None),
        }
    }

    /// Before a turn: what has been synced since the last one.
    pub(crate) fn before_turn<W>(&mut self, core: &mut Core, wire: &mut W)
    where
        W: Wire<Pinned = PinnedValue, Mail = Mail>,
    {
        if let Some(failure) = self.disk.failure() {
            end_process(&failed(&failure));
        }
        core.on_log_disk(self.disk.ready_through(), self.disk.is_short());
        let synced = self.disk.synced();
        if synced > self.told {
            self.told = synced;
            core.on_synced(synced, wire);
        }
    }

    /// After a turn: its commit goes to the disk. Returns when the core needs another turn for the log's sake.
    pub(crate) fn after_turn(&mut self, core: &mut Core, now_ns: u64) -> Option<u32> {
        let is_wanted = core.take_sync_wanted();
        let has_pending = core.with_log(|log| log.has_pending()).unwrap_or(false);
        let since_ns = now_ns.saturating_sub(self.last_commit_ns);
        // Beside a write that is under way a commit gathers: it is synced hardly later, and its block and its write serve more
        // effects.
        let is_due = is_wanted
            || if self.is_sync {
                has_pending && !self.disk.is_writing()
            } else {
                since_ns >= ASYNC_COMMIT_NS
            };
        if has_pending && is_due {
            self.submit(core, now_ns);
        } else if !has_pending && since_ns >= MARK_AFTER_NS && !self.disk.is_under_way() {
            self.disk.submit(|out| core.with_log(|log| log.seal_marker(out)).flatten());
        }
        if is_wanted {
            self.disk.sync_soon();
        }
        let is_urgent = self.is_sync || is_wanted || core.is_log_late();
        self.settings.other_work.set(match self.disk.is_under_way() || core.is_log_late() {
            true if is_urgent => OtherWork::Urgent,
            true => OtherWork::Patient,
            false => OtherWork::None,
        });
        match (has_pending && !is_due, since_ns < MARK_AFTER_NS) {
            (true, _) => Some(1),
            (false, true) => Some(MARK_AFTER_MS),
            (false, false) => None,
        }
    }

    fn submit(&mut self, core: &mut Core, now_ns: u64) {
        let begins = &mut self.begins;
        self.disk.submit(|out| {
            let sealed = core.take_commit(out)?;
            if sealed.offset == 0 {
                begins.push_back((sealed.position, sealed.segment));
            }
            Some(sealed)
        });
        self.last_commit_ns = now_ns;
    }

    /// Everything up to this commit has been submitted.
    pub(crate) fn submitted(&self) -> CommitNumber {
        self.disk.submitted()
    }

    /// Whether everything up to a commit is synced; if not, that is begun without waiting for its time.
    pub(crate) fn is_synced(&self, through: CommitNumber) -> bool {
        if self.disk.synced() < through {
            self.disk.sync_soon();
        }
        self.disk.synced() >= through
    }

    /// What stands before a position is not needed any more: segments that end there or before may be used again.
    pub(crate) fn forget(&mut self, before: LogPosition) {
        while self.begins.get(1).is_some_and(|(begin, _)| *begin <= before) {
            self.begins.pop_front();
        }
        if let Some((_, segment)) = self.begins.front() {
            self.disk.recycle(*segment);
        }
    }

    /// Whether a core that is asked to stop can: everything that it has committed when it was asked first is synced and
    /// its replies are on their way.
    pub(crate) fn may_stop(&mut self, core: &mut Core, now_ns: u64) -> bool {
        let after = self.stop_after.get().unwrap_or_else(|| {
            self.submit(core, now_ns);
            self.disk.sync_soon();
            self.disk.submitted()
        });
        self.stop_after.set(Some(after));
        self.told >= after
    }

    /// Writes and syncs what the core has left, and marks the log as complete.
    pub(crate) async fn close(mut self, core: &mut Core) -> Result<(), Failure> {
        self.submit(core, 0);
        let last = self.disk.submitted();
        self.disk.sync_soon();
        self.disk.settle().await.map_err(|error| final_failure(&error))?;
        core.with_log(|log| log.on_synced(last));
        self.disk.submit(|out| core.with_log(|log| log.seal_marker(out)).flatten());
        self.disk.close().await.map_err(|error| final_failure(&error))
    }
}

/// [`MARK_AFTER_NS`] in the unit of a turn's wish.
const MARK_AFTER_MS: u32 = (MARK_AFTER_NS / 1_000_000) as u32;

fn failed(text: &str) -> Failure {
    Failure::Disk(format!(
        "{text}; the node stops at once: what was not acknowledged may be lost. Check the disk, then start again"
    ))
}

fn final_failure(error: &DiskError) -> Failure {
    failed(&error.to_string())
}

/// Ends the process without another reply: what would be acknowledged from here on is not safe.
fn end_process(failure: &Failure) -> ! {
    eprintln!("pinnace: {failure}");
    std::process::exit(failure.code().into());
}
