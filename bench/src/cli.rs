//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::target::Target;
use crate::workload::WorkloadSpec;
use crate::workload::ttl::duration_ms;

/// A load generator for caches whose latency reports can be believed
#[derive(Debug, Parser)]
#[command(name = "pinnace-bench", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Drive one or more targets and measure
    Run(Box<RunArgs>),
    /// Raise the offered rate until p99 passes a limit: the latency-throughput curve and its knee
    Sweep(Box<SweepArgs>),
    /// Find the highest throughput, and which side limits it
    Saturate(Box<RunArgs>),
    /// Compare results: ratios, spreads, and whether a difference is more than noise
    Compare {
        /// Results of run --json; those of the same server and load count as repetitions
        #[arg(required = true, num_args = 2..)]
        results: Vec<PathBuf>,
    },
    /// Show a result, and write it as HTML, SVG, PNG, HGRM and CSV
    Report(ReportArgs),
    /// List the ready-made workloads and where their numbers are from
    Presets,
}

/// Options of a report.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// A result of run, sweep or saturate --json
    pub(crate) result: PathBuf,
    /// Folder for HTML, plots and tables; without it only the terminal is written to
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
}

/// Options of a sweep.
#[derive(Clone, Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// First rate
    #[arg(long, value_parser = parse_rate, default_value = "10k", help_heading = "Sweep")]
    pub(crate) from: f64,
    /// Last rate
    #[arg(long, value_parser = parse_rate, default_value = "20M", help_heading = "Sweep")]
    pub(crate) to: f64,
    /// Each rate is this many times the one before
    #[arg(long, default_value_t = 1.5, help_heading = "Sweep")]
    pub(crate) factor: f64,
    /// The sweep ends when p99 passes this
    #[arg(long, value_parser = parse_ms, default_value = "1ms", help_heading = "Sweep")]
    pub(crate) p99_limit: u64,
}

/// Options of a run.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Targets: pinnace://HOST:PORT, redis://, redis-cluster:// or memcache://HOST:PORT[?protocol=meta]
    #[arg(required = true)]
    pub(crate) targets: Vec<Target>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Workload file (TOML); flags override it
    #[arg(long, help_heading = "Workload")]
    pub(crate) workload: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) spec: WorkloadSpec,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How requests are offered.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Open loop: requests a second, whatever the server does; without it the loop is closed
    #[arg(long, value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Open loop: equal gaps between requests instead of Poisson arrivals
    #[arg(long)]
    pub(crate) constant: bool,
    /// Connections, over all threads and targets
    #[arg(long, short, default_value_t = 50)]
    pub(crate) connections: usize,
    /// Closed loop: requests under way on each connection [default: 1]
    #[arg(long, short)]
    pub(crate) pipeline: Option<usize>,
    /// Open loop: requests that may be under way on each connection [default: 1024]
    #[arg(long)]
    pub(crate) window: Option<usize>,
    /// Generator threads [default: one for each core given, else one]
    #[arg(long, short)]
    pub(crate) threads: Option<usize>,
    /// Cores that the threads are pinned to, as 1 or 1,3 or 2-5
    #[arg(long, value_parser = parse_cores)]
    pub(crate) cores: Option<CoreList>,
    /// How long to measure, as 10s or 5m [default: 10s; none with --requests or --trace]
    #[arg(long, short, value_parser = parse_ms)]
    pub(crate) duration: Option<u64>,
    /// Measure so many requests; with --duration, what comes first ends the run
    #[arg(long, short = 'n')]
    pub(crate) requests: Option<u64>,
    /// Load before measuring, not recorded [default: 1s; none with --requests or --trace]
    #[arg(long, value_parser = parse_ms)]
    pub(crate) warm_up: Option<u64>,
    /// Write every key once before anything else
    #[arg(long)]
    pub(crate) preload: bool,
    /// Same seed, same requests
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Compare one of so many values with what its key was given; 1: all, 0: none
    #[arg(long, default_value_t = 64)]
    pub(crate) verify_every: u32,
    /// Give up a connection whose answer takes longer
    #[arg(long, value_parser = parse_ms, default_value = "10s")]
    pub(crate) timeout: u64,
    /// Process id of a local server, if it cannot be found by its port
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
}

/// Where results go.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Write the result as JSON
    #[arg(long, short, help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report into this folder, as `report --output` does
    #[arg(long, short, help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// Numbers of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(pub(crate) Vec<usize>);

fn parse_cores(text: &str) -> Result<CoreList, String> {
    let wrong = || format!("`{text}` is no list of cores: use 1 or 1,3 or 2-5");
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| wrong())?;
        let last: usize = last.parse().map_err(|_| wrong())?;
        if first > last || last >= 4096 {
            return Err(wrong());
        }
        cores.extend(first..=last);
    }
    Ok(CoreList(cores))
}

fn parse_ms(text: &str) -> Result<u64, String> {
    duration_ms(text).ok_or_else(|| format!("`{text}` is no duration: use 500ms, 10s or 5m"))
}

/// A rate with an optional unit: 10000, 250k, 1.5M.
fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = number.parse::<f64>().map_or(f64::NAN, |number| number * factor);
    if rate.is_finite() && (0.001..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("`{text}` is no rate: use 10000, 250k or 1.5M (a second)"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, CoreList, parse_cores, parse_rate};
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn cores_and_rates_are_read() {
        assert_eq!(parse_cores("0,2-4"), Ok(CoreList(vec![0, 2, 3, 4])));
        assert!(parse_cores("4-2").is_err() && parse_cores("").is_err());
        assert_eq!(parse_rate("1.5M"), Ok(1.5e6));
        assert!(parse_rate("0").is_err() && parse_rate("fast").is_err() && parse_rate("-1k").is_err());
    }
}
