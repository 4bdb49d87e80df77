//! The parameters of CONFIG, by Redis' names where Redis has one.

use pinnace_engine::MemoryPolicy;

use crate::core::Core;
use crate::durability::Durability;

/// A parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) get: fn(&Core) -> String,
    pub(super) kind: Kind,
}

/// What CONFIG SET may do with it.
pub(super) enum Kind {
    /// Nothing, as in Redis.
    Immutable,
    /// Set it to what it is: Redis can change it, a running node cannot.
    Fixed,
    /// Change it.
    Settable {
        /// Says why a value is refused, in Redis' words.
        check: fn(&str) -> Result<(), String>,
        /// Sets a value that has been checked.
        apply: fn(&mut Core, &str),
    },
}

pub(super) fn find(lower_name: &[u8]) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name.as_bytes() == lower_name)
}

const fn immutable(name: &'static str, get: fn(&Core) -> String) -> Parameter {
    Parameter { name, get, kind: Kind::Immutable }
}

const fn fixed(name: &'static str, get: fn(&Core) -> String) -> Parameter {
    Parameter { name, get, kind: Kind::Fixed }
}

const fn settable(
    name: &'static str,
    get: fn(&Core) -> String,
    check: fn(&str) -> Result<(), String>,
    apply: fn(&mut Core, &str),
) -> Parameter {
    Parameter { name, get, kind: Kind::Settable { check, apply } }
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn no(_core: &Core) -> String {
    yes_no(false)
}

fn yes(_core: &Core) -> String {
    yes_no(true)
}

fn empty(_core: &Core) -> String {
    String::new()
}

fn zero(_core: &Core) -> String {
    "0".to_owned()
}

pub(super) static PARAMETERS: &[Parameter] = &[
    fixed("appendfsync", |core| {
        match core.durability() {
            Durability::None => "no",
            Durability::Async => "everysec",
            Durability::Sync => "always",
        }
        .to_owned()
    }),
    fixed("appendonly", |core| yes_no(core.log.is_some())),
    fixed("bind", |core| core.config.node.bind.clone()),
    fixed("client-output-buffer-limit", |core| {
        let hard = core.config.limits.output_close_bytes;
        format!("normal {hard} 0 0 slave {hard} 0 0 pubsub {hard} 0 0")
    }),
    fixed("client-query-buffer-limit", |core| core.config.limits.request_bytes_max.to_string()),
    immutable("cluster-enabled", no),
    immutable("daemonize", no),
    immutable("databases", |_| "1".to_owned()),
    fixed("dir", |core| core.config.node.data_dir.clone()),
    immutable("enable-debug-command", |core| yes_no(core.config.node.debug_commands)),
    settable(
        "eviction-ghost-percent",
        |core| core.server.settings.ghost_percent.to_string(),
        |value| integer(value, 0, 200).map(drop),
        |core, value| {
            core.server.settings.ghost_percent = number(value);
            core.ks.set_ghost_percent(number(value));
        },
    ),
    settable(
        "eviction-promote-hits",
        |core| core.server.settings.promote_threshold.to_string(),
        |value| integer(value, 1, 3).map(drop),
        |core, value| {
            core.server.settings.promote_threshold = number(value);
            core.ks.set_promote_threshold(number(value));
        },
    ),
    settable(
        "eviction-small-percent",
        |core| core.server.settings.small_share_percent.to_string(),
        |value| integer(value, 1, 99).map(drop),
        |core, value| {
            core.server.settings.small_share_percent = number(value);
            core.ks.set_small_share_percent(number(value));
        },
    ),
    immutable("io-threads", |core| core.core_count().to_string()),
    settable(
        "latency-monitor-threshold",
        |core| core.server.settings.latency_monitor_threshold_ms.to_string(),
        |value| integer(value, 0, i64::MAX).map(drop),
        |core, value| core.server.settings.latency_monitor_threshold_ms = number(value),
    ),
    fixed("latency-tracking", yes),
    settable("latency-tracking-info-percentiles", show_percentiles, check_percentiles, |core, value| {
        core.server.settings.latency_percentiles =
            value.split_whitespace().filter_map(|p| p.parse().ok()).collect();
    }),
    fixed("maxclients", |core| core.config.limits.connections_max.to_string()),
    fixed("maxmemory", |core| core.config.node.memory_bytes.to_string()),
    settable("maxmemory-policy", show_policy, check_policy, |core, value| {
        let policy =
            if value.eq_ignore_ascii_case(NO_EVICTION) { MemoryPolicy::Reject } else { MemoryPolicy::Evict };
        core.server.settings.memory_policy = policy;
        core.ks.set_policy(policy);
    }),
    fixed("notify-keyspace-events", empty),
    fixed("port", |core| core.config.node.port.to_string()),
    fixed("protected-mode", no),
    fixed("proto-max-bulk-len", |core| core.config.limits.value_bytes_max.to_string()),
    fixed("replicaof", empty),
    fixed("requirepass", empty),
    fixed("save", |core| match core.snapshot_interval_seconds() {
        0 => String::new(),
        seconds => format!("{seconds} 1"),
    }),
    settable(
        "slowlog-log-slower-than",
        |core| core.server.settings.slowlog_slower_than_us.to_string(),
        |value| integer(value, -1, i64::MAX).map(drop),
        |core, value| core.server.settings.slowlog_slower_than_us = number(value),
    ),
    settable(
        "slowlog-max-len",
        |core| core.server.settings.slowlog_len_max.to_string(),
        |value| integer(value, 0, i64::MAX).map(drop),
        |core, value| {
            core.server.settings.slowlog_len_max = number(value);
            super::super::slowlog::trim(core);
        },
    ),
    settable(
        "timeout",
        |core| (core.config.limits.idle_timeout_ms / 1000).to_string(),
        |value| integer(value, 0, i64::from(i32::MAX)).map(drop),
        |core, value| {
            core.config.limits.idle_timeout_ms = number::<u64>(value) * 1000;
            if let Some(set) = &core.config.set_idle_timeout_ms {
                set(core.config.limits.idle_timeout_ms);
            }
        },
    ),
    fixed("tls-port", zero),
    immutable("unixsocket", empty),
];

/// Reads a checked number; the check's bounds fit the type.
fn number<T: TryFrom<i64> + Default>(value: &str) -> T {
    value.parse::<i64>().ok().and_then(|value| T::try_from(value).ok()).unwrap_or_default()
}

fn integer(value: &str, min: i64, max: i64) -> Result<i64, String> {
    let Ok(number) = value.parse::<i64>() else {
        return Err("argument couldn't be parsed into an integer".to_owned());
    };
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(format!("argument must be between {min} and {max} inclusive"))
}

/// S3-FIFO is none of Redis' policies, so it has a name of its own.
const EVICTION: &str = "allkeys-s3fifo";
const NO_EVICTION: &str = "noeviction";

fn show_policy(core: &Core) -> String {
    match core.server.settings.memory_policy {
        MemoryPolicy::Evict => EVICTION,
        MemoryPolicy::Reject => NO_EVICTION,
    }
    .to_owned()
}

fn check_policy(value: &str) -> Result<(), String> {
    if [EVICTION, NO_EVICTION].iter().any(|name| name.eq_ignore_ascii_case(value)) {
        return Ok(());
    }
    Err(format!("argument(s) must be one of the following: {EVICTION}, {NO_EVICTION}"))
}

fn show_percentiles(core: &Core) -> String {
    let shown: Vec<String> = core.server.settings.latency_percentiles.iter().map(f64::to_string).collect();
    shown.join(" ")
}

fn check_percentiles(value: &str) -> Result<(), String> {
    const NAME: &str = "latency-tracking-info-percentiles";
    for percentile in value.split_whitespace() {
        let Ok(percentile) = percentile.parse::<f64>() else {
            return Err(format!("Invalid {NAME} parameters"));
        };
        if !(0.0..=100.0).contains(&percentile) {
            return Err(format!("{NAME} parameters should sit between [0.0,100.0]"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PARAMETERS, check_percentiles, integer};

    #[test]
    fn names_are_lower_case_sorted_and_unique() {
        assert!(PARAMETERS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(PARAMETERS.iter().all(|p| p.name.to_ascii_lowercase() == p.name));
    }

    #[test]
    fn refusals_read_as_in_redis() {
        assert_eq!(integer("5", 0, 9), Ok(5));
        assert_eq!(integer("x", 0, 9).unwrap_err(), "argument couldn't be parsed into an integer");
        assert_eq!(integer("-1", 0, 9).unwrap_err(), "argument must be between 0 and 9 inclusive");
        assert!(check_percentiles("50 99.9").is_ok());
        assert!(check_percentiles("50 101").unwrap_err().ends_with("[0.0,100.0]"));
    }
}
