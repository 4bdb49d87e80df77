//! Segments in their queues: which are where, how full, how live.
//!
//! Does not touch items: those are the memory's.
//!
//! Invariants: a segment in use as log is in exactly one queue; `live` is the sum of its live items'
//! bytes; a sealed segment without live items does not exist, it goes back at once.

use pinnace_mem::SegmentId;

use crate::expiry::Deadlines;

/// No segment.
pub(crate) const NONE: SegmentId = SegmentId::MAX;

/// The two queues of S3-FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueId {
    /// New items, on probation.
    Small = 0,
    /// Items that were asked for again.
    Main = 1,
}

/// Who appends to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The newest segment of the small queue.
    SmallOpen = 0,
    /// The newest segment of the main queue.
    MainOpen = 1,
    /// An older segment of the small queue whose rest takes items that fit.
    SmallRest = 2,
    /// The same for the main queue.
    MainRest = 3,
    /// What cleaning of the small queue fills.
    SmallClean = 4,
    /// The same for the main queue.
    MainClean = 5,
}

impl Role {
    pub(crate) const COUNT: usize = 6;

    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::SmallOpen, Self::MainOpen, Self::SmallRest, Self::MainRest, Self::SmallClean, Self::MainClean];

    pub(crate) fn clean(queue: QueueId) -> Self {
        if queue == QueueId::Small { Self::SmallClean } else { Self::MainClean }
    }

    pub(crate) fn open(queue: QueueId) -> Self {
        if queue == QueueId::Small { Self::SmallOpen } else { Self::MainOpen }
    }

    pub(crate) fn rest(queue: QueueId) -> Self {
        if queue == QueueId::Small { Self::SmallRest } else { Self::MainRest }
    }
}

/// What is known of a segment in use as log.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The next older segment of the queue.
    pub(crate) older: SegmentId,
    /// The next newer one.
    pub(crate) newer: SegmentId,
    /// Bytes written.
    pub(crate) used: u32,
    /// Bytes of live items.
    pub(crate) live: u32,
    /// When enough of it will have expired to be worth a walk; `u64::MAX`: never.
    pub(crate) check_at: u64,
    /// Position in the queue for comparisons: does not fall from tail to head.
    pub(crate) order: u64,
    /// Bytes whose deadline was brought forward since the last walk, and the last such deadline.
    pub(crate) early_bytes: u32,
    pub(crate) early_last: u64,
    pub(crate) queue: QueueId,
    /// Whether it is in a queue at all.
    pub(crate) is_listed: bool,
    /// Whether nothing is appended to it any more.
    pub(crate) is_sealed: bool,
}

impl Segment {
    fn unused() -> Self {
        Self {
            older: NONE,
            newer: NONE,
            used: 0,
            live: 0,
            check_at: u64::MAX,
            order: 0,
            early_bytes: 0,
            early_last: 0,
            queue: QueueId::Small,
            is_listed: false,
            is_sealed: false,
        }
    }
}

/// A FIFO of segments.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// The oldest segment, where eviction works.
    pub(crate) tail: SegmentId,
    /// The newest.
    pub(crate) head: SegmentId,
    /// How far eviction is in the oldest segment.
    pub(crate) cursor: u32,
    /// Live bytes, large values included.
    pub(crate) bytes: u64,
    /// Live items.
    pub(crate) items: u64,
}

/// A segment that is appended to, and the deadlines in it.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) segment: SegmentId,
    pub(crate) deadlines: Deadlines,
}

/// All segments and both queues.
#[derive(Debug)]
pub(crate) struct Segments {
    list: Vec<Segment>,
    queues: [Queue; 2],
    appenders: [Appender; Role::COUNT],
    next_order: u64,
    /// Segments in queues.
    pub(crate) listed: u32,
    /// Live bytes of all of them.
    pub(crate) live: u64,
    /// Bytes at the ends of sealed segments that no item fitted into.
    pub(crate) waste: u64,
}

impl Segments {
    pub(crate) fn new(count: u32) -> Self {
        let queue = Queue { tail: NONE, head: NONE, cursor: 0, bytes: 0, items: 0 };
        Self {
            list: vec![Segment::unused(); count as usize],
            queues: [queue.clone(), queue],
            appenders: std::array::from_fn(|_| Appender { segment: NONE, deadlines: Deadlines::new() }),
            next_order: 1,
            listed: 0,
            live: 0,
            waste: 0,
        }
    }

    /// Heap bytes for a number of segments.
    pub(crate) fn heap_bytes(count: u64) -> u64 {
        count * size_of::<Segment>() as u64 + Role::COUNT as u64 * Deadlines::HEAP_BYTES
    }

    #[inline]
    pub(crate) fn at(&self, segment: SegmentId) -> &Segment {
        &self.list[segment as usize]
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, segment: SegmentId) -> &mut Segment {
        &mut self.list[segment as usize]
    }

    #[inline]
    pub(crate) fn queue(&self, queue: QueueId) -> &Queue {
        &self.queues[queue as usize]
    }

    #[inline]
    pub(crate) fn queue_mut(&mut self, queue: QueueId) -> &mut Queue {
        &mut self.queues[queue as usize]
    }

    #[inline]
    pub(crate) fn appender(&self, role: Role) -> &Appender {
        &self.appenders[role as usize]
    }

    #[inline]
    pub(crate) fn appender_mut(&mut self, role: Role) -> &mut Appender {
        &mut self.appenders[role as usize]
    }

    /// Exchanges what two roles append to.
    pub(crate) fn swap_roles(&mut self, a: Role, b: Role) {
        self.appenders.swap(a as usize, b as usize);
    }

    /// Who appends to a segment, if anybody does.
    pub(crate) fn role_of(&self, segment: SegmentId) -> Option<Role> {
        Role::ALL.into_iter().find(|&role| self.appender(role).segment == segment)
    }

    /// Bytes that an appender can still take.
    #[inline]
    pub(crate) fn room(&self, role: Role, segment_bytes: u32) -> u32 {
        match self.appender(role).segment {
            NONE => 0,
            segment => segment_bytes - self.at(segment).used,
        }
    }

    /// Bytes not used in segments that are still appended to.
    pub(crate) fn open_room(&self, segment_bytes: u32) -> u64 {
        Role::ALL.into_iter().map(|role| u64::from(self.room(role, segment_bytes))).sum()
    }

    /// Puts a segment at the head of a queue.
    pub(crate) fn link_head(&mut self, queue: QueueId, segment: SegmentId) {
        let head = self.queue(queue).head;
        *self.at_mut(segment) =
            Segment { older: head, queue, is_listed: true, order: self.next_order, ..Segment::unused() };
        self.next_order += 1;
        if head == NONE {
            let queue = self.queue_mut(queue);
            (queue.tail, queue.cursor) = (segment, 0);
        } else {
            self.at_mut(head).newer = segment;
        }
        self.queue_mut(queue).head = segment;
        self.listed += 1;
    }

    /// Puts a segment on the older side of another one, which is not a tail.
    pub(crate) fn link_before(&mut self, newer: SegmentId, segment: SegmentId) {
        let (older, queue, order) = (self.at(newer).older, self.at(newer).queue, self.at(newer).order);
        assert_ne!(older, NONE, "nothing is put behind a tail: its cursor is there");
        *self.at_mut(segment) = Segment { older, newer, queue, is_listed: true, order, ..Segment::unused() };
        self.at_mut(older).newer = segment;
        self.at_mut(newer).older = segment;
        self.listed += 1;
    }

    /// Nothing is appended to a segment any more.
    pub(crate) fn seal(&mut self, segment: SegmentId, segment_bytes: u32) {
        let meta = self.at_mut(segment);
        assert!(!meta.is_sealed, "a segment is sealed once");
        meta.is_sealed = true;
        let rest = segment_bytes - meta.used;
        self.waste += u64::from(rest);
    }

    /// Takes a segment out of its queue.
    pub(crate) fn unlink(&mut self, segment: SegmentId, segment_bytes: u32) {
        let Segment { older, newer, queue, live, is_listed, is_sealed, used, .. } = *self.at(segment);
        assert!(is_listed && live == 0, "a segment leaves its queue once, without live items");
        if is_sealed {
            self.waste -= u64::from(segment_bytes - used);
        }
        if older == NONE {
            let queue = self.queue_mut(queue);
            (queue.tail, queue.cursor) = (newer, 0);
        } else {
            self.at_mut(older).newer = newer;
        }
        if newer == NONE {
            self.queue_mut(queue).head = older;
        } else {
            self.at_mut(newer).older = older;
        }
        *self.at_mut(segment) = Segment::unused();
        self.listed -= 1;
    }

    /// Counts an item that was written to a segment.
    #[inline]
    pub(crate) fn add_live(&mut self, segment: SegmentId, bytes: u32) {
        self.at_mut(segment).live += bytes;
        self.live += u64::from(bytes);
    }

    /// Counts an item out of a segment.
    #[inline]
    pub(crate) fn remove_live(&mut self, segment: SegmentId, bytes: u32) {
        self.at_mut(segment).live -= bytes;
        self.live -= u64::from(bytes);
    }

    /// Bytes of dead items: what cleaning can win.
    pub(crate) fn dead(&self, segment_bytes: u32) -> u64 {
        let written = u64::from(self.listed) * u64::from(segment_bytes) - self.open_room(segment_bytes);
        written - self.waste - self.live
    }

    /// All segments in queues.
    pub(crate) fn listed(&self) -> impl Iterator<Item = SegmentId> + '_ {
        (0..self.list.len() as SegmentId).filter(|&segment| self.at(segment).is_listed)
    }

    /// Number of segments, listed or not.
    pub(crate) fn len(&self) -> u32 {
        self.list.len() as u32
    }
}
