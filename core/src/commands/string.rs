//! Reading strings, and changing a part of one.

use pinnace_engine::ValueRef;
use pinnace_engine::value::range;
use pinnace_protocol::{Args, resp};
use pinnace_types::Deadline;

use super::argument::{check_length, integer};
use super::expiry::Lifetime;
use super::refusal::{Refusal, SYNTAX};
use super::value::{Taken, copy_range, grow, load, push_value, slices_of, store, string};
use super::{GROW, GROW_FAST, READ, READ_FAST, WRITE_FAST, building, docs, keyed, spec};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::exec::Exec;

const OFFSET_OUT_OF_RANGE: &str = "ERR offset is out of range";

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "get",
        2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(get)),
        docs("string", "1.0.0", "O(1)", "Gives the string value of a key."),
    ),
    spec(
        "getdel",
        2,
        WRITE_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(getdel)),
        docs("string", "6.2.0", "O(1)", "Gives the string value of a key and deletes the key."),
    ),
    spec(
        "getex",
        -2,
        WRITE_FAST,
        KeySpec::ONE,
        Run::Keyed(building!(getex)),
        docs("string", "6.2.0", "O(1)", "Gives the string value of a key and changes its expiration time."),
    ),
    spec(
        "getset",
        3,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(building!(getset)),
        docs("string", "1.0.0", "O(1)", "Sets a key and gives its previous string value."),
    ),
    spec(
        "strlen",
        2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(strlen)),
        docs("string", "2.2.0", "O(1)", "Gives the length of a string value."),
    ),
    spec(
        "append",
        3,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(building!(append)),
        docs(
            "string",
            "2.0.0",
            "O(N) with N the length of the value",
            "Appends to a string value, or creates it.",
        ),
    ),
    spec(
        "getrange",
        4,
        READ,
        KeySpec::ONE,
        Run::Keyed(keyed!(getrange)),
        docs("string", "2.4.0", "O(N) with N the length of the reply", "Gives a part of a string value."),
    ),
    spec(
        "substr",
        4,
        READ,
        KeySpec::ONE,
        Run::Keyed(keyed!(getrange)),
        docs("string", "1.0.0", "O(N) with N the length of the reply", "Gives a part of a string value."),
    ),
    spec(
        "setrange",
        4,
        GROW,
        KeySpec::ONE,
        Run::Keyed(building!(setrange)),
        docs(
            "string",
            "2.2.0",
            "O(N) with N the length of the value",
            "Overwrites a part of a string value.",
        ),
    ),
];

#[inline]
fn get(exec: &mut Exec<'_>, _: Args<'_>) -> Result<(), Refusal> {
    match exec.ks.get(&exec.first_key) {
        None => resp::null(exec.out.bytes(), exec.resp),
        Some(entry) => push_value(exec.out, string(&entry)?),
    }
    Ok(())
}

fn getdel(exec: &mut Exec<'_>, _: Args<'_>) -> Result<(), Refusal> {
    match exec.ks.get(&exec.first_key) {
        None => exec.null(),
        Some(entry) => {
            push_value(exec.out, string(&entry)?);
            exec.ks.delete(&exec.first_key);
        }
    }
    Ok(())
}

/// What GETEX does with the deadline.
enum Change<'a> {
    Nothing,
    Persist,
    Expire(Lifetime<'a>),
}

fn parse_change<'a>(args: Args<'a>) -> Result<Change<'a>, Refusal> {
    let mut change = Change::Nothing;
    let mut index = 2;
    while let Some(option) = args.get(index) {
        change = match (change, Lifetime::parse(option, args.get(index + 1))) {
            (Change::Nothing | Change::Persist, None) if option.eq_ignore_ascii_case(b"persist") => {
                Change::Persist
            }
            (Change::Nothing, Some(lifetime)) => Change::Expire(lifetime),
            (Change::Expire(old), Some(lifetime)) if old.is_same_option(&lifetime) => {
                Change::Expire(lifetime)
            }
            _ => return Err(SYNTAX.into()),
        };
        index += if matches!(change, Change::Expire(_)) { 2 } else { 1 };
    }
    Ok(change)
}

fn getex(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let change = parse_change(args)?;
    let key = exec.first_key;
    let Some(entry) = exec.ks.get(&key) else {
        exec.null();
        return Ok(());
    };
    let old = entry.deadline;
    let taken = Taken::take(string(&entry)?, exec.scratch);
    match change {
        Change::Persist if old != Deadline::NEVER => {
            exec.ks.set_deadline(&key, Deadline::NEVER)?;
        }
        Change::Nothing | Change::Persist => {}
        Change::Expire(lifetime) => {
            let instant = lifetime.resolve(exec.ks.now(), "getex")?;
            match instant.deadline(exec.ks.now()) {
                Some(deadline) => exec.ks.set_deadline(&key, deadline)?,
                None => exec.ks.delete(&key),
            };
        }
    }
    taken.reply(exec);
    Ok(())
}

fn getset(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let key = exec.first_key;
    let taken = match exec.ks.get(&key) {
        None => Taken::Absent,
        Some(entry) => Taken::take(string(&entry)?, exec.scratch),
    };
    exec.ks.set(&key, args.at(2), Deadline::NEVER)?;
    taken.reply(exec);
    Ok(())
}

fn strlen(exec: &mut Exec<'_>, _: Args<'_>) -> Result<(), Refusal> {
    let len = match exec.ks.get(&exec.first_key) {
        None => 0,
        Some(entry) => string(&entry)?.len(),
    };
    exec.integer(len as i64);
    Ok(())
}

fn append(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let (key, tail) = (exec.first_key, args.at(2));
    let (value, old_len, deadline) = match exec.ks.peek(&key) {
        None => (Taken::Absent, 0, Deadline::NEVER),
        Some(entry) => {
            let value = string(&entry)?;
            (Taken::take(value, exec.scratch), value.len(), entry.deadline)
        }
    };
    let len = old_len + tail.len();
    check_length(len as u64, exec.limits)?;
    match value {
        Taken::Absent => exec.ks.set(&key, tail, deadline)?,
        Taken::Copied => exec.ks.set_parts(&key, &[exec.scratch, tail], deadline)?,
        Taken::Pinned(large) => {
            let mut parts = slices_of(&large);
            parts.push(tail);
            exec.ks.set_parts(&key, &parts, deadline)?;
        }
    }
    exec.integer(len as i64);
    Ok(())
}

fn getrange(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let (start, end) = (integer(args.at(2))?, integer(args.at(3))?);
    let value = match exec.ks.get(&exec.first_key) {
        None => ValueRef::Bytes(b""),
        Some(entry) => string(&entry)?,
    };
    let Some(span) = range::resolve(start, end, value.len() as u64) else {
        exec.bulk(b"");
        return Ok(());
    };
    let (first, last) = (span.first as usize, span.last as usize);
    if last - first + 1 == value.len() {
        push_value(exec.out, value);
        return Ok(());
    }
    let out = exec.out.bytes();
    resp::bulk_header(out, last - first + 1);
    copy_range(value, first..last + 1, out);
    resp::crlf(out);
    Ok(())
}

fn setrange(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let (key, patch) = (exec.first_key, args.at(3));
    let offset = u64::try_from(integer(args.at(2))?).map_err(|_| Refusal::Text(OFFSET_OUT_OF_RANGE))?;
    if patch.is_empty() {
        return strlen_quietly(exec);
    }
    let end = offset.saturating_add(patch.len() as u64);
    check_length(end, exec.limits)?;
    let deadline = load(exec, &key)?;
    grow(exec, end)?;
    exec.scratch[offset as usize..end as usize].copy_from_slice(patch);
    store(exec, &key, deadline)?;
    exec.integer(exec.scratch.len() as i64);
    Ok(())
}

/// The length for a command that would have written: no hit, no miss.
fn strlen_quietly(exec: &mut Exec<'_>) -> Result<(), Refusal> {
    let len = match exec.ks.peek(&exec.first_key) {
        None => 0,
        Some(entry) => string(&entry)?.len(),
    };
    exec.integer(len as i64);
    Ok(())
}
