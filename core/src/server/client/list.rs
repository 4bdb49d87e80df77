//! CLIENT LIST and CLIENT INFO. A line has the fields of Redis that exist here, and the core.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};

use super::super::parts::{PartReader, PartWriter};
use super::super::pubsub::Kind;
use super::super::reply::{SYNTAX_ERROR, all_args, ask_all, fail, no_session, parse_i64, reply};
use super::filter::{ClientType, type_of, unknown_type};
use crate::core::Core;
use crate::gather::{Continuation, Outcome, SessionRef};
use crate::session::Session;

pub(super) fn info(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(own) = core.session(session.conn) else { return no_session(core, out, args) };
    let line = line_of(core, own);
    resp::verbatim(out, session.resp, "txt", line.as_bytes());
    Outcome::Replied
}

pub(super) fn list(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let wanted = match parse(args) {
        Ok(wanted) => wanted,
        Err(text) => return fail(core, out, &text),
    };
    let ids = if let Wanted::Ids(ids) = wanted { Some(ids) } else { None };
    let join: Continuation = Box::new(move |_, session, parts| {
        let mut lines: BTreeMap<u64, &[u8]> = BTreeMap::new();
        for part in &parts {
            let mut reader = PartReader::new(part);
            while !reader.is_empty() {
                lines.insert(reader.u64(), reader.bytes());
            }
        }
        let text: Vec<u8> = match ids {
            None => lines.into_values().flatten().copied().collect(),
            Some(ids) => ids.iter().filter_map(|id| lines.get(id)).copied().flatten().copied().collect(),
        };
        reply(|out| resp::verbatim(out, session.resp, "txt", &text))
    });
    Outcome::Gather(ask_all(core, "client|list", &all_args(args), join))
}

/// Which connections CLIENT LIST shows.
enum Wanted {
    All,
    Type(ClientType),
    Ids(Vec<u64>),
}

impl Wanted {
    fn has(&self, session: &Session) -> bool {
        match self {
            Self::All => true,
            Self::Type(kind) => type_of(session) == *kind,
            Self::Ids(ids) => ids.contains(&session.id),
        }
    }
}

fn parse(args: Args<'_>) -> Result<Wanted, String> {
    let Some(option) = args.get(2) else { return Ok(Wanted::All) };
    if option.eq_ignore_ascii_case(b"type") && args.len() == 4 {
        return ClientType::parse(args.at(3)).map(Wanted::Type).ok_or_else(|| unknown_type(args.at(3)));
    }
    if option.eq_ignore_ascii_case(b"id") && args.len() > 3 {
        // Numbers that no connection has are no mistake: it may have been there just now.
        let id = |arg| parse_i64(arg).map(|id| u64::try_from(id).unwrap_or(0));
        let ids: Option<Vec<u64>> = args.iter().skip(3).map(id).collect();
        return ids.map(Wanted::Ids).ok_or_else(|| "ERR Invalid client ID".to_owned());
    }
    Err(SYNTAX_ERROR.to_owned())
}

pub(super) fn list_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let Ok(wanted) = parse(args) else { return };
    let mut writer = PartWriter(out);
    for (_, session) in core.sessions().filter(|(_, session)| wanted.has(session)) {
        writer.u64(session.id);
        writer.bytes(line_of(core, session).as_bytes());
    }
}

fn line_of(core: &Core, session: &Session) -> String {
    let now_ms = core.time.monotonic_ns / 1_000_000;
    let age_s = core.time.wall.0.saturating_sub(session.created.0) / 1000;
    let idle_s = now_ms.saturating_sub(session.last_active_ms) / 1000;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let subscriptions = &session.subscriptions;
    let mut line = format!(
        "id={} addr={} laddr={} name={} age={age_s} idle={idle_s} flags={} db=0 sub={} psub={} ssub={} ",
        session.id,
        session.peer,
        session.local,
        text(&session.name),
        flags(session),
        subscriptions.count_of(Kind::Channel),
        subscriptions.count_of(Kind::Pattern),
        subscriptions.count_of(Kind::Shard),
    );
    let multi = session.multi_len().map_or(-1, |len| len as i64);
    let command = session.last_command.map_or("NULL", |id| core.table.spec(id).name);
    let version = if session.resp == Version::V3 { 3 } else { 2 };
    writeln!(
        line,
        "multi={multi} watch={} qbuf={} cmd={command} user=default redir=-1 resp={version} lib-name={} \
         lib-ver={} tot-net-in={} tot-cmds={} core={}",
        session.watch_len(),
        session.query_buffer_len(),
        text(&session.lib_name),
        text(&session.lib_ver),
        session.input_bytes,
        session.commands,
        core.config.core.0,
    )
    .expect("a String takes all that is written");
    line
}

/// Redis' letters, for what there is here.
fn flags(session: &Session) -> String {
    let letters: String = [
        (session.monitor, 'O'),
        (session.subscriptions.count() > 0, 'P'),
        (session.multi_len().is_some(), 'x'),
        (session.closing, 'c'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ]
    .iter()
    .filter_map(|(set, letter)| set.then_some(*letter))
    .collect();
    if letters.is_empty() { "N".to_owned() } else { letters }
}
