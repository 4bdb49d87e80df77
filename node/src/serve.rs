//! The life of a node: everything that can fail is tried before the first core starts, the banner
//! comes when all of them accept, and they all end together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pinnace_core::{Mail, NodeInfo};
use pinnace_driver::{ConnectionBudget, DriverConfig, DriverError, DriverTuning, Listener, Waker};
use pinnace_engine::{EngineConfig, MemoryPolicy};
use pinnace_types::{CoreId, HashSeed, UnixMillis};
use pinnace_wal::Run;
use pinnace_wal_disk::{SyncPolicy, core_directory};

use crate::banner::banner;
use crate::config::{Config, Durability, LogFormat, Policy, Settings};
use crate::core_snapshots::SnapshotSeed;
use crate::core_thread::{CoreSeed, LogSeed, Report};
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::layout::Layout;
use crate::plan::Plan;
use crate::recovery::{Progress, Source};
use crate::{data_dir, logging, recovery, signals};

/// Connections that the kernel completes while a core is busy; `net.core.somaxconn` may lower it.
const BACKLOG: u32 = 4096;

/// How long a port that no visible process has may stay taken; measured: some 20 ms.
const ORPHANED_PORT_WAIT: Duration = Duration::from_secs(2);

/// How often such a port is tried.
const ORPHANED_PORT_POLL: Duration = Duration::from_millis(10);

/// Hand-overs under way between two cores. There is one per loop turn, so that this many mean that
/// the receiver is far behind; the sender then keeps its requests and stops reading.
const MAILBOX_MAILS: usize = 128;

/// Room in a ring's file table for connections that are closing while others arrive.
const CLOSING_SLOTS: u32 = 240;

/// Fewer clients than this are no node.
const CONNECTIONS_MIN: u32 = 16;

/// Serves until a signal.
///
/// # Errors
/// The first thing that keeps the node from starting, or that ended one of its cores.
pub(crate) fn serve(config: &Config, config_file: Option<&Path>, task: Task) -> Result<(), Failure> {
    let settings = &config.settings;
    logging::start(settings)?;
    let mut plan = Plan::make(settings, &Host::detect())?;
    pinnace_driver::check_memlock()?;
    pinnace_driver::check_uring()?;
    let file_limit = fit_open_files(&mut plan, settings.max_connections.is_some())?;
    let data = take_data(config, &plan, task)?;
    let (reports_sender, reports) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let node = Arc::new(node_info(settings, &plan, config_file)?);
    let mut seeds = seeds(settings, &plan, file_limit, &node, &stop)?;
    let progress = Arc::new(Progress::new(seeds.len()));
    if let Some(data) = &data {
        give_logs(&mut seeds, settings, data, &progress, task)?;
    }
    let wakers = seeds.iter().map(|seed| seed.driver.mesh.waker()).collect();
    let stopper = Stopper { stop, wakers, progress: Arc::clone(&progress) };

    let on_signal = reports_sender.clone();
    signals::watch(move |name| drop(on_signal.send(Report::StopWanted(name))))
        .map_err(|error| Failure::CoreLost(format!("cannot wait for signals: {error}")))?;
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    let mut threads = Vec::new();
    for seed in seeds {
        let thread = seed.start(reports_sender.clone());
        threads.push(
            thread.map_err(|error| Failure::CoreLost(format!("cannot start a core's thread: {error}")))?,
        );
    }
    drop(reports_sender);
    let shower = data.as_ref().map(|_| show_recovery(settings, &progress, task)).transpose()?;
    let result = supervise(&reports, threads.len(), &stopper, || announce(settings, &plan));
    if let Some(shower) = shower {
        let _ = shower.join();
    }
    for thread in threads {
        // A thread that panicked has aborted the process.
        let _ = thread.join();
    }
    if result.is_ok() && task == Task::Serve {
        tracing::info!("stopped");
    }
    result
}

/// What to do with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Recover and serve.
    Serve,
    /// Recover, report what there was, and end.
    Replay,
}

/// Takes the data directory if there is to be a log; else only sees that one that was asked for is there.
fn take_data(config: &Config, plan: &Plan, task: Task) -> Result<Option<DataDir>, Failure> {
    let settings = &config.settings;
    if settings.durability == Durability::None {
        if task == Task::Replay {
            return Err(Failure::Config(
                "--wal-replay needs a log: give --durability async or sync, and the --data-dir".to_owned(),
            ));
        }
        if config.is_set("data_dir") {
            data_dir::prepare(&settings.data_dir)?;
        }
        return Ok(None);
    }
    let (shards, cores) = (plan.shards.shard_count(), plan.shards.core_count());
    let node_id = data_dir::node_id(random_u64()?);
    let data = DataDir::take(&settings.data_dir, &settings.log_dir(), shards, cores, node_id)?;
    if data.is_new() {
        tracing::info!("{} is new: the node begins empty", settings.data_dir.display());
    }
    Ok(Some(data))
}

/// Gives each core what its log is made of.
fn give_logs(
    seeds: &mut [CoreSeed],
    settings: &Settings,
    data: &DataDir,
    progress: &Arc<Progress>,
    task: Task,
) -> Result<(), Failure> {
    let durability = match settings.durability {
        Durability::None => return Ok(()),
        Durability::Async => pinnace_core::Durability::Async,
        Durability::Sync => pinnace_core::Durability::Sync,
    };
    let (log_dir, snapshot_dir) = (settings.log_dir(), settings.snapshot_dir());
    let layout = Arc::new(Layout::new(&settings.data_dir, &log_dir, &snapshot_dir, data.identity.clone()));
    for seed in seeds {
        let source = Source {
            log_dir: log_dir.clone(),
            snapshot_dir: snapshot_dir.clone(),
            node_id: data.identity.node_id,
            is_mixed: data.identity.mixed,
            shards: seed.shards,
            core: seed.core(),
            progress: Arc::clone(progress),
        };
        seed.log = Some(LogSeed {
            durability,
            source,
            run: Run { number: data.identity.run, nonce: random_u64()? },
            segment_bytes: settings.wal_segment_size.0,
            policy: match durability {
                pinnace_core::Durability::Sync => SyncPolicy::Always,
                _ => SyncPolicy::Periodic {
                    every: settings.wal_sync_interval.0,
                    bytes: settings.wal_sync_bytes.0,
                },
            },
            snapshots: SnapshotSeed {
                core: seed.core(),
                directory: core_directory(&snapshot_dir, seed.core()),
                node_id: data.identity.node_id,
                run_number: data.identity.run,
                nonce: random_u64()?,
                interval_ms: u64::try_from(settings.snapshot_interval.0.as_millis()).unwrap_or(u64::MAX),
                log_bytes: settings.snapshot_log_size.0.div_ceil(u64::from(seed.shards.core_count())),
                layout: Arc::clone(&layout),
            },
            is_replay_only: task == Task::Replay,
        });
    }
    Ok(())
}

/// Shows the recovery while it goes on, and reports it when it is complete.
fn show_recovery(
    settings: &Settings,
    progress: &Arc<Progress>,
    task: Task,
) -> Result<JoinHandle<()>, Failure> {
    let progress = Arc::clone(progress);
    let is_text = settings.log_format == LogFormat::Text;
    let started = Instant::now();
    let show = move || {
        recovery::show(&progress, is_text);
        if !progress.is_complete() {
            return;
        }
        let report = progress.report(started.elapsed());
        match task {
            Task::Serve => tracing::info!("recovered {report}"),
            Task::Replay => crate::print(&format!("replayed: {report}; nothing was changed\n")),
        }
    };
    thread::Builder::new()
        .name("recovery".to_owned())
        .spawn(show)
        .map_err(|error| Failure::CoreLost(format!("cannot start a thread: {error}")))
}

/// Ends all cores from any thread.
struct Stopper {
    stop: Arc<AtomicBool>,
    wakers: Vec<Waker>,
    progress: Arc<Progress>,
}

impl Stopper {
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.progress.give_up();
        self.wakers.iter().for_each(Waker::wake);
    }
}

/// Follows the cores from their start to the end of the last one. One that ends with an error takes
/// the others with it: a node without one of its cores would answer for some keys only.
fn supervise(
    reports: &Receiver<Report>,
    core_count: usize,
    stopper: &Stopper,
    on_ready: impl Fn(),
) -> Result<(), Failure> {
    let (mut ready_count, mut ended_count) = (0, 0);
    let mut result = Ok(());
    while ended_count < core_count {
        // The cores hold senders until they have reported their end.
        match reports.recv().expect("a core reports its end before it drops its sender") {
            Report::Ready => {
                ready_count += 1;
                if ready_count == core_count && result.is_ok() {
                    on_ready();
                }
            }
            Report::StopWanted(signal) => {
                tracing::info!("{signal}: stopping");
                stopper.stop();
            }
            Report::Ended(end) => {
                ended_count += 1;
                if end.is_err() {
                    stopper.stop();
                    // The first reason counts; the others follow from it.
                    result = result.and(end);
                }
            }
        }
    }
    result
}

fn announce(settings: &Settings, plan: &Plan) {
    if settings.log_format == LogFormat::Text {
        crate::print(&banner(settings, plan));
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %plan.address,
        cores = plan.cpus.len(),
        memory_bytes = plan.memory_bytes,
        "ready"
    );
}

/// Raises the open-file limit to what the connections need. The default number of connections is
/// lowered instead of failing; one that was asked for is not.
fn fit_open_files(plan: &mut Plan, is_explicit: bool) -> Result<u64, Failure> {
    let wanted = plan.limits.connections_max;
    match pinnace_driver::raise_file_limit(wanted) {
        Ok(limit) => Ok(limit),
        Err(DriverError::FilesTooFew { limit, needed }) if !is_explicit => {
            let reserve = needed - u64::from(wanted);
            let fitting = u32::try_from(limit.saturating_sub(reserve)).unwrap_or(wanted);
            if fitting < CONNECTIONS_MIN {
                return Err(
                    DriverError::FilesTooFew { limit, needed: reserve + u64::from(CONNECTIONS_MIN) }.into()
                );
            }
            plan.notes.push(format!(
                "the limit on open files is {limit}: serving {fitting} connections instead of {wanted} (ulimit -n, \
                 LimitNOFILE=)"
            ));
            plan.limits.connections_max = fitting;
            Ok(limit)
        }
        Err(error) => Err(error.into()),
    }
}

/// What each core starts from, its listening sockets open.
fn seeds(
    settings: &Settings,
    plan: &Plan,
    file_limit: u64,
    node: &Arc<NodeInfo>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<CoreSeed>, Failure> {
    let meshes = pinnace_driver::mesh::<Mail>(plan.shards.core_count(), MAILBOX_MAILS)?;
    let budget = Arc::new(ConnectionBudget::new(plan.limits.connections_max));
    let tuning = tuning(settings, plan, file_limit);
    let hash_seed = HashSeed::new(random_u64()?);
    let cores = listeners(plan)?.into_iter().zip(meshes).zip(&plan.cpus);
    cores
        .map(|((listeners, mesh), cpu)| {
            Ok(CoreSeed {
                cpu: *cpu,
                shards: plan.shards,
                limits: plan.limits.clone(),
                engine: engine_config(settings, plan, mesh.core(), hash_seed),
                driver: DriverConfig {
                    mesh,
                    listeners,
                    budget: Arc::clone(&budget),
                    limits: plan.limits.clone(),
                    tuning: tuning.clone(),
                },
                node: Arc::clone(node),
                prng_seed: random_u64()?,
                stop: Arc::clone(stop),
                log: None,
            })
        })
        .collect()
}

/// The sockets of each core, by core: its share of the common port, and its own port if it has one.
fn listeners(plan: &Plan) -> Result<Vec<Vec<Listener>>, Failure> {
    let shared = bind(plan.address, plan.cpus.len())?;
    let mut by_core: Vec<Vec<Listener>> = shared.into_iter().map(|listener| vec![listener]).collect();
    for (own, address) in by_core.iter_mut().zip(&plan.core_addresses) {
        own.extend(bind(*address, 1)?);
    }
    Ok(by_core)
}

/// Listens on an address, waiting for a moment if nobody seems to have the port: the kernel takes the
/// rings of a killed process apart after its end, and their sockets with them, so that a supervisor
/// which restarts a node at once would find its own port taken.
fn bind(address: SocketAddr, count: usize) -> Result<Vec<Listener>, Failure> {
    let started = Instant::now();
    loop {
        match pinnace_driver::bind_group(address, count, BACKLOG) {
            Err(DriverError::PortInUse { .. })
                if started.elapsed() < ORPHANED_PORT_WAIT && host::port_owner(address.port()).is_none() =>
            {
                thread::sleep(ORPHANED_PORT_POLL);
            }
            result => return Ok(result?),
        }
    }
}

fn tuning(settings: &Settings, plan: &Plan, file_limit: u64) -> DriverTuning {
    let slots = plan.limits.connections_max.saturating_add(CLOSING_SLOTS);
    DriverTuning {
        // The kernel refuses a table that is larger than the open-file limit.
        slots: slots.min(u32::try_from(file_limit).unwrap_or(u32::MAX)),
        spin_us: u32::try_from(settings.busy_poll.0.as_micros()).expect("validated to be at most 10 ms"),
        gather_us: u32::try_from(settings.gather.0.as_micros()).expect("validated to be at most 10 ms"),
        ..DriverTuning::DEFAULT
    }
}

fn engine_config(settings: &Settings, plan: &Plan, core: CoreId, hash_seed: HashSeed) -> EngineConfig {
    EngineConfig {
        segment_bytes: settings
            .segment_size
            .map(|size| u32::try_from(size.0).expect("validated to be at most 16 MiB")),
        policy: match settings.memory_policy {
            Policy::Evict => MemoryPolicy::Evict,
            Policy::Reject => MemoryPolicy::Reject,
        },
        small_share_percent: settings.small_queue_share,
        promote_threshold: settings.promote_threshold,
        ghost_percent: settings.ghost_share,
        value_bytes_max: plan.limits.value_bytes_max,
        key_bytes_max: plan.limits.key_bytes_max,
        ..EngineConfig::new(plan.core_memory_bytes, plan.shards, core, hash_seed)
    }
}

fn node_info(settings: &Settings, plan: &Plan, config_file: Option<&Path>) -> Result<NodeInfo, Failure> {
    let run_id =
        [random_u64()?, random_u64()?, random_u64()?].map(|number| format!("{number:016x}")).concat();
    let path_text = |path: &Path| path.display().to_string();
    Ok(NodeInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: run_id[..40].to_owned(),
        bind: settings.bind.to_string(),
        port: settings.port,
        core_ports: settings.core_ports,
        executable: std::env::current_exe().map_or_else(|_| String::new(), |path| path_text(&path)),
        config_file: config_file.map(path_text).unwrap_or_default(),
        data_dir: path_text(&settings.data_dir),
        memory_bytes: plan.memory_bytes,
        start: UnixMillis(host::unix_millis()),
        os: host::operating_system(),
        process_id: std::process::id(),
        debug_commands: settings.enable_debug_command,
        host_sample: host::sample,
    })
}

fn random_u64() -> Result<u64, Failure> {
    getrandom::u64()
        .map_err(|error| Failure::CoreLost(format!("the system gives no random numbers: {error}")))
}
