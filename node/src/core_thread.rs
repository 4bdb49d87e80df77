//! One core: a pinned glommio executor with its socket ring, keyspace and sessions.
//!
//! Everything of a core is made on its own thread, after pinning, so that its memory comes from the
//! NUMA node it runs on.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use glommio::{GlommioError, LocalExecutorBuilder, Placement, ReactorErrorKind};
use pinnace_core::{Core, CoreConfig, DriverCounters, Durability, Mail, NodeInfo};
use pinnace_driver::{Driver, DriverConfig, DriverSettings, DriverStats, Waker};
use pinnace_engine::EngineConfig;
use pinnace_protocol::wire::{Event, Service, TurnResult, TurnTime, Wire};
use pinnace_types::{ConnId, CoreId, Limits, ShardMap, UnixMillis};
use pinnace_wal::{LogLimits, LogStart, LogWriter, Run};
use pinnace_wal_disk::{LogDisk, LogDiskConfig, SyncPolicy, core_directory};

use crate::core_log::CoreLog;
use crate::core_snapshots::{CoreSnapshots, SnapshotSeed};
use crate::failure::Failure;
use crate::host;
use crate::recovery::{Recovered, Source};

/// Memory that glommio registers with each of its three rings for files: commits are copied there to be written, larger ones
/// elsewhere. Two cores stay below the usual memlock limit of 8 MiB; without a log the least that glommio takes will do.
const FILE_BUFFERS_BYTES: usize = 256 << 10;
const FILE_BUFFERS_BYTES_MIN: usize = 64 << 10;

/// How long the executor looks for finished I/O before it sleeps. A pass of the driver's loop that gives way to the log
/// comes back within this time; a sleep for a microsecond takes tens.
const LOOK_BEFORE_PARK: Duration = Duration::from_micros(5);

/// What a core tells the thread that started it.
#[derive(Debug)]
pub(crate) enum Report {
    /// It accepts connections.
    Ready,
    /// It has ended: after a stop, or because it could not go on.
    Ended(Result<(), Failure>),
    /// A signal asks for a stop.
    StopWanted(&'static str),
}

/// What one core is made of. Moves to its thread.
pub(crate) struct CoreSeed {
    pub(crate) cpu: usize,
    pub(crate) shards: ShardMap,
    pub(crate) limits: Limits,
    pub(crate) engine: EngineConfig,
    pub(crate) driver: DriverConfig<Mail>,
    pub(crate) node: Arc<NodeInfo>,
    pub(crate) prng_seed: u64,
    pub(crate) stop: Arc<AtomicBool>,
    /// `None`: items live in memory only.
    pub(crate) log: Option<LogSeed>,
}

/// What a core's log is made of.
#[derive(Clone)]
pub(crate) struct LogSeed {
    pub(crate) durability: Durability,
    pub(crate) source: Source,
    pub(crate) run: Run,
    pub(crate) segment_bytes: u64,
    pub(crate) policy: SyncPolicy,
    pub(crate) snapshots: SnapshotSeed,
    /// Recover, report, and end.
    pub(crate) is_replay_only: bool,
}

impl CoreSeed {
    pub(crate) fn core(&self) -> CoreId {
        self.driver.mesh.core()
    }

    /// Starts the core's thread; it reports [`Report::Ended`] whatever happens.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(self, reports: Sender<Report>) -> io::Result<JoinHandle<()>> {
        let name = format!("core-{}", self.core().0);
        thread::Builder::new().name(name).spawn(move || {
            let result = self.run(&reports);
            // Nobody listens only when the process is ending already.
            let _ = reports.send(Report::Ended(result));
        })
    }

    fn run(self, reports: &Sender<Report>) -> Result<(), Failure> {
        let core = self.core();
        let mut builder =
            LocalExecutorBuilder::new(Placement::Fixed(self.cpu)).io_memory(FILE_BUFFERS_BYTES_MIN);
        if self.log.is_some() {
            builder = builder.io_memory(FILE_BUFFERS_BYTES).spin_before_park(LOOK_BEFORE_PARK);
        }
        let executor = builder.make().map_err(|error| executor_failure(core, self.cpu, &error))?;
        executor.run(self.serve(reports))
    }

    async fn serve(mut self, reports: &Sender<Report>) -> Result<(), Failure> {
        let driver = Driver::new(self.driver)?;
        let settings = driver.settings();
        settings.output_pauses_reads.set(false);
        let idle_settings = Rc::clone(&settings);
        let mut core = Core::new(CoreConfig {
            core: self.engine.core,
            shards: self.shards,
            limits: self.limits,
            engine: self.engine,
            node: self.node,
            clock_ns: host::monotonic_ns,
            prng_seed: self.prng_seed,
            set_idle_timeout_ms: Some(Box::new(move |ms| idle_settings.idle_timeout_ms.set(ms))),
            driver_counters: Some(counters_of(driver.stats())),
        })
        .map_err(|error| {
            Failure::Memory(format!("the memory of a core cannot be set up: {error}; change --memory"))
        })?;
        let (mut log, mut snapshots) = (None, None);
        if let Some(seed) = self.log.take() {
            let Some(recovered) = seed.recover(&mut core)? else { return Ok(()) };
            let (snapshot_seed, covered) = (seed.snapshots.clone(), recovered.covered);
            log = Some(seed.open(&mut core, recovered, driver.waker(), Rc::clone(&settings)).await?);
            snapshots = Some(snapshot_seed.open(&mut core, covered, driver.waker(), settings).await?);
        }
        // Nobody listens only when the process is ending already.
        let _ = reports.send(Report::Ready);
        let mut served = driver.run(Stoppable { core, stop: self.stop, log, snapshots }).await?;
        match served.log {
            Some(log) => log.close(&mut served.core).await,
            None => Ok(()),
        }
    }
}

impl LogSeed {
    /// Recovers, and waits until all cores have. `None`: that was all, or the node is to stop.
    fn recover(&self, core: &mut Core) -> Result<Option<Recovered>, Failure> {
        let progress = &self.source.progress;
        let recovered = self.source.recover(core);
        if recovered.is_err() {
            progress.give_up();
        }
        let recovered = recovered?;
        core.finish_replay(UnixMillis(host::unix_millis()));
        progress.add_recovered(recovered.entries, recovered.snapshot_items, core.item_count());
        let is_complete = progress.wait_for_all();
        Ok(Some(recovered).filter(|_| is_complete && !self.is_replay_only))
    }

    /// Begins the run's log behind what was recovered.
    async fn open(
        self,
        core: &mut Core,
        recovered: Recovered,
        waker: Waker,
        settings: Rc<DriverSettings>,
    ) -> Result<CoreLog, Failure> {
        let own = self.source.core;
        let disk = LogDiskConfig {
            directory: core_directory(&self.source.log_dir, own),
            segment_bytes: self.segment_bytes,
            first: recovered.next_segment,
            earlier: recovered.segments,
            policy: self.policy,
        };
        let disk = LogDisk::open(disk, Box::new(move || waker.wake())).await.map_err(|error| {
            Failure::DataDir(format!(
                "the log cannot be written: {error}; make room, or choose another --wal-dir"
            ))
        })?;
        if !disk.is_direct() && own == CoreId(0) {
            tracing::info!(
                "{} takes no direct I/O: the log goes through the page cache",
                self.source.log_dir.display()
            );
        }
        let start = LogStart {
            core: own,
            node_id: self.source.node_id,
            run: self.run,
            segment: recovered.next_segment,
            position: recovered.position,
            group_count: self.source.shards.shard_count(),
            groups: recovered.groups,
        };
        let limits = LogLimits {
            segment_bytes: self.segment_bytes,
            commit_bytes_max: LogLimits::DEFAULT.commit_bytes_max.min(self.segment_bytes / 4),
            ..LogLimits::DEFAULT
        };
        core.start_log(self.durability, LogWriter::new(start, limits));
        // From here on what was recovered is what counts, whatever else may be found behind it another time.
        core.with_log(|log| log.on_segment_ready(disk.ready_through()));
        disk.submit(|out| core.with_log(|log| log.seal_marker(out)).flatten());
        disk.settle().await.map_err(|error| Failure::Disk(error.to_string()))?;
        let mut begins = recovered.begins;
        begins.push((recovered.position, recovered.next_segment));
        Ok(CoreLog::new(disk, settings, self.durability == Durability::Sync, begins))
    }
}

/// The core's view of its driver's counters.
fn counters_of(stats: Rc<DriverStats>) -> Box<dyn Fn() -> DriverCounters> {
    Box::new(move || DriverCounters {
        connections_rejected: stats.accepts_refused.get(),
        input_bytes: stats.bytes_in.get(),
        output_bytes: stats.bytes_out.get(),
        turns: stats.turns.get(),
        parks: stats.parks.get(),
        busy_ns: stats.busy_ns.get(),
    })
}

fn executor_failure(core: CoreId, cpu: usize, error: &GlommioError<()>) -> Failure {
    let text = format!("core {} cannot start on CPU {cpu}: {error}", core.0);
    match error {
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(..)) => Failure::Memlock(text),
        GlommioError::IoError(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            Failure::Memlock(format!(
                "{text}; a core needs about 512 KiB of locked memory: raise the limit with `ulimit -l`, LimitMEMLOCK= \
             (systemd) or --ulimit memlock (Docker), or lower --cores"
            ))
        }
        _ => Failure::IoUring(text),
    }
}

/// A core that ends its driver's loop once the node is asked to stop.
struct Stoppable {
    core: Core,
    stop: Arc<AtomicBool>,
    log: Option<CoreLog>,
    snapshots: Option<CoreSnapshots>,
}

impl Service for Stoppable {
    type Pinned = <Core as Service>::Pinned;
    type Mail = Mail;

    fn on_mail<W>(&mut self, time: TurnTime, from: CoreId, mail: Mail, wire: &mut W)
    where
        W: Wire<Pinned = Self::Pinned, Mail = Mail>,
    {
        self.core.on_mail(time, from, mail, wire);
    }

    fn on_turn<W>(&mut self, time: TurnTime, events: &[Event<'_>], wire: &mut W) -> TurnResult
    where
        W: Wire<Pinned = Self::Pinned, Mail = Mail>,
    {
        if let Some(log) = &mut self.log {
            log.before_turn(&mut self.core, wire);
        }
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.before_turn(&mut self.core, self.log.as_mut());
        }
        let mut result = self.core.on_turn(time, events, wire);
        // The waker that follows the store gives the core this turn, and orders the two.
        result.stop |= self.stop.load(Ordering::Relaxed);
        if let Some(log) = &mut self.log {
            let wake_after_ms = log.after_turn(&mut self.core, time.monotonic_ns);
            result.wake_after_ms = result.wake_after_ms.into_iter().chain(wake_after_ms).min();
            result.stop = result.stop && log.may_stop(&mut self.core, time.monotonic_ns);
        }
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.after_turn(&mut self.core, self.log.as_ref());
        }
        result
    }

    fn owes_reply(&self, conn: ConnId) -> bool {
        self.core.owes_reply(conn)
    }
}
