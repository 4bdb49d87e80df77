//! Short forms for the replies of session commands, and for reading their arguments.

use pinnace_engine::value::integer;
use pinnace_protocol::{Args, resp};

use crate::command::{CommandId, CommandSpec, Flags, KeySpec, Part, PartRun, Run, SessionRun};
use crate::core::Core;
use crate::gather::{Continuation, Gather, Next, Outcome};

pub(super) const SYNTAX_ERROR: &str = "ERR syntax error";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Replies with an error and counts it.
pub(super) fn fail(core: &mut Core, out: &mut Vec<u8>, text: &str) -> Outcome {
    core.stats.count_error(text);
    crate::exec::error_line(out, text);
    Outcome::Replied
}

/// An error that counts, as the end of a gathered command.
pub(super) fn fail_later(core: &mut Core, text: &str) -> Next {
    let mut out = Vec::new();
    fail(core, &mut out, text);
    Next::Reply(out)
}

pub(super) fn ok(out: &mut Vec<u8>) -> Outcome {
    out.extend_from_slice(b"+OK\r\n");
    Outcome::Replied
}

/// The answer of a command that needs a connection where there is none: EXEC runs queued commands on
/// the core that owns the keys, which may not be the connection's.
pub(super) fn no_session(core: &mut Core, out: &mut Vec<u8>, args: Args<'_>) -> Outcome {
    let name = shown(args.at(0)).to_ascii_lowercase();
    fail(core, out, &format!("ERR '{name}' is not allowed inside a transaction"))
}

pub(super) fn wrong_arity(core: &mut Core, out: &mut Vec<u8>, command: &str) -> Outcome {
    fail(core, out, &format!("ERR wrong number of arguments for '{command}' command"))
}

/// The reply that a closure writes.
pub(super) fn reply(write: impl FnOnce(&mut Vec<u8>)) -> Next {
    let mut out = Vec::new();
    write(&mut out);
    Next::Reply(out)
}

/// A strict decimal integer, as Redis reads it.
pub(super) fn parse_i64(text: &[u8]) -> Option<i64> {
    integer::parse(text)
}

/// An argument within an error text: replies hold no control bytes and no endless echoes.
pub(super) fn shown(arg: &[u8]) -> String {
    crate::exec::quoted(&arg[..arg.len().min(128)])
}

/// Asks every core for its part of `name`, which is a command or, as `client|list`, a subcommand.
pub(super) fn ask_all(core: &mut Core, name: &str, args: &[&[u8]], then: Continuation) -> Gather {
    let command = id_of(core, name);
    Gather::from_all(core, command, args, then)
}

fn id_of(core: &mut Core, name: &str) -> CommandId {
    core.table.find(name.as_bytes()).expect("commands ask for parts of commands that are in the table")
}

/// All arguments, to send them to other cores.
pub(super) fn all_args<'a>(args: Args<'a>) -> Vec<&'a [u8]> {
    args.iter().collect()
}

/// Redis' form of a HELP reply: status lines, the head and the end of which are always the same.
pub(super) fn help(out: &mut Vec<u8>, command: &str, lines: &[&str]) -> Outcome {
    resp::array(out, lines.len() + 3);
    resp::simple(out, format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| resp::simple(out, line));
    resp::simple(out, "HELP");
    resp::simple(out, "    Print this help.");
    Outcome::Replied
}

/// What COMMAND DOCS says of a command.
pub(super) struct Doc {
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) complexity: &'static str,
}

pub(super) const fn doc(
    group: &'static str,
    since: &'static str,
    summary: &'static str,
    complexity: &'static str,
) -> Doc {
    Doc { group, since, summary, complexity }
}

/// A command of the session's core.
pub(super) const fn session(
    name: &'static str,
    arity: i16,
    flags: Flags,
    run: SessionRun,
    doc: Doc,
) -> CommandSpec {
    CommandSpec {
        name,
        arity,
        flags,
        keys: KeySpec::NONE,
        run: Run::Session(run),
        part: None,
        group: doc.group,
        since: doc.since,
        summary: doc.summary,
        complexity: doc.complexity,
    }
}

/// A command that only has subcommands.
pub(super) const fn container(name: &'static str, doc: Doc) -> CommandSpec {
    CommandSpec {
        name,
        arity: -2,
        flags: Flags::CONTAINER,
        keys: KeySpec::NONE,
        run: Run::Internal,
        part: None,
        group: doc.group,
        since: doc.since,
        summary: doc.summary,
        complexity: "Depends on the subcommand",
    }
}

/// A command that every core has a part in.
pub(super) const fn gathered(spec: CommandSpec, part: PartRun) -> CommandSpec {
    CommandSpec { part: Some(Part::Plain(part)), ..spec }
}

/// A command whose arguments from `keys` on are routed like keys.
pub(super) const fn keyed(spec: CommandSpec, keys: KeySpec) -> CommandSpec {
    CommandSpec { keys, ..spec }
}

/// Flags of administration commands.
pub(super) const ADMIN: Flags = Flags::ADMIN.and(CONNECTION);
/// Flags of commands on the connection itself.
pub(super) const CONNECTION: Flags = Flags::NOSCRIPT.and(INFORMATION);
/// Flags of commands that only tell something.
pub(super) const INFORMATION: Flags = Flags::LOADING.and(Flags::STALE);
