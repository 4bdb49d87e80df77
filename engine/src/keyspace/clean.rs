//! Cleaning: making whole segments of the dead space between live items.
//!
//! When enough of the log is dead, the deadest segments of a queue are emptied into one that lies
//! before the first of them, so that survivors nearly keep their turn. Done in small steps by whoever
//! needs room. It ends: each victim's dead bytes are gone for good, and none are made.

use pinnace_mem::SegmentId;
use pinnace_types::Deadline;

use super::Keyspace;
use super::evict::Step;
use crate::config::MemoryPolicy;
use crate::segment::{NONE, QueueId, Role};

/// Items that one step moves at most; their index buckets are fetched together.
const BATCH: usize = 8;

/// Share of dead bytes, in 1/128 of the log, above which cleaning is preferred to evicting: 4 %.
const DEAD_SHARE: u64 = 5;

/// A victim is at least this dead, as a shift of the segment size: copying more than 15 bytes to gain
/// one costs more than the item that could have been evicted instead. Without eviction it pays longer.
const VICTIM_SHIFT_EVICT: u32 = 4;
const VICTIM_SHIFT_REJECT: u32 = 7;

/// Segments that one search looks at: choosing from that many is nearly as good as from all.
const SEARCH_MAX: u32 = 1024;

/// A cleaning under way.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    victim: Option<SegmentId>,
    offset: u32,
    search_from: u32,
    /// The dead bytes at the last search or cleaning in vain: until they have changed by enough,
    /// another one is not worth its time.
    in_vain_at: Option<u64>,
}

impl Cleaner {
    /// A segment was given back.
    pub(super) fn forget(&mut self, segment: SegmentId) {
        if self.victim == Some(segment) {
            self.victim = None;
        }
    }
}

impl Keyspace {
    /// Whether a cleaning is under way.
    pub(super) fn is_cleaning(&self) -> bool {
        self.cleaner.victim.is_some()
    }

    /// Moves some items out of the victim; begins a cleaning first if it is worth it.
    pub(super) fn clean_step(&mut self) -> Step {
        let Some(victim) = self.cleaner.victim.or_else(|| self.choose_victim()) else { return Step::Idle };
        if self.segments.queue(self.segments.at(victim).queue).tail == victim {
            // Eviction has caught up and takes it from here.
            self.cleaner.victim = None;
            return Step::Gained(0);
        }
        let mut batch = [0u64; BATCH];
        let (start, used) = (self.memory.start_of(victim), self.segments.at(victim).used);
        let (mut offset, mut count) = (self.cleaner.offset, 0);
        while offset < used && count < BATCH {
            let header = self.memory.header(start + u64::from(offset));
            if !header.is_dead() {
                batch[count] = start + u64::from(offset);
                count += 1;
            }
            offset += header.item_bytes();
        }
        let passed = offset - self.cleaner.offset;
        self.cleaner.offset = offset;
        self.stats.cleaned_segments += u64::from(offset >= used);
        match self.move_survivors(victim, &batch[..count]) {
            Some(copied) => Step::Gained(passed.saturating_sub(copied)),
            None => {
                self.cleaner.victim = None;
                self.cleaner.in_vain_at = Some(self.segments.dead(self.memory.segment_bytes()));
                Step::Idle
            }
        }
    }

    /// Gives the bytes that were copied; `None` if there was no place, which ends the cleaning.
    fn move_survivors(&mut self, victim: SegmentId, locations: &[u64]) -> Option<u32> {
        let mut places = [(0u16, 0u64); BATCH];
        for (place, &location) in places.iter_mut().zip(locations) {
            *place = self.coordinates(self.memory.item(location).key());
            self.index.prefetch(place.0, place.1);
        }
        let mut copied = 0;
        for (&(shard, hash), &location) in places.iter().zip(locations) {
            let found = self.index.find(shard, hash, |at| at == location).expect("a live item has its slot");
            let item = self.memory.item(location);
            let bytes = item.header.item_bytes();
            if Deadline::from_raw(item.deadline()).is_past(self.now) {
                self.index.remove(&found);
                self.bury(location);
                self.stats.expired += 1;
                continue;
            }
            let place = self.place_clean(victim, bytes)?;
            self.relocate(&found, place, found.frequency());
            copied += bytes;
        }
        self.stats.cleaned_bytes += u64::from(copied);
        Some(copied)
    }

    /// A place for a survivor: in what cleaning fills already, or in a free segment that takes the
    /// victim's turn in the queue.
    fn place_clean(&mut self, victim: SegmentId, bytes: u32) -> Option<(u64, Role)> {
        let segment_bytes = self.memory.segment_bytes();
        let role = Role::clean(self.segments.at(victim).queue);
        if self.segments.room(role, segment_bytes) < bytes {
            self.seal(role);
            let segment = self.memory.take_log_segment()?;
            self.segments.link_before(victim, segment);
            self.open(role, segment);
        }
        Some((self.advance(role, bytes), role))
    }

    /// Chooses the deadest segment, if the log is dead enough, and begins with it.
    fn choose_victim(&mut self) -> Option<SegmentId> {
        let segment_bytes = self.memory.segment_bytes();
        let dead = self.segments.dead(segment_bytes);
        let log = u64::from(self.segments.listed) * u64::from(segment_bytes);
        let evicts = self.config.policy == MemoryPolicy::Evict;
        let in_vain = |at: u64| dead.abs_diff(at) < u64::from(segment_bytes / 4);
        if (evicts && dead * 128 < log * DEAD_SHARE) || self.cleaner.in_vain_at.is_some_and(in_vain) {
            return None;
        }
        let least = segment_bytes >> if evicts { VICTIM_SHIFT_EVICT } else { VICTIM_SHIFT_REJECT };
        let victim = self.deadest(least);
        self.cleaner.in_vain_at = victim.is_none().then_some(dead);
        let victim = victim?;
        self.cleaner.victim = Some(victim);
        self.cleaner.offset = 0;
        Some(victim)
    }

    /// The deadest of many segments; those far from what cleaning fills already count half, since
    /// their survivors would change their turn by much.
    fn deadest(&mut self, least: u32) -> Option<SegmentId> {
        let count = self.segments.len();
        let looked_at = count.min(SEARCH_MAX);
        let from = self.cleaner.search_from % count;
        self.cleaner.search_from = (from + looked_at) % count;
        let targets = [QueueId::Small, QueueId::Main].map(|queue| self.clean_target(queue));
        let (mut best, mut most) = (None, 0);
        for step in 0..looked_at {
            let id = (from + step) % count;
            let segment = self.segments.at(id);
            let dead = segment.used - segment.live;
            // The tail is eviction's, and nothing can be put before it.
            if !segment.is_sealed || segment.older == NONE || dead < least {
                continue;
            }
            let (order, near) = targets[segment.queue as usize];
            let score = if segment.order.abs_diff(order) <= near { dead } else { dead / 2 };
            if score > most {
                (best, most) = (Some(id), score);
            }
        }
        best
    }

    /// The turn of what cleaning of a queue fills, and the distance that is still near it.
    fn clean_target(&self, queue: QueueId) -> (u64, u64) {
        let open = self.segments.appender(Role::clean(queue)).segment;
        if open == NONE {
            return (0, u64::MAX);
        }
        let order = |segment: SegmentId| self.segments.at(segment).order;
        let queue = self.segments.queue(queue);
        (order(open), (order(queue.head) - order(queue.tail)) / 4)
    }
}
