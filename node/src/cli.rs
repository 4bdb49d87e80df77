//! The command line: `pinnace` alone serves.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::backup::{BackupArgs, RestoreArgs};
use crate::config::Layer;
use crate::import::ImportArgs;
use crate::wal::WalArgs;

/// A cache that speaks RESP and its own binary protocol, on every core.
///
/// Without a command it serves until SIGINT or SIGTERM. Each setting can be a flag, a variable
/// (PINNACE_MEMORY for --memory) or a key of the configuration file (memory), in this order.
#[derive(Parser, Debug)]
#[command(name = "pinnace", version, max_term_width = 100, args_override_self = true)]
pub(crate) struct Cli {
    /// Configuration file: .toml, .json or .yaml
    #[arg(long, global = true, value_name = "FILE", env = "PINNACE_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,

    /// Reads the log and the snapshots as a start would, reports what they hold, and ends
    #[arg(long)]
    pub(crate) wal_replay: bool,

    #[command(flatten)]
    pub(crate) flags: Layer,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What else the binary does.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Checks or shows the configuration and ends
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Backs a running node up, or checks a backup
    Backup(BackupArgs),
    /// Makes a data directory of a backup; the node must not run
    Restore(RestoreArgs),
    /// Imports the strings of a Redis, from a dump file or a live server, into a running node
    Import(ImportArgs),
    /// Looks at the log of a node that does not run, checks it, or cuts it
    Wal(WalArgs),
}

/// What to do with the configuration.
#[derive(Subcommand, Clone, Copy, Debug)]
pub(crate) enum ConfigAction {
    /// Reports the first mistake, by exit code and message, without starting anything
    Check,
    /// Prints every setting as TOML, with where it comes from
    Print,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use crate::config::Layer;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_named_as_keys() {
        for argument in Cli::command().get_arguments().filter(|argument| argument.get_long().is_some()) {
            let flag = argument.get_long().unwrap();
            let key = flag.replace('-', "_");
            assert!(
                ["config", "help", "version", "wal-replay"].contains(&flag) || Layer::keys().contains(&key),
                "{flag}"
            );
        }
    }

    #[test]
    fn every_flag_and_exit_code_is_in_the_operations_manual() {
        let manual = include_str!("../../docs/operations.md");
        for key in Layer::keys() {
            let flag = format!("`--{}`", key.replace('_', "-"));
            assert!(manual.contains(&flag), "docs/operations.md lacks {flag}");
        }
        for code in [2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22] {
            assert!(manual.contains(&format!("| {code} |")), "docs/operations.md lacks exit code {code}");
        }
    }
}
