//! COMMAND: the command table told to clients, from the same table that runs the commands.

mod describe;
mod keys;
mod list;
mod tips;

pub(super) use list::{CATEGORIES, categories_of};

use pinnace_protocol::Args;
use pinnace_protocol::resp;

use super::reply::{INFORMATION, doc, help, session};
use crate::command::{CommandId, CommandSpec, CommandTable, Flags, SessionRun};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};

const COST: &str = "O(N) for N commands";

const fn told(
    name: &'static str,
    arity: i16,
    run: SessionRun,
    since: &'static str,
    summary: &'static str,
    complexity: &'static str,
) -> CommandSpec {
    session(name, arity, INFORMATION, run, doc("server", since, summary, complexity))
}

pub(super) static SPECS: &[CommandSpec] = &[
    session(
        "command",
        -1,
        INFORMATION.and(Flags::CONTAINER),
        describe::all,
        doc("server", "2.8.13", "Describes all commands", COST),
    ),
    told("command|count", 2, count, "2.8.13", "Counts the commands", "O(1)"),
    told("command|list", -2, list::list, "7.0.0", "Lists the commands' names", COST),
    told("command|info", -2, describe::info, "2.8.13", "Describes commands", COST),
    told("command|docs", -2, describe::docs, "7.0.0", "Documents commands", COST),
    told(
        "command|getkeys",
        -3,
        keys::getkeys,
        "2.8.13",
        "Finds the keys of a command",
        "O(N) for N arguments",
    ),
    told(
        "command|getkeysandflags",
        -3,
        keys::getkeys_and_flags,
        "7.0.0",
        "Finds the keys of a command and what it does with them",
        "O(N) for N arguments",
    ),
    told("command|help", 2, command_help, "5.0.0", "Shows the subcommands", "O(1)"),
];

/// Whether clients may know of an entry: parts that only cores ask for are not commands.
fn is_public(spec: &CommandSpec) -> bool {
    !spec.name.starts_with('_')
}

fn is_subcommand(spec: &CommandSpec) -> bool {
    spec.name.contains('|')
}

/// The commands of the first level.
fn commands(table: &CommandTable) -> impl Iterator<Item = (CommandId, &'static CommandSpec)> + '_ {
    table.iter().filter(|(_, spec)| is_public(spec) && !is_subcommand(spec))
}

/// The subcommands of a container.
fn subcommands(table: &CommandTable, container: &'static CommandSpec) -> Vec<&'static CommandSpec> {
    let is_of =
        |spec: &&CommandSpec| spec.name.split_once('|').is_some_and(|(name, _)| name == container.name);
    table.iter().map(|(_, spec)| spec).filter(is_of).collect()
}

fn count(core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    resp::integer(out, commands(&core.table).count() as i64);
    Outcome::Replied
}

fn command_help(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    help(
        out,
        "COMMAND",
        &[
            "(no subcommand)",
            "    Return details about all Redis commands.",
            "COUNT",
            "    Return the total number of commands in this Redis server.",
            "LIST",
            "    Return a list of all commands in this Redis server.",
            "INFO [<command-name> ...]",
            "    Return details about multiple Redis commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "DOCS [<command-name> ...]",
            "    Return documentation details about multiple Redis commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "GETKEYS <full-command>",
            "    Return the keys from a full Redis command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Return the keys and the access flags from a full Redis command.",
        ],
    )
}
