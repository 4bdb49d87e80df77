//! One generator thread: its connections, its loop, its phases.
//!
//! A thread shares nothing but a stop flag and a display row with the others. The loop is: make the
//! requests that are due, hand full buffers to the ring, enter the kernel once, read what came.

mod arrivals;
mod connection;
mod cpu;
mod flight;
pub(crate) mod record;
mod state;
mod topology;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use pinnace_driver::client::{ClientRing, ClientRingConfig, Wait};

use arrivals::Arrivals;
pub(crate) use arrivals::Spacing;
use connection::Connection;
pub(crate) use cpu::ThreadCpu;
use record::{Recorder, Row};
pub(crate) use state::Failures;
use state::{Client, Gate, Source, State};
pub(crate) use topology::Topology;

use crate::codec::Codec;
use crate::workload::{Inserts, Sequence, Workload};

/// The run's clock: ns since its start, the same for all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall_start_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), wall_start_ms: wall.as_millis() as u64 }
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The wall clock at an instant of this one, in ms.
    pub(crate) fn wall_ms(&self, at: u64) -> u64 {
        self.wall_start_ms + at / 1_000_000
    }
}

/// How fast a phase asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// Each client has `depth` requests under way, always.
    Closed { depth: usize },
    /// This thread makes `rate` requests a second, each client at most `window` at a time.
    Open { rate: f64, spacing: Spacing, window: usize },
}

impl Load {
    pub(crate) fn depth(&self) -> usize {
        match *self {
            Self::Closed { depth } => depth,
            Self::Open { window, .. } => window,
        }
    }
}

/// What a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseKind {
    /// Writes keys `first..end` once.
    Preload { first: u64, end: u64 },
    /// Warms up: nothing is kept.
    WarmUp,
    /// Is measured.
    Measure,
}

/// One phase of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) kind: PhaseKind,
    pub(crate) load: Load,
    /// No new requests after this long.
    pub(crate) duration: Option<Duration>,
    /// No more new requests than this.
    pub(crate) quota: Option<u64>,
    pub(crate) row: Duration,
    pub(crate) rows: usize,
}

/// What a thread is given.
pub(crate) struct WorkerSetup<C> {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    pub(crate) workload: Arc<Workload>,
    pub(crate) topology: Topology,
    /// One connected stream and codec per client and endpoint, client by client.
    pub(crate) streams: Vec<(TcpStream, C)>,
    /// The number of this thread's first client among all clients.
    pub(crate) first_client: u64,
    pub(crate) depth: usize,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
    pub(crate) verify_every: u32,
    pub(crate) timeout: Duration,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) live: Arc<Live>,
}

/// What one thread shows of itself while it runs.
#[derive(Debug, Default)]
pub(crate) struct Live {
    row: Mutex<Option<Row>>,
}

impl Live {
    fn publish(&self, row: &Row) {
        // A display that panicked is no reason to stop measuring.
        let Ok(mut shown) = self.row.lock() else { return };
        match &mut *shown {
            Some(sum) => sum.add(row),
            vacant => *vacant = Some(row.clone()),
        }
    }

    /// What was recorded since the last call.
    pub(crate) fn take(&self) -> Option<Row> {
        self.row.lock().ok()?.take()
    }
}

/// What a thread measured in one phase.
#[derive(Debug)]
pub(crate) struct PhaseResult {
    pub(crate) recorder: Recorder,
    /// From the phase's start to the end of its requests.
    pub(crate) elapsed: Duration,
    pub(crate) cpu: ThreadCpu,
    /// Time awake without anything to do; while others had the CPU it went on as well.
    pub(crate) spin: Duration,
    /// How late requests were handed over, in ns, the server's backpressure not counted (open loop).
    pub(crate) lag: Option<Histogram<u64>>,
    /// Requests made late because every connection had its window full.
    pub(crate) held_back: u64,
    /// Whether it ended before it was meant to.
    pub(crate) cut_short: bool,
}

/// One generator thread.
pub(crate) struct Worker<C> {
    ring: ClientRing,
    state: State<C>,
    thread: usize,
    threads: usize,
    seed: u64,
    timeout: Duration,
    stop: Arc<AtomicBool>,
    live: Arc<Live>,
    /// Rows of the phase under way that the display has had.
    shown: usize,
}

impl PhaseResult {
    /// CPU time spent on requests.
    pub(crate) fn busy(&self) -> Duration {
        let awake = (self.cpu.running + self.cpu.waiting).as_secs_f64().max(1e-9);
        let spin = self.spin.mul_f64(self.cpu.running.as_secs_f64() / awake);
        self.cpu.running.saturating_sub(spin)
    }
}

/// The longest wait for the ring: stop flags and timeouts are looked at in between.
const TURN_WAIT: Duration = Duration::from_millis(20);
/// An open loop that is due within this spins instead of sleeping: a timer wakes too late.
const SPIN_NS: u64 = 120_000;
/// Requests an open loop makes before it looks at the ring again.
const BURST_MAX: usize = 256;
/// Requests that were due before a phase's end may be made so much later; then they count as unsent.
const LATE_NS: u64 = 500_000_000;
const BUFFER_POOL_BYTES: usize = 16 << 20;

impl<C: Codec> Worker<C> {
    /// Call on the thread that will run it: the ring belongs to the thread that made it.
    pub(crate) fn new(setup: WorkerSetup<C>) -> io::Result<Self> {
        let endpoints = setup.topology.endpoints.len();
        let clients: Vec<Client> = (0..setup.streams.len() / endpoints)
            .map(|client| Client {
                sequence: Sequence::new(setup.seed, setup.first_client + client as u64),
                first_connection: client * endpoints,
                in_flight: 0,
            })
            .collect();
        let (streams, codecs): (Vec<_>, Vec<_>) = setup.streams.into_iter().unzip();
        let connections = codecs
            .into_iter()
            .enumerate()
            .map(|(index, codec)| Connection::new(codec, index / endpoints, setup.depth))
            .collect();
        let inserts = Inserts {
            base: setup.workload.keys,
            thread: setup.thread as u64,
            stride: setup.threads as u64,
            inserted: 0,
        };
        let ring = ClientRing::new(ring_config(streams.len(), setup.depth), streams)?;
        let (workload, topology) = (setup.workload, setup.topology);
        let state =
            State::new(workload, topology, connections, clients, inserts, setup.clock, setup.verify_every);
        Ok(Self {
            ring,
            state,
            thread: setup.thread,
            threads: setup.threads,
            seed: setup.seed,
            timeout: setup.timeout,
            stop: setup.stop,
            live: setup.live,
            shown: 0,
        })
    }

    /// What went wrong so far.
    pub(crate) fn failures(&self) -> &Failures {
        &self.state.failures
    }

    /// Runs one phase to its end.
    pub(crate) fn run(&mut self, phase: &Phase) -> io::Result<PhaseResult> {
        let cpu_before = ThreadCpu::now();
        let start = self.state.clock.now();
        let mut arrivals = self.begin(phase, start);
        let end = phase.duration.map_or(u64::MAX, |duration| start + duration.as_nanos() as u64);
        let mut tally = Tally::new(&phase.load);
        let mut next_check = start;
        let mut cut_short = false;
        loop {
            let now = self.state.clock.now();
            if now >= next_check {
                next_check = now + TURN_WAIT.as_nanos() as u64;
                self.state.expire(now, self.timeout.as_nanos() as u64);
                cut_short |= self.stop.load(Ordering::Relaxed) || self.state.is_dead();
                self.show(now);
            }
            let all_made = arrivals.as_ref().is_none_or(|arrivals| arrivals.next() >= end);
            if cut_short || now >= end && (all_made || now >= end.saturating_add(LATE_NS)) {
                break;
            }
            let made = arrivals
                .as_mut()
                .map_or(0, |arrivals| self.make_due(arrivals, now.min(end - 1), now, &mut tally));
            if !self.state.gate.issuing || (self.state.gate.quota == 0 && self.state.in_flight == 0) {
                break;
            }
            let limit = if now < end { end.min(next_check) } else { next_check };
            let wait = wait_for(arrivals.as_ref(), &tally, now, limit);
            self.turn(wait, now, made > 0, &mut tally)?;
        }
        let stopped = self.state.clock.now();
        self.state.gate.issuing = false;
        if let Some(arrivals) = &mut arrivals {
            self.count_unsent(arrivals, stopped.min(end), stopped);
        }
        self.drain(phase)?;
        let idle_tail = self.state.clock.now();
        // What ends before its time does so with the last answer.
        let elapsed = if stopped >= end { end } else { idle_tail.min(end) };
        Ok(self.finish(phase, elapsed - start, cpu_before, tally, cut_short))
    }

    fn begin(&mut self, phase: &Phase, start: u64) -> Option<Arrivals> {
        self.shown = 0;
        let state = &mut self.state;
        let measured = phase.kind == PhaseKind::Measure;
        let open = matches!(phase.load, Load::Open { .. });
        let ops = if measured { state.workload.ops() } else { Vec::new() };
        let row_ns = phase.row.as_nanos() as u64;
        state.recorder = Recorder::new(&ops, open && measured, start, row_ns, phase.rows);
        state.source = match phase.kind {
            PhaseKind::Preload { first, end } => Source::Preload { next: first, end },
            _ if state.workload.trace.is_some() => Source::Trace { next: self.thread, stride: self.threads },
            _ => Source::Mix,
        };
        state.gate = Gate {
            closed_loop: !open,
            issuing: true,
            measured_from: if phase.kind == PhaseKind::WarmUp { u64::MAX } else { start },
            quota: phase.quota.unwrap_or(u64::MAX),
        };
        match phase.load {
            Load::Closed { depth } => {
                // One after the other, so that no client has all of its requests before the next has any.
                for _ in 0..depth {
                    for client in 0..state.clients.len() {
                        if state.clients[client].in_flight < depth {
                            state.issue(client, start, start);
                        }
                    }
                }
                None
            }
            Load::Open { rate, spacing, .. } => {
                Some(Arrivals::new(start, rate, spacing, self.seed ^ (self.thread as u64) << 32))
            }
        }
    }

    /// Makes the requests that are due by `until`; returns how many.
    fn make_due(&mut self, arrivals: &mut Arrivals, until: u64, now: u64, tally: &mut Tally) -> usize {
        let state = &mut self.state;
        let mut made = 0;
        while arrivals.next() <= until && made < BURST_MAX {
            let Some(client) = tally.free_client(&state.clients) else { break };
            let due = arrivals.next();
            if !state.issue(client, due, now) {
                break;
            }
            tally.on_made(due, now);
            arrivals.advance();
            made += 1;
        }
        made
    }

    /// Hands buffers over, enters the kernel once, reads what came.
    fn turn(&mut self, wait: Wait, now: u64, made: bool, tally: &mut Tally) -> io::Result<()> {
        self.hand_over()?;
        let state = &mut self.state;
        state.events = 0;
        self.ring.turn(wait, |connection, event| state.on_event(connection, event))?;
        while let Some(connection) = state.broken.pop() {
            self.ring.close(connection);
        }
        if matches!(wait, Wait::No) && state.events == 0 && !made {
            tally.spin_ns += state.clock.now() - now;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let state = &mut self.state;
        let mut waiting = 0;
        for place in 0..state.dirty.len() {
            let index = state.dirty[place];
            let connection = &mut state.connections[index];
            let bytes = connection.out.len() as u64;
            if self.ring.send(index, &mut connection.out)? {
                state.recorder.counts.bytes_sent += bytes;
                connection.dirty = false;
            } else if connection.closed || connection.out.is_empty() {
                connection.dirty = false;
            } else {
                state.dirty[waiting] = index;
                waiting += 1;
            }
        }
        state.dirty.truncate(waiting);
        Ok(())
    }

    /// Waits for the answers that are still due.
    fn drain(&mut self, phase: &Phase) -> io::Result<()> {
        if phase.kind == PhaseKind::WarmUp {
            // The next phase goes on with what is in flight.
            return Ok(());
        }
        let timeout_ns = self.timeout.as_nanos() as u64;
        let mut tally = Tally::new(&phase.load);
        while self.state.in_flight > 0 {
            let now = self.state.clock.now();
            self.turn(Wait::For(TURN_WAIT), now, false, &mut tally)?;
            self.state.expire(now, timeout_ns);
        }
        Ok(())
    }

    /// Requests that were due before the end, but never made: their wait so far is a lower bound of
    /// their latency, and leaving them out would hide the overload.
    fn count_unsent(&mut self, arrivals: &mut Arrivals, end: u64, now: u64) {
        let op = self.state.workload.ops().first().copied();
        let measured = self.state.gate.measured_from <= end;
        while arrivals.next() < end && self.state.gate.quota > 0 {
            if let Some(op) = op.filter(|_| measured) {
                self.state.recorder.counts.unsent += 1;
                self.state.recorder.record(op, now - arrivals.next(), now - arrivals.next());
            }
            self.state.gate.quota -= 1;
            arrivals.advance();
        }
    }

    fn show(&mut self, now: u64) {
        self.state.recorder.advance(now);
        let complete = self.state.recorder.complete_rows();
        complete[self.shown..].iter().for_each(|row| self.live.publish(row));
        self.shown = complete.len();
    }

    fn finish(
        &mut self,
        phase: &Phase,
        elapsed: u64,
        cpu_before: ThreadCpu,
        tally: Tally,
        cut_short: bool,
    ) -> PhaseResult {
        let mut recorder = std::mem::replace(&mut self.state.recorder, Recorder::new(&[], false, 0, 1, 1));
        recorder.flush();
        PhaseResult {
            recorder,
            elapsed: Duration::from_nanos(elapsed),
            cpu: ThreadCpu::now().since(cpu_before),
            spin: Duration::from_nanos(tally.spin_ns),
            lag: matches!(phase.load, Load::Open { .. }).then_some(tally.lag),
            held_back: tally.held_back,
            cut_short,
        }
    }
}

/// How well a phase keeps its schedule.
struct Tally {
    window: usize,
    next_client: usize,
    spin_ns: u64,
    lag: Histogram<u64>,
    held_back: u64,
    /// Since the last request was made, a full window has stood in the way.
    blocked: bool,
}

impl Tally {
    fn new(load: &Load) -> Self {
        Self {
            window: load.depth(),
            next_client: 0,
            spin_ns: 0,
            lag: record::latency_histogram(),
            held_back: 0,
            blocked: false,
        }
    }

    /// The next client, in turn, whose window has room.
    fn free_client(&mut self, clients: &[Client]) -> Option<usize> {
        for _ in 0..clients.len() {
            self.next_client = (self.next_client + 1) % clients.len();
            if clients[self.next_client].in_flight < self.window {
                return Some(self.next_client);
            }
        }
        self.blocked = true;
        None
    }

    fn on_made(&mut self, due: u64, now: u64) {
        if self.blocked {
            self.held_back += 1;
        } else {
            self.lag.saturating_record((now - due).max(1));
        }
        self.blocked &= now - due > SPIN_NS;
    }
}

fn wait_for(arrivals: Option<&Arrivals>, tally: &Tally, now: u64, limit: u64) -> Wait {
    let until = match arrivals {
        // With every window full only an answer, which ends the wait, can let the next request go.
        Some(arrivals) if !tally.blocked => {
            let due = arrivals.next();
            if due <= now + SPIN_NS {
                return Wait::No;
            }
            limit.min(due - SPIN_NS / 2)
        }
        _ => limit,
    };
    Wait::For(Duration::from_nanos(until.saturating_sub(now).max(1)))
}

/// A ring for that many connections: receive buffers large enough for what a full window answers.
fn ring_config(connections: usize, depth: usize) -> ClientRingConfig {
    let buffer_bytes = (depth * 128).next_power_of_two().clamp(4096, 1 << 16);
    let fit = (BUFFER_POOL_BYTES / buffer_bytes).min(1024);
    let wanted = (4 * connections).next_power_of_two().clamp(64, fit);
    ClientRingConfig {
        entries: (2 * connections).next_power_of_two().clamp(64, 8192) as u32,
        buffer_count: wanted as u16,
        buffer_bytes: buffer_bytes as u32,
    }
}
