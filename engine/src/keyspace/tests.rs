//! The keyspace against a plain map, under time and memory pressure, and at its bounds.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::error::WriteError;
use crate::key::ScanCursor;
use pinnace_protocol::Slices;
use pinnace_types::{HashSeed, Prng};

mod bounds;
mod effects;
mod space;

fn config(memory_bytes: u64, shards: u16) -> EngineConfig {
    EngineConfig::new(memory_bytes, ShardMap::new(shards, 1), CoreId(0), HashSeed::new(7))
}

fn tiny(policy: MemoryPolicy, shards: u16) -> Keyspace {
    let mut config = config(0, shards);
    config.segment_bytes = Some(8 << 10);
    config.key_bytes_max = 512;
    config.policy = policy;
    config.memory_bytes = 400 << 10;
    Keyspace::new(config).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Set(u16, u32, Option<u16>),
    Parts(u16, u16),
    Get(u16),
    Delete(u16),
    Deadline(u16, Option<u16>),
    Version(u16),
    Pass(u16),
    Maintain(u8),
    Pin(u16),
    Unpin,
    Scan(u8),
    Clear,
    ClearShard(u8),
    Policy(bool),
    RandomKey,
}

fn ops(keys: u16) -> impl Strategy<Value = Vec<Op>> {
    let key = 0..keys;
    let len = prop_oneof![
        6 => 0u32..60, 3 => 60u32..900, 2 => 900u32..1100, 2 => 1100u32..9000, 1 => 9000u32..60_000
    ];
    let ttl = proptest::option::weighted(0.4, 1u16..3000);
    let op = prop_oneof![
        30 => (key.clone(), len, ttl.clone()).prop_map(|(k, l, t)| Op::Set(k, l, t)),
        3 => (key.clone(), 0u16..3000).prop_map(|(k, l)| Op::Parts(k, l)),
        20 => key.clone().prop_map(Op::Get),
        5 => key.clone().prop_map(Op::Delete),
        4 => (key.clone(), ttl).prop_map(|(k, t)| Op::Deadline(k, t)),
        3 => key.clone().prop_map(Op::Version),
        5 => (1u16..500).prop_map(Op::Pass),
        6 => (1u8..100).prop_map(Op::Maintain),
        2 => key.clone().prop_map(Op::Pin),
        1 => Just(Op::Unpin),
        1 => (1u8..50).prop_map(Op::Scan),
        1 => (0u8..40).prop_map(|n| if n == 0 { Op::Clear } else { Op::Maintain(n) }),
        1 => (0u8..4).prop_map(Op::ClearShard),
        1 => any::<bool>().prop_map(Op::Policy),
        1 => Just(Op::RandomKey),
    ];
    proptest::collection::vec(op, 1..600)
}

#[derive(Clone, Debug, PartialEq)]
struct Expected {
    value: Vec<u8>,
    deadline: Deadline,
    version: Option<Version>,
}

/// A keyspace beside a map of what was last written: the keyspace may have less, never other values.
struct Pair {
    ks: Keyspace,
    map: BTreeMap<Vec<u8>, Expected>,
    pins: Vec<(crate::PinnedValue, Vec<u8>)>,
    prng: Prng,
    versions_seen: BTreeMap<Vec<u8>, Version>,
    spots: BTreeMap<Vec<u8>, Spot>,
}

fn name(key: u16) -> Vec<u8> {
    let mut name = format!("key:{key}").into_bytes();
    name.resize(name.len() + usize::from(key % 5) * 7, b'x');
    name
}

fn bytes_of(value: ValueRef<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    value.copy_to(&mut out);
    assert_eq!(out.len(), value.len());
    out
}

impl Pair {
    fn new(ks: Keyspace) -> Self {
        let (map, versions_seen) = (BTreeMap::new(), BTreeMap::new());
        Self { ks, map, pins: Vec::new(), prng: Prng::new(3), versions_seen, spots: BTreeMap::new() }
    }

    /// The key, seen where it was when it was last used: much has changed since.
    fn key<'k>(&mut self, bytes: &'k [u8]) -> Key<'k> {
        let key = self.ks.key(bytes);
        let earlier = self.spots.insert(bytes.to_vec(), self.ks.spot(&key));
        key.seen_at(earlier.unwrap_or(Spot::NONE))
    }

    fn value(&mut self, len: usize) -> Vec<u8> {
        let seed = self.prng.next_u64().to_le_bytes();
        (0..len).map(|i| seed[i % 8] ^ (i / 8) as u8).collect()
    }

    fn deadline(&self, ttl: Option<u16>) -> Deadline {
        ttl.map_or(Deadline::NEVER, |ttl| Deadline::at(UnixMillis(self.ks.now().0 + u64::from(ttl))))
    }

    fn is_evicting(&self) -> bool {
        self.ks.config.policy == MemoryPolicy::Evict || self.ks.stats.evicted > 0
    }

    /// Compares one key; drops it from the map if it is rightly absent.
    fn check(&mut self, key: &[u8]) {
        let expected = self.map.get(key).cloned();
        let now = self.ks.now();
        let may_be_absent = self.is_evicting();
        let k = self.key(key);
        let got = self.ks.get(&k).map(|entry| (bytes_of(entry.value), entry.deadline, entry.version));
        match (expected, got) {
            (None, None) => {}
            (Some(expected), Some((value, deadline, version))) => {
                assert_eq!((&value, deadline), (&expected.value, expected.deadline));
                assert!(!deadline.is_past(now));
                assert!(expected.version.is_none() || version.is_some());
            }
            (Some(expected), None) => {
                assert!(may_be_absent || expected.deadline.is_past(now), "an item was lost");
                self.map.remove(key);
            }
            (None, Some(_)) => panic!("an item came from nowhere"),
        }
    }

    fn set(&mut self, key: u16, parts: &[&[u8]], deadline: Deadline) {
        let key = name(key);
        let k = self.key(&key);
        let result = if let [part] = parts {
            self.ks.set(&k, part, deadline)
        } else {
            self.ks.set_parts(&k, parts, deadline)
        };
        match result {
            Ok(()) => {
                let version = self.ks.peek(&k).and_then(|entry| entry.version);
                if let (Some(version), Some(seen)) = (version, self.versions_seen.get(&key)) {
                    assert!(version > *seen, "every write changes the version");
                }
                if !deadline.is_past(self.ks.now()) {
                    assert!(self.ks.peek(&k).is_some());
                }
                self.map.insert(key, Expected { value: parts.concat(), deadline, version });
            }
            Err(WriteError::ValueTooLarge { len, max }) => {
                assert!(len > max && len == parts.concat().len() as u64);
            }
            Err(WriteError::OutOfMemory) => {
                let pinned = !self.pins.is_empty();
                assert!(pinned || self.ks.config.policy == MemoryPolicy::Reject);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn version(&mut self, key: u16) {
        let key = name(key);
        let k = self.key(&key);
        let was_there = self.ks.peek(&k).is_some();
        match self.ks.version(&k) {
            Ok(Some(version)) => {
                assert!(was_there);
                let expected = self.map.get_mut(&key).unwrap();
                if let Some(known) = expected.version {
                    assert_eq!(known, version, "nothing wrote in between");
                } else if let Some(seen) = self.versions_seen.get(&key) {
                    assert!(version > *seen, "versions are never given twice");
                }
                expected.version = Some(version);
                self.versions_seen.insert(key, version);
            }
            Ok(None) => assert!(!was_there || self.is_evicting()),
            Err(error) => assert_eq!(error, WriteError::OutOfMemory),
        }
    }

    fn set_deadline(&mut self, key: u16, deadline: Deadline) {
        let key = name(key);
        let k = self.key(&key);
        if self.ks.set_deadline(&k, deadline) == Ok(true) {
            let version = self.ks.peek(&k).and_then(|entry| entry.version);
            let expected = self.map.get_mut(&key).unwrap();
            (expected.deadline, expected.version) = (deadline, version);
        }
    }

    fn scan(&mut self, items_max: usize) {
        let mut seen = BTreeMap::new();
        let mut cursor = Some(ScanCursor::START);
        while let Some(at) = cursor {
            assert_eq!(ScanCursor::from(u64::from(at)), at);
            cursor = self.ks.scan(at, items_max, &mut |key, entry| {
                assert!(seen.insert(key.to_vec(), bytes_of(entry.value)).is_none(), "visited twice");
            });
            assert!(cursor.is_none_or(|next| next > at));
            self.ks.maintain(3);
        }
        let now = self.ks.now();
        for (key, value) in &seen {
            assert_eq!(&self.map[key].value, value);
        }
        let missing = |(key, e): (&Vec<u8>, &Expected)| !e.deadline.is_past(now) && !seen.contains_key(key);
        assert!(self.is_evicting() || !self.map.iter().any(missing));
    }

    fn pin(&mut self, key: u16) {
        let key = name(key);
        let k = self.key(&key);
        if let Some(Entry { value: ValueRef::Large(large), .. }) = self.ks.peek(&k) {
            let pin = large.clone();
            self.pins.push((pin, self.map[&key].value.clone()));
        }
    }

    fn check_pins(&self) {
        for (pin, expected) in &self.pins {
            let read: Vec<u8> = (0..pin.slice_count()).flat_map(|i| pin.slice(i).to_vec()).collect();
            assert_eq!(&read, expected, "pinned memory does not change");
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Set(key, len, ttl) => {
                let (value, deadline) = (self.value(len as usize), self.deadline(ttl));
                self.set(key, &[&value], deadline);
            }
            Op::Parts(key, len) => {
                let value = self.value(usize::from(len));
                let (a, b) = value.split_at(value.len() / 3);
                self.set(key, &[a, &[], b], Deadline::NEVER);
            }
            Op::Get(key) => self.check(&name(key)),
            Op::Delete(key) => {
                let key = name(key);
                let k = self.ks.key(&key);
                let was_there = self.ks.peek(&k).is_some();
                assert_eq!(self.ks.delete(&k), was_there);
                self.map.remove(&key);
            }
            Op::Deadline(key, ttl) => self.set_deadline(key, self.deadline(ttl)),
            Op::Version(key) => self.version(key),
            Op::Pass(ms) => self.ks.set_now(UnixMillis(self.ks.now().0 + u64::from(ms))),
            Op::Maintain(work) => _ = self.ks.maintain(u32::from(work)),
            Op::Pin(key) => self.pin(key),
            Op::Unpin => self.pins.clear(),
            Op::Scan(items) => self.scan(usize::from(items)),
            Op::Clear => {
                self.ks.clear();
                self.map.clear();
                assert_eq!(self.ks.len(), 0);
            }
            Op::ClearShard(shard) => self.clear_shard(ShardId(u16::from(shard))),
            Op::Policy(evict) => {
                self.ks.set_policy(if evict { MemoryPolicy::Evict } else { MemoryPolicy::Reject });
            }
            Op::RandomKey => {
                let mut out = Vec::new();
                if self.ks.random_key(&mut Prng::new(9), &mut out) {
                    assert!(self.map.contains_key(&out));
                }
            }
        }
    }

    fn clear_shard(&mut self, shard: ShardId) {
        if shard.0 < self.ks.shards().shard_count() && self.prng.below(8) == 0 {
            self.ks.clear_shard(shard);
            let ks = &self.ks;
            self.map.retain(|key, _| ks.key(key).shard() != shard);
            assert_eq!(self.ks.shard_len(shard), 0);
        }
    }

    fn run_all(&mut self, ops: &[Op]) {
        for (index, op) in ops.iter().enumerate() {
            self.run(op);
            if index % 32 == 0 {
                self.ks.verify();
                self.check_pins();
            }
        }
        self.check_pins();
        self.ks.verify();
        let keys: Vec<Vec<u8>> = self.map.keys().cloned().collect();
        keys.iter().for_each(|key| self.check(key));
        self.ks.set_now(UnixMillis(self.ks.now().0 + 100_000));
        while self.ks.maintain(100) {}
        self.ks.verify();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn evicting_keyspace_never_gives_other_values_than_a_map(ops in ops(300)) {
        Pair::new(tiny(MemoryPolicy::Evict, 4)).run_all(&ops);
    }

    #[test]
    fn rejecting_keyspace_loses_nothing(ops in ops(60)) {
        Pair::new(tiny(MemoryPolicy::Reject, 1)).run_all(&ops);
    }
}
