//! The sections of INFO, in Redis' order.

use std::fmt::Write as _;

use super::super::REDIS_VERSION;
use super::super::config::{latency_percentiles, memory_policy_name};
use super::sample::{CommandSample, Sample};
use crate::core::Core;
use crate::stats::LATENCY_BUCKETS;

/// A section.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// Whether it is shown when no section is named.
    pub(super) by_default: bool,
    pub(super) write: fn(&Core, &Sample, &mut String),
}

const fn section(title: &'static str, write: fn(&Core, &Sample, &mut String)) -> Section {
    Section { title, by_default: true, write }
}

const fn on_demand(title: &'static str, write: fn(&Core, &Sample, &mut String)) -> Section {
    Section { title, by_default: false, write }
}

pub(super) static SECTIONS: &[Section] = &[
    section("Server", server),
    section("Clients", clients),
    section("Memory", memory),
    section("Persistence", persistence),
    section("Stats", stats),
    section("Replication", replication),
    section("CPU", cpu),
    section("Modules", |_, _, _| ()),
    on_demand("Commandstats", command_stats),
    section("Errorstats", error_stats),
    on_demand("Latencystats", latency_stats),
    section("Cluster", |_, _, text| line(text, "cluster_enabled", 0)),
    section("Keyspace", keyspace),
    section("Cores", cores),
];

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    write!(text, "{name}:{value}\r\n").expect("a String takes all that is written");
}

/// A number of bytes, and the same for people.
fn bytes(text: &mut String, name: &str, value: u64) {
    line(text, name, value);
    line(text, &format!("{name}_human"), human(value));
}

/// As Redis prints sizes: `1.50M`.
fn human(bytes: u64) -> String {
    const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];
    match UNITS.iter().find(|(_, shift)| bytes >= 1 << shift) {
        Some((unit, shift)) => format!("{:.2}{unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes}B"),
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2}%", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

fn server(core: &Core, _sample: &Sample, text: &mut String) {
    let (node, wall) = (&core.config.node, core.time.wall.0);
    let uptime_s = wall.saturating_sub(node.start.0) / 1000;
    line(text, "redis_version", REDIS_VERSION);
    line(text, "pinnace_version", &node.version);
    line(text, "redis_mode", "standalone");
    line(text, "os", &node.os);
    line(text, "arch_bits", usize::BITS);
    line(text, "multiplexing_api", "io_uring");
    line(text, "process_id", node.process_id);
    line(text, "run_id", &node.run_id);
    line(text, "tcp_port", node.port);
    line(text, "server_time_usec", wall * 1000 + u64::from(core.time.wall_micros));
    line(text, "uptime_in_seconds", uptime_s);
    line(text, "uptime_in_days", uptime_s / 86_400);
    line(text, "executable", &node.executable);
    line(text, "config_file", &node.config_file);
    line(text, "data_cores", core.core_count());
    line(text, "shards", core.config.shards.shard_count());
    line(text, "listener0", format_args!("name=tcp,bind={},port={}", node.bind, node.port));
    if let Some(base) = node.core_ports {
        for index in 0..core.core_count() {
            let port = base + index;
            line(
                text,
                &format!("listener{}", index + 1),
                format_args!("name=tcp,bind={},port={port}", node.bind),
            );
        }
    }
}

fn clients(core: &Core, sample: &Sample, text: &mut String) {
    let total = &sample.total;
    line(text, "connected_clients", total.connections);
    line(text, "maxclients", core.config.limits.connections_max);
    line(text, "blocked_clients", 0);
    line(text, "tracking_clients", 0);
    line(text, "pubsub_clients", total.pubsub_clients);
    line(text, "watching_clients", total.watching_clients);
    line(text, "total_watched_keys", total.watched_keys);
    line(text, "client_query_buffer_bytes", total.query_buffer_bytes);
}

fn memory(core: &Core, sample: &Sample, text: &mut String) {
    let (total, host) = (&sample.total, (core.config.node.host_sample)());
    let overhead = total.index + total.ghost + total.metadata;
    let dataset = total.memory_used.saturating_sub(overhead);
    bytes(text, "used_memory", total.memory_used);
    bytes(text, "used_memory_rss", host.rss_bytes);
    bytes(text, "used_memory_peak", total.memory_peak);
    line(text, "used_memory_peak_perc", percent(total.memory_used, total.memory_peak));
    line(text, "used_memory_overhead", overhead);
    line(text, "used_memory_dataset", dataset);
    line(text, "used_memory_dataset_perc", percent(dataset, total.memory_used));
    line(text, "used_memory_rss_peak", host.rss_peak_bytes);
    bytes(text, "total_system_memory", host.memory_total_bytes);
    bytes(text, "maxmemory", core.config.node.memory_bytes);
    line(text, "maxmemory_policy", memory_policy_name(core));
    let ratio = if total.memory_used == 0 { 0.0 } else { host.rss_bytes as f64 / total.memory_used as f64 };
    line(text, "mem_fragmentation_ratio", format_args!("{ratio:.2}"));
    line(text, "mem_fragmentation_bytes", host.rss_bytes as i64 - total.memory_used as i64);
    line(text, "engine_budget_bytes", total.budget);
    line(text, "engine_segment_bytes", total.segments);
    line(text, "engine_live_bytes", total.live);
    line(text, "engine_dead_bytes", total.dead);
    line(text, "engine_free_bytes", total.free);
    line(text, "engine_large_bytes", total.large);
    line(text, "engine_index_bytes", total.index);
    line(text, "engine_ghost_bytes", total.ghost);
    line(text, "engine_metadata_bytes", total.metadata);
}

fn persistence(core: &Core, sample: &Sample, text: &mut String) {
    let statuses = &core.statuses;
    // Redis says -1 for what has not been yet.
    let seconds = |ms: Option<u64>| ms.map_or(-1, |ms| (ms / 1000) as i64);
    let running = statuses.begun().map(|begun| core.time.wall.0.saturating_sub(begun.0));
    line(text, "loading", 0);
    line(text, "async_loading", 0);
    line(text, "rdb_changes_since_last_save", sample.total.changes_since_snapshot);
    line(text, "rdb_bgsave_in_progress", u8::from(statuses.is_running()));
    line(text, "rdb_last_save_time", statuses.saved().0 / 1000);
    line(text, "rdb_last_bgsave_status", if statuses.is_ok() { "ok" } else { "err" });
    line(text, "rdb_last_bgsave_time_sec", seconds(statuses.took_ms()));
    line(text, "rdb_current_bgsave_time_sec", seconds(running));
    line(text, "rdb_saves", statuses.saves());
    line(text, "snapshot_buffer_bytes", sample.total.snapshot_buffer_bytes);
    line(text, "aof_enabled", u8::from(core.log.is_some()));
    line(text, "aof_rewrite_in_progress", 0);
    if core.log.is_some() {
        let total = &sample.total;
        line(text, "aof_last_write_status", if total.log_full > 0 { "err" } else { "ok" });
        line(text, "log_effects", total.log_effects);
        line(text, "log_commits_unsynced", total.log_unsynced);
        line(text, "log_cores_full", total.log_full);
    }
}

fn stats(_core: &Core, sample: &Sample, text: &mut String) {
    let total = &sample.total;
    let kbps = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    line(text, "total_connections_received", total.connections_received);
    line(text, "total_commands_processed", total.commands);
    line(text, "instantaneous_ops_per_sec", total.commands_per_second);
    line(text, "total_net_input_bytes", total.input_bytes);
    line(text, "total_net_output_bytes", total.output_bytes);
    line(text, "instantaneous_input_kbps", kbps(total.input_bytes_per_second));
    line(text, "instantaneous_output_kbps", kbps(total.output_bytes_per_second));
    line(text, "rejected_connections", total.connections_rejected);
    line(text, "expired_keys", total.expired);
    line(text, "evicted_keys", total.evicted);
    line(text, "keyspace_hits", total.hits);
    line(text, "keyspace_misses", total.misses);
    line(text, "pubsub_channels", sample.names[0].len());
    line(text, "pubsub_patterns", sample.names[1].len());
    line(text, "pubsubshard_channels", sample.names[2].len());
    line(text, "total_error_replies", total.errors);
    line(text, "client_query_buffer_limit_disconnections", total.input_limit_closes);
    line(text, "eventloop_cycles", total.turns);
    line(text, "eventloop_duration_sum", total.busy_ns / 1000);
    line(text, "protocol_error_disconnections", total.protocol_errors);
    line(text, "connections_moved", total.connections_moved);
    line(text, "commands_forwarded", total.forwarded_out);
    line(text, "handovers", total.handovers);
    line(text, "keys_written", total.sets);
    line(text, "keys_deleted", total.deletes);
    line(text, "eviction_ghost_hits", total.ghost_hits);
    line(text, "eviction_promoted", total.promoted);
    line(text, "cleaned_bytes", total.cleaned_bytes);
    line(text, "out_of_memory_errors", total.out_of_memory);
}

fn replication(core: &Core, _sample: &Sample, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_failover_state", "no-failover");
    line(text, "master_replid", &core.config.node.run_id);
    line(text, "master_repl_offset", 0);
    line(text, "repl_backlog_active", 0);
}

fn cpu(core: &Core, _sample: &Sample, text: &mut String) {
    let host = (core.config.node.host_sample)();
    let seconds = |micros: u64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    line(text, "used_cpu_sys", seconds(host.system_cpu_us));
    line(text, "used_cpu_user", seconds(host.user_cpu_us));
    line(text, "used_cpu_sys_children", seconds(0));
    line(text, "used_cpu_user_children", seconds(0));
}

/// The commands of a sample with their names, in the order of the table.
fn named<'a>(core: &Core, sample: &'a Sample) -> Vec<(&'static str, &'a CommandSample)> {
    let specs = core.table.iter().filter(|(_, spec)| !spec.name.starts_with('_'));
    specs.filter_map(|(id, spec)| Some((spec.name, sample.commands.get(&(id.index() as u64))?))).collect()
}

fn command_stats(core: &Core, sample: &Sample, text: &mut String) {
    for (name, command) in named(core, sample) {
        let usec = command.duration_ns / 1000;
        let per_call = command.duration_ns as f64 / 1000.0 / command.calls.max(1) as f64;
        let CommandSample { calls, rejected, failed, .. } = command;
        line(
            text,
            &format!("cmdstat_{name}"),
            format_args!(
                "calls={calls},usec={usec},usec_per_call={per_call:.2},rejected_calls={rejected},\
                 failed_calls={failed}"
            ),
        );
    }
}

fn error_stats(_core: &Core, sample: &Sample, text: &mut String) {
    for (code, count) in &sample.errors {
        line(text, &format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latency_stats(core: &Core, sample: &Sample, text: &mut String) {
    for (name, command) in named(core, sample).into_iter().filter(|(_, command)| command.calls > 0) {
        let shown: Vec<String> = latency_percentiles(core)
            .iter()
            .map(|percentile| format!("p{percentile}={:.3}", percentile_us(&command.latency, *percentile)))
            .collect();
        line(text, &format!("latency_percentiles_usec_{name}"), shown.join(","));
    }
}

/// The percentile within its power of two, as if the durations there were spread evenly.
fn percentile_us(buckets: &[u64; LATENCY_BUCKETS], percentile: f64) -> f64 {
    let wanted = buckets.iter().sum::<u64>() as f64 * percentile / 100.0;
    let mut below = 0.0;
    for (bucket, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if below + count >= wanted {
            let within = ((wanted - below) / count).clamp(0.0, 1.0);
            return (1u64 << bucket) as f64 * (1.0 + within) / 1000.0;
        }
        below += count;
    }
    0.0
}

fn keyspace(_core: &Core, sample: &Sample, text: &mut String) {
    if sample.total.keys > 0 {
        line(text, "db0", format_args!("keys={},expires={}", sample.total.keys, sample.total.deadlines));
    }
}

fn cores(_core: &Core, sample: &Sample, text: &mut String) {
    for (index, own) in sample.cores.iter().enumerate() {
        line(
            text,
            &format!("core{index}"),
            format_args!(
                "keys={},used_memory={},connections={},commands={},ops_per_sec={},forwarded_in={},\
                 forwarded_out={},handovers={},turns={},parks={},busy_usec={}",
                own.keys,
                own.memory_used,
                own.connections,
                own.commands,
                own.commands_per_second,
                own.forwarded_in,
                own.forwarded_out,
                own.handovers,
                own.turns,
                own.parks,
                own.busy_ns / 1000
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{human, percentile_us};
    use crate::stats::LATENCY_BUCKETS;

    #[test]
    fn sizes_for_people_are_those_of_redis() {
        assert_eq!(
            ["0B", "1023B", "1.00K", "1.50M", "2.00G"],
            [0, 1023, 1024, 3 << 19, 2 << 30].map(human).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let mut buckets = [0; LATENCY_BUCKETS];
        buckets[10] = 99; // 1.024 to 2.048 us
        buckets[20] = 1; // 1.05 to 2.1 ms
        assert!((1.024..=2.048).contains(&percentile_us(&buckets, 50.0)));
        assert!((1.024..=2.048).contains(&percentile_us(&buckets, 99.0)));
        assert!((1048.0..=2098.0).contains(&percentile_us(&buckets, 99.9)));
        assert_eq!(percentile_us(&[0; LATENCY_BUCKETS], 99.9), 0.0);
    }
}
