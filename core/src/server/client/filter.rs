//! CLIENT KILL, and the types of clients that it and CLIENT LIST tell apart.

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};

use super::super::reply::{
    SYNTAX_ERROR, all_args, ask_all, fail, fail_later, no_session, parse_i64, reply, shown,
};
use crate::core::Core;
use crate::effects::Effect;
use crate::gather::{Continuation, Gather, Next, Outcome, SessionRef, sum_of};
use crate::session::Session;

/// Redis' types of clients. There are no connections of the other two kinds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientType {
    Normal,
    PubSub,
    Replica,
    Master,
}

impl ClientType {
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"normal" => Self::Normal,
            b"pubsub" => Self::PubSub,
            b"replica" | b"slave" => Self::Replica,
            b"master" => Self::Master,
            _ => return None,
        })
    }
}

pub(super) fn type_of(session: &Session) -> ClientType {
    if session.subscriptions.count() > 0 { ClientType::PubSub } else { ClientType::Normal }
}

pub(super) fn unknown_type(name: &[u8]) -> String {
    format!("ERR Unknown client type '{}'", shown(name))
}

/// Which connections to close; all that is given must hold.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    kind: Option<ClientType>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    age_s_min: Option<u64>,
    /// The form of one address: it may be the caller's own, and it closes one connection.
    old_form: bool,
    spares_caller: bool,
}

fn parse(args: Args<'_>) -> Result<Filter<'_>, String> {
    if args.len() == 3 {
        return Ok(Filter { address: Some(args.at(2)), old_form: true, ..Filter::default() });
    }
    let mut filter = Filter { spares_caller: true, ..Filter::default() };
    for at in (2..args.len()).step_by(2) {
        let Some(value) = args.get(at + 1) else { return Err(SYNTAX_ERROR.to_owned()) };
        set_option(&mut filter, args.at(at), value)?;
    }
    Ok(filter)
}

const ID_TOO_SMALL: &str = "ERR client-id should be greater than 0";

fn set_option<'a>(filter: &mut Filter<'a>, option: &[u8], value: &'a [u8]) -> Result<(), String> {
    let positive = |not_a_number: &str, too_small: &str| match parse_i64(value) {
        Some(number) if number > 0 => Ok(number as u64),
        Some(_) => Err(too_small.to_owned()),
        None => Err(not_a_number.to_owned()),
    };
    match option.to_ascii_lowercase().as_slice() {
        b"id" => filter.id = Some(positive(ID_TOO_SMALL, ID_TOO_SMALL)?),
        b"type" => filter.kind = Some(ClientType::parse(value).ok_or_else(|| unknown_type(value))?),
        b"addr" => filter.address = Some(value),
        b"laddr" => filter.local_address = Some(value),
        b"user" if value != b"default" => return Err(format!("ERR No such user '{}'", shown(value))),
        b"user" => {}
        b"maxage" => {
            let not_a_number = "ERR maxage is not an integer or out of range";
            filter.age_s_min = Some(positive(not_a_number, "ERR maxage should be greater than 0")?);
        }
        b"skipme" => {
            filter.spares_caller = match value.to_ascii_lowercase().as_slice() {
                b"yes" => true,
                b"no" => false,
                _ => return Err(SYNTAX_ERROR.to_owned()),
            };
        }
        _ => return Err(SYNTAX_ERROR.to_owned()),
    }
    Ok(())
}

impl Filter<'_> {
    fn has(&self, core: &Core, session: &Session) -> bool {
        let is = |wanted: Option<&[u8]>, actual: std::net::SocketAddr| {
            wanted.is_none_or(|wanted| wanted == actual.to_string().as_bytes())
        };
        let age_s = core.time.wall.0.saturating_sub(session.created.0) / 1000;
        self.id.is_none_or(|id| id == session.id)
            && self.kind.is_none_or(|kind| kind == type_of(session))
            && is(self.address, session.peer)
            && is(self.local_address, session.local)
            && self.age_s_min.is_none_or(|min| age_s >= min)
    }
}

pub(super) fn kill(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let filter = match parse(args) {
        Ok(filter) => filter,
        Err(text) => return fail(core, out, &text),
    };
    let Some(own) = core.session(session.conn) else { return no_session(core, out, args) };
    // The caller gets its reply before it is closed, so its core's part leaves it alone.
    let caller = own.id.to_string();
    let kills_caller = !filter.spares_caller && filter.has(core, own);
    let old_form = filter.old_form;
    let mut part_args = all_args(args);
    part_args[1] = caller.as_bytes();
    let join: Continuation = Box::new(move |core, session, parts| {
        let killed = sum_of(&parts) + i64::from(kills_caller);
        if kills_caller {
            core.effect(Effect::CloseAfterReply(session.conn));
        }
        answer(core, killed, old_form)
    });
    let gather: Gather = ask_all(core, "client|kill", &part_args, join);
    Outcome::Gather(gather.with_barrier())
}

fn answer(core: &mut Core, killed: i64, old_form: bool) -> Next {
    match (old_form, killed) {
        (true, 0) => fail_later(core, "ERR No such client"),
        (true, _) => reply(|out| resp::simple(out, "OK")),
        (false, _) => reply(|out| resp::integer(out, killed)),
    }
}

/// The arguments as sent, with the caller's number in place of the subcommand.
pub(super) fn kill_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let Ok(filter) = parse(args) else { return resp::integer(out, 0) };
    let caller = args.at(1);
    let doomed: Vec<_> = core
        .sessions()
        .filter(|(_, session)| session.id.to_string().as_bytes() != caller && !session.closing)
        .filter(|(_, session)| filter.has(core, session))
        .map(|(conn, _)| conn)
        .collect();
    resp::integer(out, doomed.len() as i64);
    doomed.into_iter().for_each(|conn| core.effect(Effect::Close(conn)));
}
