//! Runs gathered commands: sends their requests, collects the parts, continues when all are there.

use std::collections::{BTreeMap, VecDeque};

use pinnace_types::{ConnId, CoreId};

use crate::answer::{Answer, View};
use crate::command::{CommandId, CommandSpec, Flags, Part, Run, Split};
use crate::core::{Core, CoreWire};
use crate::durability::Logged;
use crate::exec::Exec;
use crate::gather::{Gather, Next, PartRequest, SessionRef, Then, first_error, sum_of};
use crate::mail::{Ask, ReturnTo};
use crate::replies::Ticket;
use crate::session::Hold;
use pinnace_protocol::{Args, resp};

/// How many forwarded requests a gathered command counts for: its reply holds many values.
const GATHER_WEIGHT: u32 = 4;

/// Gathered commands that wait for parts.
#[derive(Default)]
pub(crate) struct Gathers {
    pending: BTreeMap<u64, Pending>,
    /// A gather that has to be alone is under way.
    is_one_alone: bool,
    /// Those that wait until it is done; one a session at most, since the session waits with it.
    waiting: VecDeque<(Awaited, Gather)>,
    /// Those that end at an instant, in monotonic ns, whatever is missing.
    timed: Vec<(u64, u64)>,
    next: u64,
}

/// The reply that a gathered command owes.
#[derive(Clone, Copy)]
struct Awaited {
    session: SessionRef,
    ticket: Ticket,
    /// The client wants none: the place stays empty.
    silent: bool,
}

struct Pending {
    awaited: Awaited,
    parts: Vec<Option<Answer>>,
    missing: usize,
    then: Then,
    barrier: bool,
    alone: bool,
}

impl Core {
    /// Starts a gathered command of a session; its reply takes the next place in the session's
    /// replies.
    pub(crate) fn start_gather<W: CoreWire>(&mut self, session: SessionRef, gather: Gather, wire: &mut W) {
        let Some(entry) = self.sessions.get_mut(session.conn) else { return };
        let awaited = Awaited { session, ticket: entry.replies.wait(), silent: entry.is_silent() };
        if gather.barrier {
            entry.hold(Hold::Barrier);
        } else if entry.forwarded() * GATHER_WEIGHT >= entry.forward_window {
            entry.hold(Hold::Forwarded);
        }
        if gather.alone && self.gathers.is_one_alone {
            self.gathers.waiting.push_back((awaited, gather));
            return;
        }
        self.gathers.is_one_alone |= gather.alone;
        self.run_gather(awaited, gather, wire);
    }

    /// Starts the next one of those that have to be alone; without those whose clients have gone.
    fn start_waiting<W: CoreWire>(&mut self, wire: &mut W) {
        self.gathers.is_one_alone = false;
        while let Some((awaited, gather)) = self.gathers.waiting.pop_front() {
            if self.sessions.get(awaited.session.conn).is_some() {
                self.gathers.is_one_alone = true;
                return self.run_gather(awaited, gather, wire);
            }
        }
    }

    fn run_gather<W: CoreWire>(&mut self, awaited: Awaited, gather: Gather, wire: &mut W) {
        let session = awaited.session;
        let id = self.gathers.next;
        self.gathers.next += 1;
        let Gather { requests, then, barrier, alone, timeout_ms } = gather;
        let mut parts: Vec<Option<Answer>> = Vec::with_capacity(requests.len());
        let mut missing = 0;
        for (index, request) in requests.iter().enumerate() {
            if request.to == self.config.core {
                let answer = self.run_part_request(request, session.resp);
                let answer = match wire.gate() {
                    Some(gate) if std::mem::take(&mut self.part_waits) => {
                        gate.hold_part(id, index as u32, answer)
                    }
                    _ => Some(answer),
                };
                missing += usize::from(answer.is_none());
                parts.push(answer);
            } else {
                parts.push(None);
                missing += 1;
                self.send_part(request, session.resp, ReturnTo::Gather { id, part: index as u32 });
            }
        }
        let pending = Pending { awaited, parts, missing, then, barrier, alone };
        if missing == 0 {
            self.finish_gather(pending, wire);
        } else {
            self.gathers.pending.insert(id, pending);
            if timeout_ms > 0 {
                let at_ns = self.time.monotonic_ns.saturating_add(timeout_ms.saturating_mul(1_000_000));
                self.gathers.timed.push((at_ns, id));
            }
        }
    }

    /// Ends what has waited for parts as long as it may.
    pub(crate) fn end_timed_gathers<W: CoreWire>(&mut self, wire: &mut W) {
        if self.gathers.timed.is_empty() {
            return;
        }
        let now_ns = self.time.monotonic_ns;
        let mut timed = std::mem::take(&mut self.gathers.timed);
        timed.retain(|&(at_ns, id)| {
            if at_ns <= now_ns
                && let Some(mut pending) = self.gathers.pending.remove(&id)
            {
                pending
                    .parts
                    .iter_mut()
                    .filter(|part| part.is_none())
                    .for_each(|part| *part = Some(Answer::default()));
                self.finish_gather(pending, wire);
            }
            self.gathers.pending.contains_key(&id)
        });
        timed.append(&mut self.gathers.timed);
        self.gathers.timed = timed;
    }

    /// Whether a gathered command waits for an instant.
    pub(crate) fn has_timed_gathers(&self) -> bool {
        !self.gathers.timed.is_empty()
    }

    fn send_part(&mut self, request: &PartRequest, resp: resp::Version, return_to: ReturnTo) {
        let ask = self.ask_of(request);
        let args = request.args.iter().map(Vec::as_slice);
        let outgoing = &mut self.outgoing[request.to.index()];
        outgoing.push(ask, resp, return_to, true, args);
        if let Some(value) = &request.large {
            outgoing.attach(value.clone());
        }
        self.stats.commands_forwarded_out += 1;
    }

    fn ask_of(&self, request: &PartRequest) -> Ask {
        let spec = self.table.spec(request.command);
        if spec.part.is_some() {
            return Ask::Part { command: request.command };
        }
        let position = spec.keys.positions(request.args.len()).next().unwrap_or(0);
        let key = self.ks.key(&request.args[position]);
        Ask::Keyed { command: request.command, hash: key.hash(), shard: key.shard() }
    }

    fn run_part_request(&mut self, request: &PartRequest, resp: resp::Version) -> Answer {
        let mut bytes = Vec::new();
        let mut ranges = Vec::with_capacity(request.args.len());
        for arg in &request.args {
            let start = bytes.len() as u32;
            ranges.push(pinnace_protocol::ArgRange { start, len: arg.len() as u32 });
            bytes.extend_from_slice(arg);
        }
        let mut answer = Answer::default();
        self.attached.clone_from(&request.large);
        self.run_ask(self.ask_of(request), resp, Args::new(&bytes, &ranges), &mut answer);
        answer
    }

    /// Runs a request of this or another core and appends its answer. Keys are on this core.
    pub(crate) fn run_ask(&mut self, ask: Ask, resp: resp::Version, args: Args<'_>, answer: &mut Answer) {
        match ask {
            Ask::Keyed { command, hash, shard } => {
                let spec = self.table.spec(command);
                if spec.flags.contains(Flags::WRITE) && self.log_refuses_writes() {
                    self.stats.commands[command.index()].rejected += 1;
                    return self.refuse_for_log(answer.bytes());
                }
                let position = spec.keys.positions(args.len()).next().unwrap_or(0);
                let key = pinnace_engine::Key::from_parts(args.at(position), hash, shard);
                self.run_keyed_into(spec, key, resp, args, answer);
            }
            Ask::Part { command } => {
                let spec = self.table.spec(command);
                if spec.flags.contains(Flags::WRITE) && self.log_refuses_writes() {
                    self.attached = None;
                    return self.refuse_for_log(answer.bytes());
                }
                match spec.part {
                    Some(Part::Plain(part)) => part(self, args, resp, answer.bytes()),
                    Some(Part::Large(part)) => part(self, args, resp, answer),
                    None => {}
                }
                self.attached = None;
            }
            Ask::Native { .. } => self.run_native_ask(args.at(0), answer),
        }
    }

    #[cold]
    pub(crate) fn refuse_for_log(&mut self, answer: &mut Vec<u8>) {
        let text = self.log_full_text();
        self.stats.count_error(&text);
        resp::error(answer, text);
    }

    /// Runs a keyed command for somebody else and appends its reply.
    pub(crate) fn run_keyed_into(
        &mut self,
        spec: &'static CommandSpec,
        first_key: pinnace_engine::Key<'_>,
        resp: resp::Version,
        args: Args<'_>,
        answer: &mut Answer,
    ) {
        let (Run::Keyed(run) | Run::KeyedSplit(run, _) | Run::KeyedOr(run, _)) = spec.run else {
            unreachable!("only keyed commands are asked for by key");
        };
        let errors = self.stats.error_replies;
        let logged = self.log.as_deref().map(|log| Logged::begin(log, spec, args));
        let hash = first_key.hash();
        answer.write(|out| {
            let mut exec = Exec {
                ks: &mut self.ks,
                out,
                resp,
                first_key,
                scratch: &mut self.scratch,
                prng: &mut self.prng,
                limits: &self.config.limits,
                stats: &mut self.stats,
            };
            run(&mut exec, args);
        });
        if let Some(logged) = logged {
            // What the answer waits for is for the hand-over or the gather to say.
            let _ = logged.end(hash);
        }
        if self.stats.error_replies != errors
            && let Some(id) = self.table.id(spec.name.as_bytes())
        {
            self.stats.commands[id.index()].failed += 1;
        }
    }

    /// A part has come back.
    pub(crate) fn on_part<W: CoreWire>(&mut self, id: u64, part: u32, view: View<'_>, wire: &mut W) {
        let Some(pending) = self.gathers.pending.get_mut(&id) else { return };
        let slot = &mut pending.parts[part as usize];
        assert!(slot.is_none(), "a core answered one request twice");
        slot.insert(Answer::default()).push(view);
        pending.missing -= 1;
        if pending.missing == 0
            && let Some(pending) = self.gathers.pending.remove(&id)
        {
            self.finish_gather(pending, wire);
        }
    }

    fn finish_gather<W: CoreWire>(&mut self, pending: Pending, wire: &mut W) {
        let Pending { awaited, parts, then, barrier, alone, .. } = pending;
        let Awaited { session, ticket, silent } = awaited;
        let parts = parts.into_iter().flatten().collect();
        let reply = match then.run(self, session, parts) {
            Next::Reply(bytes) => Answer::from(bytes),
            Next::Large(answer) => answer,
            Next::Gather(mut next) => {
                (next.barrier, next.alone) = (barrier, alone);
                self.run_gather(awaited, next, wire);
                return self.apply_effects(wire);
            }
        };
        let reply = if silent { Answer::default() } else { reply };
        if let Some(gate) = wire.gate().filter(|gate| gate.is_sync()) {
            gate.wait_for_all(session.conn);
        }
        self.on_awaited_reply(session.conn, ticket, reply.view(), wire);
        if barrier {
            self.release(session.conn, Hold::Barrier);
        }
        self.settle_noop(session.conn, wire);
        if alone {
            self.start_waiting(wire);
        }
        self.apply_effects(wire);
    }

    /// Splits a multi-key command by owner. Each core gets the command with its share of the keys.
    pub(crate) fn split_gather(
        &self,
        command: CommandId,
        spec: &'static CommandSpec,
        split: Split,
        args: Args<'_>,
    ) -> Gather {
        let step = usize::try_from(spec.keys.step).unwrap_or(1).max(1);
        let mut requests: Vec<PartRequest> = Vec::new();
        let mut of_core: Vec<Option<usize>> = vec![None; usize::from(self.core_count())];
        // For every key, which request it went to.
        let mut order = Vec::new();
        for position in spec.keys.positions(args.len()) {
            let owner: CoreId = self.config.shards.core_of(self.ks.key(args.at(position)).shard());
            let index = *of_core[owner.index()].get_or_insert_with(|| {
                requests.push(PartRequest {
                    to: owner,
                    command,
                    args: vec![args.at(0).to_vec()],
                    large: None,
                });
                requests.len() - 1
            });
            order.push(index);
            let share = (position..(position + step).min(args.len())).map(|at| args.at(at).to_vec());
            requests[index].args.extend(share);
        }
        let then: Then = match split {
            Split::Elements => Then::Large(Box::new(move |_, _, parts| join_elements(&order, &parts))),
            _ => Then::Plain(Box::new(move |_, _, parts| join(split, &parts))),
        };
        Gather { requests, then, barrier: false, alone: false, timeout_ms: 0 }
    }

    /// Gives a session the reply it has been waiting for at `ticket`, and whatever waited behind it.
    pub(crate) fn on_awaited_reply<W: CoreWire>(
        &mut self,
        conn: ConnId,
        ticket: Ticket,
        reply: View<'_>,
        wire: &mut W,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.output_bytes += reply.reply_bytes() as u64;
        let Some(out) = wire.out(conn) else { return };
        let spare = &mut self.spare_buffers;
        let known = session.replies.fill(ticket, reply, |released| match released {
            crate::replies::Released::Borrowed(view) => view.write_to(out),
            crate::replies::Released::Owned(mut answer) => {
                answer.view().write_to(out);
                let mut bytes = std::mem::take(answer.bytes());
                if bytes.capacity() <= 64 << 10 {
                    bytes.clear();
                    spare.push(bytes);
                }
            }
        });
        let over_pause = out.byte_len() as u64 > self.config.limits.output_pause_bytes;
        debug_assert!(known, "an answer without a question");
        if session.close_when_answered && session.replies.is_empty() && session.forwarded() == 0 {
            wire.close_after_flush(conn);
            return;
        }
        let window_max = self.config.limits.forwarded_max;
        session.on_forwarded_reply(reply.bytes().len(), window_max);
        if over_pause && session.hold == Hold::None {
            session.hold(Hold::Output);
        }
        if session.hold == Hold::Forwarded
            && session.forwarded() * GATHER_WEIGHT <= session.forward_window * 2
        {
            self.release(conn, Hold::Forwarded);
        }
    }
}

fn join(split: Split, parts: &[Vec<u8>]) -> Next {
    let mut out = Vec::new();
    match first_error(parts) {
        Some(error) => out.extend_from_slice(error),
        None if split == Split::Sum => resp::integer(&mut out, sum_of(parts)),
        None => resp::simple(&mut out, "OK"),
    }
    Next::Reply(out)
}

/// Merges arrays of bulk strings and nulls: element `i` is the next one of part `order[i]`.
fn join_elements(order: &[usize], parts: &[Answer]) -> Next {
    let is_error = |part: &&Answer| part.view().bytes().first() == Some(&b'-');
    if let Some(error) = parts.iter().find(is_error) {
        return Next::Reply(error.view().bytes().to_vec());
    }
    let mut rest: Vec<View<'_>> = parts.iter().map(|part| skip_line(part.view())).collect();
    let mut out = Answer::default();
    resp::array(out.bytes(), order.len());
    for &index in order {
        let (element, behind) = split_element(rest[index]);
        out.push(element);
        rest[index] = behind;
    }
    Next::Large(out)
}

/// Bytes of the first line, with its line end.
fn line_bytes(view: View<'_>) -> usize {
    view.bytes().iter().position(|&b| b == b'\n').expect("our own replies are whole") + 1
}

/// What follows the first line.
fn skip_line(view: View<'_>) -> View<'_> {
    view.split_at(line_bytes(view), 0).1
}

/// Splits the first element, a bulk string or a null, off.
fn split_element(view: View<'_>) -> (View<'_>, View<'_>) {
    let header = line_bytes(view);
    let line = &view.bytes()[..header - 2];
    let len = match line.split_first() {
        Some((b'$', len)) => std::str::from_utf8(len).ok().and_then(|text| text.parse::<usize>().ok()),
        _ => None,
    };
    // A large value stands where the bytes would be. `$-1` and `_` are nulls: the line is all there is.
    let is_large = view.has_value_at(header);
    let body = len.map_or(0, |len| if is_large { 2 } else { len + 2 });
    view.split_at(header + body, usize::from(is_large))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(order: &[usize], parts: &[&[u8]]) -> Vec<u8> {
        let parts: Vec<Answer> = parts.iter().map(|part| Answer::from(part.to_vec())).collect();
        match join_elements(order, &parts) {
            Next::Reply(bytes) => bytes,
            Next::Large(answer) => answer.into_bytes(),
            Next::Gather(_) => panic!("a join is one step"),
        }
    }

    #[test]
    fn elements_come_back_in_the_order_of_the_keys() {
        let parts: [&[u8]; 2] = [b"*2\r\n$1\r\na\r\n$-1\r\n", b"*1\r\n$2\r\n\r\n\r\n"];
        assert_eq!(joined(&[0, 1, 0], &parts), b"*3\r\n$1\r\na\r\n$2\r\n\r\n\r\n$-1\r\n");
    }

    #[test]
    fn an_error_of_one_part_is_the_reply() {
        let parts: [&[u8]; 2] = [b"+OK\r\n", b"-OOM no\r\n"];
        assert_eq!(joined(&[0, 1], &[b"*1\r\n$-1\r\n", parts[1]]), b"-OOM no\r\n");
        let parts = parts.map(<[u8]>::to_vec);
        let Next::Reply(reply) = join(Split::AllOk, &parts) else { panic!("a join is one step") };
        assert_eq!(reply, b"-OOM no\r\n");
    }
}
