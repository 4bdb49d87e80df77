//! Visiting keys in an order that growth of the index does not disturb, and drawing one at random.

use pinnace_types::{Deadline, Prng, ShardId};

use super::{Keyspace, entry};
use crate::entry::Entry;
use crate::key::ScanCursor;

/// Home buckets that a scan visits at least before it stops for want of items.
const HOMES_MIN: usize = 64;

impl Keyspace {
    /// Visits the next `items_max` live items and a few more (all that share a bucket with the last
    /// one), or fewer where many buckets are empty; gives the position to go on from, or `None` at the
    /// end. An item that is there during the whole of a scan is visited exactly once, however much
    /// the index grows or shrinks between calls.
    pub fn scan(
        &mut self,
        cursor: ScanCursor,
        items_max: usize,
        visit: &mut dyn FnMut(&[u8], &Entry<'_>),
    ) -> Option<ScanCursor> {
        let shards = self.config.shards.shard_count();
        let (mut shard, mut position) = (cursor.shard().0, cursor.position());
        let (mut items, mut homes) = (0, 0);
        while shard < shards {
            if self.shard_len(ShardId(shard)) == 0 || position >> self.index.layout().hash_bits() > 0 {
                (shard, position) = (shard + 1, 0);
                continue;
            }
            if items >= items_max.max(1) || homes >= items_max.saturating_mul(4).max(HOMES_MIN) {
                return Some(ScanCursor::at(ShardId(shard), position));
            }
            homes += 1;
            let next = self.index.visit_home(shard, position, &mut |location| {
                items += usize::from(self.visit_item(location, visit));
            });
            (shard, position) = next.map_or((shard + 1, 0), |next| (shard, next));
        }
        None
    }

    /// Visits live items of one shard from a position on, which is 0 at first; gives the position to go on
    /// from, or `None` at the shard's end. Stops behind the bucket in which `visit` returned false, and
    /// after `homes_max` buckets. Every item is visited as by [`Self::scan`].
    pub fn scan_shard(
        &mut self,
        shard: ShardId,
        position: u64,
        homes_max: usize,
        visit: &mut dyn FnMut(&[u8], &Entry<'_>) -> bool,
    ) -> Option<u64> {
        let (mut position, mut goes_on) = (position, true);
        for _ in 0..homes_max.max(1) {
            if self.shard_len(shard) == 0 || position >> self.index.layout().hash_bits() > 0 {
                return None;
            }
            position = self.index.visit_home(shard.0, position, &mut |location| {
                let item = self.memory.item(location);
                if !Deadline::from_raw(item.deadline()).is_past(self.now) {
                    goes_on &= visit(item.key(), &entry(&self.large, item, 0));
                }
            })?;
            if !goes_on {
                break;
            }
        }
        Some(position)
    }

    fn visit_item(&self, location: u64, visit: &mut dyn FnMut(&[u8], &Entry<'_>)) -> bool {
        let item = self.memory.item(location);
        if Deadline::from_raw(item.deadline()).is_past(self.now) {
            return false;
        }
        let found = self.find(&self.key(item.key()));
        let frequency = found.map_or(0, |found| found.frequency());
        visit(item.key(), &entry(&self.large, item, frequency));
        true
    }

    /// Writes a random live key to `out`; false if there is none. Keys after a gap in the hash order
    /// are drawn somewhat more often than others.
    pub fn random_key(&mut self, prng: &mut Prng, out: &mut Vec<u8>) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut left = prng.below(self.len());
        let shard = (0..self.config.shards.shard_count()).map(ShardId).find(|&shard| {
            let len = self.shard_len(shard);
            let is_here = left < len;
            left = left.saturating_sub(len);
            is_here
        });
        let shard = shard.expect("the shards' lengths add up to the length");
        let position = prng.below(1 << self.index.layout().hash_bits());
        // From a random place to the end, then from the beginning: whatever is live is met.
        [ScanCursor::at(shard, position), ScanCursor::START]
            .into_iter()
            .any(|from| self.pick_from(from, prng, out))
    }

    /// Picks one of the first keys at or after a position.
    fn pick_from(&mut self, from: ScanCursor, prng: &mut Prng, out: &mut Vec<u8>) -> bool {
        let mut next = Some(from);
        let mut seen = 0;
        while let (Some(cursor), 0) = (next, seen) {
            next = self.scan(cursor, 1, &mut |key, _| {
                seen += 1;
                if prng.below(seen) == 0 {
                    out.clear();
                    out.extend_from_slice(key);
                }
            });
        }
        seen > 0
    }
}
