//! Several strings at once.
//!
//! Over several cores MGET and MSET are taken apart by owner and are then not atomic: each core
//! does its share at a moment of its own. MSETNX promises all or nothing, so its keys have to be on
//! one core: give them a common hash tag.

use pinnace_protocol::{Args, resp};
use pinnace_types::Deadline;

use super::each_key::for_each_key;
use super::refusal::Refusal;
use super::value::{push_value, string};
use super::{GROW, READ_FAST, docs, keyed, spec};
use crate::command::{CommandSpec, Flags, KeySpec, Run, Split};
use crate::core::Core;
use crate::exec::Exec;
use crate::gather::{Outcome, SessionRef};

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "mget",
        -2,
        READ_FAST,
        KeySpec::ALL,
        Run::KeyedSplit(keyed!(mget), Split::Elements),
        docs("string", "1.0.0", "O(N) with N the number of keys", "Gives the string values of several keys."),
    ),
    spec(
        "mset",
        -3,
        GROW.and(Flags::SHORT),
        KeySpec::PAIRS,
        Run::KeyedSplit(keyed!(mset), Split::AllOk),
        docs("string", "1.0.1", "O(N) with N the number of keys", "Sets several keys to string values."),
    ),
    spec(
        "msetnx",
        -3,
        GROW,
        KeySpec::PAIRS,
        Run::KeyedOr(keyed!(msetnx), msetnx_over_cores),
        docs(
            "string",
            "1.0.1",
            "O(N) with N the number of keys",
            "Sets several keys if none of them exists.",
        ),
    ),
];

const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

fn mget(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    resp::array(exec.out.bytes(), args.len() - 1);
    for_each_key(exec, args, 1, |exec, key, _| {
        // A value of another type is null here, not an error.
        match exec.ks.get(key).as_ref().map(string) {
            Some(Ok(value)) => push_value(exec.out, value),
            Some(Err(_)) | None => resp::null(exec.out.bytes(), exec.resp),
        }
        Ok(())
    })
}

fn are_pairs(args: Args<'_>) -> bool {
    args.len() % 2 == 1
}

fn set_all(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    for_each_key(exec, args, 2, |exec, key, at| Ok(exec.ks.set(key, args.at(at + 1), Deadline::NEVER)?))
}

fn mset(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    if !are_pairs(args) {
        return Err(Refusal::arity("mset"));
    }
    set_all(exec, args)?;
    exec.ok();
    Ok(())
}

fn msetnx(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    if !are_pairs(args) {
        return Err(Refusal::arity("msetnx"));
    }
    let any_exists = (1..args.len()).step_by(2).any(|index| {
        let key = exec.ks.key(args.at(index));
        exec.ks.peek(&key).is_some()
    });
    if !any_exists {
        set_all(exec, args)?;
    }
    exec.integer(i64::from(!any_exists));
    Ok(())
}

fn msetnx_over_cores(core: &mut Core, _: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let text =
        if are_pairs(args) { CROSS_SLOT } else { "ERR wrong number of arguments for 'msetnx' command" };
    core.stats.count_error(text);
    resp::error(out, text);
    Outcome::Replied
}
