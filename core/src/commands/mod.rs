//! Commands on keys, one file per family, and the commands that walk over all keys.
//!
//! A keyed command runs on the core that owns its keys and knows no session. Commands with keys on
//! several cores, and those over all keys, are put together here from parts that other cores run.
//! Replies and error texts are Redis 7.2's, byte for byte; `testdata/*.resp` holds the proof.

mod across;
mod argument;
mod bitfield;
mod bitmap;
mod each_key;
mod expire;
mod expiry;
mod generic;
mod keys;
mod lcs;
mod multiple;
mod number;
mod object;
mod refusal;
mod scan;
mod set;
mod string;
mod transfer;
mod value;

use crate::command::{CommandSpec, Flags, KeySpec, Part, PartRun, Run};

/// All families of this module.
pub(crate) fn families() -> [&'static [CommandSpec]; 14] {
    [
        string::SPECS,
        set::SPECS,
        multiple::SPECS,
        number::SPECS,
        bitmap::SPECS,
        bitfield::SPECS,
        lcs::SPECS,
        generic::SPECS,
        expire::SPECS,
        transfer::SPECS,
        across::SPECS,
        object::SPECS,
        keys::SPECS,
        scan::SPECS,
    ]
}

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);

/// What COMMAND DOCS says about a command.
struct Docs {
    group: &'static str,
    since: &'static str,
    complexity: &'static str,
    summary: &'static str,
}

const fn docs(
    group: &'static str,
    since: &'static str,
    complexity: &'static str,
    summary: &'static str,
) -> Docs {
    Docs { group, since, complexity, summary }
}

const fn spec(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: KeySpec,
    run: Run,
    docs: Docs,
) -> CommandSpec {
    let Docs { group, since, complexity, summary } = docs;
    CommandSpec { name, arity, flags, keys, run, part: None, group, since, summary, complexity }
}

/// A command that other cores are asked for their part of.
const fn with_part(spec: CommandSpec, part: PartRun) -> CommandSpec {
    CommandSpec { part: Some(Part::Plain(part)), ..spec }
}

/// A keyed command that may refuse, as the function that the table holds.
macro_rules! keyed {
    ($command:path) => {
        |exec, args| {
            if let Err(refusal) = $command(exec, args) {
                refusal.reply(exec);
            }
        }
    };
}
use keyed;

/// As [`keyed`], for a command that builds values in the scratch buffer.
macro_rules! building {
    ($command:path) => {
        |exec, args| {
            if let Err(refusal) = $command(exec, args) {
                refusal.reply(exec);
            }
            $crate::commands::value::shrink_scratch(exec.scratch);
        }
    };
}
use building;
