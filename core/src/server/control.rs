//! Messages between cores that nobody answers.

use std::rc::Rc;

use pinnace_types::CoreId;

use crate::core::Core;
use crate::effects::Effect;
use crate::snapshot::PassStatus;

/// What a core tells another one.
#[derive(Debug)]
pub enum Control {
    /// A line for the clients that run MONITOR there.
    MonitorLine(Vec<u8>),
    /// The sender has this many clients that run MONITOR now.
    Monitors(u32),
    /// The sender has this many connections now.
    Connections(usize),
    /// A snapshot is to be made.
    BeginSnapshot,
    /// The sender has begun or ended a snapshot.
    Snapshot(SnapshotNews),
    /// Whether the sender's log waits for its next segment.
    LogIsLate(bool),
    /// The node stops.
    Shutdown,
}

/// How a core's snapshots are.
#[derive(Debug)]
pub struct SnapshotNews {
    pub(crate) status: PassStatus,
    /// The receiver's requests that the sender has served.
    pub(crate) served: u64,
}

impl Core {
    /// Another core says something.
    pub(crate) fn on_control(&mut self, from: CoreId, control: Control) {
        match control {
            Control::MonitorLine(line) => self.push_to_monitors(&Rc::from(line)),
            Control::Monitors(count) => self.server.monitors.on_count(from, count),
            Control::Connections(count) => self.on_connections(from, count),
            Control::BeginSnapshot => self.want_snapshot(from),
            Control::Snapshot(news) => self.on_pass_status(from, news.status, news.served),
            Control::LogIsLate(is_late) => self.late_logs.on_told(from, is_late),
            Control::Shutdown => self.effect(Effect::Shutdown),
        }
    }
}
