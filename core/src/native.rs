//! Runs native frames. Keyed requests run on the core that owns the key and may be answered out of
//! order; the reply carries the request's id.

use pinnace_engine::{Key, Keyspace, PinnedValue, ValueRef, WriteError};
use pinnace_protocol::native::{
    self, Features, Flags, Frame, HelloReply, HelloRequest, IncrementBody, MultiGetKeys, Opcode, Options,
    Status,
};
use pinnace_protocol::{Args, OutBuf, resp};
use pinnace_types::{ConnId, CoreId, Deadline, ShardId, UnixMillis};

use crate::answer::{Answer, View};
use crate::batch::{Op, Route, Timing};
use crate::command::{CommandSpec, Flags as CommandFlags, KeySpec, Part, Run};
use crate::core::{Core, CoreWire};
use crate::durability::Gate;
use crate::effects::Effect;
use crate::gather::{Gather, Next, PartRequest, SessionRef, Then};
use crate::mail::{Ask, ReturnTo};
use crate::session::{Hold, Session};

/// What this node can do of what a native client may ask for.
const FEATURES: Features =
    Features(Features::VERSIONS.0 | Features::CORE_PLACEMENT.0 | Features::DURABILITY.0);

/// A number as text: the longest i64 has 20 characters.
const NUMBER_BYTES_MAX: usize = 20;

/// The part of a multi-get that one core answers.
pub(crate) static SPECS: &[CommandSpec] = &[CommandSpec {
    name: "_native_multi_get",
    arity: -2,
    flags: CommandFlags::READONLY,
    keys: KeySpec::ALL,
    run: Run::Internal,
    part: Some(Part::Large(multi_get_part)),
    group: "internal",
    since: "7.2.0",
    summary: "The keys of a native multi-get that one core owns.",
    complexity: "O(1) for every key.",
}];

impl Core {
    /// Runs a frame of a session.
    #[inline]
    pub(crate) fn run_native<W: CoreWire>(&mut self, op: &Op, raw: &[u8], wire: &mut W) -> Timing {
        let Some(session) = self.sessions.get_mut(op.conn) else { return Timing::None };
        if session.closing {
            return Timing::None;
        }
        let Ok(Some((frame, frame_bytes))) = native::decode(raw, &self.native_limits) else {
            unreachable!("the frame was whole when it was put into the batch");
        };
        if W::GATED && is_write(frame.opcode) && self.is_a_log_late(op.route) {
            self.wait_for_segment(op.conn);
            return Timing::Replay;
        }
        let Some(session) = self.sessions.get_mut(op.conn) else { return Timing::None };
        session.commands += 1;
        if let Some((status, text)) = self.refuse_write(&frame, op.route) {
            if let Some(out) = wire.out(op.conn) {
                native::encode_error(out.bytes(), frame.opcode, frame.request_id, status, text);
            }
            return Timing::None;
        }
        let Some(session) = self.sessions.get_mut(op.conn) else { return Timing::None };
        match op.route {
            Route::Local => {
                let waits = W::GATED && waits(raw);
                let effects = wire.gate().map_or(0, |gate| gate.effects());
                if waits && let Some(gate) = wire.gate() {
                    gate.stage(op.conn);
                }
                let Some(out) = wire.out(op.conn) else { return Timing::None };
                let key = op.key(frame.key);
                let before = out.byte_len();
                run_keyed(&mut self.ks, &mut self.scratch, &frame, &key, out);
                session.output_bytes += (out.byte_len() - before) as u64;
                if out.byte_len() as u64 > self.config.limits.output_pause_bytes {
                    session.hold(Hold::Output);
                }
                if let Some(gate) = wire.gate() {
                    gate.wait_for_native(op, waits, effects);
                }
                self.stats.commands_processed += 1;
            }
            Route::Remote(to) => {
                session.native_waiting += 1;
                let ask = Ask::Native { hash: op.hash, shard: op.shard };
                let return_to = ReturnTo::Native { conn: op.conn };
                let whole = std::iter::once(&raw[..frame_bytes]);
                self.outgoing[to.index()].push(ask, session.resp, return_to, true, whole);
                self.stats.commands_forwarded_out += 1;
                if session.forwarded() >= session.forward_window {
                    session.hold(Hold::Forwarded);
                }
            }
            Route::Undecided => self.run_keyless(op, &frame, wire),
        }
        Timing::None
    }

    /// Runs a keyed frame of a client of another core.
    pub(crate) fn run_native_ask(&mut self, raw: &[u8], answer: &mut Answer) {
        let Ok(Some((frame, _))) = native::decode(raw, &self.native_limits) else {
            unreachable!("the frame was whole when it was forwarded");
        };
        if let Some((status, text)) = self.refuse_write(&frame, Route::Local) {
            return native::encode_error(answer.bytes(), frame.opcode, frame.request_id, status, text);
        }
        let key = self.ks.key(frame.key);
        answer.write(|out| run_keyed(&mut self.ks, &mut self.scratch, &frame, &key, out));
        self.stats.commands_processed += 1;
    }

    fn run_keyless<W: CoreWire>(&mut self, op: &Op, frame: &Frame<'_>, wire: &mut W) {
        let (opcode, id) = (frame.opcode, frame.request_id);
        self.stats.commands_processed += 1;
        if opcode == Opcode::MULTI_GET && frame.is_supported() {
            return self.run_multi_get(op, frame, wire);
        }
        if opcode == Opcode::HELLO && frame.is_supported() {
            return self.run_hello(op, frame, wire);
        }
        if opcode == Opcode::NOOP && frame.is_supported() && frame.value.is_empty() {
            return self.run_noop(op, id, wire);
        }
        let Some(out) = wire.out(op.conn) else { return };
        let out = out.bytes();
        match opcode {
            _ if !frame.is_supported() => unsupported(out, frame),
            Opcode::PING => {
                native::encode(out, &native::Header::reply(opcode, id, Status::OK), &[], frame.value)
            }
            Opcode::NOOP => {
                native::encode_error(
                    out,
                    opcode,
                    id,
                    Status::BAD_REQUEST,
                    "value_len: a NOOP takes no value",
                );
            }
            Opcode::GET | Opcode::SET | Opcode::DELETE | Opcode::TOUCH | Opcode::INCREMENT | Opcode::CAS => {
                native::encode_error(
                    out,
                    opcode,
                    id,
                    Status::BAD_REQUEST,
                    "key_len: a key has at least 1 byte",
                );
            }
            _ => {
                let text = format!("opcode 0x{:02x} is not known to this node", opcode.0);
                native::encode_error(out, opcode, id, Status::UNKNOWN_OPCODE, &text);
            }
        }
    }

    /// A NOOP is answered after every earlier request of its connection: that is what a client of
    /// quiet requests waits for. Later requests wait behind it.
    fn run_noop<W: CoreWire>(&mut self, op: &Op, request_id: u32, wire: &mut W) {
        let Some(session) = self.sessions.get_mut(op.conn) else { return };
        session.noop = Some(request_id);
        if session.forwarded() > 0 {
            session.hold(Hold::Barrier);
        }
        self.settle_noop(op.conn, wire);
    }

    /// Answers a NOOP, or closes, if nothing before that is awaited any more.
    pub(crate) fn settle_noop<W: CoreWire>(&mut self, conn: ConnId, wire: &mut W) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.close_when_answered && session.forwarded() == 0 && session.replies.is_empty() {
            if let Some(out) = wire.out(conn) {
                out.bytes().append(&mut session.farewell);
            }
            return wire.close_after_flush(conn);
        }
        if session.noop.is_none() || session.forwarded() > 0 {
            return;
        }
        if let (Some(request_id), Some(out)) = (session.noop.take(), wire.out(conn)) {
            native::encode_status(out.bytes(), Opcode::NOOP, request_id, Status::OK, None);
        }
        self.release(conn, Hold::Barrier);
    }

    fn run_hello<W: CoreWire>(&mut self, op: &Op, frame: &Frame<'_>, wire: &mut W) {
        let Some(out) = wire.out(op.conn) else { return };
        let Some(hello) = HelloRequest::decode(frame.value) else {
            let text = "value: a HELLO has at least 16 bytes and the lengths it declares";
            return native::encode_error(
                out.bytes(),
                frame.opcode,
                frame.request_id,
                Status::BAD_REQUEST,
                text,
            );
        };
        let shards = self.config.shards;
        let wanted = CoreId(hello.wanted_core);
        let moves = wanted.0 < shards.core_count()
            && wanted != self.config.core
            && self.sessions.get(op.conn).is_some_and(Session::is_quiet);
        let core_port = |core: u16| self.config.node.core_ports.map_or(0, |base| base + core);
        let reply = HelloReply {
            features: hello.features.common(FEATURES),
            value_bytes_max: self.native_limits.value_bytes_max,
            key_bytes_max: self.native_limits.key_bytes_max,
            this_core: if moves { wanted.0 } else { self.config.core.0 },
            in_flight_max: self.config.limits.forwarded_max,
            node_id: 0,
            epoch: 0,
            core_ports: (0..shards.core_count()).map(core_port).collect(),
            shard_cores: (0..shards.shard_count()).map(|shard| shards.core_of(ShardId(shard)).0).collect(),
            server: format!("pinnace {}", self.config.node.version),
        };
        reply.encode(out.bytes(), frame.request_id);
        if let Some(session) = self.sessions.get_mut(op.conn) {
            session.name = hello.client_name.to_vec();
            session.placed = hello.wanted_core < shards.core_count();
        }
        if moves {
            self.effect(Effect::Move { conn: op.conn, to: wanted });
        }
    }

    /// Answers a multi-get whose keys are all here; else asks the other owners.
    fn run_multi_get<W: CoreWire>(&mut self, op: &Op, frame: &Frame<'_>, wire: &mut W) {
        let refuse = |out: &mut Vec<u8>, status, text| {
            native::encode_error(out, Opcode::MULTI_GET, frame.request_id, status, text);
        };
        let keys: Option<Vec<&[u8]>> = MultiGetKeys::decode(frame.value).map(Iterator::collect);
        let Some(keys) = keys else {
            if let Some(out) = wire.out(op.conn) {
                refuse(out.bytes(), Status::BAD_REQUEST, "value: the keys do not fit the declared count");
            }
            return;
        };
        let Some(session) = self.sessions.get(op.conn) else { return };
        let session_ref = SessionRef { conn: op.conn, resp: session.resp };
        let command = self.table.id(b"_native_multi_get").expect("it is in the table");
        let versions = if frame.flags.contains(Flags::RETURN_VERSION) { b"1" } else { b"0" };
        let mut requests: Vec<PartRequest> = Vec::new();
        let mut of_core: Vec<Option<usize>> = vec![None; usize::from(self.core_count())];
        let mut order = Vec::with_capacity(keys.len());
        for bytes in keys {
            let to = self.config.shards.core_of(self.ks.key(bytes).shard());
            let index = *of_core[to.index()].get_or_insert_with(|| {
                requests.push(PartRequest { to, command, args: vec![versions.to_vec()], large: None });
                requests.len() - 1
            });
            requests[index].args.push(bytes.to_vec());
            order.push(index);
        }
        let id = frame.request_id;
        let then = Then::Large(Box::new(move |_, _, parts| Next::Large(join_items(id, &order, &parts))));
        self.start_gather(
            session_ref,
            Gather { requests, then, barrier: false, alone: false, timeout_ms: 0 },
            wire,
        );
    }
}

impl Core {
    /// Why a frame that would write must not: its client asks for more than this node can promise, or the log has
    /// no room. Other cores look at theirs.
    #[inline]
    fn refuse_write(&self, frame: &Frame<'_>, route: Route) -> Option<(Status, &'static str)> {
        match &self.log {
            None if asks_for_sync(frame.opcode, frame.flags) => Some((
                Status::UNSUPPORTED,
                "flags: this node has no log to sync, it keeps everything in memory (durability none)",
            )),
            Some(log) if is_write(frame.opcode) && route == Route::Local && log.borrow().refuses_writes() => {
                Some(LOG_FULL)
            }
            _ => None,
        }
    }
}

impl Gate {
    /// A frame has run: what its reply waits for.
    #[inline]
    fn wait_for_native(&mut self, op: &Op, waits: bool, effects: u64) {
        if self.is_sync() {
            self.wait(op.conn, self.commit_behind(effects, op.hash));
        } else if waits {
            self.wait_for_all(op.conn);
            self.want_sync();
        }
    }
}

const LOG_FULL: (Status, &str) = (
    Status::LOG_FULL,
    "the log has no room: no space is left on its disk; writes are refused until there is",
);

/// Whether the bytes of a frame ask for the log to be synced before the reply.
#[inline]
pub(crate) fn waits(raw: &[u8]) -> bool {
    asks_for_sync(Opcode(raw[2]), Flags(raw[3]))
}

#[inline]
fn asks_for_sync(opcode: Opcode, flags: Flags) -> bool {
    flags.0 & Flags::DURABILITY_MASK.0 == Flags::DURABILITY_SYNCED.0 && is_write(opcode)
}

#[inline]
fn is_write(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::SET | Opcode::DELETE | Opcode::TOUCH | Opcode::INCREMENT | Opcode::CAS)
}

/// The items of the keys `args[1..]`; `args[0]` is `1` if versions are wanted.
fn multi_get_part(core: &mut Core, args: Args<'_>, _: resp::Version, answer: &mut Answer) {
    let versions = args.at(0) == b"1";
    for bytes in args.from(1).iter() {
        let key = core.ks.key(bytes);
        let version = if versions { core.ks.version(&key).ok().flatten().map(|v| v.0) } else { None };
        let out = answer.bytes();
        let Some(entry) = core.ks.get(&key) else {
            native::push_multi_get_item(out, Status::NOT_FOUND, &[], 0, None);
            continue;
        };
        let deadline = entry.deadline.to_raw();
        match entry.value {
            ValueRef::Bytes(value) => native::push_multi_get_item(out, Status::OK, value, deadline, version),
            ValueRef::Large(large) => {
                let len = large.len();
                native::push_multi_get_item_header(out, Status::OK, len, deadline, version);
                answer.push_value(large.clone());
                native::encode_padding(answer.bytes(), len);
            }
        }
    }
}

/// One reply of the parts: item `i` is the next one of part `order[i]`.
fn join_items(request_id: u32, order: &[usize], parts: &[Answer]) -> Answer {
    let mut answer = Answer::from(Vec::with_capacity(parts.iter().map(Answer::owned_bytes).sum()));
    let mut rest: Vec<View<'_>> = parts.iter().map(Answer::view).collect();
    let reply = native::begin_multi_get_reply(answer.bytes(), request_id, order.len() as u32);
    for &index in order {
        let view = rest[index];
        let layout = native::multi_get_item_layout(view.bytes());
        let (before, behind) = layout.expect("a part has one item per key");
        // A large value stands where its bytes would be.
        let large = if view.has_value_at(before) { view.values().next() } else { None };
        let large_bytes = large.map_or(0, |value| value.len());
        let (item, others) = view.split_at(before + behind - large_bytes, usize::from(large.is_some()));
        answer.push(item);
        rest[index] = others;
    }
    let shared_bytes = answer.view().reply_bytes() - answer.owned_bytes();
    if native::finish_multi_get_reply(answer.bytes(), reply, shared_bytes).is_err() {
        answer = Answer::default();
        let text = "the items together are longer than a frame can be";
        native::encode_error(answer.bytes(), Opcode::MULTI_GET, request_id, Status::TOO_LARGE, text);
    }
    answer
}

fn unsupported(out: &mut Vec<u8>, frame: &Frame<'_>) {
    let text = "flags, options or extension: a bit is set that this node has no meaning for";
    native::encode_error(out, frame.opcode, frame.request_id, Status::UNSUPPORTED, text);
}

/// Runs a keyed frame against the keyspace that owns its key.
#[inline]
fn run_keyed(
    ks: &mut Keyspace,
    scratch: &mut Vec<u8>,
    frame: &Frame<'_>,
    key: &Key<'_>,
    out: &mut OutBuf<PinnedValue>,
) {
    if frame.opcode == Opcode::GET && frame.flags.0 == 0 && frame.value.is_empty() && frame.is_supported() {
        return get(ks, frame.request_id, key, None, false, out);
    }
    if !frame.is_supported() {
        return unsupported(out.bytes(), frame);
    }
    let outcome = match frame.opcode {
        Opcode::GET | Opcode::DELETE | Opcode::TOUCH if !frame.value.is_empty() => {
            Err(Refusal(Status::BAD_REQUEST, "value_len: this opcode takes no value"))
        }
        Opcode::GET => match wanted_version(ks, frame, key) {
            Ok(version) => {
                let is_quiet = frame.flags.suppresses(Opcode::GET, Status::NOT_FOUND);
                return get(ks, frame.request_id, key, version, is_quiet, out);
            }
            Err(error) => Err(refusal(&error)),
        },
        Opcode::SET => set(ks, frame, key),
        Opcode::DELETE => Ok(if ks.delete(key) { Status::OK } else { Status::NOT_FOUND }),
        Opcode::TOUCH => touch(ks, frame, key),
        Opcode::CAS => compare_and_set(ks, frame, key),
        Opcode::INCREMENT => match increment(ks, scratch, frame, key) {
            Ok(Some(number)) => return incremented(ks, frame, key, number, out.bytes()),
            Ok(None) => Ok(Status::NOT_FOUND),
            Err(refusal) => Err(refusal),
        },
        Opcode::HELLO | Opcode::PING | Opcode::NOOP | Opcode::MULTI_GET => {
            Err(Refusal(Status::BAD_REQUEST, "key_len: this opcode takes no key"))
        }
        _ => Err(Refusal(Status::UNKNOWN_OPCODE, "opcode is not known to this node")),
    };
    finish(ks, frame, key, outcome, out.bytes());
}

struct Refusal(Status, &'static str);

fn refusal(error: &WriteError) -> Refusal {
    match error {
        WriteError::OutOfMemory => Refusal(Status::OUT_OF_MEMORY, "the memory budget is used up"),
        WriteError::LogFull => Refusal(LOG_FULL.0, LOG_FULL.1),
        WriteError::KeyTooLong { .. } => Refusal(Status::TOO_LARGE, "key_len is over the limit max_key_size"),
        WriteError::ValueTooLarge { .. } => {
            Refusal(Status::TOO_LARGE, "value_len is over the limit max_value_size")
        }
    }
}

fn wanted_version(ks: &mut Keyspace, frame: &Frame<'_>, key: &Key<'_>) -> Result<Option<u64>, WriteError> {
    if !frame.flags.contains(Flags::RETURN_VERSION) {
        return Ok(None);
    }
    Ok(ks.version(key)?.map(|version| version.0))
}

fn finish(
    ks: &mut Keyspace,
    frame: &Frame<'_>,
    key: &Key<'_>,
    outcome: Result<Status, Refusal>,
    out: &mut Vec<u8>,
) {
    match outcome {
        Ok(status) if frame.flags.suppresses(frame.opcode, status) => {}
        Ok(status) => {
            let has_version =
                status == Status::VERSION_MISMATCH || status == Status::OK && frame.opcode != Opcode::DELETE;
            let version = if has_version { wanted_version(ks, frame, key).ok().flatten() } else { None };
            native::encode_status(out, frame.opcode, frame.request_id, status, version);
        }
        Err(Refusal(status, text)) => native::encode_error(out, frame.opcode, frame.request_id, status, text),
    }
}

/// Answers a GET; `is_quiet`: only if there is a value.
#[inline(always)]
pub(crate) fn get(
    ks: &mut Keyspace,
    request_id: u32,
    key: &Key<'_>,
    version: Option<u64>,
    is_quiet: bool,
    out: &mut OutBuf<PinnedValue>,
) {
    let Some(entry) = ks.get(key) else {
        if !is_quiet {
            native::encode_status(out.bytes(), Opcode::GET, request_id, Status::NOT_FOUND, None);
        }
        return;
    };
    let deadline = entry.deadline.to_raw();
    match entry.value {
        ValueRef::Bytes(value) => {
            native::encode_get_reply(out.bytes(), request_id, value, deadline, version);
        }
        ValueRef::Large(large) => {
            let len = large.len();
            native::encode_get_reply_header(out.bytes(), request_id, len, deadline, version);
            out.push_pinned(large.clone());
            native::encode_padding(out.bytes(), len);
        }
    }
}

fn header_deadline(frame: &Frame<'_>) -> Deadline {
    if frame.deadline == 0 { Deadline::NEVER } else { Deadline::at(UnixMillis(frame.deadline)) }
}

fn set(ks: &mut Keyspace, frame: &Frame<'_>, key: &Key<'_>) -> Result<Status, Refusal> {
    let options = frame.options();
    let mut deadline = header_deadline(frame);
    if options.0 != 0 {
        let (absent_only, present_only) =
            (options.contains(Options::SET_IF_ABSENT), options.contains(Options::SET_IF_PRESENT));
        if absent_only && present_only {
            return Err(Refusal(
                Status::BAD_REQUEST,
                "options: SET_IF_ABSENT and SET_IF_PRESENT exclude each other",
            ));
        }
        match ks.peek(key) {
            Some(_) if absent_only => return Ok(Status::EXISTS),
            None if present_only => return Ok(Status::NOT_FOUND),
            Some(entry) if options.contains(Options::KEEP_DEADLINE) => deadline = entry.deadline,
            _ => {}
        }
    }
    store(ks, key, frame.value, deadline)
}

/// Sets, or deletes if the deadline has passed already.
fn store(ks: &mut Keyspace, key: &Key<'_>, value: &[u8], deadline: Deadline) -> Result<Status, Refusal> {
    if deadline.is_past(ks.now()) {
        ks.delete(key);
        return Ok(Status::OK);
    }
    ks.set(key, value, deadline).map_err(|error| refusal(&error))?;
    Ok(Status::OK)
}

fn touch(ks: &mut Keyspace, frame: &Frame<'_>, key: &Key<'_>) -> Result<Status, Refusal> {
    let deadline = header_deadline(frame);
    let found = if deadline.is_past(ks.now()) {
        ks.delete(key)
    } else {
        ks.set_deadline(key, deadline).map_err(|error| refusal(&error))?
    };
    Ok(if found { Status::OK } else { Status::NOT_FOUND })
}

fn compare_and_set(ks: &mut Keyspace, frame: &Frame<'_>, key: &Key<'_>) -> Result<Status, Refusal> {
    let Some(expected) = frame.version else {
        return Err(Refusal(Status::BAD_REQUEST, "extension: a CAS needs a version"));
    };
    let Some(entry) = ks.peek(key) else { return Ok(Status::NOT_FOUND) };
    // An item without a version has not been asked for one: no client can hold a valid one.
    if entry.version.is_none_or(|version| version.0 != expected) {
        return Ok(Status::VERSION_MISMATCH);
    }
    let kept = entry.deadline;
    let keep = frame.options().contains(Options::KEEP_DEADLINE);
    store(ks, key, frame.value, if keep { kept } else { header_deadline(frame) })
}

fn increment(
    ks: &mut Keyspace,
    scratch: &mut Vec<u8>,
    frame: &Frame<'_>,
    key: &Key<'_>,
) -> Result<Option<i64>, Refusal> {
    let Some(body) = IncrementBody::decode(frame.value) else {
        return Err(Refusal(
            Status::BAD_REQUEST,
            "value: an INCREMENT has 16 bytes, delta and initial number",
        ));
    };
    let (number, deadline) = match ks.peek(key) {
        None if frame.options().contains(Options::INCREMENT_CREATE) => (body.initial, header_deadline(frame)),
        None => return Ok(None),
        Some(entry) => {
            scratch.clear();
            if entry.value.len() <= NUMBER_BYTES_MAX {
                entry.value.copy_to(scratch);
            }
            let current = pinnace_engine::value::integer::parse(scratch)
                .ok_or(Refusal(Status::NOT_A_NUMBER, "the value is not a 64-bit number in decimal digits"))?;
            let sum = current.checked_add(body.delta);
            (sum.ok_or(Refusal(Status::OVERFLOW, "the sum does not fit 64 bits"))?, entry.deadline)
        }
    };
    store(ks, key, itoa::Buffer::new().format(number).as_bytes(), deadline)?;
    Ok(Some(number))
}

fn incremented(ks: &mut Keyspace, frame: &Frame<'_>, key: &Key<'_>, number: i64, out: &mut Vec<u8>) {
    if frame.flags.suppresses(frame.opcode, Status::OK) {
        return;
    }
    let version = wanted_version(ks, frame, key).ok().flatten();
    native::encode_integer_reply(out, frame.request_id, number, version);
}
