//! SAVE, BGSAVE and LASTSAVE: snapshots on demand, of all cores at the same time.

use pinnace_protocol::{Args, resp};

use super::reply::{ADMIN, SYNTAX_ERROR, doc, fail, session};
use crate::command::{CommandSpec, Flags};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};
use crate::snapshot::WhenSaved;

const COST: &str = "O(N) for N keys, in the background";
const IN_PROGRESS: &str = "ERR Background save already in progress";
const IMPOSSIBLE: &str = "ERR this node makes no snapshots";

pub(super) static SPECS: &[CommandSpec] = &[
    session(
        "save",
        1,
        Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_MULTI),
        save,
        doc(
            "server",
            "1.0.0",
            "Makes a snapshot and answers when it is synced; others are served meanwhile",
            COST,
        ),
    ),
    session(
        "bgsave",
        -1,
        Flags::ADMIN.and(Flags::NOSCRIPT),
        bgsave,
        doc("server", "1.0.0", "Begins a snapshot", COST),
    ),
    session(
        "lastsave",
        1,
        ADMIN.and(Flags::FAST),
        lastsave,
        doc("server", "1.0.0", "Tells when the last complete snapshot was made", "O(1)"),
    ),
];

fn refusal(core: &Core) -> Option<&'static str> {
    if !core.has_snapshots() {
        return Some(IMPOSSIBLE);
    }
    core.statuses.is_running().then_some(IN_PROGRESS)
}

fn save(core: &mut Core, session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if let Some(text) = refusal(core) {
        return fail(core, out, text);
    }
    core.begin_all_snapshots();
    core.wait_for_snapshots(session.conn, WhenSaved::Reply);
    resp::simple(out, "OK");
    // Until all cores are done.
    Outcome::ReplyAt { monotonic_ns: u64::MAX }
}

fn bgsave(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() > 2 || (args.len() == 2 && !args.at(1).eq_ignore_ascii_case(b"schedule")) {
        return fail(core, out, SYNTAX_ERROR);
    }
    if let Some(text) = refusal(core) {
        return fail(core, out, text);
    }
    core.begin_all_snapshots();
    resp::simple(out, "Background saving started");
    Outcome::Replied
}

fn lastsave(core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    resp::integer(out, (core.statuses.saved().0 / 1000) as i64);
    Outcome::Replied
}
