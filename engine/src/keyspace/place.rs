//! Finding a place in the log, and leaving one: the only code that changes how full segments are.

use pinnace_mem::{Found, Header, SegmentId, Traits};

use super::Keyspace;
use crate::segment::{NONE, QueueId, Role};

/// The rest of a segment that is worth keeping open for smaller items, as a shift of its size.
const REST_SHIFT: u32 = 7;

/// The part of a segment whose expiry is worth a walk, as a shift: 1/32, about 3 %.
pub(super) const WALK_SHIFT: u32 = 5;

impl Keyspace {
    /// Whether an item fits into a segment of its queue that is open already.
    #[inline]
    pub(super) fn has_room(&self, queue: QueueId, bytes: u32) -> bool {
        let segment_bytes = self.memory.segment_bytes();
        self.segments.room(Role::open(queue), segment_bytes) >= bytes
            || self.segments.room(Role::rest(queue), segment_bytes) >= bytes
    }

    /// A place for an item at the head of a queue, taking a free segment if there must be one.
    #[inline]
    pub(super) fn place(&mut self, queue: QueueId, bytes: u32) -> Option<(u64, Role)> {
        let segment_bytes = self.memory.segment_bytes();
        if self.segments.room(Role::rest(queue), segment_bytes) >= bytes {
            return Some((self.advance(Role::rest(queue), bytes), Role::rest(queue)));
        }
        let role = Role::open(queue);
        if self.segments.room(role, segment_bytes) < bytes && !self.roll(queue) {
            return None;
        }
        Some((self.advance(role, bytes), role))
    }

    /// Opens a new segment at the head of a queue.
    #[cold]
    fn roll(&mut self, queue: QueueId) -> bool {
        let Some(segment) = self.memory.take_log_segment() else { return false };
        let segment_bytes = self.memory.segment_bytes();
        let (open, rest) = (Role::open(queue), Role::rest(queue));
        let keep = segment_bytes >> REST_SHIFT;
        let room = self.segments.room(open, segment_bytes);
        if room >= keep {
            self.seal(rest);
            self.segments.swap_roles(open, rest);
        } else {
            self.seal(open);
            if self.segments.room(rest, segment_bytes) < keep {
                self.seal(rest);
            }
        }
        self.segments.link_head(queue, segment);
        self.open(open, segment);
        true
    }

    pub(super) fn open(&mut self, role: Role, segment: SegmentId) {
        let now = self.now.0;
        let appender = self.segments.appender_mut(role);
        appender.segment = segment;
        appender.deadlines.restart(now);
    }

    /// Takes the next bytes of an open segment.
    #[inline]
    pub(super) fn advance(&mut self, role: Role, bytes: u32) -> u64 {
        let segment = self.segments.appender(role).segment;
        let meta = self.segments.at_mut(segment);
        let offset = meta.used;
        meta.used += bytes;
        self.memory.start_of(segment) + u64::from(offset)
    }

    /// Nothing is appended to a role's segment any more.
    pub(super) fn seal(&mut self, role: Role) {
        let segment = std::mem::replace(&mut self.segments.appender_mut(role).segment, NONE);
        if segment == NONE {
            return;
        }
        self.segments.seal(segment, self.memory.segment_bytes());
        if self.segments.at(segment).live == 0 {
            self.free_segment(segment);
            return;
        }
        let threshold = u64::from(self.memory.segment_bytes() >> WALK_SHIFT);
        let due = self.segments.appender(role).deadlines.due(threshold);
        self.expiry.schedule(&mut self.segments, segment, due.unwrap_or(u64::MAX));
    }

    /// Counts an item that was just written.
    #[inline]
    pub(super) fn enter(&mut self, location: u64, role: Role, bytes: u32, large: u64, deadline: u64) {
        let segment = self.memory.segment_of(location);
        self.segments.add_live(segment, bytes);
        let queue = self.segments.at(segment).queue;
        let queue = self.segments.queue_mut(queue);
        queue.bytes += u64::from(bytes) + large;
        queue.items += 1;
        self.segments.appender_mut(role).deadlines.add(deadline, u64::from(bytes) + large);
        self.deadlines += u64::from(deadline != 0);
    }

    /// Counts an item out and marks it dead; its segment goes back if it was the last one.
    fn leave(&mut self, location: u64, header: Header, large: u64, deadline: u64) {
        let segment = self.memory.segment_of(location);
        let bytes = header.item_bytes();
        self.memory.kill(location);
        self.segments.remove_live(segment, bytes);
        let queue = self.segments.at(segment).queue;
        let queue = self.segments.queue_mut(queue);
        queue.bytes -= u64::from(bytes) + large;
        queue.items -= 1;
        self.deadlines -= u64::from(deadline != 0);
        let meta = self.segments.at(segment);
        if meta.live == 0 && meta.is_sealed {
            self.free_segment(segment);
        }
    }

    /// Ends an item whose index slot is gone or leads elsewhere by now.
    pub(super) fn bury(&mut self, location: u64) {
        let item = self.memory.item(location);
        let (header, deadline, id) = (item.header, item.deadline(), item.large_id());
        let large = id.map(|id| self.large.take(id));
        let large_bytes = large.as_ref().map_or(0, |value| value.len() as u64);
        if let Some(value) = large {
            self.memory.release_large(value);
        }
        self.leave(location, header, large_bytes, deadline);
    }

    /// Moves an item to a new place in the log, in the index too.
    pub(super) fn relocate(&mut self, found: &Found, to: (u64, Role), frequency: u8) {
        let (target, role) = to;
        let item = self.memory.item(found.location);
        let (header, deadline) = (item.header, item.deadline());
        let large = item.large_id().map_or(0, |id| self.large.get(id).len() as u64);
        self.memory.copy_item(found.location, target, header.item_bytes());
        self.index.replace(found, target, frequency);
        self.enter(target, role, header.item_bytes(), large, deadline);
        self.leave(found.location, header, large, deadline);
    }

    /// Rewrites an item with other traits at a new place, in the index too.
    pub(super) fn rewrite(&mut self, found: &Found, to: (u64, Role), traits: &Traits) {
        let (target, role) = to;
        let item = self.memory.item(found.location);
        let (header, deadline) = (item.header, item.deadline());
        let large = item.large_id().map_or(0, |id| self.large.get(id).len() as u64);
        let bytes = self.memory.copy_item_with(found.location, target, traits);
        self.index.replace(found, target, found.frequency());
        self.enter(target, role, bytes, large, traits.deadline.unwrap_or(0));
        self.leave(found.location, header, large, deadline);
    }

    /// Gives a segment without live items back, and forgets whatever was being done with it.
    pub(super) fn free_segment(&mut self, segment: SegmentId) {
        if let Some(role) = self.segments.role_of(segment) {
            self.segments.appender_mut(role).segment = NONE;
        }
        self.cleaner.forget(segment);
        if self.expiry.walk.is_some_and(|walk| walk.segment == segment) {
            self.expiry.walk = None;
        }
        let queue = self.segments.at(segment).queue;
        if self.segments.queue(queue).tail == segment {
            self.evictor.forget_ahead(queue);
        }
        self.segments.unlink(segment, self.memory.segment_bytes());
        self.memory.give_back_log_segment(segment);
    }

    /// Notes that an item's deadline was changed in place, so that its segment is walked in time.
    pub(super) fn note_deadline(&mut self, location: u64, raw: u64) {
        let bytes = self.weight(location);
        let segment = self.memory.segment_of(location);
        if let Some(role) = self.segments.role_of(segment) {
            self.segments.appender_mut(role).deadlines.add(raw, bytes);
            return;
        }
        let threshold = self.memory.segment_bytes() >> (WALK_SHIFT + 1);
        let meta = self.segments.at_mut(segment);
        if raw == 0 || raw >= meta.check_at {
            return;
        }
        meta.early_bytes = meta.early_bytes.saturating_add(bytes.min(u64::from(u32::MAX)) as u32);
        meta.early_last = meta.early_last.max(raw);
        if meta.early_bytes >= threshold {
            let at = meta.early_last + 1;
            self.expiry.schedule(&mut self.segments, segment, at);
        }
    }

    /// Bytes of an item, its large value included.
    pub(super) fn weight(&self, location: u64) -> u64 {
        let item = self.memory.item(location);
        let large = item.large_id().map_or(0, |id| self.large.get(id).len() as u64);
        u64::from(item.header.item_bytes()) + large
    }
}
