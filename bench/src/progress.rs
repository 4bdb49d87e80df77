//! What is shown while a run is under way: nothing in a pipe, a line with live numbers on a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::{Plan, ThreadResult};
use crate::text::{duration_text, rate_text};
use crate::worker::Live;
use crate::worker::record::Row;

/// The display of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

const REFRESH: Duration = Duration::from_millis(200);
/// Rates and percentiles are those of about this long.
const LIVE_WINDOW: Duration = Duration::from_secs(1);

impl Progress {
    /// A display, unless `quiet` or nobody watches.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { shown: !quiet && std::io::stderr().is_terminal() }
    }

    /// Shows the run until its threads are done.
    pub(crate) fn watch(
        &self,
        lives: &[Arc<Live>],
        phase: &AtomicU32,
        plan: &Plan,
        handles: &[JoinHandle<ThreadResult>],
    ) {
        if !self.shown {
            return;
        }
        let names = phase_names(plan);
        let bar = bar();
        let mut shown_phase = u32::MAX;
        let mut phase_start = Instant::now();
        let (mut row, mut row_start) = (Row::EMPTY, Instant::now());
        while !handles.iter().all(JoinHandle::is_finished) {
            let now_phase = phase.load(Ordering::Relaxed);
            if now_phase != shown_phase {
                (shown_phase, phase_start) = (now_phase, Instant::now());
                let (name, duration) = names.get(now_phase as usize).copied().unwrap_or(("", None));
                bar.set_prefix(name);
                bar.set_length(duration.map_or(0, |duration| duration.as_millis() as u64));
                (row, row_start) = (Row::EMPTY, Instant::now());
            }
            bar.set_position(phase_start.elapsed().as_millis() as u64);
            lives.iter().filter_map(|live| live.take()).for_each(|fresh| row.add(&fresh));
            if row_start.elapsed() >= LIVE_WINDOW && row.count() > 0 {
                bar.set_message(live_text(&row, row_start.elapsed()));
                (row, row_start) = (Row::EMPTY, Instant::now());
            }
            thread::sleep(REFRESH);
        }
        bar.finish_and_clear();
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>8} [{bar:30}] {msg}")
        .expect("the template is a constant")
        .progress_chars("=> ");
    ProgressBar::new(0).with_style(style)
}

/// The phases of a plan, in order, with their lengths where they have one.
fn phase_names(plan: &Plan) -> Vec<(&'static str, Option<Duration>)> {
    let mut names = Vec::new();
    if plan.preload {
        names.push(("preload", None));
    }
    if !plan.warm_up.is_zero() {
        names.push(("warm-up", Some(plan.warm_up)));
    }
    names.push(("measure", plan.duration));
    names
}

fn live_text(row: &Row, over: Duration) -> String {
    let rate = row.count() as f64 / over.as_secs_f64();
    let at = |share| duration_text(row.quantile_ns(share) as f64);
    format!("{}/s  p50 {}  p99 {}  p99.9 {}", rate_text(rate), at(0.5), at(0.99), at(0.999))
}
