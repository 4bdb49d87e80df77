//! BITFIELD: several integers of any width in one string.

use pinnace_engine::ValueRef;
use pinnace_engine::value::bitfield::{Field, Overflow};
use pinnace_protocol::{Args, resp};
use pinnace_types::Limits;

use super::argument::{integer, scaled_bit_offset};
use super::refusal::{Refusal, SYNTAX};
use super::value::{copy_range, grow, load, store, string};
use super::{GROW, READ_FAST, building, docs, spec};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "bitfield",
        -2,
        GROW,
        KeySpec::ONE,
        Run::Keyed(building!(bitfield)),
        docs(
            "bitmap",
            "3.2.0",
            "O(N) with N the length of the value",
            "Reads and changes integers within a string value.",
        ),
    ),
    spec(
        "bitfield_ro",
        -2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(building!(bitfield_ro)),
        docs("bitmap", "6.0.0", "O(1) for each field", "Reads integers within a string value."),
    ),
];

const BAD_TYPE: &str =
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
const BAD_OVERFLOW: &str = "ERR Invalid OVERFLOW type specified";
const READ_ONLY: &str = "ERR BITFIELD_RO only supports the GET subcommand";

/// One step of a BITFIELD.
#[derive(Clone, Copy, Debug)]
struct Step {
    field: Field,
    offset: u64,
    action: Action,
    overflow: Overflow,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

fn bitfield(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let steps = parse(args, exec.limits)?;
    run(exec, &steps)
}

fn bitfield_ro(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let steps = parse(args, exec.limits)?;
    if steps.iter().any(|step| !matches!(step.action, Action::Get)) {
        return Err(READ_ONLY.into());
    }
    run(exec, &steps)
}

fn parse(args: Args<'_>, limits: &Limits) -> Result<Vec<Step>, Refusal> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut index = 2;
    while let Some(name) = args.get(index) {
        let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
        let left = args.len() - index - 1;
        if is(b"get") && left >= 2 {
            steps.push(parse_step(args, index, limits, overflow, |_| Ok(Action::Get))?);
            index += 3;
        } else if is(b"set") && left >= 3 {
            steps.push(parse_step(args, index, limits, overflow, |value| Ok(Action::Set(integer(value)?)))?);
            index += 4;
        } else if is(b"incrby") && left >= 3 {
            steps.push(parse_step(args, index, limits, overflow, |value| Ok(Action::Add(integer(value)?)))?);
            index += 4;
        } else if is(b"overflow") && left >= 1 {
            overflow = parse_overflow(args.at(index + 1))?;
            index += 2;
        } else {
            return Err(SYNTAX.into());
        }
    }
    Ok(steps)
}

fn parse_step(
    args: Args<'_>,
    index: usize,
    limits: &Limits,
    overflow: Overflow,
    action: impl Fn(&[u8]) -> Result<Action, Refusal>,
) -> Result<Step, Refusal> {
    let field = Field::parse(args.at(index + 1)).ok_or(Refusal::Text(BAD_TYPE))?;
    let offset = match args.at(index + 2) {
        [b'#', number @ ..] => scaled_bit_offset(number, field.bits, limits),
        number => scaled_bit_offset(number, 1, limits),
    }?;
    let action = action(args.get(index + 3).unwrap_or_default())?;
    Ok(Step { field, offset, action, overflow })
}

fn parse_overflow(text: &[u8]) -> Result<Overflow, Refusal> {
    [(&b"wrap"[..], Overflow::Wrap), (b"sat", Overflow::Saturate), (b"fail", Overflow::Fail)]
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, overflow)| overflow)
        .ok_or(Refusal::Text(BAD_OVERFLOW))
}

/// Runs the steps in order. With a step that may write, the string is as long as its last field
/// needs from then on, even if no step does write.
fn run(exec: &mut Exec<'_>, steps: &[Step]) -> Result<(), Refusal> {
    let key = exec.first_key;
    let writes = |step: &&Step| !matches!(step.action, Action::Get);
    let end_bit = |step: &Step| step.offset + u64::from(step.field.bits);
    let Some(bits) = steps.iter().filter(writes).map(end_bit).max() else {
        return read_only(exec, steps);
    };
    let deadline = load(exec, &key)?;
    let bytes = bits.div_ceil(8);
    let mut changed = deadline.is_none() || (exec.scratch.len() as u64) < bytes;
    grow(exec, bytes)?;
    let replies: Vec<Option<i64>> =
        steps.iter().map(|step| apply(step, exec.scratch, &mut changed)).collect();
    if changed {
        store(exec, &key, deadline)?;
    }
    reply(exec, &replies);
    Ok(())
}

/// Bytes that a field of 64 bits touches at most.
const FIELD_BYTES_MAX: usize = 9;

fn read_only(exec: &mut Exec<'_>, steps: &[Step]) -> Result<(), Refusal> {
    let value = match exec.ks.get(&exec.first_key) {
        None => ValueRef::Bytes(b""),
        Some(entry) => string(&entry)?,
    };
    // Only the bytes of the field are copied: the value may be large.
    let mut read = |step: &Step| {
        let first = (step.offset / 8) as usize;
        exec.scratch.clear();
        copy_range(value, first..first + FIELD_BYTES_MAX, exec.scratch);
        Some(step.field.read(exec.scratch, step.offset % 8))
    };
    let replies: Vec<Option<i64>> = steps.iter().map(&mut read).collect();
    reply(exec, &replies);
    Ok(())
}

fn reply(exec: &mut Exec<'_>, replies: &[Option<i64>]) {
    resp::array(exec.out.bytes(), replies.len());
    for reply in replies {
        match reply {
            Some(value) => exec.integer(*value),
            None => exec.null(),
        }
    }
}

/// Runs a step on bytes that hold its field and gives its reply: null where it overflowed and did
/// nothing.
fn apply(step: &Step, bytes: &mut [u8], changed: &mut bool) -> Option<i64> {
    let old = step.field.read(bytes, step.offset);
    let (new, reply) = match step.action {
        Action::Get => return Some(old),
        Action::Set(value) => (step.field.assign(value, step.overflow)?, old),
        Action::Add(by) => step.field.add(old, by, step.overflow).map(|new| (new, new))?,
    };
    step.field.write(bytes, step.offset, new);
    *changed |= new != old;
    Some(reply)
}
