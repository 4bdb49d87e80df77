//! Commands that are about connections, the node and its parts rather than about keys.
//!
//! A command runs on the core of its connection. What concerns all cores is gathered: each core
//! gives its part in bytes, the asked core joins them. Nothing here touches a key.

mod acl;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod container;
pub(crate) mod control;
mod debug;
mod host;
mod info;
mod latency;
mod memory;
mod monitor;
mod node;
mod parts;
pub(crate) mod pubsub;
mod redact;
mod reply;
mod save;
mod settings;
mod slowlog;

use pinnace_types::ConnId;

pub(crate) use self::container::resolve;
pub use self::host::HostSample;
use crate::command::CommandSpec;
use crate::config::CoreConfig;
use crate::core::Core;

/// The version of Redis whose replies are given; clients choose features by it.
pub(crate) const REDIS_VERSION: &str = "7.2.4";

/// What the commands of this module keep on each core.
pub(crate) struct State {
    pub(crate) settings: settings::Settings,
    pub(crate) pubsub: pubsub::PubSub,
    pub(crate) monitors: monitor::Monitors,
    pub(crate) slowlog: slowlog::SlowLog,
    pub(crate) latency: latency::LatencyMonitor,
    pub(crate) rates: info::Rates,
}

impl State {
    pub(crate) fn new(config: &CoreConfig) -> Self {
        Self {
            settings: settings::Settings::new(config),
            pubsub: pubsub::PubSub::default(),
            monitors: monitor::Monitors::new(config.shards.core_count()),
            slowlog: slowlog::SlowLog::default(),
            latency: latency::LatencyMonitor::default(),
            rates: info::Rates::default(),
        }
    }

    /// Clients of all cores that run MONITOR.
    #[inline]
    pub(crate) fn monitors(&self) -> u32 {
        self.monitors.total()
    }
}

/// The commands of this module.
pub(crate) fn families() -> Vec<&'static [CommandSpec]> {
    vec![
        connection::SPECS,
        node::SPECS,
        save::SPECS,
        info::SPECS,
        command::SPECS,
        config::SPECS,
        client::SPECS,
        memory::SPECS,
        slowlog::SPECS,
        latency::SPECS,
        monitor::SPECS,
        pubsub::SPECS,
        debug::SPECS,
        cluster::SPECS,
        acl::SPECS,
    ]
}

/// A connection is about to be forgotten.
pub(crate) fn on_session_closed(core: &mut Core, conn: ConnId) {
    pubsub::forget(core, conn);
    monitor::stop(core, conn);
}

/// About every 100 ms.
pub(crate) fn on_tick(core: &mut Core) {
    info::sample_rates(core);
}
