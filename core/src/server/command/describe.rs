//! COMMAND, COMMAND INFO and COMMAND DOCS.

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};

use super::keys::key_ranges;
use super::list::categories_of;
use super::tips::tips_of;
use super::{commands, is_public, is_subcommand, subcommands};
use crate::command::{CommandSpec, CommandTable, Flags};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};

pub(super) fn all(core: &mut Core, session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let specs: Vec<&'static CommandSpec> = commands(&core.table).map(|(_, spec)| spec).collect();
    resp::array(out, specs.len());
    specs.iter().for_each(|spec| write_info(out, session.resp, &core.table, spec));
    Outcome::Replied
}

pub(super) fn info(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() == 2 {
        return all(core, session, args, out);
    }
    resp::array(out, args.len() - 2);
    for name in args.iter().skip(2) {
        match lookup(&core.table, name) {
            Some(spec) => write_info(out, session.resp, &core.table, spec),
            None => resp::null(out, session.resp),
        }
    }
    Outcome::Replied
}

fn lookup(table: &CommandTable, name: &[u8]) -> Option<&'static CommandSpec> {
    table.lookup(name).filter(|spec| is_public(spec))
}

pub(super) fn statuses(out: &mut Vec<u8>, version: Version, names: &[&str]) {
    resp::set(out, version, names.len());
    names.iter().for_each(|name| resp::simple(out, name));
}

/// Ten elements, as Redis 7 gives them.
fn write_info(out: &mut Vec<u8>, version: Version, table: &CommandTable, spec: &'static CommandSpec) {
    let flags: Vec<&str> = spec.flags.names().collect();
    let categories: Vec<String> = categories_of(spec).iter().map(|name| format!("@{name}")).collect();
    let categories: Vec<&str> = categories.iter().map(String::as_str).collect();
    resp::array(out, 10);
    resp::bulk(out, spec.name.as_bytes());
    resp::integer(out, i64::from(spec.arity));
    statuses(out, version, &flags);
    for position in [spec.keys.first, spec.keys.last, spec.keys.step] {
        resp::integer(out, i64::from(position));
    }
    statuses(out, version, &categories);
    let tips = tips_of(spec);
    resp::set(out, version, tips.len());
    tips.iter().for_each(|tip| resp::bulk(out, tip.as_bytes()));
    write_key_specs(out, version, spec);
    let subs = if is_subcommand(spec) { Vec::new() } else { subcommands(table, spec) };
    match subs.len() {
        0 => resp::set(out, version, 0),
        count => resp::array(out, count),
    }
    subs.iter().for_each(|sub| write_info(out, version, table, sub));
}

fn pair(out: &mut Vec<u8>, name: &str, value: i64) {
    resp::bulk(out, name.as_bytes());
    resp::integer(out, value);
}

fn text_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    resp::bulk(out, name.as_bytes());
    resp::bulk(out, value.as_bytes());
}

fn write_key_specs(out: &mut Vec<u8>, version: Version, spec: &CommandSpec) {
    let ranges = key_ranges(spec);
    resp::set(out, version, ranges.len());
    for (keys, access) in ranges {
        resp::map(out, version, 3);
        resp::bulk(out, b"flags");
        statuses(out, version, access);
        resp::bulk(out, b"begin_search");
        resp::map(out, version, 2);
        text_pair(out, "type", "index");
        resp::bulk(out, b"spec");
        resp::map(out, version, 1);
        pair(out, "index", i64::from(keys.first));
        resp::bulk(out, b"find_keys");
        resp::map(out, version, 2);
        text_pair(out, "type", "range");
        resp::bulk(out, b"spec");
        resp::map(out, version, 3);
        // The last key counts from the first one, or, if negative, from the end.
        let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
        pair(out, "lastkey", i64::from(last));
        pair(out, "keystep", i64::from(keys.step));
        pair(out, "limit", 0);
    }
}

pub(super) fn docs(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let specs: Vec<&'static CommandSpec> = if args.len() == 2 {
        commands(&core.table).map(|(_, spec)| spec).collect()
    } else {
        args.iter().skip(2).filter_map(|name| lookup(&core.table, name)).collect()
    };
    resp::map(out, session.resp, specs.len());
    specs.iter().for_each(|spec| write_docs(out, session.resp, &core.table, spec));
    Outcome::Replied
}

fn write_docs(out: &mut Vec<u8>, version: Version, table: &CommandTable, spec: &'static CommandSpec) {
    let subs = if is_subcommand(spec) { Vec::new() } else { subcommands(table, spec) };
    let is_container = spec.flags.contains(Flags::CONTAINER) && !subs.is_empty();
    resp::bulk(out, spec.name.as_bytes());
    resp::map(out, version, 4 + usize::from(is_container));
    text_pair(out, "summary", spec.summary);
    text_pair(out, "since", spec.since);
    text_pair(out, "group", spec.group);
    text_pair(out, "complexity", spec.complexity);
    if is_container {
        resp::bulk(out, b"subcommands");
        resp::map(out, version, subs.len());
        subs.iter().for_each(|sub| write_docs(out, version, table, sub));
    }
}
