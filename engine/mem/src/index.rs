//! The index of one core: a table for each shard.

use crate::item::Item;
use crate::layout::{FREQUENCY_MAX, Layout};
use crate::memory::Memory;
use crate::table::{Accept, Place, Table};

/// A slot that was found. Any change of the index makes it stale: a stale one may change a wrong
/// slot, never anything outside of the index.
/// Whole words only: copies of narrower fields would wait for their stores.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    shard: u64,
    place: Place,
    /// Where the item is.
    pub location: u64,
}

impl Found {
    /// The item's counter.
    #[inline(always)]
    #[must_use]
    pub fn frequency(&self) -> u8 {
        self.place.frequency()
    }
}

/// Where a key was seen ahead of its use: spares the second search of a batch. It may be wrong, for
/// another key or since the index changed: that is noticed when it is used.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    place: Place,
    moves: u64,
}

impl Spot {
    /// Not looked for.
    pub const NONE: Self = Self { place: Place::NOWHERE, moves: u64::MAX };
}

/// Accepts the item with a key, and keeps it.
struct ByKey<'m, 'k> {
    memory: &'m Memory,
    key: &'k [u8],
    item: Option<Item<'m>>,
}

impl Accept for ByKey<'_, '_> {
    #[inline(always)]
    fn accept(&mut self, location: u64) -> bool {
        self.item = self.memory.item_of_key(location, self.key);
        self.item.is_some()
    }
}

/// The index of one core.
#[derive(Debug)]
pub struct Index {
    tables: Vec<Table>,
    layout: Layout,
    len: u64,
    /// Shards whose table is being resized; a shard may be listed after it is done.
    resizing: Vec<u16>,
    growths: u64,
    /// Grows whenever slots may have been streamed from one part of a table to another.
    moves: u64,
}

impl Index {
    /// An empty index for `shards` shards of a memory. An empty shard takes no page.
    #[must_use]
    pub fn new(memory: &Memory, shards: u16) -> Self {
        let bytes = u64::from(memory.segment_count()) * u64::from(memory.segment_bytes());
        Self {
            tables: (0..shards).map(|_| Table::new(memory)).collect(),
            layout: Layout::new(bytes),
            len: 0,
            resizing: Vec::with_capacity(usize::from(shards)),
            growths: 0,
            moves: 0,
        }
    }

    /// Heap bytes for a number of shards, pages aside.
    #[must_use]
    pub fn fixed_bytes(shards: u16) -> u64 {
        u64::from(shards) * (size_of::<Table>() + size_of::<u16>()) as u64
    }

    /// Heap bytes of the tables' page lists.
    #[must_use]
    pub fn list_bytes(&self) -> u64 {
        self.tables.iter().map(Table::list_bytes).sum()
    }

    /// How hashes are cut.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Slots of all shards.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots of one shard.
    #[must_use]
    pub fn shard_len(&self, shard: u16) -> u64 {
        self.tables.get(usize::from(shard)).map_or(0, Table::len)
    }

    /// How often a table began to grow.
    #[must_use]
    pub fn growths(&self) -> u64 {
        self.growths
    }

    /// Fetches a key's home bucket into the cache.
    #[inline(always)]
    pub fn prefetch(&self, shard: u16, hash: u64) {
        self.tables[usize::from(shard)].prefetch(self.layout.position(hash), self.layout);
    }

    /// Finds the slot of a hash that `is_it` accepts by its location.
    #[inline(always)]
    pub fn find(&self, shard: u16, hash: u64, mut is_it: impl FnMut(u64) -> bool) -> Option<Found> {
        self.find_accepted(shard, hash, &mut is_it)
    }

    /// Finds the item of a key.
    #[inline(never)]
    pub fn find_key<'m>(
        &self,
        shard: u16,
        hash: u64,
        key: &[u8],
        memory: &'m Memory,
    ) -> Option<(Found, Item<'m>)> {
        let mut by_key = ByKey { memory, key, item: None };
        let found = self.find_accepted(shard, hash, &mut by_key)?;
        by_key.item.map(|item| (found, item))
    }

    #[inline(always)]
    fn find_accepted(&self, shard: u16, hash: u64, is_it: &mut impl Accept) -> Option<Found> {
        let position = self.layout.position(hash);
        let place = self.tables[usize::from(shard)].find(position, self.layout, is_it)?;
        let location = self.layout.location(place.slot);
        Some(Found { shard: u64::from(shard), place, location })
    }

    /// The first slot with the hash's tag, nearly always the right one, and its location.
    #[inline(always)]
    #[must_use]
    pub fn spot(&self, shard: u16, hash: u64) -> Option<(Spot, u64)> {
        let found = self.find(shard, hash, |_| true)?;
        Some((Spot { place: found.place, moves: self.moves }, found.location))
    }

    /// Finds the item of a key, first of all where it was seen.
    #[inline(always)]
    pub fn find_key_at<'m>(
        &self,
        spot: &Spot,
        shard: u16,
        hash: u64,
        key: &[u8],
        memory: &'m Memory,
    ) -> Option<(Found, Item<'m>)> {
        let seen = self.recall(spot, shard, key, memory);
        if seen.is_some() { seen } else { self.find_key(shard, hash, key, memory) }
    }

    #[inline(always)]
    fn recall<'m>(
        &self,
        spot: &Spot,
        shard: u16,
        key: &[u8],
        memory: &'m Memory,
    ) -> Option<(Found, Item<'m>)> {
        if spot.moves != self.moves {
            return None;
        }
        let place = self.tables[usize::from(shard)].again(spot.place)?;
        let location = self.layout.location(place.slot);
        let item = memory.item_of_key(location, key)?;
        Some((Found { shard: u64::from(shard), place, location }, item))
    }

    /// Adds one to the counter of a found slot, up to 3. No write if it is there already.
    #[inline(always)]
    pub fn touch(&mut self, found: &Found) {
        if found.frequency() < FREQUENCY_MAX {
            self.tables[found.shard as usize].put(found.place, found.place.slot.wrapping_add(1));
        }
    }

    /// Replaces location and counter of a found slot.
    #[inline]
    pub fn replace(&mut self, found: &Found, location: u64, frequency: u8) {
        let slot = self.layout.moved(found.place.slot, location, frequency.min(FREQUENCY_MAX));
        self.tables[found.shard as usize].put(found.place, slot);
    }

    /// Removes a found slot.
    pub fn remove(&mut self, found: &Found) {
        self.tables[found.shard as usize].remove(found.place, self.layout);
        self.len -= 1;
    }

    /// Gets ready for an insertion into a shard; false if that takes memory that is not there.
    pub fn make_ready(&mut self, shard: u16, memory: &mut Memory) -> bool {
        let mut grown = false;
        let table = &mut self.tables[usize::from(shard)];
        let was_resizing = table.is_resizing();
        let ready = table.make_ready(self.layout, memory, &mut grown);
        self.moves += u64::from(was_resizing || grown);
        if grown {
            self.growths += 1;
            self.resizing.push(shard);
        }
        ready
    }

    /// Whether a slot can be added to a shard without another page, though perhaps at a high load.
    #[must_use]
    pub fn has_spare_slots(&self, shard: u16) -> bool {
        self.tables[usize::from(shard)].has_spare_slots()
    }

    /// Adds a slot; [`Index::make_ready`] was called for it.
    pub fn insert(&mut self, shard: u16, hash: u64, location: u64, frequency: u8) {
        let position = self.layout.position(hash);
        let slot = self.layout.slot(position, location, frequency.min(FREQUENCY_MAX));
        self.tables[usize::from(shard)].insert(position, slot, self.layout);
        self.len += 1;
    }

    /// Streams some buckets of resizes that are under way; true if there is more to do and pages to
    /// do it with.
    pub fn stream(&mut self, buckets: u32, memory: &mut Memory) -> bool {
        let Some(&shard) = self.resizing.last() else { return false };
        self.moves += 1;
        let table = &mut self.tables[usize::from(shard)];
        if table.is_resizing() && !table.stream(buckets, self.layout, memory) {
            return false;
        }
        if !table.is_resizing() {
            self.resizing.pop();
        }
        !self.resizing.is_empty()
    }

    /// Begins to shrink a shard's table if it has become sparse.
    pub fn shrink_if_sparse(&mut self, shard: u16, memory: &mut Memory) {
        self.moves += 1;
        let table = &mut self.tables[usize::from(shard)];
        if !table.is_resizing() && table.shrink_if_sparse(memory) {
            self.resizing.push(shard);
        }
    }

    /// Visits the locations of one home bucket of a shard, from a position on; gives the position
    /// that follows them, or `None` at the shard's end.
    pub fn visit_home(&self, shard: u16, from: u64, visit: &mut dyn FnMut(u64)) -> Option<u64> {
        let table = self.tables.get(usize::from(shard))?;
        table.visit_home(from, self.layout, &mut |_, location| visit(location))
    }

    /// Removes all slots of a shard.
    pub fn clear_shard(&mut self, shard: u16, memory: &mut Memory) {
        self.moves += 1;
        let table = &mut self.tables[usize::from(shard)];
        self.len -= table.len();
        table.clear(memory);
        self.resizing.retain(|&s| s != shard);
    }
}
