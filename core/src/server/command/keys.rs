//! Where the keys of a command are, and what it does with them: COMMAND GETKEYS, key specifications.

use pinnace_protocol::Args;
use pinnace_protocol::resp;

use super::super::container;
use super::super::reply::fail;
use super::describe::statuses;
use crate::command::{CommandSpec, CommandTable, Flags, KeySpec};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};

pub(super) fn getkeys(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (_, positions) = match find(&core.table, args.from(2)) {
        Ok(found) => found,
        Err(text) => return fail(core, out, text),
    };
    resp::array(out, positions.len());
    positions.iter().for_each(|position| resp::bulk(out, args.at(position + 2)));
    Outcome::Replied
}

pub(super) fn getkeys_and_flags(
    core: &mut Core,
    session: SessionRef,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let (spec, positions) = match find(&core.table, args.from(2)) {
        Ok(found) => found,
        Err(text) => return fail(core, out, text),
    };
    resp::array(out, positions.len());
    for position in positions {
        resp::array(out, 2);
        resp::bulk(out, args.at(position + 2));
        statuses(out, session.resp, access_of_call(spec, args.from(2), position));
    }
    Outcome::Replied
}

/// The command that `call` means and the positions of its keys.
fn find(table: &CommandTable, call: Args<'_>) -> Result<(&'static CommandSpec, Vec<usize>), &'static str> {
    const INVALID: &str = "ERR Invalid command specified";
    let id = table.id(call.at(0)).ok_or(INVALID)?;
    let is_container = table.spec(id).flags.contains(Flags::CONTAINER);
    let id = if is_container { container::resolve(table, id, call).map_err(|_| INVALID)? } else { id };
    let spec = table.spec(id);
    if spec.name.starts_with('_') || call.at(0).contains(&b'|') {
        return Err(INVALID);
    }
    if spec.keys == KeySpec::NONE {
        return Err("ERR The command has no key arguments");
    }
    if !spec.accepts(call.len()) {
        return Err("ERR Invalid number of arguments specified for command");
    }
    Ok((spec, spec.keys.positions(call.len()).collect()))
}

/// The runs of keys of a command that it does different things with.
pub(super) fn key_ranges(spec: &CommandSpec) -> Vec<(KeySpec, &'static [&'static str])> {
    if spec.keys == KeySpec::NONE {
        return Vec::new();
    }
    let first = spec.keys.first;
    let (on_first, on_rest) = (access_of(spec, first as usize), access_of(spec, first as usize + 1));
    if spec.keys.last == first || on_first == on_rest {
        return vec![(spec.keys, on_first)];
    }
    let one = |at| KeySpec { first: at, last: at, step: 1 };
    let rest = if spec.keys.last < 0 { KeySpec { first: first + 1, ..spec.keys } } else { one(first + 1) };
    vec![(one(first), on_first), (rest, on_rest)]
}

/// What this very call does with a key: SET only reads if it says GET, BITFIELD only writes if it
/// says SET or INCRBY.
fn access_of_call(spec: &CommandSpec, call: Args<'_>, position: usize) -> &'static [&'static str] {
    let has = |name: &[u8]| call.iter().skip(2).any(|arg| arg.eq_ignore_ascii_case(name));
    match spec.name {
        "set" if !call.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"get")) => &["OW", "update"],
        "bitfield" if !has(b"set") && !has(b"incrby") => &["RO", "access"],
        "set" | "bitfield" => &["RW", "access", "update"],
        _ => access_of(spec, position),
    }
}

/// What a command does with the key at a position, in the words of Redis' key specifications:
/// how it is opened, whether its value gets out or decides anything, how it is changed.
pub(super) fn access_of(spec: &CommandSpec, position: usize) -> &'static [&'static str] {
    let is_first = position == spec.keys.first as usize;
    match spec.name {
        "rename" | "renamenx" if is_first => &["RW", "access", "delete"],
        "renamenx" => &["OW", "insert"],
        "copy" if is_first => &["RO", "access"],
        "bitop" if !is_first => &["RO", "access"],
        "rename" | "copy" | "bitop" | "mset" | "setex" | "psetex" => &["OW", "update"],
        "setnx" | "msetnx" => &["OW", "insert"],
        "set" | "bitfield" => &["RW", "access", "update", "variable_flags"],
        "append" => &["RW", "insert"],
        "setrange" | "expire" | "pexpire" | "expireat" | "pexpireat" | "persist" => &["RW", "update"],
        "getdel" => &["RW", "access", "delete"],
        "del" | "unlink" => &["RM", "delete"],
        "strlen" | "exists" | "type" | "touch" | "watch" | "memory|usage" => &["RO"],
        "ssubscribe" | "sunsubscribe" | "spublish" => &["not_key"],
        name if name.starts_with("object|") => &["RO"],
        _ if spec.flags.contains(Flags::WRITE) => &["RW", "access", "update"],
        _ => &["RO", "access"],
    }
}
