//! Strings that are numbers.

use pinnace_engine::ValueRef;
use pinnace_engine::value::extended::Extended;
use pinnace_engine::value::integer as integers;
use pinnace_protocol::{Args, resp};
use pinnace_types::Deadline;

use super::argument::integer;
use super::refusal::{NOT_AN_INTEGER, Refusal};
use super::value::string;
use super::{GROW_FAST, docs, keyed, spec};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "incr",
        2,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(incr)),
        docs("string", "1.0.0", "O(1)", "Adds 1 to the integer at a key, which is 0 if absent."),
    ),
    spec(
        "decr",
        2,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(decr)),
        docs("string", "1.0.0", "O(1)", "Subtracts 1 from the integer at a key, which is 0 if absent."),
    ),
    spec(
        "incrby",
        3,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(incrby)),
        docs("string", "1.0.0", "O(1)", "Adds an integer to the one at a key, which is 0 if absent."),
    ),
    spec(
        "decrby",
        3,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(decrby)),
        docs("string", "1.0.0", "O(1)", "Subtracts an integer from the one at a key, which is 0 if absent."),
    ),
    spec(
        "incrbyfloat",
        3,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(incrbyfloat)),
        docs("string", "2.6.0", "O(1)", "Adds a decimal number to the one at a key, which is 0 if absent."),
    ),
];

const OVERFLOW: &str = "ERR increment or decrement would overflow";
const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
const NOT_A_FLOAT: &str = "ERR value is not a valid float";
const NOT_FINITE: &str = "ERR increment would produce NaN or Infinity";

fn incr(exec: &mut Exec<'_>, _: Args<'_>) -> Result<(), Refusal> {
    add(exec, 1)
}

fn decr(exec: &mut Exec<'_>, _: Args<'_>) -> Result<(), Refusal> {
    add(exec, -1)
}

fn incrby(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    add(exec, integer(args.at(2))?)
}

fn decrby(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let by = integer(args.at(2))?;
    add(exec, by.checked_neg().ok_or(Refusal::Text(DECREMENT_OVERFLOW))?)
}

fn value_of(value: ValueRef<'_>) -> Result<i64, Refusal> {
    match value {
        ValueRef::Bytes(bytes) => integers::parse(bytes).ok_or(Refusal::Text(NOT_AN_INTEGER)),
        ValueRef::Large(_) => Err(NOT_AN_INTEGER.into()),
    }
}

#[inline]
fn add(exec: &mut Exec<'_>, by: i64) -> Result<(), Refusal> {
    let (old, deadline) = match exec.ks.peek(&exec.first_key) {
        None => (0, Deadline::NEVER),
        Some(entry) => (value_of(string(&entry)?)?, entry.deadline),
    };
    let new = old.checked_add(by).ok_or(Refusal::Text(OVERFLOW))?;
    exec.ks.set(&exec.first_key, itoa::Buffer::new().format(new).as_bytes(), deadline)?;
    exec.integer(new);
    Ok(())
}

fn incrbyfloat(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let key = exec.first_key;
    let parse = |text: &[u8]| Extended::parse(text).ok_or(Refusal::Text(NOT_A_FLOAT));
    let (old, deadline) = match exec.ks.peek(&key) {
        None => (Extended::ZERO, Deadline::NEVER),
        Some(entry) => match string(&entry)? {
            ValueRef::Bytes(bytes) => (parse(bytes)?, entry.deadline),
            ValueRef::Large(_) => return Err(NOT_A_FLOAT.into()),
        },
    };
    let new = old.checked_add(parse(args.at(2))?).ok_or(Refusal::Text(NOT_FINITE))?;
    exec.scratch.clear();
    new.print(exec.scratch);
    exec.ks.set(&key, exec.scratch, deadline)?;
    resp::bulk(exec.out.bytes(), exec.scratch);
    Ok(())
}
