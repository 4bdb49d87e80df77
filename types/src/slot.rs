//! Hash slots as Redis Cluster defines them: CRC16 (XMODEM) of the key, or of its hash tag, mod 16384.

use crate::ids::{CoreId, ShardId};

/// The number of hash slots of a cluster.
pub const SLOT_COUNT: u16 = 16_384;

/// A hash slot, the unit of placement: `0..SLOT_COUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// `TABLES[0]` is the byte-wise table; `TABLES[k]` advances a byte by k further zero bytes, so that
/// eight bytes are folded with eight independent loads (slicing-by-8, Kounavis and Berry 2005).
static TABLES: [[u16; 256]; 8] = build_tables();

const fn build_tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let previous = tables[k - 1][byte];
            tables[k][byte] = (previous << 8) ^ tables[0][(previous >> 8) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, no reflection.
///
/// With the initial value 0, zero bytes in front change nothing: what is left over from whole blocks
/// of eight is taken first, as a block that begins with zeros, so that no byte is folded alone.
#[inline]
#[must_use]
pub fn crc16(data: &[u8]) -> u16 {
    let (head, blocks) = data.split_at(data.len() % 8);
    let head = match data.first_chunk::<8>() {
        Some(first) if !head.is_empty() => u64::from_be_bytes(*first) >> (64 - 8 * head.len()),
        Some(_) => 0,
        None => head.iter().fold(0u64, |block, &byte| block << 8 | u64::from(byte)),
    };
    blocks.as_chunks::<8>().0.iter().fold(fold(0, head), |crc, block| fold(crc, u64::from_be_bytes(*block)))
}

/// The CRC behind eight more bytes, given as a big-endian number.
#[inline(always)]
fn fold(crc: u16, block: u64) -> u16 {
    let bytes = (block ^ u64::from(crc) << 48).to_be_bytes();
    TABLES[7][usize::from(bytes[0])]
        ^ TABLES[6][usize::from(bytes[1])]
        ^ TABLES[5][usize::from(bytes[2])]
        ^ TABLES[4][usize::from(bytes[3])]
        ^ TABLES[3][usize::from(bytes[4])]
        ^ TABLES[2][usize::from(bytes[5])]
        ^ TABLES[1][usize::from(bytes[6])]
        ^ TABLES[0][usize::from(bytes[7])]
}

/// The part of a key that decides its slot: what stands between the first `{` and the next `}`, if
/// that is not empty, else the whole key.
#[inline]
#[must_use]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    if has_brace(key) { tag_behind_brace(key) } else { key }
}

/// Whether there is a `{` in the key: eight bytes at a time, since nearly no key has one.
#[inline(always)]
fn has_brace(key: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // A byte is zero after the exclusive or where there was a brace, and only a zero byte borrows.
    let any = |word: u64| {
        let word = word ^ (ONES * b'{' as u64);
        word.wrapping_sub(ONES) & !word & (ONES << 7) != 0
    };
    match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(first), Some(last)) if key.len() <= 16 => {
            any(u64::from_le_bytes(*first)) | any(u64::from_le_bytes(*last))
        }
        _ => key.contains(&b'{'),
    }
}

#[cold]
fn tag_behind_brace(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        None | Some(0) => key,
        Some(len) => &rest[..len],
    }
}

/// The slot of a key.
#[inline]
#[must_use]
pub fn key_slot(key: &[u8]) -> Slot {
    Slot(crc16(hash_tag(key)) % SLOT_COUNT)
}

/// Which shard a slot belongs to and which core of this node owns that shard.
///
/// Shards are contiguous, equal slot ranges; shard `s` lives on core `s mod cores`, so that
/// neighbouring ranges spread over all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMap {
    shard_count: u16,
    core_count: u16,
}

impl ShardMap {
    /// # Panics
    /// If a count is 0 or there are more shards than slots.
    #[must_use]
    pub fn new(shard_count: u16, core_count: u16) -> Self {
        assert!(shard_count > 0 && shard_count <= SLOT_COUNT && core_count > 0);
        Self { shard_count, core_count }
    }

    /// The number of shards.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        self.shard_count
    }

    /// The number of cores.
    #[must_use]
    pub fn core_count(&self) -> u16 {
        self.core_count
    }

    /// The shard that holds a slot.
    #[inline]
    #[must_use]
    pub fn shard_of(&self, slot: Slot) -> ShardId {
        ShardId((u32::from(slot.0) * u32::from(self.shard_count) / u32::from(SLOT_COUNT)) as u16)
    }

    /// The core that owns a shard.
    #[inline]
    #[must_use]
    pub fn core_of(&self, shard: ShardId) -> CoreId {
        // Asked for every request: a division only where the number of cores demands one.
        if self.core_count.is_power_of_two() {
            CoreId(shard.0 & (self.core_count - 1))
        } else {
            CoreId(shard.0 % self.core_count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_values_of_the_redis_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(key_slot(b"foo"), Slot(12182));
        assert_eq!(key_slot(b"{user1000}.following"), key_slot(b"{user1000}.followers"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
    }

    proptest! {
        #[test]
        fn sliced_crc_equals_bytewise_crc(data in proptest::collection::vec(any::<u8>(), 0..70)) {
            let bytewise = data.iter().fold(0u16, |crc, &b| {
                (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ b)]
            });
            prop_assert_eq!(crc16(&data), bytewise);
        }
    }

    proptest! {
        #[test]
        fn braces_are_found_wherever_they_stand(mut key in proptest::collection::vec(any::<u8>(), 1..40), at in any::<usize>()) {
            prop_assert_eq!(has_brace(&key), key.contains(&b'{'));
            let at = at % key.len();
            key[at] = b'{';
            prop_assert!(has_brace(&key));
        }
    }

    #[test]
    fn every_slot_has_a_shard_and_ranges_are_contiguous() {
        for shards in [1u16, 3, 256, 16_384] {
            let map = ShardMap::new(shards, 2);
            let mut last = 0;
            for slot in 0..SLOT_COUNT {
                let shard = map.shard_of(Slot(slot)).0;
                assert!(shard == last || shard == last + 1);
                last = shard;
            }
            assert_eq!(last, shards - 1);
        }
    }
}
