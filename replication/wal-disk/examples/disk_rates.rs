//! What this disk does with small synced writes, by the ways that a log could use: the numbers behind
//! `docs/adr/0005-one-fdatasync-for-many-commits.md`. Give it a directory on the disk in question.
#![allow(clippy::print_stdout, reason = "a report")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use glommio::{LocalExecutorBuilder, Placement};

const FILE_BYTES: u64 = 64 << 20;
const RUN: Duration = Duration::from_secs(2);
const O_DSYNC: i32 = 0o10_000;

thread_local! {
    static SPIN: Cell<bool> = const { Cell::new(true) };
}

async fn prepared(path: &std::path::Path, flags: i32) -> DmaFile {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .custom_flags(flags)
        .dma_open(path)
        .await
        .unwrap();
    let zeros = 1 << 20;
    if file.file_size().await.unwrap() < FILE_BYTES {
        for at in (0..FILE_BYTES).step_by(zeros) {
            file.write_at(filled(&file, zeros), at).await.unwrap();
        }
        file.fdatasync().await.unwrap();
    }
    file
}

fn filled(file: &DmaFile, len: usize) -> DmaBuffer {
    let mut buffer = file.alloc_dma_buffer(len);
    buffer.as_bytes_mut().fill(0);
    buffer
}

/// Lets the reactor look at once, as the driver's loop does while commits are in flight.
fn spin_task(stop: Rc<Cell<bool>>) -> glommio::Task<u64> {
    glommio::spawn_local(async move {
        let mut passes = 0;
        while SPIN.with(Cell::get) && !stop.get() {
            glommio::timer::sleep(Duration::from_micros(1)).await;
            passes += 1;
        }
        passes
    })
}

fn report(name: &str, bytes: usize, count: u64, started: Instant, sum: Duration, passes: u64) {
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{name:<44} {bytes:>7} B {:>8.0} commits/s {:>7.1} us each in flight {:>8.0} MB/s, {:>6.2} us a pass",
        count as f64 / seconds,
        sum.as_secs_f64() * 1e6 / count as f64,
        count as f64 * bytes as f64 / seconds / 1e6,
        seconds * 1e6 / passes.max(1) as f64,
    );
}

async fn in_turn(file: &Rc<DmaFile>, bytes: usize, sync: bool) {
    let stop = Rc::new(Cell::new(false));
    let spin = spin_task(Rc::clone(&stop));
    let (started, mut count, mut at) = (Instant::now(), 0, 0);
    while started.elapsed() < RUN {
        file.write_at(filled(file, bytes), at).await.unwrap();
        if sync {
            file.fdatasync().await.unwrap();
        }
        at = (at + bytes as u64) % FILE_BYTES;
        count += 1;
    }
    stop.set(true);
    let sum = started.elapsed();
    report(if sync { "write, fdatasync" } else { "write" }, bytes, count, started, sum, spin.await);
}

/// The next write is on its way while the sync runs.
async fn overlapped(file: &Rc<DmaFile>, bytes: usize) {
    let stop = Rc::new(Cell::new(false));
    let spin = spin_task(Rc::clone(&stop));
    let (started, mut count, mut at) = (Instant::now(), 0, 0);
    let mut sum = Duration::ZERO;
    let mut begun = Instant::now();
    file.write_at(filled(file, bytes), at).await.unwrap();
    while started.elapsed() < RUN {
        at = (at + bytes as u64) % FILE_BYTES;
        let next_begun = Instant::now();
        let next = file.write_at(filled(file, bytes), at);
        let (synced, written) = futures_lite::future::zip(file.fdatasync(), next).await;
        synced.unwrap();
        written.unwrap();
        sum += begun.elapsed();
        begun = next_begun;
        count += 1;
    }
    stop.set(true);
    report("write beside the fdatasync before it", bytes, count, started, sum, spin.await);
}

async fn several(file: &Rc<DmaFile>, bytes: usize, depth: u64, name: &str) {
    let stop = Rc::new(Cell::new(false));
    let spin = spin_task(Rc::clone(&stop));
    let started = Instant::now();
    let at = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let (file, at) = (Rc::clone(file), Rc::clone(&at));
            glommio::spawn_local(async move {
                let (mut count, mut sum) = (0, Duration::ZERO);
                while started.elapsed() < RUN {
                    let begun = Instant::now();
                    let mine = at.get();
                    at.set((mine + bytes as u64) % FILE_BYTES);
                    file.write_at(filled(&file, bytes), mine).await.unwrap();
                    sum += begun.elapsed();
                    count += 1;
                }
                (count, sum)
            })
        })
        .collect();
    let (mut count, mut sum) = (0, Duration::ZERO);
    for task in tasks {
        let (c, s) = task.await;
        count += c;
        sum += s;
    }
    stop.set(true);
    report(&format!("{name}, {depth} in flight"), bytes, count, started, sum, spin.await);
}

fn main() {
    let directory = std::path::PathBuf::from(std::env::args().nth(1).expect("usage: disk_rates DIRECTORY"));
    for (name, spins, spin_us) in
        [("sleeps", false, 0), ("looks, executor parks", true, 0), ("looks, executor spins", true, 20)]
    {
        println!("{name}");
        let directory = directory.clone();
        let builder =
            LocalExecutorBuilder::new(Placement::Fixed(0)).spin_before_park(Duration::from_micros(spin_us));
        let run = builder.spawn(move || async move {
            SPIN.with(|spin| spin.set(spins));
            let plain = Rc::new(prepared(&directory.join("disk-rates.tmp"), 0).await);
            let dsync = Rc::new(prepared(&directory.join("disk-rates.tmp"), O_DSYNC).await);
            for bytes in [4096, 16 << 10, 64 << 10] {
                in_turn(&plain, bytes, false).await;
                in_turn(&plain, bytes, true).await;
                overlapped(&plain, bytes).await;
                for depth in [1, 4] {
                    several(&dsync, bytes, depth, "O_DSYNC write").await;
                }
            }
            plain.remove().await.unwrap();
        });
        run.unwrap().join().unwrap();
    }
}
