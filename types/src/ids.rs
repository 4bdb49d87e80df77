//! Identities. Each is its own type, so that an index of one kind cannot be used as another.

/// A data core of this node: an index into the node's list of pinned cores, not a CPU number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// A shard: a range of slots that is owned, replicated and moved as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A connection of one core: a slab index and the generation of that entry, so that a late
/// completion or reply for a closed connection can never reach its successor in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Position in the core's connection slab.
    pub index: u32,
    /// How often that position was taken before, wrapping.
    pub generation: u32,
}

impl CoreId {
    /// The core as an index into per-core arrays.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl ShardId {
    /// The shard as an index into per-shard arrays.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl ConnId {
    /// The connection's position in the slab.
    #[must_use]
    pub fn slab_index(self) -> usize {
        self.index as usize
    }
}
