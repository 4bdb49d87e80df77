//! `pinnace import`: takes what a Redis holds into a running node, from a dump file or from the live
//! server.
//!
//! Strings with their deadlines are what a node holds. Everything else is counted by type with some of
//! its keys, reported, and told by the exit code: nothing is left out in silence.

pub(crate) mod connection;
mod dump;
pub(crate) mod endpoint;
mod live;
pub(crate) mod progress;
mod report;
mod target;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::config::Settings;
use crate::failure::Failure;
use endpoint::Endpoint;
use report::Report;

/// What to import and how.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// A dump file, or a live server: redis://[user:password@]host[:port][/database]
    #[arg(value_name = "FILE|URL")]
    source: String,

    /// The node to import into [default: --bind and --port of the configuration]
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<Endpoint>,

    /// The database of a dump file that is imported [default: 0]
    #[arg(long, value_name = "N")]
    db: Option<u64>,

    /// Overwrite keys that the node has already (the default)
    #[arg(long, overrides_with = "keep")]
    replace: bool,

    /// Leave keys alone that the node has already
    #[arg(long, overrides_with = "replace")]
    keep: bool,

    /// End with code 0 although there were keys that only a Redis can hold
    #[arg(long)]
    skip_unsupported: bool,

    /// Go on with a copy of a live server as this file says, or note in it how far the copy is
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

impl ImportArgs {
    /// The last of both flags counts.
    fn keeps(&self) -> bool {
        self.keep && !self.replace
    }

    fn target(&self, settings: &Settings) -> Endpoint {
        endpoint::or_configured(self.to.as_ref(), settings)
    }
}

/// Imports; the report goes to stdout.
///
/// # Errors
/// [`Failure::Import`] if it could not be done, [`Failure::ImportPartly`] if keys were left out.
pub(crate) fn import(arguments: &ImportArgs, settings: &Settings) -> Result<(), Failure> {
    let endpoint = arguments.target(settings);
    let started = Instant::now();
    let report = if arguments.source.contains("://") {
        if arguments.db.is_some() {
            let text = "--db is for dump files: a live server's database stands in its address, as in redis://host/3";
            return Err(Failure::Config(text.to_owned()));
        }
        let source: Endpoint = arguments.source.parse().map_err(Failure::Config)?;
        live::copy(&source, &endpoint, arguments)?
    } else {
        if arguments.resume.is_some() {
            let text = "--resume is for live servers: a dump file is read again from its start";
            return Err(Failure::Config(text.to_owned()));
        }
        dump::load(&arguments.source, &endpoint, arguments)?
    };
    crate::print(&report.text(&endpoint.to_string(), started.elapsed()));
    conclude(&report, arguments.skip_unsupported)
}

fn conclude(report: &Report, skip_unsupported: bool) -> Result<(), Failure> {
    if report.refused.count > 0 {
        return Err(Failure::ImportPartly(format!(
            "the node refused {} keys: see the report",
            report.refused.count
        )));
    }
    if report.left_out_count() > 0 && !skip_unsupported {
        return Err(Failure::ImportPartly(format!(
            "{} keys or functions were left out: see the report (--skip-unsupported takes this for success)",
            report.left_out_count()
        )));
    }
    Ok(())
}
