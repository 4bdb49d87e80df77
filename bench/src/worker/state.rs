//! Everything of a worker but its ring: draws requests, reads replies, keeps count.
//!
//! This is the hot path: it neither allocates nor makes a system call per request.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinnace_driver::client::ClientEvent;
use pinnace_types::{Prng, SLOT_COUNT, key_slot};

use super::connection::{Connection, Seam};
use super::flight::Entry;
use super::record::Recorder;
use super::{Clock, Topology};
use crate::codec::{Codec, CodecError, Command, KeyBatch, Outcome, Reply, Request};
use crate::workload::keys::KeyScratch;
use crate::workload::{Inserts, Op, Sequence, Workload};

/// One user of the service: a sequence of requests over one connection per endpoint.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) sequence: Sequence,
    pub(super) first_connection: usize,
    pub(super) in_flight: usize,
}

/// Where requests come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Every key once, to fill the server.
    Preload { next: u64, end: u64 },
    /// The workload's mix.
    Mix,
    /// The records of a trace, every `stride`th.
    Trace { next: usize, stride: usize },
}

/// What the phase under way allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// An answer makes its client ask again.
    pub(super) closed_loop: bool,
    /// New requests may be made.
    pub(super) issuing: bool,
    /// Requests that should have been sent before this are not measured.
    pub(super) measured_from: u64,
    /// Requests left to make.
    pub(super) quota: u64,
}

/// What went wrong, in words, and how often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(pub(crate) BTreeMap<String, u64>);

/// More different messages than this are counted together.
const FAILURE_KINDS_MAX: usize = 20;

impl Failures {
    pub(crate) fn add(&mut self, what: String, times: u64) {
        let what = if self.0.len() < FAILURE_KINDS_MAX || self.0.contains_key(&what) {
            what
        } else {
            "other".to_owned()
        };
        *self.0.entry(what).or_default() += times;
    }
}

/// See the module.
pub(super) struct State<C> {
    pub(super) workload: Arc<Workload>,
    pub(super) topology: Topology,
    pub(super) connections: Vec<Connection<C>>,
    pub(super) clients: Vec<Client>,
    pub(super) recorder: Recorder,
    pub(super) failures: Failures,
    pub(super) inserts: Inserts,
    pub(super) source: Source,
    pub(super) gate: Gate,
    pub(super) clock: Clock,
    pub(super) in_flight: usize,
    /// Connections with something to send.
    pub(super) dirty: Vec<usize>,
    /// Connections to be closed from this side.
    pub(super) broken: Vec<usize>,
    /// Events of the current turn.
    pub(super) events: u64,
    /// One of so many values is compared in full; 0: none.
    pub(super) verify_every: u32,
    verify_in: u32,
    key: KeyScratch,
    counter_key: KeyScratch,
    value: Vec<u8>,
    batch: KeyBatch,
}

impl<C: Codec> State<C> {
    pub(super) fn new(
        workload: Arc<Workload>,
        topology: Topology,
        connections: Vec<Connection<C>>,
        clients: Vec<Client>,
        inserts: Inserts,
        clock: Clock,
        verify_every: u32,
    ) -> Self {
        let gate = Gate { closed_loop: true, issuing: false, measured_from: u64::MAX, quota: 0 };
        Self {
            recorder: Recorder::new(&[], false, 0, 1, 1),
            failures: Failures::default(),
            source: Source::Mix,
            in_flight: 0,
            dirty: Vec::with_capacity(connections.len()),
            broken: Vec::with_capacity(connections.len()),
            events: 0,
            verify_every,
            verify_in: verify_every,
            key: KeyScratch::new(),
            counter_key: KeyScratch::new(),
            value: Vec::new(),
            batch: KeyBatch::default(),
            workload,
            topology,
            connections,
            clients,
            inserts,
            gate,
            clock,
        }
    }

    /// Whether a client's every connection is closed.
    pub(super) fn is_dead(&self) -> bool {
        self.connections.iter().all(|connection| connection.closed)
    }

    /// Lets `client` make its next request; `false` if there is none to make.
    #[inline]
    pub(super) fn issue(&mut self, client: usize, intended: u64, now: u64) -> bool {
        if !self.gate.issuing || self.gate.quota == 0 {
            return false;
        }
        let Some((op, number)) = self.draw(client) else {
            self.gate.issuing = false;
            return false;
        };
        self.gate.quota -= 1;
        self.send(client, Entry::new(op, number, intended, now), 0);
        true
    }

    #[inline]
    fn draw(&mut self, client: usize) -> Option<(Op, u64)> {
        match &mut self.source {
            Source::Mix => Some(self.clients[client].sequence.next(&self.workload, &mut self.inserts)),
            Source::Preload { next, end } => {
                let number = *next;
                (number < *end).then(|| {
                    *next += 1;
                    (Op::Set, number)
                })
            }
            Source::Trace { next, stride } => {
                let record = self.workload.trace.as_ref()?.records.get(*next)?;
                *next += *stride;
                Some((Op::Get, record.key))
            }
        }
    }

    /// Encodes a request onto the connection that its key belongs to.
    #[inline]
    fn send(&mut self, client: usize, entry: Entry, version: u64) {
        self.send_to(client, entry, version, None);
    }

    /// The same; `ask` is the endpoint that is asked although it does not own the key (yet).
    #[inline]
    fn send_to(&mut self, client: usize, entry: Entry, version: u64, ask: Option<usize>) {
        let command = command_of(&entry);
        if entry.op == Op::MultiGet {
            return self.send_multi_get(client, entry);
        }
        let workload = &*self.workload;
        let key = if entry.op == Op::Increment {
            workload.counter_format.write(entry.number, &mut self.counter_key)
        } else {
            workload.key_format.write(entry.number, &mut self.key)
        };
        let mut ttl_ms = 0;
        self.value.clear();
        if matches!(command, Command::Set | Command::Cas) {
            workload.values.write(entry.number, workload.value_len(entry.number), &mut self.value);
            ttl_ms = workload.life_ms(entry.number, &mut self.clients[client].sequence.prng);
        }
        let wall_ms = if ttl_ms == 0 { 0 } else { self.clock.wall_ms(entry.sent) };
        let endpoint = ask.unwrap_or_else(|| self.topology.owner(key));
        let index = self.clients[client].first_connection + endpoint;
        let connection = &mut self.connections[index];
        if connection.closed {
            self.recorder.counts.lost += u64::from(entry.intended >= self.gate.measured_from);
            return;
        }
        if ask.is_some() {
            connection.flight.push(entry.asking());
            connection.codec.encode_asking(&mut connection.out);
            self.clients[client].in_flight += 1;
            self.in_flight += 1;
        }
        let id = connection.flight.push(entry);
        let request = Request { command, key, value: &self.value, ttl_ms, wall_ms, version };
        connection.codec.encode(&mut connection.out, id, &request);
        self.sent(client, index);
    }

    fn send_multi_get(&mut self, client: usize, entry: Entry) {
        collect_keys(&self.workload, entry.number, &mut self.key, &mut self.batch);
        let index = self.clients[client].first_connection;
        let connection = &mut self.connections[index];
        if connection.closed {
            self.recorder.counts.lost += u64::from(entry.intended >= self.gate.measured_from);
            return;
        }
        let id = connection.flight.push(entry);
        connection.codec.encode_multi_get(&mut connection.out, id, &self.batch);
        self.sent(client, index);
    }

    #[inline]
    fn sent(&mut self, client: usize, index: usize) {
        self.clients[client].in_flight += 1;
        self.in_flight += 1;
        let connection = &mut self.connections[index];
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Takes what the ring tells of a connection.
    #[inline]
    pub(super) fn on_event(&mut self, index: usize, event: ClientEvent<'_>) {
        self.events += 1;
        match event {
            ClientEvent::Data(bytes) => {
                let now = self.clock.now();
                self.recorder.advance(now);
                if let Err(error) = self.on_data(index, bytes, now) {
                    self.fail(index, &format!("protocol error: {}", error.0));
                }
            }
            ClientEvent::Sent => (),
            ClientEvent::Closed(None) => self.fail(index, "connection closed by the server"),
            ClientEvent::Closed(Some(error)) => self.fail(index, &format!("connection failed: {error}")),
        }
    }

    fn on_data(&mut self, index: usize, fresh: &[u8], now: u64) -> Result<(), CodecError> {
        if self.gate.measured_from <= now {
            self.recorder.counts.bytes_received += fresh.len() as u64;
        }
        let mut at = 0;
        if !self.connections[index].carry.is_empty() {
            let mut seam = Seam::new(std::mem::take(&mut self.connections[index].carry));
            at = loop {
                if let Some(reply) = self.connections[index].codec.decode(&seam.bytes)? {
                    let consumed = reply.consumed;
                    self.on_reply(index, reply, now)?;
                    let (carry, at) = seam.resume(consumed);
                    self.connections[index].carry = carry;
                    break at;
                }
                if !seam.extend(fresh) {
                    self.connections[index].carry = seam.bytes;
                    return Ok(());
                }
            };
        }
        while at < fresh.len() {
            let Some(reply) = self.connections[index].codec.decode(&fresh[at..])? else { break };
            at += reply.consumed;
            self.on_reply(index, reply, now)?;
        }
        self.connections[index].carry.extend_from_slice(&fresh[at..]);
        Ok(())
    }

    #[inline]
    fn on_reply(&mut self, index: usize, reply: Reply<'_>, now: u64) -> Result<(), CodecError> {
        if reply.outcome == Outcome::Unasked {
            return Ok(());
        }
        let connection = &mut self.connections[index];
        let flight = &mut connection.flight;
        let entry = if C::ORDERED { flight.take_oldest() } else { flight.take(reply.id) };
        let entry = entry.ok_or_else(|| CodecError("a reply to no request".to_owned()))?;
        let client = connection.client;
        self.clients[client].in_flight -= 1;
        self.in_flight -= 1;
        if entry.is_asking() {
            return Ok(());
        }
        let measured = entry.intended >= self.gate.measured_from;
        if self.goes_on(client, index, &entry, &reply, now, measured) {
            return Ok(());
        }
        if measured {
            self.recorder.record(entry.op, now - entry.intended, now - entry.sent);
            self.recorder.counts.answered += 1;
            self.judge(index, &entry, &reply)?;
        }
        if self.workload.cache_aside && entry.op == Op::Get && reply.outcome == Outcome::Miss {
            self.send(client, Entry::new(Op::Fill, entry.number, now, now), 0);
        } else if self.gate.closed_loop {
            self.issue(client, now, now);
        }
        Ok(())
    }

    /// Starts the second half of an operation of two, or the second try of a moved key.
    #[inline]
    fn goes_on(
        &mut self,
        client: usize,
        index: usize,
        entry: &Entry,
        reply: &Reply<'_>,
        now: u64,
        measured: bool,
    ) -> bool {
        let two = matches!(entry.op, Op::Cas | Op::ReadModifyWrite);
        if two && entry.step == 0 && matches!(reply.outcome, Outcome::Value | Outcome::Miss) {
            if measured {
                let counts = &mut self.recorder.counts;
                *if reply.outcome == Outcome::Value { &mut counts.hits } else { &mut counts.misses } += 1;
            }
            // An absent item has no version: it is written without a condition.
            let step = if reply.outcome == Outcome::Value { 1 } else { 2 };
            self.send(client, entry.again(step, now), reply.version);
            return true;
        }
        self.is_redirected(client, index, entry, reply, now)
    }

    /// Asks the node that a cluster's reply names instead.
    #[inline]
    fn is_redirected(
        &mut self,
        client: usize,
        index: usize,
        entry: &Entry,
        reply: &Reply<'_>,
        now: u64,
    ) -> bool {
        let ask = match reply.outcome {
            Outcome::Moved if self.topology.learn(reply.body, index).is_some() => None,
            Outcome::Ask => match self.topology.place(reply.body, index) {
                Some((_, endpoint)) => Some(endpoint),
                None => return false,
            },
            _ => return false,
        };
        let Some(again) = entry.redirected(now) else { return false };
        self.send_to(client, again, reply.version, ask);
        true
    }

    /// Sorts an answer into hits, misses, errors and wrong ones.
    #[inline]
    fn judge(&mut self, index: usize, entry: &Entry, reply: &Reply<'_>) -> Result<(), CodecError> {
        let counts = &mut self.recorder.counts;
        match (reply.outcome, entry.op) {
            (Outcome::Value, Op::Get) => {
                counts.hits += 1;
                self.verify(entry.number, reply.body);
            }
            (Outcome::Miss, _) => counts.misses += 1,
            (Outcome::Done, _) => counts.hits += u64::from(entry.op == Op::Delete),
            (Outcome::Number, Op::Delete) if reply.body == b"0" => counts.misses += 1,
            (Outcome::Number, Op::Delete) => counts.hits += 1,
            (Outcome::Number | Outcome::Value, Op::Increment) => counts.hits += 1,
            (Outcome::Refused, _) => counts.refused += 1,
            (Outcome::Items | Outcome::Value, Op::MultiGet) => return self.judge_items(index, entry, reply),
            (Outcome::Moved | Outcome::Ask, _) => {
                counts.errors += 1;
                let place = String::from_utf8_lossy(reply.body);
                let node = place.split(' ').nth(1).unwrap_or_default();
                self.failures.add(format!("sent on to {node}, which is not known or sends back"), 1);
            }
            (Outcome::Error, _) => {
                counts.errors += 1;
                self.failures.add(String::from_utf8_lossy(reply.body).into_owned(), 1);
            }
            _ => {
                counts.wrong += 1;
                self.failures.add(format!("{:?} in answer to {}", reply.outcome, entry.op.name()), 1);
            }
        }
        Ok(())
    }

    #[inline]
    fn verify(&mut self, number: u64, value: &[u8]) {
        if self.verify_in > 1 {
            self.verify_in -= 1;
            return;
        }
        if self.verify_every == 0 {
            return;
        }
        self.verify_in = self.verify_every;
        self.recorder.counts.verified += 1;
        if !self.workload.values.is_right(number, self.workload.value_len(number), value) {
            self.recorder.counts.wrong += 1;
            self.failures.add(format!("wrong value of {} bytes for key {number}", value.len()), 1);
        }
    }

    fn judge_items(&mut self, index: usize, entry: &Entry, reply: &Reply<'_>) -> Result<(), CodecError> {
        let Self { workload, recorder, connections, batch, key, .. } = self;
        collect_keys(workload, entry.number, key, batch);
        let counts = &mut recorder.counts;
        if reply.outcome == Outcome::Value {
            // memcached's answer to many keys of which one is there looks like that to a single one.
            counts.hits += 1;
            counts.misses += batch.len() as u64 - 1;
            return Ok(());
        }
        let mut prng = Prng::new(entry.number);
        let verify = self.verify_every > 0;
        connections[index].codec.items(reply.body, batch, &mut |_, item| {
            let number = workload.picker.pick(&mut prng, |age| workload.keys - 1 - age);
            match item {
                None => counts.misses += 1,
                Some(value) => {
                    counts.hits += 1;
                    counts.verified += u64::from(verify);
                    let right =
                        !verify || workload.values.is_right(number, workload.value_len(number), value);
                    counts.wrong += u64::from(!right);
                }
            }
        })
    }

    /// Gives up a connection: what was under way on it is lost.
    pub(super) fn fail(&mut self, index: usize, why: &str) {
        let connection = &mut self.connections[index];
        if connection.closed {
            return;
        }
        connection.closed = true;
        connection.out.clear();
        let client = connection.client;
        let mut lost = 0;
        for entry in connection.flight.drain() {
            self.clients[client].in_flight -= 1;
            self.in_flight -= 1;
            lost += u64::from(entry.intended >= self.gate.measured_from);
        }
        self.recorder.counts.lost += lost;
        self.failures.add(why.to_owned(), 1);
        self.broken.push(index);
    }

    /// Gives up every connection whose oldest request waits longer than `timeout_ns`. The requests
    /// that do count with their age so far: leaving them out would flatter the server.
    pub(super) fn expire(&mut self, now: u64, timeout_ns: u64) {
        for index in 0..self.connections.len() {
            let oldest = self.connections[index].flight.oldest_sent();
            if oldest.is_some_and(|sent| now.saturating_sub(sent) > timeout_ns) {
                self.time_out(index, now);
                self.fail(index, "no answer within the timeout");
            }
        }
    }

    fn time_out(&mut self, index: usize, now: u64) {
        let connection = &mut self.connections[index];
        let client = connection.client;
        for entry in connection.flight.drain() {
            self.clients[client].in_flight -= 1;
            self.in_flight -= 1;
            if entry.intended >= self.gate.measured_from {
                self.recorder.record(entry.op, now - entry.intended, now - entry.sent);
                self.recorder.counts.timeouts += 1;
            }
        }
    }
}

/// What a request asks for, given how far its operation has come.
#[inline]
fn command_of(entry: &Entry) -> Command {
    match (entry.op, entry.step) {
        (Op::Get | Op::MultiGet | Op::ReadModifyWrite, 0) => Command::Get,
        (Op::Cas, 0) => Command::GetVersion,
        (Op::Cas, 1) => Command::Cas,
        (Op::Delete, _) => Command::Delete,
        (Op::Increment, _) => Command::Increment,
        _ => Command::Set,
    }
}

/// The keys of the multi-get that was drawn as `seed`.
fn collect_keys(workload: &Workload, seed: u64, scratch: &mut KeyScratch, batch: &mut KeyBatch) {
    let mut prng = Prng::new(seed);
    batch.clear();
    for _ in 0..workload.multi_get {
        let number = workload.picker.pick(&mut prng, |age| workload.keys - 1 - age);
        batch.push(workload.key_format.write(number, scratch));
    }
}

/// The slot of a key: which endpoint owns it is the topology's business.
#[inline]
pub(super) fn slot_of(key: &[u8]) -> usize {
    usize::from(key_slot(key).0 % SLOT_COUNT)
}
