//! A node of test services: real driver, real sockets on 127.0.0.1, one thread per core.
#![allow(dead_code, reason = "every test binary uses another part of the harness")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glommio::LocalExecutorBuilder;
use pinnace_driver::{
    ConnectionBudget, Driver, DriverConfig, DriverError, DriverStats, DriverStatsSnapshot, DriverTuning,
    Waker, bind_group, mesh, raise_file_limit,
};
use pinnace_protocol::Slices;
use pinnace_protocol::wire::{DetachedSocket, Event, Service, TurnResult, TurnTime, Wire};
use pinnace_types::{ConnId, CoreId, Limits};

/// A pinned value in pieces; the strong count tells whether the driver still holds it.
#[derive(Clone, Debug)]
pub struct Pieces(pub Arc<Vec<Vec<u8>>>);

impl Slices for Pieces {
    fn slice_count(&self) -> usize {
        self.0.len()
    }
    fn slice(&self, index: usize) -> &[u8] {
        &self.0[index]
    }
}

/// What cores send each other in tests.
#[derive(Debug)]
pub enum Mail {
    Socket { handle: u64, peer: SocketAddr, local: SocketAddr },
    Ping(u64),
}

/// What the services of a node do.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Sends back what it receives.
    Echo,
    /// Sends back single bytes, and takes everything else without an answer.
    EchoSingles,
    /// As `Echo`, and every now and then hands the connection to the next core.
    EchoAndMove,
    /// Sends this many patterned bytes for every byte received.
    Flood(usize),
    /// Sends this many patterned bytes for the first byte received, and as many again whenever it is
    /// told that they have drained.
    FloodWhenDrained(usize),
    /// Sends this value, pinned, for every byte received, between `<` and `>`.
    Pinned(Pieces),
    /// Sends everything back, then closes.
    EchoOnce,
    /// Answers from a later turn: what comes from another core in a node.
    EchoLater,
    /// Bounces pings between the cores.
    Mail,
}

/// What a test sees of its node.
#[derive(Debug, Default)]
pub struct Shared {
    pub stop: AtomicBool,
    pub pings: AtomicU64,
    /// Turns of all services.
    pub turns: AtomicU64,
    pub stats: Mutex<Vec<DriverStatsSnapshot>>,
    pub live: Mutex<BTreeSet<(u16, ConnId)>>,
    pub unsent_peak: AtomicU64,
    pub drained: AtomicU64,
    /// Most memory of unsent replies that a turn began with.
    pub output_peak: AtomicU64,
}

struct TestService {
    core: CoreId,
    core_count: u16,
    mode: Mode,
    shared: Arc<Shared>,
    stats: Rc<DriverStats>,
    turns: u64,
    unposted: Vec<Mail>,
    later: Vec<(u64, ConnId, Vec<u8>)>,
}

impl TestService {
    fn next_core(&self) -> CoreId {
        CoreId((self.core.0 + 1) % self.core_count)
    }

    fn on_data<W>(&mut self, conn: ConnId, bytes: &[u8], wire: &mut W)
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
        if matches!(self.mode, Mode::EchoLater) {
            return self.later.push((self.turns + 3, conn, bytes.to_vec()));
        }
        let Some(out) = wire.out(conn) else { return };
        match &self.mode {
            Mode::Flood(count) | Mode::FloodWhenDrained(count) => {
                for _ in bytes {
                    out.bytes().extend((0..*count).map(pattern));
                }
            }
            Mode::Pinned(pieces) => {
                for _ in bytes {
                    out.bytes().push(b'<');
                    out.push_pinned(pieces.clone());
                    out.bytes().push(b'>');
                }
            }
            Mode::EchoSingles if bytes.len() > 1 => {}
            Mode::Echo
            | Mode::EchoSingles
            | Mode::EchoAndMove
            | Mode::EchoOnce
            | Mode::EchoLater
            | Mode::Mail => {
                out.bytes().extend_from_slice(bytes);
            }
        }
        if matches!(self.mode, Mode::EchoOnce) {
            wire.close_after_flush(conn);
        }
        if matches!(self.mode, Mode::EchoAndMove) && self.turns.is_multiple_of(5) {
            wire.detach(conn);
        }
        self.shared.unsent_peak.fetch_max(wire.unsent_bytes(conn) as u64, Ordering::Relaxed);
    }

    fn on_event<W>(&mut self, event: &Event<'_>, wire: &mut W)
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
        let key = |conn: &ConnId| (self.core.0, *conn);
        match event {
            Event::Accepted { conn, peer, local } => {
                assert!(peer.ip().is_loopback() && local.ip().is_loopback());
                assert!(self.shared.live.lock().unwrap().insert(key(conn)), "{conn:?} is alive already");
            }
            Event::Data { conn, bytes } => {
                assert!(!bytes.is_empty());
                assert!(self.shared.live.lock().unwrap().contains(&key(conn)), "data of a dead {conn:?}");
                self.on_data(*conn, bytes, wire);
            }
            Event::Drained { conn } => {
                self.shared.drained.fetch_add(1, Ordering::Relaxed);
                if matches!(self.mode, Mode::FloodWhenDrained(_)) {
                    self.on_data(*conn, b"x", wire);
                }
            }
            Event::Closed { conn } => {
                assert!(self.shared.live.lock().unwrap().remove(&key(conn)), "{conn:?} closed twice");
                assert!(wire.out(*conn).is_none());
            }
            Event::Detached { conn, socket } => {
                assert!(self.shared.live.lock().unwrap().remove(&key(conn)), "{conn:?} detached when dead");
                let DetachedSocket { handle, peer, local } = *socket;
                self.unposted.push(Mail::Socket { handle, peer, local });
            }
        }
    }

    fn answer_later<W>(&mut self, wire: &mut W)
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
        let turns = self.turns;
        self.later.retain(|(turn, conn, bytes)| {
            let is_due = *turn <= turns;
            if is_due && let Some(out) = wire.out(*conn) {
                out.bytes().extend_from_slice(bytes);
            }
            !is_due
        });
    }

    fn post<W>(&mut self, wire: &mut W)
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
        let to = self.next_core();
        for mail in std::mem::take(&mut self.unposted) {
            if let Err(mail) = wire.send_mail(to, mail) {
                self.unposted.push(mail);
            }
        }
    }
}

impl Service for TestService {
    type Pinned = Pieces;
    type Mail = Mail;

    fn on_mail<W>(&mut self, _time: TurnTime, from: CoreId, mail: Mail, wire: &mut W)
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
        assert_ne!(from, self.core);
        match mail {
            Mail::Socket { handle, peer, local } => {
                let conn = wire.attach(DetachedSocket { handle, peer, local });
                assert!(self.shared.live.lock().unwrap().insert((self.core.0, conn)));
            }
            Mail::Ping(count) => {
                self.shared.pings.fetch_add(1, Ordering::Relaxed);
                self.unposted.push(Mail::Ping(count + 1));
            }
        }
    }

    fn on_turn<W>(&mut self, _time: TurnTime, events: &[Event<'_>], wire: &mut W) -> TurnResult
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
        if self.turns == 0 && self.core.0 == 0 && matches!(self.mode, Mode::Mail) {
            self.unposted.push(Mail::Ping(0));
        }
        self.turns += 1;
        self.shared.turns.fetch_add(1, Ordering::Relaxed);
        self.shared.output_peak.fetch_max(self.stats.output_bytes.get(), Ordering::Relaxed);
        for event in events {
            self.on_event(event, wire);
        }
        self.answer_later(wire);
        self.post(wire);
        self.shared.stats.lock().unwrap()[self.core.index()] = self.stats.snapshot();
        TurnResult {
            busy: !self.unposted.is_empty() || !self.later.is_empty(),
            wake_after_ms: None,
            stop: self.shared.stop.load(Ordering::Relaxed),
        }
    }

    fn owes_reply(&self, conn: ConnId) -> bool {
        self.later.iter().any(|(_, owed, _)| *owed == conn)
    }
}

/// The byte at `index` of every patterned stream.
pub fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(31) >> 3) as u8
}

/// A running node.
pub struct Node {
    pub addr: SocketAddr,
    /// Where the last core listens besides.
    pub also: Vec<SocketAddr>,
    pub shared: Arc<Shared>,
    pub budget: Arc<ConnectionBudget>,
    pub wakers: Vec<Waker>,
    /// Thread ids of the cores.
    pub threads: Vec<i32>,
    cores: Vec<JoinHandle<Result<(), DriverError>>>,
}

/// How to start a node.
#[derive(Clone, Debug)]
pub struct Setup {
    pub cores: u16,
    pub mode: Mode,
    pub limits: Limits,
    pub tuning: DriverTuning,
    pub mail_capacity: usize,
    /// Addresses that the last core listens on besides, ports chosen by the system.
    pub also: Vec<SocketAddr>,
}

impl Setup {
    pub fn new(mode: Mode) -> Self {
        let limits = Limits { connections_max: 4000, ..Limits::DEFAULT };
        let tuning = DriverTuning { slots: 4096, ..DriverTuning::DEFAULT };
        Self { cores: 1, mode, limits, tuning, mail_capacity: 64, also: Vec::new() }
    }

    /// Tiny buffers and limits, except those of the whole node.
    pub fn tiny(mode: Mode) -> Self {
        let limits = Limits { connections_max: 4000, output_bytes_max: 1 << 30, ..Limits::TEST_MIN };
        let tuning = DriverTuning { slots: 4096, ..DriverTuning::TEST_MIN };
        Self { cores: 1, mode, limits, tuning, mail_capacity: 4, also: Vec::new() }
    }

    pub fn start(self) -> Node {
        raise_file_limit(9000).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = bind_group(any, self.cores.into(), 4096).unwrap();
        let addr = listeners[0].local_addr();
        let mut listeners: Vec<_> = listeners.into_iter().map(|listener| vec![listener]).collect();
        let extra = self.also.iter().flat_map(|&any| bind_group(any, 1, 16).unwrap());
        let last = listeners.last_mut().unwrap();
        last.extend(extra);
        let also = last[1..].iter().map(|listener| listener.local_addr()).collect();
        let shared = Arc::new(Shared::default());
        shared.stats.lock().unwrap().resize(self.cores.into(), DriverStatsSnapshot::default());
        let budget = Arc::new(ConnectionBudget::new(self.limits.connections_max));
        let ends = mesh(self.cores, self.mail_capacity).unwrap();
        let wakers = ends.iter().map(|end| end.waker()).collect();
        let (ids, id_of_core) = std::sync::mpsc::channel();
        let cores = ends
            .into_iter()
            .zip(listeners)
            .map(|(mesh, listeners)| {
                let config = DriverConfig {
                    mesh,
                    listeners,
                    budget: Arc::clone(&budget),
                    limits: self.limits.clone(),
                    tuning: self.tuning.clone(),
                };
                let (setup, shared, ids) = (self.clone(), Arc::clone(&shared), ids.clone());
                std::thread::spawn(move || {
                    ids.send(own_thread()).unwrap();
                    run_core(config, &setup, shared)
                })
            })
            .collect();
        let threads = (0..self.cores).map(|_| id_of_core.recv().unwrap()).collect();
        Node { addr, also, shared, budget, wakers, threads, cores }
    }
}

fn run_core(config: DriverConfig<Mail>, setup: &Setup, shared: Arc<Shared>) -> Result<(), DriverError> {
    let (mode, core_count) = (setup.mode.clone(), setup.cores);
    let executor = LocalExecutorBuilder::default().make().unwrap();
    executor.run(async move {
        let core = config.mesh.core();
        let driver = Driver::new(config)?;
        let stats = driver.stats();
        let (unposted, later) = (Vec::new(), Vec::new());
        let service = TestService {
            core,
            core_count,
            mode,
            shared: Arc::clone(&shared),
            stats,
            turns: 0,
            unposted,
            later,
        };
        let service = driver.run(service).await?;
        shared.stats.lock().unwrap()[core.index()] = service.stats.snapshot();
        Ok(())
    })
}

impl Node {
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Counters of all cores together, after a turn that brings them up to date.
    pub fn stats(&self) -> DriverStatsSnapshot {
        for waker in &self.wakers {
            waker.wake();
        }
        std::thread::sleep(Duration::from_millis(5));
        let mut sum = DriverStatsSnapshot::default();
        for stats in self.shared.stats.lock().unwrap().iter() {
            sum += *stats;
        }
        sum
    }

    /// Waits until the condition holds.
    pub fn until(
        &self,
        what: &str,
        mut holds: impl FnMut(&DriverStatsSnapshot) -> bool,
    ) -> DriverStatsSnapshot {
        let started = Instant::now();
        loop {
            let stats = self.stats();
            if holds(&stats) {
                return stats;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "no {what} in 20 s: {stats:?}");
        }
    }

    /// Stops all cores and checks that nothing is left.
    pub fn stop(self) -> DriverStatsSnapshot {
        self.shared.stop.store(true, Ordering::Relaxed);
        for waker in &self.wakers {
            waker.wake();
        }
        for core in self.cores {
            core.join().expect("no core panics").unwrap();
        }
        let mut sum = DriverStatsSnapshot::default();
        for stats in self.shared.stats.lock().unwrap().iter() {
            sum += *stats;
        }
        assert_eq!(sum.connections, 0, "{sum:?}");
        assert_eq!(self.budget.open(), 0, "{sum:?}");
        sum
    }
}

/// Sends and expects the same back.
pub fn echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "echo differs");
}

/// The id of the calling thread, as in /proc.
fn own_thread() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// CPU time of a thread so far.
pub fn thread_cpu(thread: i32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Open descriptors of this process.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}
