//! Segment files, made ready before they are needed, in the background.
//!
//! A new file is allocated and filled with zeros, a bit at a time: a write into space that was written before changes no
//! metadata, so that its sync is one flush of the disk. If the log is about to run out of segments, the filling is left:
//! such a segment is slower to sync, but there. A segment whose content is not needed any more gets the name of a
//! later one; what it holds is of an earlier number and can never pass for new.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::timer;
use pinnace_types::SegmentNumber;

use crate::DiskError;
use crate::bell::Bell;
use crate::file::{Access, DiskFile, sync_names};
use crate::layout::{SEGMENT, UNFINISHED, numbered_path};

/// Segments that are kept ready behind the one that is written to, at least ...
const AHEAD: u64 = 2;
/// ... and of small ones as many as hold this much, within bounds: a burst must not outrun the making of segments,
/// which has a cost of its own for each, however small.
const AHEAD_BYTES: u64 = 32 << 20;
const AHEAD_MAX: u64 = 8;
/// Zeros written at a time, and the pause after them: about 250 MB a second, a tenth of a fast disk.
const ZERO_BYTES: usize = 256 << 10;
const ZERO_PAUSE: Duration = Duration::from_millis(1);
/// How long to wait after there was no room.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);
/// Files kept for later use; more are removed. A snapshot frees them all at once.
const SPARES_MAX: usize = 4;

/// The segments of one core.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) directory: PathBuf,
    access: Access,
    segment_bytes: u64,
    /// The last one that can be written to.
    ready_through: Cell<SegmentNumber>,
    /// The one that is written to.
    current: Cell<SegmentNumber>,
    /// Open files, from the one that is written to.
    files: RefCell<BTreeMap<SegmentNumber, Rc<DiskFile>>>,
    /// Complete segments that are needed, the oldest first.
    kept: RefCell<VecDeque<(SegmentNumber, PathBuf)>>,
    /// Those that are not needed any more, the oldest first. They go in this order, so that what a crash leaves is always
    /// one piece of the log up to its end.
    freed: RefCell<VecDeque<PathBuf>>,
    shortage: RefCell<Option<String>>,
    bell: Bell,
    /// Rung when a segment has become ready.
    pub(crate) ready_bell: Bell,
    is_stopping: Cell<bool>,
}

impl Segments {
    pub(crate) fn new(
        directory: PathBuf,
        access: Access,
        segment_bytes: u64,
        first: SegmentNumber,
        kept: Vec<(SegmentNumber, PathBuf)>,
    ) -> Self {
        let before_first = SegmentNumber(first.0 - 1);
        Self {
            directory,
            access,
            segment_bytes,
            ready_through: Cell::new(before_first),
            current: Cell::new(before_first),
            files: RefCell::default(),
            kept: RefCell::new(kept.into()),
            freed: RefCell::default(),
            shortage: RefCell::default(),
            bell: Bell::default(),
            ready_bell: Bell::default(),
            is_stopping: Cell::new(false),
        }
    }

    pub(crate) fn ready_through(&self) -> SegmentNumber {
        self.ready_through.get()
    }

    /// Why the next segment is not ready, if the disk has no room for it.
    pub(crate) fn shortage(&self) -> Option<String> {
        self.shortage.borrow().clone()
    }

    /// Whether there is a [`Self::shortage`].
    pub(crate) fn is_short(&self) -> bool {
        self.shortage.borrow().is_some()
    }

    /// The file of a segment that is ready. Those before it are complete.
    ///
    /// # Panics
    /// If it is not ready: the writer asks for room first.
    pub(crate) fn file(&self, segment: SegmentNumber) -> Rc<DiskFile> {
        let mut files = self.files.borrow_mut();
        if segment != self.current.get() {
            let later = files.split_off(&segment);
            let complete = std::mem::replace(&mut *files, later);
            let complete = complete.into_iter().map(|(number, file)| (number, file.path().to_owned()));
            self.kept.borrow_mut().extend(complete);
            self.current.set(segment);
            self.bell.ring();
        }
        Rc::clone(files.get(&segment).expect("commits are sealed for segments that are ready"))
    }

    /// What segments before this one hold is not needed any more. The one that is written to stays.
    pub(crate) fn recycle(&self, before: SegmentNumber) {
        let mut kept = self.kept.borrow_mut();
        while kept.front().is_some_and(|(number, _)| *number < before) {
            let Some((_, path)) = kept.pop_front() else { break };
            self.freed.borrow_mut().push_back(path);
        }
        self.bell.ring();
    }

    /// Complete segments that are still needed.
    pub(crate) fn kept_count(&self) -> usize {
        self.kept.borrow().len()
    }

    /// Segments to keep ready.
    fn ahead(&self) -> u64 {
        (AHEAD_BYTES / self.segment_bytes).clamp(AHEAD, AHEAD_MAX)
    }

    pub(crate) fn stop(&self) {
        self.is_stopping.set(true);
        self.bell.ring();
    }

    /// Makes the first segment ready; later ones follow in [`Self::run`].
    pub(crate) async fn begin(&self) -> Result<(), DiskError> {
        self.prepare_next().await
    }

    /// Keeps segments ready until it is stopped, and tells when there is one more, or no room for one.
    ///
    /// # Errors
    /// Whatever is not a want of space.
    pub(crate) async fn run(self: Rc<Self>, tell: &dyn Fn()) -> Result<(), DiskError> {
        while !self.is_stopping.get() {
            self.remove_freed().await?;
            if self.ready_through.get().0 >= self.current.get().0 + self.ahead() {
                self.bell.rung().await;
                continue;
            }
            match self.prepare_next().await {
                Ok(()) => {
                    if self.shortage.take().is_some() {
                        tracing::info!("there is room for the log again in {}", self.directory.display());
                    }
                    tell();
                }
                Err(error) if error.is_space() => {
                    let text = error.to_string();
                    if self.shortage.replace(Some(text.clone())).is_none() {
                        tracing::error!("{text}; writes are refused once the log's last segment is full");
                        tell();
                    }
                    let pause = async { timer::sleep(SHORTAGE_PAUSE).await };
                    futures_lite::future::or(pause, self.bell.rung()).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes what is not kept for later use: all but the last few, and what has another size.
    async fn remove_freed(&self) -> Result<(), DiskError> {
        loop {
            let has_few = self.freed.borrow().len() <= SPARES_MAX;
            let path = match self.freed.borrow_mut().front() {
                Some(path) if !has_few || !self.is_whole(path) => path.clone(),
                _ => return Ok(()),
            };
            self.freed.borrow_mut().pop_front();
            glommio::io::remove(&path).await.map_err(DiskError::glommio("remove", &path))?;
        }
    }

    async fn prepare_next(&self) -> Result<(), DiskError> {
        let number = self.ready_through.get().next();
        let path = numbered_path(&self.directory, number.0, SEGMENT);
        let file = if self.is_whole(&path) {
            Rc::new(DiskFile::open(&path, self.access).await?)
        } else {
            self.spare_or_new().await?.rename(&path).await?
        };
        sync_names(&self.directory).await?;
        self.files.borrow_mut().insert(number, file);
        self.ready_through.set(number);
        self.ready_bell.ring();
        Ok(())
    }

    async fn spare_or_new(&self) -> Result<Rc<DiskFile>, DiskError> {
        let has_spare = self.freed.borrow().front().is_some_and(|path| self.is_whole(path));
        let spare = if has_spare { self.freed.borrow_mut().pop_front() } else { None };
        match spare {
            Some(spare) => Ok(Rc::new(DiskFile::open(&spare, self.access).await?)),
            None => self.make().await,
        }
    }

    fn is_whole(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|file| file.len() == self.segment_bytes)
    }

    /// A new file of zeros under a name of no meaning. One that cannot be finished is removed: its
    /// space may be what somebody else waits for.
    async fn make(&self) -> Result<Rc<DiskFile>, DiskError> {
        let path = self.directory.join(format!("next.{UNFINISHED}"));
        let made = self.fill(&path).await;
        if made.is_err() {
            // There may be nothing to remove.
            let _ = std::fs::remove_file(&path);
        }
        made
    }

    async fn fill(&self, path: &Path) -> Result<Rc<DiskFile>, DiskError> {
        let file = DiskFile::create(path, self.access).await?;
        file.allocate(self.segment_bytes).await?;
        let zeros = vec![0; ZERO_BYTES];
        let mut offset = 0;
        while offset < self.segment_bytes && !self.is_urgent() {
            let len = (self.segment_bytes - offset).min(ZERO_BYTES as u64);
            file.write(&zeros[..len as usize], offset).await?;
            offset += len;
            timer::sleep(ZERO_PAUSE).await;
        }
        file.sync().await?;
        Ok(Rc::new(file))
    }

    /// The log has nothing ready behind the segment that it writes to.
    fn is_urgent(&self) -> bool {
        self.ready_through.get() <= self.current.get() || self.is_stopping.get()
    }
}
