//! The memory of one core: a mapping cut into segments, and the items in them.
//!
//! Does not know keys, queues or time: what is live and what goes next is the engine's business.
//!
//! Invariants that make the safe interface sound:
//! - Every byte of the mapping is initialised (the kernel zeroes it), so any bytes may be read.
//! - Items are written only into segments in use as log; references to them borrow the `Memory`.
//! - Pages and large blocks are reached only through their own handles, and never written by items.

use std::io;
use std::sync::Arc;

use crate::item::{FILLER, HEADER_BYTES, Header, Item, Traits};
use crate::large::LargeValue;
use crate::map::{Mapping, SLACK_BYTES, prefetch};
use crate::pool::{Pool, SegmentId, Use};
use crate::units::Units;

/// Bytes of an index page, as a shift.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// Blocks of a segment of large values.
pub(crate) const BLOCKS_PER_SEGMENT_SHIFT: u32 = 6;

/// The memory of one core.
#[derive(Debug)]
pub struct Memory {
    pub(crate) map: Arc<Mapping>,
    pub(crate) pool: Pool,
    pub(crate) pages: Units,
    pub(crate) blocks: Units,
    /// Large values that nobody can look up any more, but that a reply still borrows.
    pub(crate) zombies: Vec<LargeValue>,
    /// Heap bytes of large values' block lists.
    pub(crate) large_list_bytes: u64,
    /// Bytes of the segments and blocks that large values take.
    pub(crate) large_bytes: u64,
    shift: u32,
    /// Bits of a location within its segment.
    offset_mask: u64,
}

impl Memory {
    /// Reserves `segments` segments of `1 << segment_shift` bytes; nothing becomes resident yet.
    ///
    /// # Errors
    /// When the system refuses the address range.
    ///
    /// # Panics
    /// If a segment is smaller than two pages or larger than 16 MiB (value lengths have 24 bits).
    pub fn new(segments: u32, segment_shift: u32, huge_pages: bool) -> io::Result<Self> {
        assert!((PAGE_SHIFT + 1..=24).contains(&segment_shift));
        let map = Arc::new(Mapping::reserve(u64::from(segments) << segment_shift, huge_pages)?);
        let block_shift = segment_shift - BLOCKS_PER_SEGMENT_SHIFT;
        Ok(Self {
            map,
            pool: Pool::new(segments),
            pages: Units::new(Use::Pages, PAGE_SHIFT, segment_shift, segments),
            blocks: Units::new(Use::Blocks, block_shift, segment_shift, segments),
            zombies: Vec::new(),
            large_list_bytes: 0,
            large_bytes: 0,
            shift: segment_shift,
            offset_mask: (1 << segment_shift) - 1,
        })
    }

    /// Bytes of a segment.
    #[inline]
    #[must_use]
    pub fn segment_bytes(&self) -> u32 {
        1 << self.shift
    }

    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> u32 {
        self.pool.len()
    }

    /// Segments that nobody uses.
    #[inline]
    #[must_use]
    pub fn free_segments(&self) -> u32 {
        self.pool.free_count()
    }

    /// Segments in use as log.
    #[must_use]
    pub fn log_segments(&self) -> u32 {
        self.pool.count(Use::Log)
    }

    /// Segments in use for index pages.
    #[must_use]
    pub fn page_segments(&self) -> u32 {
        self.pool.count(Use::Pages)
    }

    /// Bytes of the pages that are handed out.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        u64::from(self.pages.units_taken()) << PAGE_SHIFT
    }

    /// Pages that can be had without taking a segment.
    #[inline]
    #[must_use]
    pub fn free_pages(&self) -> u32 {
        self.pages.units_free()
    }

    /// The segment of a location.
    #[inline]
    #[must_use]
    pub fn segment_of(&self, at: u64) -> SegmentId {
        at.wrapping_shr(self.shift) as SegmentId
    }

    /// The first location of a segment.
    #[inline]
    #[must_use]
    pub fn start_of(&self, segment: SegmentId) -> u64 {
        u64::from(segment) << self.shift
    }

    /// Heap bytes of the bookkeeping that grows with the number of segments.
    #[must_use]
    pub fn bookkeeping_bytes_per_segment(segment_shift: u32) -> u64 {
        let words = |units_shift: u32| (1u64 << units_shift).div_ceil(64) * 8;
        // Use, free list, two partial lists; then both bitmaps.
        1 + 4 + 8 + words(segment_shift - PAGE_SHIFT) + words(BLOCKS_PER_SEGMENT_SHIFT)
    }

    /// Takes a segment for items.
    pub fn take_log_segment(&mut self) -> Option<SegmentId> {
        self.pool.take(Use::Log)
    }

    /// Gives a log segment back; its items are gone.
    ///
    /// # Panics
    /// If it is not a log segment.
    pub fn give_back_log_segment(&mut self, segment: SegmentId) {
        self.pool.give_back(segment, Use::Log);
    }

    /// Checks that a range lies within one log segment: other segments are in other hands.
    #[inline(always)]
    fn check_log(&self, at: u64, len: u32) {
        let offset = at & self.offset_mask;
        assert!(self.pool.use_of(self.segment_of(at)) == Use::Log);
        assert!(offset.wrapping_add(u64::from(len)) <= self.offset_mask.wrapping_add(1));
    }

    /// # Panics
    /// If the range is not within one segment in use as log.
    #[inline(always)]
    fn bytes(&self, at: u64, len: u32) -> &[u8] {
        self.check_log(at, len);
        // SAFETY: the range was just checked to lie within a log segment, hence in the mapping, which is
        // initialised and lives as long as `self`; log bytes are written only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.map.at(at), len as usize) }
    }

    /// The header at a location.
    ///
    /// # Panics
    /// If the location is not in a log segment.
    #[inline(always)]
    #[must_use]
    pub fn header(&self, at: u64) -> Header {
        const { assert!(SLACK_BYTES >= 8) };
        assert!(self.pool.use_of(self.segment_of(at)) == Use::Log);
        let word = self.map.at(at).cast::<u64>();
        // SAFETY: the location is in the mapping, which has readable, initialised slack behind its last
        // usable byte; bytes of a neighbour that the word may reach into are cut off, not looked at.
        Header::from_word(u64::from_le(unsafe { word.read_unaligned() }))
    }

    /// The item at a location.
    #[inline(always)]
    #[must_use]
    pub fn item(&self, at: u64) -> Item<'_> {
        let header = self.header(at);
        Item { header, bytes: self.bytes(at, header.item_bytes()) }
    }

    /// The item at a location, if it has this key.
    #[inline(always)]
    #[must_use]
    pub fn item_of_key(&self, at: u64, key: &[u8]) -> Option<Item<'_>> {
        let header = self.header(at);
        if usize::from(header.key_len()) != key.len() {
            return None;
        }
        let item = Item { header, bytes: self.bytes(at, header.item_bytes()) };
        short_eq(item.key(), key).then_some(item)
    }

    /// Fetches the start of an item into the cache, with the next line if a small item reaches into it.
    #[inline(always)]
    pub fn prefetch(&self, at: u64) {
        /// Bytes of a small item: fetching lines that are not needed costs more than a few misses.
        const SMALL_ITEM_BYTES: u64 = 40;
        prefetch(self.map.at(at));
        prefetch(self.map.at(at + SMALL_ITEM_BYTES));
    }

    /// Fetches one line.
    #[inline(always)]
    pub fn prefetch_line(&self, at: u64) {
        prefetch(self.map.at(at));
    }

    /// A writable range of a log segment.
    ///
    /// # Panics
    /// If the range is not within one segment in use as log.
    #[inline(always)]
    fn log_bytes(&mut self, at: u64, len: u32) -> &mut [u8] {
        self.check_log(at, len);
        // SAFETY: the range lies within one log segment, hence within the mapping; all references to
        // log bytes borrow `self`, which is borrowed mutably here.
        unsafe { std::slice::from_raw_parts_mut(self.map.at(at), len as usize) }
    }

    /// Writes an item whose value is given in pieces; gives its size.
    ///
    /// # Panics
    /// If the location is not in a log segment, the item would leave it, or a length is over its field.
    #[inline]
    pub fn write_item(&mut self, at: u64, traits: &Traits, key: &[u8], value: &[&[u8]]) -> u32 {
        let value_len: usize = value.iter().map(|piece| piece.len()).sum();
        let key_len = u16::try_from(key.len()).expect("keys are bounded to 16 bits of length");
        let bytes = traits.item_bytes(key.len(), value_len);
        assert!(bytes <= self.segment_bytes() as usize, "items are smaller than a segment");
        let header = Header::new(traits, key_len, value_len as u32);
        let out = self.log_bytes(at, bytes as u32);
        out[..HEADER_BYTES as usize].copy_from_slice(&header.to_bytes());
        if let Some(deadline) = traits.deadline {
            out[HEADER_BYTES as usize..][..6].copy_from_slice(&deadline.to_le_bytes()[..6]);
        }
        if let Some(version) = traits.version {
            out[header.version_offset() as usize..][..8].copy_from_slice(&version.to_le_bytes());
        }
        let mut rest = &mut out[header.key_offset() as usize..];
        short_copy(&mut rest[..key.len()], key);
        rest = &mut rest[key.len()..];
        for piece in value {
            let (head, tail) = rest.split_at_mut(piece.len());
            short_copy(head, piece);
            rest = tail;
        }
        bytes as u32
    }

    /// Overwrites the value of an item with one of the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    #[inline]
    pub fn overwrite_value(&mut self, at: u64, value: &[u8]) {
        let header = self.header(at);
        assert_eq!(header.value_len() as usize, value.len(), "an overwrite keeps the length");
        short_copy(self.log_bytes(at + u64::from(header.value_offset()), header.value_len()), value);
    }

    /// Marks an item dead; it keeps its lengths, so that its segment can still be walked.
    #[inline]
    pub fn kill(&mut self, at: u64) {
        let flags = self.header(at).killed().flags();
        self.log_bytes(at, 1)[0] = flags;
    }

    /// Fills a gap with a dead item, or with filler bytes where no header fits.
    pub fn fill_gap(&mut self, at: u64, len: u32) {
        if len < HEADER_BYTES {
            self.log_bytes(at, len).fill(FILLER);
        } else {
            let header = Header::gap(len).to_bytes();
            self.log_bytes(at, HEADER_BYTES).copy_from_slice(&header);
        }
    }

    /// Copies an item to another place in the log.
    ///
    /// # Panics
    /// If one range leaves its segment, or they overlap.
    #[inline]
    pub fn copy_item(&mut self, from: u64, to: u64, len: u32) {
        assert!(from.abs_diff(to) >= u64::from(len), "an item is copied to another place");
        let source = self.bytes(from, len).as_ptr();
        let target = self.log_bytes(to, len).as_mut_ptr();
        // SAFETY: both ranges were checked to lie within the mapping, and not to overlap.
        unsafe { std::ptr::copy_nonoverlapping(source, target, len as usize) };
    }

    /// Copies an item to another place with other traits; gives its new size.
    ///
    /// # Panics
    /// As [`Memory::copy_item`].
    pub fn copy_item_with(&mut self, from: u64, to: u64, traits: &Traits) -> u32 {
        let old = self.header(from);
        let new = Header::new(traits, old.key_len(), old.value_len());
        let out = self.log_bytes(to, new.key_offset());
        out[..HEADER_BYTES as usize].copy_from_slice(&new.to_bytes());
        if let Some(deadline) = traits.deadline {
            out[HEADER_BYTES as usize..][..6].copy_from_slice(&deadline.to_le_bytes()[..6]);
        }
        if let Some(version) = traits.version {
            out[new.version_offset() as usize..][..8].copy_from_slice(&version.to_le_bytes());
        }
        let (source, target) = (from + u64::from(old.key_offset()), to + u64::from(new.key_offset()));
        self.copy_item(source, target, u32::from(old.key_len()) + old.value_len());
        new.item_bytes()
    }

    /// Replaces the deadline of an item that has room for one; gives the old one.
    ///
    /// # Panics
    /// If it has none.
    pub fn replace_deadline(&mut self, at: u64, raw: u64) -> u64 {
        let item = self.item(at);
        assert!(item.header.has_deadline(), "the item has room for a deadline");
        let old = item.deadline();
        self.log_bytes(at + u64::from(HEADER_BYTES), 6).copy_from_slice(&raw.to_le_bytes()[..6]);
        old
    }

    /// Replaces the version of an item that has one.
    ///
    /// # Panics
    /// If it has none.
    pub fn replace_version(&mut self, at: u64, version: u64) {
        let header = self.header(at);
        assert!(header.has_version(), "the item has a version");
        let place = at + u64::from(header.version_offset());
        self.log_bytes(place, 8).copy_from_slice(&version.to_le_bytes());
    }
}

/// Equality of two slices of the same length, without a call for the usual key lengths.
#[inline(always)]
fn short_eq(a: &[u8], b: &[u8]) -> bool {
    let word = |s: &[u8], at: usize| {
        u64::from_le_bytes(s[at..at + 8].try_into().expect("the slice has eight bytes"))
    };
    let len = a.len();
    if len != b.len() {
        false
    } else if (8..=16).contains(&len) {
        (word(a, 0) ^ word(b, 0)) | (word(a, len - 8) ^ word(b, len - 8)) == 0
    } else if (17..=32).contains(&len) {
        let head = (word(a, 0) ^ word(b, 0)) | (word(a, 8) ^ word(b, 8));
        let tail = (word(a, len - 16) ^ word(b, len - 16)) | (word(a, len - 8) ^ word(b, len - 8));
        head | tail == 0
    } else {
        a == b
    }
}

/// Copies between slices of the same length, without a call for short ones.
#[inline(always)]
fn short_copy(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len());
    let len = from.len();
    if (8..=16).contains(&len) {
        let (head, tail): ([u8; 8], [u8; 8]) =
            (*from.first_chunk().expect("eight bytes"), *from.last_chunk().expect("eight bytes"));
        *to.first_chunk_mut().expect("eight bytes") = head;
        *to.last_chunk_mut().expect("eight bytes") = tail;
    } else if (17..=32).contains(&len) {
        let (head, tail): ([u8; 16], [u8; 16]) =
            (*from.first_chunk().expect("sixteen bytes"), *from.last_chunk().expect("sixteen bytes"));
        *to.first_chunk_mut().expect("sixteen bytes") = head;
        *to.last_chunk_mut().expect("sixteen bytes") = tail;
    } else {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(4, 15, false).unwrap()
    }

    #[test]
    fn items_are_read_as_written() {
        let mut memory = memory();
        let segment = memory.take_log_segment().unwrap();
        let mut at = memory.start_of(segment);
        let mut expected = Vec::new();
        for len in 0..70usize {
            let key: Vec<u8> = (0..len as u8).collect();
            let value = vec![len as u8; 70 - len];
            let traits = Traits {
                kind: 2,
                large: false,
                deadline: (len % 2 == 0).then_some(len as u64),
                version: (len % 3 == 0).then_some(u64::MAX - len as u64),
            };
            let bytes = memory.write_item(
                at,
                &traits,
                &key,
                &[&value[..3.min(value.len())], &value[3.min(value.len())..]],
            );
            expected.push((at, traits, key, value));
            at += u64::from(bytes);
        }
        for (at, traits, key, value) in expected {
            let item = memory.item(at);
            assert_eq!((item.key(), item.value(), item.traits()), (&key[..], &value[..], traits));
            assert!(memory.item_of_key(at, &key).is_some() && memory.item_of_key(at, b"another").is_none());
            let mut near = key.clone();
            if let Some(last) = near.last_mut() {
                *last ^= 1;
                assert!(memory.item_of_key(at, &near).is_none());
            }
        }
    }

    #[test]
    fn gaps_of_every_length_can_be_walked() {
        let mut memory = memory();
        let segment = memory.take_log_segment().unwrap();
        let start = memory.start_of(segment);
        for len in 1..40 {
            memory.fill_gap(start, len);
            let mut walked = 0;
            while walked < len {
                let header = memory.header(start + u64::from(walked));
                assert!(header.is_dead());
                walked += header.item_bytes();
            }
            assert_eq!(walked, len);
        }
    }

    #[test]
    #[should_panic(expected = "use_of")]
    fn items_cannot_be_written_outside_of_log_segments() {
        memory().write_item(0, &Traits::default(), b"key", &[b"value"]);
    }

    #[test]
    #[should_panic(expected = "offset_mask")]
    fn items_cannot_leave_their_segment() {
        let mut memory = memory();
        let segment = memory.take_log_segment().unwrap();
        let end = memory.start_of(segment) + u64::from(memory.segment_bytes());
        memory.write_item(end - 8, &Traits::default(), b"key", &[b"value"]);
    }
}
