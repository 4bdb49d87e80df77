//! Effects: replayed from the beginning they give what the keyspace has.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::effect::EffectSink;

#[derive(Clone, Debug, PartialEq)]
enum Effect {
    Set(Vec<u8>, Vec<u8>, Deadline),
    Delete(Vec<u8>),
    Deadline(Vec<u8>, Deadline),
    Clear(ShardId),
}

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Told {
    effects: Rc<RefCell<Vec<Effect>>>,
    /// Values up to this many bytes have room.
    room: Rc<Cell<u64>>,
}

impl Told {
    fn of(ks: &mut Keyspace) -> Self {
        let told = Self::default();
        told.room.set(u64::MAX);
        ks.set_effect_sink(Some(Box::new(told.clone())));
        told
    }

    fn tell(&self, shard: ShardId, key: &Key<'_>, effect: Effect) {
        assert_eq!(shard, key.shard());
        self.effects.borrow_mut().push(effect);
    }

    fn take(&self) -> Vec<Effect> {
        std::mem::take(&mut self.effects.borrow_mut())
    }
}

impl EffectSink for Told {
    fn admit(&self, _: &Key<'_>, value_bytes: u64) -> Result<(), WriteError> {
        if value_bytes <= self.room.get() { Ok(()) } else { Err(WriteError::LogFull) }
    }

    fn set(&mut self, shard: ShardId, key: &Key<'_>, parts: &[&[u8]], deadline: Deadline) {
        self.tell(shard, key, Effect::Set(key.bytes().to_vec(), parts.concat(), deadline));
    }

    fn delete(&mut self, shard: ShardId, key: &Key<'_>) {
        self.tell(shard, key, Effect::Delete(key.bytes().to_vec()));
    }

    fn set_deadline(&mut self, shard: ShardId, key: &Key<'_>, deadline: Deadline) {
        self.tell(shard, key, Effect::Deadline(key.bytes().to_vec(), deadline));
    }

    fn clear(&mut self, shard: ShardId) {
        self.effects.borrow_mut().push(Effect::Clear(shard));
    }
}

fn replay(effects: &[Effect], shards: u16, now: UnixMillis) -> Keyspace {
    let mut config = config(64 << 20, shards);
    config.policy = MemoryPolicy::Reject;
    let mut ks = Keyspace::new(config).unwrap();
    for effect in effects {
        match effect {
            Effect::Set(key, value, deadline) => ks.set(&ks.key(key), value, *deadline).unwrap(),
            Effect::Delete(key) => _ = ks.delete(&ks.key(key)),
            Effect::Deadline(key, deadline) => _ = ks.set_deadline(&ks.key(key), *deadline).unwrap(),
            Effect::Clear(shard) => ks.clear_shard(*shard),
        }
    }
    ks.set_now(now);
    ks
}

/// Every key the one has, the other has too, with the same value and deadline.
fn assert_within(ks: &mut Keyspace, other: &mut Keyspace) {
    let mut seen = Vec::new();
    let mut cursor = Some(ScanCursor::START);
    while let Some(at) = cursor {
        cursor = ks.scan(at, 100, &mut |key, entry| {
            seen.push((key.to_vec(), bytes_of(entry.value), entry.deadline));
        });
    }
    for (key, value, deadline) in seen {
        let k = other.key(&key);
        let entry = other.peek(&k).unwrap_or_else(|| panic!("{key:?} is missing"));
        assert_eq!((bytes_of(entry.value), entry.deadline), (value, deadline));
    }
}

fn check(mut pair: Pair, ops: &[Op]) {
    let told = Told::of(&mut pair.ks);
    pair.run_all(ops);
    let mut ks = pair.ks;
    let mut again = replay(&told.take(), ks.shards().shard_count(), ks.now());
    assert_within(&mut ks, &mut again);
    if ks.stats.evicted == 0 {
        assert_within(&mut again, &mut ks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_has_what_an_evicting_keyspace_has(ops in ops(300)) {
        check(Pair::new(tiny(MemoryPolicy::Evict, 4)), &ops);
    }

    #[test]
    fn a_replay_has_what_a_rejecting_keyspace_has(ops in ops(60)) {
        check(Pair::new(tiny(MemoryPolicy::Reject, 2)), &ops);
    }
}

#[test]
fn only_what_was_applied_is_told() {
    let mut ks = tiny(MemoryPolicy::Reject, 4);
    let told = Told::of(&mut ks);
    let at = |ms| Deadline::at(UnixMillis(ms));
    ks.set_now(UnixMillis(10));
    assert!(ks.set(&ks.key(b"a"), &vec![0; 1 << 30], Deadline::NEVER).is_err());
    assert!(ks.set(&ks.key(&[b'k'; 1000]), b"", Deadline::NEVER).is_err());
    assert_eq!(ks.set_deadline(&ks.key(b"a"), at(20)), Ok(false));
    assert_eq!(told.take(), []);
    ks.set(&ks.key(b"a"), b"1", Deadline::NEVER).unwrap();
    ks.set(&ks.key(b"a"), b"2", at(30)).unwrap();
    ks.set_parts(&ks.key(b"a"), &[b"3", b"", b"4"], at(30)).unwrap();
    ks.version(&ks.key(b"a")).unwrap();
    assert_eq!(ks.set_deadline(&ks.key(b"a"), Deadline::NEVER), Ok(true));
    assert!(ks.delete(&ks.key(b"a")));
    let (a, set) =
        (b"a".to_vec(), |value: &[u8], deadline| Effect::Set(b"a".to_vec(), value.to_vec(), deadline));
    let expected = [
        set(b"1", Deadline::NEVER),
        set(b"2", at(30)),
        set(b"34", at(30)),
        Effect::Deadline(a.clone(), Deadline::NEVER),
        Effect::Delete(a),
    ];
    assert_eq!(told.take(), expected);
    ks.set_effect_sink(None);
    ks.set(&ks.key(b"a"), b"1", Deadline::NEVER).unwrap();
    assert_eq!(told.take(), []);
}

#[test]
fn a_key_that_may_have_been_evicted_is_deleted_for_the_log_too() {
    let mut ks = tiny(MemoryPolicy::Reject, 4);
    let told = Told::of(&mut ks);
    assert!(!ks.delete(&ks.key(b"never")));
    assert_eq!(told.take(), [], "nothing was ever evicted: what is absent is absent in the log");
    ks.set_policy(MemoryPolicy::Evict);
    assert!(!ks.delete(&ks.key(b"perhaps")));
    assert_eq!(told.take(), [Effect::Delete(b"perhaps".to_vec())]);
    for number in 0..2000u32 {
        ks.set(&ks.key(format!("key:{number}").as_bytes()), &[0; 500], Deadline::NEVER).unwrap();
    }
    ks.set_policy(MemoryPolicy::Reject);
    ks.reset_stats();
    told.take();
    assert!(!ks.delete(&ks.key(b"key:0")));
    assert_eq!(told.take(), [Effect::Delete(b"key:0".to_vec())], "what was evicted once stays in the log");
}

#[test]
fn clearing_is_told_for_the_shards_of_the_core() {
    let shards = ShardMap::new(8, 2);
    let config = EngineConfig::new(16 << 20, shards, CoreId(1), HashSeed::new(7));
    let mut ks = Keyspace::new(config).unwrap();
    let told = Told::of(&mut ks);
    let own: Vec<ShardId> = (0..8).map(ShardId).filter(|&shard| shards.core_of(shard) == CoreId(1)).collect();
    assert_eq!(own.len(), 4);
    ks.clear();
    let cleared = |shards: &[ShardId]| shards.iter().copied().map(Effect::Clear).collect::<Vec<_>>();
    assert_eq!(told.take(), cleared(&own));
    ks.clear_shard(own[1]);
    assert_eq!(told.take(), cleared(&own[1..2]));
}

#[test]
fn versions_begin_above_the_floor() {
    let mut ks = tiny(MemoryPolicy::Reject, 4);
    ks.set_version_floor(1 << 61);
    ks.set_version_floor(5);
    ks.set(&ks.key(b"a"), b"1", Deadline::NEVER).unwrap();
    let version = ks.version(&ks.key(b"a")).unwrap().unwrap();
    assert!(version.0 > 1 << 61);
    ks.set(&ks.key(b"a"), b"1", Deadline::NEVER).unwrap();
    assert!(ks.version(&ks.key(b"a")).unwrap().unwrap() > version);
}

#[test]
fn what_the_log_has_no_room_for_changes_nothing() {
    let mut ks = tiny(MemoryPolicy::Evict, 4);
    let told = Told::of(&mut ks);
    ks.set(&ks.key(b"a"), b"1", Deadline::NEVER).unwrap();
    told.take();
    told.room.set(1);
    assert_eq!(ks.set(&ks.key(b"a"), b"22", Deadline::NEVER), Err(WriteError::LogFull));
    assert_eq!(ks.set_parts(&ks.key(b"b"), &[b"2", b"2"], Deadline::NEVER), Err(WriteError::LogFull));
    assert_eq!(told.take(), []);
    let entry = ks.peek(&ks.key(b"a")).unwrap();
    assert_eq!(bytes_of(entry.value), b"1");
    assert!(ks.peek(&ks.key(b"b")).is_none());
    assert!(ks.delete(&ks.key(b"a")), "a delete is small, and makes room");
    assert_eq!(told.take(), [Effect::Delete(b"a".to_vec())]);
}
