//! Durability of one core: effects go to its log, replies that depend on them wait until it is synced.
//!
//! - `log.rs`: the effects of a turn as native frames in a [`LogWriter`], and which keys are in flight.
//! - `late.rs`: clients whose writes wait for the log's next segment.
//! - `gate.rs`: replies and answers to other cores that wait for a commit.
//! - `wire.rs`: the wire as the core's code sees it: straight, or through the gate.
//! - `replay.rs`: puts what a log or snapshot holds into the keyspace.
//!
//! An effect is applied and logged at once; only what tells of it waits. So nothing that a client or
//! another core has been told is lost with what was not synced. The core writes no file: the node takes
//! commits with [`Core::take_commit`], writes them in order, and says what is synced.

mod gate;
mod late;
mod log;
mod replay;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;

use pinnace_engine::PinnedValue;
use pinnace_protocol::wire::Wire;
use pinnace_types::{CommitNumber, UnixMillis};
use pinnace_wal::{LogWriter, Sealed};

pub(crate) use gate::Gate;
pub(crate) use late::LateLogs;
pub use log::logged_value_bytes_max;
pub(crate) use log::{Log, Logged};
pub use replay::ReplayError;
pub(crate) use wire::{CoreWire, Direct, Gated};

use crate::core::Core;
use crate::mail::Mail;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is applied in memory; there is no log.
    None,
    /// When it is applied in memory; it is logged, and synced a little later.
    Async,
    /// When the log is synced.
    Sync,
}

/// Versions of this run begin at the unix time of its start in ms, shifted by this: an earlier run would have had to give out
/// a million a millisecond to come here.
const VERSION_FLOOR_SHIFT: u32 = 20;

impl Core {
    /// Ends a replay: the clock is told, and what the replay counted is forgotten. Before anything is served.
    pub fn finish_replay(&mut self, now: UnixMillis) {
        self.ks.set_now(now);
        self.ks.set_version_floor(now.0 << VERSION_FLOOR_SHIFT);
        self.ks.reset_stats();
    }

    /// Logs every effect from now on. Before anything is served.
    ///
    /// # Panics
    /// If `durability` says that there is no log.
    pub fn start_log(&mut self, durability: Durability, writer: LogWriter) {
        assert!(durability != Durability::None, "without durability there is no log to start");
        let log = Rc::new(RefCell::new(Log::new(writer, durability == Durability::Sync)));
        let before = self.ks.set_effect_sink(Some(Box::new(log::Sink(Rc::clone(&log)))));
        assert!(before.is_none(), "the log is the first to be told");
        self.gate = Some(Box::new(Gate::new(Rc::clone(&log), durability == Durability::Sync)));
        self.log = Some(log);
    }

    /// When a write counts as done here.
    #[must_use]
    pub fn durability(&self) -> Durability {
        match &self.log {
            None => Durability::None,
            Some(log) if log.borrow().is_sync() => Durability::Sync,
            Some(_) => Durability::Async,
        }
    }

    /// What the log has taken: effects, commits that are not synced, and whether it is full.
    pub(crate) fn log_counters(&self) -> [u64; 3] {
        let Some(log) = &self.log else { return [0; 3] };
        let log = log.borrow();
        let unsynced = log.last_commit().0.saturating_sub(log.writer.synced().0);
        [log.effects(), unsynced, u64::from(log.refuses_writes())]
    }

    /// Bytes of replies that wait for the log. Between turns.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.gate.as_ref().map_or(0, |gate| gate.held_bytes())
    }

    /// Works on the log's writer, for whoever owns its files; `None` without a log. Effects are appended by the core alone.
    pub fn with_log<T>(&mut self, work: impl FnOnce(&mut LogWriter) -> T) -> Option<T> {
        self.log.as_ref().map(|log| work(&mut log.borrow_mut().writer))
    }

    /// Appends a commit that is to be written to `out`. Call it after every turn until there is none.
    pub fn take_commit(&mut self, out: &mut Vec<u8>) -> Option<Sealed> {
        self.log.as_ref().and_then(|log| log.borrow_mut().writer.seal(out))
    }

    /// Whether somebody waits for the log to be synced who did not have to: an asynchronous log is to be
    /// synced now. Told once.
    pub fn take_sync_wanted(&mut self) -> bool {
        self.gate.as_mut().is_some_and(|gate| gate.take_sync_wanted())
    }

    /// The log is synced up to a commit: sends what has waited for it. Before the turn.
    pub fn on_synced<W>(&mut self, through: CommitNumber, wire: &mut W)
    where
        W: Wire<Pinned = PinnedValue, Mail = Mail>,
    {
        let Some(mut gate) = self.gate.take() else { return };
        gate.set_synced(through);
        let mut wire = Gated::new(wire, &mut gate);
        wire.release(&mut self.sessions, &self.config.limits, &mut self.resume);
        for part in wire.take_synced_parts() {
            self.on_part(part.gather, part.part, part.answer.view(), &mut wire);
        }
        self.apply_effects(&mut wire);
        wire.settle(&mut self.sessions, &self.config.limits);
        gate.take_synced_answers(&mut self.post);
        self.gate = Some(gate);
    }

    /// Whether the log has room for what a command may do.
    #[inline]
    pub(crate) fn admits_writes(&self) -> bool {
        self.log.as_ref().is_none_or(|log| log.borrow().admits_writes())
    }

    /// Whether the log has no room and its disk none for more.
    pub(crate) fn log_refuses_writes(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.borrow().refuses_writes())
    }

    /// The error for a write that the log has no room for.
    #[cold]
    pub(crate) fn log_full_text(&self) -> String {
        format!(
            "MISCONF Errors writing to the log: no space left in {}. Writes are refused until there is, reads go on.",
            self.config.node.data_dir
        )
    }
}
