//! One CPU core's whole behaviour behind the [`Service`] seam: events in, replies and mail out.
//!
//! Owns the keyspace of the core's shards, the sessions of its connections and everything they
//! share. Knows no socket, no clock and no other thread: the node and the simulator drive the same
//! code. Invariants: replies of a RESP connection leave in request order; a key is only touched on
//! the core that owns its shard; what waits for another core is bounded per session.

use std::cell::RefCell;
use std::rc::Rc;

use pinnace_engine::{EngineError, Keyspace, PinnedValue};
use pinnace_protocol::OutBuf;
use pinnace_protocol::native::NativeLimits;
use pinnace_protocol::resp::RespLimits;
use pinnace_protocol::wire::{Event, Service, TurnResult, TurnTime, Wire};
use pinnace_types::{ConnId, CoreId, Prng, ShardId, UnixMillis};

use crate::answer::Answer;
use crate::batch::{Batch, Sources};
use crate::command::CommandTable;
use crate::config::CoreConfig;
use crate::deferred::Deferred;
pub(crate) use crate::durability::CoreWire;
use crate::durability::{Direct, Gate, Gated, LateLogs, Log};
use crate::effects::Effect;
use crate::gathering::Gathers;
use crate::mail::{Adoption, Handover, Mail};
use crate::moving::Balance;
use crate::replies::Ticket;
use crate::server;
use crate::session::{Hold, Session, Sessions};
use crate::snapshot::{Snapshots, Statuses};
use crate::stats::CoreStats;

/// CLIENT PAUSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseMode {
    /// Commands that may write wait.
    Write,
    /// All commands wait.
    All,
}

/// One core.
pub struct Core {
    /// The keys of this core's shards.
    pub ks: Keyspace,
    /// The time of the current turn.
    pub time: TurnTime,
    /// Counters of this core.
    pub stats: CoreStats,
    pub(crate) config: CoreConfig,
    pub(crate) table: CommandTable,
    pub(crate) prng: Prng,
    pub(crate) server: server::State,
    pub(crate) pause: Option<(PauseMode, UnixMillis)>,
    pub(crate) sessions: Sessions,
    pub(crate) effects: Vec<Effect>,
    pub(crate) batch: Batch,
    pub(crate) gathers: Gathers,
    /// Requests of this turn, by the core that will answer them.
    #[expect(clippy::vec_box, reason = "the boxes themselves travel as mail")]
    pub(crate) outgoing: Vec<Box<Handover>>,
    /// Hand-overs that are empty and wait for their next use.
    #[expect(clippy::vec_box, reason = "the boxes themselves travel as mail")]
    pub(crate) spare_handovers: Vec<Box<Handover>>,
    /// Requests of other cores that wait for a later turn, since the answers before them were large.
    pub(crate) deferred: Deferred,
    /// Mail to send at the end of the turn; what a full mailbox refused stays at the front.
    pub(crate) post: Vec<(CoreId, Mail)>,
    /// Sessions whose hold has ended and whose kept bytes are to be worked on.
    pub(crate) resume: Vec<ConnId>,
    /// Sessions held by CLIENT PAUSE or until an instant.
    pub(crate) waiting_for_time: Vec<ConnId>,
    /// Replies that are due when their session's hold ends.
    pub(crate) delayed_replies: Vec<(ConnId, Ticket, Vec<u8>)>,
    pub(crate) spare_buffers: Vec<Vec<u8>>,
    /// Where replies are built that cannot go straight to a connection.
    pub(crate) side_out: OutBuf<PinnedValue>,
    pub(crate) scratch: Vec<u8>,
    /// The large value that came with the request that is running.
    pub(crate) attached: Option<PinnedValue>,
    pub(crate) resp_limits: RespLimits,
    pub(crate) native_limits: NativeLimits,
    /// Capacity of all `partial` buffers.
    pub(crate) partial_bytes: u64,
    pub(crate) balance: Balance,
    /// Connections that came from other cores in this turn's mail.
    pub(crate) adoptions: Vec<Adoption>,
    pub(crate) snapshots: Option<Box<Snapshots>>,
    pub(crate) statuses: Statuses,
    /// Writes and deletes before the engine's counters were last set to zero.
    pub(crate) changes_before: u64,
    /// The log; without one nothing is durable.
    pub(crate) log: Option<Rc<RefCell<Log>>>,
    /// What waits for the log; taken out while the core works.
    pub(crate) gate: Option<Box<Gate>>,
    /// Which logs wait for a segment, and who waits for them.
    pub(crate) late_logs: LateLogs,
    /// The part of a gathered command that has just run is answered when the log is synced.
    pub(crate) part_waits: bool,
    pub(crate) stop: bool,
    next_session: u64,
    last_tick_ns: u64,
}

/// Vectors kept for held-back replies and partial requests.
const SPARE_BUFFERS_MAX: usize = 64;
/// A spare vector is not kept if it has grown larger than this.
const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Items of background work per turn: a few microseconds.
const MAINTAIN_WORK_PER_TURN: u32 = 32;
/// Items of background work per turn while nothing else is to do.
const MAINTAIN_WORK_IDLE: u32 = 256;
/// Statistics are sampled and balances compared this often.
const TICK_NS: u64 = 100_000_000;

impl Core {
    /// Items held by this core.
    #[must_use]
    pub fn item_count(&self) -> u64 {
        self.ks.len()
    }

    /// Builds a core with an empty keyspace.
    ///
    /// # Errors
    /// If the memory budget is too small for the engine's fixed structures.
    pub fn new(config: CoreConfig) -> Result<Self, EngineError> {
        let mut families = crate::commands::families().to_vec();
        families.extend(server::families());
        families.extend([crate::tx::SPECS, crate::native::SPECS]);
        let table = CommandTable::new(&families);
        let core_count = usize::from(config.shards.core_count());
        Ok(Self {
            ks: Keyspace::new(config.engine.clone())?,
            time: TurnTime { wall: config.node.start, wall_micros: 0, monotonic_ns: 0 },
            stats: CoreStats::new(table.len()),
            prng: Prng::new(config.prng_seed),
            server: server::State::new(&config),
            pause: None,
            sessions: Sessions::default(),
            effects: Vec::new(),
            batch: Batch::new(),
            gathers: Gathers::default(),
            outgoing: (0..core_count).map(|_| Box::default()).collect(),
            spare_handovers: Vec::new(),
            deferred: Deferred::new(core_count),
            post: Vec::new(),
            resume: Vec::new(),
            waiting_for_time: Vec::new(),
            delayed_replies: Vec::new(),
            spare_buffers: Vec::new(),
            side_out: OutBuf::new(),
            scratch: Vec::new(),
            attached: None,
            resp_limits: RespLimits::new(&config.limits),
            native_limits: NativeLimits::new(&config.limits),
            partial_bytes: 0,
            balance: Balance::new(core_count),
            adoptions: Vec::new(),
            snapshots: None,
            statuses: Statuses::new(config.shards.core_count(), config.node.start),
            changes_before: 0,
            log: None,
            gate: None,
            late_logs: LateLogs::new(core_count),
            part_waits: false,
            stop: false,
            next_session: 0,
            last_tick_ns: 0,
            table,
            config,
        })
    }

    /// The number of cores of the node.
    #[must_use]
    pub fn core_count(&self) -> u16 {
        self.config.shards.core_count()
    }

    /// The shards of this core, in their order.
    pub fn own_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let (core, shards) = (self.config.core, self.config.shards);
        (0..shards.shard_count()).map(ShardId).filter(move |&shard| shards.core_of(shard) == core)
    }

    /// The session of a connection.
    #[must_use]
    pub fn session(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(conn)
    }

    pub(crate) fn session_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.sessions.get_mut(conn)
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = (ConnId, &Session)> + '_ {
        self.sessions.iter()
    }

    pub(crate) fn spare_buffer(&mut self) -> Vec<u8> {
        self.spare_buffers.pop().unwrap_or_default()
    }

    pub(crate) fn recycle_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_BUFFER_BYTES_MAX && self.spare_buffers.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare_buffers.push(buffer);
        }
    }

    fn end_timed_hold<W: CoreWire>(&mut self, conn: ConnId, wire: &mut W) {
        if let Some(at) = self.delayed_replies.iter().position(|(delayed, ..)| *delayed == conn) {
            let (_, ticket, reply) = self.delayed_replies.swap_remove(at);
            self.on_awaited_reply(conn, ticket, Answer::from(reply).view(), wire);
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.hold = Hold::None;
            session.refresh();
            self.resume.push(conn);
        }
    }

    fn begin_turn(&mut self, time: TurnTime) {
        self.time = time;
        self.ks.set_now(time.wall);
        if self.snapshots.is_some() {
            self.begin_snapshot_turn(time.wall);
        }
        if let Some(log) = &self.log {
            log.borrow_mut().set_now(time.wall);
        }
    }

    fn open_session(&mut self, conn: ConnId, peer: std::net::SocketAddr, local: std::net::SocketAddr) {
        let core_count = u64::from(self.core_count());
        let id = self.next_session * core_count + u64::from(self.config.core.0) + 1;
        self.next_session += 1;
        self.stats.connections_received += 1;
        let now_ms = self.time.monotonic_ns / 1_000_000;
        self.sessions.insert(conn, Session::new(id, peer, local, self.time.wall, now_ms));
    }

    pub(crate) fn close_session(&mut self, conn: ConnId) {
        if self.sessions.get(conn).is_none() {
            return;
        }
        server::on_session_closed(self, conn);
        if let Some(session) = self.sessions.remove(conn) {
            self.partial_bytes -= session.partial.capacity() as u64;
            self.recycle_buffer(session.partial);
        }
    }

    fn on_event<W: CoreWire>(&mut self, events: &[Event<'_>], index: usize, wire: &mut W) {
        let sources = Sources { events, owned: &[] };
        match &events[index] {
            Event::Data { conn, bytes } => self.on_data(sources, index as u32, *conn, bytes, wire),
            Event::Accepted { conn, peer, local } => self.open_session(*conn, *peer, *local),
            Event::Drained { conn } => self.release(*conn, Hold::Output),
            Event::Closed { conn } => {
                self.run_batch(sources, wire);
                self.close_session(*conn);
                wire.forget(*conn);
            }
            Event::Detached { conn, socket } => {
                self.run_batch(sources, wire);
                self.finish_move(*conn, socket);
            }
        }
    }

    /// Ends a hold if it has the given reason; the session goes on at the end of the turn.
    pub(crate) fn release(&mut self, conn: ConnId, reason: Hold) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.hold == reason {
            session.hold = Hold::None;
            session.refresh();
            self.resume.push(conn);
        }
    }

    fn release_by_time<W: CoreWire>(&mut self, wire: &mut W) {
        if self.pause.is_some_and(|(_, until)| self.time.wall >= until) {
            self.pause = None;
        }
        let now_ns = self.time.monotonic_ns;
        let mut waiting = std::mem::take(&mut self.waiting_for_time);
        waiting.retain(|&conn| {
            let due = match self.sessions.get(conn).map(|session| session.hold) {
                Some(Hold::Until(at_ns)) => now_ns >= at_ns,
                Some(Hold::Pause) => self.pause.is_none(),
                _ => return false,
            };
            if due {
                self.end_timed_hold(conn, wire);
            }
            !due
        });
        self.waiting_for_time.append(&mut waiting);
    }

    fn resume_sessions<W: CoreWire>(&mut self, wire: &mut W) {
        // A resumed session may be held and released again within the turn; what is pushed while
        // this list is worked on waits for the next turn, so that one client cannot keep the loop.
        let mut resume = std::mem::take(&mut self.resume);
        for conn in resume.drain(..) {
            self.drain_partial(conn, wire);
        }
        if self.resume.is_empty() {
            self.resume = resume;
        }
    }

    /// Sends the mail of the turn. Returns false if a mailbox was full: come back soon.
    fn deliver<W: CoreWire>(&mut self, wire: &mut W) -> bool {
        for index in 0..self.outgoing.len() {
            if !self.outgoing[index].is_empty() {
                let next = self.spare_handovers.pop().unwrap_or_default();
                let handover = std::mem::replace(&mut self.outgoing[index], next);
                self.stats.handovers += 1;
                self.post.push((CoreId(index as u16), Mail::Ask(handover)));
            }
        }
        let mut post = std::mem::take(&mut self.post);
        // Mail to one core must stay in order: behind a refused one, none to that core is tried.
        let mut full = 0u64;
        let mut kept = 0;
        for (to, mail) in post.drain(..) {
            let bit = 1u64 << (to.0 & 63);
            let refused = if full & bit != 0 { Err(mail) } else { wire.send_mail(to, mail) };
            if let Err(mail) = refused {
                full |= bit;
                kept += 1;
                self.post.push((to, mail));
            }
        }
        if kept == 0 {
            self.post = post;
        }
        kept == 0
    }

    fn tick(&mut self) {
        if self.time.monotonic_ns.saturating_sub(self.last_tick_ns) < TICK_NS {
            return;
        }
        self.last_tick_ns = self.time.monotonic_ns;
        server::on_tick(self);
        self.balance_connections();
        self.snapshot_tick();
    }

    fn take_mail<W: CoreWire>(&mut self, time: TurnTime, from: CoreId, mail: Mail, wire: &mut W) {
        self.begin_turn(time);
        match mail {
            Mail::Ask(handover) => self.on_ask(from, handover, wire),
            Mail::Answer(handover) => self.on_answer(handover, wire),
            Mail::Control(control) => self.on_control(from, *control),
            Mail::Adopt(adoption) => self.adoptions.push(*adoption),
        }
        self.apply_effects(wire);
    }

    #[inline]
    fn turn<W: CoreWire>(&mut self, time: TurnTime, events: &[Event<'_>], wire: &mut W) -> TurnResult {
        self.begin_turn(time);
        for index in 0..events.len() {
            self.on_event(events, index, wire);
        }
        self.run_batch(Sources { events, owned: &[] }, wire);
        if !self.adoptions.is_empty() {
            self.adopt_arrivals(wire);
        }
        self.end_turn(events.is_empty(), wire)
    }

    fn end_turn<W: CoreWire>(&mut self, quiet: bool, wire: &mut W) -> TurnResult {
        self.resume_sessions(wire);
        self.release_by_time(wire);
        self.look_at_late_logs();
        self.end_timed_gathers(wire);
        self.tick();
        self.apply_effects(wire);
        let deferred = self.answer_deferred(wire);
        wire.settle(&mut self.sessions, &self.config.limits);
        let delivered = self.deliver(wire);
        let work = if quiet { MAINTAIN_WORK_IDLE } else { MAINTAIN_WORK_PER_TURN };
        let more = self.ks.maintain(work) | self.snapshot_step(quiet);
        let busy = more || deferred || !self.effects.is_empty() || !delivered || !self.resume.is_empty();
        TurnResult { busy, wake_after_ms: Some(self.wake_after_ms()), stop: self.stop }
    }

    /// How long the core may sleep: statistics and expiry want a look now and then, held sessions
    /// their instant.
    fn wake_after_ms(&self) -> u32 {
        if !self.waiting_for_time.is_empty() || self.has_timed_gathers() || self.late_logs.is_waited_for() {
            return 1;
        }
        if self.ks.deadlines_len() > 0 || self.sessions.len() > 0 { 100 } else { 1000 }
    }
}

impl Service for Core {
    type Pinned = PinnedValue;
    type Mail = Mail;

    fn on_mail<W>(&mut self, time: TurnTime, from: CoreId, mail: Mail, wire: &mut W)
    where
        W: Wire<Pinned = PinnedValue, Mail = Mail>,
    {
        match self.gate.take() {
            None => self.take_mail(time, from, mail, &mut Direct(wire)),
            Some(mut gate) => {
                self.take_mail(time, from, mail, &mut Gated::new(wire, &mut gate));
                self.gate = Some(gate);
            }
        }
    }

    fn on_turn<W>(&mut self, time: TurnTime, events: &[Event<'_>], wire: &mut W) -> TurnResult
    where
        W: Wire<Pinned = PinnedValue, Mail = Mail>,
    {
        match self.gate.take() {
            None => self.turn(time, events, &mut Direct(wire)),
            Some(mut gate) => {
                let result = self.turn(time, events, &mut Gated::new(wire, &mut gate));
                self.gate = Some(gate);
                result
            }
        }
    }

    fn owes_reply(&self, conn: ConnId) -> bool {
        // A held session keeps what is received; one that moves takes it along.
        let keeps = |session: &Session| {
            !session.partial.is_empty()
                && !session.closing
                && session.hold != Hold::Moving
                && (session.hold != Hold::None || self.resume.contains(&conn))
        };
        let owes =
            |session: &Session| session.forwarded() > 0 || !session.replies.is_empty() || keeps(session);
        let holds = |gate: &Gate| gate.holds(conn);
        self.sessions.get(conn).is_some_and(owes) || self.gate.as_deref().is_some_and(holds)
    }
}

/// Moves everything in `from` behind what is in `to`, sharing pinned values.
pub(crate) fn append_out(to: &mut OutBuf<PinnedValue>, from: &mut OutBuf<PinnedValue>) {
    if from.is_plain() {
        to.bytes().extend_from_slice(from.bytes());
        from.clear();
        return;
    }
    for part in from.take_parts() {
        match part {
            pinnace_protocol::OutPart::Bytes(bytes) => to.bytes().extend_from_slice(&bytes),
            pinnace_protocol::OutPart::Pinned(value) => to.push_pinned(value),
        }
    }
}
