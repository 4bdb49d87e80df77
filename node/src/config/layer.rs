//! Every setting by its one name: the flag `--some-name`, the variable `PINNACE_SOME_NAME` and the
//! file's key `some_name` (or `some-name`) are the same field.
//!
//! A layer is what one source says; what no source says stays `None` and gets its default in
//! [`super::Settings`].

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use pinnace_types::ByteSize;
use serde::{Deserialize, Serialize};

use super::values::{CoreSelection, Durability, LogFormat, MemorySetting, Policy, Span};

/// What one source (or all of them, merged) says.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    /// Address to listen on; 0.0.0.0 or :: for all [default: 127.0.0.1]
    ///
    /// There are no passwords yet: whoever reaches the port can read, write and delete everything.
    #[arg(long, global = true, value_name = "ADDR", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bind: Option<IpAddr>,

    /// Port of clients, RESP and native alike [default: 7700]
    #[arg(long, global = true, value_name = "N", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,

    /// Port kept for other nodes; this build does not listen on it [default: 7701]
    #[arg(long, global = true, value_name = "N", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_port: Option<u16>,

    /// Port kept for HTTP; this build does not listen on it [default: 7702]
    #[arg(long, global = true, value_name = "N", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_port: Option<u16>,

    /// Core 0 listens on BASE as well, core 1 on BASE+1, and so on [default: off]
    #[arg(long, global = true, value_name = "BASE", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) core_ports: Option<u16>,

    /// Most client connections at a time [default: 10000, or what the open-file limit allows]
    #[arg(long, global = true, value_name = "N", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_connections: Option<u32>,

    /// Close a connection that sends nothing for this long; 0: never [default: 0]
    #[arg(long, global = true, value_name = "SPAN", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout: Option<Span>,

    /// How long a core with nothing to do looks for work before it sleeps [default: 50us]
    #[arg(long, global = true, value_name = "SPAN", help_heading = "Cores")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) busy_poll: Option<Span>,

    /// How long requests of many clients may wait for each other on a busy core; 0: never [default: 200us]
    #[arg(long, global = true, value_name = "SPAN", help_heading = "Cores")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gather: Option<Span>,

    /// Cores: auto, a number (2), or a list of CPUs (0,2-3; one CPU as "3,") [default: auto]
    #[arg(long, global = true, value_name = "N|LIST", help_heading = "Cores")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<CoreSelection>,

    /// Shards of the key space, spread evenly over the cores [default: 256]
    #[arg(long, global = true, value_name = "N", help_heading = "Cores")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shards: Option<u16>,

    /// Memory of all items and their index: auto or a size (512mb, 4GiB) [default: auto]
    ///
    /// Auto is three quarters of what the host or the cgroup has, less 64 MiB for connections.
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Memory")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemorySetting>,

    /// What a write meets when the memory is used up [default: evict]
    #[arg(long, global = true, value_name = "POLICY", help_heading = "Memory")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_policy: Option<Policy>,

    /// Size of the memory segments that items are appended to [default: by memory]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Memory")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment_size: Option<ByteSize>,

    /// Longest key, at most 65535 bytes [default: 65535]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Memory")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_key_size: Option<ByteSize>,

    /// Longest value, at most 512mb [default: 512mb]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Memory")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_value_size: Option<ByteSize>,

    /// Share of the memory for items not seen twice yet, in percent [default: 10]
    #[arg(long, global = true, value_name = "PERCENT", help_heading = "Eviction")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) small_queue_share: Option<u8>,

    /// Reads that move an item to the main queue instead of evicting it: 1 to 3 [default: 2]
    #[arg(long, global = true, value_name = "N", help_heading = "Eviction")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) promote_threshold: Option<u8>,

    /// Evicted keys that are remembered, in percent of the items held [default: 90]
    #[arg(long, global = true, value_name = "PERCENT", help_heading = "Eviction")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ghost_share: Option<u8>,

    /// Directory of the log and the snapshots; unused without durability [default: pinnace-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,

    /// When a write is acknowledged [default: none]
    #[arg(long, global = true, value_name = "MODE", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) durability: Option<Durability>,

    /// Directory of the log, if it is to be on another disk [default: wal in the data directory]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wal_dir: Option<PathBuf>,

    /// Size of a log file; it bounds the largest value while there is a log [default: 64mb]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wal_segment_size: Option<ByteSize>,

    /// Longest time that an acknowledged write is not synced with durability async [default: 100ms]
    #[arg(long, global = true, value_name = "SPAN", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wal_sync_interval: Option<Span>,

    /// Bytes of log after which durability async syncs before that time [default: 16mb]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wal_sync_bytes: Option<ByteSize>,

    /// Make a snapshot so long after the last one if anything was written; 0: never for that reason [default: 0]
    #[arg(long, global = true, value_name = "SPAN", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_interval: Option<Span>,

    /// Make a snapshot when the logs have grown by this since the last one; 0: never for that reason [default: 1gb]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_log_size: Option<ByteSize>,

    /// Allow DEBUG SLEEP and its kin [default: false]
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        help_heading = "Diagnosis"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enable_debug_command: Option<bool>,

    /// error, warn, info, debug, trace, or a tracing filter (info,pinnace=debug) [default: info]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Diagnosis")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_level: Option<String>,

    /// Log lines for people or for machines; json prints no banner [default: text]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Diagnosis")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,
}

impl Layer {
    /// The names of all settings as files write them, in the order of `--help`.
    pub(crate) fn keys() -> Vec<String> {
        Self::augment_args(clap::Command::new("keys"))
            .get_arguments()
            .map(|arg| arg.get_id().to_string())
            .collect()
    }
}
