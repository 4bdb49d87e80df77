//! OBJECT and MEMORY USAGE: what the server knows about a key.
//!
//! Values are plain bytes here, so ENCODING is derived from them: `int` for the text of a 64-bit
//! integer, `embstr` up to 44 bytes, else `raw`. Redis also says `raw` for a short string that was
//! made by APPEND, SETRANGE or SETBIT. FREQ and IDLETIME answer as Redis does under an LFU policy,
//! since S3-FIFO counts uses and keeps no times: FREQ is the item's use counter, 0 to 3, and
//! IDLETIME is refused.

use pinnace_engine::value::integer as integers;
use pinnace_engine::{Entry, ValueRef};
use pinnace_protocol::{Args, resp};

use super::argument::integer;
use super::refusal::{Refusal, SYNTAX};
use super::{READ, docs, keyed, spec};
use crate::command::{CommandSpec, Flags, KeySpec, Run};
use crate::core::Core;
use crate::exec::Exec;
use crate::gather::{Outcome, SessionRef};

const THIRD: KeySpec = KeySpec { first: 2, last: 2, step: 1 };

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "object",
        -2,
        Flags::CONTAINER,
        KeySpec::NONE,
        Run::Internal,
        docs(
            "generic",
            "2.2.3",
            "Depends on the subcommand",
            "Tells what is known about the value at a key.",
        ),
    ),
    spec(
        "object|encoding",
        3,
        READ,
        THIRD,
        Run::Keyed(encoding),
        docs("generic", "2.2.3", "O(1)", "Gives the encoding that Redis uses for such a value."),
    ),
    spec(
        "object|freq",
        3,
        READ,
        THIRD,
        Run::Keyed(frequency),
        docs("generic", "4.0.0", "O(1)", "Gives the use counter of a key, 0 to 3."),
    ),
    spec(
        "object|idletime",
        3,
        READ,
        THIRD,
        Run::Keyed(keyed!(idletime)),
        docs("generic", "2.2.3", "O(1)", "Refused: uses are counted, their times are not kept."),
    ),
    spec(
        "object|refcount",
        3,
        READ,
        THIRD,
        Run::Keyed(refcount),
        docs("generic", "2.2.3", "O(1)", "Gives 1 for a key that exists: values are never shared."),
    ),
    spec(
        "object|help",
        2,
        Flags::LOADING.and(Flags::STALE),
        KeySpec::NONE,
        Run::Session(help),
        docs("generic", "6.2.0", "O(1)", "Lists the subcommands."),
    ),
    spec(
        "memory|usage",
        -3,
        READ,
        THIRD,
        Run::Keyed(keyed!(memory_usage)),
        docs("server", "4.0.0", "O(1)", "Gives the bytes that a key and its value take."),
    ),
];

/// Longest string that Redis keeps in one piece with its header.
const EMBEDDED_BYTES_MAX: usize = 44;

const NO_IDLE_TIME: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
    when switching between policies at runtime LRU and LFU data will take some time to adjust.";

/// Replies to a question about the key in `args[2]`; null if there is none.
fn about(exec: &mut Exec<'_>, answer: impl FnOnce(&Entry<'_>, &mut Vec<u8>)) {
    match exec.ks.peek(&exec.first_key) {
        Some(entry) => answer(&entry, exec.out.bytes()),
        None => resp::null(exec.out.bytes(), exec.resp),
    }
}

fn encoding(exec: &mut Exec<'_>, _: Args<'_>) {
    about(exec, |entry, out| {
        let name = match entry.value {
            ValueRef::Bytes(bytes) if integers::parse(bytes).is_some() => "int",
            value if value.len() <= EMBEDDED_BYTES_MAX => "embstr",
            _ => "raw",
        };
        resp::bulk(out, name.as_bytes());
    });
}

fn frequency(exec: &mut Exec<'_>, _: Args<'_>) {
    about(exec, |entry, out| resp::integer(out, i64::from(entry.frequency)));
}

fn refcount(exec: &mut Exec<'_>, _: Args<'_>) {
    about(exec, |_, out| resp::integer(out, 1));
}

fn idletime(exec: &mut Exec<'_>, _: Args<'_>) -> Result<(), Refusal> {
    if exec.ks.peek(&exec.first_key).is_some() {
        return Err(NO_IDLE_TIME.into());
    }
    exec.null();
    Ok(())
}

fn help(_: &mut Core, _: SessionRef, _: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    const LINES: [&str; 12] = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Give the encoding that Redis uses for a value like the one at <key>.",
        "FREQ <key>",
        "    Give the use counter of <key>: the times it was read since it last moved",
        "    in its eviction queue, at most 3.",
        "IDLETIME <key>",
        "    Refused, as by Redis under an LFU policy: times of use are not kept.",
        "REFCOUNT <key>",
        "    Give 1 for a key that exists: values are never shared.",
        "HELP",
        "    Print this help.",
    ];
    resp::array(out, LINES.len());
    LINES.iter().for_each(|line| resp::simple(out, line));
    Outcome::Replied
}

fn memory_usage(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let mut index = 3;
    while let Some(option) = args.get(index) {
        // Samples matter to values with elements only; strings are known exactly.
        let (true, Some(samples)) = (option.eq_ignore_ascii_case(b"samples"), args.get(index + 1)) else {
            return Err(SYNTAX.into());
        };
        if integer(samples)? < 0 {
            return Err(SYNTAX.into());
        }
        index += 2;
    }
    match exec.ks.item_bytes(&exec.first_key) {
        Some(bytes) => exec.integer(bytes as i64),
        None => exec.null(),
    }
    Ok(())
}
