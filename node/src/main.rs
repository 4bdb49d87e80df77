//! The `pinnace` binary: one cache node.
//!
//! Reads the configuration, measures it against the host, starts one pinned executor per core and
//! stops them all on a signal. It knows nothing of keys, commands or frames: those are `pinnace-core`
//! and `pinnace-driver`, which this crate wires together.
#![forbid(unsafe_code)]

mod backup;
mod banner;
mod cli;
mod config;
mod core_log;
mod core_snapshots;
mod core_thread;
mod data_dir;
mod failure;
mod host;
mod import;
mod layout;
mod logging;
mod plan;
mod recovery;
mod serve;
mod signals;
mod wal;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, ConfigAction};
use config::{Config, process_variables};
use failure::Failure;
use host::Host;
use plan::Plan;
use serve::Task;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // One line for people even when logs are for machines: it is the last thing that happens.
            let _ = writeln!(std::io::stderr(), "pinnace: {failure}");
            ExitCode::from(&failure)
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let config = Config::load(&cli.flags, &process_variables(), cli.config.as_deref())?;
    match &cli.command {
        None => {
            let task = if cli.wal_replay { Task::Replay } else { Task::Serve };
            serve::serve(&config, cli.config.as_deref(), task)
        }
        Some(Command::Config { action: ConfigAction::Print }) => {
            print(&config.print());
            Ok(())
        }
        Some(Command::Config { action: ConfigAction::Check }) => {
            let plan = Plan::make(&config.settings, &Host::detect())?;
            print(&banner::banner(&config.settings, &plan));
            Ok(())
        }
        Some(Command::Backup(arguments)) => {
            backup::backup(arguments, &config.settings, cli.flags.data_dir.as_deref())
        }
        Some(Command::Restore(arguments)) => backup::restore(arguments, &config.settings),
        Some(Command::Import(arguments)) => import::import(arguments, &config.settings),
        Some(Command::Wal(arguments)) => wal::wal(arguments),
    }
}

/// Prints to stdout; a reader that went away is no reason to stop.
fn print(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
