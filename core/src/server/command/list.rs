//! COMMAND LIST and the categories of commands.

use pinnace_engine::value::glob;
use pinnace_protocol::Args;
use pinnace_protocol::resp;

use super::super::reply::{SYNTAX_ERROR, fail};
use super::is_public;
use crate::command::{CommandSpec, Flags};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};

/// What COMMAND LIST FILTERBY keeps.
enum Filter<'a> {
    All,
    /// There are no modules.
    Nothing,
    Category(&'a [u8]),
    Pattern(&'a [u8]),
}

pub(super) fn list(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(filter) = parse(args) else { return fail(core, out, SYNTAX_ERROR) };
    let wanted = |spec: &CommandSpec| match filter {
        Filter::All => true,
        Filter::Nothing => false,
        Filter::Category(name) => {
            categories_of(spec).iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        }
        Filter::Pattern(pattern) => glob::matches_ignore_case(pattern, spec.name.as_bytes()),
    };
    let names: Vec<&str> = core
        .table
        .iter()
        .map(|(_, spec)| spec)
        .filter(|s| is_public(s) && wanted(s))
        .map(|s| s.name)
        .collect();
    resp::array(out, names.len());
    names.iter().for_each(|name| resp::bulk(out, name.as_bytes()));
    Outcome::Replied
}

fn parse(args: Args<'_>) -> Option<Filter<'_>> {
    if args.len() == 2 {
        return Some(Filter::All);
    }
    if args.len() != 5 || !args.at(2).eq_ignore_ascii_case(b"filterby") {
        return None;
    }
    let value = args.at(4);
    match args.at(3).to_ascii_lowercase().as_slice() {
        b"module" => Some(Filter::Nothing),
        b"aclcat" => Some(Filter::Category(value)),
        b"pattern" => Some(Filter::Pattern(value)),
        _ => None,
    }
}

/// Redis' categories in Redis' order: they follow from a command's group and flags.
pub(in super::super) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// The categories of a command.
pub(in super::super) fn categories_of(spec: &CommandSpec) -> Vec<&'static str> {
    // A container does nothing itself: Redis calls it slow and leaves it at that.
    let is_container = spec.flags.contains(Flags::CONTAINER) && spec.name != "command";
    let is_wait = matches!(spec.name, "wait" | "waitaof");
    let is = |name: &&str| match *name {
        "slow" => is_container || !spec.flags.contains(Flags::FAST),
        _ if is_container => false,
        "fast" => spec.flags.contains(Flags::FAST),
        "keyspace" => KEYSPACE.contains(&spec.name) || (spec.group == "generic" && !is_wait),
        "read" => spec.flags.contains(Flags::READONLY),
        "write" => spec.flags.contains(Flags::WRITE),
        "pubsub" => spec.flags.contains(Flags::PUBSUB),
        "admin" => spec.flags.contains(Flags::ADMIN) || spec.name == "role",
        "dangerous" => spec.flags.contains(Flags::ADMIN) || DANGEROUS.contains(&spec.name),
        "blocking" => is_wait,
        "connection" => spec.group == "connection" || CONNECTION.iter().any(|own| spec.name.starts_with(own)),
        "transaction" => spec.group == "transactions",
        group => spec.group == group,
    };
    CATEGORIES.iter().filter(|name| is(name)).copied().collect()
}

/// Dangerous without being administration: they can take long, lose data or tell much.
const DANGEROUS: [&str; 8] = ["flushall", "flushdb", "info", "keys", "lastsave", "role", "sort", "debug"];
/// Of the group `server`, but working on all keys.
const KEYSPACE: [&str; 3] = ["dbsize", "flushall", "flushdb"];
/// Of another group, but counted among those on connections.
const CONNECTION: [&str; 6] = ["command", "wait", "waitaof", "readonly", "readwrite", "asking"];
