//! SLOWLOG: the last commands that took longer than a threshold. Each core keeps its own and they
//! are merged by time when somebody asks; the length limit is the node's.

use std::collections::VecDeque;

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};

use super::parts::{PartReader, PartWriter};
use super::redact::{REDACTED, is_secret};
use super::reply::{
    INFORMATION, all_args, ask_all, container, doc, fail, gathered, help, parse_i64, reply, session, shown,
};
use crate::command::{CommandSpec, Flags};
use crate::core::Core;
use crate::gather::{Continuation, Outcome, SessionRef, sum_of};

const SLOWLOG: Flags = Flags::ADMIN.and(INFORMATION);
const COST: &str = "O(N) for N entries";

pub(super) static SPECS: &[CommandSpec] = &[
    container("slowlog", doc("server", "2.2.12", "Commands on the log of slow commands", "")),
    gathered(
        session(
            "slowlog|get",
            -2,
            SLOWLOG,
            get,
            doc("server", "2.2.12", "Shows the latest slow commands", COST),
        ),
        get_part,
    ),
    gathered(
        session("slowlog|len", 2, SLOWLOG, len, doc("server", "2.2.12", "Counts the entries", "O(1)")),
        len_part,
    ),
    gathered(
        session("slowlog|reset", 2, SLOWLOG, reset, doc("server", "2.2.12", "Removes all entries", COST)),
        reset_part,
    ),
    session(
        "slowlog|help",
        2,
        INFORMATION,
        slowlog_help,
        doc("server", "6.2.0", "Shows the subcommands", "O(1)"),
    ),
];

/// Arguments kept of one command, and bytes of each: entries must stay small.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;
const GET_COUNT_DEFAULT: usize = 10;

/// A command that was slow.
#[derive(Debug)]
struct Entry {
    id: u64,
    wall_micros: u64,
    duration_us: u64,
    args: Vec<Vec<u8>>,
    peer: String,
    name: Vec<u8>,
}

/// The slow commands of one core, the newest in front.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    entries: VecDeque<Entry>,
    recorded: u64,
}

impl Core {
    /// Whether a command of that duration is for SLOWLOG or the latency monitor.
    pub(crate) fn is_slow(&self, duration_us: u64) -> bool {
        let settings = &self.server.settings;
        let logged = u64::try_from(settings.slowlog_slower_than_us).is_ok_and(|least| duration_us >= least);
        logged || super::latency::records(self, duration_us)
    }

    /// Records a command of a session of this core if it was slow enough.
    #[cold]
    pub(crate) fn slow_command(&mut self, session: SessionRef, args: Args<'_>, duration_us: u64) {
        super::latency::record_command(self, args, duration_us);
        let settings = &self.server.settings;
        let slow = u64::try_from(settings.slowlog_slower_than_us).is_ok_and(|least| duration_us >= least);
        let len_max = settings.slowlog_len_max as usize;
        if !slow || len_max == 0 {
            return;
        }
        let Some(own) = self.session(session.conn) else { return };
        let (peer, name) = (own.peer.to_string(), own.name.clone());
        let log = &self.server.slowlog;
        let entry = Entry {
            id: log.recorded * u64::from(self.core_count()) + u64::from(self.config.core.0),
            wall_micros: self.time.wall.0 * 1000 + u64::from(self.time.wall_micros),
            duration_us,
            args: kept_args(args),
            peer,
            name,
        };
        let log = &mut self.server.slowlog;
        log.recorded += 1;
        log.entries.push_front(entry);
        log.entries.truncate(len_max);
    }
}

/// Drops what is over a length limit that has just been lowered.
pub(super) fn trim(core: &mut Core) {
    let len_max = core.server.settings.slowlog_len_max as usize;
    core.server.slowlog.entries.truncate(len_max);
}

/// The arguments as the log keeps them: long ones and many of them are cut, with a note.
fn kept_args(args: Args<'_>) -> Vec<Vec<u8>> {
    let all = args.len() <= ARGS_MAX;
    let count = if all { args.len() } else { ARGS_MAX - 1 };
    let mut kept: Vec<Vec<u8>> = (0..count).map(|index| kept_arg(args, index)).collect();
    if !all {
        kept.push(format!("... ({} more arguments)", args.len() - count).into_bytes());
    }
    kept
}

fn kept_arg(args: Args<'_>, index: usize) -> Vec<u8> {
    let arg = args.at(index);
    if is_secret(args, index) {
        REDACTED.to_vec()
    } else if arg.len() <= ARG_BYTES_MAX {
        arg.to_vec()
    } else {
        let mut cut = arg[..ARG_BYTES_MAX].to_vec();
        cut.extend_from_slice(format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX).as_bytes());
        cut
    }
}

fn get(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() > 3 {
        let sub = shown(args.at(1));
        let text =
            format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try SLOWLOG HELP.");
        return fail(core, out, &text);
    }
    let count = match args.get(2).map(parse_i64) {
        None => GET_COUNT_DEFAULT,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count)) if count >= 0 => count as usize,
        Some(_) => return fail(core, out, "ERR count should be greater than or equal to -1"),
    };
    let join: Continuation = Box::new(move |core, _, parts| {
        let count = count.min(core.server.settings.slowlog_len_max as usize);
        reply(|out| write_merged(&parts, count, out))
    });
    let count_text = count.to_string();
    Outcome::Gather(ask_all(core, "slowlog|get", &[b"slowlog", b"get", count_text.as_bytes()], join))
}

/// Each entry: its time for sorting, then the entry as the client gets it.
fn get_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let count = std::str::from_utf8(args.at(2)).ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let mut writer = PartWriter(out);
    let mut encoded = Vec::new();
    for entry in core.server.slowlog.entries.iter().take(count) {
        encoded.clear();
        encode(entry, &mut encoded);
        writer.u64(entry.wall_micros);
        writer.bytes(&encoded);
    }
}

fn encode(entry: &Entry, out: &mut Vec<u8>) {
    resp::array(out, 6);
    resp::integer(out, entry.id as i64);
    resp::integer(out, (entry.wall_micros / 1_000_000) as i64);
    resp::integer(out, entry.duration_us as i64);
    resp::array(out, entry.args.len());
    entry.args.iter().for_each(|arg| resp::bulk(out, arg));
    resp::bulk(out, entry.peer.as_bytes());
    resp::bulk(out, &entry.name);
}

fn write_merged(parts: &[Vec<u8>], count: usize, out: &mut Vec<u8>) {
    let mut entries = Vec::new();
    for part in parts {
        let mut reader = PartReader::new(part);
        while !reader.is_empty() {
            entries.push((reader.u64(), reader.bytes()));
        }
    }
    // Stable: entries of one core that share a microsecond stay newest first.
    entries.sort_by_key(|(wall_micros, _)| std::cmp::Reverse(*wall_micros));
    entries.truncate(count);
    resp::array(out, entries.len());
    entries.iter().for_each(|(_, encoded)| out.extend_from_slice(encoded));
}

fn len(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|core, _, parts| {
        let len_max = i64::try_from(core.server.settings.slowlog_len_max).unwrap_or(i64::MAX);
        reply(|out| resp::integer(out, sum_of(&parts).min(len_max)))
    });
    Outcome::Gather(ask_all(core, "slowlog|len", &all_args(args), join))
}

fn len_part(core: &mut Core, _args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    resp::integer(out, core.server.slowlog.entries.len() as i64);
}

fn reset(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|_, _, _| reply(|out| resp::simple(out, "OK")));
    Outcome::Gather(ask_all(core, "slowlog|reset", &all_args(args), join).with_barrier())
}

fn reset_part(core: &mut Core, _args: Args<'_>, _version: Version, _out: &mut Vec<u8>) {
    core.server.slowlog.entries.clear();
}

fn slowlog_help(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    help(
        out,
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
        ],
    )
}
