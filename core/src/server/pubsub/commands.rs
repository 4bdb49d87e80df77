//! SUBSCRIBE and its kin, PUBLISH, and PUBSUB, which tells about them.

use std::collections::BTreeSet;

use pinnace_engine::value::glob;
use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};

use super::super::parts::{PartReader, PartWriter};
use super::super::reply::{
    CONNECTION, INFORMATION, all_args, ask_all, container, doc, fail, gathered, help, keyed, no_session,
    reply, session, shown,
};
use super::Kind;
use super::deliver::{ask_receivers, publish_part, spublish_part};
use crate::command::{CommandSpec, Flags, KeySpec, SessionRun};
use crate::core::Core;
use crate::gather::{Continuation, Outcome, SessionRef};

const TELL: Flags = Flags::PUBSUB.and(INFORMATION);
const SEND: Flags = TELL.and(Flags::FAST);
const LISTEN: Flags = Flags::PUBSUB.and(CONNECTION).and(Flags::SUBSCRIBER);

const fn listen(
    name: &'static str,
    arity: i16,
    run: SessionRun,
    since: &'static str,
    what: &'static str,
) -> CommandSpec {
    session(name, arity, LISTEN, run, doc("pubsub", since, what, "O(N) for N names"))
}

const fn tell(
    name: &'static str,
    arity: i16,
    run: SessionRun,
    since: &'static str,
    what: &'static str,
) -> CommandSpec {
    session(name, arity, TELL, run, doc("pubsub", since, what, "O(N) for N channels"))
}

const PUBLISH_COST: &str = "O(N+M) for N subscribers of the channel and M patterns in all";

pub(in super::super) static SPECS: &[CommandSpec] = &[
    listen("subscribe", -2, subscribe, "2.0.0", "Listens for messages on channels"),
    listen("psubscribe", -2, psubscribe, "2.0.0", "Listens for messages on channels that match patterns"),
    keyed(
        listen("ssubscribe", -2, ssubscribe, "7.0.0", "Listens for messages on shard channels"),
        KeySpec::ALL,
    ),
    listen("unsubscribe", -1, unsubscribe, "2.0.0", "Stops listening on channels"),
    listen("punsubscribe", -1, punsubscribe, "2.0.0", "Stops listening on patterns"),
    keyed(
        listen("sunsubscribe", -1, sunsubscribe, "7.0.0", "Stops listening on shard channels"),
        KeySpec::ALL,
    ),
    gathered(
        session(
            "publish",
            3,
            SEND,
            publish,
            doc("pubsub", "2.0.0", "Sends a message to a channel", PUBLISH_COST),
        ),
        publish_part,
    ),
    gathered(
        keyed(
            session(
                "spublish",
                3,
                SEND,
                spublish,
                doc(
                    "pubsub",
                    "7.0.0",
                    "Sends a message to a shard channel",
                    "O(N) for N subscribers of the channel",
                ),
            ),
            KeySpec::ONE,
        ),
        spublish_part,
    ),
    container("pubsub", doc("pubsub", "2.8.0", "Commands that tell about subscriptions", "")),
    gathered(
        tell("pubsub|channels", -2, channels, "2.8.0", "Lists the channels that somebody listens on"),
        channels_part,
    ),
    gathered(
        tell(
            "pubsub|shardchannels",
            -2,
            shard_channels,
            "7.0.0",
            "Lists the shard channels that somebody listens on",
        ),
        shard_channels_part,
    ),
    gathered(tell("pubsub|numsub", -2, numsub, "2.8.0", "Counts the listeners of channels"), numsub_part),
    gathered(
        tell("pubsub|shardnumsub", -2, shard_numsub, "7.0.0", "Counts the listeners of shard channels"),
        shard_numsub_part,
    ),
    gathered(
        tell("pubsub|numpat", 2, numpat, "2.8.0", "Counts the patterns that somebody listens on"),
        numpat_part,
    ),
    session(
        "pubsub|help",
        2,
        INFORMATION,
        pubsub_help,
        doc("pubsub", "6.2.0", "Shows the subcommands", "O(1)"),
    ),
];

fn subscribe(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    add(core, session, Kind::Channel, args, out)
}

fn psubscribe(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    add(core, session, Kind::Pattern, args, out)
}

fn ssubscribe(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    add(core, session, Kind::Shard, args, out)
}

fn unsubscribe(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    remove(core, session, Kind::Channel, args, out)
}

fn punsubscribe(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    remove(core, session, Kind::Pattern, args, out)
}

fn sunsubscribe(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    remove(core, session, Kind::Shard, args, out)
}

/// One confirmation per name: what was done, the name, how many are left.
fn confirm(out: &mut Vec<u8>, version: Version, done: &str, name: Option<&[u8]>, count: usize) {
    resp::push(out, version, 3);
    resp::bulk(out, done.as_bytes());
    match name {
        Some(name) => resp::bulk(out, name),
        None => resp::null(out, version),
    }
    resp::integer(out, count as i64);
}

fn done_word(kind: Kind, added: bool) -> &'static str {
    match (kind, added) {
        (Kind::Channel, true) => "subscribe",
        (Kind::Pattern, true) => "psubscribe",
        (Kind::Shard, true) => "ssubscribe",
        (Kind::Channel, false) => "unsubscribe",
        (Kind::Pattern, false) => "punsubscribe",
        (Kind::Shard, false) => "sunsubscribe",
    }
}

fn add(core: &mut Core, session: SessionRef, kind: Kind, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let max = core.config.limits.subscriptions_max as usize;
    if core.session(session.conn).is_none() {
        return no_session(core, out, args);
    }
    for name in args.iter().skip(1) {
        let Some(own) = core.session_mut(session.conn) else { return Outcome::Replied };
        if !own.subscriptions.names(kind).contains(name) {
            if !own.subscriptions.has_room(name, max) {
                return fail(core, out, "ERR too many subscriptions of one connection");
            }
            own.subscriptions.add(kind, name);
            own.refresh();
            core.server.pubsub.add(kind, name, session.conn);
        }
        let count = core.session(session.conn).map_or(0, |own| own.subscriptions.confirmed(kind));
        confirm(out, session.resp, done_word(kind, true), Some(name), count);
    }
    Outcome::Replied
}

fn remove(core: &mut Core, session: SessionRef, kind: Kind, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(own) = core.session(session.conn) else { return no_session(core, out, args) };
    let names: Vec<Box<[u8]>> = if args.len() > 1 {
        args.iter().skip(1).map(Into::into).collect()
    } else {
        own.subscriptions.names(kind).iter().cloned().collect()
    };
    if names.is_empty() {
        confirm(out, session.resp, done_word(kind, false), None, own.subscriptions.confirmed(kind));
    }
    for name in &names {
        core.server.pubsub.remove(kind, name, session.conn);
        let Some(own) = core.session_mut(session.conn) else { return Outcome::Replied };
        own.subscriptions.remove(kind, name);
        own.refresh();
        let count = own.subscriptions.confirmed(kind);
        confirm(out, session.resp, done_word(kind, false), Some(name), count);
    }
    Outcome::Replied
}

fn publish(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    ask_receivers(core, "publish", &all_args(args))
}

fn spublish(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    ask_receivers(core, "spublish", &all_args(args))
}

fn channels(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    list_names(core, "pubsub|channels", args, out)
}

fn shard_channels(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    list_names(core, "pubsub|shardchannels", args, out)
}

fn list_names(core: &mut Core, command: &str, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() > 3 {
        let sub = shown(args.at(1));
        let text =
            format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try PUBSUB HELP.");
        return fail(core, out, &text);
    }
    Outcome::Gather(ask_all(core, command, &all_args(args), list_union()))
}

/// The names that occur in any part, each once.
fn union_of(parts: &[Vec<u8>]) -> BTreeSet<&[u8]> {
    let mut names = BTreeSet::new();
    for part in parts {
        let mut reader = PartReader::new(part);
        while !reader.is_empty() {
            names.insert(reader.bytes());
        }
    }
    names
}

fn list_union() -> Continuation {
    Box::new(|_, _, parts| {
        let names = union_of(&parts);
        reply(|out| {
            resp::array(out, names.len());
            names.iter().for_each(|name| resp::bulk(out, name));
        })
    })
}

fn channels_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    write_names(core, Kind::Channel, args.get(2), out);
}

fn shard_channels_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    write_names(core, Kind::Shard, args.get(2), out);
}

fn write_names(core: &Core, kind: Kind, pattern: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut writer = PartWriter(out);
    let names = core.server.pubsub.index(kind).keys();
    names.filter(|name| pattern.is_none_or(|p| glob::matches(p, name))).for_each(|name| writer.bytes(name));
}

fn numsub(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    count_listeners(core, "pubsub|numsub", args)
}

fn shard_numsub(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    count_listeners(core, "pubsub|shardnumsub", args)
}

fn count_listeners(core: &mut Core, command: &str, args: Args<'_>) -> Outcome {
    let names: Vec<Vec<u8>> = args.iter().skip(2).map(<[u8]>::to_vec).collect();
    let join: Continuation = Box::new(move |_, _, parts| {
        let mut readers: Vec<PartReader<'_>> = parts.iter().map(|part| PartReader::new(part)).collect();
        reply(|out| {
            resp::array(out, names.len() * 2);
            for name in &names {
                resp::bulk(out, name);
                resp::integer(out, readers.iter_mut().map(|reader| reader.u64() as i64).sum());
            }
        })
    });
    Outcome::Gather(ask_all(core, command, &all_args(args), join))
}

fn numsub_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    write_counts(core, Kind::Channel, args, out);
}

fn shard_numsub_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    write_counts(core, Kind::Shard, args, out);
}

fn write_counts(core: &Core, kind: Kind, args: Args<'_>, out: &mut Vec<u8>) {
    let mut writer = PartWriter(out);
    let index = core.server.pubsub.index(kind);
    args.iter().skip(2).for_each(|name| writer.u64(index.get(name).map_or(0, BTreeSet::len) as u64));
}

fn numpat(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|_, _, parts| {
        let count = union_of(&parts).len();
        reply(|out| resp::integer(out, count as i64))
    });
    Outcome::Gather(ask_all(core, "pubsub|numpat", &all_args(args), join))
}

fn numpat_part(core: &mut Core, _args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    write_names(core, Kind::Pattern, None, out);
}

fn pubsub_help(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    help(
        out,
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    Return the currently active channels matching a <pattern> (default: '*').",
            "NUMPAT",
            "    Return number of subscriptions to patterns.",
            "NUMSUB [<channel> ...]",
            "    Return the number of subscribers for the specified channels, excluding",
            "    pattern subscriptions(default: no channels).",
            "SHARDCHANNELS [<pattern>]",
            "    Return the currently active shard level channels matching a <pattern> (default: '*').",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Return the number of subscribers for the specified shard level channel(s)",
        ],
    )
}
