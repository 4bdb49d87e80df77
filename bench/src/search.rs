//! Runs in a row that look for a limit: `sweep` raises the rate of an open loop, `saturate` the
//! requests in flight of a closed one.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::progress::Progress;
use crate::result::RunResult;
use crate::run::{self, Plan};
use crate::text::{duration_text, rate_text};
use crate::worker::Spacing;

/// The schema's name and version.
const SCHEMA: &str = "pinnace-bench-steps/1";

/// All runs of a search.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Steps {
    pub(crate) schema: String,
    /// `sweep` or `saturate`.
    pub(crate) kind: String,
    pub(crate) p99_limit_ns: Option<u64>,
    /// The best step: the highest rate within the limit, or the highest throughput.
    pub(crate) best: Option<usize>,
    /// In the order of rate or depth.
    pub(crate) runs: Vec<RunResult>,
    /// Why no further step was made.
    pub(crate) ended: String,
    /// Whether that was an end as it should be.
    #[serde(default = "yes")]
    pub(crate) complete: bool,
}

/// Files of versions that did not tell hold searches that came to their end.
fn yes() -> bool {
    true
}

/// How far and how fine a sweep goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweepLimits {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) factor: f64,
    pub(crate) p99: Duration,
    pub(crate) spacing: Spacing,
}

/// Steps between the last good and the first bad rate, to find the knee more finely.
const REFINEMENTS: usize = 3;
/// Less of the offered rate than this is a rate that was not reached.
const REACHED: f64 = 0.97;
/// Standard deviations that chance may take from the number of arrivals.
const CHANCE: f64 = 5.0;
/// Depth is doubled as long as throughput grows by this factor.
const GROWTH: f64 = 1.02;
const DEPTH_MAX: usize = 4096;
/// The last rate may be passed by this factor: multiplying is not exact.
const ROUNDING: f64 = 1.0001;

/// What the steps of a search need besides the plan.
pub(crate) struct Search<'s> {
    pub(crate) stop: &'s Arc<AtomicBool>,
    pub(crate) progress: &'s Progress,
    /// Told after each step.
    pub(crate) on_step: &'s mut dyn FnMut(&RunResult),
}

impl Search<'_> {
    /// One more run. One that fails, or loses its target, or is stopped ends the search, but takes
    /// nothing of the steps before it with it: only the very first failure is an error.
    fn step(&mut self, plan: Plan, runs: &mut Vec<RunResult>) -> Result<Step, BenchError> {
        let result = match run::run(plan, self.stop, self.progress) {
            Ok(result) => result,
            Err(error) if runs.is_empty() => return Err(error),
            Err(error) => return Ok(Step::Broken(error.to_string())),
        };
        (self.on_step)(&result);
        let lost = result.counts.lost + result.counts.timeouts > 0;
        let silent = result.counts.answered == 0;
        runs.push(result);
        Ok(match () {
            () if self.is_stopped() => Step::Broken("stopped by hand".to_owned()),
            () if lost => Step::Broken("a step lost requests".to_owned()),
            () if silent => Step::Broken("a step had no answers".to_owned()),
            () => Step::Whole,
        })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Raises the rate until p99 passes the limit, then closes in on the knee.
    pub(crate) fn sweep(&mut self, plan: &Plan, limits: SweepLimits) -> Result<Steps, BenchError> {
        let mut runs: Vec<RunResult> = Vec::new();
        let mut found = Bracket { good: None, bad: None, refinements: 0 };
        let mut ended = "the highest rate asked for was reached".to_owned();
        let mut complete = true;
        while let Some(rate) = found.next(&limits) {
            let open = Some((rate, limits.spacing));
            let step = Plan { open, preload: plan.preload && runs.is_empty(), ..plan.clone() };
            if let Step::Broken(why) = self.step(step, &mut runs)? {
                (ended, complete) = (why, false);
                break;
            }
            let Some(why) = runs.last().and_then(|run| trouble(run, limits.p99)) else {
                found.good = Some(rate);
                continue;
            };
            if found.bad.is_none() {
                ended = why;
            }
            found.bad = Some(rate);
        }
        runs.sort_by(|a, b| f64::total_cmp(&offered(a), &offered(b)));
        let best = runs.iter().rposition(|run| trouble(run, limits.p99).is_none());
        let p99_limit_ns = Some(limits.p99.as_nanos() as u64);
        let (schema, kind) = (SCHEMA.to_owned(), "sweep".to_owned());
        Ok(Steps { schema, kind, p99_limit_ns, best, runs, ended, complete })
    }

    /// Doubles the requests in flight until throughput stops growing.
    pub(crate) fn saturate(&mut self, plan: &Plan) -> Result<Steps, BenchError> {
        let mut runs: Vec<RunResult> = Vec::new();
        let mut plan = Plan { open: None, ..plan.clone() };
        let mut ended = format!("{DEPTH_MAX} requests in flight a connection were reached");
        let mut complete = true;
        let mut stale = 0;
        let mut highest = 0.0;
        while plan.depth <= DEPTH_MAX {
            if let Step::Broken(why) = self.step(plan.clone(), &mut runs)? {
                (ended, complete) = (why, false);
                break;
            }
            let rate = runs.last().map_or(0.0, |run| run.achieved_rate);
            stale = if rate > highest * GROWTH { 0 } else { stale + 1 };
            highest = f64::max(highest, rate);
            if stale == 2 {
                ended = "throughput stopped growing".to_owned();
                break;
            }
            plan = Plan { preload: false, depth: plan.depth * 2, ..plan };
        }
        let best =
            (0..runs.len()).max_by(|&a, &b| f64::total_cmp(&runs[a].achieved_rate, &runs[b].achieved_rate));
        let (schema, kind) = (SCHEMA.to_owned(), "saturate".to_owned());
        Ok(Steps { schema, kind, p99_limit_ns: None, best, runs, ended, complete })
    }
}

/// How a step went.
enum Step {
    Whole,
    /// It ends the search for this reason.
    Broken(String),
}

/// Where the knee is known to be.
struct Bracket {
    good: Option<f64>,
    bad: Option<f64>,
    refinements: usize,
}

impl Bracket {
    /// The next rate to try: upwards until one is bad, then between the two; `None` at the end.
    fn next(&mut self, limits: &SweepLimits) -> Option<f64> {
        match (self.good, self.bad) {
            (None, None) => Some(limits.from),
            (Some(good), None) => Some(good * limits.factor).filter(|&rate| rate <= limits.to * ROUNDING),
            (Some(good), Some(bad)) if self.refinements < REFINEMENTS => {
                self.refinements += 1;
                Some((good * bad).sqrt())
            }
            (_, Some(_)) => None,
        }
    }
}

fn offered(run: &RunResult) -> f64 {
    run.load.offered_rate.unwrap_or(0.0)
}

/// Why a step is beyond the knee, if it is.
fn trouble(run: &RunResult, p99: Duration) -> Option<String> {
    let ns = run.total.p99_ns;
    if u128::from(ns) > p99.as_nanos() {
        return Some(format!("p99 of {} passed the limit", duration_text(ns as f64)));
    }
    // Poisson arrivals are fewer than their mean half of the time: by chance, not for want of time.
    let due = offered(run) * run.elapsed_s;
    let enough = due * REACHED - CHANCE * due.sqrt();
    if run.counts.unsent > 0 || (run.counts.answered as f64) < enough {
        return Some(format!("only {}/s of the offered rate were answered", rate_text(run.achieved_rate)));
    }
    (!run.complete).then(|| "a step was not complete".to_owned())
}

/// The line that tells one step.
pub(crate) fn line(run: &RunResult) -> String {
    let what = match run.load.offered_rate {
        Some(rate) => format!("{:>9}/s offered", rate_text(rate)),
        None => format!("{:>6} x {:<5} in flight", run.load.connections, run.load.depth),
    };
    let server =
        run.server_side.as_ref().map_or_else(String::new, |s| format!("  server {:>4.2} CPUs", s.cpus_used));
    format!(
        "{what}  {:>9}/s  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  generator {:>3.0} %{server}",
        rate_text(run.achieved_rate),
        duration_text(run.total.p50_ns as f64),
        duration_text(run.total.p99_ns as f64),
        duration_text(run.total.p999_ns as f64),
        run.generator.busy_share * 100.0,
    )
}

impl Steps {
    /// The steps in a file; `None` if it holds something else.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, BenchError> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let text = std::fs::read_to_string(path).map_err(|error| BenchError::file(path, error))?;
        match serde_json::from_str(&text) {
            Ok(Head { schema }) if schema == SCHEMA => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| BenchError::file(path, format!("no steps of this program: {error}"))),
            _ => Ok(None),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), BenchError> {
        let mut text = serde_json::to_string(self).expect("results are made of plain values");
        text.push('\n');
        std::fs::write(path, text).map_err(|error| BenchError::file(path, error))
    }

    /// What was found, and the curve.
    pub(crate) fn conclusion(&self) -> String {
        let mut out = format!("ended: {}\n", self.ended);
        let Some(best) = self.best.and_then(|best| self.runs.get(best)) else {
            out.push_str("no step was within the limit\n");
            return out;
        };
        // Writing to a string cannot fail; results of `write!` are dropped for that reason throughout.
        let _ = match self.p99_limit_ns {
            Some(limit) => writeln!(
                out,
                "knee: {}/s with p99 {} (limit {})",
                rate_text(best.achieved_rate),
                duration_text(best.total.p99_ns as f64),
                duration_text(limit as f64)
            ),
            None => writeln!(
                out,
                "highest throughput: {}/s with {} in flight a connection",
                rate_text(best.achieved_rate),
                best.load.depth
            ),
        };
        let _ = writeln!(out, "bottleneck there: {}", best.generator.bottleneck);
        out.push_str(&self.curve());
        out
    }

    /// Rate to the right of a bar that tells p99: the latency-throughput curve in characters.
    fn curve(&self) -> String {
        let log = |run: &RunResult| (run.total.p99_ns.max(1) as f64).log10();
        let low = self.runs.iter().map(log).fold(f64::INFINITY, f64::min) - 0.2;
        let high = self.runs.iter().map(log).fold(low + 0.5, f64::max);
        let mut out = String::from("\nanswers/s       p99 (logarithmic)\n");
        for (index, run) in self.runs.iter().enumerate() {
            let length = ((log(run) - low) / (high - low) * 50.0).round() as usize;
            let mark = if self.best == Some(index) { " <" } else { "" };
            let (rate, p99) = (rate_text(run.achieved_rate), duration_text(run.total.p99_ns as f64));
            let _ = writeln!(out, "{rate:>9} |{} {p99}{mark}", "#".repeat(length));
        }
        out
    }

    /// All steps as `offered,achieved,p50_ns,p99_ns,p999_ns,generator_busy,server_cpus`.
    pub(crate) fn csv(&self) -> String {
        let mut out =
            String::from("offered,depth,achieved,p50_ns,p99_ns,p999_ns,max_ns,generator_busy,server_cpus\n");
        for run in &self.runs {
            let _ = writeln!(
                out,
                "{:.0},{},{:.1},{},{},{},{},{:.3},{:.3}",
                offered(run),
                run.load.depth,
                run.achieved_rate,
                run.total.p50_ns,
                run.total.p99_ns,
                run.total.p999_ns,
                run.total.max_ns,
                run.generator.busy_share,
                run.server_side.as_ref().map_or(0.0, |server| server.cpus_used),
            );
        }
        out
    }
}
