//! Receives bytes, finds the requests in them and runs them in batches.
//!
//! A batch is filled over all connections of a turn: while a request is decoded its index bucket is
//! prefetched, when the batch is full all items are prefetched, then the requests run in order. The
//! bytes are not copied: a request refers to the event it came in.
//!
//! What a session has to hold (see [`Hold`]) or what is incomplete goes to its `partial` buffer, and
//! from then on its bytes are worked on from there until nothing is left.

use pinnace_engine::{Key, Keyspace, Spot};
use pinnace_protocol::resp::Decoded;
use pinnace_protocol::wire::Event;
use pinnace_protocol::{ArgRange, Args, native, resp};
use pinnace_types::{ConnId, CoreId, KeyHash, ShardId};

use crate::command::{CommandId, Run};
use crate::core::{Core, CoreWire};
use crate::gather::SessionRef;
use crate::session::{Hold, Protocol};

/// Requests per batch: enough to hide memory latency, few enough for their buckets and items to
/// stay in the first-level cache.
const BATCH_MAX: usize = 32;

/// Requests decoded between the fetch of a bucket and the look into it, so that it has come: spread over
/// decoding, the fetches of buckets and items cost next to nothing.
const SPOT_LAG: usize = 8;

/// Beginnings of commands that are remembered: clients that read and write send two.
const BEGINNINGS: usize = 2;

/// The source number of [`Sources::owned`].
const OWNED: u32 = u32::MAX - 1;

/// The bytes that requests of a batch refer to.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) events: &'a [Event<'a>],
    /// A session's `partial`, taken out of it for the time being.
    pub(crate) owned: &'a [u8],
}

impl<'a> Sources<'a> {
    fn bytes(self, source: u32) -> &'a [u8] {
        if source == OWNED {
            return self.owned;
        }
        match &self.events[source as usize] {
            Event::Data { bytes, .. } => bytes,
            _ => unreachable!("requests come from data events only"),
        }
    }
}

/// What a batch entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpKind {
    /// A RESP command of the table.
    Command(CommandId),
    /// A RESP command that is not in the table.
    Unknown,
    /// A native frame.
    Native,
    /// A native GET that asks for nothing but the value. Its request id stands in `range_start`, the
    /// length of its key in `range_count`.
    NativeGet,
    /// The incomplete rest of an event.
    Tail,
}

/// Where a request runs, as far as its first key tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Here: all its keys are on this core.
    Local,
    /// On another core: it has one key and that core owns it.
    Remote(CoreId),
    /// To be looked at when it runs: no key, or several.
    Undecided,
}

/// One request of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) kind: OpKind,
    pub(crate) route: Route,
    pub(crate) conn: ConnId,
    source: u32,
    /// Where the request begins in its source; its argument ranges count from there.
    raw_start: u32,
    pub(crate) range_start: u32,
    pub(crate) range_count: u32,
    /// Hash and shard of the first key; meaningless without one.
    pub(crate) hash: KeyHash,
    pub(crate) shard: ShardId,
    /// Where that key was seen.
    spot: Spot,
}

impl Op {
    fn new(kind: OpKind, conn: ConnId, source: u32, raw_start: usize) -> Self {
        Self {
            kind,
            route: Route::Undecided,
            conn,
            source,
            raw_start: raw_start as u32,
            range_start: 0,
            range_count: 0,
            hash: KeyHash(0),
            shard: ShardId(0),
            spot: Spot::NONE,
        }
    }

    /// The bytes from the request's start on.
    #[inline]
    pub(crate) fn raw<'s>(&self, sources: Sources<'s>) -> &'s [u8] {
        &sources.bytes(self.source)[self.raw_start as usize..]
    }

    /// The arguments of a command among those of its batch.
    #[inline]
    pub(crate) fn args<'s>(&self, raw: &'s [u8], ranges: &'s [ArgRange]) -> Args<'s> {
        Args::new(raw, &ranges[self.range_start as usize..][..self.range_count as usize])
    }

    /// The first key of the request, which has these bytes.
    #[inline]
    pub(crate) fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key::from_parts(bytes, self.hash, self.shard).seen_at(self.spot)
    }
}

/// The requests of the current batch.
pub(crate) struct Batch {
    ops: Vec<Op>,
    ranges: Vec<ArgRange>,
    /// Requests from the first on whose items have been fetched.
    spotted: usize,
    /// There is a command among them: their time is told.
    is_timed: bool,
    /// How commands began lately, and which they were.
    beginnings: [(resp::Beginning, CommandId); BEGINNINGS],
    /// Which of them is replaced next.
    oldest: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let (ops, ranges) = (Vec::with_capacity(BATCH_MAX + 1), Vec::with_capacity(BATCH_MAX * 4));
        let beginnings = [(resp::Beginning::NONE, CommandId::default()); BEGINNINGS];
        Self { ops, ranges, spotted: 0, is_timed: false, beginnings, oldest: 0 }
    }

    /// Decodes a command that begins like one of the last.
    #[inline(always)]
    fn decode_like_before(
        &mut self,
        decoder: &mut resp::RespDecoder,
        raw: &[u8],
        limits: &resp::RespLimits,
    ) -> Option<(usize, CommandId)> {
        let ranges = &mut self.ranges;
        for (beginning, id) in &self.beginnings {
            if let Some(consumed) = decoder.decode_like(beginning, raw, limits, ranges) {
                return Some((consumed, *id));
            }
        }
        None
    }

    fn remember_beginning(&mut self, raw: &[u8], range_start: usize, id: CommandId) {
        if let Some(beginning) = resp::Beginning::of(raw, &self.ranges[range_start..]) {
            self.beginnings[self.oldest] = (beginning, id);
            self.oldest = (self.oldest + 1) % BEGINNINGS;
        }
    }

    /// Adds a request whose bucket is being fetched, and fetches the item of one whose bucket has come.
    #[inline]
    fn push(&mut self, op: Op, ks: &Keyspace) {
        self.ops.push(op);
        if self.ops.len() > SPOT_LAG {
            self.spot_next(ks);
        }
    }

    #[inline]
    fn spot_next(&mut self, ks: &Keyspace) {
        let op = &mut self.ops[self.spotted];
        self.spotted += 1;
        if op.route == Route::Local {
            // Only the hash and the shard matter for where the item is.
            op.spot = ks.spot(&op.key(&[]));
        }
    }
}

/// Bytes that a session may send ahead while it waits for other cores; then it is not read for a while.
const HELD_BYTES_MAX: u64 = 256 << 10;
/// From this size on a buffer for an incomplete request grows by a quarter, not by doubling ...
const GROW_SLOWLY_BYTES: usize = 1 << 20;
/// ... and by no more than this at a time.
const GROW_STEP_BYTES: usize = 8 << 20;
/// Argument ranges of one batch are kept for the next up to this many.
const KEEP_RANGES_MAX: usize = 64 << 10;

impl Core {
    pub(crate) fn on_data<W: CoreWire>(
        &mut self,
        sources: Sources<'_>,
        source: u32,
        conn: ConnId,
        bytes: &[u8],
        wire: &mut W,
    ) {
        let now_ms = self.time.monotonic_ns / 1_000_000;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.input_bytes += bytes.len() as u64;
        session.last_active_ms = now_ms;
        self.stats.input_bytes += bytes.len() as u64;
        if session.closing {
            return;
        }
        if session.protocol == Protocol::Undecided {
            session.protocol = if bytes[0] == native::MAGIC { Protocol::Native } else { Protocol::Resp };
        }
        if session.hold == Hold::None && session.partial.is_empty() && !session.tail_in_batch {
            self.parse(sources, source, conn, bytes, wire);
            return;
        }
        self.run_batch(sources, wire);
        if self.keep_bytes(conn, bytes, wire) {
            self.drain_partial(conn, wire);
        }
    }

    /// Appends bytes to a session's `partial`. Returns false if the session is gone or closing.
    ///
    /// If the core's buffers for incomplete requests are over their limit then, the sessions that
    /// hold most are closed until they are not.
    fn keep_bytes<W: CoreWire>(&mut self, conn: ConnId, bytes: &[u8], wire: &mut W) -> bool {
        let limit = self.config.limits.input_bytes_max / u64::from(self.core_count());
        let spare = match self.sessions.get(conn) {
            Some(session) if session.partial.capacity() == 0 => self.spare_buffer(),
            _ => Vec::new(),
        };
        let Some(session) = self.sessions.get_mut(conn).filter(|session| !session.closing) else {
            return false;
        };
        let before = session.partial.capacity();
        if before == 0 {
            session.partial = spare;
        } else if session.partial.len() >= GROW_SLOWLY_BYTES && before - session.partial.len() < bytes.len() {
            // Doubling would count a large value twice against the limit.
            session.partial.reserve_exact(bytes.len() + (before / 4).min(GROW_STEP_BYTES));
        }
        session.partial.extend_from_slice(bytes);
        self.partial_bytes = self.partial_bytes - before as u64 + session.partial.capacity() as u64;
        let held_max = match session.hold {
            Hold::None => u64::MAX,
            // Many clients send a whole pipeline before they read the first reply.
            Hold::Output => limit / 2,
            _ => HELD_BYTES_MAX,
        };
        if session.partial.len() as u64 > held_max && !session.reads_paused {
            session.reads_paused = true;
            wire.pause_reads(conn);
        }
        while self.partial_bytes > limit {
            self.close_largest_partial(wire);
        }
        self.sessions.get(conn).is_some_and(|session| !session.closing)
    }

    #[cold]
    fn close_largest_partial<W: CoreWire>(&mut self, wire: &mut W) {
        let largest = self.sessions.iter().max_by_key(|(_, session)| session.partial.capacity());
        let Some(conn) = largest.map(|(conn, _)| conn) else {
            unreachable!("bytes are counted only while a session holds them");
        };
        if let Some(session) = self.sessions.get_mut(conn) {
            let partial = std::mem::take(&mut session.partial);
            self.partial_bytes -= partial.capacity() as u64;
        }
        self.stats.input_limit_closes += 1;
        let text = "ERR the node's buffers for incomplete requests are full and yours is the largest \
                    (limit input_bytes_max)";
        self.close_with_error(conn, text, wire);
    }

    /// Works on what a session has kept.
    pub(crate) fn drain_partial<W: CoreWire>(&mut self, conn: ConnId, wire: &mut W) {
        let limit = self.config.limits.input_bytes_max / u64::from(self.core_count());
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.hold == Hold::Output
            && session.reads_paused
            && session.partial.len() as u64 <= limit / 2
            && !session.closing
        {
            // It waited for other cores, and before its bytes could be worked on their answers became
            // too many. Its client may send on before it reads them: not reading it would last forever.
            session.reads_paused = false;
            wire.resume_reads(conn);
        }
        if session.hold != Hold::None || session.closing || session.partial.is_empty() {
            return;
        }
        if session.reads_paused {
            session.reads_paused = false;
            wire.resume_reads(conn);
        }
        let mut owned = std::mem::take(&mut session.partial);
        self.partial_bytes -= owned.capacity() as u64;
        let sources = Sources { events: &[], owned: &owned };
        let consumed = self.parse(sources, OWNED, conn, &owned, wire);
        let mut kept = None;
        if let Some(session) = self.sessions.get_mut(conn)
            && !session.closing
            && session.partial.is_empty()
            && consumed < owned.len()
        {
            owned.drain(..consumed);
            self.partial_bytes += owned.capacity() as u64;
            kept = Some(std::mem::take(&mut owned));
        }
        match (kept, self.sessions.get_mut(conn)) {
            (Some(rest), Some(session)) => session.partial = rest,
            _ => self.recycle_buffer(owned),
        }
    }

    /// Decodes the requests in `bytes` into batches and runs every full one; with [`OWNED`] bytes
    /// the last one as well. Returns how many bytes have been dealt with: run, put into the batch,
    /// or moved to the session's `partial`.
    fn parse<W: CoreWire>(
        &mut self,
        sources: Sources<'_>,
        source: u32,
        conn: ConnId,
        bytes: &[u8],
        wire: &mut W,
    ) -> usize {
        let mut at = 0;
        let Some(session) = self.sessions.get(conn) else { return bytes.len() };
        let is_native = session.protocol == Protocol::Native;
        while at < bytes.len() {
            if self.batch.ops.len() >= BATCH_MAX {
                self.run_batch(sources, wire);
                if self.stopped_at(sources, source, conn, at, wire) {
                    return bytes.len();
                }
            }
            let step = if is_native {
                self.parse_native(source, conn, bytes, at)
            } else {
                self.parse_resp(source, conn, bytes, at)
            };
            match step {
                Step::Advance(consumed) => at += consumed,
                Step::Incomplete => break,
                Step::Unescaped(consumed, ranges) => {
                    self.run_batch(sources, wire);
                    if self.stopped_at(sources, source, conn, at, wire) {
                        return bytes.len();
                    }
                    at += consumed;
                    self.run_unescaped(conn, &ranges, wire);
                    if self.stopped_at(sources, source, conn, at, wire) {
                        return bytes.len();
                    }
                }
                Step::Broken => {
                    self.run_batch(sources, wire);
                    self.close_broken(conn, bytes, at, wire);
                    return bytes.len();
                }
            }
        }
        if source == OWNED {
            self.run_batch(sources, wire);
            return if self.stopped_at(sources, source, conn, at, wire) { bytes.len() } else { at };
        }
        if at < bytes.len() {
            self.push_tail(source, conn, at);
        }
        bytes.len()
    }

    /// Whether a session's requests must not go on; what has not been worked on is kept.
    fn stopped_at<W: CoreWire>(
        &mut self,
        sources: Sources<'_>,
        source: u32,
        conn: ConnId,
        at: usize,
        wire: &mut W,
    ) -> bool {
        match self.sessions.get(conn) {
            None => true,
            Some(session) if session.closing => true,
            Some(session) if session.hold == Hold::None => false,
            Some(_) => {
                self.spill(sources, source, conn, at, wire);
                true
            }
        }
    }

    /// Keeps the rest of a source for later, once per source and hold.
    fn spill<W: CoreWire>(
        &mut self,
        sources: Sources<'_>,
        source: u32,
        conn: ConnId,
        at: usize,
        wire: &mut W,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.spilled_source == source + 1 {
            return;
        }
        session.spilled_source = source + 1;
        // What was decoded beyond this point will be decoded again from its start.
        session.decoder = resp::RespDecoder::new();
        let rest = &sources.bytes(source)[at..];
        if !rest.is_empty() {
            self.keep_bytes(conn, rest, wire);
        }
    }

    fn push_tail(&mut self, source: u32, conn: ConnId, at: usize) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.tail_in_batch = true;
        }
        self.batch.push(Op::new(OpKind::Tail, conn, source, at), &self.ks);
    }

    #[inline(always)]
    fn parse_resp(&mut self, source: u32, conn: ConnId, bytes: &[u8], at: usize) -> Step {
        let Some(session) = self.sessions.get_mut(conn) else { return Step::Incomplete };
        let range_start = self.batch.ranges.len();
        let raw = &bytes[at..];
        self.batch.is_timed = true;
        if let Some((consumed, id)) =
            self.batch.decode_like_before(&mut session.decoder, raw, &self.resp_limits)
        {
            self.push_command(id, conn, source, at, range_start, raw);
            return Step::Advance(consumed);
        }
        let consumed = match session.decoder.decode(raw, &self.resp_limits, &mut self.batch.ranges) {
            Ok(Decoded::Command { consumed }) => consumed,
            Ok(Decoded::Nothing { consumed }) => return Step::Advance(consumed),
            Ok(Decoded::Unescaped { consumed }) => {
                // Kept apart: running the batch before this command empties its ranges.
                return Step::Unescaped(consumed, self.batch.ranges.split_off(range_start));
            }
            Ok(Decoded::Incomplete { .. }) => return Step::Incomplete,
            Err(_) => return Step::Broken,
        };
        let args = Args::new(raw, &self.batch.ranges[range_start..]);
        if let Some(id) = self.table.find(args.at(0)) {
            self.batch.remember_beginning(raw, range_start, id);
            self.push_command(id, conn, source, at, range_start, raw);
        } else {
            let mut op = Op::new(OpKind::Unknown, conn, source, at);
            (op.range_start, op.range_count) = (range_start as u32, args.len() as u32);
            self.batch.push(op, &self.ks);
        }
        Step::Advance(consumed)
    }

    #[inline(always)]
    fn push_command(
        &mut self,
        id: CommandId,
        conn: ConnId,
        source: u32,
        at: usize,
        range_start: usize,
        raw: &[u8],
    ) {
        let args = Args::new(raw, &self.batch.ranges[range_start..]);
        let mut op = Op::new(OpKind::Command(id), conn, source, at);
        (op.range_start, op.range_count) = (range_start as u32, args.len() as u32);
        (op.route, op.hash, op.shard) = self.route(id, args);
        self.batch.push(op, &self.ks);
    }

    /// Hashes the first key of a keyed command, decides where it runs as far as that key tells, and
    /// starts to fetch its bucket.
    #[inline]
    fn route(&self, id: CommandId, args: Args<'_>) -> (Route, KeyHash, ShardId) {
        let spec = self.table.spec(id);
        let keyed = !matches!(spec.run, Run::Session(_) | Run::Internal) && spec.keys.first > 0;
        let Some(bytes) = args.get(spec.keys.first as usize).filter(|_| keyed) else {
            return (Route::Undecided, KeyHash(0), ShardId(0));
        };
        let key = self.ks.key(bytes);
        let owner = self.config.shards.core_of(key.shard());
        let one_key = spec.keys.first == spec.keys.last || args.len() == 2;
        let route = match (owner == self.config.core, one_key) {
            (true, true) => Route::Local,
            (true, false) if self.config.shards.core_count() == 1 => Route::Local,
            (false, true) => Route::Remote(owner),
            (_, false) => Route::Undecided,
        };
        if route == Route::Local {
            self.ks.prefetch_index(&key);
        }
        (route, key.hash(), key.shard())
    }

    #[inline(always)]
    fn parse_native(&mut self, source: u32, conn: ConnId, bytes: &[u8], at: usize) -> Step {
        let raw = &bytes[at..];
        if let Some((get, consumed)) = native::decode_plain_get(raw, &self.native_limits) {
            let mut op = Op::new(OpKind::NativeGet, conn, source, at);
            (op.range_start, op.range_count) = (get.request_id, u32::from(get.key_len));
            self.route_native(&mut op, &raw[native::HEADER_BYTES..][..usize::from(get.key_len)]);
            self.batch.push(op, &self.ks);
            return Step::Advance(consumed);
        }
        match native::decode(raw, &self.native_limits) {
            Ok(None) => Step::Incomplete,
            Err(_) => Step::Broken,
            Ok(Some((frame, consumed))) => {
                let mut op = Op::new(OpKind::Native, conn, source, at);
                if !frame.key.is_empty() {
                    self.route_native(&mut op, frame.key);
                }
                self.batch.push(op, &self.ks);
                Step::Advance(consumed)
            }
        }
    }

    #[inline(always)]
    fn route_native(&self, op: &mut Op, key: &[u8]) {
        let key = self.ks.key(key);
        (op.hash, op.shard) = (key.hash(), key.shard());
        let owner = self.config.shards.core_of(key.shard());
        if owner == self.config.core {
            op.route = Route::Local;
            self.ks.prefetch_index(&key);
        } else {
            op.route = Route::Remote(owner);
        }
    }

    /// Runs the requests collected so far and empties the batch.
    pub(crate) fn run_batch<W: CoreWire>(&mut self, sources: Sources<'_>, wire: &mut W) {
        if self.batch.ops.is_empty() {
            return;
        }
        while self.batch.spotted < self.batch.ops.len() {
            self.batch.spot_next(&self.ks);
        }
        self.batch.spotted = 0;
        let mut ops = std::mem::take(&mut self.batch.ops);
        let mut ranges = std::mem::take(&mut self.batch.ranges);
        let is_timed = std::mem::take(&mut self.batch.is_timed);
        let started_ns = if is_timed { (self.config.clock_ns)() } else { 0 };
        let mut ran = 0u64;
        let mut index = 0;
        while let Some(op) = ops.get(index) {
            let (count, timing) = match self.run_plain(&ops[index..], &ranges, sources, wire) {
                (0, _) => (1, self.run_op(op, &ranges, sources, wire)),
                plain => plain,
            };
            if timing == Timing::Batch {
                ran |= (u64::MAX >> (64 - count)) << index;
            }
            index += count;
        }
        if ran != 0 {
            let spent_ns = (self.config.clock_ns)().saturating_sub(started_ns);
            let each_ns = spent_ns / u64::from(ran.count_ones());
            self.count_batch(&ops, ran, each_ns);
            if self.is_slow(each_ns / 1000) {
                self.log_batch(&ops, &ranges, ran, each_ns / 1000, sources);
            }
        }
        ops.clear();
        ranges.clear();
        ranges.shrink_to(KEEP_RANGES_MAX);
        self.batch.ops = ops;
        self.batch.ranges = ranges;
        self.apply_effects(wire);
    }

    /// Attributes the time of a batch evenly to its short commands: reading the clock for each one
    /// would cost as much as the command.
    fn count_batch(&mut self, ops: &[Op], ran: u64, each_ns: u64) {
        let mut same: Option<(CommandId, u64)> = None;
        for (index, op) in ops.iter().enumerate() {
            let OpKind::Command(id) = op.kind else { continue };
            if ran & (1 << index) == 0 {
                continue;
            }
            same = match same {
                Some((last, count)) if last == id => Some((id, count + 1)),
                _ => {
                    self.count_same(same, each_ns);
                    Some((id, 1))
                }
            };
        }
        self.count_same(same, each_ns);
    }

    fn count_same(&mut self, same: Option<(CommandId, u64)>, each_ns: u64) {
        if let Some((id, count)) = same {
            self.stats.count_calls(id, count, each_ns);
        }
    }

    /// Brings the commands of a slow batch to SLOWLOG and the latency monitor, each with its share
    /// of the batch's time: which of them took it cannot be told any more.
    #[cold]
    fn log_batch(&mut self, ops: &[Op], ranges: &[ArgRange], ran: u64, each_us: u64, sources: Sources<'_>) {
        for (index, op) in ops.iter().enumerate() {
            let session = match self.sessions.get(op.conn) {
                Some(session) if ran & (1 << index) != 0 => SessionRef { conn: op.conn, resp: session.resp },
                _ => continue,
            };
            let args = op.args(op.raw(sources), ranges);
            self.slow_command(session, args, each_us);
        }
    }

    #[inline]
    fn run_op<W: CoreWire>(
        &mut self,
        op: &Op,
        ranges: &[ArgRange],
        sources: Sources<'_>,
        wire: &mut W,
    ) -> Timing {
        let Some(session) = self.sessions.get_mut(op.conn) else { return Timing::None };
        let raw = op.raw(sources);
        if session.hold != Hold::None {
            session.tail_in_batch &= op.kind != OpKind::Tail;
            self.spill(sources, op.source, op.conn, op.raw_start as usize, wire);
            return Timing::None;
        }
        match op.kind {
            OpKind::Command(id) => {
                let timing = self.run_command(op, id, op.args(raw, ranges), wire);
                if timing == Timing::Replay {
                    self.spill(sources, op.source, op.conn, op.raw_start as usize, wire);
                }
                timing
            }
            OpKind::Native | OpKind::NativeGet => {
                let timing = self.run_native(op, raw, wire);
                if timing == Timing::Replay {
                    self.spill(sources, op.source, op.conn, op.raw_start as usize, wire);
                }
                timing
            }
            OpKind::Unknown => self.refuse_unknown(op.conn, op.args(raw, ranges), wire),
            OpKind::Tail => {
                session.tail_in_batch = false;
                self.keep_bytes(op.conn, raw, wire);
                Timing::None
            }
        }
    }

    /// Runs an inline command whose arguments had to be unescaped; they stand in the decoder.
    fn run_unescaped<W: CoreWire>(&mut self, conn: ConnId, ranges: &[ArgRange], wire: &mut W) {
        let Some(session) = self.sessions.get(conn) else { return };
        let owned = session.decoder.unescaped().to_vec();
        let args = Args::new(&owned, ranges);
        let mut op = Op::new(OpKind::Unknown, conn, OWNED, 0);
        op.range_count = args.len() as u32;
        if let Some(id) = self.table.find(args.at(0)) {
            op.kind = OpKind::Command(id);
            (op.route, op.hash, op.shard) = self.route(id, args);
            let started_ns = (self.config.clock_ns)();
            match self.run_command(&op, id, args, wire) {
                Timing::None => {}
                Timing::Batch => {
                    self.count_batch(&[op], 1, (self.config.clock_ns)().saturating_sub(started_ns));
                }
                Timing::Replay => {
                    let mut again = Vec::new();
                    resp::array(&mut again, args.len());
                    args.iter().for_each(|arg| resp::bulk(&mut again, arg));
                    self.keep_bytes(conn, &again, wire);
                }
            }
        } else {
            self.refuse_unknown(conn, args, wire);
        }
        self.apply_effects(wire);
    }
}

/// What decoding at one position gave.
enum Step {
    Advance(usize),
    /// Bytes taken, and where the arguments stand in the decoder's unescaped bytes.
    Unescaped(usize, Vec<ArgRange>),
    Incomplete,
    Broken,
}

/// How the duration of a request is accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// It did not run, or was timed by itself.
    None,
    /// It shares the time of its batch.
    Batch,
    /// It did not run and is to be run again from its first byte.
    Replay,
}

const _: () = assert!(BATCH_MAX < 64, "a bit per request of a batch");
