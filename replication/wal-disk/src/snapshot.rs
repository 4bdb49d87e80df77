//! Snapshot files of one core, written beside everything else.
//!
//! A file has a name that does not count until it is complete and synced; only then older ones go. What fails ends that
//! file and nothing else: the snapshot before it and the log are still there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::{Latency, Shares};

use crate::DiskError;
use crate::bell::Bell;
use crate::disk::Notify;
use crate::file::{Access, DiskFile, sync_names};
use crate::layout::{SNAPSHOT, UNFINISHED, numbered_path, snapshots, unfinished};

/// Shares of writing snapshots against 1000 of the sockets.
const SHARES: usize = 50;

/// Bytes of a file that are given back at a time, and the pause between two pieces.
const REMOVE_BYTES: u64 = 8 << 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(1);

/// What has become of something that was asked for; in the order in which it was.
#[derive(Debug)]
pub enum SnapshotDone {
    /// Bytes are in the file, or their file has failed; here they are back.
    Written(Vec<u8>),
    /// The snapshot of this number is complete and synced, and the only one.
    Complete(u64),
    /// The snapshot of this number is given up.
    Failed {
        /// Its number.
        number: u64,
        /// Why.
        error: DiskError,
    },
}

enum Job {
    Begin(u64),
    Write(Vec<u8>),
    End,
    Abandon,
}

struct Shared {
    directory: PathBuf,
    access: Access,
    jobs: RefCell<VecDeque<Job>>,
    done: RefCell<VecDeque<SnapshotDone>>,
    bell: Bell,
    /// Files with smaller numbers stay.
    kept_before: Cell<u64>,
    is_stopping: Cell<bool>,
    notify: Notify,
}

/// The snapshots of the core that made it.
pub struct SnapshotDisk {
    shared: Rc<Shared>,
}

impl std::fmt::Debug for SnapshotDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotDisk").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

/// A file that is not complete yet.
struct Unfinished {
    number: u64,
    file: Rc<DiskFile>,
    bytes: u64,
}

impl SnapshotDisk {
    /// Makes the core's directory if need be, removes what was never finished there, and starts the task that writes in
    /// the executor that this is called in. `notify` is called when there is something to take from [`Self::take_done`].
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub async fn open(directory: PathBuf, notify: Notify) -> Result<Self, DiskError> {
        std::fs::create_dir_all(&directory).map_err(DiskError::io("create", &directory))?;
        for (_, path) in unfinished(&directory)? {
            std::fs::remove_file(&path).map_err(DiskError::io("remove", &path))?;
        }
        let access = Access::probe(&directory).await?;
        let shared = Rc::new(Shared {
            directory,
            access,
            jobs: RefCell::default(),
            done: RefCell::default(),
            bell: Bell::default(),
            kept_before: Cell::default(),
            is_stopping: Cell::default(),
            notify,
        });
        let queue =
            glommio::executor().create_task_queue(Shares::Static(SHARES), Latency::NotImportant, "snapshots");
        let writer = Shared::run(Rc::clone(&shared));
        glommio::spawn_local_into(writer, queue).expect("the queue was just made").detach();
        Ok(Self { shared })
    }

    /// The number that the next snapshot may have: greater than that of any file there.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn next_number(&self) -> Result<u64, DiskError> {
        Ok(snapshots(&self.shared.directory)?.last().map_or(1, |(number, _)| number + 1))
    }

    /// Files with numbers below this one stay although a newer one is complete: they may hold shards that the newer one does
    /// not. 0: none.
    pub fn keep_before(&self, number: u64) {
        self.shared.kept_before.set(number);
    }

    /// Begins a file; one that was begun before has ended or was abandoned.
    pub fn begin(&self, number: u64) {
        self.push(Job::Begin(number));
    }

    /// Appends whole blocks.
    pub fn write(&self, bytes: Vec<u8>) {
        self.push(Job::Write(bytes));
    }

    /// Syncs the file, gives it its name and removes older ones. The log must be synced to where the snapshot ended.
    pub fn end(&self) {
        self.push(Job::End);
    }

    /// Removes the file that was begun.
    pub fn abandon(&self) {
        self.push(Job::Abandon);
    }

    /// What has been done since, the oldest first.
    #[must_use]
    pub fn take_done(&self) -> Option<SnapshotDone> {
        self.shared.done.borrow_mut().pop_front()
    }

    fn push(&self, job: Job) {
        self.shared.jobs.borrow_mut().push_back(job);
        self.shared.bell.ring();
    }
}

impl Drop for SnapshotDisk {
    /// A file under way is given up: at the next start it is removed.
    fn drop(&mut self) {
        self.shared.is_stopping.set(true);
        self.shared.bell.ring();
    }
}

impl Shared {
    async fn run(self: Rc<Self>) {
        let mut open: Option<Unfinished> = None;
        while !self.is_stopping.get() {
            let job = self.jobs.borrow_mut().pop_front();
            match job {
                None => self.bell.rung().await,
                Some(job) => self.work(job, &mut open).await,
            }
        }
    }

    async fn work(&self, job: Job, open: &mut Option<Unfinished>) {
        match job {
            Job::Begin(number) => {
                let path = numbered_path(&self.directory, number, UNFINISHED);
                match DiskFile::create(&path, self.access).await {
                    Ok(file) => *open = Some(Unfinished { number, file: Rc::new(file), bytes: 0 }),
                    Err(error) => self.tell(SnapshotDone::Failed { number, error }),
                }
            }
            Job::Write(bytes) => {
                if let Some(unfinished) = open.as_mut() {
                    let written = unfinished.file.write(&bytes, unfinished.bytes).await;
                    unfinished.bytes += bytes.len() as u64;
                    if let Err(error) = written {
                        self.give_up(open, Some(error)).await;
                    }
                }
                self.tell(SnapshotDone::Written(bytes));
            }
            Job::End => {
                let Some(Unfinished { number, file, .. }) = open.take() else { return };
                match self.complete(number, file).await {
                    Ok(()) => self.tell(SnapshotDone::Complete(number)),
                    Err(error) => {
                        remove(&numbered_path(&self.directory, number, UNFINISHED)).await;
                        self.tell(SnapshotDone::Failed { number, error });
                    }
                }
            }
            Job::Abandon => self.give_up(open, None).await,
        }
    }

    async fn complete(&self, number: u64, file: Rc<DiskFile>) -> Result<(), DiskError> {
        file.sync().await?;
        file.rename(&numbered_path(&self.directory, number, SNAPSHOT)).await?;
        sync_names(&self.directory).await?;
        let superfluous = self.kept_before.get()..number;
        for (older, path) in snapshots(&self.directory)? {
            if superfluous.contains(&older) {
                // A name that says that the file is not whole any more, for the time in which it goes.
                let retired = numbered_path(&self.directory, older, UNFINISHED);
                glommio::io::rename(&path, &retired).await.map_err(DiskError::glommio("rename", &path))?;
                remove(&retired).await;
            }
        }
        Ok(())
    }

    async fn give_up(&self, open: &mut Option<Unfinished>, error: Option<DiskError>) {
        let Some(Unfinished { number, .. }) = open.take() else { return };
        remove(&numbered_path(&self.directory, number, UNFINISHED)).await;
        if let Some(error) = error {
            self.tell(SnapshotDone::Failed { number, error });
        }
    }

    fn tell(&self, done: SnapshotDone) {
        self.done.borrow_mut().push_back(done);
        (self.notify)();
    }
}

/// Removes a file from its end, a piece at a time and on another thread: at once, a file system may take a second for
/// gigabytes, and clients would wait for it. What is left over costs space until the next start and nothing else.
async fn remove(path: &Path) {
    loop {
        let file = path.to_owned();
        match glommio::executor().spawn_blocking(move || remove_piece(&file)).await {
            Ok(true) => return,
            Ok(false) => glommio::timer::sleep(REMOVE_PAUSE).await,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return tracing::warn!("{} cannot be removed: {error}", path.display()),
        }
    }
}

/// Whether all of it is gone.
fn remove_piece(path: &Path) -> std::io::Result<bool> {
    let file = std::fs::File::options().write(true).open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > REMOVE_BYTES {
        file.set_len(bytes - REMOVE_BYTES)?;
        return Ok(false);
    }
    std::fs::remove_file(path).map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::rc::Rc;

    use glommio::LocalExecutorBuilder;

    use super::{SnapshotDisk, SnapshotDone};
    use crate::bell::Bell;

    const BLOCK: usize = 4096;

    /// Runs with a fresh directory below `target`, which is removed again.
    fn with_directory(name: &str, run: impl AsyncFnOnce(PathBuf) + Send + 'static) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wal-disk");
        let path = root.join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let inner = path.clone();
        LocalExecutorBuilder::default().spawn(|| async move { run(inner).await }).unwrap().join().unwrap();
        let _ = std::fs::remove_dir_all(&path);
    }

    struct Watched {
        disk: SnapshotDisk,
        bell: Rc<Bell>,
    }

    impl Watched {
        async fn open(directory: &Path) -> Self {
            let bell = Rc::new(Bell::default());
            let rung = Rc::clone(&bell);
            let disk = SnapshotDisk::open(directory.to_owned(), Box::new(move || rung.ring())).await.unwrap();
            Self { disk, bell }
        }

        async fn next(&self) -> SnapshotDone {
            loop {
                if let Some(done) = self.disk.take_done() {
                    return done;
                }
                self.bell.rung().await;
            }
        }

        async fn make(&self, number: u64, blocks: u8) -> SnapshotDone {
            self.disk.begin(number);
            (0..blocks).for_each(|block| self.disk.write(vec![block; BLOCK]));
            self.disk.end();
            for block in 0..blocks {
                match self.next().await {
                    SnapshotDone::Written(bytes) => assert_eq!(bytes, vec![block; BLOCK]),
                    other => return other,
                }
            }
            self.next().await
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_complete_snapshot_replaces_the_one_before() {
        with_directory("snapshots-replace", async |directory| {
            let disk = Watched::open(&directory).await;
            assert_eq!(disk.disk.next_number().unwrap(), 1);
            assert!(matches!(disk.make(1, 3).await, SnapshotDone::Complete(1)));
            assert!(matches!(disk.make(2, 2).await, SnapshotDone::Complete(2)));
            assert_eq!(names(&directory), ["0000000000000002.snap"]);
            let content = std::fs::read(directory.join("0000000000000002.snap")).unwrap();
            assert_eq!(content, [vec![0; BLOCK], vec![1; BLOCK]].concat());
            assert_eq!(disk.disk.next_number().unwrap(), 3);
        });
    }

    #[test]
    fn files_that_may_hold_other_shards_stay_until_they_need_not() {
        with_directory("snapshots-kept", async |directory| {
            let disk = Watched::open(&directory).await;
            assert!(matches!(disk.make(1, 1).await, SnapshotDone::Complete(1)));
            disk.disk.keep_before(2);
            assert!(matches!(disk.make(2, 1).await, SnapshotDone::Complete(2)));
            assert!(matches!(disk.make(3, 1).await, SnapshotDone::Complete(3)));
            assert_eq!(names(&directory), ["0000000000000001.snap", "0000000000000003.snap"]);
            disk.disk.keep_before(0);
            assert!(matches!(disk.make(4, 1).await, SnapshotDone::Complete(4)));
            assert_eq!(names(&directory), ["0000000000000004.snap"]);
        });
    }

    #[test]
    fn what_is_abandoned_or_left_behind_is_removed_and_the_complete_one_stays() {
        with_directory("snapshots-abandon", async |directory| {
            let disk = Watched::open(&directory).await;
            assert!(matches!(disk.make(1, 1).await, SnapshotDone::Complete(1)));
            disk.disk.begin(2);
            disk.disk.write(vec![7; BLOCK]);
            disk.disk.abandon();
            assert!(matches!(disk.next().await, SnapshotDone::Written(_)));
            assert!(matches!(disk.make(3, 1).await, SnapshotDone::Complete(3)));
            disk.disk.begin(4);
            disk.disk.write(vec![7; BLOCK]);
            assert!(matches!(disk.next().await, SnapshotDone::Written(_)));
            assert_eq!(names(&directory), ["0000000000000003.snap", "0000000000000004.tmp"]);
            drop(disk);
            Watched::open(&directory).await;
            assert_eq!(names(&directory), ["0000000000000003.snap"]);
        });
    }

    #[test]
    fn a_failure_ends_one_snapshot_only() {
        with_directory("snapshots-failure", async |directory| {
            let disk = Watched::open(&directory).await;
            std::fs::remove_dir_all(&directory).unwrap();
            disk.disk.begin(1);
            disk.disk.write(vec![1; BLOCK]);
            disk.disk.end();
            assert!(matches!(disk.next().await, SnapshotDone::Failed { number: 1, .. }));
            assert!(matches!(disk.next().await, SnapshotDone::Written(_)), "its memory comes back");
            std::fs::create_dir_all(&directory).unwrap();
            assert!(matches!(disk.make(2, 2).await, SnapshotDone::Complete(2)));
        });
    }
}
