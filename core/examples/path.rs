//! What a request costs between the socket driver and the engine: CPU time of one core's request path
//! with the bytes of many connections handed to it and the replies thrown away, no kernel involved.
//!
//! `cargo run --release -p pinnace-core --example path [-- POINT ROUNDS KEYS]`
//!
//! With a point (`get16`, `get64`, `set64`, `native`) only that one runs, for `valgrind --tool=callgrind`.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use pinnace_core::{Core, CoreConfig, HostSample, Mail, NodeInfo};
use pinnace_engine::{EngineConfig, PinnedValue};
use pinnace_protocol::native::{self, Header, Opcode};
use pinnace_protocol::wire::{DetachedSocket, Event, Service, TurnTime, Wire};
use pinnace_protocol::{OutBuf, resp};
use pinnace_types::{ConnId, CoreId, HashSeed, Limits, Prng, ShardMap, UnixMillis};

const KEYS: u64 = 1_000_000;
const VALUE: [u8; 32] = [b'v'; 32];
const SHARDS: u16 = 256;
/// Bytes of a receive buffer of the driver: longer pipelines arrive in several events.
const BUFFER_BYTES: usize = 16 << 10;
/// Requests made beforehand, repeated in every round: more than any cache holds the items of.
const REQUESTS: usize = 1 << 18;

/// Connections whose replies go nowhere.
#[derive(Default)]
struct Sink {
    outs: Vec<(OutBuf<PinnedValue>, bool)>,
    dirty: Vec<usize>,
}

impl Sink {
    fn drain(&mut self) {
        for index in self.dirty.drain(..) {
            self.outs[index].0.clear();
            self.outs[index].1 = false;
        }
    }
}

impl Wire for Sink {
    type Pinned = PinnedValue;
    type Mail = Mail;

    #[inline]
    fn out(&mut self, conn: ConnId) -> Option<&mut OutBuf<PinnedValue>> {
        let (out, is_dirty) = self.outs.get_mut(conn.slab_index())?;
        if !*is_dirty {
            *is_dirty = true;
            self.dirty.push(conn.slab_index());
        }
        Some(out)
    }

    fn unsent_bytes(&self, _: ConnId) -> usize {
        0
    }

    fn pause_reads(&mut self, _: ConnId) {}

    fn resume_reads(&mut self, _: ConnId) {}

    fn close_after_flush(&mut self, _: ConnId) {}

    fn close(&mut self, _: ConnId) {}

    fn detach(&mut self, _: ConnId) {}

    fn attach(&mut self, _: DetachedSocket) -> ConnId {
        unreachable!("nothing is detached")
    }

    fn send_mail(&mut self, _: CoreId, mail: Mail) -> Result<(), Mail> {
        Err(mail)
    }
}

/// What a point sends.
struct Point {
    name: &'static str,
    connections: u32,
    pipeline: usize,
    request: fn(&mut Vec<u8>, &[u8], u32),
}

const POINTS: [Point; 4] = [
    Point { name: "get16", connections: 50, pipeline: 16, request: resp_get },
    Point { name: "get64", connections: 50, pipeline: 64, request: resp_get },
    Point { name: "set64", connections: 50, pipeline: 64, request: resp_set },
    Point { name: "native", connections: 16, pipeline: 1024, request: native_get },
];

fn resp_get(out: &mut Vec<u8>, key: &[u8], _: u32) {
    resp::array(out, 2);
    resp::bulk(out, b"GET");
    resp::bulk(out, key);
}

fn resp_set(out: &mut Vec<u8>, key: &[u8], _: u32) {
    resp::array(out, 3);
    resp::bulk(out, b"SET");
    resp::bulk(out, key);
    resp::bulk(out, &VALUE);
}

fn native_get(out: &mut Vec<u8>, key: &[u8], id: u32) {
    native::encode(out, &Header::request(Opcode::GET, id), key, &[]);
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

/// The receive buffers of one turn, by connection. Requests are cut where a buffer ends.
fn turn(point: &Point, keys: u64, prng: &mut Prng) -> Vec<(u32, Vec<u8>)> {
    let mut buffers = Vec::new();
    for connection in 0..point.connections {
        let mut bytes = Vec::new();
        for id in 0..point.pipeline {
            (point.request)(&mut bytes, &key(prng.below(keys)), id as u32);
        }
        buffers.extend(bytes.chunks(BUFFER_BYTES).map(|chunk| (connection, chunk.to_vec())));
    }
    buffers
}

#[inline(never)]
fn run_turn(core: &mut Core, sink: &mut Sink, buffers: &[(u32, Vec<u8>)], now_ns: u64) {
    let conn = |&index: &u32| ConnId { index, generation: 0 };
    let events: Vec<Event<'_>> =
        buffers.iter().map(|(index, bytes)| Event::Data { conn: conn(index), bytes }).collect();
    core.on_turn(time(now_ns), &events, sink);
    sink.drain();
}

fn time(monotonic_ns: u64) -> TurnTime {
    TurnTime { wall: UnixMillis(1_700_000_000_000), wall_micros: 0, monotonic_ns }
}

/// Nanoseconds that this thread has spent on a CPU: a busy machine does not count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("schedstat begins with CPU time")
}

fn monotonic_ns() -> u64 {
    thread_local! {
        static START: Instant = Instant::now();
    }
    START.with(|start| start.elapsed().as_nanos() as u64)
}

fn loaded_core(keys: u64, connections: u32) -> (Core, Sink) {
    let shards = ShardMap::new(SHARDS, 1);
    let mut core = Core::new(CoreConfig {
        core: CoreId(0),
        shards,
        limits: Limits::DEFAULT,
        engine: EngineConfig::new(1 << 30, shards, CoreId(0), HashSeed::new(7)),
        node: Arc::new(node_info()),
        clock_ns: monotonic_ns,
        prng_seed: 1,
        set_idle_timeout_ms: None,
        driver_counters: None,
    })
    .expect("the budget suffices");
    for number in 0..keys {
        let key = key(number);
        core.ks.set(&core.ks.key(&key), &VALUE, pinnace_types::Deadline::NEVER).expect("there is room");
    }
    let mut sink = Sink::default();
    sink.outs.resize_with(connections as usize, || (OutBuf::new(), false));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7700));
    for index in 0..connections {
        let conn = ConnId { index, generation: 0 };
        core.on_turn(time(1), &[Event::Accepted { conn, peer: address, local: address }], &mut sink);
    }
    (core, sink)
}

fn node_info() -> NodeInfo {
    NodeInfo {
        version: "0.0.0".to_owned(),
        run_id: "0".repeat(40),
        bind: "127.0.0.1".to_owned(),
        port: 7700,
        core_ports: None,
        executable: "pinnace".to_owned(),
        config_file: String::new(),
        data_dir: ".".to_owned(),
        memory_bytes: 1 << 30,
        start: UnixMillis(1_700_000_000_000),
        os: "none".to_owned(),
        process_id: 1,
        debug_commands: false,
        host_sample: HostSample::default,
    }
}

/// CPU time of a request: the least and the median of all rounds.
fn measure(point: &Point, rounds: usize, keys: u64) -> (f64, f64) {
    let (mut core, mut sink) = loaded_core(keys, point.connections);
    let mut prng = Prng::new(3);
    let per_turn = point.connections as usize * point.pipeline;
    let turns: Vec<_> = (0..REQUESTS / per_turn).map(|_| turn(point, keys, &mut prng)).collect();
    let requests = (turns.len() * per_turn) as f64;
    let mut costs: Vec<f64> = (0..rounds)
        .map(|_| {
            let started = cpu_ns();
            turns.iter().for_each(|buffers| run_turn(&mut core, &mut sink, buffers, monotonic_ns()));
            (cpu_ns() - started) as f64 / requests
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    (costs[0], costs[costs.len() / 2])
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| args.get(index).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (rounds, keys) = (number(1, 30) as usize, number(2, KEYS));
    for point in POINTS.iter().filter(|point| args.first().is_none_or(|name| name == point.name)) {
        let (least, median) = measure(point, rounds, keys);
        println!("{:8} {least:6.1} ns a request, median {median:.1}", point.name);
    }
}
