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

use glommio::{GlommioError, LocalExecutorBuilder, Placement, ReactorErrorKind};
use pinnace_core::{Core, CoreConfig, DriverCounters, Mail, NodeInfo};
use pinnace_driver::{Driver, DriverConfig, DriverStats};
use pinnace_engine::EngineConfig;
use pinnace_protocol::wire::{Event, Service, TurnResult, TurnTime, Wire};
use pinnace_types::{ConnId, CoreId, Limits, ShardMap};

use crate::failure::Failure;
use crate::host;

/// Memory that glommio registers with each of its three rings for files. This build reads and writes
/// none; its least is 64 KiB, so that two cores stay far below the usual memlock limit of 8 MiB.
const FILE_BUFFERS_BYTES: usize = 64 << 10;

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
}

impl CoreSeed {
    fn core(&self) -> CoreId {
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
        let executor = LocalExecutorBuilder::new(Placement::Fixed(self.cpu))
            .io_memory(FILE_BUFFERS_BYTES)
            .make()
            .map_err(|error| executor_failure(core, self.cpu, &error))?;
        executor.run(self.serve(reports))
    }

    async fn serve(self, reports: &Sender<Report>) -> Result<(), Failure> {
        let driver = Driver::new(self.driver)?;
        let driver_settings = driver.settings();
        driver_settings.output_pauses_reads.set(false);
        let core = Core::new(CoreConfig {
            core: self.engine.core,
            shards: self.shards,
            limits: self.limits,
            engine: self.engine,
            node: self.node,
            clock_ns: host::monotonic_ns,
            prng_seed: self.prng_seed,
            set_idle_timeout_ms: Some(Box::new(move |ms| driver_settings.idle_timeout_ms.set(ms))),
            driver_counters: Some(counters_of(driver.stats())),
        })
        .map_err(|error| {
            Failure::Memory(format!("the memory of a core cannot be set up: {error}; change --memory"))
        })?;
        // Nobody listens only when the process is ending already.
        let _ = reports.send(Report::Ready);
        driver.run(Stoppable { core, stop: self.stop }).await?;
        Ok(())
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
        let result = self.core.on_turn(time, events, wire);
        // The waker that follows the store gives the core this turn, and orders the two.
        TurnResult { stop: result.stop || self.stop.load(Ordering::Relaxed), ..result }
    }

    fn owes_reply(&self, conn: ConnId) -> bool {
        self.core.owes_reply(conn)
    }
}
