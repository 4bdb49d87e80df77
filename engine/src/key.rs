//! A key with everything that is computed from its bytes, and positions of a scan.

use pinnace_mem::Spot;
use pinnace_types::{KeyHash, ShardId};

/// A key, its hash and its shard: computed once per request, used by every call of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Key<'k> {
    bytes: &'k [u8],
    hash: KeyHash,
    shard: ShardId,
    spot: Spot,
}

impl<'k> Key<'k> {
    /// From parts that [`crate::Keyspace::key`] computed earlier for the same bytes, on this or on
    /// another core of the same process.
    #[inline]
    #[must_use]
    pub fn from_parts(bytes: &'k [u8], hash: KeyHash, shard: ShardId) -> Self {
        Self { bytes, hash, shard, spot: Spot::NONE }
    }

    #[inline]
    pub(crate) fn new(bytes: &'k [u8], hash: KeyHash, shard: ShardId) -> Self {
        Self { bytes, hash, shard, spot: Spot::NONE }
    }

    /// The same key, seen where [`crate::Keyspace::spot`] says.
    #[inline]
    #[must_use]
    pub fn seen_at(self, spot: Spot) -> Self {
        Self { spot, ..self }
    }

    #[inline]
    pub(crate) fn spot(&self) -> &Spot {
        &self.spot
    }

    /// The key as it was sent.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'k [u8] {
        self.bytes
    }

    /// The shard that holds it.
    #[inline]
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Its hash under the process' seed.
    #[inline]
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        self.hash
    }
}

/// A position of a scan: all keys of earlier shards and smaller hashes have been visited. Always
/// below 2^48, so that a core's number fits in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanCursor(u64);

impl ScanCursor {
    /// Where a scan begins.
    pub const START: Self = Self(0);
    /// Bits of a position within a shard, at most; 14 bits are left for the shard.
    pub(crate) const POSITION_BITS: u32 = 34;

    pub(crate) fn at(shard: ShardId, position: u64) -> Self {
        debug_assert!(position < 1 << Self::POSITION_BITS);
        Self(u64::from(shard.0) << Self::POSITION_BITS | position)
    }

    pub(crate) fn shard(self) -> ShardId {
        ShardId((self.0 >> Self::POSITION_BITS) as u16)
    }

    pub(crate) fn position(self) -> u64 {
        self.0 & ((1 << Self::POSITION_BITS) - 1)
    }
}

impl From<u64> for ScanCursor {
    /// Any number is accepted, as any number may be sent: one past the end ends the scan.
    fn from(raw: u64) -> Self {
        Self(raw.min((1 << 48) - 1))
    }
}

impl From<ScanCursor> for u64 {
    fn from(cursor: ScanCursor) -> Self {
        cursor.0
    }
}
