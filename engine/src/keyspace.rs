//! The keyspace of one core.

use std::collections::BTreeMap;
use std::ops::Bound;

use pinnace_mem::LargeValue;
use pinnace_types::{CoreId, Deadline, Prng, ShardId, ShardMap, UnixMillis, key_slot};

use crate::config::{EngineConfig, MemoryPolicy};
use crate::entry::{Entry, ValueKind, ValueRef, Version};
use crate::error::{EngineError, WriteError};
use crate::key::{Key, ScanCursor};
use crate::stats::{EngineStats, MemoryUse};

type Place = (u16, u32, Box<[u8]>);

enum Value {
    Bytes(Box<[u8]>),
    Large(LargeValue),
}

struct Item {
    value: Value,
    deadline: Deadline,
    frequency: u8,
    version: Option<Version>,
}

impl Item {
    fn value(&self) -> ValueRef<'_> {
        match &self.value {
            Value::Bytes(bytes) => ValueRef::Bytes(bytes),
            Value::Large(large) => ValueRef::Large(large),
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            value: self.value(),
            deadline: self.deadline,
            frequency: self.frequency,
            kind: ValueKind::String,
            version: self.version,
        }
    }
}

/// All keys of one core.
pub struct Keyspace {
    config: EngineConfig,
    items: BTreeMap<Place, Item>,
    bytes: u64,
    now: UnixMillis,
    versions: u64,
    stats: EngineStats,
}

/// Values longer than this are kept in blocks of their own.
const LARGE_BYTES: usize = 64 << 10;

impl Keyspace {
    /// Builds an empty keyspace.
    ///
    /// # Errors
    /// When the budget is too small or a setting is out of range.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        if config.key_bytes_max > 65_535 {
            return Err(EngineError::Setting { setting: "key_bytes_max", allowed: "at most 65535" });
        }
        let stats = EngineStats::default();
        Ok(Self { config, items: BTreeMap::new(), bytes: 0, now: UnixMillis(0), versions: 0, stats })
    }

    /// Tells the time.
    #[inline]
    pub fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
    }

    /// The time as last told.
    #[inline]
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// This core.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.config.core
    }

    /// Which shards there are.
    #[must_use]
    pub fn shards(&self) -> ShardMap {
        self.config.shards
    }

    /// Computes what every other call needs of a key.
    #[inline]
    #[must_use]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key::new(bytes, self.config.hash_seed.hash(bytes), self.config.shards.shard_of(key_slot(bytes)))
    }

    /// Phase 1 of a batch: fetches the index bucket.
    #[inline]
    pub fn prefetch_index(&self, _key: &Key<'_>) {}

    /// Phase 2 of a batch: fetches the item.
    #[inline]
    pub fn prefetch_item(&self, _key: &Key<'_>) {}

    fn place(key: &Key<'_>) -> Place {
        (key.shard().0, (key.hash().0 >> 37) as u32, Box::from(key.bytes()))
    }

    fn live(&mut self, key: &Key<'_>) -> Option<&mut Item> {
        let place = Self::place(key);
        let now = self.now;
        if self.items.get(&place)?.deadline.is_past(now) {
            self.remove(&place);
            self.stats.expired += 1;
            return None;
        }
        self.items.get_mut(&place)
    }

    fn remove(&mut self, place: &Place) -> bool {
        let Some(item) = self.items.remove(place) else { return false };
        self.bytes -= (place.2.len() + item.value().len() + 64) as u64;
        true
    }

    /// Looks a key up; counts the hit or miss, here and in the item's counter.
    pub fn get(&mut self, key: &Key<'_>) -> Option<Entry<'_>> {
        if self.live(key).is_none() {
            self.stats.misses += 1;
            return None;
        }
        self.stats.hits += 1;
        self.live(key).map(|item| {
            item.frequency = (item.frequency + 1).min(3);
            item.entry()
        })
    }

    /// Looks a key up without a trace.
    pub fn peek(&mut self, key: &Key<'_>) -> Option<Entry<'_>> {
        self.live(key).map(|item| item.entry())
    }

    /// Writes a value.
    ///
    /// # Errors
    /// When a length is over its limit or there is no memory; nothing is changed then.
    pub fn set(&mut self, key: &Key<'_>, value: &[u8], deadline: Deadline) -> Result<(), WriteError> {
        self.set_parts(key, &[value], deadline)
    }

    /// Writes a value that is given in pieces.
    ///
    /// # Errors
    /// As [`Keyspace::set`].
    pub fn set_parts(
        &mut self,
        key: &Key<'_>,
        parts: &[&[u8]],
        deadline: Deadline,
    ) -> Result<(), WriteError> {
        let len = parts.iter().map(|p| p.len() as u64).sum::<u64>();
        let (key_max, value_max) = (self.config.key_bytes_max, self.config.value_bytes_max);
        if key.bytes().len() > key_max as usize {
            return Err(WriteError::KeyTooLong { len: key.bytes().len(), max: key_max });
        }
        if len > value_max {
            return Err(WriteError::ValueTooLarge { len, max: value_max });
        }
        let version = self.live(key).map(|item| (item.frequency, item.version));
        let need = key.bytes().len() as u64 + len + 64;
        self.make_room(need)?;
        let (frequency, version) = version.unwrap_or((0, None));
        let version = version.map(|_| self.next_version());
        let bytes = parts.concat();
        let value = if bytes.len() > LARGE_BYTES {
            Value::Large(LargeValue::from(bytes.as_slice()))
        } else {
            Value::Bytes(bytes.into_boxed_slice())
        };
        let place = Self::place(key);
        self.remove(&place);
        self.bytes += need;
        self.stats.sets += 1;
        self.items.insert(place, Item { value, deadline, frequency, version });
        Ok(())
    }

    fn make_room(&mut self, need: u64) -> Result<(), WriteError> {
        if need > self.config.memory_bytes {
            return Err(WriteError::OutOfMemory);
        }
        while self.bytes + need > self.config.memory_bytes {
            if self.config.policy == MemoryPolicy::Reject {
                self.stats.out_of_memory += 1;
                return Err(WriteError::OutOfMemory);
            }
            let place = self.items.keys().next().expect("bytes are counted only for items").clone();
            self.remove(&place);
            self.stats.evicted += 1;
        }
        Ok(())
    }

    fn next_version(&mut self) -> Version {
        self.versions += 1;
        Version(self.versions)
    }

    /// Removes a key; true if it was live.
    pub fn delete(&mut self, key: &Key<'_>) -> bool {
        let was_live = self.live(key).is_some();
        if was_live {
            self.remove(&Self::place(key));
            self.stats.deletes += 1;
        }
        was_live
    }

    /// Changes when a key expires; false if it is absent.
    ///
    /// # Errors
    /// When the deadline needs room that is not there.
    pub fn set_deadline(&mut self, key: &Key<'_>, deadline: Deadline) -> Result<bool, WriteError> {
        let next = self.versions + 1;
        let Some(item) = self.live(key) else { return Ok(false) };
        item.deadline = deadline;
        item.version = item.version.map(|_| Version(next));
        self.versions = next;
        Ok(true)
    }

    /// The version of a key, from now on changed by every write to it.
    ///
    /// # Errors
    /// When the version needs room that is not there.
    pub fn version(&mut self, key: &Key<'_>) -> Result<Option<Version>, WriteError> {
        let next = self.versions + 1;
        let Some(item) = self.live(key) else { return Ok(None) };
        let version = *item.version.get_or_insert(Version(next));
        self.versions = next;
        Ok(Some(version))
    }

    /// Visits at least the next `items_max` live items, if there are that many, in an order that
    /// no growth of the index disturbs; gives the position to go on from, or `None` at the end.
    pub fn scan(
        &mut self,
        cursor: ScanCursor,
        items_max: usize,
        visit: &mut dyn FnMut(&[u8], &Entry<'_>),
    ) -> Option<ScanCursor> {
        let from: Place = (cursor.shard().0, cursor.hash_position(), Box::default());
        let mut visited = 0;
        let mut last = None;
        for (place, item) in self.items.range((Bound::Included(from), Bound::Unbounded)) {
            let position = (place.0, place.1);
            if visited >= items_max && last != Some(position) {
                return Some(ScanCursor::at(ShardId(place.0), place.1));
            }
            last = Some(position);
            if !item.deadline.is_past(self.now) {
                visited += 1;
                visit(&place.2, &item.entry());
            }
        }
        None
    }

    /// Writes a random live key to `out`; false if there is none.
    pub fn random_key(&mut self, prng: &mut Prng, out: &mut Vec<u8>) -> bool {
        let now = self.now;
        let live = || self.items.iter().filter(|(_, item)| !item.deadline.is_past(now));
        let count = live().count() as u64;
        if count == 0 {
            return false;
        }
        let pick = prng.below(count) as usize;
        out.clear();
        out.extend_from_slice(&live().nth(pick).expect("pick is below the count").0.2);
        true
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }

    /// Removes everything of one shard.
    pub fn clear_shard(&mut self, shard: ShardId) {
        let places: Vec<Place> = self.items.keys().filter(|p| p.0 == shard.0).cloned().collect();
        for place in places {
            self.remove(&place);
        }
    }

    /// Number of items; expired ones count until they are found.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of items of one shard.
    #[must_use]
    pub fn shard_len(&self, shard: ShardId) -> u64 {
        self.items.keys().filter(|p| p.0 == shard.0).count() as u64
    }

    /// Number of items that have a deadline.
    #[must_use]
    pub fn deadlines_len(&self) -> u64 {
        self.items.values().filter(|item| item.deadline != Deadline::NEVER).count() as u64
    }

    /// Does at most about `work_max` items' worth of background work; true if there is more.
    pub fn maintain(&mut self, _work_max: u32) -> bool {
        let now = self.now;
        let is_past = |item: &Item| item.deadline.is_past(now);
        let places: Vec<Place> =
            self.items.iter().filter(|(_, item)| is_past(item)).map(|(place, _)| place.clone()).collect();
        for place in places {
            self.remove(&place);
            self.stats.expired += 1;
        }
        false
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// Sets every counter to zero.
    pub fn reset_stats(&mut self) {
        self.stats = EngineStats::default();
    }

    /// Where the budget is.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        let budget = self.config.memory_bytes;
        MemoryUse {
            budget,
            segments: self.bytes,
            live: self.bytes,
            free: budget - self.bytes,
            ..MemoryUse::default()
        }
    }

    /// Bytes that an item takes, its index slot included.
    pub fn item_bytes(&mut self, key: &Key<'_>) -> Option<u64> {
        let key_len = key.bytes().len();
        self.live(key).map(|item| (key_len + item.value().len() + 64) as u64)
    }

    /// What a full budget means from now on.
    pub fn set_policy(&mut self, policy: MemoryPolicy) {
        self.config.policy = policy;
    }

    /// Changes the small queue's share.
    pub fn set_small_share_percent(&mut self, percent: u8) {
        self.config.small_share_percent = percent;
    }

    /// Changes the hits that let an item into the main queue.
    pub fn set_promote_threshold(&mut self, hits: u8) {
        self.config.promote_threshold = hits;
    }

    /// Changes how much the ghost remembers.
    pub fn set_ghost_percent(&mut self, percent: u8) {
        self.config.ghost_percent = percent;
    }
}
