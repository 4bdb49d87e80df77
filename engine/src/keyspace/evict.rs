//! S3-FIFO: which item goes when room is needed.
//!
//! New items enter the small queue, remembered ones (see `ghost.rs`) the main one. At the small
//! queue's tail an item with enough hits moves to the main queue, another one is evicted and
//! remembered. At the main queue's tail an item with a hit goes round again with one hit less, another
//! one is evicted. One item is looked at in a step, so that writers pay in small coin.

use pinnace_types::Deadline;

use super::Keyspace;
use crate::config::MemoryPolicy;
use crate::error::WriteError;
use crate::segment::{NONE, QueueId};
use crate::sizing::{LOW_SEGMENTS, RESERVE_SEGMENTS};

/// Steps that a write pays at most while it can be placed without them.
const PACED_STEPS_MAX: u32 = 48;

/// Steps of one write after which items are evicted whatever their counter: a bound on its time when
/// everything resident is hot.
const PATIENCE_STEPS: u32 = 4096;

/// The next item at a tail, with what its index slot is found by.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    location: u64,
    shard: u16,
    hash: u64,
}

/// What eviction remembers between steps.
#[derive(Debug, Default)]
pub(super) struct Evictor {
    /// The queue that an eviction has begun in and goes on in until an item is gone.
    queue: Option<QueueId>,
    ahead: [Option<Ahead>; 2],
    /// Bytes that writers still owe.
    debt: i64,
}

impl Evictor {
    pub(super) fn forget_ahead(&mut self, queue: QueueId) {
        self.ahead[queue as usize] = None;
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes of the log were passed and not copied.
    Gained(u32),
    /// There is nothing to do.
    Idle,
}

impl Keyspace {
    /// Free segments that writers must leave alone: the reserve, and what lists on the heap have
    /// taken beyond the share that was set aside for them.
    #[inline]
    fn reserve(&self) -> u32 {
        // 9 B for a page: its place in a list that may have grown past its need by an eighth.
        let lists = (self.memory.page_bytes() >> 12) * 9 + self.memory.large_list_bytes();
        let excess = lists.saturating_sub(self.sizing.lists_bytes);
        RESERVE_SEGMENTS + excess.div_ceil(u64::from(self.memory.segment_bytes())) as u32
    }

    /// Gets room for an item of `bytes` bytes in a queue, and for a large value's `segments`.
    ///
    /// # Errors
    /// When nothing more can be cleaned, nor evicted, or may not be.
    #[inline]
    pub(super) fn make_room(&mut self, queue: QueueId, bytes: u32, segments: u32) -> Result<(), WriteError> {
        let reserve = self.reserve();
        if self.memory.free_segments() >= reserve - RESERVE_SEGMENTS + LOW_SEGMENTS + segments {
            self.evictor.debt = 0;
            return Ok(());
        }
        self.make_room_now(queue, bytes, segments, reserve)
    }

    #[inline(never)]
    fn make_room_now(
        &mut self,
        queue: QueueId,
        bytes: u32,
        segments: u32,
        reserve: u32,
    ) -> Result<(), WriteError> {
        let segment_bytes = i64::from(self.memory.segment_bytes());
        if self.memory.borrowed_large() > 0 {
            self.memory.reap_large();
        }
        if self.expiry.is_due(self.now.0) {
            self.walk_step(16);
        }
        self.large.drain_step(&mut self.memory);
        self.evictor.debt = (self.evictor.debt + i64::from(bytes)).clamp(-segment_bytes, 4 * segment_bytes);
        for _ in 0..PACED_STEPS_MAX {
            if self.evictor.debt <= 0 {
                break;
            }
            let Step::Gained(gain) = self.reclaim_step(false) else { break };
            self.evictor.debt -= i64::from(gain);
        }
        let mut steps = 0;
        let fits = |ks: &Self| {
            let free = ks.memory.free_segments();
            free >= reserve + segments + u32::from(!ks.has_room(queue, bytes))
        };
        // With the reserve itself taken into use there is still room in an open segment.
        while !(fits(self) || (segments == 0 && self.has_room(queue, bytes))) {
            steps += 1;
            if steps % 64 == 0 {
                self.large.drain_step(&mut self.memory);
            }
            if self.reclaim_step(steps > PATIENCE_STEPS) == Step::Idle {
                self.stats.out_of_memory += 1;
                return Err(WriteError::OutOfMemory);
            }
        }
        Ok(())
    }

    /// Cleans or evicts a little. `force`: evicts whatever the item's counter.
    pub(super) fn reclaim_step(&mut self, force: bool) -> Step {
        if let Step::Gained(gain) = self.clean_step() {
            return Step::Gained(gain);
        }
        match self.config.policy {
            MemoryPolicy::Evict => self.evict_step(force),
            MemoryPolicy::Reject => Step::Idle,
        }
    }

    /// Evicts until a new item may come, when items are counted instead of bytes.
    pub(super) fn make_room_for_item(&mut self) -> Result<(), WriteError> {
        let Some(capacity) = self.config.capacity_items else { return Ok(()) };
        while self.len() >= capacity.max(1) {
            if self.config.policy == MemoryPolicy::Reject || self.evict_step(false) == Step::Idle {
                self.stats.out_of_memory += 1;
                return Err(WriteError::OutOfMemory);
            }
        }
        Ok(())
    }

    /// The queue that the next eviction begins in: main if it holds more than its share, or if there
    /// is nothing else.
    fn choose_queue(&self) -> QueueId {
        let (small, main) = (self.segments.queue(QueueId::Small), self.segments.queue(QueueId::Main));
        let share = u64::from(self.config.small_share_percent);
        let main_is_over = match self.config.capacity_items {
            Some(capacity) => main.items > capacity - capacity * share / 100,
            None => main.bytes * 100 > (main.bytes + small.bytes) * (100 - share),
        };
        if main_is_over || small.items == 0 { QueueId::Main } else { QueueId::Small }
    }

    /// Looks at one item of a tail.
    fn evict_step(&mut self, force: bool) -> Step {
        let mut queue = self.evictor.queue.unwrap_or_else(|| self.choose_queue());
        if self.segments.queue(queue).items == 0 {
            queue = self.choose_queue();
        }
        let Some(location) = self.tail_item(queue) else {
            self.evictor.queue = None;
            return if self.is_empty() { Step::Idle } else { Step::Gained(0) };
        };
        self.evictor.queue = Some(queue);
        let header = self.memory.header(location);
        let bytes = header.item_bytes();
        self.segments.queue_mut(queue).cursor += bytes;
        if header.is_dead() {
            return Step::Gained(bytes);
        }
        let large = self.memory.large_bytes();
        let copied = self.judge(queue, location, force);
        self.look_ahead(queue);
        let freed = large.saturating_sub(self.memory.large_bytes()).min(u64::from(u32::MAX / 2));
        Step::Gained((bytes - copied).saturating_add(freed as u32))
    }

    /// The next place at a queue's tail that has not been looked at.
    fn tail_item(&mut self, queue: QueueId) -> Option<u64> {
        loop {
            let (tail, cursor) = (self.segments.queue(queue).tail, self.segments.queue(queue).cursor);
            if tail == NONE {
                return None;
            }
            if cursor < self.segments.at(tail).used {
                return Some(self.memory.start_of(tail) + u64::from(cursor));
            }
            // A sealed segment goes back with its last live item, so this one is still appended to.
            let is_only = self.segments.queue(queue).head == tail;
            if is_only && !self.segments.at(tail).is_sealed {
                self.segments.at_mut(tail).used = 0;
                self.segments.queue_mut(queue).cursor = 0;
                self.evictor.forget_ahead(queue);
                return None;
            }
            self.free_segment(tail);
        }
    }

    /// Evicts, promotes or reinserts the live item at a location; gives the bytes that were copied.
    fn judge(&mut self, queue: QueueId, location: u64, force: bool) -> u32 {
        let item = self.memory.item(location);
        let bytes = item.header.item_bytes();
        let deadline = Deadline::from_raw(item.deadline());
        let (shard, hash) = match self.evictor.ahead[queue as usize] {
            Some(ahead) if ahead.location == location => (ahead.shard, ahead.hash),
            _ => self.coordinates(item.key()),
        };
        let found = self.index.find(shard, hash, |at| at == location).expect("a live item has its slot");
        if deadline.is_past(self.now) {
            self.evictor.queue = None;
            self.index.remove(&found);
            self.bury(location);
            self.stats.expired += 1;
            return 0;
        }
        let (stays, frequency) = match queue {
            QueueId::Small => (found.frequency() >= self.config.promote_threshold, 0),
            QueueId::Main => (found.frequency() >= 1, found.frequency().saturating_sub(1)),
        };
        if let Some(place) = (stays && !force).then(|| self.place(QueueId::Main, bytes)).flatten() {
            self.relocate(&found, place, frequency);
            match queue {
                QueueId::Small => self.stats.promoted += 1,
                QueueId::Main => self.stats.reinserted += 1,
            }
            return bytes;
        }
        self.evictor.queue = None;
        self.index.remove(&found);
        self.bury(location);
        self.stats.evicted += 1;
        self.has_evicted = true;
        if queue == QueueId::Small {
            self.remember(hash);
        }
        0
    }

    fn remember(&mut self, hash: u64) {
        let items = self.config.capacity_items.unwrap_or_else(|| self.len());
        let keys_max = items * u64::from(self.config.ghost_percent) / 100;
        self.ghost.insert(hash, keys_max, &mut self.memory);
    }

    /// Fetches the index bucket of the item that the queue's next step will look at.
    fn look_ahead(&mut self, queue: QueueId) {
        let (tail, cursor) = (self.segments.queue(queue).tail, self.segments.queue(queue).cursor);
        self.evictor.ahead[queue as usize] = None;
        if tail == NONE || cursor >= self.segments.at(tail).used {
            return;
        }
        let location = self.memory.start_of(tail) + u64::from(cursor);
        if self.memory.header(location).is_dead() {
            return;
        }
        let (shard, hash) = self.coordinates(self.memory.item(location).key());
        self.index.prefetch(shard, hash);
        self.evictor.ahead[queue as usize] = Some(Ahead { location, shard, hash });
    }
}
