//! Settings that CONFIG SET changes while the node runs. Each core has its own copy; a change goes
//! to all cores before its OK.

use pinnace_engine::MemoryPolicy;

use crate::config::CoreConfig;

/// The run-time settings of one core.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Commands of at least this many us get into the slow log; negative: none.
    pub(crate) slowlog_slower_than_us: i64,
    /// Entries of the slow log.
    pub(crate) slowlog_len_max: u64,
    /// Commands of at least this many ms are events of the latency monitor; 0: it is off.
    pub(crate) latency_monitor_threshold_ms: u64,
    /// The percentiles that INFO latencystats shows.
    pub(crate) latency_percentiles: Vec<f64>,
    /// What a full memory means for writes.
    pub(crate) memory_policy: MemoryPolicy,
    /// The engine's share of the small queue, hits for promotion, and ghost size.
    pub(crate) small_share_percent: u8,
    pub(crate) promote_threshold: u8,
    pub(crate) ghost_percent: u8,
}

impl Settings {
    pub(super) fn new(config: &CoreConfig) -> Self {
        Self {
            slowlog_slower_than_us: 10_000,
            slowlog_len_max: 128,
            latency_monitor_threshold_ms: 0,
            latency_percentiles: vec![50.0, 99.0, 99.9],
            memory_policy: config.engine.policy,
            small_share_percent: config.engine.small_share_percent,
            promote_threshold: config.engine.promote_threshold,
            ghost_percent: config.engine.ghost_percent,
        }
    }
}
