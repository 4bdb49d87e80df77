//! Answers the hand-overs of other cores and takes their answers in.

use pinnace_engine::Key;
use pinnace_types::CoreId;

use crate::core::{Core, CoreWire};
use crate::mail::{Ask, Handover, Mail, ReturnTo};
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
    pub(crate) fn on_ask(&mut self, from: CoreId, handover: Box<Handover>) {
        if self.deferred.waits(from) {
            self.deferred.push_back(from, handover);
        } else {
            self.answer(from, handover);
        }
    }

    /// Goes on with what was too much for one hand-over, once a turn. Returns whether more is left.
    pub(crate) fn answer_deferred(&mut self) -> bool {
        if let Some((from, handover)) = self.deferred.next() {
            self.answer(from, handover);
        }
        !self.deferred.is_empty()
    }

    /// Runs requests of another core and sends the hand-over back with their answers. When the answers
    /// have become large, the requests that are left wait for a later turn: all copies of small values
    /// at once could be more than there is memory. Large values are not copied and do not count.
    fn answer(&mut self, from: CoreId, mut handover: Box<Handover>) {
        let started_ns = (self.config.clock_ns)();
        let mut answers = handover.take_answers();
        let mut start = 0;
        while start < handover.len() {
            if answers.owned_bytes() > ANSWER_BYTES_MAX {
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
            self.run_ask(request.ask, request.resp, handover.args(start), &mut answers);
            handover.set_answer_end(start, answers.mark());
            start += 1;
        }
        self.ks.set_touching(true);
        handover.put_answers(answers);
        self.stats.commands_forwarded_in += handover.len() as u64;
        self.count_asked(&handover, started_ns);
        self.post.push((from, Mail::Answer(handover)));
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
