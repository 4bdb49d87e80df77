//! Values that move from key to key: RENAME, RENAMENX, COPY.
//!
//! With both keys on one core these are atomic; else see [`super::across`].

use pinnace_engine::{Key, WriteError};
use pinnace_protocol::Args;
use pinnace_types::Deadline;

use super::across::{copy_over_cores, rename_over_cores, renamenx_over_cores};
use super::refusal::{NO_SUCH_KEY, Refusal, SYNTAX};
use super::value::{Taken, slices_of};
use super::{GROW, WRITE, WRITE_FAST, argument, building, docs, spec};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "rename",
        3,
        WRITE,
        KeySpec::TWO,
        Run::KeyedOr(building!(rename), rename_over_cores),
        docs(
            "generic",
            "1.0.0",
            "O(N) with N the length of the value",
            "Renames a key, replacing what has the new name.",
        ),
    ),
    spec(
        "renamenx",
        3,
        WRITE_FAST,
        KeySpec::TWO,
        Run::KeyedOr(building!(renamenx), renamenx_over_cores),
        docs(
            "generic",
            "1.0.0",
            "O(N) with N the length of the value",
            "Renames a key if nothing has the new name.",
        ),
    ),
    spec(
        "copy",
        -3,
        GROW,
        KeySpec::TWO,
        Run::KeyedOr(building!(copy), copy_over_cores),
        docs(
            "generic",
            "6.2.0",
            "O(N) with N the length of the value",
            "Copies the value of a key to another key.",
        ),
    ),
];

const SAME_OBJECT: &str = "ERR source and destination objects are the same";
const DATABASE_OUT_OF_RANGE: &str = "ERR DB index is out of range";
/// Writes a value taken from one key to another.
fn put(exec: &mut Exec<'_>, key: &Key<'_>, value: &Taken, deadline: Deadline) -> Result<(), WriteError> {
    match value {
        Taken::Absent => Ok(()),
        Taken::Copied => exec.ks.set(key, exec.scratch, deadline),
        Taken::Pinned(large) => exec.ks.set_parts(key, &slices_of(large), deadline),
    }
}

fn take(exec: &mut Exec<'_>, key: &Key<'_>) -> Option<(Taken, Deadline)> {
    let entry = exec.ks.peek(key)?;
    Some((Taken::take(entry.value, exec.scratch), entry.deadline))
}

/// Moves the first key's value to the second; false if `only_if_absent` and the second exists.
fn move_value(exec: &mut Exec<'_>, args: Args<'_>, only_if_absent: bool) -> Result<bool, Refusal> {
    let (from, to) = (exec.first_key, exec.key(args.at(2)));
    let (value, deadline) = take(exec, &from).ok_or(Refusal::Text(NO_SUCH_KEY))?;
    if from.bytes() == to.bytes() {
        return Ok(!only_if_absent);
    }
    if only_if_absent && exec.ks.peek(&to).is_some() {
        return Ok(false);
    }
    put(exec, &to, &value, deadline)?;
    exec.ks.delete(&from);
    Ok(true)
}

fn rename(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    move_value(exec, args, false)?;
    exec.ok();
    Ok(())
}

fn renamenx(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let moved = move_value(exec, args, true)?;
    exec.integer(i64::from(moved));
    Ok(())
}

/// Reads the options of COPY: whether it replaces.
pub(super) fn parse_copy(args: Args<'_>) -> Result<bool, Refusal> {
    let mut replaces = false;
    let mut index = 3;
    while let Some(option) = args.get(index) {
        if option.eq_ignore_ascii_case(b"replace") {
            replaces = true;
            index += 1;
        } else if option.eq_ignore_ascii_case(b"db")
            && let Some(database) = args.get(index + 1)
        {
            if argument::integer(database)? != 0 {
                return Err(DATABASE_OUT_OF_RANGE.into());
            }
            index += 2;
        } else {
            return Err(SYNTAX.into());
        }
    }
    if args.at(1) == args.at(2) { Err(SAME_OBJECT.into()) } else { Ok(replaces) }
}

fn copy(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let replaces = parse_copy(args)?;
    let (from, to) = (exec.first_key, exec.key(args.at(2)));
    let Some((value, deadline)) = take(exec, &from) else {
        exec.integer(0);
        return Ok(());
    };
    let copies = replaces || exec.ks.peek(&to).is_none();
    if copies {
        put(exec, &to, &value, deadline)?;
    }
    exec.integer(i64::from(copies));
    Ok(())
}
