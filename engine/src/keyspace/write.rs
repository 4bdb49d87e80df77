//! Writing: in place where the new item fits into the old one's bytes, appended otherwise.

use pinnace_mem::{Found, LOG_VALUE_BYTES_MAX, Traits};
use pinnace_types::Deadline;

use super::{Keyspace, Large};
use crate::absence::Absences;
use crate::config::MemoryPolicy;
use crate::entry::{AbsenceStamp, ValueKind, Version};
use crate::error::WriteError;
use crate::key::Key;
use crate::segment::QueueId;

/// Values above this part of a segment get blocks of their own, as a shift.
const LARGE_SHIFT: u32 = 3;

/// A value on its way in.
#[derive(Clone, Copy)]
struct Incoming<'v> {
    parts: &'v [&'v [u8]],
    len: u64,
    deadline: Deadline,
}

impl Keyspace {
    /// Writes a value. An item that is there already keeps its place in its queue where that is
    /// possible, and counts a hit.
    ///
    /// # Errors
    /// When a length is over its limit, there is no memory or no room in the log; the key is unchanged then, except that
    /// making room may have evicted it like any other.
    #[inline]
    pub fn set(&mut self, key: &Key<'_>, value: &[u8], deadline: Deadline) -> Result<(), WriteError> {
        self.write(key, Incoming { parts: &[value], len: value.len() as u64, deadline })
    }

    /// Writes a value that is given in pieces.
    ///
    /// # Errors
    /// As [`Keyspace::set`].
    pub fn set_parts(
        &mut self,
        key: &Key<'_>,
        parts: &[&[u8]],
        deadline: Deadline,
    ) -> Result<(), WriteError> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        self.write(key, Incoming { parts, len, deadline })
    }

    #[inline]
    fn write(&mut self, key: &Key<'_>, value: Incoming<'_>) -> Result<(), WriteError> {
        self.check_lengths(key, value.len)?;
        if let Some(sink) = &self.sink {
            sink.admit(key, value.len)?;
        }
        let found = self.find_live(key);
        if let Some(found) = &found
            && !self.is_large(value.len)
            && self.overwrite(found, key, value)
        {
            self.index.touch(found);
            self.stats.sets_in_place += 1;
        } else {
            self.append(key, value, found)?;
        }
        self.stats.sets += 1;
        if let Some(absences) = &mut self.absences {
            absences.written(key.hash().0);
        }
        if let Some(sink) = &mut self.sink {
            sink.set(key.shard(), key, value.parts, value.deadline);
        }
        Ok(())
    }

    #[inline]
    fn check_lengths(&self, key: &Key<'_>, len: u64) -> Result<(), WriteError> {
        let key_len = key.bytes().len();
        if key_len > self.config.key_bytes_max as usize {
            return Err(WriteError::KeyTooLong { len: key_len, max: self.config.key_bytes_max });
        }
        if len > self.sizing.value_bytes_max {
            return Err(WriteError::ValueTooLarge { len, max: self.sizing.value_bytes_max });
        }
        Ok(())
    }

    #[inline]
    fn is_large(&self, len: u64) -> bool {
        len > u64::from((self.memory.segment_bytes() >> LARGE_SHIFT).min(LOG_VALUE_BYTES_MAX))
    }

    /// Writes over the old item; false, and nothing changed, if the new one does not fit.
    #[inline]
    fn overwrite(&mut self, found: &Found, key: &Key<'_>, value: Incoming<'_>) -> bool {
        let location = found.location;
        let header = self.memory.header(location);
        let raw = value.deadline.to_raw();
        if header.is_large() || (raw != 0 && !header.has_deadline()) {
            return false;
        }
        if let ([bytes], true) = (value.parts, u64::from(header.value_len()) == value.len) {
            self.memory.overwrite_value(location, bytes);
            if header.has_deadline() {
                self.change_deadline(location, raw);
            }
            if header.has_version() {
                let version = self.next_version();
                self.memory.replace_version(location, version);
            }
            return true;
        }
        value.len <= u64::from(header.value_len()) && self.overwrite_shorter(found, key, value)
    }

    /// Writes a shorter item over the old one and fills the gap. The room for a deadline stays.
    fn overwrite_shorter(&mut self, found: &Found, key: &Key<'_>, value: Incoming<'_>) -> bool {
        let location = found.location;
        let item = self.memory.item(location);
        let (old_bytes, old_raw) = (item.header.item_bytes(), item.deadline());
        let (has_deadline, has_version) = (item.header.has_deadline(), item.header.has_version());
        let raw = value.deadline.to_raw();
        let traits = Traits {
            kind: ValueKind::String as u8,
            large: false,
            deadline: has_deadline.then_some(raw),
            version: has_version.then(|| self.next_version()),
        };
        let bytes = self.memory.write_item(location, &traits, key.bytes(), value.parts);
        if bytes < old_bytes {
            self.memory.fill_gap(location + u64::from(bytes), old_bytes - bytes);
            self.shrink_live(location, old_bytes - bytes);
        }
        self.deadlines = self.deadlines + u64::from(raw != 0) - u64::from(old_raw != 0);
        if raw != 0 && raw != old_raw {
            self.note_deadline(location, raw);
        }
        true
    }

    fn shrink_live(&mut self, location: u64, bytes: u32) {
        let queue = self.queue_of(location);
        self.segments.remove_live(self.memory.segment_of(location), bytes);
        self.segments.queue_mut(queue).bytes -= u64::from(bytes);
    }

    /// Changes the deadline of an item that has room for one.
    fn change_deadline(&mut self, location: u64, raw: u64) {
        let old = self.memory.replace_deadline(location, raw);
        self.deadlines = self.deadlines + u64::from(raw != 0) - u64::from(old != 0);
        if raw != 0 && (raw < old || old == 0) {
            self.note_deadline(location, raw);
        }
    }

    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Appends an item, new or in place of an old one that it does not fit into.
    fn append(&mut self, key: &Key<'_>, value: Incoming<'_>, found: Option<Found>) -> Result<(), WriteError> {
        let queue = match &found {
            Some(found) => self.queue_of(found.location),
            None => self.queue_for_new(key, value.len),
        };
        if found.is_none() {
            self.make_room_for_item()?;
        }
        let is_large = self.is_large(value.len);
        // Room for a version too: what the old item has may change until it is looked at again.
        let traits = Traits { deadline: Some(0), version: Some(0), ..Traits::default() };
        let value_len = if is_large { size_of::<u32>() } else { value.len as usize };
        let bytes = traits.item_bytes(key.bytes().len(), value_len) as u32;
        let segments = if is_large { self.memory.large_segments(value.len) } else { 0 };
        self.prepare_index(key)?;
        self.make_room(queue, bytes, segments)?;
        if is_large {
            let large = self.memory.store_large(value.parts).ok_or_else(|| self.out_of_memory())?;
            self.append_now(key, value, queue, Some(large))
        } else {
            self.append_now(key, value, queue, None)
        }
    }

    fn out_of_memory(&mut self) -> WriteError {
        self.stats.out_of_memory += 1;
        WriteError::OutOfMemory
    }

    /// Where a new item begins: in the main queue if the ghost remembers its key, or if it alone is
    /// more than the small queue's share, where it would drive everything out and go next itself.
    fn queue_for_new(&mut self, key: &Key<'_>, len: u64) -> QueueId {
        if self.ghost.take(key.hash().0) {
            self.stats.ghost_hits += 1;
            return QueueId::Main;
        }
        let memory = u64::from(self.memory.segment_count()) * u64::from(self.memory.segment_bytes());
        let share = memory / 100 * u64::from(self.config.small_share_percent);
        if self.is_large(len) && len > share { QueueId::Main } else { QueueId::Small }
    }

    /// Gets the index ready for another slot, making room for its pages if need be.
    #[inline]
    fn prepare_index(&mut self, key: &Key<'_>) -> Result<(), WriteError> {
        loop {
            let growths = self.index.growths();
            let is_ready = self.index_may_grow() && self.index.make_ready(key.shard().0, &mut self.memory);
            self.stats.index_growths += self.index.growths() - growths;
            if is_ready {
                return Ok(());
            }
            if self.index_is_ready(key) {
                return Ok(());
            }
            if self.reclaim_step(true) == super::evict::Step::Idle {
                return Err(self.out_of_memory());
            }
        }
    }

    /// Whether a slot can be added without another page.
    fn index_is_ready(&self, key: &Key<'_>) -> bool {
        self.index.has_spare_slots(key.shard().0)
    }

    /// Writes the item; there is room for it.
    fn append_now(
        &mut self,
        key: &Key<'_>,
        value: Incoming<'_>,
        queue: QueueId,
        large: Option<Large>,
    ) -> Result<(), WriteError> {
        // Making room may have moved or evicted the old item.
        let found = self.find(key);
        let old = found.map(|found| self.memory.item(found.location).traits());
        let has_version = old.is_some_and(|traits| traits.version.is_some());
        let raw = value.deadline.to_raw();
        let traits = Traits {
            kind: ValueKind::String as u8,
            large: large.is_some(),
            deadline: (raw != 0).then_some(raw),
            version: has_version.then(|| self.next_version()),
        };
        let large_len = large.as_ref().map_or(0, |value| value.len() as u64);
        let value_len = if large.is_some() { size_of::<u32>() } else { value.len as usize };
        let bytes = traits.item_bytes(key.bytes().len(), value_len) as u32;
        let Some((location, role)) = self.place(queue, bytes) else {
            if let Some(value) = large {
                self.memory.release_large(value);
            }
            return Err(self.out_of_memory());
        };
        match large.map(|value| self.large.add(value)) {
            None => _ = self.memory.write_item(location, &traits, key.bytes(), value.parts),
            Some(id) => _ = self.memory.write_item(location, &traits, key.bytes(), &[&id.to_le_bytes()]),
        }
        self.enter(location, role, bytes, large_len, raw);
        match found {
            None => self.index.insert(key.shard().0, key.hash().0, location, 0),
            Some(found) => {
                self.index.replace(&found, location, found.frequency() + 1);
                self.bury(found.location);
            }
        }
        Ok(())
    }

    /// Removes a key; true if it was live.
    pub fn delete(&mut self, key: &Key<'_>) -> bool {
        let found = self.find_live(key);
        if let Some(found) = &found {
            self.index.remove(found);
            self.bury(found.location);
            self.stats.deletes += 1;
        }
        if let Some(sink) = &mut self.sink
            && (found.is_some() || self.has_evicted || self.config.policy == MemoryPolicy::Evict)
        {
            sink.delete(key.shard(), key);
        }
        found.is_some()
    }

    /// Changes when a key expires; false if it is absent.
    ///
    /// # Errors
    /// When the deadline needs room that is not there, or the log has none.
    pub fn set_deadline(&mut self, key: &Key<'_>, deadline: Deadline) -> Result<bool, WriteError> {
        let Some(found) = self.find_live(key) else { return Ok(false) };
        if let Some(sink) = &self.sink {
            sink.admit(key, 0)?;
        }
        let raw = deadline.to_raw();
        let mut location = found.location;
        if self.memory.header(location).has_deadline() {
            self.change_deadline(location, raw);
        } else if raw != 0 {
            let Some(found) = self.rewrite_with(key, Traits { deadline: Some(raw), ..Traits::default() })?
            else {
                return Ok(false);
            };
            location = found.location;
        }
        if self.memory.header(location).has_version() {
            let version = self.next_version();
            self.memory.replace_version(location, version);
        }
        if let Some(sink) = &mut self.sink {
            sink.set_deadline(key.shard(), key, deadline);
        }
        Ok(true)
    }

    /// The version of a key, from now on changed by every write to it.
    ///
    /// # Errors
    /// When the version needs room that is not there.
    pub fn version(&mut self, key: &Key<'_>) -> Result<Option<Version>, WriteError> {
        let Some(found) = self.find_live(key) else { return Ok(None) };
        if let Some(version) = self.memory.item(found.location).version() {
            return Ok(Some(Version(version)));
        }
        let version = self.next_version();
        let found = self.rewrite_with(key, Traits { version: Some(version), ..Traits::default() })?;
        Ok(found.map(|_| Version(version)))
    }

    /// Remembers that a key is absent; see [`Keyspace::is_still_absent`].
    pub fn see_absent(&mut self, key: &Key<'_>) -> AbsenceStamp {
        let absences = self.absences.get_or_insert_with(Absences::new);
        AbsenceStamp(absences.see(key.hash().0))
    }

    /// Whether a key is absent and has been all the time since [`Keyspace::see_absent`] gave the stamp.
    /// May say no for one that has, if very many absent keys were seen meanwhile.
    pub fn is_still_absent(&mut self, key: &Key<'_>, stamp: AbsenceStamp) -> bool {
        let holds = |absences: &Absences| absences.holds(key.hash().0, stamp.0);
        self.absences.as_ref().is_some_and(holds) && self.peek(key).is_none()
    }

    /// Gives an item room for a deadline or a version at a new place; `None` if making room evicted it.
    fn rewrite_with(&mut self, key: &Key<'_>, added: Traits) -> Result<Option<Found>, WriteError> {
        let Some(found) = self.find(key) else { return Ok(None) };
        let queue = self.queue_of(found.location);
        // The most that both could add.
        self.make_room(queue, self.memory.header(found.location).item_bytes() + 14, 0)?;
        let Some(found) = self.find(key) else { return Ok(None) };
        let old = self.memory.item(found.location).traits();
        let traits = Traits {
            deadline: added.deadline.or(old.deadline),
            version: added.version.or(old.version),
            ..old
        };
        let header = self.memory.header(found.location);
        let bytes = traits.item_bytes(usize::from(header.key_len()), header.value_len() as usize) as u32;
        let queue = self.queue_of(found.location);
        let Some(place) = self.place(queue, bytes) else { return Err(self.out_of_memory()) };
        self.rewrite(&found, place, &traits);
        Ok(self.find(key))
    }
}
