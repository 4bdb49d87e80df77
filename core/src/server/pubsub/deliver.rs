//! PUBLISH and SPUBLISH: delivery on every core, receivers added up.

use std::rc::Rc;

use pinnace_engine::value::glob;
use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};
use pinnace_types::ConnId;

use super::super::reply::{ask_all, reply};
use super::Kind;
use crate::core::Core;
use crate::effects::Effect;
use crate::gather::{Outcome, sum_of};

/// One message, encoded at most once per protocol version however many it goes to.
struct Message<'a> {
    parts: &'a [&'a [u8]],
    encoded: [Option<Rc<[u8]>>; 2],
}

impl<'a> Message<'a> {
    fn new(parts: &'a [&'a [u8]]) -> Self {
        Self { parts, encoded: [None, None] }
    }

    fn encoded(&mut self, version: Version) -> Rc<[u8]> {
        let parts = self.parts;
        let slot = &mut self.encoded[usize::from(version == Version::V3)];
        Rc::clone(slot.get_or_insert_with(|| {
            let mut bytes = Vec::with_capacity(64 + parts.iter().map(|part| part.len() + 16).sum::<usize>());
            resp::push(&mut bytes, version, parts.len());
            parts.iter().for_each(|part| resp::bulk(&mut bytes, part));
            Rc::from(bytes)
        }))
    }
}

/// Delivers on every core, then replies with the number of receivers.
pub(super) fn ask_receivers(core: &mut Core, command: &str, args: &[&[u8]]) -> Outcome {
    Outcome::Gather(ask_all(
        core,
        command,
        args,
        Box::new(|_, _, parts| reply(|out| resp::integer(out, sum_of(&parts)))),
    ))
}

pub(super) fn publish_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let (channel, payload) = (args.at(1), args.at(2));
    let direct = deliver(core, Kind::Channel, channel, &[b"message", channel, payload]);
    let matched: Vec<Box<[u8]>> = core
        .server
        .pubsub
        .index(Kind::Pattern)
        .keys()
        .filter(|pattern| glob::matches(pattern, channel))
        .cloned()
        .collect();
    let by_pattern: usize = matched
        .iter()
        .map(|pattern| deliver(core, Kind::Pattern, pattern, &[b"pmessage", pattern, channel, payload]))
        .sum();
    resp::integer(out, (direct + by_pattern) as i64);
}

pub(super) fn spublish_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    let (channel, payload) = (args.at(1), args.at(2));
    let count = deliver(core, Kind::Shard, channel, &[b"smessage", channel, payload]);
    resp::integer(out, count as i64);
}

fn deliver(core: &mut Core, kind: Kind, name: &[u8], parts: &[&[u8]]) -> usize {
    let Some(subscribers) = core.server.pubsub.index(kind).get(name) else { return 0 };
    let subscribers: Vec<ConnId> = subscribers.iter().copied().collect();
    let mut message = Message::new(parts);
    for &conn in &subscribers {
        let Some(session) = core.session(conn) else { continue };
        let bytes = message.encoded(session.resp);
        core.effect(Effect::Push { conn, bytes });
    }
    subscribers.len()
}
