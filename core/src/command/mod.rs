//! The command table: what each command is called, takes, touches and runs.
//!
//! Families of commands live in `crate::commands` (keyed) and `crate::server` (everything else);
//! each exports a `SPECS` slice. The table is built once per core from all of them.

mod flags;
mod table;

pub use flags::Flags;
pub use table::{CommandId, CommandTable};

use pinnace_protocol::{Args, resp};

use crate::answer::Answer;
use crate::core::Core;
use crate::exec::KeyedRun;
use crate::gather::{Outcome, SessionRef};

/// Where the keys of a command stand, as Redis' COMMAND reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Position of the first key; 0: the command has none.
    pub first: i8,
    /// Position of the last key; negative counts from the end (-1: the last argument).
    pub last: i8,
    /// Distance between keys.
    pub step: i8,
}

impl KeySpec {
    /// A command without keys.
    pub const NONE: Self = Self { first: 0, last: 0, step: 0 };
    /// One key, the first argument.
    pub const ONE: Self = Self { first: 1, last: 1, step: 1 };
    /// Two keys, the first two arguments.
    pub const TWO: Self = Self { first: 1, last: 2, step: 1 };
    /// Every argument is a key.
    pub const ALL: Self = Self { first: 1, last: -1, step: 1 };
    /// Keys and values alternate (MSET).
    pub const PAIRS: Self = Self { first: 1, last: -1, step: 2 };

    /// Whether `arg_count` arguments, name included, are whole groups of a key and what follows it.
    #[must_use]
    pub fn divides(self, arg_count: usize) -> bool {
        let grouped = arg_count as i64 - i64::from(self.first);
        grouped % i64::from(self.step.max(1)) == 0
    }

    /// The positions of the keys among `arg_count` arguments, name included.
    pub fn positions(self, arg_count: usize) -> impl Iterator<Item = usize> {
        let count = arg_count as i64;
        let first = i64::from(self.first);
        let last = if self.last < 0 { count + i64::from(self.last) } else { i64::from(self.last) };
        let step = usize::try_from(self.step).unwrap_or(1).max(1);
        let end = if first == 0 { first } else { last.min(count - 1) + 1 };
        (first..end).step_by(step).map(|position| position as usize)
    }
}

/// How the parts of a command whose keys lie on several cores become one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// One array element per key, in the order of the keys (MGET).
    Elements,
    /// `+OK` if every part says so, else the first error (MSET).
    AllOk,
    /// The sum of integers (DEL, EXISTS, UNLINK, TOUCH).
    Sum,
}

/// A command that works on a session or on the node rather than on keys. It writes one RESP value
/// to the buffer and returns [`Outcome::Replied`], or asks other cores and replies later.
pub type SessionRun = fn(&mut Core, SessionRef, Args<'_>, &mut Vec<u8>) -> Outcome;

/// What one core contributes to a command that all cores answer together. The form of the bytes is
/// between this function and the one that joins the parts.
pub type PartRun = fn(&mut Core, Args<'_>, resp::Version, &mut Vec<u8>);

/// As [`PartRun`], for what may hold large values.
pub(crate) type LargePartRun = fn(&mut Core, Args<'_>, resp::Version, &mut Answer);

/// What a core does when it is asked for its part.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// It answers with bytes.
    Plain(PartRun),
    /// It answers with bytes and large values.
    Large(LargePartRun),
}

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// On the core that owns its key or keys; keys on different cores get CROSSSLOT.
    Keyed(KeyedRun),
    /// Like `Keyed`; if the keys lie on several cores each core gets its share of the arguments.
    KeyedSplit(KeyedRun, Split),
    /// Like `Keyed` if one core owns all keys; else the second function coordinates.
    KeyedOr(KeyedRun, SessionRun),
    /// On the connection's core.
    Session(SessionRun),
    /// Never by name: only as a part of a gathered command.
    Internal,
}

/// One command.
pub struct CommandSpec {
    /// Lower-case name.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i16,
    /// What kind of command it is.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: KeySpec,
    /// How it runs.
    pub run: Run,
    /// What a core does when it is asked for its part, for gathered commands.
    pub(crate) part: Option<Part>,
    /// Redis' group of the command, for COMMAND DOCS: `string`, `generic`, `connection` ...
    pub group: &'static str,
    /// First Redis version that had it.
    pub since: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// Its time complexity.
    pub complexity: &'static str,
}

impl CommandSpec {
    /// Whether a call with `arg_count` arguments, name included, has one key and no more.
    #[inline]
    #[must_use]
    pub fn has_one_key(&self, arg_count: usize) -> bool {
        self.keys.first == self.keys.last || arg_count == 2
    }

    /// Whether a call with `arg_count` arguments, name included, has the right number.
    #[inline]
    #[must_use]
    pub fn accepts(&self, arg_count: usize) -> bool {
        let arity = i64::from(self.arity);
        let count = arg_count as i64;
        if arity >= 0 { count == arity } else { count >= -arity }
    }
}
