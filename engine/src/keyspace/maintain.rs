//! Background work, and removing much at once.

use pinnace_types::ShardId;

use super::Keyspace;
use super::evict::{Evictor, Step};
use crate::expiry::Expiry;
use crate::segment::Segments;
use crate::sizing::LOW_SEGMENTS;

/// Items whose slots are collected before they are buried, when a shard is cleared.
const CLEAR_BATCH: usize = 64;

impl Keyspace {
    /// Does at most about `work_max` items' worth of background work: walks for expired items, growth
    /// of the index, cleaning, taking back what replies have borrowed. True if there is more to do now.
    pub fn maintain(&mut self, work_max: u32) -> bool {
        if self.memory.borrowed_large() > 0 {
            self.memory.reap_large();
        }
        self.check_open_segments();
        self.shrink_one_table();
        let mut busy = false;
        if self.expiry.is_due(self.now.0) {
            busy |= self.walk_step(work_max);
        }
        if self.index_may_grow() {
            busy |= self.index.stream(work_max.div_ceil(8).max(1), &mut self.memory);
        }
        busy | self.clean_ahead(work_max)
    }

    /// Cleans while free segments are few, so that writers find some.
    fn clean_ahead(&mut self, work_max: u32) -> bool {
        if self.memory.free_segments() > LOW_SEGMENTS && !self.is_cleaning() {
            return false;
        }
        for _ in 0..work_max.div_ceil(8) {
            if self.clean_step() == Step::Idle {
                return false;
            }
        }
        self.is_cleaning()
    }

    /// Whether pages for the index can be had without taking the last free segments.
    pub(super) fn index_may_grow(&self) -> bool {
        self.memory.free_pages() >= 4 || self.memory.free_segments() > 2
    }

    fn shrink_one_table(&mut self) {
        self.shrink_shard = (self.shrink_shard + 1) % self.config.shards.shard_count();
        if self.index_may_grow() {
            self.index.shrink_if_sparse(self.shrink_shard, &mut self.memory);
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.clear_now();
        let (shards, core) = (self.config.shards, self.config.core);
        if let Some(sink) = &mut self.sink {
            let all = (0..shards.shard_count()).map(ShardId);
            all.filter(|&shard| shards.core_of(shard) == core).for_each(|shard| sink.clear(shard));
        }
    }

    fn clear_now(&mut self) {
        for shard in 0..self.config.shards.shard_count() {
            self.index.clear_shard(shard, &mut self.memory);
        }
        self.memory.end_drain();
        for value in self.large.take_all() {
            self.memory.release_large(value);
        }
        let listed: Vec<_> = self.segments.listed().collect();
        for segment in listed {
            self.memory.give_back_log_segment(segment);
        }
        self.segments = Segments::new(self.memory.segment_count());
        self.expiry = Expiry::new(self.memory.segment_count());
        self.cleaner = super::Cleaner::default();
        self.evictor = Evictor::default();
        self.ghost.clear(&mut self.memory);
        self.deadlines = 0;
    }

    /// Removes everything of one shard.
    pub fn clear_shard(&mut self, shard: ShardId) {
        if self.shard_len(shard) == self.len() {
            self.clear_now();
        } else {
            self.clear_shard_now(shard);
        }
        if let Some(sink) = &mut self.sink {
            sink.clear(shard);
        }
    }

    fn clear_shard_now(&mut self, shard: ShardId) {
        let mut from = Some(0);
        let mut batch = Vec::with_capacity(CLEAR_BATCH);
        while let Some(position) = from {
            from = self.index.visit_home(shard.0, position, &mut |location| batch.push(location));
            if batch.len() >= CLEAR_BATCH / 2 || from.is_none() {
                batch.iter().for_each(|&location| self.memory.prefetch_line(location));
                batch.drain(..).for_each(|location| self.bury(location));
            }
        }
        self.index.clear_shard(shard.0, &mut self.memory);
    }
}
