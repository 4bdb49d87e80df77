//! From what the threads measured to one result, with a judgement on the generator itself.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::result::{
    CountsInfo, GeneratorInfo, Latency, LoadInfo, RunResult, SCHEMA, Series, SeriesRow, ServerSide,
    ThreadInfo, merged,
};
use crate::run::{Measured, Plan, ThreadResult};
use crate::worker::record::{Counts, Row};
use crate::worker::{Failures, PhaseResult, Spacing};
use crate::workload::Op;

/// A generator thread busier than this may be what is measured.
const BUSY_SHARE_MAX: f64 = 0.9;
/// Requests handed over later than this, at p99, say more of the generator than of the server.
const LAG_NS_MAX: u64 = 1_000_000;
/// A CPU of the server in use for more than this share of the time has nothing left to give.
const SERVER_BUSY_SHARE: f64 = 0.9;
/// An open loop that falls short of its rate by more than this did not offer it.
const RATE_SHORTFALL: f64 = 0.02;

/// The result of a run.
pub(crate) fn result(measured: Measured) -> RunResult {
    let phases: Vec<&PhaseResult> =
        measured.threads.iter().filter_map(|thread| thread.phase.as_ref()).collect();
    let mut counts = Counts::default();
    phases.iter().for_each(|phase| counts.add(&phase.recorder.counts));
    let elapsed = phases.iter().map(|phase| phase.elapsed).max().unwrap_or_default();
    let elapsed_s = elapsed.as_secs_f64();
    let operations: Vec<(Op, Histogram<u64>)> = operations(&phases);
    let total = merged(operations.iter().map(|(_, histogram)| histogram));
    let services: Vec<&Histogram<u64>> =
        phases.iter().filter_map(|phase| phase.recorder.service.as_deref()).collect();
    let service = (!services.is_empty()).then(|| Latency::new("service", &merged(services.into_iter())));
    let server_side = server_side(&measured, &counts, elapsed);
    let generator = generator(&measured.threads, &counts, server_side.as_ref());
    let mut result = RunResult {
        schema: SCHEMA.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: measured.commit.clone(),
        command_line: command_line(),
        started_unix_ms: measured.started_unix_ms,
        seed: measured.plan.seed,
        targets: measured.plan.targets.iter().map(ToString::to_string).collect(),
        protocol: measured.plan.targets[0].protocol.name().to_owned(),
        server: server_names(&measured),
        workload: measured.plan.spec.clone().complete().unwrap_or_default(),
        load: load(&measured.plan),
        environment: measured.environment.clone(),
        complete: true,
        warnings: Vec::new(),
        failures: failures(&measured.threads).0,
        counts: counts.into(),
        elapsed_s,
        achieved_rate: if elapsed_s > 0.0 { counts.answered as f64 / elapsed_s } else { 0.0 },
        total: Latency::new("total", &total),
        operations: operations.iter().map(|(op, histogram)| Latency::new(op.name(), histogram)).collect(),
        service,
        series: series(&phases, measured.row, elapsed),
        generator,
        server_side,
    };
    judge(&mut result, measured.interrupted, phases.iter().any(|phase| phase.cut_short));
    result
}

fn operations(phases: &[&PhaseResult]) -> Vec<(Op, Histogram<u64>)> {
    let of = |op: Op| {
        let parts = phases.iter().filter_map(|phase| phase.recorder.operations[op.index()].as_deref());
        merged(parts)
    };
    Op::ALL.into_iter().map(|op| (op, of(op))).filter(|(_, histogram)| !histogram.is_empty()).collect()
}

/// What the targets call themselves, each name once.
fn server_names(measured: &Measured) -> String {
    let mut names: Vec<&str> = measured.services.iter().map(|service| service.server.as_str()).collect();
    names.dedup();
    names.join(", ")
}

/// The command line without anybody's password.
fn command_line() -> Vec<String> {
    std::env::args().map(|word| mask_credentials(&word)).collect()
}

fn mask_credentials(word: &str) -> String {
    match word.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, address)) => format!("{scheme}://***@{address}"),
        None => word.to_owned(),
    }
}

fn load(plan: &Plan) -> LoadInfo {
    let mode = match plan.open {
        None => "closed",
        Some((_, Spacing::Constant)) => "open-constant",
        Some((_, Spacing::Poisson)) => "open-poisson",
    };
    LoadInfo {
        mode: mode.to_owned(),
        offered_rate: plan.open.map(|(rate, _)| rate),
        connections: plan.connections,
        depth: plan.depth,
        threads: plan.threads,
        cores: plan.cores.clone(),
        preload: plan.preload,
        warm_up_s: plan.warm_up.as_secs_f64(),
        duration_s: plan.duration.map(|duration| duration.as_secs_f64()),
        requests: plan.requests,
        verify_every: plan.verify_every,
        timeout_s: plan.timeout.as_secs_f64(),
    }
}

fn failures(threads: &[ThreadResult]) -> Failures {
    let mut all = Failures::default();
    for (what, times) in threads.iter().flat_map(|thread| &thread.failures.0) {
        all.add(what.clone(), *times);
    }
    all
}

fn series(phases: &[&PhaseResult], row: Duration, elapsed: Duration) -> Series {
    let count = (elapsed.as_nanos().div_ceil(row.as_nanos().max(1)) as usize).max(1);
    let longest = phases.iter().map(|phase| phase.recorder.rows.len()).max().unwrap_or(0);
    let count = count.min(longest);
    let at =
        |phase: &PhaseResult, index: usize| phase.recorder.rows.get(index).cloned().unwrap_or(Row::EMPTY);
    let rows = (0..count).map(|index| {
        let mut sum = Row::EMPTY;
        phases.iter().for_each(|phase| sum.add(&at(phase, index)));
        SeriesRow::new(&sum)
    });
    Series {
        interval_s: row.as_secs_f64(),
        rows: rows.collect(),
        threads: phases
            .iter()
            .map(|phase| (0..count).map(|index| at(phase, index).count()).collect())
            .collect(),
    }
}

fn server_side(measured: &Measured, counts: &Counts, elapsed: Duration) -> Option<ServerSide> {
    let (server, cpu) = measured.server.as_ref().zip(measured.server_cpu)?;
    Some(ServerSide {
        pids: server.pids.clone(),
        name: server.name.clone(),
        cpu_ns_per_request: per(cpu, counts.answered),
        cpus_used: cpu.as_secs_f64() / elapsed.as_secs_f64().max(1e-9),
        resident_bytes: measured.server_resident,
        reported_latency: measured.server_latency.clone(),
    })
}

fn per(time: Duration, count: u64) -> f64 {
    if count == 0 { 0.0 } else { time.as_nanos() as f64 / count as f64 }
}

fn generator(threads: &[ThreadResult], counts: &Counts, server: Option<&ServerSide>) -> GeneratorInfo {
    let infos: Vec<ThreadInfo> = threads.iter().filter_map(thread_info).collect();
    let phases = || threads.iter().filter_map(|thread| thread.phase.as_ref());
    let cpu: Duration = phases().map(PhaseResult::busy).sum();
    let lags: Vec<&Histogram<u64>> = phases().filter_map(|phase| phase.lag.as_ref()).collect();
    let busy_share = infos.iter().map(|thread| thread.busy_share).fold(0.0, f64::max);
    let server_busy = server.is_some_and(|server| {
        server.cpus_used.fract() > SERVER_BUSY_SHARE || {
            // One CPU and a bit for background threads: a single-threaded server at its limit.
            server.cpus_used >= 1.0 && server.cpus_used.fract() < 0.15
        }
    });
    let bottleneck = match (busy_share > BUSY_SHARE_MAX, server_busy) {
        (true, _) => "generator",
        (false, true) => "server",
        (false, false) => "neither",
    };
    GeneratorInfo {
        busy_share,
        cpu_ns_per_request: per(cpu, counts.answered),
        threads: infos,
        lag: (!lags.is_empty()).then(|| Latency::new("lag", &merged(lags.into_iter()))),
        held_back: phases().map(|phase| phase.held_back).sum(),
        bottleneck: bottleneck.to_owned(),
    }
}

fn thread_info(thread: &ThreadResult) -> Option<ThreadInfo> {
    let phase = thread.phase.as_ref()?;
    let elapsed = phase.elapsed.as_secs_f64().max(1e-9);
    Some(ThreadInfo {
        core: thread.core,
        answered: phase.recorder.counts.answered,
        busy_share: (phase.busy().as_secs_f64() / elapsed).min(1.0),
        waiting_share: phase.cpu.waiting.as_secs_f64() / elapsed,
    })
}

/// Says loudly what a reader must know before believing the numbers.
fn judge(result: &mut RunResult, interrupted: bool, cut_short: bool) {
    let mut warnings = Vec::new();
    let CountsInfo { answered, errors, lost, timeouts, wrong, unsent, .. } = result.counts;
    let generator = &result.generator;
    if interrupted {
        warnings.push("stopped by hand before its end".to_owned());
    } else if cut_short {
        warnings.push("ended early: every connection was lost".to_owned());
    }
    if answered == 0 {
        warnings.push("nothing was answered".to_owned());
    }
    if lost + timeouts > 0 {
        warnings.push(format!("{lost} requests were lost with their connections, {timeouts} timed out"));
    }
    if unsent > 0 {
        warnings.push(format!("{unsent} requests could not be offered in time: the rate was not reached"));
    }
    let complete = warnings.is_empty();
    if wrong > 0 {
        warnings.push(format!(
            "{wrong} answers were WRONG: if other keys or sizes were written before, begin with an empty server"
        ));
    }
    if errors > 0 {
        warnings.push(format!("{errors} requests were answered with an error"));
    }
    if generator.busy_share > BUSY_SHARE_MAX {
        let share = generator.busy_share * 100.0;
        warnings.push(format!("THE GENERATOR WAS SATURATED: a thread was busy {share:.0} % of the time"));
    }
    if let Some(lag) = generator.lag.as_ref().filter(|lag| lag.p99_ns > LAG_NS_MAX) {
        let lag_ms = lag.p99_ns as f64 / 1e6;
        warnings
            .push(format!("THE GENERATOR WAS LATE: 1 % of the requests were made over {lag_ms:.1} ms late"));
    }
    if let Some(rate) = result.load.offered_rate {
        let offered = rate * result.elapsed_s;
        let made = (answered + lost + timeouts) as f64;
        if complete && offered >= 1000.0 && made < offered * (1.0 - RATE_SHORTFALL) - 5.0 * offered.sqrt() {
            warnings
                .push(format!("offered {rate:.0} requests a second, made {:.0}", made / result.elapsed_s));
        }
    }
    result.complete = complete;
    result.warnings = warnings;
}

#[cfg(test)]
mod tests {
    use super::mask_credentials;

    #[test]
    fn passwords_stay_out_of_results() {
        assert_eq!(mask_credentials("redis://u:p@ss@h:1"), "redis://***@h:1");
        assert_eq!(mask_credentials("redis://h:1"), "redis://h:1");
        assert_eq!(mask_credentials("--preload"), "--preload");
    }
}
