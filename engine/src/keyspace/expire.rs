//! Expired items: absent at once for who asks, and found by walks for their memory's sake.

use pinnace_mem::Found;
use pinnace_types::Deadline;

use super::Keyspace;
use super::place::WALK_SHIFT;
use crate::expiry::Walk;
use crate::segment::{NONE, Role};

/// How often segments that are still appended to are looked at, in ms.
const OPEN_CHECK_MS: u64 = 100;

impl Keyspace {
    /// Buries an expired item that a lookup found.
    #[cold]
    pub(super) fn expire_found(&mut self, found: &Found) {
        self.index.remove(found);
        self.bury(found.location);
        self.stats.expired += 1;
    }

    /// Walks on over at most `items_max` items of a segment whose time has come; true if there is
    /// more to do.
    pub(super) fn walk_step(&mut self, items_max: u32) -> bool {
        let Some(walk) = self.expiry.walk.or_else(|| self.begin_walk()) else { return false };
        let segment = walk.segment;
        let start = self.memory.start_of(segment);
        let mut offset = walk.offset;
        for _ in 0..items_max {
            if offset >= self.segments.at(segment).used {
                self.end_walk(walk);
                return self.expiry.is_due(self.now.0);
            }
            let location = start + u64::from(offset);
            let header = self.memory.header(location);
            offset += header.item_bytes();
            if header.is_dead() || !header.has_deadline() {
                continue;
            }
            let item = self.memory.item(location);
            let deadline = item.deadline();
            if !Deadline::from_raw(deadline).is_past(self.now) {
                let weight = self.weight(location);
                self.expiry.left.add(deadline, weight);
                continue;
            }
            let (shard, hash) = self.coordinates(item.key());
            let found = self.index.find(shard, hash, |at| at == location).expect("a live item has its slot");
            self.expire_found(&found);
            if self.expiry.walk.is_none() {
                // That was the segment's last item.
                return self.expiry.is_due(self.now.0);
            }
        }
        self.expiry.walk = Some(Walk { segment, offset });
        true
    }

    fn begin_walk(&mut self) -> Option<Walk> {
        let segment = self.expiry.take_due(&self.segments, self.now.0)?;
        self.expiry.left.restart(self.now.0);
        let walk = Walk { segment, offset: 0 };
        self.expiry.walk = Some(walk);
        Some(walk)
    }

    fn end_walk(&mut self, walk: Walk) {
        self.expiry.walk = None;
        if let Some(role) = self.segments.role_of(walk.segment) {
            std::mem::swap(&mut self.segments.appender_mut(role).deadlines, &mut self.expiry.left);
            self.segments.at_mut(walk.segment).check_at = u64::MAX;
            return;
        }
        let threshold = u64::from(self.memory.segment_bytes() >> WALK_SHIFT);
        let due = self.expiry.left.due(threshold).unwrap_or(u64::MAX);
        self.expiry.schedule(&mut self.segments, walk.segment, due);
    }

    /// Has segments walked that are still appended to but hold enough expired bytes: a slowly filling
    /// one may stay open for longer than its items live.
    pub(super) fn check_open_segments(&mut self) {
        let now = self.now.0;
        if now < self.expiry.open_checked_at.saturating_add(OPEN_CHECK_MS) {
            return;
        }
        self.expiry.open_checked_at = now;
        let threshold = u64::from(self.memory.segment_bytes() >> WALK_SHIFT);
        for role in Role::ALL {
            let appender = self.segments.appender(role);
            let segment = appender.segment;
            if segment == NONE || self.segments.at(segment).check_at != u64::MAX {
                continue;
            }
            if let Some(due) = appender.deadlines.due(threshold).filter(|&due| due <= now) {
                self.expiry.schedule(&mut self.segments, segment, due);
            }
        }
    }
}
