//! Tips: what proxies and cluster clients may want to know of a command, in Redis' words.

use crate::command::CommandSpec;

const RANDOM: &str = "nondeterministic_output";
const RANDOM_ORDER: &str = "nondeterministic_output_order";
const EVERY_NODE: &str = "request_policy:all_nodes";
const EVERY_SHARD: &str = "request_policy:all_shards";
const ITS_SHARDS: &str = "request_policy:multi_shard";
const ALL_OK: &str = "response_policy:all_succeeded";
const SUM: &str = "response_policy:agg_sum";
const LEAST: &str = "response_policy:agg_min";
const SPECIAL: &str = "response_policy:special";

/// The tips of a command.
pub(super) fn tips_of(spec: &CommandSpec) -> &'static [&'static str] {
    match spec.name {
        "time" | "client|info" | "client|list" | "ttl" | "pttl" => &[RANDOM],
        "object|encoding" | "object|freq" | "object|idletime" | "object|refcount" => &[RANDOM],
        "command" | "command|list" | "command|info" | "command|docs" => &[RANDOM_ORDER],
        "config|set" | "config|resetstat" | "config|rewrite" | "slowlog|reset" => &[EVERY_NODE, ALL_OK],
        "client|setname" | "client|setinfo" => &[EVERY_NODE, ALL_OK],
        "slowlog|get" => &[EVERY_NODE, RANDOM],
        "slowlog|len" => &[EVERY_NODE, SUM, RANDOM],
        "latency|reset" => &[EVERY_NODE, SUM],
        "latency|histogram" | "latency|latest" | "latency|history" | "latency|doctor" => {
            &[RANDOM, EVERY_NODE, SPECIAL]
        }
        "memory|stats" | "memory|doctor" | "info" => &[RANDOM, EVERY_SHARD, SPECIAL],
        "ping" | "memory|purge" | "flushdb" | "flushall" => &[EVERY_SHARD, ALL_OK],
        "wait" | "waitaof" => &[EVERY_SHARD, LEAST],
        "dbsize" => &[EVERY_SHARD, SUM],
        "keys" => &[EVERY_SHARD, RANDOM_ORDER],
        "randomkey" => &[EVERY_SHARD, SPECIAL, RANDOM],
        "scan" => &[RANDOM, "request_policy:special", SPECIAL],
        "mget" => &[ITS_SHARDS],
        "mset" => &[ITS_SHARDS, ALL_OK],
        "del" | "unlink" | "exists" | "touch" => &[ITS_SHARDS, SUM],
        _ => &[],
    }
}
