//! The life of a node: everything that can fail is tried before the first core starts, the banner
//! comes when all of them accept, and they all end together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use pinnace_core::{Mail, NodeInfo};
use pinnace_driver::{ConnectionBudget, DriverConfig, DriverError, DriverTuning, Listener, Waker};
use pinnace_engine::{EngineConfig, MemoryPolicy};
use pinnace_types::{CoreId, HashSeed, UnixMillis};

use crate::banner::banner;
use crate::config::{Config, LogFormat, Policy, Settings};
use crate::core_thread::{CoreSeed, Report};
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::plan::Plan;
use crate::{data_dir, logging, signals};

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
pub(crate) fn serve(config: &Config, config_file: Option<&Path>) -> Result<(), Failure> {
    let settings = &config.settings;
    logging::start(settings)?;
    let mut plan = Plan::make(settings, &Host::detect())?;
    pinnace_driver::check_memlock()?;
    pinnace_driver::check_uring()?;
    let file_limit = fit_open_files(&mut plan, settings.max_connections.is_some())?;
    if config.is_set("data_dir") {
        data_dir::prepare(&settings.data_dir)?;
    }
    let (reports_sender, reports) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let node = Arc::new(node_info(settings, &plan, config_file)?);
    let seeds = seeds(settings, &plan, file_limit, &node, &stop)?;
    let stopper = Stopper { stop, wakers: seeds.iter().map(|seed| seed.driver.mesh.waker()).collect() };

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
    let result = supervise(&reports, threads.len(), &stopper, || announce(settings, &plan));
    for thread in threads {
        // A thread that panicked has aborted the process.
        let _ = thread.join();
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

/// Ends all cores from any thread.
struct Stopper {
    stop: Arc<AtomicBool>,
    wakers: Vec<Waker>,
}

impl Stopper {
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
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
