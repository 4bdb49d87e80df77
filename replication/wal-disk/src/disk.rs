//! The log of one core, being written.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::{Latency, Shares, TaskQueueHandle, timer};
use pinnace_types::{CommitNumber, SegmentNumber};
use pinnace_wal::Sealed;

use crate::DiskError;
use crate::bell::Bell;
use crate::file::{Access, DiskFile};
use crate::prepare::Segments;
use crate::writes::{Extent, Writes};

/// Writes under way at a time. More gather, and go as one.
const WRITES_MAX: usize = 4;
/// Shares of the making of segments against 1000 of the sockets. It waits for the disk most of the time; with fewer shares a
/// core that is busy writing runs out of segments before the next is made.
const PREPARE_SHARES: usize = 500;
/// Memory for gathering that is kept after a burst.
const GATHERED_KEPT_BYTES: usize = 1 << 20;

/// When what is written is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// At once, one sync after the other.
    Always,
    /// After a time, or so many bytes, or when somebody asks ([`LogDisk::sync_soon`]).
    Periodic {
        /// The longest time that a commit waits for its sync to begin.
        every: Duration,
        /// Bytes that are not waited with.
        bytes: u64,
    },
}

/// What a log is written with.
#[derive(Debug)]
pub struct LogDiskConfig {
    /// The core's own directory.
    pub directory: PathBuf,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// The first segment that this run writes. A file that has its name already, or that of a later one, was made ready by an
    /// earlier run and is used as it is.
    pub first: SegmentNumber,
    /// Segments of earlier runs, for [`LogDisk::recycle`].
    pub earlier: Vec<(SegmentNumber, PathBuf)>,
    /// When to sync.
    pub policy: SyncPolicy,
}

/// Told when [`LogDisk::synced`], [`LogDisk::failure`], [`LogDisk::ready_through`] or [`LogDisk::is_short`] has something new.
pub type Notify = Box<dyn Fn()>;

struct Shared {
    segments: Rc<Segments>,
    policy: SyncPolicy,
    access: Access,
    writes: RefCell<Writes>,
    submitted: Cell<CommitNumber>,
    synced: Cell<CommitNumber>,
    /// Files with writes that no sync covers yet, in their order.
    dirty: RefCell<Vec<Rc<DiskFile>>>,
    unsynced_bytes: Cell<u64>,
    /// A sync is wanted although its time has not come.
    is_sync_wanted: Cell<bool>,
    /// Somebody waits until no write is under way.
    is_rest_wanted: Cell<bool>,
    is_closing: Cell<bool>,
    failure: RefCell<Option<DiskError>>,
    writer_bell: Bell,
    syncer_bell: Bell,
    closer_bell: Bell,
    notify: Notify,
}

/// The log of the core that made it.
pub struct LogDisk {
    shared: Rc<Shared>,
}

impl std::fmt::Debug for LogDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDisk")
            .field("submitted", &self.shared.submitted.get())
            .field("synced", &self.shared.synced.get())
            .finish_non_exhaustive()
    }
}

impl LogDisk {
    /// Makes the first segment ready and starts the tasks that write, sync and prepare, in the executor that this is
    /// called in.
    ///
    /// # Errors
    /// If the directory cannot be written to or has no room for a segment.
    pub async fn open(config: LogDiskConfig, notify: Notify) -> Result<Self, DiskError> {
        let directory = config.directory;
        std::fs::create_dir_all(&directory).map_err(DiskError::io("create", &directory))?;
        let access = Access::probe(&directory).await?;
        let segments = Segments::new(directory, access, config.segment_bytes, config.first, config.earlier);
        segments.begin().await?;
        let shared = Rc::new(Shared {
            segments: Rc::new(segments),
            policy: config.policy,
            access,
            writes: RefCell::default(),
            submitted: Cell::default(),
            synced: Cell::default(),
            dirty: RefCell::default(),
            unsynced_bytes: Cell::default(),
            is_sync_wanted: Cell::default(),
            is_rest_wanted: Cell::default(),
            is_closing: Cell::default(),
            failure: RefCell::default(),
            writer_bell: Bell::default(),
            syncer_bell: Bell::default(),
            closer_bell: Bell::default(),
            notify,
        });
        Self::spawn(&shared);
        Ok(Self { shared })
    }

    fn spawn(shared: &Rc<Shared>) {
        glommio::spawn_local(Shared::write_all(Rc::clone(shared))).detach();
        glommio::spawn_local(Shared::sync_all(Rc::clone(shared))).detach();
        let queue = glommio::executor().create_task_queue(
            Shares::Static(PREPARE_SHARES),
            Latency::NotImportant,
            "segments",
        );
        let prepare = Shared::prepare_all(Rc::clone(shared));
        spawn_into(prepare, queue);
    }

    /// Whether files are written past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.shared.access == Access::Direct
    }

    /// Takes the commits that `seal` appends to the buffer, until it has no more; whether there were some.
    pub fn submit(&self, mut seal: impl FnMut(&mut Vec<u8>) -> Option<Sealed>) -> bool {
        let shared = &*self.shared;
        let mut writes = shared.writes.borrow_mut();
        let mut bytes = 0;
        while let Some(sealed) = seal(writes.gathered()) {
            debug_assert_eq!(sealed.number, shared.submitted.get().next());
            shared.submitted.set(sealed.number);
            writes.add(&sealed);
            bytes += sealed.len;
        }
        if bytes > 0 {
            shared.unsynced_bytes.set(shared.unsynced_bytes.get() + bytes);
            shared.writer_bell.ring();
        }
        bytes > 0
    }

    /// Everything up to this commit outlives a power failure.
    #[must_use]
    pub fn synced(&self) -> CommitNumber {
        self.shared.synced.get()
    }

    /// Everything up to this commit has been submitted.
    #[must_use]
    pub fn submitted(&self) -> CommitNumber {
        self.shared.submitted.get()
    }

    /// Something is not synced yet.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.shared.submitted.get() > self.shared.synced.get()
    }

    /// Whether something that was submitted is not written yet. If so, it is told when that is over: a commit that waits for
    /// it is larger, and one write and one block's filling serve more effects.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        let is_writing = self.shared.writes.borrow().written() < self.shared.submitted.get();
        self.shared.is_rest_wanted.set(is_writing);
        is_writing
    }

    /// Syncs what was submitted without waiting for its time.
    pub fn sync_soon(&self) {
        if self.is_under_way() {
            self.shared.is_sync_wanted.set(true);
            self.shared.syncer_bell.ring();
        }
    }

    /// Segments up to this one can be sealed for.
    #[must_use]
    pub fn ready_through(&self) -> SegmentNumber {
        self.shared.segments.ready_through()
    }

    /// Why there is no further segment, if the disk has no room for one.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        self.shared.segments.shortage()
    }

    /// Whether there is a [`Self::shortage`].
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.shared.segments.is_short()
    }

    /// What segments before this one hold is not needed any more.
    pub fn recycle(&self, before: SegmentNumber) {
        self.shared.segments.recycle(before);
    }

    /// Complete segments that are still needed.
    #[must_use]
    pub fn kept_segments(&self) -> usize {
        self.shared.segments.kept_count()
    }

    /// What ended the log: nothing that was not synced by now may be acknowledged, and nothing will be written.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.borrow().as_ref().map(ToString::to_string)
    }

    /// Waits until everything that was submitted is synced, which is begun at once.
    ///
    /// # Errors
    /// What ended the log before that.
    pub async fn settle(&self) -> Result<(), DiskError> {
        let shared = &self.shared;
        while shared.submitted.get() > shared.synced.get() && !shared.has_failed() {
            shared.is_sync_wanted.set(true);
            shared.syncer_bell.ring();
            shared.closer_bell.rung().await;
        }
        shared.failure.take().map_or(Ok(()), Err)
    }

    /// Writes and syncs everything that was submitted, and ends.
    ///
    /// # Errors
    /// What ended the log before that.
    pub async fn close(self) -> Result<(), DiskError> {
        self.shared.is_closing.set(true);
        self.shared.writer_bell.ring();
        let settled = self.settle().await;
        self.shared.segments.stop();
        self.shared.syncer_bell.ring();
        settled
    }
}

fn spawn_into(task: impl Future<Output = ()> + 'static, queue: TaskQueueHandle) {
    glommio::spawn_local_into(task, queue).expect("the queue was made for it").detach();
}

impl Shared {
    fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// The first error counts, what follows comes from it.
    fn fail(&self, error: DiskError) {
        tracing::error!("{error}");
        self.failure.borrow_mut().get_or_insert(error);
        for bell in [&self.writer_bell, &self.syncer_bell, &self.segments.ready_bell] {
            bell.ring();
        }
        self.tell();
    }

    fn tell(&self) {
        self.closer_bell.ring();
        (self.notify)();
    }

    /// Starts the writes of what has gathered, a few at a time.
    async fn write_all(self: Rc<Self>) {
        let mut spare = (Vec::new(), Vec::new());
        loop {
            let is_free = {
                let writes = self.writes.borrow();
                writes.has_gathered() && writes.under_way() < WRITES_MAX
            };
            if self.has_failed() {
                return;
            }
            if !is_free {
                if self.is_closing.get() && self.submitted.get() == self.synced.get() {
                    return;
                }
                self.writer_bell.rung().await;
                continue;
            }
            let (mut bytes, mut extents) = self.writes.borrow_mut().take(std::mem::take(&mut spare));
            let mut start = 0;
            for extent in extents.drain(..) {
                let end = start + extent.len as usize;
                // The core asks for room first, except for the mark at the end of a log.
                while self.segments.ready_through() < extent.segment && !self.has_failed() {
                    self.segments.ready_bell.rung().await;
                }
                self.start_write(extent, &bytes[start..end]);
                start = end;
            }
            bytes.clear();
            bytes.shrink_to(GATHERED_KEPT_BYTES);
            spare = (bytes, extents);
        }
    }

    fn start_write(self: &Rc<Self>, extent: Extent, bytes: &[u8]) {
        if self.has_failed() {
            return;
        }
        let file = self.segments.file(extent.segment);
        // The copy is made here; the task owns it, and the write goes on even if nobody waits for it.
        let shared = Rc::clone(self);
        let mine = Rc::clone(&file);
        let buffer = file.copy(bytes);
        let task = async move {
            match mine.write_copy(buffer, extent.offset).await {
                Ok(()) => shared.on_written(extent, mine),
                Err(error) => shared.fail(error),
            }
        };
        glommio::spawn_local(task).detach();
    }

    fn on_written(&self, extent: Extent, file: Rc<DiskFile>) {
        {
            let mut dirty = self.dirty.borrow_mut();
            if !dirty.iter().any(|known| Rc::ptr_eq(known, &file)) {
                dirty.push(file);
            }
        }
        self.writes.borrow_mut().on_written(extent.last);
        self.writer_bell.ring();
        self.syncer_bell.ring();
        if self.is_rest_wanted.get() && self.writes.borrow().written() == self.submitted.get() {
            self.is_rest_wanted.set(false);
            (self.notify)();
        }
    }

    /// Syncs, one sync at a time: each covers all commits that were written when it began.
    async fn sync_all(self: Rc<Self>) {
        let mut last_sync = Instant::now();
        while !self.has_failed() {
            let written = self.writes.borrow().written();
            if written <= self.synced.get() {
                if self.is_closing.get() && self.submitted.get() == self.synced.get() {
                    self.writer_bell.ring();
                    return;
                }
                self.syncer_bell.rung().await;
                continue;
            }
            if let Some(wait) = self.wait_before_sync(last_sync) {
                let pause = async { timer::sleep(wait).await };
                future::or(pause, self.syncer_bell.rung()).await;
                continue;
            }
            last_sync = Instant::now();
            if written == self.submitted.get() {
                self.is_sync_wanted.set(false);
            }
            self.unsynced_bytes.set(0);
            // A file that is written to while it is synced is dirty again afterwards.
            let files = std::mem::take(&mut *self.dirty.borrow_mut());
            for file in files {
                if let Err(error) = file.sync().await {
                    return self.fail(error);
                }
            }
            self.synced.set(written);
            self.tell();
        }
    }

    /// How long the sync of what is written can wait.
    fn wait_before_sync(&self, last_sync: Instant) -> Option<Duration> {
        let SyncPolicy::Periodic { every, bytes } = self.policy else { return None };
        if self.is_sync_wanted.get() || self.is_closing.get() || self.unsynced_bytes.get() >= bytes {
            return None;
        }
        every.checked_sub(last_sync.elapsed()).filter(|wait| !wait.is_zero())
    }

    async fn prepare_all(self: Rc<Self>) {
        if let Err(error) = Rc::clone(&self.segments).run(&self.notify).await {
            self.fail(error);
        }
    }
}

#[cfg(test)]
mod tests;
