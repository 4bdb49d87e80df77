//! MEMORY: where the budget is. MEMORY USAGE is a keyed command and lives with those.

use pinnace_protocol::Args;
use pinnace_protocol::resp;

use super::info::Sample;
use super::reply::{INFORMATION, ask_all, container, doc, help, ok, reply, session};
use crate::command::{CommandSpec, Flags};
use crate::core::Core;
use crate::gather::{Continuation, Outcome, SessionRef};

pub(super) static SPECS: &[CommandSpec] = &[
    container("memory", doc("server", "4.0.0", "Commands on memory", "")),
    session(
        "memory|stats",
        2,
        Flags::NONE,
        stats,
        doc("server", "4.0.0", "Shows where the memory is", "O(1)"),
    ),
    session(
        "memory|doctor",
        2,
        Flags::NONE,
        doctor,
        doc("server", "4.0.0", "Reports on memory in words", "O(1)"),
    ),
    session(
        "memory|purge",
        2,
        Flags::NONE,
        purge,
        doc("server", "4.0.0", "Does nothing: the budget is fixed", "O(1)"),
    ),
    session(
        "memory|help",
        2,
        INFORMATION,
        memory_help,
        doc("server", "4.0.0", "Shows the subcommands", "O(1)"),
    ),
];

enum Value {
    Integer(u64),
    Double(f64),
}

/// The parts are those of INFO.
fn stats(core: &mut Core, _session: SessionRef, _args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|core, session, parts| {
        let fields = stat_fields(core, &Sample::join(&parts));
        reply(|out| {
            resp::map(out, session.resp, fields.len());
            for (name, value) in &fields {
                resp::bulk(out, name.as_bytes());
                match value {
                    Value::Integer(value) => resp::integer(out, *value as i64),
                    Value::Double(value) => resp::double(out, session.resp, *value),
                }
            }
        })
    });
    Outcome::Gather(ask_all(core, "info", &[b"info", b"memory"], join))
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn stat_fields(core: &Core, sample: &Sample) -> Vec<(&'static str, Value)> {
    let (total, host) = (&sample.total, (core.config.node.host_sample)());
    let overhead = total.index + total.ghost + total.metadata;
    let dataset = total.memory_used.saturating_sub(overhead);
    vec![
        ("peak.allocated", Value::Integer(total.memory_peak)),
        ("total.allocated", Value::Integer(total.memory_used)),
        ("clients.normal", Value::Integer(total.query_buffer_bytes)),
        ("overhead.total", Value::Integer(overhead)),
        ("keys.count", Value::Integer(total.keys)),
        ("keys.bytes-per-key", Value::Integer(total.memory_used.checked_div(total.keys).unwrap_or(0))),
        ("dataset.bytes", Value::Integer(dataset)),
        ("dataset.percentage", Value::Double(ratio(dataset, total.memory_used) * 100.0)),
        ("peak.percentage", Value::Double(ratio(total.memory_used, total.memory_peak) * 100.0)),
        ("fragmentation", Value::Double(ratio(host.rss_bytes, total.memory_used))),
        ("fragmentation.bytes", Value::Integer(host.rss_bytes.saturating_sub(total.memory_used))),
        ("engine.budget", Value::Integer(total.budget)),
        ("engine.segments", Value::Integer(total.segments)),
        ("engine.live", Value::Integer(total.live)),
        ("engine.dead", Value::Integer(total.dead)),
        ("engine.free", Value::Integer(total.free)),
        ("engine.large", Value::Integer(total.large)),
        ("engine.index", Value::Integer(total.index)),
        ("engine.ghost", Value::Integer(total.ghost)),
        ("engine.metadata", Value::Integer(total.metadata)),
    ]
}

fn doctor(core: &mut Core, _session: SessionRef, _args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|core, session, parts| {
        let text = diagnosis(core, &Sample::join(&parts));
        reply(|out| resp::verbatim(out, session.resp, "txt", text.as_bytes()))
    });
    Outcome::Gather(ask_all(core, "info", &[b"info", b"memory"], join))
}

/// Segments hold more dead bytes than this only if cleaning cannot keep up.
const DEAD_PERCENT_MAX: f64 = 15.0;
/// What the process may take on top of its budget: code, stacks, sockets, buffers.
const RSS_MARGIN_BYTES: u64 = 256 << 20;

fn diagnosis(core: &Core, sample: &Sample) -> String {
    let (total, host) = (&sample.total, (core.config.node.host_sample)());
    let mut findings = Vec::new();
    let dead_percent = ratio(total.dead, total.segments) * 100.0;
    if total.free == 0 && dead_percent > DEAD_PERCENT_MAX {
        findings.push(format!(
            "{dead_percent:.0}% of the segments are dead bytes: values are overwritten faster than they are cleaned."
        ));
    }
    if host.rss_bytes > core.config.node.memory_bytes + RSS_MARGIN_BYTES {
        findings.push(
            "The process is larger than its budget: look for many connections with large buffers.".to_owned(),
        );
    }
    if total.out_of_memory > 0 {
        findings.push(format!(
            "{} writes were refused for want of memory: raise --memory, or let items be evicted \
             (CONFIG SET maxmemory-policy allkeys-s3fifo).",
            total.out_of_memory
        ));
    }
    if findings.is_empty() {
        findings.push("Nothing to complain about: memory is within its budget.".to_owned());
    }
    findings.join("\n") + "\n"
}

fn purge(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    ok(out)
}

fn memory_help(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    help(
        out,
        "MEMORY",
        &[
            "DOCTOR",
            "    Return memory problems reports.",
            "PURGE",
            "    Attempt to purge dirty pages for reclamation by the allocator.",
            "STATS",
            "    Return information about the memory usage of the server.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value. Nested values are",
            "    sampled up to <count> times (default: 5, 0 means sample all).",
        ],
    )
}
