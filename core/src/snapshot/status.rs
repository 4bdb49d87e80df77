//! What every core knows of the snapshots of all cores, and who waits for them.

use pinnace_types::{ConnId, CoreId, UnixMillis};

use crate::core::Core;
use crate::server::control::{Control, SnapshotNews};
use crate::session::Hold;

/// A core's snapshots as the others know them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassStatus {
    pub(crate) is_running: bool,
    /// When the one under way began, or the last one.
    pub(crate) begun: UnixMillis,
    /// When the last complete one was complete.
    pub(crate) saved: UnixMillis,
    pub(crate) saves: u64,
    /// How the last one ended, and how long it took; true and `None` before the first.
    pub(crate) is_ok: bool,
    pub(crate) took_ms: Option<u64>,
}

/// What follows when the snapshots that a connection waits for are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenSaved {
    /// It is told.
    Reply,
    /// The node stops.
    Shutdown,
}

/// The snapshots of all cores.
pub(crate) struct Statuses {
    cores: Vec<PassStatus>,
    /// Times that this core has asked all for one, and how many of these each has served.
    requests: u64,
    done: Vec<u64>,
    /// By core: times it has asked this one, those that the pass under way serves, those that were served.
    asked: Vec<u64>,
    serving: Vec<u64>,
    served: Vec<u64>,
    /// Connections that have sent SAVE, or SHUTDOWN SAVE.
    waiting: Vec<(ConnId, WhenSaved)>,
    /// Whether every snapshot that ended since they began to wait is good.
    all_ok: bool,
}

impl Statuses {
    pub(crate) fn new(core_count: u16, start: UnixMillis) -> Self {
        let status = PassStatus {
            is_running: false,
            begun: start,
            saved: start,
            saves: 0,
            is_ok: true,
            took_ms: None,
        };
        let count = usize::from(core_count);
        Self {
            cores: vec![status; count],
            requests: 0,
            done: vec![0; count],
            asked: vec![0; count],
            serving: vec![0; count],
            served: vec![0; count],
            waiting: Vec::new(),
            all_ok: true,
        }
    }

    /// Whether any core makes one, or is about to.
    pub(crate) fn is_running(&self) -> bool {
        self.cores.iter().any(|status| status.is_running) || self.is_owed()
    }

    fn is_owed(&self) -> bool {
        self.done.iter().any(|&done| done < self.requests)
    }

    /// When every core had a complete one last; the node's start before the first.
    pub(crate) fn saved(&self) -> UnixMillis {
        self.cores.iter().map(|status| status.saved).min().unwrap_or(UnixMillis(0))
    }

    /// Complete snapshots that every core has made.
    pub(crate) fn saves(&self) -> u64 {
        self.cores.iter().map(|status| status.saves).min().unwrap_or(0)
    }

    /// Whether the last one of every core is good.
    pub(crate) fn is_ok(&self) -> bool {
        self.cores.iter().all(|status| status.is_ok)
    }

    /// How long the last ones took, the longest of them.
    pub(crate) fn took_ms(&self) -> Option<u64> {
        self.cores.iter().filter_map(|status| status.took_ms).max()
    }

    /// When the ones under way began.
    pub(crate) fn begun(&self) -> Option<UnixMillis> {
        self.cores.iter().filter(|status| status.is_running).map(|status| status.begun).min()
    }
}

impl Core {
    /// Makes every core begin a snapshot.
    pub(crate) fn begin_all_snapshots(&mut self) {
        self.statuses.all_ok = true;
        self.statuses.requests += 1;
        let own = self.config.core;
        for to in (0..self.core_count()).map(CoreId).filter(|&to| to != own) {
            self.send_control(to, Control::BeginSnapshot);
        }
        self.want_snapshot(own);
    }

    /// The reply to a connection that has sent SAVE comes when all cores are done.
    pub(crate) fn wait_for_snapshots(&mut self, conn: ConnId, then: WhenSaved) {
        self.statuses.waiting.push((conn, then));
    }

    /// Somebody wants a snapshot of what there is now.
    pub(crate) fn want_snapshot(&mut self, from: CoreId) {
        self.statuses.asked[from.index()] += 1;
        self.begin_snapshot();
    }

    /// A core has begun a snapshot or ended one; it has served so many of this core's requests.
    pub(crate) fn on_pass_status(&mut self, from: CoreId, status: PassStatus, served: u64) {
        self.statuses.cores[from.index()] = status;
        self.statuses.done[from.index()] = served;
        self.statuses.all_ok &= status.is_running || status.is_ok;
        if self.statuses.is_owed() {
            return;
        }
        let is_ok = std::mem::replace(&mut self.statuses.all_ok, true);
        for (conn, then) in std::mem::take(&mut self.statuses.waiting) {
            if let Some((.., reply)) = self.delayed_replies.iter_mut().find(|(delayed, ..)| *delayed == conn)
                && !is_ok
            {
                *reply = SAVE_FAILED.to_vec();
            }
            if then == WhenSaved::Shutdown && is_ok {
                self.shut_down();
            }
            // Time goes on with the next turn: the reply is due then.
            if let Some(session) = self.session_mut(conn) {
                session.hold = Hold::Until(0);
            }
        }
    }

    pub(super) fn tell_pass_begun(&mut self) {
        self.statuses.serving.clone_from(&self.statuses.asked);
        let own = self.config.core.index();
        self.statuses.cores[own].is_running = true;
        self.statuses.cores[own].begun = self.time.wall;
        self.tell_pass_status();
    }

    pub(super) fn note_pass_ended(&mut self, is_ok: bool, begun_ns: u64) {
        let (wall, now_ns) = (self.time.wall, self.time.monotonic_ns);
        self.statuses.served.clone_from(&self.statuses.serving);
        let status = &mut self.statuses.cores[self.config.core.index()];
        status.is_running = false;
        if is_ok {
            status.saved = wall;
            status.saves += 1;
        }
        status.is_ok = is_ok;
        status.took_ms = Some(now_ns.saturating_sub(begun_ns) / 1_000_000);
    }

    /// Tells every core how this one's snapshots are.
    pub(super) fn tell_pass_status(&mut self) {
        let own = self.config.core;
        let status = self.statuses.cores[own.index()];
        for to in (0..self.core_count()).map(CoreId).filter(|&to| to != own) {
            let served = self.statuses.served[to.index()];
            self.send_control(to, Control::Snapshot(SnapshotNews { status, served }));
        }
        self.on_pass_status(own, status, self.statuses.served[own.index()]);
    }

    /// Whether this core's last snapshot is good, or there was none.
    pub(super) fn has_snapshot_worked(&self) -> bool {
        self.statuses.cores[self.config.core.index()].is_ok
    }

    /// Whether somebody has asked for a snapshot since the last one began.
    pub(super) fn is_snapshot_owed(&self) -> bool {
        self.statuses.asked != self.statuses.served
    }
}

const SAVE_FAILED: &[u8] = b"-ERR the snapshot could not be written: see the node's log\r\n";
