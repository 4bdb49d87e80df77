//! One shard's index: an order-preserving table of 64-byte buckets that grows and shrinks in small steps.
//!
//! A key's position (the upper bits of its hash, see `layout.rs`) times the number of buckets gives
//! its home bucket, so buckets hold positions in ascending ranges. A slot lies in the first bucket,
//! from its home on, that had room: all buckets between are full, and a probe ends at the first
//! bucket that is not. The window bounds how far that may be; what does not fit goes to a stash.
//! Bucket and tag together give the whole position back, as the window spans at most 1/8 of them.
//!
//! Resizing streams the old part into a new one, run of full buckets by run: positions below the
//! frontier are in the new part, the others in the old one. Pages behind the frontier go back at
//! once, so that both parts together take little more than the larger one.
//!
//! Invariants: slots of a bucket stand at its front; every slot is reachable by a probe or in the
//! stash; pages that a probe may reach are present.

use crate::layout::{FREQUENCY_MAX, Layout, frequency};
use crate::map::prefetch;
use crate::memory::Memory;
use crate::page::{BUCKETS_PER_PAGE, Bucket, Buckets, Pages};

/// Longest window in buckets. Runs of full buckets grow with the table: a window of 32 overflowed
/// regularly from a million buckets on.
const WINDOW_MAX: u64 = 512;

/// Buckets at the end of a part that are no position's home: they take what the last homes cannot.
const PAD_BUCKETS_MIN: u64 = 8;
const PAD_BUCKETS_MAX: u64 = 64;

/// Average slots of a bucket at which a table grows: 7/8 of 8.
const SLOTS_PER_BUCKET_MAX: u64 = 7;

/// Stashed slots at which a table grows, whatever its load.
const STASH_MAX: usize = 8;

/// Buckets that an insertion streams while a resize is under way. Four make a growth by an eighth
/// end after a quarter as many insertions as there are buckets, long before the table is full.
pub(crate) const STREAM_BUCKETS: u32 = 4;

/// One array of buckets.
#[derive(Debug)]
struct Part {
    pages: Pages,
    /// Number of home buckets; 0: the part has no bucket at all.
    homes: u64,
    /// Index of the last bucket.
    last: u64,
    window: u64,
}

/// A slot that found no room in its window.
#[derive(Clone, Copy, Debug)]
struct Stashed {
    position: u64,
    slot: u64,
}

/// Where a slot was found. Any change of the table makes it stale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Bucket (or number in the stash), part and index within the bucket, in one word.
    at: u64,
    pub(crate) slot: u64,
}

impl Place {
    #[inline(always)]
    fn new(part: u8, bucket: u64, index: usize, slot: u64) -> Self {
        Self { at: bucket << 8 | u64::from(part) << 3 | index as u64, slot }
    }

    #[inline(always)]
    fn part(self) -> u8 {
        (self.at >> 3) as u8 & 3
    }

    #[inline(always)]
    fn bucket(self) -> u64 {
        self.at >> 8
    }

    #[inline(always)]
    fn index(self) -> usize {
        self.at as usize & 7
    }

    #[inline(always)]
    pub(crate) fn frequency(self) -> u8 {
        frequency(self.slot)
    }

    /// A place that no slot has.
    pub(crate) const NOWHERE: Self = Self { at: (STASH as u64) << 3, slot: 0 };
}

const CURRENT: u8 = 0;
const NEXT: u8 = 1;
const STASH: u8 = 2;

/// Decides by its location whether an item is the wanted one. A trait instead of a closure, since
/// closures as large as a key comparison are not inlined.
pub(crate) trait Accept {
    fn accept(&mut self, location: u64) -> bool;
}

impl<F: FnMut(u64) -> bool> Accept for F {
    #[inline(always)]
    fn accept(&mut self, location: u64) -> bool {
        self(location)
    }
}

/// The index of one shard. What every lookup reads stands first, in one line of the cache: there are
/// hundreds of tables, and the kernel's work between two batches leaves little of them there.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Table {
    current: Part,
    /// Buckets of `current` below it have been streamed to `next`; 0 unless a resize is under way.
    frontier: u64,
    next: Part,
    len: u64,
    stash: Vec<Stashed>,
}

impl Bucket {
    /// One bit for each slot with this tag; empty slots may be among them if the tag is 0.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn matches(&self, tag_word: u64, low_bits: u32) -> u32 {
        // SAFETY: SSE2 is part of every x86-64 CPU.
        unsafe { self.matches_sse2(tag_word, low_bits) }
    }

    /// The tag lies within the upper half of a slot: compares eight upper halves at once.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "sse2")]
    #[inline]
    fn matches_sse2(&self, tag_word: u64, low_bits: u32) -> u32 {
        use std::arch::x86_64::*;
        let halves = |a: usize| {
            let low = _mm_castsi128_ps(_mm_set_epi64x(self.0[a + 1] as i64, self.0[a] as i64));
            let high = _mm_castsi128_ps(_mm_set_epi64x(self.0[a + 3] as i64, self.0[a + 2] as i64));
            _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(low, high))
        };
        let wanted = _mm_set1_epi32((tag_word >> 32) as i32);
        let shift = _mm_cvtsi32_si128(low_bits.wrapping_sub(32) as i32);
        let equal =
            |half| _mm_cmpeq_epi32(_mm_srl_epi32(_mm_xor_si128(half, wanted), shift), _mm_setzero_si128());
        let words = _mm_packs_epi32(equal(halves(0)), equal(halves(4)));
        _mm_movemask_epi8(_mm_packs_epi16(words, _mm_setzero_si128())) as u32
    }

    /// One bit for each slot with this tag; empty slots may be among them if the tag is 0.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn matches(&self, tag_word: u64, low_bits: u32) -> u32 {
        let bit = |index: usize| u32::from((self.0[index] ^ tag_word) >> low_bits == 0) << index;
        (0..8).fold(0, |mask, index| mask | bit(index))
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.0[7] != 0
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.0.iter().map(|&slot| usize::from(slot != 0)).sum()
    }

    /// Removes a slot and closes the hole with the last one.
    fn remove(&mut self, index: usize) {
        let last = self.count() - 1;
        self.0[index] = self.0[last];
        self.0[last] = 0;
    }
}

impl Part {
    fn empty(memory: &Memory) -> Self {
        Self { pages: Pages::new(memory, 0), homes: 0, last: 0, window: 0 }
    }

    fn new(memory: &Memory, pages: usize) -> Self {
        let buckets = (pages * BUCKETS_PER_PAGE) as u64;
        Self {
            pages: Pages::new(memory, pages),
            homes: buckets - (buckets / 128).clamp(PAD_BUCKETS_MIN, PAD_BUCKETS_MAX),
            last: buckets - 1,
            // The positions of window + 1 homes must be told apart by their tags alone.
            window: (buckets / 10 - 1).min(WINDOW_MAX),
        }
    }

    #[inline(always)]
    fn home(&self, position: u64, layout: Layout) -> u64 {
        // Both factors together have fewer than 64 bits: see `layout.rs` and the bound of a memory.
        position.wrapping_mul(self.homes).wrapping_shr(layout.hash_bits())
    }

    /// The last bucket that a slot with this home may lie in.
    #[inline(always)]
    fn end(&self, home: u64) -> u64 {
        home.wrapping_add(self.window).min(self.last)
    }

    /// The first position whose home is `bucket` or a later one.
    fn first_position(&self, bucket: u64, layout: Layout) -> u64 {
        if bucket >= self.homes {
            return 1 << layout.hash_bits();
        }
        ((bucket << layout.hash_bits()).div_ceil(self.homes)).min(1 << layout.hash_bits())
    }

    /// The position of a slot that lies in `bucket`.
    fn position(&self, slot: u64, bucket: u64, layout: Layout) -> u64 {
        let lowest = self.first_position(bucket.saturating_sub(self.window), layout);
        lowest + (layout.tag(slot).wrapping_sub(lowest) & layout.tag_mask())
    }

    #[inline(always)]
    fn bucket(&self, bucket: u64) -> &Bucket {
        let buckets: &Buckets =
            self.pages.buckets(bucket as usize / BUCKETS_PER_PAGE).expect("reachable pages are present");
        &buckets[bucket as usize % BUCKETS_PER_PAGE]
    }

    #[inline(always)]
    fn bucket_mut(&mut self, bucket: u64) -> &mut Bucket {
        let buckets =
            self.pages.buckets_mut(bucket as usize / BUCKETS_PER_PAGE).expect("reachable pages are present");
        &mut buckets[bucket as usize % BUCKETS_PER_PAGE]
    }

    #[inline(always)]
    fn prefetch(&self, bucket: u64) {
        if let Some(page) = self.pages.address(bucket as usize / BUCKETS_PER_PAGE) {
            prefetch(page.wrapping_add(bucket as usize % BUCKETS_PER_PAGE * size_of::<Bucket>()));
        }
    }

    /// Makes every page present that holds a bucket up to `bucket`.
    fn ensure_through(&mut self, bucket: u64, memory: &mut Memory) -> bool {
        let last = bucket as usize / BUCKETS_PER_PAGE;
        let mut page = last;
        // Pages are made present in order: the last one says whether there is anything to do.
        while page > 0 && self.pages.buckets(page).is_none() {
            page -= 1;
        }
        (page..=last).all(|page| self.pages.ensure(page, memory))
    }

    /// Puts a slot into the first bucket of its window that has room.
    fn insert(&mut self, position: u64, slot: u64, layout: Layout) -> bool {
        let home = self.home(position, layout);
        for bucket in home..=self.end(home) {
            let bucket = self.bucket_mut(bucket);
            if !bucket.is_full() {
                let count = bucket.count();
                bucket.0[count] = slot;
                return true;
            }
        }
        false
    }

    /// Removes a slot and moves displaced ones back towards their homes, so that no probe ends early.
    fn remove(&mut self, bucket: u64, index: usize, layout: Layout) {
        let mut hole = bucket;
        let mut was_full = self.bucket(hole).is_full();
        self.bucket_mut(hole).remove(index);
        while was_full {
            let Some((from, index)) = self.displaced_beyond(hole, layout) else { return };
            was_full = self.bucket(from).is_full();
            let slot = self.bucket(from).0[index];
            self.bucket_mut(from).remove(index);
            let target = self.bucket_mut(hole);
            let count = target.count();
            target.0[count] = slot;
            hole = from;
        }
    }

    /// The nearest slot behind `hole` whose home is at or before it.
    fn displaced_beyond(&self, hole: u64, layout: Layout) -> Option<(u64, usize)> {
        for from in hole + 1..=self.end(hole) {
            // A new part may end here, behind what the frontier can reach: nothing was displaced there.
            let page = self.pages.buckets(from as usize / BUCKETS_PER_PAGE)?;
            let bucket = &page[from as usize % BUCKETS_PER_PAGE];
            let mut slots = bucket.0.iter().take_while(|&&slot| slot != 0);
            let found = slots.position(|&slot| self.home(self.position(slot, from, layout), layout) <= hole);
            if let Some(index) = found {
                return Some((from, index));
            }
            if !bucket.is_full() {
                return None;
            }
        }
        None
    }
}

const _: () = assert!(size_of::<Part>() + size_of::<u64>() <= align_of::<Table>());

impl Table {
    pub(crate) fn new(memory: &Memory) -> Self {
        Self {
            current: Part::empty(memory),
            next: Part::empty(memory),
            frontier: 0,
            len: 0,
            stash: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn list_bytes(&self) -> u64 {
        let stash = self.stash.capacity() * size_of::<Stashed>();
        self.current.pages.list_bytes() + self.next.pages.list_bytes() + stash as u64
    }

    #[inline]
    pub(crate) fn is_resizing(&self) -> bool {
        self.next.homes > 0
    }

    /// The part that holds a position, its number, and the position's home in it.
    #[inline(always)]
    fn part_of(&self, position: u64, layout: Layout) -> (&Part, u8, u64) {
        let home = self.current.home(position, layout);
        if home < self.frontier {
            (&self.next, NEXT, self.next.home(position, layout))
        } else {
            (&self.current, CURRENT, home)
        }
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, position: u64, layout: Layout) {
        let (part, _, home) = self.part_of(position, layout);
        part.prefetch(home);
    }

    /// Finds the slot of a position that `is_it` accepts by its location.
    #[inline(always)]
    pub(crate) fn find(&self, position: u64, layout: Layout, is_it: &mut impl Accept) -> Option<Place> {
        if self.current.homes == 0 {
            return None;
        }
        let (part, number, home) = self.part_of(position, layout);
        let tag_word = layout.tag_word(position);
        let end = part.end(home);
        let mut at = home;
        loop {
            let bucket = part.bucket(at);
            let mut mask = bucket.matches(tag_word, layout.low_bits());
            while mask != 0 {
                let index = (mask.trailing_zeros() & 7) as usize;
                let slot = bucket.0[index];
                if slot != 0 && is_it.accept(layout.location(slot)) {
                    return Some(Place::new(number, at, index, slot));
                }
                mask &= mask - 1;
            }
            if !bucket.is_full() || at == end {
                break;
            }
            at = at.wrapping_add(1);
        }
        if self.stash.is_empty() { None } else { self.find_stashed(position, layout, is_it) }
    }

    #[cold]
    #[inline(never)]
    fn find_stashed(&self, position: u64, layout: Layout, is_it: &mut impl Accept) -> Option<Place> {
        let mut entries = self.stash.iter();
        let index = entries.position(|s| s.position == position && is_it.accept(layout.location(s.slot)))?;
        Some(Place::new(STASH, index as u64, 0, self.stash[index].slot))
    }

    /// The slot at a place where one was found earlier, if it still leads to the same item. Only while
    /// nothing was streamed: what lies behind the frontier is not kept up.
    #[inline(always)]
    pub(crate) fn again(&self, place: Place) -> Option<Place> {
        let part = match place.part() {
            CURRENT => &self.current,
            NEXT => &self.next,
            _ => return None,
        };
        let bucket = place.bucket() as usize;
        let slot = part.pages.buckets(bucket / BUCKETS_PER_PAGE)?[bucket % BUCKETS_PER_PAGE].0[place.index()];
        // Only the counter may differ.
        let is_same = (slot ^ place.slot) & !u64::from(FREQUENCY_MAX) == 0;
        is_same.then_some(Place { at: place.at, slot })
    }

    /// Replaces the slot that was found at `place`.
    #[inline(always)]
    pub(crate) fn put(&mut self, place: Place, slot: u64) {
        let part = match place.part() {
            CURRENT => &mut self.current,
            NEXT => &mut self.next,
            _ => {
                self.stash[place.bucket() as usize].slot = slot;
                return;
            }
        };
        part.bucket_mut(place.bucket()).0[place.index()] = slot;
    }

    /// Adds a slot for a position; the caller has called [`Table::make_ready`].
    pub(crate) fn insert(&mut self, position: u64, slot: u64, layout: Layout) {
        let stashed = Stashed { position, slot };
        if !self.part_of_mut(position, layout).insert(position, slot, layout) {
            self.stash.push(stashed);
        }
        self.len += 1;
    }

    fn part_of_mut(&mut self, position: u64, layout: Layout) -> &mut Part {
        if self.current.home(position, layout) < self.frontier { &mut self.next } else { &mut self.current }
    }

    /// Removes the slot that was found at `place`.
    pub(crate) fn remove(&mut self, place: Place, layout: Layout) {
        match place.part() {
            CURRENT => self.current.remove(place.bucket(), place.index(), layout),
            NEXT => self.next.remove(place.bucket(), place.index(), layout),
            _ => _ = self.stash.swap_remove(place.bucket() as usize),
        }
        self.len -= 1;
        if !self.stash.is_empty() {
            self.unstash(layout);
        }
    }

    /// Moves stashed slots into the table wherever there is room now.
    #[cold]
    fn unstash(&mut self, layout: Layout) {
        let mut index = 0;
        while index < self.stash.len() {
            let Stashed { position, slot } = self.stash[index];
            if self.part_of_mut(position, layout).insert(position, slot, layout) {
                self.stash.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Gets ready for one insertion: the table begins to grow when it is full enough, and streams on
    /// while it does. False if there is no room for another slot without memory that is not there.
    pub(crate) fn make_ready(&mut self, layout: Layout, memory: &mut Memory, grown: &mut bool) -> bool {
        if self.current.homes == 0 && !self.begin(1, memory) {
            return false;
        }
        let full = self.len >= SLOTS_PER_BUCKET_MAX * self.current.homes || self.stash.len() > STASH_MAX;
        if full && !self.is_resizing() {
            let pages = self.current.pages.len();
            self.next = Part::new(memory, pages + (pages / 8).max(1));
            *grown = true;
        }
        if self.is_resizing() {
            // Many stashed slots mean a freak of the hash: better one long step than a full stash.
            let freak = self.stash.len() > 3 * STASH_MAX;
            self.stream(if freak { u32::MAX } else { STREAM_BUCKETS }, layout, memory);
        }
        // Growth that waits for pages lets the load rise for a while; the stash bounds it.
        self.stash.len() <= STASH_MAX * 4
    }

    /// Whether a slot can be added without another page: load may rise for a while above where
    /// growth begins.
    pub(crate) fn has_spare_slots(&self) -> bool {
        self.stash.len() <= STASH_MAX && self.len * 16 < self.current.homes * 8 * 15
    }

    /// The first part of a table that had none.
    fn begin(&mut self, pages: usize, memory: &mut Memory) -> bool {
        let mut part = Part::new(memory, pages);
        let complete = part.ensure_through(part.last, memory);
        if complete {
            self.current = part;
        } else {
            part.pages.release_all(memory);
        }
        complete
    }

    /// Whether a table with so few slots should shrink; begins to if so.
    pub(crate) fn shrink_if_sparse(&mut self, memory: &mut Memory) -> bool {
        if self.is_resizing() || self.current.homes == 0 {
            return self.is_resizing();
        }
        if self.len == 0 {
            self.current.pages.release_all(memory);
            self.current = Part::empty(memory);
            return false;
        }
        let pages = self.current.pages.len();
        let wanted = (self.len as usize).div_ceil(6 * BUCKETS_PER_PAGE) + 1;
        if wanted * 5 >= pages * 3 {
            return false;
        }
        self.next = Part::new(memory, wanted);
        true
    }

    /// Streams at least `buckets_min` buckets of a resize, or what is left; false if pages are missing.
    pub(crate) fn stream(&mut self, buckets_min: u32, layout: Layout, memory: &mut Memory) -> bool {
        if !self.is_resizing() {
            return true;
        }
        let goal = (self.frontier + u64::from(buckets_min)).min(self.current.last + 1);
        while self.frontier < goal {
            let run_end = self.run_end(self.frontier);
            if !self.make_reachable(run_end, layout, memory) {
                return false;
            }
            self.stream_run(run_end, layout, memory);
        }
        if self.frontier > self.current.last {
            let next = std::mem::replace(&mut self.next, Part::empty(memory));
            let mut old = std::mem::replace(&mut self.current, next);
            old.pages.release_all(memory);
            self.frontier = 0;
            self.unstash(layout);
        }
        true
    }

    /// The first bucket from `from` on that is not full: nothing is displaced beyond it.
    fn run_end(&self, from: u64) -> u64 {
        (from..self.current.last)
            .find(|&bucket| !self.current.bucket(bucket).is_full())
            .unwrap_or(self.current.last)
    }

    /// Makes present what slots of the new part can reach once the frontier is behind `bucket`.
    fn make_reachable(&mut self, bucket: u64, layout: Layout, memory: &mut Memory) -> bool {
        let last_position = self.current.first_position(bucket + 1, layout) - 1;
        let reach = self.next.end(self.next.home(last_position, layout));
        self.next.ensure_through(reach, memory)
    }

    fn stream_run(&mut self, run_end: u64, layout: Layout, memory: &mut Memory) {
        for bucket in self.frontier..=run_end {
            for index in 0..8 {
                let slot = self.current.bucket(bucket).0[index];
                if slot == 0 {
                    break;
                }
                let position = self.current.position(slot, bucket, layout);
                if !self.next.insert(position, slot, layout) {
                    self.stash.push(Stashed { position, slot });
                }
            }
            // The last bucket of a page: no probe comes here any more.
            if bucket as usize % BUCKETS_PER_PAGE == BUCKETS_PER_PAGE - 1 {
                self.current.pages.release(bucket as usize / BUCKETS_PER_PAGE, memory);
            }
        }
        self.frontier = run_end + 1;
    }

    /// Visits the slots of one home bucket with positions from `from` on; gives the first position
    /// of the next home bucket, or `None` after the last one.
    pub(crate) fn visit_home(
        &self,
        from: u64,
        layout: Layout,
        visit: &mut dyn FnMut(u64, u64),
    ) -> Option<u64> {
        if self.current.homes == 0 {
            return None;
        }
        let (part, _, home) = self.part_of(from, layout);
        let limit = self.visit_limit(from, layout);
        let mut give = |position: u64, slot: u64| {
            if (from..limit).contains(&position) {
                visit(position, layout.location(slot));
            }
        };
        for at in home..=part.end(home) {
            let bucket = part.bucket(at);
            for &slot in bucket.0.iter().take_while(|&&slot| slot != 0) {
                give(part.position(slot, at, layout), slot);
            }
            if !bucket.is_full() {
                break;
            }
        }
        for stashed in &self.stash {
            give(stashed.position, stashed.slot);
        }
        (limit < 1 << layout.hash_bits()).then_some(limit)
    }

    /// The end of the positions that share their home with `from`, cut at the frontier.
    fn visit_limit(&self, from: u64, layout: Layout) -> u64 {
        let (part, number, home) = self.part_of(from, layout);
        let limit = part.first_position(home + 1, layout);
        let frontier = self.current.first_position(self.frontier, layout);
        if number == NEXT { limit.min(frontier) } else { limit }
    }

    /// Gives all pages back; every slot is gone.
    pub(crate) fn clear(&mut self, memory: &mut Memory) {
        self.current.pages.release_all(memory);
        self.next.pages.release_all(memory);
        *self = Self::new(memory);
    }
}

#[cfg(test)]
mod tests;
