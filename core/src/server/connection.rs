//! Commands on the connection itself: PING ECHO HELLO AUTH SELECT RESET QUIT.

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};
use pinnace_types::ConnId;

use super::reply::{CONNECTION, INFORMATION, NOT_AN_INTEGER, SYNTAX_ERROR};
use super::reply::{doc, fail, no_session, ok, parse_i64, session, shown, wrong_arity};
use super::{REDIS_VERSION, monitor, pubsub};
use crate::command::{CommandSpec, Flags};
use crate::core::Core;
use crate::effects::Effect;
use crate::gather::{Outcome, SessionRef};
use crate::session::ReplyMode;

const HANDSHAKE: Flags = CONNECTION.and(Flags::FAST).and(Flags::NO_AUTH);
const PING: Flags = Flags::FAST.and(Flags::SUBSCRIBER);
const QUICK: Flags = INFORMATION.and(Flags::FAST);
const LEAVE: Flags = HANDSHAKE.and(Flags::IN_MULTI).and(Flags::SUBSCRIBER);

pub(super) static SPECS: &[CommandSpec] = &[
    session("ping", -1, PING, ping, doc("connection", "1.0.0", "Answers PONG, or the given message", "O(1)")),
    session("echo", 2, QUICK, echo, doc("connection", "1.0.0", "Answers with the given message", "O(1)")),
    session(
        "hello",
        -1,
        HANDSHAKE,
        hello,
        doc(
            "connection",
            "6.0.0",
            "Chooses the protocol version, optionally logs in and sets a name",
            "O(1)",
        ),
    ),
    session("auth", -2, HANDSHAKE, auth, doc("connection", "1.0.0", "Logs the connection in", "O(1)")),
    session(
        "select",
        2,
        QUICK,
        select,
        doc("connection", "1.0.0", "Chooses the database; there is one: 0", "O(1)"),
    ),
    session(
        "reset",
        1,
        LEAVE,
        reset,
        doc("connection", "6.2.0", "Makes the connection as good as new", "O(1)"),
    ),
    session("quit", -1, LEAVE, quit, doc("connection", "1.0.0", "Closes the connection", "O(1)")),
];

fn ping(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() > 2 {
        return wrong_arity(core, out, "ping");
    }
    let subscribed = core.session(session.conn).is_some_and(|s| s.subscriptions.count() > 0);
    match args.get(1) {
        message if subscribed && session.resp == Version::V2 => {
            resp::array(out, 2);
            resp::bulk(out, b"pong");
            resp::bulk(out, message.unwrap_or(b""));
        }
        Some(message) => resp::bulk(out, message),
        None => out.extend_from_slice(b"+PONG\r\n"),
    }
    Outcome::Replied
}

fn echo(_core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    resp::bulk(out, args.at(1));
    Outcome::Replied
}

/// What HELLO asks for.
#[derive(Default)]
struct Hello<'a> {
    version: Option<Version>,
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn hello(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let hello = match parse_hello(args) {
        Ok(hello) => hello,
        Err(text) => return fail(core, out, &text),
    };
    if let Some((user, _)) = hello.login
        && user != b"default"
    {
        return fail(core, out, WRONG_PASSWORD);
    }
    let Some(own) = core.session_mut(session.conn) else { return no_session(core, out, args) };
    if let Some(name) = hello.name {
        own.name = name.to_vec();
    }
    if let Some(version) = hello.version {
        own.resp = version;
        own.refresh();
    }
    let (id, version) = (own.id, own.resp);
    resp::map(out, version, 7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        resp::bulk(out, name.as_bytes());
        resp::bulk(out, value.as_bytes());
    }
    resp::bulk(out, b"proto");
    resp::integer(out, if version == Version::V3 { 3 } else { 2 });
    resp::bulk(out, b"id");
    resp::integer(out, id as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        resp::bulk(out, name.as_bytes());
        resp::bulk(out, value.as_bytes());
    }
    resp::bulk(out, b"modules");
    resp::array(out, 0);
    Outcome::Replied
}

fn parse_hello(args: Args<'_>) -> Result<Hello<'_>, String> {
    let mut hello = Hello::default();
    if let Some(version) = args.get(1) {
        hello.version = Some(match parse_i64(version) {
            Some(2) => Version::V2,
            Some(3) => Version::V3,
            Some(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
            None => return Err("ERR Protocol version is not an integer or out of range".to_owned()),
        });
    }
    let mut at = 2;
    while let Some(option) = args.get(at) {
        if option.eq_ignore_ascii_case(b"auth") && at + 2 < args.len() {
            hello.login = Some((args.at(at + 1), args.at(at + 2)));
            at += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && at + 1 < args.len() {
            let name = args.at(at + 1);
            check_name(name)?;
            hello.name = Some(name);
            at += 2;
        } else {
            return Err(format!("ERR Syntax error in HELLO option '{}'", shown(option)));
        }
    }
    Ok(hello)
}

/// Longest name of a connection or of its library. Redis has no bound; here every byte a client
/// can make the node keep has one.
pub(super) const NAME_BYTES_MAX: usize = 4096;

/// Names stand in CLIENT LIST, which is parsed by splitting at spaces and lines.
pub(super) fn check_name(name: &[u8]) -> Result<(), String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("ERR Client names are limited to {NAME_BYTES_MAX} bytes"));
    }
    if is_plain(name) {
        return Ok(());
    }
    Err("ERR Client names cannot contain spaces, newlines or special characters.".to_owned())
}

pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD_SET: &str = "ERR AUTH <password> called without any password configured for the default \
     user. Are you sure your configuration is correct?";

/// There is one user, `default`, who needs no password: Redis accepts any for such a user.
fn auth(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    match args.len() {
        2 => fail(core, out, NO_PASSWORD_SET),
        3 if args.at(1) == b"default" => ok(out),
        3 => fail(core, out, WRONG_PASSWORD),
        _ => fail(core, out, SYNTAX_ERROR),
    }
}

fn select(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    match parse_i64(args.at(1)) {
        Some(0) => ok(out),
        Some(database) if i32::try_from(database).is_ok() => fail(core, out, "ERR DB index is out of range"),
        _ => fail(core, out, NOT_AN_INTEGER),
    }
}

fn reset(core: &mut Core, session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    core.discard_multi(session.conn);
    pubsub::forget(core, session.conn);
    monitor::stop(core, session.conn);
    renew(core, session.conn);
    resp::simple(out, "RESET");
    Outcome::Replied
}

fn renew(core: &mut Core, conn: ConnId) {
    let Some(own) = core.session_mut(conn) else { return };
    own.resp = Version::V2;
    own.reply_mode = ReplyMode::On;
    own.name.clear();
    own.no_evict = false;
    own.no_touch = false;
    own.refresh();
}

fn quit(core: &mut Core, session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    core.effect(Effect::CloseAfterReply(session.conn));
    ok(out)
}
