//! CLIENT PAUSE and UNPAUSE, on all cores. The dispatcher obeys the pause.

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};
use pinnace_types::UnixMillis;

use super::super::reply::{all_args, ask_all, fail, parse_i64, reply};
use crate::core::{Core, PauseMode};
use crate::gather::{Continuation, Outcome, SessionRef};

pub(super) fn pause(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() > 4 {
        return fail(core, out, super::super::reply::SYNTAX_ERROR);
    }
    if parse_mode(args).is_none() {
        return fail(core, out, "ERR CLIENT PAUSE mode must be WRITE or ALL");
    }
    let until = match parse_i64(args.at(2)) {
        None => return fail(core, out, "ERR timeout is not an integer or out of range"),
        Some(millis) if millis < 0 => return fail(core, out, "ERR timeout is negative"),
        Some(millis) => core.time.wall.0.saturating_add(millis as u64),
    };
    // One instant for all cores, whenever the request reaches them.
    let until = until.to_string();
    let mut part_args = all_args(args);
    part_args[2] = until.as_bytes();
    let join: Continuation = Box::new(|_, _, _| reply(|out| resp::simple(out, "OK")));
    Outcome::Gather(ask_all(core, "client|pause", &part_args, join).with_barrier())
}

fn parse_mode(args: Args<'_>) -> Option<PauseMode> {
    match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => Some(PauseMode::All),
        Some(b"write") => Some(PauseMode::Write),
        Some(_) => None,
    }
}

/// A pause under way is only made longer and stricter, as in Redis.
pub(super) fn pause_part(core: &mut Core, args: Args<'_>, _version: Version, _out: &mut Vec<u8>) {
    let until = std::str::from_utf8(args.at(2)).ok().and_then(|text| text.parse().ok());
    let (Some(mode), Some(until)) = (parse_mode(args), until.map(UnixMillis)) else { return };
    core.pause = Some(match core.pause {
        Some((PauseMode::All, before)) => (PauseMode::All, until.max(before)),
        Some((PauseMode::Write, before)) => (mode, until.max(before)),
        None => (mode, until),
    });
}

pub(super) fn unpause(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|_, _, _| reply(|out| resp::simple(out, "OK")));
    Outcome::Gather(ask_all(core, "client|unpause", &all_args(args), join).with_barrier())
}

pub(super) fn unpause_part(core: &mut Core, _args: Args<'_>, _version: Version, _out: &mut Vec<u8>) {
    core.pause = None;
}
