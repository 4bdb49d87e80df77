//! Commands over all keys of the node but for SCAN: every core does its part, one joins the parts.
//!
//! The parts run one after another on their cores, not at one moment: a key that is written in
//! between may or may not be seen. FLUSHALL holds the connection until every core has done it, so
//! that the same client never sees a key again.

use pinnace_engine::value::glob;
use pinnace_engine::{Entry, ScanCursor};
use pinnace_protocol::{Args, resp};

use super::{READ, READ_FAST, WRITE, docs, refusal, spec, with_part};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::core::Core;
use crate::gather::{Continuation, Gather, Next, Outcome, SessionRef, first_error, sum_of};

pub(super) static SPECS: &[CommandSpec] = &[
    with_part(
        spec(
            "keys",
            2,
            READ,
            KeySpec::NONE,
            Run::Session(keys),
            docs(
                "generic",
                "1.0.0",
                "O(N) with N the number of keys",
                "Gives all key names that match a pattern.",
            ),
        ),
        keys_part,
    ),
    with_part(
        spec(
            "randomkey",
            1,
            READ,
            KeySpec::NONE,
            Run::Session(randomkey),
            docs("generic", "1.0.0", "O(1)", "Gives the name of a random key."),
        ),
        randomkey_part,
    ),
    with_part(
        spec(
            "dbsize",
            1,
            READ_FAST,
            KeySpec::NONE,
            Run::Session(dbsize),
            docs("server", "1.0.0", "O(1)", "Gives the number of keys."),
        ),
        dbsize_part,
    ),
    with_part(
        spec(
            "flushdb",
            -1,
            WRITE,
            KeySpec::NONE,
            Run::Session(flush),
            docs("server", "1.0.0", "O(N) with N the number of keys", "Deletes all keys."),
        ),
        flush_part,
    ),
    with_part(
        spec(
            "flushall",
            -1,
            WRITE,
            KeySpec::NONE,
            Run::Session(flush),
            docs("server", "1.0.0", "O(N) with N the number of keys", "Deletes all keys."),
        ),
        flush_part,
    ),
];

/// Asks every core for its part of the command.
fn ask_all(core: &Core, args: Args<'_>, then: Continuation) -> Gather {
    let command = core.table.id(args.at(0)).expect("the command that runs stands in the table");
    let args: Vec<&[u8]> = args.iter().collect();
    Gather::from_all(core, command, &args, then)
}

/// Whether a pattern lets every key through, the empty one included.
pub(super) fn matches_all(pattern: &[u8]) -> bool {
    pattern == b"*"
}

fn keys(core: &mut Core, _: SessionRef, args: Args<'_>, _: &mut Vec<u8>) -> Outcome {
    Outcome::Gather(ask_all(core, args, Box::new(|_, _, parts| Next::Reply(join_keys(&parts)))))
}

/// Bytes of the count in front of a part of KEYS.
const COUNT_BYTES: usize = 8;

fn keys_part(core: &mut Core, args: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    let pattern = args.at(1);
    let (mut count, start) = (0u64, out.len());
    out.extend_from_slice(&[0; COUNT_BYTES]);
    let mut visit = |key: &[u8], _: &Entry<'_>| {
        if matches_all(pattern) || glob::matches(pattern, key) {
            resp::bulk(out, key);
            count += 1;
        }
    };
    let end = core.ks.scan(ScanCursor::START, usize::MAX, &mut visit);
    debug_assert!(end.is_none(), "nothing bounds the walk");
    out[start..][..COUNT_BYTES].copy_from_slice(&count.to_le_bytes());
}

fn join_keys(parts: &[Vec<u8>]) -> Vec<u8> {
    let count_of = |part: &Vec<u8>| part.first_chunk().map_or(0, |count| u64::from_le_bytes(*count));
    let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum::<usize>() + 32);
    resp::array(&mut out, parts.iter().map(count_of).sum::<u64>() as usize);
    parts.iter().for_each(|part| out.extend_from_slice(&part[COUNT_BYTES..]));
    out
}

/// A random key of a random core, which is picked by its number of keys. Every core is asked for
/// both, so that one round suffices and a core that has just become empty is known to be so.
fn randomkey(core: &mut Core, _: SessionRef, args: Args<'_>, _: &mut Vec<u8>) -> Outcome {
    let then: Continuation = Box::new(|core, session, parts| {
        let weight_of = |part: &&Vec<u8>| part.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
        let total: u64 = parts.iter().map(|part| weight_of(&part)).sum();
        let mut out = Vec::new();
        if total == 0 {
            resp::null(&mut out, session.resp);
            return Next::Reply(out);
        }
        let mut ticket = core.prng.below(total);
        let chosen = parts.iter().find(|part| {
            let weight = weight_of(part);
            let is_chosen = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            is_chosen
        });
        let chosen = chosen.expect("the ticket is below the sum of the weights");
        resp::bulk(&mut out, &chosen[COUNT_BYTES..]);
        Next::Reply(out)
    });
    Outcome::Gather(ask_all(core, args, then))
}

/// The number of keys, then one of them; nothing if there is none.
fn randomkey_part(core: &mut Core, _: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    let mut key = std::mem::take(&mut core.scratch);
    if core.ks.random_key(&mut core.prng, &mut key) {
        out.extend_from_slice(&core.ks.len().max(1).to_le_bytes());
        out.extend_from_slice(&key);
    }
    core.scratch = key;
}

fn dbsize(core: &mut Core, _: SessionRef, args: Args<'_>, _: &mut Vec<u8>) -> Outcome {
    let then: Continuation = Box::new(|_, _, parts| {
        let mut out = Vec::new();
        resp::integer(&mut out, sum_of(&parts));
        Next::Reply(out)
    });
    Outcome::Gather(ask_all(core, args, then))
}

fn dbsize_part(core: &mut Core, _: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    resp::integer(out, core.ks.len() as i64);
}

/// FLUSHDB and FLUSHALL: there is one database. ASYNC and SYNC are the same, since dropping the
/// keys of a core takes no time in proportion to their number that a client would notice.
fn flush(core: &mut Core, _: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let is_mode = |mode: &[u8]| mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync");
    if args.len() > 2 || args.get(1).is_some_and(|mode| !is_mode(mode)) {
        core.stats.count_error(refusal::SYNTAX);
        resp::error(out, refusal::SYNTAX);
        return Outcome::Replied;
    }
    let then: Continuation = Box::new(|_, _, parts| {
        Next::Reply(first_error(&parts).map_or_else(|| b"+OK\r\n".to_vec(), Vec::clone))
    });
    Outcome::Gather(ask_all(core, args, then).with_barrier())
}

fn flush_part(core: &mut Core, _: Args<'_>, _: resp::Version, _: &mut Vec<u8>) {
    core.ks.clear();
}
