//! Answers the hand-overs of other cores and takes their answers in.

use pinnace_engine::Key;
use pinnace_types::{CommitNumber, CoreId};

use crate::core::{Core, CoreWire};
use crate::mail::{Ask, Handover, Mail, ReturnTo};
use crate::native::waits as native_waits;
use crate::session::Hold;

/// Empty hand-overs kept for their next use.
const SPARE_HANDOVERS_MAX: usize = 16;
/// Answers of one hand-over, about; what comes on top is one answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Requests whose buckets and items are fetched ahead of being run.
const AHEAD: usize = 32;

impl Core {
    /// Requests of another core have come: they are answered at once unless earlier ones of that core
    /// still wait.
    pub(crate) fn on_ask<W: CoreWire>(&mut self, from: CoreId, handover: Box<Handover>, wire: &mut W) {
        if self.deferred.waits(from) {
            self.deferred.push_back(from, handover);
        } else {
            self.answer(from, handover, wire);
        }
    }

    /// Goes on with what was too much for one hand-over, once a turn. Returns whether more is left.
    pub(crate) fn answer_deferred<W: CoreWire>(&mut self, wire: &mut W) -> bool {
        if let Some((from, handover)) = self.deferred.next() {
            self.answer(from, handover, wire);
        }
        !self.deferred.is_empty()
    }

    /// Runs requests of another core and sends the hand-over back with their answers. When the answers
    /// have become large, the requests that are left wait for a later turn: all copies of small values
    /// at once could be more than there is memory. Large values are not copied and do not count.
    fn answer<W: CoreWire>(&mut self, from: CoreId, mut handover: Box<Handover>, wire: &mut W) {
        let started_ns = (self.config.clock_ns)();
        let mut answers = handover.take_answers();
        let mut start = 0;
        let mut need = Need::default();
        while start < handover.len() {
            if answers.owned_bytes() > ANSWER_BYTES_MAX || (W::GATED && need.parts_at(&handover, start, wire))
            {
                let mut rest = self.spare_handovers.pop().unwrap_or_default();
                handover.split_off(start, &mut rest);
                self.deferred.push_front(from, rest);
                break;
            }
            let ahead = if start % AHEAD == 0 { AHEAD } else { 0 };
            let chunk = start..(start + ahead).min(handover.len());
            chunk.clone().for_each(|index| self.prefetch(&handover, index, Ahead::Index));
            chunk.for_each(|index| self.prefetch(&handover, index, Ahead::Item));
            let request = handover.request(start);
            self.ks.set_touching(request.touching);
            if handover.has_attached() {
                self.attached = handover.attached(start).cloned();
            }
            let effects = need.before(wire);
            self.run_ask(request.ask, request.resp, handover.args(start), &mut answers);
            if W::GATED {
                self.add_need(&mut need, effects, &handover, start, wire);
            }
            handover.set_answer_end(start, answers.mark());
            start += 1;
        }
        self.ks.set_touching(true);
        handover.put_answers(answers);
        self.stats.commands_forwarded_in += handover.len() as u64;
        self.count_asked(&handover, started_ns);
        match wire.gate() {
            None => self.post.push((from, Mail::Answer(handover))),
            Some(gate) => gate.post_answer(need.commit, from, handover, &mut self.post),
        }
    }

    fn count_asked(&mut self, handover: &Handover, started_ns: u64) {
        let count = handover.len() as u64;
        let each_ns = (self.config.clock_ns)().saturating_sub(started_ns) / count.max(1);
        for index in 0..handover.len() {
            if let Ask::Keyed { command, .. } = handover.request(index).ask {
                self.stats.count_call(command, each_ns);
            }
        }
    }

    #[inline]
    fn prefetch(&self, handover: &Handover, index: usize, what: Ahead) {
        let (Ask::Keyed { hash, shard, .. } | Ask::Native { hash, shard }) = handover.request(index).ask
        else {
            return;
        };
        let key = Key::from_parts(&[], hash, shard);
        match what {
            Ahead::Index => self.ks.prefetch_index(&key),
            Ahead::Item => _ = self.ks.spot(&key),
        }
    }

    /// Takes in the answers to a hand-over of this core.
    pub(crate) fn on_answer<W: CoreWire>(&mut self, mut handover: Box<Handover>, wire: &mut W) {
        for index in 0..handover.len() {
            let view = handover.answer(index);
            match handover.request(index).return_to {
                ReturnTo::Session { conn, ticket } => self.on_awaited_reply(conn, ticket, view, wire),
                ReturnTo::Nobody => {}
                ReturnTo::Gather { id, part } => self.on_part(id, part, view, wire),
                ReturnTo::Native { conn } => {
                    if let Some(session) = self.sessions.get_mut(conn) {
                        session.native_waiting -= 1;
                        session.output_bytes += view.reply_bytes() as u64;
                        session.on_forwarded_reply(view.bytes().len(), self.config.limits.forwarded_max);
                        let resume = session.forwarded() <= session.forward_window / 2;
                        if let Some(out) = wire.out(conn) {
                            view.write_to(out);
                        }
                        if resume {
                            self.release(conn, Hold::Forwarded);
                        }
                        self.settle_noop(conn, wire);
                    }
                }
            }
        }
        handover.clear();
        if self.spare_handovers.len() < SPARE_HANDOVERS_MAX {
            self.spare_handovers.push(handover);
        }
    }
}

#[derive(Clone, Copy)]
enum Ahead {
    Index,
    Item,
}

/// What the answers to a hand-over wait for: there is one condition for all of them.
#[derive(Default)]
struct Need {
    commit: CommitNumber,
    /// The last request has asked to wait for the log itself.
    asked: bool,
}

impl Need {
    #[inline]
    fn before<W: CoreWire>(&self, wire: &mut W) -> u64 {
        wire.gate().map_or(0, |gate| gate.effects())
    }

    /// Whether the requests from `index` on get an answer of their own. Nobody waits with those who have
    /// asked to.
    fn parts_at<W: CoreWire>(&self, handover: &Handover, index: usize, wire: &mut W) -> bool {
        let is_sync = wire.gate().is_some_and(|gate| gate.is_sync());
        !is_sync && index > 0 && self.asked != asks_to_wait(handover, index)
    }
}

/// Whether a request asks for its effects to be synced.
fn asks_to_wait(handover: &Handover, index: usize) -> bool {
    match handover.request(index).ask {
        Ask::Native { .. } => native_waits(handover.args(index).at(0)),
        Ask::Part { .. } => handover.args(index).at(0).eq_ignore_ascii_case(b"waitaof"),
        Ask::Keyed { .. } => false,
    }
}

impl Core {
    /// A request of a hand-over has run: adds what its answer waits for.
    fn add_need<W: CoreWire>(
        &mut self,
        need: &mut Need,
        effects: u64,
        handover: &Handover,
        index: usize,
        wire: &mut W,
    ) {
        self.part_waits = false;
        let Some(gate) = wire.gate() else { return };
        need.asked = asks_to_wait(handover, index);
        let commit = match handover.request(index).ask {
            _ if need.asked => gate.last_commit(),
            _ if !gate.is_sync() => return,
            Ask::Keyed { command, hash, .. }
                if self.table.spec(command).has_one_key(handover.args(index).len()) =>
            {
                gate.commit_behind(effects, hash)
            }
            Ask::Native { hash, .. } => gate.commit_behind(effects, hash),
            Ask::Keyed { .. } | Ask::Part { .. } => gate.last_commit(),
        };
        need.commit = need.commit.max(commit);
        if need.asked {
            gate.want_sync();
        }
    }
}
