//! How far a recovery is: counted by the cores, shown by a thread of its own; and the gate that opens when all are done.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pinnace_types::ByteSize;

/// How often a bar is drawn, and how often a line is logged where there is no terminal.
const DRAW_EVERY: Duration = Duration::from_millis(100);
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Shared by the cores and whoever shows it.
#[derive(Debug)]
pub(crate) struct Progress {
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    entries: AtomicU64,
    snapshot_items: AtomicU64,
    keys: AtomicU64,
    gate: Mutex<Gate>,
    opened: Condvar,
}

#[derive(Debug)]
struct Gate {
    cores_left: usize,
    is_given_up: bool,
}

impl Progress {
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            total_bytes: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            snapshot_items: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            gate: Mutex::new(Gate { cores_left: cores, is_given_up: false }),
            opened: Condvar::new(),
        }
    }

    pub(super) fn add_total(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_done(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A core has applied all of its part, and holds so many keys now.
    pub(crate) fn add_recovered(&self, entries: u64, snapshot_items: u64, keys: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.snapshot_items.fetch_add(snapshot_items, Ordering::Relaxed);
        self.keys.fetch_add(keys, Ordering::Relaxed);
    }

    fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    /// All cores have recovered.
    pub(crate) fn is_complete(&self) -> bool {
        let gate = self.gate();
        gate.cores_left == 0 && !gate.is_given_up
    }

    /// What was recovered, in one line.
    pub(crate) fn report(&self, took: Duration) -> String {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rate = self.done_bytes() as f64 / took.as_secs_f64().max(1e-6) / 1e6;
        format!(
            "{} keys from {} items of snapshots and {} log entries; {} read in {took:.2?} ({rate:.0} MB/s)",
            number(&self.keys),
            number(&self.snapshot_items),
            number(&self.entries),
            ByteSize(self.done_bytes())
        )
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This core has recovered: waits for the others. False: one of them could not, or the node is to stop.
    pub(crate) fn wait_for_all(&self) -> bool {
        let mut gate = self.gate();
        gate.cores_left -= 1;
        self.opened.notify_all();
        let gate = self.opened.wait_while(gate, |gate| gate.cores_left > 0 && !gate.is_given_up);
        !gate.unwrap_or_else(PoisonError::into_inner).is_given_up
    }

    /// Nobody needs to wait any more.
    pub(crate) fn give_up(&self) {
        self.gate().is_given_up = true;
        self.opened.notify_all();
    }

    /// Waits a moment for the end; whether it has come.
    fn is_over_within(&self, time: Duration) -> bool {
        let wait = |gate: &mut Gate| gate.cores_left > 0 && !gate.is_given_up;
        let (gate, _) =
            self.opened.wait_timeout_while(self.gate(), time, wait).unwrap_or_else(PoisonError::into_inner);
        gate.cores_left == 0 || gate.is_given_up
    }
}

/// Shows how far the recovery is until it is over: a bar on a terminal, else a line now and then.
pub(crate) fn show(progress: &Progress, is_text: bool) {
    let started = Instant::now();
    if is_text && std::io::stderr().is_terminal() {
        let style =
            ProgressStyle::with_template("  recovering {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
                .expect("the template is valid");
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style);
        while !progress.is_over_within(DRAW_EVERY) {
            bar.set_length(progress.total_bytes.load(Ordering::Relaxed));
            bar.set_position(progress.done_bytes());
        }
        bar.finish_and_clear();
    } else {
        while !progress.is_over_within(LOG_EVERY) {
            let (done, total) = (progress.done_bytes(), progress.total_bytes.load(Ordering::Relaxed));
            tracing::info!(
                "recovering: {} of {} in {:.0?}",
                ByteSize(done),
                ByteSize(total),
                started.elapsed()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn nobody_serves_before_all_have_recovered() {
        let progress = Arc::new(Progress::new(3));
        let waiters: Vec<_> = (0..2)
            .map(|_| Arc::clone(&progress))
            .map(|progress| thread::spawn(move || progress.wait_for_all()))
            .collect();
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        assert!(progress.wait_for_all());
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    }

    #[test]
    fn one_that_cannot_recover_keeps_nobody_waiting() {
        let progress = Arc::new(Progress::new(2));
        let other = Arc::clone(&progress);
        let waiter = thread::spawn(move || other.wait_for_all());
        progress.give_up();
        assert!(!waiter.join().unwrap());
    }
}
