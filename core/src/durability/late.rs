//! Clients whose writes wait because a log's next segment is not ready yet, though its disk has room.
//!
//! A log's core tells the others, so that the requests wait with their sessions, wherever their keys are, and no
//! request for a read stands behind one of another client. What is on its way to the core by then is taken,
//! and so is the rest of a command that was let in: their commits wait in memory until the segment is there.
//! That is what the sessions may have under way at other cores, and no session sends more.

use pinnace_types::{ConnId, CoreId, SegmentNumber};

use crate::batch::Route;
use crate::core::Core;
use crate::server::control::Control;
use crate::session::Hold;

/// Which cores' logs wait for a segment, as far as this one knows, and its sessions that wait with them.
pub(crate) struct LateLogs {
    /// By core; this one's is what the others have been told.
    is_late: Vec<bool>,
    waiting: Vec<ConnId>,
}

impl LateLogs {
    pub(crate) fn new(core_count: usize) -> Self {
        Self { is_late: vec![false; core_count], waiting: Vec::new() }
    }

    /// Whether a session waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Another core says how its log is.
    pub(crate) fn on_told(&mut self, from: CoreId, is_late: bool) {
        self.is_late[from.index()] = is_late;
    }
}

impl Core {
    /// What the disk of the log says, before a turn: segments up to `ready` can be written, and `is_short` if it has no room
    /// for another.
    pub fn on_log_disk(&mut self, ready: SegmentNumber, is_short: bool) {
        let Some(log) = &self.log else { return };
        let mut log = log.borrow_mut();
        log.writer.on_segment_ready(ready);
        log.set_short(is_short);
    }

    /// Whether clients have to wait until the log has a further segment.
    #[must_use]
    pub fn is_log_late(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.borrow().is_late())
    }

    /// Whether a log that a write with this route goes to is late.
    pub(crate) fn is_a_log_late(&self, route: Route) -> bool {
        let is_own_late = !matches!(route, Route::Remote(_)) && self.is_log_late();
        is_own_late || self.is_another_log_late(route)
    }

    /// The same without this core's.
    #[inline]
    pub(crate) fn is_another_log_late(&self, route: Route) -> bool {
        match route {
            Route::Local => false,
            Route::Remote(to) => self.late_logs.is_late[to.index()],
            Route::Undecided => {
                let own = self.config.core.index();
                self.late_logs.is_late.iter().enumerate().any(|(core, &is_late)| is_late && core != own)
            }
        }
    }

    /// The session's next command is run again from its first byte once no log is late.
    #[cold]
    pub(crate) fn wait_for_segment(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.hold(Hold::Segment);
        self.late_logs.waiting.push(conn);
    }

    /// Tells the other cores if the log has become late or is no longer, and lets the sessions go on that have waited.
    pub(crate) fn look_at_late_logs(&mut self) {
        if self.log.is_none() {
            return;
        }
        let own = self.config.core;
        let is_late = self.is_log_late();
        if is_late != self.late_logs.is_late[own.index()] {
            self.late_logs.is_late[own.index()] = is_late;
            for to in (0..self.core_count()).map(CoreId).filter(|&to| to != own) {
                self.send_control(to, Control::LogIsLate(is_late));
            }
        }
        if self.late_logs.waiting.is_empty() || self.late_logs.is_late.contains(&true) {
            return;
        }
        for conn in std::mem::take(&mut self.late_logs.waiting) {
            self.release(conn, Hold::Segment);
        }
    }
}
