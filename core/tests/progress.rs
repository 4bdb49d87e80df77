//! Whatever the order of mail, events, syncs and moves: every request is answered, in its order.

mod mesh;

use std::collections::BTreeMap;

use mesh::order::Order;
use mesh::{Mesh, encode};
use pinnace_core::Durability;
use pinnace_types::Prng;

const MEMORY_BYTES: u64 = 64 << 20;
const CLIENTS: usize = 80;
/// So many clients come to one core, then to the next: each has too many for a while.
const CROWD: usize = 20;
const KEYS: u64 = 6;
/// Steps in a random order, and then rounds in which everything gets its turn.
const STEPS: usize = 3000;
const ROUNDS_MAX: usize = 2000;

/// A client with keys of its own, so that each of its replies is known beforehand.
struct Talker {
    socket: usize,
    unsent: Vec<u8>,
    expected: Vec<u8>,
    received: Vec<u8>,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn bulk(value: Option<&Vec<u8>>) -> Vec<u8> {
    value.map_or_else(
        || b"$-1\r\n".to_vec(),
        |value| [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    )
}

impl Talker {
    fn new(socket: usize) -> Self {
        Self {
            socket,
            unsent: Vec::new(),
            expected: Vec::new(),
            received: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    fn key(&self, prng: &mut Prng) -> Vec<u8> {
        format!("client{}:key{}", self.socket, prng.below(KEYS)).into_bytes()
    }

    fn value(prng: &mut Prng) -> Vec<u8> {
        let len = if prng.below(12) == 0 { prng.below(300_000) } else { prng.below(100) };
        vec![b'a' + prng.below(26) as u8; len as usize]
    }

    fn ask(&mut self, request: &[&[u8]], reply: &[u8]) {
        self.unsent.extend(encode(request));
        self.expected.extend(reply);
    }

    /// Adds a request, and the reply that it has to get.
    fn draw(&mut self, prng: &mut Prng) {
        let (key, other) = (self.key(prng), self.key(prng));
        match prng.below(8) {
            0 => self.ask(&[b"PING"], b"+PONG\r\n"),
            1 => {
                let reply = if self.values.remove(&key).is_some() { b":1\r\n" } else { b":0\r\n" };
                self.ask(&[b"DEL", &key], reply);
            }
            2 | 3 => {
                let value = Self::value(prng);
                self.ask(&[b"SET", &key, &value], b"+OK\r\n");
                self.values.insert(key, value);
            }
            4 => {
                let values = [bulk(self.values.get(&key)), bulk(self.values.get(&other))].concat();
                self.ask(&[b"MGET", &key, &other], &[b"*2\r\n", &values[..]].concat());
            }
            5 => {
                let (value, last) = (Self::value(prng), Self::value(prng));
                self.ask(&[b"MSET", &key, &value, &other, &last], b"+OK\r\n");
                self.values.insert(key, value);
                self.values.insert(other, last);
            }
            6 => {
                let value = bulk(self.values.get(&key));
                self.ask(&[b"MULTI"], b"+OK\r\n");
                self.ask(&[b"GET", &key], b"+QUEUED\r\n");
                self.ask(&[b"EXEC"], &[b"*1\r\n", &value[..]].concat());
            }
            _ => {
                let value = bulk(self.values.get(&key));
                self.ask(&[b"GET", &key], &value);
            }
        }
    }

    fn send_some(&mut self, prng: &mut Prng, mesh: &Mesh, order: &mut Order) {
        if order.is_read(mesh, self.socket) && !self.unsent.is_empty() {
            let len = 1 + prng.below(self.unsent.len().min(20_000) as u64) as usize;
            let bytes: Vec<u8> = self.unsent.drain(..len).collect();
            order.send(self.socket, &bytes);
        }
    }

    fn read(&mut self, mesh: &mut Mesh, order: &mut Order) {
        self.received.extend(order.take(mesh, self.socket));
        assert!(self.expected.starts_with(&self.received), "client {} got another reply", self.socket);
    }

    fn is_done(&self) -> bool {
        self.received.len() == self.expected.len()
    }
}

fn step(prng: &mut Prng, mesh: &mut Mesh, order: &mut Order, talkers: &mut Vec<Talker>) {
    if talkers.is_empty() || (talkers.len() < CLIENTS && prng.below(12) == 0) {
        let core = talkers.len() / CROWD % mesh.core_count();
        talkers.push(Talker::new(order.connect(mesh, core)));
    }
    let core = prng.below(mesh.core_count() as u64) as usize;
    let count = talkers.len() as u64;
    let talker = &mut talkers[prng.below(count) as usize];
    match prng.below(12) {
        0 => (0..prng.below(8)).for_each(|_| talker.draw(prng)),
        1..=3 => talker.send_some(prng, mesh, order),
        4..=6 => order.turn(mesh, core, prng.below(4) as usize),
        7 | 8 => talker.read(mesh, order),
        9 => order.let_go(mesh, core),
        10 => drop(mesh.sync(core, prng.below(3))),
        _ => mesh.pass_time(prng.below(20)),
    }
}

/// Gives everything its turn until all is answered.
fn finish(prng: &mut Prng, mesh: &mut Mesh, order: &mut Order, talkers: &mut [Talker]) {
    for _ in 0..ROUNDS_MAX {
        for talker in talkers.iter_mut() {
            talker.send_some(prng, mesh, order);
            talker.read(mesh, order);
        }
        for core in 0..mesh.core_count() {
            order.let_go(mesh, core);
            order.turn(mesh, core, usize::MAX);
            mesh.sync(core, u64::MAX / 2);
        }
        mesh.pass_time(1);
        if talkers.iter().all(|talker| talker.unsent.is_empty() && talker.is_done()) {
            return;
        }
    }
    let waiting: Vec<usize> = talkers.iter().filter(|t| !t.is_done()).map(|t| t.socket).collect();
    panic!("the clients {waiting:?} wait for ever");
}

/// How many connections have moved.
fn run(seed: u64, core_count: u16, durability: Option<Durability>) -> usize {
    let mut prng = Prng::new(seed);
    let mut mesh = match durability {
        None => Mesh::new(core_count, MEMORY_BYTES),
        Some(durability) => Mesh::durable(core_count, MEMORY_BYTES, durability),
    };
    let mut order = Order::new(mesh.core_count());
    let mut talkers = Vec::new();
    for _ in 0..STEPS {
        step(&mut prng, &mut mesh, &mut order, &mut talkers);
    }
    finish(&mut prng, &mut mesh, &mut order, &mut talkers);
    order.moves
}

#[test]
fn every_request_is_answered_in_its_order() {
    let modes = [None, Some(Durability::Async), Some(Durability::Sync)];
    let mut moves = 0;
    for seed in 0..30 {
        for mode in modes {
            println!("seed {seed}, {mode:?}");
            moves += run(seed, 2 + (seed % 2) as u16, mode);
        }
    }
    assert!(moves > 100, "only {moves} connections have moved");
}
