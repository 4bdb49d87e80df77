//! `pinnace-bench`: drives caches and tells what they did, in a way that can be believed.
//!
//! `cli` says what can be asked for; `run` leads the threads of one run; `worker` is the generator;
//! `codec` and `workload` are pure; `result` is what reports are made of. How measurements are taken
//! and what the JSON holds: `docs/bench.md`.
#![forbid(unsafe_code)]

mod cli;
mod codec;
mod compare;
mod connect;
mod environment;
mod error;
mod progress;
mod report;
mod resp_value;
mod result;
mod run;
mod search;
mod server_side;
mod summary;
mod target;
mod text;
mod worker;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;

use cli::{Cli, Command, ReportArgs, RunArgs, SweepArgs};
use error::BenchError;
use progress::Progress;
use result::RunResult;
use run::Plan;
use search::{Search, Steps, SweepLimits};
use worker::Spacing;
use workload::WorkloadSpec;

/// What counts where the command line does not say.
const WINDOW: usize = 1024;
const DURATION_MS: u64 = 10_000;
const WARM_UP_MS: u64 = 1000;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinnace-bench: {error}");
            error.exit_code()
        }
    }
}

fn dispatch(command: Command) -> Result<(), BenchError> {
    match command {
        Command::Run(args) => run_once(&args),
        Command::Sweep(args) => sweep(&args),
        Command::Saturate(args) => saturate(&args),
        Command::Compare { results } => compare_all(&results),
        Command::Report(args) => report_on(&args),
        Command::Presets => {
            for preset in workload::presets::PRESETS {
                println!("{:<14} {}\n{:15}{}", preset.name, preset.what, "", preset.source);
            }
            Ok(())
        }
    }
}

fn run_once(args: &RunArgs) -> Result<(), BenchError> {
    let load = &args.load;
    if load.rate.is_some() && load.pipeline.is_some() {
        return Err(BenchError::usage("--pipeline is of closed loops: with --rate use --window"));
    }
    if load.rate.is_none() && (load.constant || load.window.is_some()) {
        return Err(BenchError::usage("--constant and --window are of open loops: they need --rate"));
    }
    let stop = stop_flag()?;
    let result = run::run(plan(args)?, &stop, &Progress::new(args.output.quiet))?;
    if let Some(path) = &args.output.json {
        result.write(path)?;
    }
    if let Some(folder) = &args.output.output {
        let stem = args.output.json.as_deref().and_then(Path::file_stem);
        report::write_all(&result, folder, &stem.unwrap_or_else(|| "run".as_ref()).to_string_lossy())?;
    }
    if !args.output.quiet {
        print!("{}", report::terminal::report(&result));
    }
    verdict(&result)
}

fn sweep(args: &SweepArgs) -> Result<(), BenchError> {
    if args.run.load.rate.is_some() || args.factor <= 1.0 || args.from > args.to {
        return Err(BenchError::usage("sweep takes --from, --to and a --factor above 1 instead of --rate"));
    }
    if args.run.load.pipeline.is_some() {
        return Err(BenchError::usage("sweep is an open loop: instead of --pipeline it has --window"));
    }
    let limits = SweepLimits {
        from: args.from,
        to: args.to,
        factor: args.factor,
        p99: Duration::from_millis(args.p99_limit),
        spacing: spacing(&args.run),
    };
    let plan = Plan { depth: args.run.load.window.unwrap_or(WINDOW), ..plan(&args.run)? };
    verdict_of_steps(&search(&args.run, |search| search.sweep(&plan, limits))?)
}

fn saturate(args: &RunArgs) -> Result<(), BenchError> {
    if args.load.rate.is_some() || args.load.constant || args.load.window.is_some() {
        return Err(BenchError::usage(
            "saturate is a closed loop: --rate, --constant and --window have no meaning for it",
        ));
    }
    let plan = plan(args)?;
    verdict_of_steps(&search(args, |search| search.saturate(&plan))?)
}

/// Leads a search, tells its steps and its end.
fn search(
    args: &RunArgs,
    lead: impl FnOnce(&mut Search<'_>) -> Result<Steps, BenchError>,
) -> Result<Steps, BenchError> {
    let (stop, progress) = (stop_flag()?, Progress::new(args.output.quiet));
    let quiet = args.output.quiet;
    let mut on_step = |result: &RunResult| {
        if !quiet {
            println!("{}", search::line(result));
        }
    };
    let steps = lead(&mut Search { stop: &stop, progress: &progress, on_step: &mut on_step })?;
    if let Some(path) = &args.output.json {
        steps.write(path)?;
    }
    if let Some(folder) = &args.output.output {
        report::write_search(&steps, folder)?;
    }
    if !quiet {
        print!("{}", steps.conclusion());
    }
    Ok(steps)
}

fn verdict_of_steps(steps: &Steps) -> Result<(), BenchError> {
    let wrong: u64 = steps.runs.iter().map(|run| run.counts.wrong).sum();
    if wrong > 0 {
        return Err(BenchError::WrongAnswers(format!("{wrong} answers were wrong")));
    }
    match steps.best {
        _ if !steps.complete => Err(BenchError::Partial(steps.ended.clone())),
        Some(_) => Ok(()),
        None => Err(BenchError::Partial("no step was within the limit".to_owned())),
    }
}

fn compare_all(paths: &[PathBuf]) -> Result<(), BenchError> {
    let read = |path: &PathBuf| Ok((path.display().to_string(), RunResult::read(path)?));
    let results = paths.iter().map(read).collect::<Result<Vec<_>, BenchError>>()?;
    print!("{}", compare::table(&results));
    Ok(())
}

fn report_on(args: &ReportArgs) -> Result<(), BenchError> {
    if let Some(steps) = Steps::read(&args.result)? {
        return report_on_steps(&steps, args);
    }
    let result = RunResult::read(&args.result)?;
    let text = report::terminal::full(&result).map_err(|problem| BenchError::file(&args.result, problem))?;
    print!("{text}");
    if let Some(folder) = &args.output {
        let name = args.result.file_stem().unwrap_or_default().to_string_lossy();
        report::write_all(&result, folder, &name)?;
        println!("\nwrote {}", folder.join(format!("{name}.html")).display());
    }
    Ok(())
}

/// A search: its steps and curve, and in the folder the best step as a run of its own.
fn report_on_steps(steps: &Steps, args: &ReportArgs) -> Result<(), BenchError> {
    for run in &steps.runs {
        println!("{}", search::line(run));
    }
    print!("{}", steps.conclusion());
    let Some(folder) = &args.output else { return Ok(()) };
    report::write_search(steps, folder)?;
    println!("\nwrote {}", folder.join(format!("{}.svg", steps.kind)).display());
    Ok(())
}

/// A flag that Ctrl-C and a polite kill raise; a second Ctrl-C ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>, BenchError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    let register = || -> std::io::Result<()> {
        signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&stop))?;
        signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
        Ok(())
    };
    register().map_err(|error| BenchError::system("catching signals", error))?;
    Ok(stop)
}

fn spacing(args: &RunArgs) -> Spacing {
    if args.load.constant { Spacing::Constant } else { Spacing::Poisson }
}

/// The command line's words as a plan.
fn plan(args: &RunArgs) -> Result<Plan, BenchError> {
    let file = match &args.workload {
        Some(path) => WorkloadSpec::read(path)?,
        None => WorkloadSpec::default(),
    };
    let load = &args.load;
    let cores = load.cores.clone().map(|list| list.0).unwrap_or_default();
    let spec = args.spec.clone().or(file);
    // What has an end of its own is measured from its beginning to that end, unless told otherwise.
    let by_time = load.requests.is_none() && spec.trace.is_none();
    let or_default = |given: Option<u64>, default_ms: u64| given.or(by_time.then_some(default_ms));
    Ok(Plan {
        targets: args.targets.clone(),
        spec,
        open: load.rate.map(|rate| (rate, spacing(args))),
        connections: load.connections,
        depth: if load.rate.is_some() { load.window.unwrap_or(WINDOW) } else { load.pipeline.unwrap_or(1) },
        threads: load.threads.unwrap_or_else(|| cores.len().max(1)),
        cores,
        duration: or_default(load.duration, DURATION_MS).map(Duration::from_millis),
        requests: load.requests,
        warm_up: Duration::from_millis(or_default(load.warm_up, WARM_UP_MS).unwrap_or(0)),
        preload: load.preload,
        seed: load.seed,
        verify_every: load.verify_every,
        timeout: Duration::from_millis(load.timeout.max(1)),
        server_pid: load.server_pid,
    })
}

/// The exit code's reason: what was measured is told by now.
fn verdict(result: &RunResult) -> Result<(), BenchError> {
    if result.counts.wrong > 0 {
        return Err(BenchError::WrongAnswers(format!("{} answers were wrong", result.counts.wrong)));
    }
    if !result.complete {
        return Err(BenchError::Partial(result.warnings.join("; ")));
    }
    if result.counts.errors > 0 {
        return Err(BenchError::Partial(format!(
            "{} requests were answered with an error",
            result.counts.errors
        )));
    }
    Ok(())
}
