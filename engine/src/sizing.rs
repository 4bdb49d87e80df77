//! How a budget is divided.

use pinnace_mem::{Index, Memory, PAGE_BYTES};

use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::expiry::Expiry;
use crate::segment::{Role, Segments};

/// Free segments that only moves of items may take: evicting, promoting and cleaning each have one
/// segment half read and one half written, and must never wait for each other.
pub(crate) const RESERVE_SEGMENTS: u32 = 3;

/// Free segments below which writers pay for making room.
pub(crate) const LOW_SEGMENTS: u32 = RESERVE_SEGMENTS + 2;

/// Segments without which nothing works: the reserve, those that are appended to, some for items.
const SEGMENTS_MIN: u64 = LOW_SEGMENTS as u64 + Role::COUNT as u64 + 6;

/// Smallest segment that is chosen: smaller ones waste too much at their ends.
const SEGMENT_SHIFT_MIN: u32 = 15;

/// Largest segment: a megabyte is cleaned or evicted within a millisecond.
const SEGMENT_SHIFT_MAX: u32 = 20;

/// Segments that a budget is cut into, unless they become too small or too large for it.
const SEGMENTS_WANTED: u64 = 512;

/// Part of the budget set aside for lists on the heap that grow with use: page lists of tables
/// (8 B for 4 KiB) and block lists of large values. What they take beyond it is held back in segments.
const LISTS_SHARE: u64 = 512;

/// Budgets from which on huge pages are asked for: below, half of one is too much to round up to.
const HUGE_PAGES_BYTES_MIN: u64 = 32 << 20;

/// A divided budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizing {
    pub(crate) segments: u32,
    pub(crate) segment_shift: u32,
    pub(crate) huge_pages: bool,
    /// Heap bytes that do not change.
    pub(crate) fixed_bytes: u64,
    /// Heap bytes set aside for lists.
    pub(crate) lists_bytes: u64,
    /// Longest value that can be stored.
    pub(crate) value_bytes_max: u64,
}

/// The smallest segment that holds an item with the longest key.
fn key_shift(key_bytes_max: u32) -> u32 {
    (u64::from(key_bytes_max) + 64).next_power_of_two().ilog2()
}

/// The segment size to take, and the smallest one to take if the budget is too small for it.
fn segment_shifts(config: &EngineConfig) -> Result<(u32, u32), EngineError> {
    let lowest = key_shift(config.key_bytes_max);
    let Some(bytes) = config.segment_bytes else {
        let wanted = (config.memory_bytes / SEGMENTS_WANTED).max(1).ilog2();
        let lowest = lowest.max(SEGMENT_SHIFT_MIN);
        return Ok((wanted.clamp(lowest, SEGMENT_SHIFT_MAX.max(lowest)), lowest));
    };
    let allowed = bytes.is_power_of_two() && (13..=24).contains(&bytes.ilog2()) && bytes.ilog2() >= lowest;
    let range = "a power of two from 8 KiB to 16 MiB that holds the longest key";
    let refused = EngineError::Setting { setting: "segment_bytes", allowed: range };
    if allowed { Ok((bytes.ilog2(), bytes.ilog2())) } else { Err(refused) }
}

fn check(config: &EngineConfig) -> Result<(), EngineError> {
    let refuse = |setting, allowed| Err(EngineError::Setting { setting, allowed });
    if config.key_bytes_max > 65_535 {
        return refuse("key_bytes_max", "at most 65535");
    }
    if !(1..=90).contains(&config.small_share_percent) {
        return refuse("small_share_percent", "1 to 90");
    }
    if config.memory_bytes > 1 << 38 {
        return refuse("memory_bytes", "at most 256 GiB for one core");
    }
    Ok(())
}

/// Shards of the map that this core owns.
fn owned_shards(config: &EngineConfig) -> u64 {
    let (count, cores) = (config.shards.shard_count(), config.shards.core_count());
    u64::from(count.saturating_sub(config.core.0).div_ceil(cores)).max(1)
}

/// Divides a budget.
///
/// # Errors
/// When a setting is out of range, or the budget does not hold the smallest working keyspace.
pub(crate) fn divide(config: &EngineConfig) -> Result<Sizing, EngineError> {
    check(config)?;
    let (wanted, lowest) = segment_shifts(config)?;
    let larger = (lowest + 1..=wanted).rev().find_map(|shift| divide_into(config, shift).ok());
    larger.map_or_else(|| divide_into(config, lowest), Ok)
}

fn divide_into(config: &EngineConfig, segment_shift: u32) -> Result<Sizing, EngineError> {
    let shards = owned_shards(config);
    // Every shard may need a page, and a second one while it grows.
    let pages_min = (shards * 2 * PAGE_BYTES).div_ceil(1 << segment_shift);
    let segments_min = SEGMENTS_MIN + pages_min;
    let per_segment = Memory::bookkeeping_bytes_per_segment(segment_shift);
    let fixed = |segments: u64| {
        Index::fixed_bytes(config.shards.shard_count())
            + Segments::heap_bytes(segments)
            + Expiry::heap_bytes(segments)
            + segments * per_segment
    };
    let needed = |segments: u64| fixed(segments) + (segments << segment_shift);
    let lists_bytes = config.memory_bytes / LISTS_SHARE;
    let room = config.memory_bytes - lists_bytes;
    let segments = room.saturating_sub(needed(0)) / (needed(1) - needed(0));
    if segments < segments_min {
        let minimum_bytes = needed(segments_min + 1) * LISTS_SHARE / (LISTS_SHARE - 1) + PAGE_BYTES;
        let budget_bytes = config.memory_bytes;
        return Err(EngineError::BudgetTooSmall { budget_bytes, minimum_bytes, shards: shards as u32 });
    }
    let for_values = (segments - segments_min + 4) << segment_shift;
    Ok(Sizing {
        segments: segments as u32,
        segment_shift,
        huge_pages: config.memory_bytes >= HUGE_PAGES_BYTES_MIN,
        fixed_bytes: fixed(segments),
        lists_bytes,
        value_bytes_max: config.value_bytes_max.min(for_values),
    })
}

#[cfg(test)]
mod tests {
    use pinnace_types::{CoreId, HashSeed, ShardMap};

    use super::*;

    fn config(memory_bytes: u64, shards: u16) -> EngineConfig {
        EngineConfig::new(memory_bytes, ShardMap::new(shards, 1), CoreId(0), HashSeed::new(1))
    }

    #[test]
    fn everything_together_is_within_the_budget() {
        for memory_bytes in [8u64 << 20, 64 << 20, (64 << 20) + 12_345, 1 << 30, 100 << 30] {
            let sizing = divide(&config(memory_bytes, 256)).unwrap();
            let segments = u64::from(sizing.segments) << sizing.segment_shift;
            let all = segments + sizing.fixed_bytes + sizing.lists_bytes;
            assert!(all <= memory_bytes, "{sizing:?}");
            assert!(all + memory_bytes / 100 + (2 << sizing.segment_shift) >= memory_bytes, "{sizing:?}");
        }
    }

    #[test]
    fn too_small_a_budget_names_one_that_works() {
        for shards in [1, 256, 16_384] {
            let error = divide(&config(2 << 20, shards)).unwrap_err();
            let EngineError::BudgetTooSmall { minimum_bytes, .. } = error else { panic!("{error}") };
            assert!(divide(&config(minimum_bytes, shards)).is_ok(), "{shards}: {error}");
            assert!(divide(&config(minimum_bytes * 3 / 4, shards)).is_err(), "{shards}: {error}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let mut bad = config(64 << 20, 1);
        bad.segment_bytes = Some(100_000);
        assert!(divide(&bad).unwrap_err().to_string().contains("segment_bytes"));
        bad = config(64 << 20, 1);
        bad.small_share_percent = 0;
        assert!(divide(&bad).unwrap_err().to_string().contains("small_share_percent"));
    }
}
