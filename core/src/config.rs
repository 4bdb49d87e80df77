//! What a core is built from.

use std::sync::Arc;

use pinnace_engine::EngineConfig;
use pinnace_types::{CoreId, Limits, ShardMap, UnixMillis};

use crate::server::HostSample;

/// The configuration of one core.
pub struct CoreConfig {
    /// This core.
    pub core: CoreId,
    /// Which shards there are and which core owns them.
    pub shards: ShardMap,
    /// What clients may send, hold and cost.
    pub limits: Limits,
    /// The keyspace of this core.
    pub engine: EngineConfig,
    /// Facts about the node, shared by its cores.
    pub node: Arc<NodeInfo>,
    /// Monotonic nanoseconds, for the durations that statistics report. The simulator passes its
    /// own clock; no decision depends on it.
    pub clock_ns: fn() -> u64,
    /// Seed of this core's generator (RANDOMKEY, sampling).
    pub prng_seed: u64,
    /// Changes the driver's idle timeout; `None` without a driver.
    pub set_idle_timeout_ms: Option<Box<dyn Fn(u64)>>,
    /// Reads the driver's counters of this core; `None` without a driver.
    pub driver_counters: Option<Box<dyn Fn() -> DriverCounters>>,
}

/// What the driver of this core has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Connections refused because there were too many.
    pub connections_rejected: u64,
    /// Bytes received.
    pub input_bytes: u64,
    /// Bytes sent.
    pub output_bytes: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Times the core went to sleep.
    pub parks: u64,
    /// Nanoseconds spent working rather than waiting.
    pub busy_ns: u64,
}

/// Facts about the node that do not change while it runs.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Version of this program.
    pub version: String,
    /// 40 hexadecimal digits, new at every start.
    pub run_id: String,
    /// Address the listeners are bound to.
    pub bind: String,
    /// Client port.
    pub port: u16,
    /// Port of core 0's own listener; core `n` listens on this plus `n`.
    pub core_ports: Option<u16>,
    /// Path of the executable.
    pub executable: String,
    /// Path of the configuration file, empty without one.
    pub config_file: String,
    /// Directory for data.
    pub data_dir: String,
    /// Memory budget of the node.
    pub memory_bytes: u64,
    /// When the node started.
    pub start: UnixMillis,
    /// Operating system, as `uname` gives it.
    pub os: String,
    /// Process id.
    pub process_id: u32,
    /// Whether DEBUG may be used.
    pub debug_commands: bool,
    /// Samples the process for INFO.
    pub host_sample: fn() -> HostSample,
}
