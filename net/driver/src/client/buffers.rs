//! A pool of receive buffers that the kernel takes from by itself (a provided-buffer ring).
//!
//! Invariant: a buffer is either in the ring (the kernel's) or taken by a completion (ours); only the
//! latter is ever read.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

const PAGE_BYTES: usize = 4096;

/// The pool and the ring through which its buffers are given to the kernel.
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    entries_layout: Layout,
    pool: NonNull<u8>,
    pool_layout: Layout,
    count: u16,
    buffer_bytes: u32,
    /// Where the next buffer is given back; the kernel sees it after [`BufferRing::publish`].
    tail: u16,
    leaked: bool,
}

impl BufferRing {
    /// Registers `count` buffers of `buffer_bytes` each as `group`, all of them free.
    pub(super) fn register(ring: &IoUring, group: u16, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && buffer_bytes > 0);
        let entries_layout = layout(usize::from(count) * size_of::<BufRingEntry>())?;
        let pool_layout = layout(usize::from(count) * buffer_bytes as usize)?;
        let mut this = Self {
            entries: allocate(entries_layout).cast(),
            entries_layout,
            pool: allocate(pool_layout),
            pool_layout,
            count,
            buffer_bytes,
            tail: 0,
            leaked: false,
        };
        let address = this.entries.as_ptr() as u64;
        // SAFETY: the entries are page-aligned memory of `count` entries that lives until `Drop`,
        // which the owning ring reaches only after the kernel has let go of every buffer.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, group, 0) }?;
        for buffer in 0..count {
            this.give_back(buffer);
        }
        this.publish();
        Ok(this)
    }

    /// The first `len` bytes of a buffer that a completion has taken from the ring.
    #[inline]
    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(buffer < self.count && len <= self.buffer_bytes as usize);
        let offset = usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: the offset lies within the pool, as asserted above.
        let start = unsafe { self.pool.as_ptr().add(offset) };
        // SAFETY: `len` bytes from there lie within the pool, are initialised (it is allocated
        // zeroed), and the kernel does not write to a buffer that it has completed with.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Gives a buffer back to the kernel, with the next [`BufferRing::publish`].
    #[inline]
    pub(super) fn give_back(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: the index lies within the ring's entries.
        let slot = unsafe { self.entries.as_ptr().add(index) };
        // SAFETY: a slot at the tail is ours until the tail moves past it; entries are plain data.
        let entry = unsafe { &mut *slot };
        entry.set_addr(self.pool.as_ptr() as u64 + u64::from(buffer) * u64::from(self.buffer_bytes));
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see the buffers given back.
    #[inline]
    pub(super) fn publish(&mut self) {
        // SAFETY: the pointer is that of the ring's first entry, which is initialised.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail lies in the entries' memory, is aligned, and only this thread writes it.
        let shared = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        shared.store(self.tail, Ordering::Release);
    }

    /// Leaves the memory to the kernel for good.
    pub(super) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: allocated with this layout; the kernel has let go of it (see `ClientRing::drop`).
        unsafe { dealloc(self.entries.as_ptr().cast(), self.entries_layout) };
        // SAFETY: as above.
        unsafe { dealloc(self.pool.as_ptr(), self.pool_layout) };
    }
}

fn layout(bytes: usize) -> io::Result<Layout> {
    Layout::from_size_align(bytes.max(PAGE_BYTES), PAGE_BYTES)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "receive buffers too large"))
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout's size is at least a page, so not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
