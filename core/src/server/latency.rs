//! LATENCY: histograms of every command's durations, and the latency monitor's events.
//!
//! The monitor knows the events `command` and `fast-command`: commands of at least
//! `latency-monitor-threshold` ms. There is no fork, no disk and no scripting here to watch.

use std::collections::{BTreeMap, VecDeque};

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};

use super::parts::{PartReader, PartWriter};
use super::reply::{ADMIN, INFORMATION, all_args, ask_all, container, doc, gathered, help, reply, session};
use crate::command::{CommandId, CommandSpec, Flags};
use crate::core::Core;
use crate::gather::{Continuation, Outcome, SessionRef, sum_of};
use crate::stats::LATENCY_BUCKETS;

pub(super) static SPECS: &[CommandSpec] = &[
    container("latency", doc("server", "2.8.13", "Commands that tell about latency", "")),
    gathered(
        session(
            "latency|histogram",
            -2,
            ADMIN,
            histogram,
            doc("server", "7.0.0", "Shows how long commands take, by powers of two", "O(N) for N commands"),
        ),
        histogram_part,
    ),
    gathered(
        session(
            "latency|latest",
            2,
            ADMIN,
            latest,
            doc("server", "2.8.13", "Shows the latest slow event of each kind", "O(1)"),
        ),
        latest_part,
    ),
    gathered(
        session(
            "latency|history",
            3,
            ADMIN,
            history,
            doc("server", "2.8.13", "Shows the slow events of one kind", "O(1)"),
        ),
        history_part,
    ),
    gathered(
        session("latency|reset", -2, ADMIN, reset, doc("server", "2.8.13", "Forgets slow events", "O(1)")),
        reset_part,
    ),
    session(
        "latency|doctor",
        2,
        ADMIN,
        doctor,
        doc("server", "2.8.13", "Reports on slow events in words", "O(1)"),
    ),
    session(
        "latency|help",
        2,
        INFORMATION,
        latency_help,
        doc("server", "2.8.13", "Shows the subcommands", "O(1)"),
    ),
];

/// Samples kept per event, as in Redis; at most one a second.
const SAMPLES_MAX: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    second: u64,
    millis: u64,
}

#[derive(Debug, Default)]
struct Events {
    samples: VecDeque<Sample>,
    millis_max: u64,
}

/// Slow events of one core.
#[derive(Debug, Default)]
pub(crate) struct LatencyMonitor {
    events: BTreeMap<&'static str, Events>,
}

impl LatencyMonitor {
    fn record(&mut self, event: &'static str, sample: Sample) {
        let events = self.events.entry(event).or_default();
        events.millis_max = events.millis_max.max(sample.millis);
        match events.samples.back_mut() {
            Some(last) if last.second == sample.second => last.millis = last.millis.max(sample.millis),
            _ => events.samples.push_back(sample),
        }
        if events.samples.len() > SAMPLES_MAX {
            events.samples.pop_front();
        }
    }
}

/// Whether a command of that duration is an event for the monitor.
pub(super) fn records(core: &Core, duration_us: u64) -> bool {
    let threshold = core.server.settings.latency_monitor_threshold_ms;
    threshold > 0 && duration_us / 1000 >= threshold
}

/// A command took this long: an event if the monitor is on and it was slow enough.
pub(super) fn record_command(core: &mut Core, args: Args<'_>, duration_us: u64) {
    if !records(core, duration_us) {
        return;
    }
    let millis = duration_us / 1000;
    let fast = core.table.lookup(args.at(0)).is_some_and(|spec| spec.flags.contains(Flags::FAST));
    let sample = Sample { second: core.time.wall.0 / 1000, millis };
    core.server.latency.record(if fast { "fast-command" } else { "command" }, sample);
}

fn histogram(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|core, session, parts| {
        let mut sums: BTreeMap<usize, [u64; LATENCY_BUCKETS]> = BTreeMap::new();
        for part in &parts {
            let mut reader = PartReader::new(part);
            while !reader.is_empty() {
                let sum = sums.entry(reader.u64() as usize).or_insert([0; LATENCY_BUCKETS]);
                sum.iter_mut().for_each(|bucket| *bucket += reader.u64());
            }
        }
        let names: BTreeMap<usize, &str> =
            core.table.iter().map(|(id, spec)| (id.index(), spec.name)).collect();
        reply(|out| {
            resp::map(out, session.resp, sums.len());
            sums.iter().for_each(|(index, sum)| write_histogram(out, session.resp, names[index], sum));
        })
    });
    Outcome::Gather(ask_all(core, "latency|histogram", &all_args(args), join))
}

/// Cumulative counts by upper bound in us. Bounds are rounded down, and to 1 at least, as Redis does.
fn write_histogram(out: &mut Vec<u8>, version: Version, name: &str, buckets: &[u64; LATENCY_BUCKETS]) {
    let bounds = cumulative(buckets);
    resp::bulk(out, name.as_bytes());
    resp::map(out, version, 2);
    resp::bulk(out, b"calls");
    resp::integer(out, buckets.iter().sum::<u64>() as i64);
    resp::bulk(out, b"histogram_usec");
    resp::map(out, version, bounds.len());
    for (bound_us, count) in bounds {
        resp::integer(out, bound_us as i64);
        resp::integer(out, count as i64);
    }
}

fn cumulative(buckets: &[u64; LATENCY_BUCKETS]) -> BTreeMap<u64, u64> {
    let mut bounds = BTreeMap::new();
    let mut count = 0;
    for (bucket, add) in buckets.iter().enumerate().filter(|(_, add)| **add > 0) {
        count += add;
        let bound_us = ((1u64 << (bucket + 1)) / 1000).max(1);
        bounds.insert(bound_us, count);
    }
    bounds
}

fn histogram_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let wanted: Vec<&[u8]> = args.iter().skip(2).collect();
    let mut writer = PartWriter(out);
    for (id, spec) in core.table.iter() {
        let stats = &core.stats.commands[id.index()];
        if stats.calls > 0 && (wanted.is_empty() || wanted.iter().any(|name| is_named(spec, name))) {
            writer.u64(index_of(id));
            stats.latency.buckets.iter().for_each(|bucket| writer.u64(*bucket));
        }
    }
}

fn index_of(id: CommandId) -> u64 {
    id.index() as u64
}

/// `config` names CONFIG with all its subcommands, `config|get` just the one.
fn is_named(spec: &CommandSpec, name: &[u8]) -> bool {
    let container = spec.name.split('|').next().unwrap_or(spec.name);
    [spec.name, container].iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
}

fn latest(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|_, _, parts| {
        let mut latest: BTreeMap<&[u8], (u64, u64, u64)> = BTreeMap::new();
        for part in &parts {
            let mut reader = PartReader::new(part);
            while !reader.is_empty() {
                let event = reader.bytes();
                let (second, millis, max) = (reader.u64(), reader.u64(), reader.u64());
                let known = latest.entry(event).or_default();
                let max = known.2.max(max);
                *known = if second >= known.0 { (second, millis, max) } else { (known.0, known.1, max) };
            }
        }
        reply(|out| {
            resp::array(out, latest.len());
            for (event, (second, millis, max)) in latest {
                resp::array(out, 4);
                resp::bulk(out, event);
                [second, millis, max].iter().for_each(|value| resp::integer(out, *value as i64));
            }
        })
    });
    Outcome::Gather(ask_all(core, "latency|latest", &all_args(args), join))
}

fn latest_part(core: &mut Core, _args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let mut writer = PartWriter(out);
    for (event, events) in &core.server.latency.events {
        let Some(last) = events.samples.back() else { continue };
        writer.bytes(event.as_bytes());
        [last.second, last.millis, events.millis_max].iter().for_each(|value| writer.u64(*value));
    }
}

fn history(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|_, _, parts| {
        let mut samples: BTreeMap<u64, u64> = BTreeMap::new();
        for part in &parts {
            let mut reader = PartReader::new(part);
            while !reader.is_empty() {
                let (second, millis) = (reader.u64(), reader.u64());
                let known = samples.entry(second).or_default();
                *known = millis.max(*known);
            }
        }
        reply(|out| {
            resp::array(out, samples.len());
            for (second, millis) in samples {
                resp::array(out, 2);
                [second, millis].iter().for_each(|value| resp::integer(out, *value as i64));
            }
        })
    });
    Outcome::Gather(ask_all(core, "latency|history", &all_args(args), join))
}

fn history_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let event = String::from_utf8_lossy(args.at(2)).to_ascii_lowercase();
    let mut writer = PartWriter(out);
    let samples =
        core.server.latency.events.get(event.as_str()).into_iter().flat_map(|events| &events.samples);
    samples.for_each(|sample| [sample.second, sample.millis].iter().for_each(|value| writer.u64(*value)));
}

/// Replies with the number of kinds of events that were forgotten.
fn reset(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|_, _, parts| reply(|out| resp::integer(out, sum_of(&parts))));
    Outcome::Gather(ask_all(core, "latency|reset", &all_args(args), join).with_barrier())
}

fn reset_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let before = core.server.latency.events.len();
    let named = |event: &str| {
        args.len() == 2 || args.iter().skip(2).any(|name| name.eq_ignore_ascii_case(event.as_bytes()))
    };
    core.server.latency.events.retain(|event, _| !named(event));
    resp::integer(out, (before - core.server.latency.events.len()) as i64);
}

const MONITOR_IS_OFF: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis \
     instance. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it.\n";

fn doctor(core: &mut Core, session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let threshold = core.server.settings.latency_monitor_threshold_ms;
    let text = if threshold == 0 {
        MONITOR_IS_OFF.to_owned()
    } else {
        format!(
            "Commands of {threshold} ms or more are recorded: LATENCY LATEST shows the newest of each kind, \
             LATENCY HISTORY command all of them, SLOWLOG GET the commands themselves.\n"
        )
    };
    resp::verbatim(out, session.resp, "txt", text.as_bytes());
    Outcome::Replied
}

fn latency_help(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    help(
        out,
        "LATENCY",
        &[
            "DOCTOR",
            "    Return a human readable latency analysis report.",
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class.",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
            "    (default: reset all data for all event classes)",
            "HISTOGRAM [COMMAND ...]",
            "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
            "    If no commands are specified then all histograms are replied.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::{LatencyMonitor, SAMPLES_MAX, Sample, cumulative};
    use crate::stats::LATENCY_BUCKETS;

    #[test]
    fn buckets_below_a_microsecond_count_as_one() {
        let mut buckets = [0; LATENCY_BUCKETS];
        buckets[0] = 1; // 1 ns
        buckets[9] = 2; // 512 to 1023 ns
        buckets[10] = 3; // up to 2047 ns
        buckets[20] = 4; // up to 2.1 ms
        assert_eq!(cumulative(&buckets).into_iter().collect::<Vec<_>>(), [(1, 3), (2, 6), (2097, 10)]);
    }

    #[test]
    fn a_second_has_one_sample_and_the_list_is_bounded() {
        let mut monitor = LatencyMonitor::default();
        monitor.record("command", Sample { second: 1, millis: 5 });
        monitor.record("command", Sample { second: 1, millis: 3 });
        assert_eq!(monitor.events["command"].samples, [Sample { second: 1, millis: 5 }]);
        (2..1000).for_each(|second| monitor.record("command", Sample { second, millis: 1 }));
        assert_eq!(monitor.events["command"].samples.len(), SAMPLES_MAX);
        assert_eq!(monitor.events["command"].millis_max, 5);
    }
}
