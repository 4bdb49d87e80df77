//! The node as a whole: TIME, ROLE, SHUTDOWN, and what Redis' replication commands say of a node
//! that has no replicas.

use pinnace_protocol::Args;
use pinnace_protocol::resp;
use pinnace_types::CoreId;

use super::REDIS_VERSION;
use super::control::Control;
use super::reply::{ADMIN, CONNECTION, INFORMATION, NOT_AN_INTEGER, SYNTAX_ERROR};
use super::reply::{ask_all, doc, fail, gathered, ok, parse_i64, reply, session};
use crate::command::{CommandSpec, Flags};
use crate::core::Core;
use crate::durability::Durability;
use crate::effects::Effect;
use crate::gather::{Continuation, Outcome, SessionRef};
use crate::snapshot::WhenSaved;

const QUICK: Flags = INFORMATION.and(Flags::FAST);
const REPLICATION: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::STALE);

pub(super) static SPECS: &[CommandSpec] = &[
    session("time", 1, QUICK, time, doc("server", "2.6.0", "Tells the time of the node", "O(1)")),
    session(
        "lolwut",
        -1,
        Flags::READONLY.and(Flags::FAST),
        lolwut,
        doc("server", "5.0.0", "Shows a boat", "O(1)"),
    ),
    session(
        "role",
        1,
        CONNECTION.and(Flags::FAST),
        role,
        doc("server", "2.8.12", "Tells the node's part in replication", "O(1)"),
    ),
    session(
        "wait",
        3,
        Flags::NONE,
        wait,
        doc("generic", "3.0.0", "Answers 0 at once: there are no replicas", "O(1)"),
    ),
    gathered(
        session(
            "waitaof",
            4,
            Flags::NONE,
            waitaof,
            doc("generic", "7.2.0", "Answers once the connection's writes are synced to the log", "O(1)"),
        ),
        waitaof_part,
    ),
    session(
        "replicaof",
        3,
        REPLICATION,
        replicaof,
        doc("server", "5.0.0", "Accepts NO ONE, which is how it is", "O(1)"),
    ),
    session(
        "slaveof",
        3,
        REPLICATION,
        replicaof,
        doc("server", "1.0.0", "Accepts NO ONE, which is how it is", "O(1)"),
    ),
    session(
        "readonly",
        1,
        QUICK,
        |core, _, _, out| no_cluster(core, out),
        doc("cluster", "3.0.0", "Nothing to allow: every read is answered here", "O(1)"),
    ),
    session(
        "readwrite",
        1,
        QUICK,
        |core, _, _, out| no_cluster(core, out),
        doc("cluster", "3.0.0", "Nothing to forbid: every read is answered here", "O(1)"),
    ),
    session(
        "shutdown",
        -1,
        ADMIN.and(Flags::NO_MULTI),
        shutdown,
        doc("server", "1.0.0", "Stops the node", "O(1)"),
    ),
];

fn time(core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (seconds, millis) = (core.time.wall.0 / 1000, core.time.wall.0 % 1000);
    let micros = millis * 1000 + u64::from(core.time.wall_micros);
    resp::array(out, 2);
    resp::bulk(out, seconds.to_string().as_bytes());
    resp::bulk(out, micros.to_string().as_bytes());
    Outcome::Replied
}

const BOAT: &str = "\n       |\\\n       | \\\n       |  \\\n       |___\\\n  _____|_______\n  \\           /\n~~~\\_________/~~~~\n\n";

fn lolwut(core: &mut Core, session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let text = format!("{BOAT}Pinnace {}, as Redis ver. {REDIS_VERSION}\n", core.config.node.version);
    resp::verbatim(out, session.resp, "txt", text.as_bytes());
    Outcome::Replied
}

fn role(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    resp::array(out, 3);
    resp::bulk(out, b"master");
    resp::integer(out, 0);
    resp::array(out, 0);
    Outcome::Replied
}

/// Checks a timeout as Redis does. No command here waits for it.
fn check_timeout(millis: &[u8]) -> Result<(), &'static str> {
    match parse_i64(millis) {
        None => Err("ERR timeout is not an integer or out of range"),
        Some(millis) if millis < 0 => Err("ERR timeout is negative"),
        Some(_) => Ok(()),
    }
}

fn wait(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if parse_i64(args.at(1)).is_none() {
        return fail(core, out, NOT_AN_INTEGER);
    }
    if let Err(text) = check_timeout(args.at(2)) {
        return fail(core, out, text);
    }
    resp::integer(out, 0);
    Outcome::Replied
}

fn waitaof(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (local, replicas) = (parse_i64(args.at(1)), parse_i64(args.at(2)));
    match local {
        Some(0 | 1) => {}
        Some(_) => return fail(core, out, "ERR value is out of range, value must between 0 and 1"),
        None => return fail(core, out, NOT_AN_INTEGER),
    }
    match replicas {
        Some(replicas) if replicas >= 0 => {}
        Some(_) => return fail(core, out, "ERR value is out of range, must be positive"),
        None => return fail(core, out, NOT_AN_INTEGER),
    }
    if let Err(text) = check_timeout(args.at(3)) {
        return fail(core, out, text);
    }
    if local == Some(1) && core.log.is_none() {
        return fail(
            core,
            out,
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        );
    }
    if local == Some(0) {
        // Replies wait for the log themselves if it is synchronous; else it is not known to be synced.
        local_and_replicas(out, core.durability() == Durability::Sync);
        return Outcome::Replied;
    }
    let then: Continuation = Box::new(|_, _, parts| {
        let is_synced = parts.iter().all(|part| !part.is_empty());
        reply(|out| local_and_replicas(out, is_synced))
    });
    let mut gather = ask_all(core, "waitaof", &[b"waitaof"], then).with_barrier();
    gather.timeout_ms = parse_i64(args.at(3)).map_or(0, i64::unsigned_abs);
    Outcome::Gather(gather)
}

/// The reply of WAITAOF. There are no replicas.
fn local_and_replicas(out: &mut Vec<u8>, is_synced: bool) {
    resp::array(out, 2);
    resp::integer(out, i64::from(is_synced));
    resp::integer(out, 0);
}

/// Answered when everything that this core has logged is synced: mail between cores keeps its order, so all earlier
/// writes of the connection are in it.
fn waitaof_part(core: &mut Core, _: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    out.push(1);
    core.part_waits = true;
}

fn replicaof(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.at(1).eq_ignore_ascii_case(b"no") && args.at(2).eq_ignore_ascii_case(b"one") {
        return ok(out);
    }
    if parse_i64(args.at(2)).is_none_or(|port| !(0..=65_535).contains(&port)) {
        return fail(core, out, "ERR Invalid master port");
    }
    fail(core, out, "ERR REPLICAOF is not supported: this node cannot copy a Redis server")
}

fn no_cluster(core: &mut Core, out: &mut Vec<u8>) -> Outcome {
    fail(core, out, super::cluster::NO_CLUSTER)
}

/// With SAVE a snapshot is made first, and the node goes on if that fails; without it the node stops as on SIGTERM.
fn shutdown(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let has = |name: &[u8]| args.iter().skip(1).any(|arg| arg.eq_ignore_ascii_case(name));
    const KNOWN: [&[u8]; 5] = [b"save", b"nosave", b"now", b"force", b"abort"];
    let known = args.iter().skip(1).all(|arg| KNOWN.iter().any(|name| arg.eq_ignore_ascii_case(name)));
    if !known || (has(b"save") && has(b"nosave")) || (has(b"abort") && args.len() > 2) {
        return fail(core, out, SYNTAX_ERROR);
    }
    if has(b"abort") {
        return fail(core, out, "ERR No shutdown in progress.");
    }
    if has(b"save") {
        if !core.has_snapshots() {
            return fail(core, out, "ERR Errors trying to SHUTDOWN. Check logs.");
        }
        // One that is under way may lack what was written since: another follows it.
        core.begin_all_snapshots();
        core.wait_for_snapshots(session.conn, WhenSaved::Shutdown);
        resp::simple(out, "OK");
        return Outcome::ReplyAt { monotonic_ns: u64::MAX };
    }
    core.shut_down();
    Outcome::Replied
}

impl Core {
    /// Stops the node cleanly.
    pub(crate) fn shut_down(&mut self) {
        let own = self.config.core;
        for to in (0..self.core_count()).map(CoreId).filter(|&to| to != own) {
            self.send_control(to, Control::Shutdown);
        }
        self.effect(Effect::Shutdown);
    }
}
