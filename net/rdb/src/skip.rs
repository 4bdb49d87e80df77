//! Walking over values by what the file's type byte says of their form.

use std::io::Read;

use crate::error::{RdbError, RdbFault};
use crate::input::Input;
use crate::kind::{Kind, ModuleName};

/// How a value is written. Every loop below takes at least a byte a round, so that no count in a
/// broken file keeps it longer than the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One string, whatever is packed into it.
    Packed,
    /// A count, then so many times these strings.
    Strings(u8),
    /// Members with scores as text (before version 8) or in eight bytes.
    Scores { binary: bool },
    /// Nodes of a list: a container's number and a string.
    Nodes,
    /// Fields with deadlines, with or without the earliest one ahead.
    Fields { earliest: bool },
    /// A packed string with the earliest deadline of its fields ahead.
    PackedFields,
    /// The three versions of a stream.
    Stream(u8),
    /// Tagged parts up to an end.
    Module,
}

/// Type and form behind a type byte; `None` if there is no such type.
pub(crate) fn of(byte: u8) -> Option<(Kind, Form)> {
    Some(match byte {
        0 => (Kind::String, Form::Packed),
        1 | 14 => (Kind::List, Form::Strings(1)),
        2 => (Kind::Set, Form::Strings(1)),
        3 => (Kind::SortedSet, Form::Scores { binary: false }),
        4 => (Kind::Hash, Form::Strings(2)),
        5 => (Kind::SortedSet, Form::Scores { binary: true }),
        // The name comes with the value.
        7 => (Kind::Module(ModuleName::from_id(0)), Form::Module),
        9 | 13 | 16 | 23 => (Kind::Hash, Form::Packed),
        10 => (Kind::List, Form::Packed),
        11 | 20 => (Kind::Set, Form::Packed),
        12 | 17 => (Kind::SortedSet, Form::Packed),
        15 => (Kind::Stream, Form::Stream(1)),
        18 => (Kind::List, Form::Nodes),
        19 => (Kind::Stream, Form::Stream(2)),
        21 => (Kind::Stream, Form::Stream(3)),
        22 => (Kind::Hash, Form::Fields { earliest: false }),
        24 => (Kind::Hash, Form::Fields { earliest: true }),
        25 => (Kind::Hash, Form::PackedFields),
        _ => return None,
    })
}

/// Walks over a value. A module's id has been read already.
pub(crate) fn value<R: Read>(input: &mut Input<R>, form: Form) -> Result<(), RdbError> {
    match form {
        Form::Packed => input.skip_string(),
        Form::Strings(each) => repeat(input, |input| (0..each).try_for_each(|_| input.skip_string())),
        Form::Scores { binary: true } => repeat(input, |input| {
            input.skip_string()?;
            input.skip(8)
        }),
        Form::Scores { binary: false } => repeat(input, |input| {
            input.skip_string()?;
            // Not a number and the infinities have no text.
            match input.byte()? {
                253.. => Ok(()),
                len => input.skip(u64::from(len)),
            }
        }),
        Form::Nodes => repeat(input, |input| {
            input.number()?;
            input.skip_string()
        }),
        Form::Fields { earliest } => {
            input.skip(if earliest { 8 } else { 0 })?;
            repeat(input, |input| {
                input.number()?;
                input.skip_string()?;
                input.skip_string()
            })
        }
        Form::PackedFields => {
            input.skip(8)?;
            input.skip_string()
        }
        Form::Stream(version) => stream(input, version),
        Form::Module => module(input),
    }
}

fn repeat<R: Read>(
    input: &mut Input<R>,
    mut each: impl FnMut(&mut Input<R>) -> Result<(), RdbError>,
) -> Result<(), RdbError> {
    let count = input.number()?;
    (0..count).try_for_each(|_| each(input))
}

fn numbers<R: Read>(input: &mut Input<R>, count: u8) -> Result<(), RdbError> {
    (0..count).try_for_each(|_| input.number().map(drop))
}

/// Entries, ids, then groups with what is pending for them and for each of their consumers.
fn stream<R: Read>(input: &mut Input<R>, version: u8) -> Result<(), RdbError> {
    const ID_BYTES: u64 = 16;
    const TIME_BYTES: u64 = 8;
    repeat(input, |input| {
        input.skip_string()?;
        input.skip_string()
    })?;
    // Length and last id; from the second version also first and last deleted id and all ever added.
    numbers(input, if version >= 2 { 8 } else { 3 })?;
    repeat(input, |input| {
        input.skip_string()?;
        numbers(input, if version >= 2 { 3 } else { 2 })?;
        repeat(input, |input| {
            input.skip(ID_BYTES + TIME_BYTES)?;
            numbers(input, 1)
        })?;
        repeat(input, |input| {
            input.skip_string()?;
            input.skip(TIME_BYTES * if version >= 3 { 2 } else { 1 })?;
            repeat(input, |input| input.skip(ID_BYTES))
        })
    })
}

/// What a module wrote, told apart by tags, up to the end's.
pub(crate) fn module<R: Read>(input: &mut Input<R>) -> Result<(), RdbError> {
    loop {
        match input.number()? {
            0 => return Ok(()),
            1 | 2 => numbers(input, 1)?,
            3 => input.skip(4)?,
            4 => input.skip(8)?,
            5 => input.skip_string()?,
            _ => return Err(input.error(RdbFault::Damaged("a module's value"))),
        }
    }
}
