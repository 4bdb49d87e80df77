//! A node that loses what it has not synced: replaying the rest explains everything that anybody was told.

mod mesh;

use std::collections::BTreeMap;

use mesh::{Client, Mesh, encode};
use pinnace_core::{Durability, ReplayError};
use pinnace_protocol::native::{self, Header, Opcode};
use pinnace_types::{CoreId, Prng, ShardId, UnixMillis};
use pinnace_wal::{BLOCK_BYTES, CommitHeader, RecordHeader, RecordKind};

const MEMORY_BYTES: u64 = 16 << 20;
const KEYS: u64 = 12;
const CLIENTS: usize = 3;

/// The payloads of a commit as the writer has sealed it, by shard.
fn payloads(mut commit: &[u8]) -> Vec<(ShardId, Vec<u8>)> {
    if CommitHeader::decode(commit).is_err() {
        // The header of a segment stands in front.
        commit = &commit[BLOCK_BYTES as usize..];
    }
    let (header, mut rest) = CommitHeader::decode(commit).unwrap();
    let mut found = Vec::new();
    for _ in 0..header.record_count {
        let (record, payload, behind) = RecordHeader::decode(rest).unwrap();
        assert_eq!(record.kind, RecordKind::Entry);
        found.push((record.group, payload.to_vec()));
        rest = behind;
    }
    found
}

/// What a key held after each of its effects; the first is its absence.
type History = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

/// Reads the effects of commits in order.
fn histories(commits: &[Vec<u8>]) -> History {
    let mut histories = History::new();
    for (_, payload) in commits.iter().flat_map(|commit| payloads(commit)) {
        let mut rest = payload.as_slice();
        while let Some((frame, len)) = native::decode(rest, &native::NativeLimits::FORMAT).unwrap() {
            let value = match frame.opcode {
                Opcode::SET => Some(frame.value.to_vec()),
                Opcode::DELETE => None,
                Opcode::CLOCK => {
                    rest = &rest[len..];
                    continue;
                }
                other => panic!("{other:?}"),
            };
            histories.entry(frame.key.to_vec()).or_insert_with(|| vec![None]).push(value);
            rest = &rest[len..];
        }
    }
    histories
}

/// What a client was told of a key.
enum Told {
    Wrote(Vec<u8>, Vec<u8>),
    Read(Vec<u8>, Option<Vec<u8>>),
}

/// A key, and what was to be written to it.
type Asked = (Vec<u8>, Option<Vec<u8>>);

struct Run {
    mesh: Mesh,
    prng: Prng,
    clients: Vec<Client>,
    /// Requests without a reply, by client.
    asked: Vec<Vec<Asked>>,
    unread: Vec<Vec<u8>>,
    told: Vec<Told>,
    number: u64,
}

impl Run {
    fn new(cores: u16, seed: u64) -> Self {
        let mut mesh = Mesh::durable(cores, MEMORY_BYTES, Durability::Sync);
        mesh.disks.iter_mut().for_each(|disk| disk.keeps = true);
        let clients: Vec<Client> = (0..CLIENTS).map(|n| mesh.connect(n % usize::from(cores))).collect();
        let none = || (0..CLIENTS).map(|_| Vec::new());
        let (asked, unread) = (none().collect(), (0..CLIENTS).map(|_| Vec::new()).collect());
        Self { mesh, prng: Prng::new(seed), clients, asked, unread, told: Vec::new(), number: 0 }
    }

    /// Some requests of a client in one piece.
    fn ask(&mut self, client: usize) {
        let mut bytes = Vec::new();
        for _ in 0..=self.prng.below(5) {
            let key = format!("k{}", self.prng.below(KEYS)).into_bytes();
            self.number += 1;
            let value = format!("v{}", self.number).into_bytes();
            match self.prng.below(5) {
                0 | 1 => {
                    bytes.extend(encode(&[b"GET", &key]));
                    self.asked[client].push((key, None));
                }
                2 => {
                    bytes.extend(encode(&[b"GETSET", &key, &value]));
                    self.asked[client].push((key, Some(value)));
                }
                _ => {
                    bytes.extend(encode(&[b"SET", &key, &value]));
                    self.asked[client].push((key, Some(value)));
                }
            }
        }
        self.mesh.send(self.clients[client], &bytes);
    }

    /// Takes in what clients have been told.
    fn hear(&mut self) {
        for client in 0..CLIENTS {
            let bytes = self.mesh.take(self.clients[client]);
            self.unread[client].extend(bytes);
            while let Some((reply, rest)) = split_reply(&self.unread[client]) {
                self.unread[client] = rest;
                let (key, wrote) = self.asked[client].remove(0);
                match reply {
                    Reply::Ok => {}
                    Reply::Value(value) => self.told.push(Told::Read(key.clone(), value)),
                }
                if let Some(value) = wrote {
                    self.told.push(Told::Wrote(key, value));
                }
            }
        }
    }

    fn step(&mut self) {
        match self.prng.below(6) {
            0..=2 => {
                let client = self.prng.below(CLIENTS as u64) as usize;
                self.ask(client);
            }
            3 => _ = self.mesh.deliver(),
            _ => {
                let core = self.prng.below(self.mesh.core_count() as u64) as usize;
                let commits = self.prng.below(3);
                self.mesh.sync(core, commits);
            }
        }
        self.hear();
    }

    /// The node dies: what was told must follow from what was synced.
    fn crash(mut self) -> usize {
        let cores = self.mesh.core_count() as u16;
        let mut again = Mesh::new(cores, MEMORY_BYTES);
        let (mut all, mut synced) = (History::new(), History::new());
        for core in 0..usize::from(cores) {
            let disk = &self.mesh.disks[core];
            let kept = &disk.commits[..disk.synced.0 as usize];
            all.extend(histories(&disk.commits));
            synced.extend(histories(kept));
            for (shard, payload) in kept.iter().flat_map(|commit| payloads(commit)) {
                again.core(core).recover_payload(shard, &payload).unwrap();
            }
            let now = self.mesh.now();
            again.core(core).finish_replay(now);
        }
        let client = again.connect(0);
        for (key, history) in &synced {
            let reply = again.request(client, &[b"GET", key]);
            assert_eq!(
                split_reply(&reply).map(|(reply, _)| reply),
                Some(Reply::Value(history.last().unwrap().clone()))
            );
        }
        let none = vec![None];
        for told in &self.told {
            let (key, value) = match told {
                Told::Wrote(key, value) => (key, Some(value.clone())),
                Told::Read(key, value) => (key, value.clone()),
            };
            let of = |histories: &'_ History| histories.get(key).unwrap_or(&none).clone();
            let at =
                of(&all).iter().position(|state| *state == value).expect("a client is told what was there");
            assert!(at < of(&synced).len(), "a client was told of an effect that is lost");
        }
        self.told.drain(..).count()
    }
}

#[derive(Debug, PartialEq)]
enum Reply {
    Ok,
    Value(Option<Vec<u8>>),
}

fn split_reply(bytes: &[u8]) -> Option<(Reply, Vec<u8>)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let (line, rest) = bytes.split_at(end);
    match line {
        b"+OK\r\n" => Some((Reply::Ok, rest.to_vec())),
        b"$-1\r\n" => Some((Reply::Value(None), rest.to_vec())),
        _ => {
            let len: usize = std::str::from_utf8(&line[1..line.len() - 2]).unwrap().parse().unwrap();
            let value = rest.get(..len)?.to_vec();
            Some((Reply::Value(Some(value)), rest.get(len + 2..)?.to_vec()))
        }
    }
}

#[test]
fn what_was_told_survives_a_crash_at_any_moment() {
    let mut told = 0;
    for cores in [1, 2, 3] {
        for seed in 0..50 {
            let mut run = Run::new(cores, seed * 3 + u64::from(cores));
            for _ in 0..20 + run.prng.below(150) {
                run.step();
            }
            told += run.crash();
        }
    }
    assert!(told > 4_000, "only {told} replies came before the crashes");
}

// Replay.

fn record(opcode: Opcode, deadline: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    native::encode(&mut out, &Header::request(opcode, 0).with_deadline(deadline), key, value);
    out
}

fn get(mesh: &mut Mesh, key: &[u8]) -> Vec<u8> {
    let client = mesh.connect(0);
    mesh.request(client, &[b"GET", key])
}

/// A core, a key of it and the key's shard.
fn one() -> (Mesh, Vec<u8>, ShardId) {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let key = b"key".to_vec();
    let shard = mesh.core(0).ks.key(&key).shard();
    (mesh, key, shard)
}

#[test]
fn a_deadline_that_was_changed_in_time_is_not_missed_by_a_replay() {
    let (mut mesh, key, shard) = one();
    let now = mesh.now();
    let log = [
        record(Opcode::CLOCK, 1000, b"", b""),
        record(Opcode::SET, 2000, &key, b"v"),
        record(Opcode::CLOCK, 1900, b"", b""),
        record(Opcode::TOUCH, 0, &key, b""),
        record(Opcode::CLOCK, now.0 - 1, b"", b""),
    ];
    mesh.core(0).recover_payload(shard, &log.concat()).unwrap();
    mesh.core(0).finish_replay(now);
    assert_eq!(get(&mut mesh, &key), b"$1\r\nv\r\n");
    let stats = *mesh.core(0).ks.stats();
    assert_eq!(stats.sets, 0, "what the replay counted is forgotten");
}

#[test]
fn a_replay_deletes_and_clears() {
    for gone in [Opcode::DELETE, Opcode::CLEAR] {
        let (mut mesh, key, shard) = one();
        let name: &[u8] = if gone == Opcode::DELETE { &key } else { b"" };
        let log = [record(Opcode::SET, 0, &key, b"v"), record(gone, 0, name, b"")].concat();
        mesh.core(0).recover_payload(shard, &log).unwrap();
        mesh.core(0).finish_replay(UnixMillis(5));
        assert_eq!(get(&mut mesh, &key), b"$-1\r\n");
    }
}

#[test]
fn entries_of_many_shards_are_replayed_together_in_their_order() {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let keys: Vec<_> = (0..50).map(|number| format!("key{number}").into_bytes()).collect();
    let mut entries = Vec::new();
    for round in 0..4_u8 {
        for key in &keys {
            let shard = mesh.core(0).ks.key(key).shard();
            let is_deleted = round == 2 && key[3] == b'1';
            let (opcode, value) =
                if is_deleted { (Opcode::DELETE, vec![]) } else { (Opcode::SET, vec![round]) };
            if round < 3 || key[3] == b'2' {
                entries.push((shard, record(opcode, 0, key, &value)));
            }
        }
    }
    let mut payloads: Vec<_> = entries.iter().map(|(shard, payload)| (*shard, &payload[..])).collect();
    mesh.core(0).recover_payloads(&payloads).unwrap();
    // The last batch is wrong in its third payload, behind one that is whole.
    let set = record(Opcode::SET, 0, &keys[0], b"v");
    let bad = [&set[..], &set[..5]].concat();
    let shard = payloads[0].0;
    payloads.splice(.., [(shard, &set[..]), (shard, &[][..]), (shard, &bad[..])]);
    let refused = mesh.core(0).recover_payloads(&payloads);
    assert_eq!(refused, Err((2, ReplayError::Cut { at: set.len() })));
    mesh.core(0).finish_replay(UnixMillis(5));
    for key in keys.iter().skip(1) {
        let expected: &[u8] = match key[3] {
            b'1' => b"$-1\r\n",
            b'2' => b"$1\r\n\x03\r\n",
            _ => b"$1\r\n\x02\r\n",
        };
        assert_eq!(get(&mut mesh, key), expected);
    }
}

#[test]
fn a_payload_that_is_none_is_refused_with_its_place() {
    let (mut mesh, key, shard) = one();
    let set = record(Opcode::SET, 0, &key, b"v");
    let core = mesh.core(0);
    let at = set.len();
    for (bad, error) in [
        (record(Opcode::GET, 0, &key, b""), ReplayError::Opcode { at, opcode: 0x10 }),
        (record(Opcode::SET, 0, b"", b"v"), ReplayError::Opcode { at, opcode: 0x12 }),
        (record(Opcode::DELETE, 0, &key, b"v"), ReplayError::Opcode { at, opcode: 0x13 }),
        (set[..set.len() - 1].to_vec(), ReplayError::Cut { at }),
    ] {
        assert_eq!(core.recover_payload(shard, &[set.clone(), bad].concat()), Err(error));
    }
    assert!(matches!(core.recover_payload(shard, b"junk"), Err(ReplayError::Frame { at: 0, .. })));
    let other = ShardId((shard.0 + 1) % 64);
    assert!(matches!(core.recover_payload(other, &set), Err(ReplayError::Shard { at: 0, .. })));
    assert_eq!(core.ks.core(), CoreId(0));
}
