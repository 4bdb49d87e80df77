//! Counters and memory accounting.

/// What the keyspace has done since it was built or since [`crate::Keyspace::reset_stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Lookups that found a live item.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Successful writes of a value.
    pub sets: u64,
    /// Writes that reused the old item's place.
    pub sets_in_place: u64,
    /// Items removed by a client.
    pub deletes: u64,
    /// Items removed because their deadline passed.
    pub expired: u64,
    /// Items removed to make room.
    pub evicted: u64,
    /// New items that the ghost remembered, and that therefore began in the main queue.
    pub ghost_hits: u64,
    /// Items that moved from the small queue to the main queue.
    pub promoted: u64,
    /// Items that got another round in the main queue.
    pub reinserted: u64,
    /// Bytes copied by cleaning.
    pub cleaned_bytes: u64,
    /// Segments emptied by cleaning.
    pub cleaned_segments: u64,
    /// Writes refused for want of memory.
    pub out_of_memory: u64,
    /// Index tables that began to grow.
    pub index_growths: u64,
}

/// Where the budget is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// The budget of this core.
    pub budget: u64,
    /// Index tables.
    pub index: u64,
    /// The ghost.
    pub ghost: u64,
    /// Segment descriptors and other bookkeeping.
    pub metadata: u64,
    /// Segments that hold items or blocks, whole.
    pub segments: u64,
    /// Live items: headers, keys and values, large ones included.
    pub live: u64,
    /// Overwritten, deleted, expired or evicted bytes in segments that are still in use.
    pub dead: u64,
    /// What segments may still take.
    pub free: u64,
    /// Blocks of large values, the pinned ones that are already replaced included.
    pub large: u64,
}
