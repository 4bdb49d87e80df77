//! Runs gathered commands: sends their requests, collects the parts, continues when all are there.

use std::collections::BTreeMap;

use pinnace_types::{ConnId, CoreId};

use crate::command::{CommandId, CommandSpec, Run, Split};
use crate::core::{Core, CoreWire, flatten_out};
use crate::exec::Exec;
use crate::gather::{Continuation, Gather, Next, PartRequest, SessionRef, first_error, sum_of};
use crate::mail::{Ask, ReturnTo};
use crate::replies::Ticket;
use crate::session::Hold;
use pinnace_protocol::{Args, OutBuf, resp};

/// How many forwarded requests a gathered command counts for: its reply holds many values.
const GATHER_WEIGHT: u32 = 4;

/// Gathered commands that wait for parts.
#[derive(Default)]
pub(crate) struct Gathers {
    pending: BTreeMap<u64, Pending>,
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
    parts: Vec<Option<Vec<u8>>>,
    missing: usize,
    then: Continuation,
    barrier: bool,
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
        self.run_gather(awaited, gather, wire);
    }

    fn run_gather<W: CoreWire>(&mut self, awaited: Awaited, gather: Gather, wire: &mut W) {
        let session = awaited.session;
        let id = self.gathers.next;
        self.gathers.next += 1;
        let Gather { requests, then, barrier } = gather;
        let mut parts: Vec<Option<Vec<u8>>> = Vec::with_capacity(requests.len());
        let mut missing = 0;
        for (index, request) in requests.iter().enumerate() {
            if request.to == self.config.core {
                parts.push(Some(self.run_part_request(request, session.resp)));
            } else {
                parts.push(None);
                missing += 1;
                self.send_part(request, session.resp, ReturnTo::Gather { id, part: index as u32 });
            }
        }
        let pending = Pending { awaited, parts, missing, then, barrier };
        if missing == 0 {
            self.finish_gather(pending, wire);
        } else {
            self.gathers.pending.insert(id, pending);
        }
    }

    fn send_part(&mut self, request: &PartRequest, resp: resp::Version, return_to: ReturnTo) {
        let ask = self.ask_of(request);
        let args = request.args.iter().map(Vec::as_slice);
        self.outgoing[request.to.index()].push(ask, resp, return_to, true, args);
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

    fn run_part_request(&mut self, request: &PartRequest, resp: resp::Version) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut ranges = Vec::with_capacity(request.args.len());
        for arg in &request.args {
            let start = bytes.len() as u32;
            ranges.push(pinnace_protocol::ArgRange { start, len: arg.len() as u32 });
            bytes.extend_from_slice(arg);
        }
        let mut answer = Vec::new();
        self.run_ask(self.ask_of(request), resp, Args::new(&bytes, &ranges), &mut answer);
        answer
    }

    /// Runs a request of this or another core and appends its answer. Keys are on this core.
    pub(crate) fn run_ask(&mut self, ask: Ask, resp: resp::Version, args: Args<'_>, answer: &mut Vec<u8>) {
        match ask {
            Ask::Keyed { command, hash, shard } => {
                let spec = self.table.spec(command);
                let position = spec.keys.positions(args.len()).next().unwrap_or(0);
                let key = pinnace_engine::Key::from_parts(args.at(position), hash, shard);
                self.run_keyed_into(spec, key, resp, args, answer);
            }
            Ask::Part { command } => {
                if let Some(part) = self.table.spec(command).part {
                    part(self, args, resp, answer);
                }
            }
            Ask::Native { .. } => self.run_native_ask(args.at(0), answer),
        }
    }

    /// Runs a keyed command for somebody else and appends its reply.
    pub(crate) fn run_keyed_into(
        &mut self,
        spec: &'static CommandSpec,
        first_key: pinnace_engine::Key<'_>,
        resp: resp::Version,
        args: Args<'_>,
        answer: &mut Vec<u8>,
    ) {
        let (Run::Keyed(run) | Run::KeyedSplit(run, _) | Run::KeyedOr(run, _)) = spec.run else {
            unreachable!("only keyed commands are asked for by key");
        };
        let mut out = OutBuf::new();
        std::mem::swap(out.bytes(), answer);
        let mut exec = Exec {
            ks: &mut self.ks,
            out: &mut out,
            resp,
            first_key,
            scratch: &mut self.scratch,
            prng: &mut self.prng,
            limits: &self.config.limits,
            stats: &mut self.stats,
        };
        let errors = exec.stats.error_replies;
        run(&mut exec, args);
        if exec.stats.error_replies != errors
            && let Some(id) = self.table.id(spec.name.as_bytes())
        {
            self.stats.commands[id.index()].failed += 1;
        }
        if out.is_plain() {
            std::mem::swap(out.bytes(), answer);
        } else {
            flatten_out(answer, &mut out);
        }
    }

    /// A part has come back.
    pub(crate) fn on_part<W: CoreWire>(&mut self, id: u64, part: u32, bytes: &[u8], wire: &mut W) {
        let Some(pending) = self.gathers.pending.get_mut(&id) else { return };
        let slot = &mut pending.parts[part as usize];
        assert!(slot.is_none(), "a core answered one request twice");
        *slot = Some(bytes.to_vec());
        pending.missing -= 1;
        if pending.missing == 0
            && let Some(pending) = self.gathers.pending.remove(&id)
        {
            self.finish_gather(pending, wire);
        }
    }

    fn finish_gather<W: CoreWire>(&mut self, pending: Pending, wire: &mut W) {
        let Pending { awaited, parts, then, barrier, .. } = pending;
        let Awaited { session, ticket, silent } = awaited;
        let parts = parts.into_iter().flatten().collect();
        match then(self, session, parts) {
            Next::Reply(bytes) => {
                let bytes = if silent { &[] } else { bytes.as_slice() };
                self.on_awaited_reply(session.conn, ticket, bytes, wire);
                if barrier {
                    self.release(session.conn, Hold::Barrier);
                }
                self.settle_noop(session.conn, wire);
            }
            Next::Gather(mut next) => {
                next.barrier = barrier;
                self.run_gather(awaited, next, wire);
            }
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
                requests.push(PartRequest { to: owner, command, args: vec![args.at(0).to_vec()] });
                requests.len() - 1
            });
            order.push(index);
            let share = (position..(position + step).min(args.len())).map(|at| args.at(at).to_vec());
            requests[index].args.extend(share);
        }
        Gather { requests, then: Box::new(move |_, _, parts| join(split, &order, &parts)), barrier: false }
    }

    /// Gives a session the reply it has been waiting for at `ticket`, and whatever waited behind it.
    pub(crate) fn on_awaited_reply<W: CoreWire>(
        &mut self,
        conn: ConnId,
        ticket: Ticket,
        bytes: &[u8],
        wire: &mut W,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.output_bytes += bytes.len() as u64;
        let Some(out) = wire.out(conn) else { return };
        let spare = &mut self.spare_buffers;
        let known = session.replies.fill(ticket, bytes, |released| match released {
            crate::replies::Released::Borrowed(bytes) => out.bytes().extend_from_slice(bytes),
            crate::replies::Released::Owned(mut bytes) => {
                out.bytes().extend_from_slice(&bytes);
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
        session.on_forwarded_reply(bytes.len(), window_max);
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

fn join(split: Split, order: &[usize], parts: &[Vec<u8>]) -> Next {
    let mut out = Vec::new();
    match split {
        Split::Elements => join_elements(order, parts, &mut out),
        Split::Sum => match first_error(parts) {
            Some(error) => out.extend_from_slice(error),
            None => resp::integer(&mut out, sum_of(parts)),
        },
        Split::AllOk => match first_error(parts) {
            Some(error) => out.extend_from_slice(error),
            None => resp::simple(&mut out, "OK"),
        },
    }
    Next::Reply(out)
}

/// Merges arrays of bulk strings and nulls: element `i` is the next one of part `order[i]`.
fn join_elements(order: &[usize], parts: &[Vec<u8>], out: &mut Vec<u8>) {
    if let Some(error) = first_error(parts) {
        out.extend_from_slice(error);
        return;
    }
    let mut rest: Vec<&[u8]> = parts.iter().map(|part| skip_line(part).1).collect();
    resp::array(out, order.len());
    for &index in order {
        let (element, behind) = split_element(rest[index]);
        out.extend_from_slice(element);
        rest[index] = behind;
    }
}

/// Splits the first line, with its line end, off.
fn skip_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&b| b == b'\n').expect("our own replies are whole");
    bytes.split_at(end + 1)
}

/// Splits the first element, a bulk string or a null, off.
fn split_element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (header, behind) = skip_line(bytes);
    let len = match header[0] {
        b'$' => {
            std::str::from_utf8(&header[1..header.len() - 2]).ok().and_then(|text| text.parse::<usize>().ok())
        }
        _ => None,
    };
    // `$-1` and `_` are nulls: the line is all there is.
    let body = len.map_or(0, |len| len + 2);
    bytes.split_at(bytes.len() - behind.len() + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_in_the_order_of_the_keys() {
        let parts = vec![b"*2\r\n$1\r\na\r\n$-1\r\n".to_vec(), b"*1\r\n$2\r\n\r\n\r\n".to_vec()];
        let mut out = Vec::new();
        join_elements(&[0, 1, 0], &parts, &mut out);
        assert_eq!(out, b"*3\r\n$1\r\na\r\n$2\r\n\r\n\r\n$-1\r\n");
    }

    #[test]
    fn an_error_of_one_part_is_the_reply() {
        let parts = vec![b"+OK\r\n".to_vec(), b"-OOM no\r\n".to_vec()];
        let Next::Reply(reply) = join(Split::AllOk, &[], &parts) else { panic!("a join is one step") };
        assert_eq!(reply, b"-OOM no\r\n");
    }
}
