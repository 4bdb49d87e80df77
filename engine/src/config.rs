//! What a keyspace is built from.

use pinnace_types::{CoreId, HashSeed, ShardMap};

/// What happens to a write when the budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// Items that are asked for least make room.
    Evict,
    /// The write fails, reads go on; only expired and deleted items make room.
    Reject,
}

/// How evicted keys are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GhostKind {
    /// 16-bit fingerprints in hashed buckets: 4 bytes a key, a rare false positive.
    Fingerprint,
    /// Whole hashes in exact order: what a policy test compares with, at several times the memory.
    Exact,
}

/// The configuration of one core's keyspace.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The exact budget of this core: segments, index, ghost and metadata together.
    pub memory_bytes: u64,
    /// Which shards there are and which core owns them.
    pub shards: ShardMap,
    /// This core.
    pub core: CoreId,
    /// Bytes of a segment, a power of two; `None` chooses from the budget.
    pub segment_bytes: Option<u32>,
    /// What a full budget means for writes.
    pub policy: MemoryPolicy,
    /// Share of the small queue in percent (S3-FIFO: 10).
    pub small_share_percent: u8,
    /// Hits within the small queue that let an item into the main queue (S3-FIFO: 2).
    pub promote_threshold: u8,
    /// Keys the ghost remembers, in percent of the resident items (S3-FIFO: 90).
    pub ghost_percent: u8,
    /// The secret of the key hash.
    pub hash_seed: HashSeed,
    /// Longest value that is accepted.
    pub value_bytes_max: u64,
    /// Longest key that is accepted, at most 65,535.
    pub key_bytes_max: u32,
    /// Bounds the number of items instead of their bytes: for tests of the eviction policy.
    pub capacity_items: Option<u64>,
    /// How evicted keys are remembered.
    pub ghost: GhostKind,
}

impl EngineConfig {
    /// The defaults for one core that owns every shard.
    #[must_use]
    pub fn new(memory_bytes: u64, shards: ShardMap, core: CoreId, hash_seed: HashSeed) -> Self {
        Self {
            memory_bytes,
            shards,
            core,
            segment_bytes: None,
            policy: MemoryPolicy::Evict,
            small_share_percent: 10,
            promote_threshold: 2,
            ghost_percent: 90,
            hash_seed,
            value_bytes_max: 512 << 20,
            key_bytes_max: 65_535,
            capacity_items: None,
            ghost: GhostKind::Fingerprint,
        }
    }
}
