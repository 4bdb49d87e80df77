//! Large values: whole segments and runs of blocks under one shared handle.
//!
//! A value is written once, when it is built, and never again, so that handles may be read while the
//! engine goes on. Its memory goes back only when the last handle is gone. Handles may go to other
//! cores; the memory is taken back by the core it belongs to, once it sees that its handle is the last.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use pinnace_protocol::Slices;

use crate::map::Mapping;
use crate::memory::{BLOCKS_PER_SEGMENT_SHIFT, Memory};
use crate::pool::Use;

/// A stretch of neighbouring memory.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: u64,
    len: u32,
}

#[derive(Debug)]
struct Inner {
    map: Arc<Mapping>,
    runs: Vec<Run>,
    len: usize,
}

/// A value that is too large for the log and lies in blocks of its own. Cloning the handle pins the
/// value: its memory stays put, unchanged, and goes back to the engine after the last handle is gone.
#[derive(Clone, Debug)]
pub struct LargeValue(Arc<Inner>);

impl LargeValue {
    /// Bytes of the value.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether the value has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Whether somebody else holds a handle too. If not, nobody can make another one from here on.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let shared = Arc::strong_count(&self.0) > 1;
        if !shared {
            // What other cores read through their handles comes before what is done to the memory now.
            fence(Ordering::Acquire);
        }
        shared
    }

    fn list_bytes(&self) -> u64 {
        (size_of::<Inner>() + 2 * size_of::<usize>() + self.0.runs.capacity() * size_of::<Run>()) as u64
    }
}

impl Slices for LargeValue {
    fn slice_count(&self) -> usize {
        self.0.runs.len()
    }

    fn slice(&self, index: usize) -> &[u8] {
        let run = self.0.runs[index];
        // SAFETY: the run is initialised memory of the mapping that `self` keeps alive; `Memory` hands
        // it to nobody else, and nobody writes to it, until the last handle is gone.
        unsafe { std::slice::from_raw_parts(self.0.map.at(run.at), run.len as usize) }
    }

    fn byte_len(&self) -> usize {
        self.0.len
    }
}

impl Memory {
    /// Segments that must be free for a large value of `len` bytes to fit.
    #[must_use]
    pub fn large_segments(&self, len: u64) -> u32 {
        let blocks = len.div_ceil(self.blocks.unit_bytes());
        let missing = blocks.saturating_sub(u64::from(self.blocks.units_free()));
        missing.div_ceil(1 << BLOCKS_PER_SEGMENT_SHIFT) as u32
    }

    /// Stores a large value given in pieces; `None`, and nothing changed, if it does not fit.
    pub fn store_large(&mut self, pieces: &[&[u8]]) -> Option<LargeValue> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.large_segments(len as u64) > self.free_segments() {
            return None;
        }
        let runs = self.take_runs(len as u64);
        self.write_runs(&runs, pieces);
        let value = LargeValue(Arc::new(Inner { map: Arc::clone(&self.map), runs, len }));
        self.large_list_bytes += value.list_bytes();
        self.large_bytes += self.footprint(&value);
        Some(value)
    }

    /// Blocks that are free already come first: they would be wasted if large values took whole
    /// segments only. What they cannot hold goes to whole segments as far as possible.
    fn take_runs(&mut self, len: u64) -> Vec<Run> {
        let segment_bytes = u64::from(self.segment_bytes());
        let whole = u64::from(self.large_segments(len)).min(len / segment_bytes);
        let mut runs = Vec::with_capacity(whole as usize + 2);
        for _ in 0..whole {
            let segment = self.pool.take(Use::Whole).expect("enough segments were counted");
            runs.push(Run { at: self.start_of(segment), len: segment_bytes as u32 });
        }
        let mut rest = len - whole * segment_bytes;
        let block_bytes = self.blocks.unit_bytes();
        while rest > 0 {
            let wanted = rest.div_ceil(block_bytes).min(1 << BLOCKS_PER_SEGMENT_SHIFT) as u32;
            let (at, blocks) = self.blocks.take(wanted, &mut self.pool).expect("enough blocks were counted");
            let len = rest.min(u64::from(blocks) * block_bytes);
            runs.push(Run { at, len: len as u32 });
            rest -= len;
        }
        runs.shrink_to_fit();
        runs
    }

    /// Only for runs that were just taken: nobody else knows them.
    fn write_runs(&mut self, runs: &[Run], pieces: &[&[u8]]) {
        let mut runs = runs.iter();
        let mut at = 0;
        let mut room = 0;
        for piece in pieces {
            let mut piece = *piece;
            while !piece.is_empty() {
                if room == 0 {
                    let run = runs.next().expect("the runs hold as many bytes as the pieces");
                    (at, room) = (run.at, run.len as usize);
                }
                let (head, tail) = piece.split_at(room.min(piece.len()));
                // SAFETY: the run was just taken, so it lies within the mapping and no handle to it
                // exists; `head` cannot overlap it, since it was in nobody's hands.
                unsafe { std::ptr::copy_nonoverlapping(head.as_ptr(), self.map.at(at), head.len()) };
                (at, room) = (at + head.len() as u64, room - head.len());
                piece = tail;
            }
        }
    }

    /// Memory that a value takes, rounded up to blocks.
    fn footprint(&self, value: &LargeValue) -> u64 {
        let block = self.blocks.unit_bytes();
        value.0.runs.iter().map(|run| u64::from(run.len).next_multiple_of(block)).sum()
    }

    /// Begins to empty a sparse segment of blocks, if there is enough room in the others; true while
    /// one is being emptied. [`Memory::move_blocks`] does it, value by value.
    pub fn begin_drain(&mut self) -> bool {
        self.blocks.begin_drain()
    }

    /// Leaves the segment that was being emptied as it is: what is in it is borrowed.
    pub fn end_drain(&mut self) {
        self.blocks.end_drain();
    }

    /// Moves a value's blocks out of the segment that is being emptied, unless it is borrowed.
    pub fn move_blocks(&mut self, value: &mut LargeValue) {
        let Some(segment) = self.blocks.drained() else { return };
        let in_segment = |run: &Run| (run.at >> self.segment_bytes().ilog2()) as u32 == segment;
        if value.is_shared() || !value.0.runs.iter().any(in_segment) {
            return;
        }
        let list_bytes = value.list_bytes();
        let inner = Arc::get_mut(&mut value.0).expect("the only handle was given");
        let old = std::mem::take(&mut inner.runs);
        for run in old {
            if self.segment_of(run.at) == segment && self.blocks.drained() == Some(segment) {
                self.move_run(run, &mut inner.runs);
            } else {
                inner.runs.push(run);
            }
        }
        inner.runs.shrink_to_fit();
        self.large_list_bytes = self.large_list_bytes + value.list_bytes() - list_bytes;
    }

    fn move_run(&mut self, run: Run, to: &mut Vec<Run>) {
        let block_bytes = self.blocks.unit_bytes();
        let blocks = u64::from(run.len).div_ceil(block_bytes) as u32;
        if blocks > self.blocks.units_free() {
            to.push(run);
            return;
        }
        let mut done = 0;
        while done < run.len {
            let wanted = u64::from(run.len - done).div_ceil(block_bytes) as u32;
            let (at, taken) = self.blocks.take(wanted, &mut self.pool).expect("enough blocks were counted");
            let len = (run.len - done).min(taken << block_bytes.ilog2());
            let (source, target) = (self.map.at(run.at + u64::from(done)), self.map.at(at));
            // SAFETY: the run is the value's, the target was just taken, so both lie within the mapping
            // and do not overlap; no handle but the caller's exclusive one reads either.
            unsafe { std::ptr::copy_nonoverlapping(source, target, len as usize) };
            to.push(Run { at, len });
            done += len;
        }
        self.blocks.give_back(run.at, blocks, &mut self.pool);
    }

    /// Gives a large value up. Its memory comes back at once, or, while a reply borrows it, by
    /// [`Memory::reap_large`].
    pub fn release_large(&mut self, value: LargeValue) {
        if value.is_shared() {
            self.zombies.push(value);
        } else {
            self.free_large(&value);
        }
    }

    /// Takes back the memory of given-up values that nobody borrows any more.
    pub fn reap_large(&mut self) {
        let mut index = 0;
        while index < self.zombies.len() {
            if self.zombies[index].is_shared() {
                index += 1;
            } else {
                let value = self.zombies.swap_remove(index);
                self.free_large(&value);
            }
        }
    }

    /// Given-up values that are still borrowed.
    #[inline]
    #[must_use]
    pub fn borrowed_large(&self) -> usize {
        self.zombies.len()
    }

    /// Bytes of segments and blocks in the hands of large values, given-up ones included.
    #[must_use]
    pub fn large_bytes(&self) -> u64 {
        self.large_bytes
    }

    /// Heap bytes of the block lists.
    #[inline]
    #[must_use]
    pub fn large_list_bytes(&self) -> u64 {
        self.large_list_bytes
    }

    /// The caller gives its handle up right after; being the last one, nobody can read the runs then.
    fn free_large(&mut self, value: &LargeValue) {
        assert!(!value.is_shared(), "borrowed memory stays");
        assert!(Arc::ptr_eq(&value.0.map, &self.map), "a value goes back to its own memory");
        self.large_list_bytes -= value.list_bytes();
        self.large_bytes -= self.footprint(value);
        let block_bytes = self.blocks.unit_bytes();
        for run in &value.0.runs {
            let segment = self.segment_of(run.at);
            if self.pool.use_of(segment) == Use::Whole {
                self.pool.give_back(segment, Use::Whole);
            } else {
                let blocks = u64::from(run.len).div_ceil(block_bytes) as u32;
                self.blocks.give_back(run.at, blocks, &mut self.pool);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &LargeValue) -> Vec<u8> {
        (0..value.slice_count()).flat_map(|index| value.slice(index).to_vec()).collect()
    }

    #[test]
    fn values_of_all_lengths_are_read_as_written_and_come_back() {
        let mut memory = Memory::new(8, 14, false).unwrap();
        for len in [1, 255, 256, 257, 16_383, 16_384, 16_385, 50_000, 8 << 14] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let value = memory.store_large(&[&bytes[..len / 3], &[], &bytes[len / 3..]]).unwrap();
            assert_eq!(read(&value), bytes);
            assert_eq!(value.byte_len(), len);
            memory.release_large(value);
            assert_eq!((memory.free_segments(), memory.large_bytes(), memory.large_list_bytes()), (8, 0, 0));
        }
        assert!(memory.store_large(&[&vec![0; (8 << 14) + 1]]).is_none());
    }

    #[test]
    fn pinned_memory_stays_until_the_last_handle_is_gone() {
        let mut memory = Memory::new(2, 14, false).unwrap();
        let value = memory.store_large(&[&[7; 20_000]]).unwrap();
        let pin = value.clone();
        memory.release_large(value);
        memory.reap_large();
        assert_eq!((memory.free_segments(), memory.borrowed_large()), (0, 1));
        let second = memory.store_large(&[&[9; 12_000]]).unwrap();
        assert!(read(&pin).iter().all(|&b| b == 7));
        drop(pin);
        memory.reap_large();
        memory.release_large(second);
        assert_eq!((memory.free_segments(), memory.borrowed_large()), (2, 0));
    }

    #[test]
    fn sparse_segments_are_emptied_around_borrowed_values() {
        let mut memory = Memory::new(16, 14, false).unwrap();
        let mut values: Vec<LargeValue> =
            (0..48u8).map(|n| memory.store_large(&[&[n; 5000]]).unwrap()).collect();
        let mut kept = Vec::new();
        for (index, value) in values.drain(..).enumerate() {
            if index % 4 == 0 { kept.push((index as u8, value)) } else { memory.release_large(value) }
        }
        let pin = kept[3].1.clone();
        let before = memory.free_segments();
        for _ in 0..16 {
            if memory.begin_drain() {
                kept.iter_mut().for_each(|(_, value)| memory.move_blocks(value));
                memory.end_drain();
            }
        }
        assert!(memory.free_segments() >= before + 3, "{} {before}", memory.free_segments());
        for (n, value) in &kept {
            assert!(read(value).iter().all(|b| b == n) && value.len() == 5000);
        }
        drop(pin);
        kept.into_iter().for_each(|(_, value)| memory.release_large(value));
        assert_eq!((memory.free_segments(), memory.large_bytes(), memory.large_list_bytes()), (16, 0, 0));
    }

    #[test]
    fn a_handle_outlives_its_memory() {
        let mut memory = Memory::new(2, 14, false).unwrap();
        let value = memory.store_large(&[&[3; 20_000]]).unwrap();
        drop(memory);
        assert!(read(&value).iter().all(|&b| b == 3));
    }
}
