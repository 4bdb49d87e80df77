//! What the node runs with: every setting has a value, and every value is in range.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use pinnace_types::{ByteSize, Limits, SLOT_COUNT};
use pinnace_wal::{BLOCK_BYTES, LogLimits};

use super::layer::Layer;
use super::values::{CoreSelection, Durability, LogFormat, MemorySetting, Policy, Span};

/// The settings of a node. See [`Layer`] for what each means to its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) bind: IpAddr,
    pub(crate) port: u16,
    pub(crate) peer_port: u16,
    pub(crate) http_port: u16,
    pub(crate) core_ports: Option<u16>,
    /// `None`: the default, lowered to what the open-file limit allows.
    pub(crate) max_connections: Option<u32>,
    pub(crate) idle_timeout: Span,
    pub(crate) busy_poll: Span,
    pub(crate) gather: Span,
    pub(crate) cores: CoreSelection,
    pub(crate) shards: u16,
    pub(crate) memory: MemorySetting,
    pub(crate) memory_policy: Policy,
    /// `None`: the engine chooses by its budget.
    pub(crate) segment_size: Option<ByteSize>,
    pub(crate) max_key_size: ByteSize,
    /// `None`: the default limit, or what the log takes if that is less.
    pub(crate) max_value_size: Option<ByteSize>,
    pub(crate) small_queue_share: u8,
    pub(crate) promote_threshold: u8,
    pub(crate) ghost_share: u8,
    pub(crate) data_dir: PathBuf,
    pub(crate) durability: Durability,
    /// `None`: below the data directory.
    pub(crate) wal_dir: Option<PathBuf>,
    pub(crate) wal_segment_size: ByteSize,
    pub(crate) wal_sync_interval: Span,
    pub(crate) wal_sync_bytes: ByteSize,
    pub(crate) snapshot_interval: Span,
    /// Of all cores together; each has an equal part.
    pub(crate) snapshot_log_size: ByteSize,
    pub(crate) enable_debug_command: bool,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
}

/// A setting out of range: its key and what to write instead.
type Refusal = (&'static str, String);

impl Settings {
    /// Fills in the defaults.
    pub(super) fn from_layer(layer: Layer) -> Self {
        Self {
            bind: layer.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: layer.port.unwrap_or(7700),
            peer_port: layer.peer_port.unwrap_or(7701),
            http_port: layer.http_port.unwrap_or(7702),
            core_ports: layer.core_ports,
            max_connections: layer.max_connections,
            idle_timeout: layer
                .idle_timeout
                .unwrap_or(Span(Duration::from_millis(Limits::DEFAULT.idle_timeout_ms))),
            busy_poll: layer.busy_poll.unwrap_or(Span(Duration::from_micros(50))),
            gather: layer.gather.unwrap_or(Span(Duration::from_micros(200))),
            cores: layer.cores.unwrap_or(CoreSelection::Auto),
            shards: layer.shards.unwrap_or(256),
            memory: layer.memory.unwrap_or(MemorySetting::Auto),
            memory_policy: layer.memory_policy.unwrap_or(Policy::Evict),
            segment_size: layer.segment_size,
            max_key_size: layer.max_key_size.unwrap_or(ByteSize(u64::from(Limits::DEFAULT.key_bytes_max))),
            max_value_size: layer.max_value_size,
            small_queue_share: layer.small_queue_share.unwrap_or(10),
            promote_threshold: layer.promote_threshold.unwrap_or(2),
            ghost_share: layer.ghost_share.unwrap_or(90),
            data_dir: absolute(layer.data_dir.unwrap_or_else(|| PathBuf::from("pinnace-data"))),
            durability: layer.durability.unwrap_or(Durability::None),
            wal_dir: layer.wal_dir.map(absolute),
            wal_segment_size: layer.wal_segment_size.unwrap_or(ByteSize(LogLimits::DEFAULT.segment_bytes)),
            wal_sync_interval: layer.wal_sync_interval.unwrap_or(Span(Duration::from_millis(100))),
            wal_sync_bytes: layer.wal_sync_bytes.unwrap_or(ByteSize(16 << 20)),
            snapshot_interval: layer.snapshot_interval.unwrap_or(Span(Duration::ZERO)),
            snapshot_log_size: layer.snapshot_log_size.unwrap_or(ByteSize(1 << 30)),
            enable_debug_command: layer.enable_debug_command.unwrap_or(false),
            log_level: layer.log_level.unwrap_or_else(|| "info".to_owned()),
            log_format: layer.log_format.unwrap_or(LogFormat::Text),
        }
    }

    /// Checks every range that needs no knowledge of the host.
    pub(super) fn validate(&self) -> Result<(), Refusal> {
        in_range("shards", u64::from(self.shards), 1, u64::from(SLOT_COUNT))?;
        in_range("max_key_size", self.max_key_size.0, 1, u64::from(Limits::DEFAULT.key_bytes_max))?;
        if let Some(size) = self.max_value_size {
            in_range("max_value_size", size.0, 1, Limits::DEFAULT.value_bytes_max)?;
        }
        in_range("small_queue_share", u64::from(self.small_queue_share), 1, 90)?;
        in_range("promote_threshold", u64::from(self.promote_threshold), 1, 3)?;
        in_range("ghost_share", u64::from(self.ghost_share), 0, 200)?;
        if let Some(connections) = self.max_connections {
            in_range("max_connections", u64::from(connections), 1, 10_000_000)?;
        }
        if let Some(size) = self.segment_size {
            in_range("segment_size", size.0, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?;
            if !size.0.is_power_of_two() {
                return Err(("segment_size", format!("{size} is not a power of two: try 256k, 512k or 1mb")));
            }
        }
        for (key, span) in [("busy_poll", self.busy_poll), ("gather", self.gather)] {
            if span.0 > CORE_WAIT_MAX {
                return Err((key, format!("{span} is too long: at most {}", Span(CORE_WAIT_MAX))));
            }
        }
        self.validate_log()?;
        self.validate_ports()
    }

    fn validate_log(&self) -> Result<(), Refusal> {
        in_range("wal_segment_size", self.wal_segment_size.0, WAL_SEGMENT_BYTES_MIN, WAL_SEGMENT_BYTES_MAX)?;
        if !self.wal_segment_size.0.is_multiple_of(BLOCK_BYTES) {
            let text =
                format!("{} is not a multiple of {BLOCK_BYTES} bytes: try 64mb", self.wal_segment_size);
            return Err(("wal_segment_size", text));
        }
        let interval = self.wal_sync_interval;
        if !(WAL_SYNC_INTERVAL_MIN..=WAL_SYNC_INTERVAL_MAX).contains(&interval.0) {
            let (min, max) = (Span(WAL_SYNC_INTERVAL_MIN), Span(WAL_SYNC_INTERVAL_MAX));
            return Err(("wal_sync_interval", format!("{interval} is out of range: write {min} to {max}")));
        }
        in_range("wal_sync_bytes", self.wal_sync_bytes.0, BLOCK_BYTES, u64::MAX)?;
        let interval = self.snapshot_interval;
        if !interval.0.is_zero() && interval.0 < SNAPSHOT_INTERVAL_MIN {
            let text = format!(
                "{interval} is too short: write 0 for never, or {} and more",
                Span(SNAPSHOT_INTERVAL_MIN)
            );
            return Err(("snapshot_interval", text));
        }
        match self.snapshot_log_size.0 {
            0 => Ok(()),
            size => in_range("snapshot_log_size", size, SNAPSHOT_LOG_BYTES_MIN, u64::MAX),
        }
    }

    /// Where the log is.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.wal_dir.clone().unwrap_or_else(|| self.data_dir.join("wal"))
    }

    /// Where snapshots are.
    pub(crate) fn snapshot_dir(&self) -> PathBuf {
        self.data_dir.join("snapshots")
    }

    /// Ports that are kept for later are checked like those in use, so that a configuration which is
    /// fine today still is when they open.
    fn validate_ports(&self) -> Result<(), Refusal> {
        let ports = [("port", self.port), ("peer_port", self.peer_port), ("http_port", self.http_port)];
        for (position, (key, port)) in ports.into_iter().enumerate() {
            if port == 0 {
                return Err((key, "0 is not a port: write 1 to 65535".to_owned()));
            }
            if let Some((other, _)) = ports[..position].iter().find(|(_, taken)| *taken == port) {
                return Err((key, format!("{port} is taken by {other} already: give each its own port")));
            }
        }
        if self.core_ports == Some(0) {
            return Err(("core_ports", "0 is not a port: write 1 to 65535".to_owned()));
        }
        Ok(())
    }

    /// The ports that have an owner, by key, for checking a range against them.
    pub(crate) fn named_ports(&self) -> [(&'static str, u16); 3] {
        [("port", self.port), ("peer-port", self.peer_port), ("http-port", self.http_port)]
    }

    /// Every setting as TOML text, in the order of `--help`; `None` for one that is off or chosen at start.
    pub(super) fn entries(&self) -> Vec<(&'static str, Option<String>)> {
        let text = |value: &dyn std::fmt::Display| Some(format!("\"{value}\""));
        let number = |value: u64| Some(value.to_string());
        vec![
            ("bind", text(&self.bind)),
            ("port", number(self.port.into())),
            ("peer_port", number(self.peer_port.into())),
            ("http_port", number(self.http_port.into())),
            ("core_ports", self.core_ports.map(|port| port.to_string())),
            ("max_connections", self.max_connections.map(|count| count.to_string())),
            ("idle_timeout", text(&self.idle_timeout)),
            ("busy_poll", text(&self.busy_poll)),
            ("gather", text(&self.gather)),
            ("cores", text(&self.cores)),
            ("shards", number(self.shards.into())),
            ("memory", text(&self.memory)),
            ("memory_policy", value_name(self.memory_policy)),
            ("segment_size", self.segment_size.map(|size| size.0.to_string())),
            ("max_key_size", number(self.max_key_size.0)),
            ("max_value_size", self.max_value_size.map(|size| size.0.to_string())),
            ("small_queue_share", number(self.small_queue_share.into())),
            ("promote_threshold", number(self.promote_threshold.into())),
            ("ghost_share", number(self.ghost_share.into())),
            ("data_dir", Some(format!("{:?}", self.data_dir.display().to_string()))),
            ("durability", value_name(self.durability)),
            ("wal_dir", self.wal_dir.as_ref().map(|dir| format!("{:?}", dir.display().to_string()))),
            ("wal_segment_size", number(self.wal_segment_size.0)),
            ("wal_sync_interval", text(&self.wal_sync_interval)),
            ("wal_sync_bytes", number(self.wal_sync_bytes.0)),
            ("snapshot_interval", text(&self.snapshot_interval)),
            ("snapshot_log_size", number(self.snapshot_log_size.0)),
            ("enable_debug_command", Some(self.enable_debug_command.to_string())),
            ("log_level", Some(format!("{:?}", self.log_level))),
            ("log_format", value_name(self.log_format)),
        ]
    }
}

/// Smallest segment: an eighth of it is where values get blocks of their own, and below 8 KiB those
/// blocks cost more than they hold.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Largest segment: cleaning moves the survivors of one at a time.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// Smallest and largest log file: room for a few commits, and a start that reads one at a time.
const WAL_SEGMENT_BYTES_MIN: u64 = 1 << 20;
const WAL_SEGMENT_BYTES_MAX: u64 = 2 << 30;

/// A shorter interval is `sync` without its promise; a longer one is a log that loses an hour.
const WAL_SYNC_INTERVAL_MIN: Duration = Duration::from_millis(1);
const WAL_SYNC_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// A snapshot reads every item: more often than this a node does nothing else.
const SNAPSHOT_INTERVAL_MIN: Duration = Duration::from_secs(1);
const SNAPSHOT_LOG_BYTES_MIN: u64 = 1 << 20;

/// Longer than this, a core that looks for work is never idle, and clients notice that they wait.
const CORE_WAIT_MAX: Duration = Duration::from_millis(10);

/// The name of an enumerated value, quoted as TOML wants it.
fn value_name(value: impl clap::ValueEnum) -> Option<String> {
    value.to_possible_value().map(|possible| format!("\"{}\"", possible.get_name()))
}

fn in_range(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), Refusal> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err((key, format!("{value} is out of range: write {min} to {max}")))
}

/// A place below the directory in which the process was started, wherever it is opened from: the executor takes a relative
/// path to be below a directory that is not there.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
