//! Messages between cores that nobody answers.

use std::rc::Rc;

use pinnace_types::CoreId;

use crate::core::Core;
use crate::effects::Effect;

/// What a core tells another one.
#[derive(Debug)]
pub enum Control {
    /// A line for the clients that run MONITOR there.
    MonitorLine(Vec<u8>),
    /// The sender has this many clients that run MONITOR now.
    Monitors(u32),
    /// The sender has this many connections now.
    Connections(usize),
    /// The node stops.
    Shutdown,
}

impl Core {
    /// Another core says something.
    pub(crate) fn on_control(&mut self, from: CoreId, control: Control) {
        match control {
            Control::MonitorLine(line) => self.push_to_monitors(&Rc::from(line)),
            Control::Monitors(count) => self.server.monitors.on_count(from, count),
            Control::Connections(count) => self.on_connections(from, count),
            Control::Shutdown => self.effect(Effect::Shutdown),
        }
    }
}
