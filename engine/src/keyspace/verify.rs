//! A walk through everything that checks the invariants, for tests.

use std::collections::BTreeMap;

use pinnace_types::ShardId;

use super::Keyspace;
use crate::segment::{NONE, QueueId, Role};

#[derive(Default)]
struct Sums {
    items: u64,
    bytes: u64,
    large: usize,
    deadlines: u64,
}

impl Keyspace {
    /// # Panics
    /// If an invariant does not hold.
    pub(crate) fn verify(&self) {
        let mut sums = Sums::default();
        let mut order = BTreeMap::new();
        for queue in [QueueId::Small, QueueId::Main] {
            self.verify_queue(queue, &mut sums, &mut order);
        }
        assert_eq!(order.len() as u32, self.segments.listed);
        assert_eq!(order.len() as u32, self.memory.log_segments());
        assert_eq!(sums.items, self.len());
        assert_eq!(sums.bytes, self.segments.live);
        assert_eq!(sums.deadlines, self.deadlines);
        assert_eq!(sums.large, self.large.len());
        self.verify_index();
        self.verify_budget();
    }

    fn verify_queue(&self, id: QueueId, sums: &mut Sums, order: &mut BTreeMap<u32, u64>) {
        let queue = self.segments.queue(id);
        let (mut items, mut bytes, mut newer, mut last_order) = (0, 0, NONE, u64::MAX);
        let mut at = queue.head;
        while at != NONE {
            let segment = self.segments.at(at);
            assert!(segment.is_listed && segment.queue == id && segment.newer == newer);
            assert!(segment.order <= last_order && order.insert(at, segment.order).is_none());
            assert_eq!(segment.is_sealed, self.segments.role_of(at).is_none());
            assert!(!segment.is_sealed || segment.live > 0, "sealed segments without live items go back");
            let cursor = if segment.older == NONE { queue.cursor } else { 0 };
            let before = items;
            let live = self.verify_segment(at, cursor, sums, &mut items, &mut bytes);
            assert_eq!(live, segment.live, "segment {at}, {} items", items - before);
            (newer, last_order, at) = (at, segment.order, segment.older);
        }
        sums.items += items;
        assert_eq!(queue.tail, newer);
        assert_eq!((queue.items, queue.bytes), (items, bytes));
    }

    fn verify_segment(&self, id: u32, cursor: u32, sums: &mut Sums, items: &mut u64, bytes: &mut u64) -> u32 {
        let start = self.memory.start_of(id);
        let (mut offset, mut live) = (0, 0);
        while offset < self.segments.at(id).used {
            let location = start + u64::from(offset);
            let header = self.memory.header(location);
            if !header.is_dead() {
                assert!(offset >= cursor, "what the cursor has passed is dead");
                let item = self.memory.item(location);
                let (shard, hash) = self.coordinates(item.key());
                assert!(self.index.find(shard, hash, |at| at == location).is_some());
                let large = item.large_id().map_or(0, |id| self.large.get(id).len() as u64);
                live += header.item_bytes();
                *items += 1;
                *bytes += u64::from(header.item_bytes()) + large;
                sums.large += usize::from(item.header.is_large());
                sums.deadlines += u64::from(item.deadline() != 0);
            }
            offset += header.item_bytes();
        }
        assert_eq!(offset, self.segments.at(id).used);
        sums.bytes += u64::from(live);
        live
    }

    fn verify_index(&self) {
        let mut slots = 0;
        for shard in 0..self.config.shards.shard_count() {
            let mut from = Some(0);
            while let Some(position) = from {
                from = self.index.visit_home(shard, position, &mut |location| {
                    slots += 1;
                    let item = self.memory.item(location);
                    assert!(!item.header.is_dead(), "a slot leads to a live item");
                    assert_eq!(self.key(item.key()).shard(), ShardId(shard));
                });
            }
        }
        assert_eq!(slots, self.len());
    }

    fn verify_budget(&self) {
        let memory = self.memory();
        assert_eq!(memory.segments + memory.free, {
            u64::from(self.memory.segment_count()) * u64::from(self.memory.segment_bytes())
        });
        let lists = self.index.list_bytes() + self.memory.large_list_bytes();
        let held_back = lists.saturating_sub(self.sizing.lists_bytes).min(memory.free);
        assert!(
            memory.segments + self.sizing.fixed_bytes + lists.min(self.sizing.lists_bytes) <= memory.budget
        );
        assert!(memory.segments + memory.metadata <= memory.budget + held_back + memory.free);
        let log = u64::from(self.segments.listed) * u64::from(self.memory.segment_bytes());
        let room = self.segments.open_room(self.memory.segment_bytes());
        assert_eq!(self.segments.live + memory.dead + room, log);
        for role in Role::ALL {
            let segment = self.segments.appender(role).segment;
            assert!(segment == NONE || !self.segments.at(segment).is_sealed);
        }
    }
}
