//! One reservation of address space. Pages become resident when they are first written.

use std::io;
use std::ptr::{self, NonNull};

/// Alignment of the reservation: the size of a huge page.
const ALIGN: usize = 2 << 20;

/// Readable bytes behind the last usable one, so that a header near the end can be read as one word.
pub(crate) const SLACK_BYTES: u64 = 4096;

/// Anonymous memory, zeroed, aligned to a huge page, unmapped when the last owner is gone.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: u64,
    raw: NonNull<libc::c_void>,
    raw_bytes: usize,
}

// SAFETY: a mapping is addresses that do not change; it reads and writes nothing by itself. Whoever
// makes a reference from `at` answers for it, the handles of large values included.
unsafe impl Send for Mapping {}
// SAFETY: as above, there is nothing in it that two threads could change at once.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `bytes` usable bytes; `huge` asks for huge pages.
    pub(crate) fn reserve(bytes: u64, huge: bool) -> io::Result<Self> {
        let usable = usize::try_from(bytes + SLACK_BYTES).map_err(io::Error::other)?;
        let raw_bytes = usable.checked_add(ALIGN).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let raw = unsafe { libc::mmap(ptr::null_mut(), raw_bytes, protection, flags, -1, 0) };
        if raw == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let raw = NonNull::new(raw).ok_or(io::ErrorKind::OutOfMemory)?;
        let offset = raw.as_ptr().cast::<u8>().align_offset(ALIGN);
        let base = NonNull::new(raw.as_ptr().cast::<u8>().wrapping_add(offset))
            .expect("an aligned address inside a mapping is not null");
        let mapping = Self { base, bytes, raw, raw_bytes };
        mapping.advise(usable, if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE });
        Ok(mapping)
    }

    /// Advice is only that: a kernel without huge pages refuses it, and nothing is lost but speed.
    fn advise(&self, bytes: usize, advice: libc::c_int) {
        // SAFETY: the range lies within this mapping, and these advices change no content.
        let _ = unsafe { libc::madvise(self.base.as_ptr().cast(), bytes, advice) };
    }

    /// The address of an offset; only a pointer, whoever uses it checks the bound.
    #[inline]
    pub(crate) fn at(&self, offset: u64) -> *mut u8 {
        self.base.as_ptr().wrapping_add(offset as usize)
    }

    /// The offset of an address within the mapping.
    pub(crate) fn offset_of(&self, address: *const u8) -> Option<u64> {
        let offset = (address.addr() as u64).checked_sub(self.base.as_ptr().addr() as u64)?;
        (offset < self.bytes).then_some(offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is what mmap gave, and everything that points into it holds an owner of it.
        let _ = unsafe { libc::munmap(self.raw.as_ptr(), self.raw_bytes) };
    }
}

/// Asks the CPU for a cache line ahead of its use. Any address is allowed.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect on memory and does not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: a prefetch has no effect on memory and does not fault, whatever the address.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
        };
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
