//! The keyspace of one core: the public calls, and what they share.
//!
//! Writing, evicting, cleaning, expiring and scanning have their own files beside this one.

mod clean;
mod evict;
mod expire;
mod maintain;
mod place;
mod scan;
mod write;

use pinnace_mem::{Found, Index, Item, LargeValue, Memory, Spot};
use pinnace_types::{CoreId, Deadline, ShardId, ShardMap, UnixMillis, key_slot};

use crate::absence::Absences;
use crate::config::{EngineConfig, MemoryPolicy};
use crate::effect::EffectSink;
use crate::entry::{Entry, ValueKind, ValueRef, Version};
use crate::error::EngineError;
use crate::expiry::Expiry;
use crate::ghost::Ghost;
use crate::key::Key;
use crate::large::LargeValues;
use crate::segment::{QueueId, Segments};
use crate::sizing::{Sizing, divide};
use crate::stats::{EngineStats, MemoryUse};
use clean::Cleaner;
use evict::Evictor;

/// All keys of one core.
pub struct Keyspace {
    config: EngineConfig,
    sizing: Sizing,
    memory: Memory,
    index: Index,
    segments: Segments,
    large: LargeValues,
    ghost: Ghost,
    expiry: Expiry,
    cleaner: Cleaner,
    evictor: Evictor,
    now: UnixMillis,
    /// Hits count in the items' counters.
    touching: bool,
    /// The last version that was given out.
    versions: u64,
    /// Keys seen to be absent, once there has been one.
    absences: Option<Absences>,
    /// Items with a deadline.
    deadlines: u64,
    /// The next shard whose table is looked at for shrinking.
    shrink_shard: u16,
    /// Items have been evicted: a key that is absent may be in a log all the same.
    has_evicted: bool,
    /// Who is told of every change.
    sink: Option<Box<dyn EffectSink>>,
    stats: EngineStats,
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace").field("core", &self.config.core).field("len", &self.len()).finish()
    }
}

impl Keyspace {
    /// Builds an empty keyspace.
    ///
    /// # Errors
    /// When the budget is too small, a setting is out of range or the system refuses the addresses.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let sizing = divide(&config)?;
        let memory =
            Memory::new(sizing.segments, sizing.segment_shift, sizing.huge_pages).map_err(|error| {
                let bytes = u64::from(sizing.segments) << sizing.segment_shift;
                EngineError::Reserve { bytes, reason: error.to_string() }
            })?;
        Ok(Self {
            index: Index::new(&memory, config.shards.shard_count()),
            segments: Segments::new(sizing.segments),
            large: LargeValues::default(),
            ghost: Ghost::new(config.ghost, &memory),
            expiry: Expiry::new(sizing.segments),
            cleaner: Cleaner::default(),
            evictor: Evictor::default(),
            now: UnixMillis(0),
            touching: true,
            versions: 0,
            absences: None,
            deadlines: 0,
            shrink_shard: 0,
            has_evicted: false,
            sink: None,
            stats: EngineStats::default(),
            config,
            sizing,
            memory,
        })
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
    #[inline]
    #[must_use]
    pub fn shards(&self) -> ShardMap {
        self.config.shards
    }

    /// Computes what every other call needs of a key.
    #[inline(always)]
    #[must_use]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        let shards = self.config.shards;
        let shard = if shards.shard_count() == 1 { ShardId(0) } else { shards.shard_of(key_slot(bytes)) };
        Key::new(bytes, self.config.hash_seed.hash(bytes), shard)
    }

    /// Phase 1 of a batch: fetches the index bucket.
    #[inline]
    pub fn prefetch_index(&self, key: &Key<'_>) {
        self.index.prefetch(key.shard().0, key.hash().0);
    }

    /// Phase 2 of a batch: looks into the bucket, fetches the item and notes where it is, which spares
    /// phase 3 another search.
    #[inline]
    pub fn prefetch_item(&self, key: &mut Key<'_>) {
        *key = key.seen_at(self.spot(key));
    }

    /// Phase 2 for a key whose bytes are not at hand, for [`Key::seen_at`].
    #[inline(always)]
    #[must_use]
    pub fn spot(&self, key: &Key<'_>) -> Spot {
        let Some((spot, location)) = self.index.spot(key.shard().0, key.hash().0) else { return Spot::NONE };
        self.memory.prefetch(location);
        spot
    }

    /// The slot of a key, whether expired or not.
    #[inline]
    fn find(&self, key: &Key<'_>) -> Option<Found> {
        let (shard, hash) = (key.shard().0, key.hash().0);
        self.index.find_key_at(key.spot(), shard, hash, key.bytes(), &self.memory).map(|(found, _)| found)
    }

    /// The slot of a live key; an expired item is buried on the way.
    #[inline(always)]
    fn find_live(&mut self, key: &Key<'_>) -> Option<Found> {
        let (shard, hash) = (key.shard().0, key.hash().0);
        let (found, item) = self.index.find_key_at(key.spot(), shard, hash, key.bytes(), &self.memory)?;
        if item.header.has_deadline() && Deadline::from_raw(item.deadline()).is_past(self.now) {
            self.expire_found(&found);
            return None;
        }
        Some(found)
    }

    /// Looks a key up; counts the hit or miss, here and in the item's counter.
    #[inline]
    pub fn get(&mut self, key: &Key<'_>) -> Option<Entry<'_>> {
        let Some(found) = self.find_live(key) else {
            self.stats.misses = self.stats.misses.wrapping_add(1);
            return None;
        };
        self.stats.hits = self.stats.hits.wrapping_add(1);
        if self.touching {
            self.index.touch(&found);
        }
        Some(entry(&self.large, self.memory.item(found.location), found.frequency()))
    }

    /// Looks a key up without a trace.
    #[inline]
    pub fn peek(&mut self, key: &Key<'_>) -> Option<Entry<'_>> {
        let found = self.find_live(key)?;
        Some(entry(&self.large, self.memory.item(found.location), found.frequency()))
    }

    /// Whether a hit counts for the item from now on; true at first. Off while a client reads that does
    /// not want to keep items alive (CLIENT NO-TOUCH).
    #[inline]
    pub fn set_touching(&mut self, touching: bool) {
        self.touching = touching;
    }

    /// Names who is told of every change from now on; `None`: nobody. Gives back who was told before.
    pub fn set_effect_sink(&mut self, sink: Option<Box<dyn EffectSink>>) -> Option<Box<dyn EffectSink>> {
        std::mem::replace(&mut self.sink, sink)
    }

    /// Makes every version that is given out from now on greater than `floor`, so that none is one that
    /// an earlier run of the process may have given out.
    pub fn set_version_floor(&mut self, floor: u64) {
        self.versions = self.versions.max(floor);
    }

    /// Number of items; expired ones count until they are found.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.index.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of items of one shard.
    #[must_use]
    pub fn shard_len(&self, shard: ShardId) -> u64 {
        self.index.shard_len(shard.0)
    }

    /// Number of items that have a deadline.
    #[must_use]
    pub fn deadlines_len(&self) -> u64 {
        self.deadlines
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
        let segment_bytes = u64::from(self.memory.segment_bytes());
        let free = u64::from(self.memory.free_segments()) * segment_bytes;
        let total = u64::from(self.memory.segment_count()) * segment_bytes;
        let ghost = self.ghost.page_bytes();
        MemoryUse {
            budget: self.config.memory_bytes,
            index: self.memory.page_bytes() - ghost,
            ghost,
            metadata: self.sizing.fixed_bytes + self.index.list_bytes() + self.memory.large_list_bytes(),
            segments: total - free,
            live: self.segments.live + self.large.value_bytes(),
            dead: self.segments.dead(self.memory.segment_bytes()) + self.segments.waste,
            free,
            large: self.memory.large_bytes(),
        }
    }

    /// Bytes that an item takes, its index slot included.
    pub fn item_bytes(&mut self, key: &Key<'_>) -> Option<u64> {
        /// A slot at the load at which a table grows: 8 B / (7 / 8), rounded.
        const SLOT_BYTES: u64 = 9;
        let found = self.find_live(key)?;
        let item = self.memory.item(found.location);
        let large = item.large_id().map_or(0, |id| self.large.get(id).len() as u64);
        Some(u64::from(item.header.item_bytes()) + large + SLOT_BYTES)
    }

    /// What a full budget means from now on.
    pub fn set_policy(&mut self, policy: MemoryPolicy) {
        self.config.policy = policy;
    }

    /// Changes the small queue's share, within 1 to 90.
    pub fn set_small_share_percent(&mut self, percent: u8) {
        self.config.small_share_percent = percent.clamp(1, 90);
    }

    /// Changes the hits that let an item into the main queue.
    pub fn set_promote_threshold(&mut self, hits: u8) {
        self.config.promote_threshold = hits;
    }

    /// Changes how much the ghost remembers.
    pub fn set_ghost_percent(&mut self, percent: u8) {
        self.config.ghost_percent = percent;
    }

    /// Shard and hash of a key in the log.
    #[inline]
    fn coordinates(&self, key: &[u8]) -> (u16, u64) {
        let key = self.key(key);
        (key.shard().0, key.hash().0)
    }

    /// Which queue the item at a location is in.
    #[inline]
    fn queue_of(&self, location: u64) -> QueueId {
        self.segments.at(self.memory.segment_of(location)).queue
    }
}

/// What a caller sees of an item.
#[inline(always)]
fn entry<'a>(large: &'a LargeValues, item: Item<'a>, frequency: u8) -> Entry<'a> {
    let value = match item.large_id() {
        None => ValueRef::Bytes(item.value()),
        Some(id) => ValueRef::Large(large.get(id)),
    };
    Entry {
        value,
        deadline: Deadline::from_raw(item.deadline()),
        frequency,
        kind: ValueKind::String,
        version: item.version().map(Version),
    }
}

/// A large value's handle, for what is returned across modules.
type Large = LargeValue;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify;
