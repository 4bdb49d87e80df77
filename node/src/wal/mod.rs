//! `pinnace wal`: looks at the log of a node that does not run, checks it, and cuts it where nothing else helps.
//!
//! It reads what [docs/wal.md](../../../docs/wal.md) specifies and changes nothing, except for `repair`, which keeps a copy of
//! all that it cuts.

mod dump;
mod repair;
mod store;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pinnace_types::{CoreId, LogPosition};

use crate::failure::Failure;
use store::Store;

/// What to do with which log.
#[derive(Args, Debug)]
pub(crate) struct WalArgs {
    #[command(subcommand)]
    action: WalAction,
}

#[derive(Args, Debug)]
struct Place {
    /// The data directory of the node
    #[arg(value_name = "DATA_DIR")]
    data_dir: PathBuf,

    /// Where the log is, if it is kept apart [default: DATA_DIR/wal]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,

    /// Only the log of this core
    #[arg(long, value_name = "N")]
    core: Option<u16>,
}

#[derive(Subcommand, Debug)]
enum WalAction {
    /// Lists segments and snapshots, and where each core's log ends
    Inspect(Place),
    /// Reads everything and checks it; ends with code 19 if something is damaged
    Verify(Place),
    /// Prints the records, one a line
    Dump {
        #[command(flatten)]
        place: Place,
        /// The first log position
        #[arg(long, value_name = "OFFSET", default_value_t = 0)]
        from: u64,
        /// The log position to stop at
        #[arg(long, value_name = "OFFSET")]
        to: Option<u64>,
    },
    /// Cuts a core's log at a position that verify has named, and keeps a copy of what it cuts
    Repair {
        #[command(flatten)]
        place: Place,
        /// The log position at which the log shall end
        #[arg(long, value_name = "OFFSET")]
        to: u64,
        /// Do it: what stands behind the position is lost, acknowledged or not
        #[arg(long)]
        yes_lose_data: bool,
    },
}

/// Does it; what it found goes to stdout.
///
/// # Errors
/// [`Failure::Damaged`] if the log or a snapshot is, [`Failure::DataDir`] if it cannot be read or is in use.
pub(crate) fn wal(arguments: &WalArgs) -> Result<(), Failure> {
    match &arguments.action {
        WalAction::Inspect(place) => crate::print(&verify::inspect(&Store::open(place)?)?),
        WalAction::Verify(place) => crate::print(&verify::verify(&Store::open(place)?)?),
        WalAction::Dump { place, from, to } => {
            dump::dump(&Store::open(place)?, LogPosition(*from), LogPosition(to.unwrap_or(u64::MAX)))?;
        }
        WalAction::Repair { place, to, yes_lose_data } => {
            let core = place.core.ok_or_else(|| {
                Failure::Config("repair needs --core: a position is one of a core's log".to_owned())
            })?;
            let store = Store::open(place)?;
            let _lock = store.lock()?;
            repair::repair(&store, CoreId(core), LogPosition(*to), *yes_lose_data)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
