//! On real files below `target`, and on whatever the temporary directory is.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::LocalExecutorBuilder;
use pinnace_types::{CommitNumber, CoreId, LogPosition, SegmentNumber, ShardId};
use pinnace_wal::{BLOCK_BYTES, LogLimits, LogStart, LogWriter, Run};

use super::{LogDisk, LogDiskConfig, SyncPolicy};
use crate::layout::segments;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/wal-disk")
            .join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn in_executor(run: impl AsyncFnOnce() + Send + 'static) {
    LocalExecutorBuilder::default().spawn(|| async move { run().await }).unwrap().join().unwrap();
}

const LIMITS: LogLimits = LogLimits::TEST_MIN;

fn writer() -> LogWriter {
    let start = LogStart {
        core: CoreId(0),
        node_id: 7,
        run: Run { number: 1, nonce: 99 },
        segment: SegmentNumber(1),
        position: LogPosition(0),
        group_count: 4,
        groups: Vec::new(),
    };
    LogWriter::new(start, LIMITS)
}

async fn disk(directory: &Directory, policy: SyncPolicy) -> (LogDisk, Rc<Cell<u32>>) {
    let told = Rc::new(Cell::new(0));
    let count = Rc::clone(&told);
    let config = LogDiskConfig {
        directory: directory.0.clone(),
        segment_bytes: LIMITS.segment_bytes,
        first: SegmentNumber(1),
        earlier: Vec::new(),
        policy,
    };
    (LogDisk::open(config, Box::new(move || count.set(count.get() + 1))).await.unwrap(), told)
}

/// Appends and submits one commit.
fn commit(disk: &LogDisk, writer: &mut LogWriter, len: usize) {
    writer.on_segment_ready(disk.ready_through());
    writer.append(ShardId(1), |out| out.resize(out.len() + len, 7));
    assert!(disk.submit(|out| writer.seal(out)));
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn what_is_synced_stands_in_the_files_byte_for_byte() {
    let directory = Directory::new("bytes");
    in_executor(async move || {
        let (disk, told) = disk(&directory, SyncPolicy::Always).await;
        let mut writer = writer();
        let mut expected = Vec::new();
        for round in 0..200 {
            until("a segment is ready", || disk.ready_through() > writer.segment()).await;
            writer.on_segment_ready(disk.ready_through());
            writer.append(ShardId(round % 4), |out| {
                out.resize(out.len() + 1 + usize::from(round) * 20, 1 + round as u8)
            });
            let mut bytes = Vec::new();
            let sealed = writer.seal(&mut bytes).unwrap();
            let mut once = Some(sealed);
            disk.submit(|out| {
                let sealed = once.take()?;
                out.extend_from_slice(&bytes);
                Some(sealed)
            });
            expected.push((sealed, bytes));
        }
        until("all is synced", || disk.synced() == CommitNumber(200)).await;
        assert!(told.get() > 0 && !disk.is_under_way() && disk.failure().is_none());
        disk.close().await.unwrap();
        let files: Vec<_> = segments(&directory.0).unwrap();
        for (sealed, bytes) in expected {
            let path = &files.iter().find(|(number, _)| *number == sealed.segment).unwrap().1;
            let file = std::fs::read(path).unwrap();
            let start = sealed.offset as usize;
            assert!(file[start..start + bytes.len()] == bytes, "commit {}", sealed.number);
        }
    });
}

#[test]
fn commits_that_arrive_during_a_sync_share_the_next() {
    let directory = Directory::new("group");
    in_executor(async move || {
        let (disk, told) = disk(&directory, SyncPolicy::Always).await;
        let mut writer = writer();
        for _ in 0..5 {
            commit(&disk, &mut writer, 10);
            glommio::executor().yield_now().await;
        }
        until("all is synced", || disk.synced() == CommitNumber(5)).await;
        assert!(told.get() <= 5);
        disk.close().await.unwrap();
    });
}

#[test]
fn a_periodic_sync_waits_for_its_time_unless_somebody_asks() {
    let directory = Directory::new("periodic");
    in_executor(async move || {
        let policy = SyncPolicy::Periodic { every: Duration::from_secs(3600), bytes: 3 * BLOCK_BYTES };
        let (disk, _) = disk(&directory, policy).await;
        let mut writer = writer();
        commit(&disk, &mut writer, 10);
        glommio::timer::sleep(Duration::from_millis(30)).await;
        assert_eq!(disk.synced(), CommitNumber(0));
        disk.sync_soon();
        until("it is synced on demand", || disk.synced() == CommitNumber(1)).await;
        for _ in 0..3 {
            commit(&disk, &mut writer, 10);
        }
        until("it is synced because of its bytes", || disk.synced() == CommitNumber(4)).await;
        commit(&disk, &mut writer, 10);
        disk.close().await.unwrap();
    });
}

#[test]
fn superfluous_segments_become_later_ones() {
    let directory = Directory::new("recycle");
    in_executor(async move || {
        let (disk, _) = disk(&directory, SyncPolicy::Always).await;
        let mut writer = writer();
        for _ in 0..80 {
            until("a segment is ready", || disk.ready_through() > writer.segment()).await;
            commit(&disk, &mut writer, 5000);
            until("it is synced", || !disk.is_under_way()).await;
            disk.recycle(writer.segment());
        }
        assert!(writer.segment() > SegmentNumber(16));
        disk.close().await.unwrap();
        let files = segments(&directory.0).unwrap();
        // The one that is written to, eight ahead, four spare ones, and one on its way.
        assert!(files.len() <= 14, "{files:?}");
        assert!(files.iter().all(|(_, path)| path.metadata().unwrap().len() == LIMITS.segment_bytes));
    });
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    in_executor(async || {
        let directory = Directory(PathBuf::from("/proc/version/log"));
        let config = LogDiskConfig {
            directory: directory.0.clone(),
            segment_bytes: LIMITS.segment_bytes,
            first: SegmentNumber(1),
            earlier: Vec::new(),
            policy: SyncPolicy::Always,
        };
        let error = LogDisk::open(config, Box::new(|| {})).await.unwrap_err();
        assert!(error.to_string().contains("/proc/version/log"), "{error}");
    });
}

/// What the log relies on in glommio.
mod pins {
    use super::{Directory, in_executor};
    use crate::file::{Access, DiskFile};
    use std::rc::Rc;

    #[test]
    fn a_write_whose_future_is_dropped_still_owns_its_memory() {
        let directory = Directory::new("dropped");
        std::fs::create_dir_all(&directory.0).unwrap();
        in_executor(async move || {
            let access = Access::probe(&directory.0).await.unwrap();
            let path = directory.0.join("file");
            let file = Rc::new(DiskFile::create(&path, access).await.unwrap());
            for round in 0..50_u8 {
                // Polled once, so that it is on its way, and dropped.
                let copy = file.copy(&[round; 4096]);
                let write = file.write_copy(copy, u64::from(round) * 4096);
                futures_lite::future::poll_once(Box::pin(write)).await;
                file.copy(&[0xff; 4096]);
            }
            file.sync().await.unwrap();
            file.write(&[1; 4096], 50 * 4096).await.unwrap();
            let bytes = std::fs::read(&path).unwrap();
            for (round, block) in bytes.chunks(4096).take(50).enumerate() {
                let is_whole = block.iter().all(|byte| usize::from(*byte) == round || *byte == 0);
                assert!(is_whole, "block {round} holds memory of something else: {:?}", &block[..8]);
            }
        });
    }

    #[test]
    fn memory_for_direct_writes_is_aligned_to_blocks() {
        let directory = Directory::new("aligned");
        std::fs::create_dir_all(&directory.0).unwrap();
        in_executor(async move || {
            let path = directory.0.join("file");
            let file = glommio::io::DmaFile::create(&path).await.unwrap();
            for len in [4096, 8192, 1 << 20] {
                let buffer = file.alloc_dma_buffer(len);
                assert_eq!((buffer.as_ptr() as usize % 4096, buffer.len()), (0, len));
            }
            assert!(4096_u64.is_multiple_of(file.alignment()));
            file.close().await.unwrap();
        });
    }
}
