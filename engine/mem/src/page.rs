//! Growing arrays of 4 KiB pages from a [`Memory`]: what index tables and the ghost lie in.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::map::{Mapping, prefetch};
use crate::memory::{Memory, PAGE_SHIFT};

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;

/// Eight slots of eight bytes: one cache line.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Bucket(pub(crate) [u64; 8]);

/// Buckets of a page.
pub(crate) const BUCKETS_PER_PAGE: usize = 64;

/// A page seen as index buckets.
pub(crate) type Buckets = [Bucket; BUCKETS_PER_PAGE];

/// A page seen as 32-bit words.
pub type Words = [u32; PAGE_BYTES as usize / 4];

const _: () = assert!(size_of::<Buckets>() as u64 == PAGE_BYTES && size_of::<Words>() as u64 == PAGE_BYTES);

/// A page in the hands of exactly one [`Pages`].
#[derive(Debug)]
struct Page(NonNull<u8>);

/// An array of pages, each there or not.
#[derive(Debug)]
pub struct Pages {
    pages: Vec<Option<Page>>,
    /// Keeps the pages' memory alive.
    map: Arc<Mapping>,
}

impl Pages {
    /// An array of `count` absent pages of a memory.
    #[must_use]
    pub fn new(memory: &Memory, count: usize) -> Self {
        Self { pages: (0..count).map(|_| None).collect(), map: Arc::clone(&memory.map) }
    }

    /// Another array of `count` absent pages of the same memory.
    #[must_use]
    pub fn sibling(&self, count: usize) -> Self {
        Self { pages: (0..count).map(|_| None).collect(), map: Arc::clone(&self.map) }
    }

    /// Fetches a word's line into the cache.
    #[inline]
    pub fn prefetch_word(&self, index: usize, word: usize) {
        if let Some(address) = self.address(index) {
            prefetch(address.wrapping_add(word % (PAGE_BYTES as usize / 4) * 4));
        }
    }

    /// Number of pages, absent ones included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether the array has no place for a page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Heap bytes of the array itself.
    #[must_use]
    pub fn list_bytes(&self) -> u64 {
        (self.pages.capacity() * size_of::<Option<Page>>()) as u64
    }

    /// Makes page `index` present and zeroed, if it is not there; false if there is no memory.
    pub fn ensure(&mut self, index: usize, memory: &mut Memory) -> bool {
        assert!(Arc::ptr_eq(&self.map, &memory.map), "pages come from one memory");
        if self.pages[index].is_some() {
            return true;
        }
        let Some((at, _)) = memory.pages.take(1, &mut memory.pool) else { return false };
        let address = memory.map.at(at);
        // SAFETY: the page was just taken, so it lies within the mapping and nobody else uses it.
        unsafe { std::ptr::write_bytes(address, 0, PAGE_BYTES as usize) };
        self.pages[index] = NonNull::new(address).map(Page);
        true
    }

    /// Gives page `index` back.
    pub fn release(&mut self, index: usize, memory: &mut Memory) {
        assert!(Arc::ptr_eq(&self.map, &memory.map), "pages go back to their own memory");
        if let Some(page) = self.pages[index].take() {
            let at = memory.map.offset_of(page.0.as_ptr()).expect("the page lies in its mapping");
            memory.pages.give_back(at, 1, &mut memory.pool);
        }
    }

    /// Gives all pages back and forgets their places.
    pub fn release_all(&mut self, memory: &mut Memory) {
        for index in 0..self.pages.len() {
            self.release(index, memory);
        }
        self.pages = Vec::new();
    }

    /// The address of a page, for a prefetch.
    #[inline(always)]
    pub(crate) fn address(&self, index: usize) -> Option<*const u8> {
        self.pages.get(index)?.as_ref().map(|page| page.0.as_ptr().cast_const())
    }

    /// Page `index` as buckets, if it is present.
    #[inline(always)]
    pub(crate) fn buckets(&self, index: usize) -> Option<&Buckets> {
        let page = self.pages.get(index)?.as_ref()?;
        // SAFETY: the page is 4096 bytes of initialised memory, aligned to 4096, kept alive by `map` and
        // owned by this array, which is borrowed for as long as the reference lives.
        Some(unsafe { page.0.cast::<Buckets>().as_ref() })
    }

    /// Page `index` as buckets for writing.
    #[inline(always)]
    pub(crate) fn buckets_mut(&mut self, index: usize) -> Option<&mut Buckets> {
        let page = self.pages.get_mut(index)?.as_mut()?;
        // SAFETY: as in `buckets`; the array is borrowed mutably.
        Some(unsafe { page.0.cast::<Buckets>().as_mut() })
    }

    /// Page `index` as words, if it is present.
    #[inline]
    #[must_use]
    pub fn words(&self, index: usize) -> Option<&Words> {
        let page = self.pages.get(index)?.as_ref()?;
        // SAFETY: as in `buckets`; any bits are valid words.
        Some(unsafe { page.0.cast::<Words>().as_ref() })
    }

    /// Page `index` as words for writing.
    #[inline]
    pub fn words_mut(&mut self, index: usize) -> Option<&mut Words> {
        let page = self.pages.get_mut(index)?.as_mut()?;
        // SAFETY: as in `words`; the array is borrowed mutably.
        Some(unsafe { page.0.cast::<Words>().as_mut() })
    }
}
