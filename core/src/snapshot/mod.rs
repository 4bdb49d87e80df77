//! Snapshots of one core: its shards one after the other, a few buckets a turn, without a copy of anything.
//!
//! While a shard is walked every effect on it is written behind what the walk has met by then, so that the
//! section as a whole is the shard's state at its end (`pinnace_wal::snapshot`). The core writes no file: the
//! node takes what is to be done with [`Core::take_snapshot_effect`] and tells how it went. The walk waits
//! while the disk is behind, so that the memory is bounded: see [`HELD_BYTES_MAX`].
//!
//! All cores of a node make theirs at the same time when a client asks for one, and each tells the others
//! when it begins and ends: `status.rs`.

mod pass;
mod status;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use pinnace_types::{CommitNumber, LogIndex, LogPosition, ShardId, Term, UnixMillis};
use pinnace_wal::snapshot::{SnapshotInfo, SnapshotWriter};

use crate::core::Core;
use pass::{Before, Pass, Tail};
pub(crate) use status::PassStatus;
pub(crate) use status::{Statuses, WhenSaved};

/// Frames are put together to pieces of this size, each with its own checksum.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes that are handed to the node at a time.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes that the node has and has not written; beyond it the walk waits.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// Bytes that wait for that. The walk stops long before; only what clients write to the shard that is being
/// walked still comes. A disk that is so far behind ends the pass.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Bytes that the walk writes in a turn that has served requests: some ten microseconds.
const WALK_BYTES_BUSY: usize = 32 << 10;
/// Bytes in a turn that has nothing else to do.
const WALK_BYTES_QUIET: usize = 256 << 10;
/// Buckets that a step looks at, whatever it finds in them.
const WALK_HOMES_MAX: usize = 512;

/// What a core must know to make snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotSetup {
    /// The node, as its data directory names it.
    pub node_id: u64,
    /// The run of the process, and its random number.
    pub run_number: u64,
    /// See [`SnapshotInfo::nonce`].
    pub nonce: u64,
    /// The number of the first snapshot of this run: greater than that of any file of this core.
    pub first_number: u64,
    /// A snapshot is made so long after the last one if anything was written; 0: only when asked for.
    pub interval_ms: u64,
    /// A snapshot is made when the log has grown by this since the last one; 0: whatever it grows.
    pub log_bytes: u64,
    /// To where the last snapshot of earlier runs covers the log.
    pub covered: LogPosition,
}

/// What the node is to do for a snapshot, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum SnapshotEffect {
    /// Create the file of this number under a name that does not count yet.
    Begin(SnapshotInfo),
    /// Append these bytes, whole blocks, and give them back with [`Core::on_snapshot_written`].
    Write(Vec<u8>),
    /// The file is whole. Sync it once the log is synced to this commit, give it its name, sync the directory,
    /// then call [`Core::on_snapshot_synced`]. Then, and not before, older snapshots and the log before
    /// the pass's position may go.
    End {
        /// The last commit that has an effect in it.
        after: Option<CommitNumber>,
    },
    /// Remove the file that was begun.
    Abandon,
}

/// How far a pass is.
enum Stage {
    /// On its way through the first of the remaining shards.
    Walk(u64),
    /// The first of the remaining shards is walked; its section ends when nothing of the log is open, so that the
    /// section is the state at an index.
    Closing,
    /// All bytes are made, some have not been taken.
    Ended,
    /// The node has everything and syncs it.
    Syncing,
}

struct Running {
    pass: Rc<RefCell<Pass>>,
    before: Before,
    /// Shards without a section yet, the next one last.
    remaining: Vec<ShardId>,
    stage: Stage,
    begun_ns: u64,
}

/// What a core keeps of its snapshots.
pub(crate) struct Snapshots {
    setup: SnapshotSetup,
    next_number: u64,
    running: Option<Running>,
    effects: VecDeque<SnapshotEffect>,
    unwritten: usize,
    spare: Vec<Vec<u8>>,
    /// Where the log ended when the last complete snapshot began, and the writes that were counted by then.
    covered_position: u64,
    covered_changes: u64,
    begun_changes: u64,
    begun_position: u64,
    last_begun_ns: u64,
}

impl Core {
    /// Makes snapshots possible. After the start of the log, if there is one, and before anything is served.
    pub fn enable_snapshots(&mut self, setup: SnapshotSetup) {
        let (next_number, covered_position) = (setup.first_number, setup.covered.0);
        self.snapshots = Some(Box::new(Snapshots {
            setup,
            next_number,
            running: None,
            effects: VecDeque::new(),
            unwritten: 0,
            spare: Vec::new(),
            covered_position,
            covered_changes: self.changes(),
            begun_changes: 0,
            begun_position: 0,
            last_begun_ns: 0,
        }));
    }

    /// Whether snapshots can be made.
    pub(crate) fn has_snapshots(&self) -> bool {
        self.snapshots.is_some()
    }

    /// Writes and deletes since this core's last complete snapshot began, or since the start.
    pub(crate) fn changes_since_snapshot(&self) -> u64 {
        let covered = self.snapshots.as_ref().map_or(0, |snapshots| snapshots.covered_changes);
        self.changes().saturating_sub(covered)
    }

    /// The shard that a snapshot is walking, or has walked and not closed yet.
    #[must_use]
    pub fn snapshot_shard(&self) -> Option<ShardId> {
        let running = self.snapshots.as_ref()?.running.as_ref()?;
        running.pass.borrow().writer.section()
    }

    /// Bytes of a snapshot that are in memory.
    #[must_use]
    pub fn snapshot_buffer_bytes(&self) -> u64 {
        let Some(snapshots) = &self.snapshots else { return 0 };
        let held = snapshots.running.as_ref().map_or(0, |running| running.pass.borrow().writer.held_bytes());
        (held + snapshots.unwritten) as u64
    }

    fn changes(&self) -> u64 {
        let stats = self.ks.stats();
        self.changes_before + stats.sets + stats.deletes
    }

    /// The engine's counters are about to be set to zero.
    pub(crate) fn carry_changes(&mut self) {
        self.changes_before = self.changes();
    }

    /// Begins a snapshot, unless one is under way.
    pub fn begin_snapshot(&mut self) {
        let (core, shards) = (self.config.core, self.config.shards);
        let (position, changes) = (self.log_end(), self.changes());
        let Some(snapshots) = self.snapshots.as_mut().filter(|snapshots| snapshots.running.is_none()) else {
            return;
        };
        let info = SnapshotInfo {
            node_id: snapshots.setup.node_id,
            core: core.0,
            shard_count: shards.shard_count(),
            number: snapshots.next_number,
            run_number: snapshots.setup.run_number,
            nonce: snapshots.setup.nonce.wrapping_add(snapshots.next_number),
            position,
            begun_unix_ms: self.time.wall.0,
        };
        snapshots.next_number += 1;
        (snapshots.begun_changes, snapshots.begun_position) = (changes, position);
        snapshots.last_begun_ns = self.time.monotonic_ns;
        let pass = Rc::new(RefCell::new(Pass::new(SnapshotWriter::new(info, PIECE_BYTES), self.time.wall)));
        let before: Before = Rc::default();
        let tail = Tail { pass: Rc::clone(&pass), before: Rc::clone(&before) };
        *before.borrow_mut() = self.ks.set_effect_sink(Some(Box::new(tail)));
        let own = (0..shards.shard_count()).rev().map(ShardId).filter(|&shard| shards.core_of(shard) == core);
        snapshots.running = Some(Running {
            pass,
            before,
            remaining: own.collect(),
            stage: Stage::Walk(0),
            begun_ns: self.time.monotonic_ns,
        });
        snapshots.effects.push_back(SnapshotEffect::Begin(info));
        self.next_section();
        self.tell_pass_begun();
    }

    /// Opens the section of the next shard, or ends the file.
    fn next_section(&mut self) {
        let Some(running) = self.snapshots.as_mut().and_then(|snapshots| snapshots.running.as_mut()) else {
            return;
        };
        let mut pass = running.pass.borrow_mut();
        if let Some(&shard) = running.remaining.last() {
            pass.begin_section(shard);
            running.stage = Stage::Walk(0);
            return;
        }
        pass.writer.finish();
        drop(pass);
        let before = running.before.borrow_mut().take();
        running.stage = Stage::Ended;
        self.ks.set_effect_sink(before);
    }

    /// The time has gone on, and nothing has been written since: sections that wait for this end.
    pub(crate) fn begin_snapshot_turn(&mut self, now: UnixMillis) {
        let has_open_commit = self.log_has_pending();
        let Some(running) = self.snapshots.as_mut().and_then(|snapshots| snapshots.running.as_mut()) else {
            return;
        };
        running.pass.borrow_mut().set_now(now);
        if has_open_commit || !matches!(running.stage, Stage::Closing) {
            return;
        }
        let Some(shard) = running.remaining.pop() else { return };
        let pass = Rc::clone(&running.pass);
        let (term, index) = self.log_last(shard);
        pass.borrow_mut().end_section(term, index);
        self.next_section();
    }

    /// Goes on with a snapshot for a moment. Returns whether there is more to do right now.
    pub(crate) fn snapshot_step(&mut self, is_quiet: bool) -> bool {
        let Some(snapshots) = &mut self.snapshots else { return false };
        let Some(running) = &mut snapshots.running else { return false };
        let held = running.pass.borrow().writer.held_bytes();
        if held > HELD_BYTES_MAX {
            self.abandon_snapshot();
            return false;
        }
        let room = snapshots.unwritten < UNWRITTEN_BYTES_MAX && held < WRITE_BYTES + PIECE_BYTES;
        if let (Stage::Walk(position), Some(&shard), true) = (&running.stage, running.remaining.last(), room)
        {
            let mut left = if is_quiet { WALK_BYTES_QUIET } else { WALK_BYTES_BUSY };
            let mut pass = running.pass.borrow_mut();
            let next = self.ks.scan_shard(shard, *position, WALK_HOMES_MAX, &mut |key, entry| {
                left = left.saturating_sub(pass.item(key, entry));
                left > 0
            });
            running.stage = next.map_or(Stage::Closing, Stage::Walk);
        }
        self.hand_out();
        let Some(snapshots) = &self.snapshots else { return false };
        snapshots.running.as_ref().is_some_and(|running| match running.stage {
            Stage::Walk(_) => snapshots.unwritten < UNWRITTEN_BYTES_MAX,
            Stage::Closing => true,
            Stage::Ended | Stage::Syncing => false,
        })
    }

    /// Makes effects of what is ready.
    fn hand_out(&mut self) {
        let after = self.log_last_commit();
        let Some(snapshots) = &mut self.snapshots else { return };
        let Some(running) = &mut snapshots.running else { return };
        let mut pass = running.pass.borrow_mut();
        let is_ended = matches!(running.stage, Stage::Ended);
        let ready = pass.writer.ready_bytes();
        if snapshots.unwritten < UNWRITTEN_BYTES_MAX && (ready >= WRITE_BYTES || (is_ended && ready > 0)) {
            let mut bytes = snapshots.spare.pop().unwrap_or_default();
            bytes.clear();
            pass.writer.take_blocks(&mut bytes);
            snapshots.unwritten += bytes.len();
            snapshots.effects.push_back(SnapshotEffect::Write(bytes));
        }
        if is_ended && pass.writer.held_bytes() == 0 {
            drop(pass);
            running.stage = Stage::Syncing;
            snapshots.effects.push_back(SnapshotEffect::End { after });
        }
    }

    /// The next thing that the node is to do for a snapshot. Call it after every turn until there is none.
    pub fn take_snapshot_effect(&mut self) -> Option<SnapshotEffect> {
        self.snapshots.as_mut().and_then(|snapshots| snapshots.effects.pop_front())
    }

    /// Bytes of a [`SnapshotEffect::Write`] are in the file; a turn should follow.
    pub fn on_snapshot_written(&mut self, bytes: Vec<u8>) {
        let Some(snapshots) = &mut self.snapshots else { return };
        snapshots.unwritten = snapshots.unwritten.saturating_sub(bytes.len());
        if bytes.capacity() <= 2 * WRITE_BYTES && snapshots.spare.len() < UNWRITTEN_BYTES_MAX / WRITE_BYTES {
            snapshots.spare.push(bytes);
        }
        self.hand_out();
    }

    /// The snapshot that ended last is complete and safe.
    pub fn on_snapshot_synced(&mut self) {
        let Some(snapshots) = &mut self.snapshots else { return };
        let Some(running) = snapshots.running.take_if(|running| matches!(running.stage, Stage::Syncing))
        else {
            return;
        };
        snapshots.covered_changes = snapshots.begun_changes;
        snapshots.covered_position = snapshots.begun_position;
        self.end_pass(true, running.begun_ns);
    }

    /// The file of the snapshot under way could not be made: it is given up, the previous one stays.
    pub fn on_snapshot_failed(&mut self) {
        self.abandon_snapshot();
    }

    fn abandon_snapshot(&mut self) {
        let Some(snapshots) = &mut self.snapshots else { return };
        let Some(running) = snapshots.running.take() else { return };
        // What was not begun needs no end.
        let unbegun = matches!(snapshots.effects.front(), Some(SnapshotEffect::Begin(_)));
        snapshots.effects.clear();
        if !unbegun {
            snapshots.effects.push_back(SnapshotEffect::Abandon);
        }
        snapshots.unwritten = 0;
        if let Stage::Walk(_) | Stage::Closing = running.stage {
            let before = running.before.borrow_mut().take();
            self.ks.set_effect_sink(before);
        }
        self.end_pass(false, running.begun_ns);
    }

    /// One that was asked for while another was under way follows: what was written before must be in it.
    fn end_pass(&mut self, is_ok: bool, begun_ns: u64) {
        self.note_pass_ended(is_ok, begun_ns);
        if self.is_snapshot_owed() { self.begin_snapshot() } else { self.tell_pass_status() }
    }

    /// Begins a snapshot whose time has come, about every 100 ms.
    pub(crate) fn snapshot_tick(&mut self) {
        let changed = self.changes_since_snapshot() > 0;
        let log_end = self.log_end();
        let Some(snapshots) = &self.snapshots else { return };
        let setup = &snapshots.setup;
        let waited_ns = self.time.monotonic_ns.saturating_sub(snapshots.last_begun_ns);
        let by_time = setup.interval_ms > 0 && waited_ns >= setup.interval_ms.saturating_mul(1_000_000);
        let by_log = setup.log_bytes > 0
            && log_end.saturating_sub(snapshots.covered_position) >= setup.log_bytes
            && (waited_ns >= RETRY_NS || self.has_snapshot_worked());
        if changed && (by_time || by_log) {
            self.begin_snapshot();
        }
    }

    /// How often snapshots are made without being asked for, in seconds; 0: never.
    pub(crate) fn snapshot_interval_seconds(&self) -> u64 {
        self.snapshots.as_ref().map_or(0, |snapshots| snapshots.setup.interval_ms / 1000)
    }

    fn log_end(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.borrow().writer.end().0)
    }

    fn log_has_pending(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.borrow().writer.has_pending())
    }

    /// Term and index of a shard's last entry; without a log there are none.
    fn log_last(&self, shard: ShardId) -> (Term, LogIndex) {
        self.log.as_ref().map_or((Term(0), LogIndex(0)), |log| log.borrow().writer.last_index(shard))
    }

    fn log_last_commit(&self) -> Option<CommitNumber> {
        self.log.as_ref().map(|log| log.borrow().last_commit())
    }
}

/// When a snapshot has failed, a log that is too large is not tried to be made smaller before this time.
const RETRY_NS: u64 = 5_000_000_000;
