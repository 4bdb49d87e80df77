//! Strings as arrays of bits.

use pinnace_engine::ValueRef;
use pinnace_engine::value::bits::{self, Fold, Operation};
use pinnace_engine::value::range::{self, Span};
use pinnace_protocol::Args;

use super::argument::{bit_offset, integer};
use super::refusal::{Refusal, SYNTAX};
use super::value::{grow, load, store, string};
use super::{GROW, READ, READ_FAST, across, building, docs, keyed, spec};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "setbit",
        4,
        GROW,
        KeySpec::ONE,
        Run::Keyed(building!(setbit)),
        docs(
            "bitmap",
            "2.2.0",
            "O(N) with N the length of the value",
            "Sets or clears one bit of a string value.",
        ),
    ),
    spec(
        "getbit",
        3,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(getbit)),
        docs("bitmap", "2.2.0", "O(1)", "Gives one bit of a string value."),
    ),
    spec(
        "bitcount",
        -2,
        READ,
        KeySpec::ONE,
        Run::Keyed(keyed!(bitcount)),
        docs("bitmap", "2.6.0", "O(N) with N the length of the range", "Counts the ones in a string value."),
    ),
    spec(
        "bitpos",
        -3,
        READ,
        KeySpec::ONE,
        Run::Keyed(keyed!(bitpos)),
        docs(
            "bitmap",
            "2.8.7",
            "O(N) with N the length of the range",
            "Finds the first one or zero in a string value.",
        ),
    ),
    spec(
        "bitop",
        -4,
        GROW,
        KeySpec { first: 2, last: -1, step: 1 },
        Run::KeyedOr(building!(bitop), across::bitop_over_cores),
        docs(
            "bitmap",
            "2.6.0",
            "O(N) with N the length of the longest value",
            "Combines string values bit by bit.",
        ),
    ),
];

const BAD_BIT: &str = "ERR bit is not an integer or out of range";
const BAD_BIT_ARGUMENT: &str = "ERR The bit argument must be 1 or 0.";
const NOT_TAKES_ONE: &str = "ERR BITOP NOT must be called with a single source key.";

fn setbit(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let key = exec.first_key;
    let offset = bit_offset(args.at(2), exec.limits)?;
    let on = match integer(args.at(3)) {
        Ok(bit @ (0 | 1)) => bit == 1,
        _ => return Err(BAD_BIT.into()),
    };
    let deadline = load(exec, &key)?;
    let grows = deadline.is_none() || exec.scratch.len() as u64 <= offset / 8;
    grow(exec, offset / 8 + 1)?;
    let was = bits::put(exec.scratch, offset, on);
    if grows || was != on {
        store(exec, &key, deadline)?;
    }
    exec.integer(i64::from(was));
    Ok(())
}

fn getbit(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let offset = bit_offset(args.at(2), exec.limits)?;
    let bit = match exec.ks.get(&exec.first_key) {
        None => false,
        Some(entry) => match string(&entry)? {
            ValueRef::Bytes(bytes) => bits::get(bytes, offset),
            value @ ValueRef::Large(_) => {
                offset / 8 < value.len() as u64
                    && bits::count(value.slices(), Span { first: offset, last: offset }) == 1
            }
        },
    };
    exec.integer(i64::from(bit));
    Ok(())
}

/// A range of a string, in bytes or bits.
struct BitRange {
    start: i64,
    end: i64,
    is_bits: bool,
}

impl BitRange {
    const ALL: Self = Self { start: 0, end: -1, is_bits: false };

    /// Reads `start [end [BYTE|BIT]]` from `args[first]` on.
    fn parse(args: Args<'_>, first: usize) -> Result<Self, Refusal> {
        let mut range = Self::ALL;
        if args.len() > first + 3 {
            return Err(SYNTAX.into());
        }
        if let Some(start) = args.get(first) {
            range.start = integer(start)?;
        }
        if let Some(unit) = args.get(first + 2) {
            range.is_bits = unit.eq_ignore_ascii_case(b"bit");
            if !range.is_bits && !unit.eq_ignore_ascii_case(b"byte") {
                return Err(SYNTAX.into());
            }
        }
        if let Some(end) = args.get(first + 1) {
            range.end = integer(end)?;
        }
        Ok(range)
    }

    /// The bits of the range in a string of `len` bytes, its ends made positions by `resolve`.
    fn span(&self, len: usize, resolve: impl Fn(i64, i64, u64) -> Option<Span>) -> Option<Span> {
        if self.is_bits {
            return resolve(self.start, self.end, len as u64 * 8);
        }
        let bytes = resolve(self.start, self.end, len as u64)?;
        Some(Span { first: bytes.first * 8, last: bytes.last * 8 + 7 })
    }
}

fn bitcount(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    if args.len() == 3 || args.len() > 5 {
        return Err(SYNTAX.into()); // A start needs an end.
    }
    if let Some(end) = args.get(3) {
        // Here wrong numbers are told before a wrong unit, in BITPOS after it.
        integer(args.at(2)).and(integer(end))?;
    }
    let range = BitRange::parse(args, 2)?;
    let ones = match exec.ks.get(&exec.first_key) {
        None => 0,
        Some(entry) => {
            let value = string(&entry)?;
            range.span(value.len(), range::resolve).map_or(0, |span| bits::count(value.slices(), span))
        }
    };
    exec.integer(ones as i64);
    Ok(())
}

fn bitpos(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let wanted = match integer(args.at(2))? {
        bit @ (0 | 1) => bit == 1,
        _ => return Err(BAD_BIT_ARGUMENT.into()),
    };
    let range = BitRange::parse(args, 3)?;
    let has_end = args.len() > 4;
    let position = match exec.ks.get(&exec.first_key) {
        // An absent key is an endless row of zeros.
        None if wanted => -1,
        None => 0,
        Some(entry) => {
            let value = string(&entry)?;
            match range.span(value.len(), range::clamp) {
                None => -1,
                Some(span) => match bits::find(value.slices(), wanted, span) {
                    Some(bit) => bit as i64,
                    // Without an end the string counts as followed by zeros.
                    None if !wanted && !has_end => span.last as i64 + 1,
                    None => -1,
                },
            }
        }
    };
    exec.integer(position);
    Ok(())
}

/// Reads the operation of BITOP and checks it against the number of sources.
pub(super) fn parse_operation(args: Args<'_>) -> Result<Operation, Refusal> {
    let operation = Operation::parse(args.at(1)).ok_or(Refusal::Text(SYNTAX))?;
    if operation == Operation::Not && args.len() != 4 {
        return Err(NOT_TAKES_ONE.into());
    }
    Ok(operation)
}

fn bitop(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let operation = parse_operation(args)?;
    let mut fold = Fold::new(operation, exec.scratch);
    for bytes in args.from(3).iter() {
        let key = exec.ks.key(bytes);
        match exec.ks.get(&key) {
            None => fold.add(std::iter::empty()),
            Some(entry) => fold.add(string(&entry)?.slices()),
        }
    }
    let target = exec.first_key;
    if exec.scratch.is_empty() {
        exec.ks.delete(&target);
    } else {
        store(exec, &target, None)?;
    }
    exec.integer(exec.scratch.len() as i64);
    Ok(())
}
