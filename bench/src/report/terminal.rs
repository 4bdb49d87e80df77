//! The report for a terminal: who was asked what, latencies, and whether to believe them.

use std::fmt::Write as _;

use super::curve;
use crate::result::{Latency, RunResult};
use crate::text::{bytes_text, count_text, duration_text, rate_text, time_text};

/// The report, the curve in characters, and the machine: what `report` prints.
pub(crate) fn full(result: &RunResult) -> Result<String, String> {
    let mut out = report(result);
    let _ = writeln!(out, "\n{}", curve::ascii(&result.total.histogram()?));
    let _ = writeln!(out, "{:<24}{}", "started", time_text(result.started_unix_ms));
    let _ = writeln!(out, "{:<24}{}", "command line", result.command_line.join(" "));
    for (name, value) in result.environment.lines() {
        let _ = writeln!(out, "{name:<24}{value}");
    }
    Ok(out)
}

/// The whole report of a run.
pub(crate) fn report(result: &RunResult) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, result);
    out
}

fn write(out: &mut String, result: &RunResult) -> std::fmt::Result {
    head(out, result)?;
    latency_table(out, result)?;
    generator(out, result)?;
    if let Some(server) = &result.server_side {
        writeln!(
            out,
            "server     {} (pid {:?}): {} CPU a request, {:.2} CPUs in use, {} resident",
            server.name,
            server.pids,
            duration_text(server.cpu_ns_per_request),
            server.cpus_used,
            bytes_text(server.resident_bytes),
        )?;
    }
    writeln!(out, "\n{}", omission_note(result))?;
    for (what, times) in &result.failures {
        writeln!(out, "failure    {what} (x {})", count_text(*times))?;
    }
    for warning in &result.warnings {
        writeln!(out, "WARNING    {warning}")?;
    }
    if !result.complete {
        writeln!(out, "PARTIAL RESULT: what is above was measured, but not all that was asked for")?;
    }
    Ok(())
}

fn head(out: &mut String, result: &RunResult) -> std::fmt::Result {
    let load = &result.load;
    writeln!(out, "target     {} ({})", result.targets.join(", "), result.server)?;
    match load.offered_rate {
        Some(rate) => writeln!(
            out,
            "load       open loop ({}), {} /s offered, {} connections, {} threads",
            load.mode.trim_start_matches("open-"),
            rate_text(rate),
            load.connections,
            load.threads
        )?,
        None => writeln!(
            out,
            "load       closed loop, {} connections x {} in flight, {} threads",
            load.connections, load.depth, load.threads
        )?,
    }
    let counts = &result.counts;
    writeln!(
        out,
        "answers    {} in {:.2} s = {} /s; hits {}, misses {}, refused {}",
        count_text(counts.answered),
        result.elapsed_s,
        rate_text(result.achieved_rate),
        count_text(counts.hits),
        count_text(counts.misses),
        count_text(counts.refused),
    )?;
    writeln!(
        out,
        "trouble    errors {}, timeouts {}, lost {}, unsent {}, wrong answers {} ({} values checked)\n",
        counts.errors,
        counts.timeouts,
        counts.lost,
        counts.unsent,
        counts.wrong,
        count_text(counts.verified),
    )
}

fn latency_table(out: &mut String, result: &RunResult) -> std::fmt::Result {
    let columns = ["", "count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max"];
    for (index, column) in columns.iter().enumerate() {
        write!(out, "{column:>width$}", width = if index == 0 { 9 } else { 11 })?;
    }
    writeln!(out)?;
    if result.operations.len() > 1 {
        result.operations.iter().try_for_each(|latency| latency_row(out, &latency.name, latency))?;
    }
    let name = match &result.operations[..] {
        [only] => only.name.as_str(),
        _ => "all",
    };
    latency_row(out, name, &result.total)?;
    match &result.service {
        Some(service) => latency_row(out, "service", service),
        None => Ok(()),
    }
}

fn latency_row(out: &mut String, name: &str, latency: &Latency) -> std::fmt::Result {
    write!(out, "{name:>9}{:>11}{:>11}", rate_text(latency.count as f64), duration_text(latency.mean_ns))?;
    for ns in [
        latency.p50_ns,
        latency.p90_ns,
        latency.p99_ns,
        latency.p999_ns,
        latency.p9999_ns,
        latency.p99999_ns,
        latency.max_ns,
    ] {
        write!(out, "{:>11}", duration_text(ns as f64))?;
    }
    writeln!(out)
}

fn generator(out: &mut String, result: &RunResult) -> std::fmt::Result {
    let generator = &result.generator;
    write!(
        out,
        "\ngenerator  busiest thread {:.0} % busy, {} CPU a request",
        generator.busy_share * 100.0,
        duration_text(generator.cpu_ns_per_request),
    )?;
    if let Some(lag) = &generator.lag {
        write!(out, ", late by {} at p99", duration_text(lag.p99_ns as f64))?;
    }
    writeln!(out, "; bottleneck: {}", generator.bottleneck)
}

/// How coordinated omission is dealt with in this result.
pub(crate) fn omission_note(result: &RunResult) -> &'static str {
    if result.load.offered_rate.is_some() {
        "Latency counts from the instant a request was due, so no stall is omitted (no coordinated omission);\n\
         `service` counts from the actual send: the difference was spent waiting in the generator."
    } else {
        "Closed loop: a connection waits for answers before it asks again, so stalls hold back the requests\n\
         that would have met them (coordinated omission). Use --rate for latencies; use this for throughput."
    }
}
