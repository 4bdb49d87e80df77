//! The ring itself: submission, completions, the file table, and the flag that tells whether an enter
//! is worth its while.
//!
//! `SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN`: completions are made only inside this thread's
//! enter calls, never by an interrupt in the middle of a request. `TASKRUN_FLAG` lets the loop see
//! without a system call that there is something to collect, so spinning is free of them.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{Ordering, fence};

use io_uring::{IoUring, cqueue, squeue, types};

use crate::error::DriverError;
use crate::probe;

/// Registers a ring descriptor with the calling thread (`IORING_REGISTER_RING_FDS`).
const REGISTER_RING_FDS: libc::c_long = 20;
/// `IORING_ENTER_GETEVENTS`: run deferred work.
const ENTER_GETEVENTS: libc::c_long = 1;
/// `IORING_ENTER_REGISTERED_RING`: the descriptor argument is an index of registered rings.
const ENTER_REGISTERED_RING: libc::c_long = 1 << 4;
/// `IORING_ENTER_EXT_ARG`: the last argument is a [`WaitArgument`].
const ENTER_EXT_ARG: libc::c_long = 1 << 3;

/// One io_uring of the thread that made it.
pub(crate) struct Uring {
    ring: IoUring,
    /// First argument of enter: the registered index, or the plain descriptor.
    enter_fd: libc::c_long,
    enter_flags: libc::c_long,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timeout: u64,
}

impl Uring {
    /// Makes the ring; only the calling thread may use it.
    pub(crate) fn new(entries: u32, file_slots: u32) -> Result<Self, DriverError> {
        let ring = probe::builder(entries).build(entries).map_err(probe::explain_setup)?;
        ring.submitter()
            .register_files_sparse(file_slots)
            .map_err(DriverError::system("io_uring file table"))?;
        let mut this = Self { enter_fd: ring.as_raw_fd().into(), enter_flags: ENTER_GETEVENTS, ring };
        this.register_ring_fd();
        Ok(this)
    }

    /// Saves the kernel a descriptor look-up in every enter. Without it everything works as well, so a
    /// refusal is no error.
    fn register_ring_fd(&mut self) {
        let fd = self.ring.as_raw_fd();
        let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, data: fd as u64 };
        let update_ptr: *mut RingFdUpdate = &raw mut update;
        // SAFETY: the argument is one io_uring_rsrc_update, alive during the call.
        let done =
            unsafe { libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, update_ptr, 1) };
        if done == 1 {
            self.enter_fd = update.offset.into();
            self.enter_flags |= ENTER_REGISTERED_RING;
        }
    }

    /// Queues a submission; goes into the kernel early only if the queue is full.
    ///
    /// # Safety
    /// Memory that the entry points to stays valid and unmoved until its completion was taken.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> Result<(), DriverError> {
        loop {
            // SAFETY: the caller keeps the entry's memory valid.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.enter()?;
        }
    }

    /// Queues a submission that points to no memory.
    pub(crate) fn push_plain(&mut self, entry: &squeue::Entry) -> Result<(), DriverError> {
        // SAFETY: nothing is pointed to, so nothing has to stay valid.
        unsafe { self.push(entry) }
    }

    /// Whether an enter would do anything: submissions wait, or the kernel has deferred work.
    #[inline]
    pub(crate) fn wants_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Submits everything and runs deferred work, without waiting.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), DriverError> {
        let to_submit = self.ring.submission().len() as libc::c_long;
        let no_arg: *const libc::c_void = std::ptr::null();
        // SAFETY: no pointers are passed; what queued entries point to is kept valid by `push`'s callers.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, self.enter_fd, to_submit, 0, self.enter_flags, no_arg, 0)
        };
        enter_result(result)
    }

    /// Submits everything, runs deferred work and sleeps until there are `wanted` completions that were
    /// not taken, for at most `timeout_ns`.
    pub(crate) fn enter_and_wait(&mut self, wanted: usize, timeout_ns: u64) -> Result<(), DriverError> {
        let to_submit = self.ring.submission().len() as libc::c_long;
        let timeout =
            types::Timespec::new().sec(timeout_ns / 1_000_000_000).nsec((timeout_ns % 1_000_000_000) as u32);
        let timeout_ptr: *const types::Timespec = &raw const timeout;
        let argument =
            WaitArgument { sigmask: 0, sigmask_bytes: 0, min_wait_us: 0, timeout: timeout_ptr as u64 };
        let argument_ptr: *const WaitArgument = &raw const argument;
        let flags = self.enter_flags | ENTER_EXT_ARG;
        // SAFETY: the argument and the time it points to are alive during the call; what queued entries
        // point to is kept valid by `push`'s callers.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                to_submit,
                wanted,
                flags,
                argument_ptr,
                size_of::<WaitArgument>(),
            )
        };
        enter_result(result)
    }

    /// Moves up to `max` completions into `into`.
    #[inline]
    pub(crate) fn take_completions(&mut self, max: usize, into: &mut Vec<cqueue::Entry>) {
        into.extend(self.ring.completion().take(max));
    }

    /// How many completions wait to be taken.
    #[inline]
    pub(crate) fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

    /// Whether there is nothing to do: nothing queued, nothing completed, nothing deferred. For the
    /// last look before parking, so the fence stands between [`Uring::arm_eventfd`] and the reads: the
    /// kernel sets the flag first and then looks whether the eventfd is armed.
    pub(crate) fn is_quiet(&mut self) -> bool {
        fence(Ordering::SeqCst);
        !self.wants_enter() && self.completions() == 0
    }

    /// Registers the eventfd that completions signal while armed; starts disarmed.
    pub(crate) fn register_eventfd(&mut self, fd: RawFd) -> Result<(), DriverError> {
        self.disarm_eventfd();
        self.ring.submitter().register_eventfd(fd).map_err(DriverError::system("io_uring eventfd"))
    }

    /// From now on completions signal the eventfd.
    pub(crate) fn arm_eventfd(&mut self) {
        self.ring.completion().enable_eventfd();
    }

    /// Completions no longer signal the eventfd: while the loop runs it sees them anyway.
    pub(crate) fn disarm_eventfd(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Puts a descriptor into the file table, or takes one out (-1).
    pub(crate) fn set_file(&mut self, slot: u32, fd: RawFd) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[fd]).map(drop)
    }

    /// Registers provided buffers.
    ///
    /// # Safety
    /// `ring_addr` is a page-aligned array of `entries` buffer entries that stays valid as long as this ring.
    pub(crate) unsafe fn register_buffers(
        &mut self,
        ring_addr: u64,
        entries: u16,
        group: u16,
    ) -> io::Result<()> {
        // SAFETY: the caller keeps the memory valid.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(ring_addr, entries, group, 0) }
    }

    /// Cancels every operation and waits for it; false if some may still run.
    pub(crate) fn cancel_all(&mut self) -> bool {
        let timeout = types::Timespec::new().sec(1);
        match self.ring.submitter().register_sync_cancel(Some(timeout), types::CancelBuilder::any()) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        }
    }
}

fn enter_result(result: libc::c_long) -> Result<(), DriverError> {
    if result >= 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    match source.raw_os_error() {
        // Interrupted, out of time, or completions have to be taken first: the next enter goes on.
        Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
        _ => Err(DriverError::System { call: "io_uring_enter", source }),
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("enter_fd", &self.enter_fd).finish_non_exhaustive()
    }
}
