//! What a node says when it is ready: at most 100 columns, everything that one needs to connect.

use std::fmt::Write as _;
use std::net::IpAddr;

use pinnace_types::ByteSize;

use crate::config::{Durability, Policy, Settings, cpu_list};
use crate::plan::Plan;

/// The banner, with a line feed at its end.
pub(crate) fn banner(settings: &Settings, plan: &Plan) -> String {
    let cores = match plan.cpus.as_slice() {
        [one] => format!("1 (CPU {one})"),
        cpus => format!("{} (CPUs {})", cpus.len(), cpu_list(cpus)),
    };
    let policy = match settings.memory_policy {
        Policy::Evict => "evicts when full",
        Policy::Reject => "refuses writes when full",
    };
    let memory =
        format!("{}, {} a core, {policy}", ByteSize(plan.memory_bytes), ByteSize(plan.core_memory_bytes));
    let mut ports = format!("{} clients", plan.address);
    if let (Some(first), Some(last)) = (plan.core_addresses.first(), plan.core_addresses.last()) {
        // Writing to a String cannot fail.
        let _ = write!(ports, ", {}-{} one core each", first.port(), last.port());
    }
    let kept = format!("{} nodes, {} HTTP (not used yet)", settings.peer_port, settings.http_port);
    let data = match settings.durability {
        Durability::None => format!("{} (unused without durability)", settings.data_dir.display()),
        _ => match &settings.wal_dir {
            Some(log) => format!("{}, log in {}", settings.data_dir.display(), log.display()),
            None => settings.data_dir.display().to_string(),
        },
    };
    let durability = match settings.durability {
        Durability::None => "none: items live in memory only".to_owned(),
        Durability::Async => {
            format!("async: a write is acknowledged at once and synced within {}", settings.wal_sync_interval)
        }
        Durability::Sync => "sync: a write is acknowledged when it is synced".to_owned(),
    };
    let rows = [
        ("cores", cores),
        ("memory", memory),
        ("ports", ports),
        ("kept", kept),
        ("data", data),
        ("durability", durability),
        ("try", try_line(plan)),
    ];
    let mut text = format!("Pinnace {}\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in rows {
        let value = shorten(&value, COLUMNS_MAX - NAME_COLUMNS);
        let _ = writeln!(text, "  {name:<11}{value}");
    }
    text
}

/// Widest line.
const COLUMNS_MAX: usize = 100;

/// Indent and name of a row.
const NAME_COLUMNS: usize = 13;

/// A command that talks to this node.
fn try_line(plan: &Plan) -> String {
    let host = match plan.address.ip() {
        ip if ip.is_unspecified() || ip == IpAddr::from([127, 0, 0, 1]) => String::new(),
        ip => format!("-h {ip} "),
    };
    format!("redis-cli {host}-p {} set greeting hello", plan.address.port())
}

/// Cuts the middle out of what is too long, such as a deep directory or many CPUs.
fn shorten(text: &str, columns_max: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= columns_max {
        return text.to_owned();
    }
    let half = (columns_max - 3) / 2;
    chars[..half].iter().chain(&['.'; 3]).chain(&chars[chars.len() - half..]).collect()
}

#[cfg(test)]
mod tests {
    use super::banner;
    use crate::config::{Config, Layer};
    use crate::host::Host;
    use crate::plan::Plan;

    fn text(flags: &Layer, cpus: Vec<usize>) -> String {
        let host = Host { cpus, cpu_quota: None, memory_bytes: 8 << 30, memory_is_cgroup_limit: false };
        let settings = Config::load(flags, &[], None).unwrap().settings;
        banner(&settings, &Plan::make(&settings, &host).unwrap())
    }

    #[test]
    fn everything_one_needs_to_connect_is_there() {
        let text = text(&Layer::default(), vec![0, 1]);
        for part in [
            env!("CARGO_PKG_VERSION"),
            "2 (CPUs 0-1)",
            "5.94 GiB, 2.97 GiB a core",
            "127.0.0.1:7700",
            "7701",
            "7702",
            "pinnace-data",
            "durability none",
            "redis-cli -p 7700 ",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn no_line_is_wider_than_100_columns() {
        let flags = Layer {
            bind: Some("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap()),
            core_ports: Some(20_000),
            data_dir: Some("/a/very/deep/directory".repeat(12).into()),
            ..Layer::default()
        };
        let text = text(&flags, (0..128).step_by(2).collect());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("20000-20063 one core each") && text.contains("-h 2001:db8:"), "{text}");
    }
}
