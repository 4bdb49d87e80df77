//! The subcommands of CLIENT that concern the connection itself.

use pinnace_protocol::Args;
use pinnace_protocol::resp;

use super::super::connection::{NAME_BYTES_MAX, check_name, is_plain};
use super::super::reply::{NOT_AN_INTEGER, SYNTAX_ERROR, fail, help, no_session, ok, parse_i64, shown};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};
use crate::session::{ReplyMode, Session};

pub(super) fn id(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(own) = core.session(session.conn) else { return no_session(core, out, args) };
    resp::integer(out, own.id as i64);
    Outcome::Replied
}

pub(super) fn getname(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    match core.session(session.conn) {
        Some(own) if !own.name.is_empty() => resp::bulk(out, &own.name),
        Some(_) => resp::null(out, session.resp),
        None => return no_session(core, out, args),
    }
    Outcome::Replied
}

pub(super) fn setname(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if let Err(text) = check_name(args.at(2)) {
        return fail(core, out, &text);
    }
    change(core, session, args, out, |own, out| {
        own.name = args.at(2).to_vec();
        ok(out)
    })
}

pub(super) fn setinfo(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (option, value) = (args.at(2), args.at(3));
    let name = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => "lib-name",
        b"lib-ver" => "lib-ver",
        _ => return fail(core, out, &format!("ERR Unrecognized option '{}'", shown(option))),
    };
    if value.len() > NAME_BYTES_MAX {
        return fail(core, out, &format!("ERR {name} is limited to {NAME_BYTES_MAX} bytes"));
    }
    if !is_plain(value) {
        let text = format!("ERR {} cannot contain spaces, newlines or special characters.", shown(option));
        return fail(core, out, &text);
    }
    change(core, session, args, out, |own, out| {
        *(if name == "lib-name" { &mut own.lib_name } else { &mut own.lib_ver }) = value.to_vec();
        ok(out)
    })
}

fn change(
    core: &mut Core,
    session: SessionRef,
    args: Args<'_>,
    out: &mut Vec<u8>,
    change: impl FnOnce(&mut Session, &mut Vec<u8>) -> Outcome,
) -> Outcome {
    let Some(own) = core.session_mut(session.conn) else { return no_session(core, out, args) };
    let outcome = change(own, out);
    own.refresh();
    outcome
}

/// OFF and SKIP have no reply themselves. SKIP does nothing while replies are off anyway.
pub(super) fn reply_mode(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let mode = match args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" => ReplyMode::SkipNext,
        _ => return fail(core, out, SYNTAX_ERROR),
    };
    change(core, session, args, out, |own, out| {
        if mode != ReplyMode::SkipNext || own.reply_mode != ReplyMode::Off {
            own.reply_mode = mode;
        }
        if mode == ReplyMode::On { ok(out) } else { Outcome::Replied }
    })
}

pub(super) fn no_evict(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    switch(core, session, args, out, |own, on| own.no_evict = on)
}

pub(super) fn no_touch(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    switch(core, session, args, out, |own, on| own.no_touch = on)
}

fn switch(
    core: &mut Core,
    session: SessionRef,
    args: Args<'_>,
    out: &mut Vec<u8>,
    set: impl FnOnce(&mut Session, bool),
) -> Outcome {
    let on = match args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => true,
        b"off" => false,
        _ => return fail(core, out, SYNTAX_ERROR),
    };
    change(core, session, args, out, |own, out| {
        set(own, on);
        ok(out)
    })
}

pub(super) fn trackinginfo(
    _core: &mut Core,
    session: SessionRef,
    _args: Args<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    resp::map(out, session.resp, 3);
    resp::bulk(out, b"flags");
    resp::set(out, session.resp, 1);
    resp::bulk(out, b"off");
    resp::bulk(out, b"redirect");
    resp::integer(out, -1);
    resp::bulk(out, b"prefixes");
    resp::array(out, 0);
    Outcome::Replied
}

pub(super) fn getredir(
    _core: &mut Core,
    _session: SessionRef,
    _args: Args<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    resp::integer(out, -1);
    Outcome::Replied
}

pub(super) fn tracking(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.at(2).eq_ignore_ascii_case(b"off") && args.len() == 3 {
        return ok(out);
    }
    fail(core, out, "ERR client tracking is not supported")
}

pub(super) fn caching(core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let text = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
         mode enabled";
    fail(core, out, text)
}

pub(super) fn unblock(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let reason_is_known = args.get(3).is_none_or(|reason| {
        reason.eq_ignore_ascii_case(b"timeout") || reason.eq_ignore_ascii_case(b"error")
    });
    if args.len() > 4 {
        return fail(core, out, SYNTAX_ERROR);
    }
    if !reason_is_known {
        return fail(core, out, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    }
    if parse_i64(args.at(2)).is_none() {
        return fail(core, out, NOT_AN_INTEGER);
    }
    resp::integer(out, 0);
    Outcome::Replied
}

pub(super) fn client_help(
    _core: &mut Core,
    _session: SessionRef,
    _args: Args<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    help(out, "CLIENT", HELP)
}

static HELP: &[&str] = &[
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "    * ID <client-id>",
    "      Kill connections by client id.",
    "    * MAXAGE <maxage>",
    "      Kill connections older than the specified age.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <client-id> [<client-id> ...]",
    "      Return clients with the specified numbers.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
];
