//! Provided receive buffers: one pool per core that the kernel takes from when bytes arrive.
//!
//! A buffer belongs to the kernel from [`BufferPool::give_back`] until a completion names it, and to
//! the driver from then until it is given back at the end of the same turn. So an idle or slow
//! connection holds no receive memory at all.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::error::DriverError;
use crate::uring::Uring;

/// The only buffer group of the ring.
pub(crate) const GROUP: u16 = 0;

/// Buffers start this much further than their size says. At a stride of a power of two the first lines
/// of all buffers would fall into the same few cache sets; small requests live in those lines.
const STAGGER: usize = 128;

/// Anonymous, zeroed, page-aligned memory.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
    is_leaked: bool,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address 0 unasked");
        Ok(Self { start, len, is_leaked: false })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_leaked {
            return;
        }
        // SAFETY: the mapping is ours, whole, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The buffers and the ring that offers them to the kernel.
#[derive(Debug)]
pub(crate) struct BufferPool {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    bytes: usize,
    /// Position after the last entry offered; the kernel reads it from the ring.
    tail: u16,
}

impl BufferPool {
    /// Maps `count` buffers (a power of two) of `bytes` each, registers them and offers them all.
    pub(crate) fn new(uring: &mut Uring, count: u16, bytes: u32) -> Result<Self, DriverError> {
        assert!(count.is_power_of_two() && bytes > 0, "the kernel masks positions with the count");
        let bytes = bytes as usize;
        let map = |len| Mapping::new(len).map_err(DriverError::system("mmap of receive buffers"));
        let entries = map(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = map(usize::from(count) * (bytes + STAGGER))?;
        // SAFETY: the mapping is page-aligned, holds `count` entries and lives as long as the ring: the
        // driver drops its ring first, or leaks this pool.
        unsafe { uring.register_buffers(entries.start.as_ptr() as u64, count, GROUP) }
            .map_err(DriverError::system("io_uring provided buffers"))?;
        let mut this = Self { entries, memory, count, bytes, tail: 0 };
        this.give_back(&mut (0..count).collect());
        Ok(this)
    }

    /// Number of buffers.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of one buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.bytes
    }

    fn offset(&self, buffer: u16) -> usize {
        assert!(buffer < self.count, "the kernel names buffers that it was given");
        usize::from(buffer) * (self.bytes + STAGGER)
    }

    /// The first `len` bytes of a buffer that a completion named and that was not given back since.
    #[inline]
    pub(crate) fn slice(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(len <= self.bytes, "the kernel writes within the buffer");
        // SAFETY: the offset of a buffer lies within the mapping.
        let start = unsafe { self.memory.start.add(self.offset(buffer)) };
        // SAFETY: `len` bytes from there are mapped and initialised; the kernel does not write to a buffer
        // it has named, and giving it back needs `&mut self`, so no slice is alive then.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// Offers buffers to the kernel again and empties the list.
    #[inline]
    pub(crate) fn give_back(&mut self, buffers: &mut Vec<u16>) {
        if buffers.is_empty() {
            return;
        }
        for buffer in buffers.drain(..) {
            self.write_entry(buffer);
        }
        let first = self.entries.start.as_ptr().cast_const().cast::<BufRingEntry>();
        // SAFETY: the mapping begins with entry 0, whose reserved field is the ring's tail.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: aligned, mapped, and only the kernel reads it besides us, atomically as well.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the entries are written before the kernel sees the new tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// Gives the memory up without unmapping it: for operations that could not be ended.
    pub(crate) fn leak(&mut self) {
        for mapping in [&mut self.entries, &mut self.memory] {
            mapping.is_leaked = true;
        }
    }

    fn write_entry(&mut self, buffer: u16) {
        let position = usize::from(self.tail & (self.count - 1));
        let address = self.memory.start.as_ptr() as u64 + self.offset(buffer) as u64;
        // SAFETY: the position is within the `count` entries of the mapping.
        let mut entry = unsafe { self.entries.start.cast::<BufRingEntry>().add(position) };
        // SAFETY: mapped, aligned, valid for any bits; the kernel does not read it before the tail passes
        // it. Entry 0 shares its bytes with the tail, which the setters below do not touch.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address);
        entry.set_len(self.bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }
}
