//! The cores of a node in one thread: no socket, no clock, mail delivered by hand.
#![allow(dead_code, reason = "every test binary has its own copy and uses what it needs")]

pub mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pinnace_core::{Core, CoreConfig, Durability, HostSample, Mail, NodeInfo};
use pinnace_engine::{EngineConfig, PinnedValue};
use pinnace_protocol::wire::{DetachedSocket, Event, Service, TurnTime, Wire};
use pinnace_protocol::{OutBuf, OutPart, Slices};
use pinnace_types::{
    CommitNumber, ConnId, CoreId, HashSeed, Limits, LogPosition, SegmentNumber, ShardMap, UnixMillis,
    key_slot,
};
use pinnace_wal::{LogLimits, LogStart, LogWriter, Run};

/// 14 November 2023.
const START_MS: u64 = 1_700_000_000_000;
const SHARDS: u16 = 64;
/// Turns within which a request is answered, however many cores it visits and however often.
const TURNS_MAX: usize = 200;

/// A core's side of the mesh.
#[derive(Default)]
struct TestWire {
    out: BTreeMap<ConnId, OutBuf<PinnedValue>>,
    mail: Vec<(CoreId, Mail)>,
    /// Connections that are not read.
    paused: BTreeSet<ConnId>,
    /// Connections that the core gives up, for the test to report detached.
    leaving: Vec<ConnId>,
    /// The place that the next attached socket gets, if the test has named one.
    vacant: Option<ConnId>,
    /// Places that were let go, and sockets that came with the place they got; see `order`.
    free: Vec<ConnId>,
    arrived: Vec<(u64, ConnId)>,
}

impl Wire for TestWire {
    type Pinned = PinnedValue;
    type Mail = Mail;

    fn out(&mut self, conn: ConnId) -> Option<&mut OutBuf<PinnedValue>> {
        self.out.get_mut(&conn)
    }

    fn unsent_bytes(&self, conn: ConnId) -> usize {
        self.out.get(&conn).map_or(0, OutBuf::byte_len)
    }

    fn pause_reads(&mut self, conn: ConnId) {
        self.paused.insert(conn);
    }

    fn resume_reads(&mut self, conn: ConnId) {
        self.paused.remove(&conn);
    }

    fn close_after_flush(&mut self, _: ConnId) {}

    fn close(&mut self, conn: ConnId) {
        self.out.remove(&conn);
    }

    fn detach(&mut self, conn: ConnId) {
        self.leaving.push(conn);
    }

    fn attach(&mut self, socket: DetachedSocket) -> ConnId {
        let conn = self.vacant.take().unwrap_or_else(|| self.place());
        self.arrived.push((socket.handle, conn));
        self.out.insert(conn, OutBuf::new());
        conn
    }

    fn send_mail(&mut self, to: CoreId, mail: Mail) -> Result<(), Mail> {
        self.mail.push((to, mail));
        Ok(())
    }
}

/// A connection of the mesh.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    core: usize,
    conn: ConnId,
}

/// The place of a connection that is gone, though its core does not know yet.
#[derive(Debug)]
pub struct Vacancy(Client);

/// A node without an operating system.
pub struct Mesh {
    cores: Vec<(Core, TestWire)>,
    /// A disk for each core, if there is a log.
    pub disks: Vec<Disk>,
    now_ms: u64,
    connections: u32,
}

/// What a core's log has written, and when it is synced: not before it is told to.
#[derive(Default)]
pub struct Disk {
    /// The commits, in order, if they are kept.
    pub commits: Vec<Vec<u8>>,
    pub keeps: bool,
    buffer: Vec<u8>,
    written: CommitNumber,
    pub synced: CommitNumber,
    /// Syncs what is written as soon as mail is delivered.
    pub at_once: bool,
}

impl Disk {
    fn take(&mut self, core: &mut Core) {
        loop {
            self.buffer.clear();
            let Some(sealed) = core.take_commit(&mut self.buffer) else { return };
            assert_eq!(sealed.number, self.written.next(), "commits come in order");
            assert_eq!(sealed.len, self.buffer.len() as u64);
            self.written = sealed.number;
            if self.keeps {
                self.commits.push(self.buffer.clone());
            }
        }
    }
}

impl Mesh {
    /// A node of `core_count` cores with `memory_bytes` each.
    pub fn new(core_count: u16, memory_bytes: u64) -> Self {
        let core =
            |index| Core::new(config(CoreId(index), core_count, memory_bytes)).expect("the budget suffices");
        let cores = (0..core_count).map(|index| (core(index), TestWire::default())).collect();
        Self { cores, disks: Vec::new(), now_ms: START_MS, connections: 0 }
    }

    /// The same with a log in which there is always room.
    pub fn durable(core_count: u16, memory_bytes: u64, durability: Durability) -> Self {
        let mut mesh = Self::logged(core_count, memory_bytes, durability, LogLimits::DEFAULT);
        mesh.extend_logs(SegmentNumber(u64::MAX));
        mesh
    }

    /// The logs may go on to a segment.
    pub fn extend_logs(&mut self, through: SegmentNumber) {
        for (core, _) in &mut self.cores {
            core.with_log(|log| log.on_segment_ready(through));
        }
    }

    /// The logs may go on to a segment, and their disks have no room for another, or have.
    pub fn set_log_disks(&mut self, through: SegmentNumber, is_short: bool) {
        for (core, _) in &mut self.cores {
            core.on_log_disk(through, is_short);
        }
    }

    /// The same with logs that have no segment to write to.
    pub fn logged(core_count: u16, memory_bytes: u64, durability: Durability, limits: LogLimits) -> Self {
        let mut mesh = Self::new(core_count, memory_bytes);
        for (index, (core, _)) in mesh.cores.iter_mut().enumerate() {
            let start = LogStart {
                core: CoreId(index as u16),
                node_id: 1,
                run: Run { number: 1, nonce: 1 },
                segment: SegmentNumber(1),
                position: LogPosition(0),
                group_count: SHARDS,
                groups: Vec::new(),
            };
            core.start_log(durability, LogWriter::new(start, limits.clone()));
            mesh.disks.push(Disk::default());
        }
        mesh
    }

    /// The disk of a core has synced up to `count` commits more. Returns whether there was one.
    pub fn sync(&mut self, core: usize, count: u64) -> bool {
        let Some(disk) = self.disks.get_mut(core) else { return false };
        let through = CommitNumber(disk.written.0.min(disk.synced.0 + count));
        if through == disk.synced {
            return false;
        }
        disk.synced = through;
        let (core, wire) = &mut self.cores[core];
        core.on_synced(through, wire);
        true
    }

    /// Syncs and delivers until there is nothing to do.
    pub fn settle_synced(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut busy = self.deliver();
            for core in 0..self.disks.len() {
                busy |= self.sync(core, u64::MAX / 2);
            }
            if !busy {
                return;
            }
        }
        panic!("the cores do not come to rest");
    }

    fn write(&mut self, core: usize) {
        if let Some(disk) = self.disks.get_mut(core) {
            disk.take(&mut self.cores[core].0);
        }
    }

    /// Connects to a core.
    pub fn connect(&mut self, core: usize) -> Client {
        let conn = ConnId { index: self.connections, generation: 0 };
        self.connections += 1;
        self.cores[core].1.out.insert(conn, OutBuf::new());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7700));
        self.turn(core, &[Event::Accepted { conn, peer: address, local: address }]);
        Client { core, conn }
    }

    /// Lets time pass.
    pub fn wait(&mut self, milliseconds: u64) {
        self.now_ms += milliseconds;
        self.settle();
    }

    /// Hands bytes of a client to its core; nothing else moves yet.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.turn(client.core, &[Event::Data { conn: client.conn, bytes }]);
    }

    /// One core, for what no client can do.
    pub fn core(&mut self, core: usize) -> &mut Core {
        &mut self.cores[core].0
    }

    /// The time.
    pub fn now(&self) -> UnixMillis {
        UnixMillis(self.now_ms)
    }

    /// Lets time pass without any core noticing yet.
    pub fn pass_time(&mut self, milliseconds: u64) {
        self.now_ms += milliseconds;
    }

    /// An empty turn of one core.
    pub fn step(&mut self, core: usize) {
        self.turn(core, &[]);
    }

    /// The number of cores.
    pub fn core_count(&self) -> usize {
        self.cores.len()
    }

    /// The core that owns a key.
    pub fn owner(&self, key: &[u8]) -> usize {
        let shards = ShardMap::new(SHARDS, self.cores.len() as u16);
        shards.core_of(shards.shard_of(key_slot(key))).index()
    }

    /// A key of a core.
    pub fn key_on(&self, core: usize, number: usize) -> Vec<u8> {
        let names = (0..).map(|n| format!("key:{n}").into_bytes());
        names.filter(|name| self.owner(name) == core).nth(number).expect("names do not end")
    }

    /// Delivers mail until there is none.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.deliver() {
                return;
            }
        }
        panic!("the cores do not come to rest");
    }

    /// Sends bytes and takes all that comes back.
    pub fn call(&mut self, client: Client, bytes: &[u8]) -> Vec<u8> {
        self.send(client, bytes);
        self.settle();
        self.take(client)
    }

    /// Sends one request.
    pub fn request(&mut self, client: Client, args: &[&[u8]]) -> Vec<u8> {
        self.call(client, &encode(args))
    }

    /// Bytes of replies that wait for the logs.
    pub fn held_bytes(&self) -> u64 {
        self.cores.iter().map(|(core, _)| core.held_bytes()).sum()
    }

    /// Whether the core says that a client's replies are still to come.
    pub fn owes_reply(&self, client: Client) -> bool {
        self.cores[client.core].0.owes_reply(client.conn)
    }

    /// Whether the node has not closed a connection.
    pub fn is_open(&self, client: Client) -> bool {
        self.cores[client.core].1.out.contains_key(&client.conn)
    }

    /// The client goes away.
    pub fn disconnect(&mut self, client: Client) {
        self.cores[client.core].1.out.remove(&client.conn);
        self.turn(client.core, &[Event::Closed { conn: client.conn }]);
        self.settle();
    }

    /// The client goes away, and its place is free again before its core has been told.
    pub fn hang_up(&mut self, client: Client) -> Vacancy {
        self.cores[client.core].1.out.remove(&client.conn);
        Vacancy(client)
    }

    /// Moves a connection that its core wants to give away into a free place; what is still to be told
    /// of that place's last connection stays so.
    pub fn hand_over(&mut self, client: Client, vacancy: &Vacancy) -> Client {
        let from = &mut self.cores[client.core].1;
        let asked = from.leaving.pop();
        assert_eq!(asked, Some(client.conn), "the core did not ask for the move");
        from.out.remove(&client.conn);
        let Vacancy(gone) = *vacancy;
        let conn = ConnId { index: gone.conn.index, generation: gone.conn.generation + 1 };
        self.cores[gone.core].1.vacant = Some(conn);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7700));
        let socket = DetachedSocket { handle: 0, peer: address, local: address };
        self.turn(client.core, &[Event::Detached { conn: client.conn, socket }]);
        self.deliver();
        Client { core: gone.core, conn }
    }

    /// Two cores give a connection to each other in the same turn: the first arrives in the place of the
    /// second before its core is told that the second has been let go.
    pub fn swap(&mut self, first: Client, second: Client) -> (Client, Client) {
        for client in [first, second] {
            let wire = &mut self.cores[client.core].1;
            assert_eq!(wire.leaving.pop(), Some(client.conn), "the core did not ask for the move");
            wire.out.remove(&client.conn);
        }
        let successor = |client: Client| ConnId { generation: client.conn.generation + 1, ..client.conn };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7700));
        let let_go = |client: Client| {
            let socket = DetachedSocket { handle: 0, peer: address, local: address };
            Event::Detached { conn: client.conn, socket }
        };
        self.turn(first.core, &[let_go(first)]);
        let time = self.time();
        let mail = std::mem::take(&mut self.cores[first.core].1.mail);
        let (core, wire) = &mut self.cores[second.core];
        wire.vacant = Some(successor(second));
        for (_, mail) in mail {
            core.on_mail(time, CoreId(first.core as u16), mail, wire);
        }
        core.on_turn(time, &[let_go(second)], wire);
        self.cores[first.core].1.vacant = Some(successor(first));
        self.deliver();
        let arrived = |at: Client| Client { core: at.core, conn: successor(at) };
        (arrived(second), arrived(first))
    }

    /// Tells the core that the connection that had this place is gone.
    pub fn tell_closed(&mut self, vacancy: &Vacancy) {
        let Vacancy(gone) = *vacancy;
        self.turn(gone.core, &[Event::Closed { conn: gone.conn }]);
    }

    /// Drops the replies that have come and tells how many bytes they were.
    pub fn forget(&mut self, client: Client) -> usize {
        let out = self.cores[client.core].1.out.get_mut(&client.conn).expect("the connection is open");
        let len = out.byte_len();
        out.clear();
        len
    }

    /// Whether a connection is read.
    pub fn is_read(&self, client: Client) -> bool {
        !self.cores[client.core].1.paused.contains(&client.conn)
    }

    /// Memory that the replies which have come take beside the engine's.
    pub fn reply_memory(&self, client: Client) -> usize {
        self.cores[client.core].1.out.get(&client.conn).map_or(0, OutBuf::owned_bytes)
    }

    /// Takes the replies that have come.
    pub fn take(&mut self, client: Client) -> Vec<u8> {
        let bytes = self.take_silently(client);
        if bytes.len() as u64 > Limits::DEFAULT.output_pause_bytes {
            self.turn(client.core, &[Event::Drained { conn: client.conn }]);
        }
        bytes
    }

    /// The same without telling the core.
    fn take_silently(&mut self, client: Client) -> Vec<u8> {
        let out = self.cores[client.core].1.out.get_mut(&client.conn).expect("the connection is open");
        let mut bytes = Vec::new();
        for part in out.take_parts() {
            match part {
                OutPart::Bytes(part) => bytes.extend_from_slice(&part),
                OutPart::Pinned(value) => {
                    (0..value.slice_count()).for_each(|index| bytes.extend_from_slice(value.slice(index)));
                }
            }
        }
        bytes
    }

    fn time(&self) -> TurnTime {
        let monotonic_ns = (self.now_ms - START_MS + 1) * 1_000_000;
        TurnTime { wall: UnixMillis(self.now_ms), wall_micros: 0, monotonic_ns }
    }

    fn turn(&mut self, index: usize, events: &[Event<'_>]) {
        let time = self.time();
        let (core, wire) = &mut self.cores[index];
        core.on_turn(time, events, wire);
        self.write(index);
    }

    /// One round of mail and an empty turn for every core; false if there was nothing to do.
    pub fn deliver(&mut self) -> bool {
        let time = self.time();
        let mut busy = false;
        for from in 0..self.cores.len() {
            let mut mail = std::mem::take(&mut self.cores[from].1.mail);
            for (to, mail) in mail.drain(..) {
                busy = true;
                let (core, wire) = &mut self.cores[to.index()];
                core.on_mail(time, CoreId(from as u16), mail, wire);
            }
            // Its memory is used again, unless the core has sent something to itself.
            let sent = &mut self.cores[from].1.mail;
            if sent.is_empty() {
                *sent = mail;
            }
        }
        for index in 0..self.cores.len() {
            if self.disks.get(index).is_some_and(|disk| disk.at_once) {
                busy |= self.sync(index, u64::MAX / 2);
            }
            let (core, wire) = &mut self.cores[index];
            busy |= core.on_turn(time, &[], wire).busy || !wire.mail.is_empty();
            self.write(index);
        }
        busy
    }
}

/// A request as an array of bulk strings.
pub fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn config(core: CoreId, core_count: u16, memory_bytes: u64) -> CoreConfig {
    let shards = ShardMap::new(SHARDS, core_count);
    CoreConfig {
        core,
        shards,
        limits: Limits::DEFAULT,
        engine: EngineConfig::new(memory_bytes, shards, core, HashSeed::new(7)),
        node: Arc::new(node_info(memory_bytes * u64::from(core_count))),
        clock_ns: || 0,
        prng_seed: u64::from(core.0) + 1,
        set_idle_timeout_ms: None,
        driver_counters: None,
    }
}

fn node_info(memory_bytes: u64) -> NodeInfo {
    NodeInfo {
        version: "0.0.0".to_owned(),
        run_id: "0".repeat(40),
        bind: "127.0.0.1".to_owned(),
        port: 7700,
        core_ports: None,
        executable: "pinnace".to_owned(),
        config_file: String::new(),
        data_dir: ".".to_owned(),
        memory_bytes,
        start: UnixMillis(START_MS),
        os: "none".to_owned(),
        process_id: 1,
        debug_commands: false,
        host_sample: HostSample::default,
    }
}
