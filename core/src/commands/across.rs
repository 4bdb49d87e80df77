//! Commands that read keys of one core and write keys of another: RENAME, RENAMENX, COPY, BITOP.
//!
//! They run in steps and are not atomic; the connection waits, so that a client sees its own
//! commands in order. What others may see:
//! - COPY, BITOP: the sources as each was when its core was asked; the target changes at once.
//! - RENAME, RENAMENX: for a moment both keys. The source is deleted only if nobody has written to
//!   it since it was read; else everything starts again, [`ATTEMPTS_MAX`] times at most. Then the
//!   reply is a TRYAGAIN error, the source is as its writers left it, and the target holds what the
//!   source held a moment ago. A source that has vanished by then (deleted, expired, evicted)
//!   counts as moved.
//! - RENAMENX that starts again replaces only the target it has made itself; if somebody has
//!   written to that, it replies 0.
//!
//! Cores ask each other with `_fetch`, `_store` and `_drop`, which clients cannot call.

use pinnace_engine::value::bits::Fold;
use pinnace_engine::{PinnedValue, ValueRef, Version, WriteError};
use pinnace_protocol::{Args, resp};
use pinnace_types::{CoreId, Deadline};

use super::refusal::{NO_SUCH_KEY, Refusal, write_error_text};
use super::transfer::parse_copy;
use super::value::slices_of;
use super::{bitmap, docs, spec};
use crate::answer::Answer;
use crate::command::{CommandSpec, Flags, KeySpec, Part, Run};
use crate::core::Core;
use crate::gather::{Continuation, Gather, LargeContinuation, Next, Outcome, PartRequest, SessionRef, Then};

pub(super) static SPECS: &[CommandSpec] = &[
    internal("_fetch", Flags::NONE, Part::Large(fetch_part)),
    internal("_store", Flags::WRITE, Part::Plain(store_part)),
    DROP,
];

/// Not refused when the log is full: it is small, and the value stands in its new place by then.
const DROP: CommandSpec = internal("_drop", Flags::NONE, Part::Plain(drop_part));

const TRY_AGAIN: &str =
    "TRYAGAIN The key was written to again and again while it was being renamed across cores";

/// Times that a rename across cores reads its source: enough for a key with several writers, and
/// little enough for one that is written to without end.
const ATTEMPTS_MAX: u8 = 16;

const fn internal(name: &'static str, flags: Flags, part: Part) -> CommandSpec {
    let docs = docs("generic", "7.2.0", "O(N)", "Moves values between the cores of a node.");
    CommandSpec { part: Some(part), ..spec(name, -2, flags, KeySpec::ONE, Run::Internal, docs) }
}

// What cores ask each other.

/// What `_store` may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replace {
    Anything,
    Nothing,
    /// The version of the target that an earlier attempt has made.
    Only(u64),
}

impl Replace {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Anything => b"any".to_vec(),
            Self::Nothing => b"none".to_vec(),
            Self::Only(version) => version.to_string().into_bytes(),
        }
    }

    fn decode(text: &[u8]) -> Self {
        match text {
            b"any" => Self::Anything,
            b"none" => Self::Nothing,
            version => Self::Only(number(version)),
        }
    }
}

fn number(text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    text.expect("cores send each other whole numbers")
}

/// A value on its way between cores.
struct Fetched {
    deadline: Deadline,
    /// 0 unless asked for.
    version: u64,
    value: Value,
}

/// Copied if it is small, shared with its core if it is large.
enum Value {
    Small(Vec<u8>),
    Large(PinnedValue),
}

impl Value {
    fn slices(&self) -> Vec<&[u8]> {
        match self {
            Self::Small(bytes) => vec![bytes],
            Self::Large(value) => slices_of(value),
        }
    }
}

impl Fetched {
    const HEADER_BYTES: usize = 16;
    /// Stands in front, to tell a value from an error.
    const TAG: u8 = b'=';

    /// Reads an answer of `_fetch`: empty for an absent key.
    fn decode(part: &Answer) -> Option<Self> {
        let view = part.view();
        let (header, value) =
            view.bytes().strip_prefix(&[Self::TAG])?.split_at_checked(Self::HEADER_BYTES)?;
        let value = match view.values().next() {
            Some(large) => Value::Large(large.clone()),
            None => Value::Small(value.to_vec()),
        };
        let [deadline, version] = [0, 1].map(|index| u64::from_le_bytes(header.as_chunks().0[index]));
        Some(Self { deadline: Deadline::from_raw(deadline), version, value })
    }
}

fn write_error(core: &mut Core, error: &WriteError, out: &mut Vec<u8>) {
    let text = write_error_text(error);
    core.stats.count_error(text);
    resp::error(out, text);
}

/// `_fetch key [versioned]`: the value with its deadline, and its version if asked for; nothing if
/// there is none; a RESP error if the version finds no room.
fn fetch_part(core: &mut Core, args: Args<'_>, _: resp::Version, answer: &mut Answer) {
    let key = core.ks.key(args.at(1));
    let version = match args.len() {
        2 => Ok(None),
        _ => core.ks.version(&key),
    };
    let out = answer.bytes();
    let version = match version {
        Ok(version) => version.map_or(0, |version| version.0),
        Err(error) => return write_error(core, &error, out),
    };
    let Some(entry) = core.ks.get(&key) else { return };
    out.push(Fetched::TAG);
    out.extend_from_slice(&entry.deadline.to_raw().to_le_bytes());
    out.extend_from_slice(&version.to_le_bytes());
    match entry.value {
        ValueRef::Bytes(bytes) => out.extend_from_slice(bytes),
        ValueRef::Large(large) => answer.push_value(large.clone()),
    }
}

/// `_store key replace deadline [value]`, or with a large value attached: the version of the new item as an integer, 0 if it must not
/// replace what is there, or an error.
fn store_part(core: &mut Core, args: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    let key = core.ks.key(args.at(1));
    let refuses = match Replace::decode(args.at(2)) {
        Replace::Anything => false,
        Replace::Nothing => core.ks.peek(&key).is_some(),
        Replace::Only(version) => {
            let entry = core.ks.peek(&key);
            entry.is_some_and(|entry| entry.version != Some(Version(version)))
        }
    };
    if refuses {
        return resp::integer(out, 0);
    }
    let deadline = Deadline::from_raw(number(args.at(3)));
    let stored = match core.attached.take() {
        Some(large) => core.ks.set_parts(&key, &slices_of(&large), deadline),
        None => core.ks.set(&key, args.at(4), deadline),
    };
    let stored = stored.and_then(|()| core.ks.version(&key));
    match stored {
        // A value that has expired on the way is as good as stored.
        Ok(version) => resp::integer(out, version.map_or(1, |version| version.0 as i64)),
        Err(error) => write_error(core, &error, out),
    }
}

/// `_drop key [version]`: 1 if the key is gone, 0 if it is there in another version.
fn drop_part(core: &mut Core, args: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    let key = core.ks.key(args.at(1));
    let is_other = match (args.get(2), core.ks.peek(&key)) {
        (Some(version), Some(entry)) => entry.version != Some(Version(number(version))),
        _ => false,
    };
    if !is_other {
        core.ks.delete(&key);
    }
    resp::integer(out, i64::from(!is_other));
}

// Over several cores.

fn owner(core: &Core, key: &[u8]) -> CoreId {
    core.config.shards.core_of(core.ks.key(key).shard())
}

fn request(core: &Core, name: &str, args: &[&[u8]]) -> PartRequest {
    let command = core.table.id(name.as_bytes()).expect("internal commands stand in the table");
    let args: Vec<Vec<u8>> =
        std::iter::once(name.as_bytes()).chain(args.iter().copied()).map(<[u8]>::to_vec).collect();
    PartRequest { to: owner(core, &args[1]), command, args, large: None }
}

fn ask(core: &Core, name: &str, args: &[&[u8]], then: Continuation) -> Gather {
    Gather {
        requests: vec![request(core, name, args)],
        then: Then::Plain(then),
        barrier: true,
        alone: false,
        timeout_ms: 0,
    }
}

fn error_reply(core: &mut Core, text: &str) -> Next {
    core.stats.count_error(text);
    let mut out = Vec::new();
    resp::error(&mut out, text);
    Next::Reply(out)
}

fn integer_reply(value: i64) -> Next {
    let mut out = Vec::new();
    resp::integer(&mut out, value);
    Next::Reply(out)
}

fn is_error(part: &[u8]) -> bool {
    part.first() == Some(&b'-')
}

/// The integer in an answer of `_store` or `_drop`.
fn answered(part: &[u8]) -> u64 {
    number(part.strip_prefix(b":").and_then(|line| line.strip_suffix(b"\r\n")).unwrap_or_default())
}

/// Refuses a coordinated command before anything was asked.
fn refuse(core: &mut Core, refusal: Refusal, out: &mut Vec<u8>) -> Outcome {
    let text = refusal.text();
    core.stats.count_error(&text);
    resp::error(out, &*text);
    Outcome::Replied
}

/// A value on its way from a key of one core to a key of another.
struct Transfer {
    from: Vec<u8>,
    to: Vec<u8>,
    replace: Replace,
    /// Whether the source goes; else it is copied.
    moves: bool,
    /// What to reply once it is done.
    done: &'static [u8],
    attempts: u8,
}

impl Transfer {
    fn new(args: Args<'_>, replace: Replace, moves: bool, done: &'static [u8]) -> Self {
        Self { from: args.at(1).to_vec(), to: args.at(2).to_vec(), replace, moves, done, attempts: 0 }
    }

    fn start(mut self, core: &Core) -> Gather {
        self.attempts += 1;
        let args = [&self.from[..], b"versioned"];
        let requests = vec![request(core, "_fetch", &args[..if self.moves { 2 } else { 1 }])];
        let then: LargeContinuation = Box::new(move |core, _, parts| self.on_fetched(core, parts));
        Gather { requests, then: Then::Large(then), barrier: true, alone: false, timeout_ms: 0 }
    }

    fn on_fetched(self, core: &mut Core, mut parts: Vec<Answer>) -> Next {
        let part = parts.swap_remove(0);
        if is_error(part.view().bytes()) {
            return Next::Large(part);
        }
        let Some(fetched) = Fetched::decode(&part) else {
            return if !self.moves {
                integer_reply(0)
            } else if self.attempts == 1 {
                error_reply(core, NO_SUCH_KEY)
            } else {
                Next::Reply(self.done.to_vec()) // It has vanished after it was stored.
            };
        };
        let deadline = fetched.deadline.to_raw().to_string();
        let to = self.to.clone();
        let replace = self.replace.encode();
        let (value, large) = match fetched.value {
            Value::Small(bytes) => (bytes, None),
            Value::Large(large) => (Vec::new(), Some(large)),
        };
        let version = fetched.version;
        let then: Continuation = Box::new(move |core, _, parts| self.on_stored(core, version, parts));
        let mut gather = ask(core, "_store", &[&to, &replace, deadline.as_bytes(), &value], then);
        gather.requests[0].large = large;
        Next::Gather(gather)
    }

    fn on_stored(mut self, core: &mut Core, source_version: u64, mut parts: Vec<Vec<u8>>) -> Next {
        let part = parts.swap_remove(0);
        if is_error(&part) {
            return Next::Reply(part);
        }
        let stored_version = answered(&part);
        if stored_version == 0 {
            return integer_reply(0);
        }
        if !self.moves {
            return Next::Reply(self.done.to_vec());
        }
        if self.replace != Replace::Anything {
            self.replace = Replace::Only(stored_version);
        }
        let from = self.from.clone();
        let args = [&from[..], &source_version.to_string().into_bytes()];
        Next::Gather(ask(core, "_drop", &args, Box::new(move |core, _, parts| self.on_dropped(core, &parts))))
    }

    fn on_dropped(self, core: &mut Core, parts: &[Vec<u8>]) -> Next {
        if answered(&parts[0]) == 1 {
            Next::Reply(self.done.to_vec())
        } else if self.attempts < ATTEMPTS_MAX {
            Next::Gather(self.start(core))
        } else {
            error_reply(core, TRY_AGAIN)
        }
    }
}

pub(super) fn rename_over_cores(core: &mut Core, _: SessionRef, args: Args<'_>, _: &mut Vec<u8>) -> Outcome {
    Outcome::Gather(Transfer::new(args, Replace::Anything, true, b"+OK\r\n").start(core))
}

pub(super) fn renamenx_over_cores(
    core: &mut Core,
    _: SessionRef,
    args: Args<'_>,
    _: &mut Vec<u8>,
) -> Outcome {
    Outcome::Gather(Transfer::new(args, Replace::Nothing, true, b":1\r\n").start(core))
}

pub(super) fn copy_over_cores(core: &mut Core, _: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    match parse_copy(args) {
        Err(refusal) => refuse(core, refusal, out),
        Ok(replaces) => {
            let replace = if replaces { Replace::Anything } else { Replace::Nothing };
            Outcome::Gather(Transfer::new(args, replace, false, b":1\r\n").start(core))
        }
    }
}

/// BITOP with keys on several cores: the sources come here, the result goes to the target's core.
pub(super) fn bitop_over_cores(core: &mut Core, _: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let operation = match bitmap::parse_operation(args) {
        Ok(operation) => operation,
        Err(refusal) => return refuse(core, refusal, out),
    };
    let target = args.at(2).to_vec();
    let requests = args.from(3).iter().map(|key| request(core, "_fetch", &[key])).collect();
    let then: LargeContinuation = Box::new(move |core, _, parts| {
        let mut result = Vec::new();
        let mut fold = Fold::new(operation, &mut result);
        for part in parts {
            let value = Fetched::decode(&part).map(|fetched| fetched.value);
            fold.add(value.iter().flat_map(Value::slices));
        }
        let len = result.len() as i64;
        let done: Continuation = Box::new(move |_, _, mut parts| {
            let part = parts.swap_remove(0);
            if is_error(&part) { Next::Reply(part) } else { integer_reply(len) }
        });
        Next::Gather(if result.is_empty() {
            ask(core, "_drop", &[&target], done)
        } else {
            ask(core, "_store", &[&target, b"any", b"0", &result], done)
        })
    });
    // The result is built outside of the budget.
    Outcome::Gather(Gather { requests, then: Then::Large(then), barrier: true, alone: true, timeout_ms: 0 })
}
