//! One run from greeting to result: connects, starts the threads, leads them through the phases,
//! puts together what they measured.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::{Codec, MetaCodec, NativeCodec, RespCodec, TextCodec};
use crate::connect::Service;
use crate::environment::{self, Environment};
use crate::error::BenchError;
use crate::progress::Progress;
use crate::result::RunResult;
use crate::server_side::ServerProcesses;
use crate::summary;
use crate::target::{Protocol, Target};
use crate::worker::{
    Clock, Failures, Live, Load, Phase, PhaseKind, PhaseResult, Spacing, Topology, Worker, WorkerSetup,
};
use crate::workload::{Op, Workload, WorkloadSpec};

/// What to run, all words resolved.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    pub(crate) spec: WorkloadSpec,
    /// Requests a second over all threads and how they are spaced; `None`: closed loop.
    pub(crate) open: Option<(f64, Spacing)>,
    pub(crate) connections: usize,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) cores: Vec<usize>,
    pub(crate) duration: Option<Duration>,
    pub(crate) requests: Option<u64>,
    pub(crate) warm_up: Duration,
    pub(crate) preload: bool,
    pub(crate) seed: u64,
    pub(crate) verify_every: u32,
    pub(crate) timeout: Duration,
    pub(crate) server_pid: Option<u32>,
}

/// What the threads brought home, and what was seen around them.
pub(crate) struct Measured {
    pub(crate) plan: Plan,
    pub(crate) services: Vec<Service>,
    pub(crate) environment: Environment,
    pub(crate) commit: Option<String>,
    pub(crate) started_unix_ms: u64,
    pub(crate) row: Duration,
    pub(crate) threads: Vec<ThreadResult>,
    pub(crate) server: Option<ServerProcesses>,
    /// The server's CPU time over the measured phase.
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) server_resident: u64,
    pub(crate) server_latency: Option<String>,
    pub(crate) interrupted: bool,
}

/// What one thread brought home.
pub(crate) struct ThreadResult {
    pub(crate) core: Option<usize>,
    pub(crate) phase: Option<PhaseResult>,
    pub(crate) failures: Failures,
}

/// Preloading keeps this many writes under way on each connection.
const PRELOAD_DEPTH: usize = 64;
/// A run has about this many rows over time.
const ROWS: u32 = 200;
const ROW_MIN: Duration = Duration::from_millis(50);
/// Rows of a run that ends by count, one second each; what comes later counts to the last.
const ROWS_UNTIMED: usize = 3600;

/// Runs `plan` to its end, or to the moment `stop` is raised.
pub(crate) fn run(plan: Plan, stop: &Arc<AtomicBool>, progress: &Progress) -> Result<RunResult, BenchError> {
    let workload = Arc::new(Workload::resolve(&plan.spec, plan.seed)?);
    check(&plan, &workload)?;
    let services = plan.targets.iter().map(Service::discover).collect::<Result<Vec<_>, _>>()?;
    if services.len() > 1 && services.iter().any(|service| service.endpoints.len() > 1) {
        return Err(BenchError::usage(
            "a target of several nodes or cores cannot be mixed with other targets",
        ));
    }
    // A native node gathers what its other cores own; a cluster refuses keys of several nodes.
    let clustered = plan.targets[0].protocol == Protocol::RespCluster;
    if clustered && workload.mix.ops().any(|op| op == Op::MultiGet) {
        return Err(BenchError::usage("a cluster has no mget over the keys of several nodes"));
    }
    let measured = match plan.targets[0].protocol {
        Protocol::Native => drive::<NativeCodec>(plan, &workload, services, stop, progress),
        Protocol::Resp | Protocol::RespCluster => {
            drive::<RespCodec>(plan, &workload, services, stop, progress)
        }
        Protocol::MemcacheText => drive::<TextCodec>(plan, &workload, services, stop, progress),
        Protocol::MemcacheMeta => drive::<MetaCodec>(plan, &workload, services, stop, progress),
    }?;
    Ok(summary::result(measured))
}

fn check(plan: &Plan, workload: &Workload) -> Result<(), BenchError> {
    let protocol = plan.targets[0].protocol;
    if plan.targets.iter().any(|target| target.protocol != protocol) {
        return Err(BenchError::usage("all targets of one run must be of the same kind"));
    }
    if plan.threads == 0 || plan.connections < plan.threads {
        return Err(BenchError::usage(format!(
            "{} connections for {} threads: every thread needs one",
            plan.connections, plan.threads
        )));
    }
    if plan.depth == 0 || plan.depth > 1 << 16 || plan.connections > 16_384 {
        return Err(BenchError::usage("use 1 to 65536 requests a connection and at most 16384 connections"));
    }
    let resp = matches!(protocol, Protocol::Resp | Protocol::RespCluster);
    if resp && workload.mix.ops().any(|op| op == Op::Cas) {
        return Err(BenchError::usage("RESP has no compare-and-set: use pinnace:// or memcache:// for cas"));
    }
    if let Some(missing) = plan.cores.iter().find(|core| !available_cores().contains(core)) {
        return Err(BenchError::usage(format!("core {missing} is not available to this process")));
    }
    Ok(())
}

fn available_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// What all threads of a run share.
struct Stage {
    clock: Clock,
    barrier: Barrier,
    stop: Arc<AtomicBool>,
    /// The phase under way, for the display.
    phase: AtomicU32,
    server: Option<ServerProcesses>,
    server_cpu: Mutex<Option<Duration>>,
    errors: Mutex<Vec<BenchError>>,
}

fn drive<C: Codec + Default + 'static>(
    plan: Plan,
    workload: &Arc<Workload>,
    services: Vec<Service>,
    stop: &Arc<AtomicBool>,
    progress: &Progress,
) -> Result<Measured, BenchError> {
    let environment = Environment::read();
    let started_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let server = match plan.server_pid {
        Some(pid) => ServerProcesses::of(vec![pid]),
        None => {
            let addresses: Vec<_> = services.iter().flat_map(Service::addresses).collect();
            ServerProcesses::listening_at(&addresses)
        }
    };
    let stage = Arc::new(Stage {
        clock: Clock::start(),
        barrier: Barrier::new(plan.threads),
        stop: Arc::clone(stop),
        phase: AtomicU32::new(0),
        server: server.clone(),
        server_cpu: Mutex::new(None),
        errors: Mutex::new(Vec::new()),
    });
    let row = row_length(plan.duration);
    let lives: Vec<Arc<Live>> = (0..plan.threads).map(|_| Arc::default()).collect();
    let mut handles = Vec::new();
    for (thread, live) in lives.iter().enumerate() {
        let setup = setup::<C>(&plan, workload, &services, thread, &stage, live)?;
        let phases = phases(&plan, workload, thread, row);
        let core = plan.cores.get(thread % plan.cores.len().max(1)).copied();
        let stage = Arc::clone(&stage);
        let handle = thread::Builder::new()
            .name(format!("generator-{thread}"))
            .spawn(move || work(setup, &phases, core, &stage))
            .map_err(|error| BenchError::system("starting a thread", error))?;
        handles.push(handle);
    }
    progress.watch(&lives, &stage.phase, &plan, &handles);
    let threads: Vec<ThreadResult> =
        handles.into_iter().map(|handle| handle.join().expect("a panic ends the process")).collect();
    let mut errors =
        stage.errors.lock().map_or_else(|_| Vec::new(), |mut errors| std::mem::take(&mut *errors));
    if let Some(error) = errors.pop() {
        return Err(error);
    }
    let server_cpu = stage.server_cpu.lock().map_or(None, |cpu| *cpu);
    Ok(Measured {
        server_resident: server.as_ref().map_or(0, ServerProcesses::resident_bytes),
        server_latency: services[0].reported_latency(),
        interrupted: stop.load(Ordering::Relaxed),
        commit: environment::commit(),
        plan,
        services,
        environment,
        started_unix_ms,
        row,
        threads,
        server,
        server_cpu,
    })
}

fn row_length(duration: Option<Duration>) -> Duration {
    duration.map_or(Duration::from_secs(1), |duration| (duration / ROWS).max(ROW_MIN))
}

/// The share of `total` that thread `thread` of `threads` has: shares differ by at most one.
fn share(total: u64, thread: usize, threads: usize) -> u64 {
    let (thread, threads) = (thread as u64, threads as u64);
    total / threads + u64::from(thread < total % threads)
}

fn setup<C: Codec + Default>(
    plan: &Plan,
    workload: &Arc<Workload>,
    services: &[Service],
    thread: usize,
    stage: &Stage,
    live: &Arc<Live>,
) -> Result<WorkerSetup<C>, BenchError> {
    let before: u64 = (0..thread).map(|t| share(plan.connections as u64, t, plan.threads)).sum();
    let clients = share(plan.connections as u64, thread, plan.threads);
    let mut streams = Vec::new();
    for client in before..before + clients {
        let service = &services[client as usize % services.len()];
        for endpoint in &service.endpoints {
            streams.push((service.open(endpoint)?, C::default()));
        }
    }
    let topology: Topology = services[0].topology.clone();
    Ok(WorkerSetup {
        thread,
        threads: plan.threads,
        workload: Arc::clone(workload),
        topology,
        streams,
        first_client: before,
        depth: if plan.preload { plan.depth.max(PRELOAD_DEPTH) } else { plan.depth },
        clock: stage.clock,
        seed: plan.seed,
        verify_every: plan.verify_every,
        timeout: plan.timeout,
        stop: Arc::clone(&stage.stop),
        live: Arc::clone(live),
    })
}

fn phases(plan: &Plan, workload: &Workload, thread: usize, row: Duration) -> Vec<Phase> {
    let load = match plan.open {
        None => Load::Closed { depth: plan.depth },
        Some((rate, spacing)) => Load::Open { rate: rate / plan.threads as f64, spacing, window: plan.depth },
    };
    let rows = plan.duration.map_or(ROWS_UNTIMED, |d| d.as_nanos().div_ceil(row.as_nanos()) as usize);
    let base = Phase { kind: PhaseKind::WarmUp, load, duration: None, quota: None, row, rows };
    let mut phases = Vec::new();
    if plan.preload {
        let first: u64 = (0..thread).map(|t| share(workload.keys, t, plan.threads)).sum();
        let end = first + share(workload.keys, thread, plan.threads);
        let kind = PhaseKind::Preload { first, end };
        phases.push(Phase { kind, load: Load::Closed { depth: PRELOAD_DEPTH }, rows: ROWS_UNTIMED, ..base });
    }
    if !plan.warm_up.is_zero() {
        phases.push(Phase { duration: Some(plan.warm_up), ..base });
    }
    phases.push(Phase {
        kind: PhaseKind::Measure,
        duration: plan.duration,
        quota: plan.requests.map(|requests| share(requests, thread, plan.threads)),
        ..base
    });
    phases
}

/// The body of a generator thread. Every thread meets the others at every barrier, whatever fails.
fn work<C: Codec>(
    setup: WorkerSetup<C>,
    phases: &[Phase],
    core: Option<usize>,
    stage: &Stage,
) -> ThreadResult {
    if let Some(core) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
    }
    let leads = setup.thread == 0;
    let fail = |what: &str, error| {
        if let Ok(mut errors) = stage.errors.lock() {
            errors.push(BenchError::system(what, error));
        }
        stage.stop.store(true, Ordering::Relaxed);
    };
    let mut worker = Worker::new(setup)
        .map_err(|error| fail("setting up io_uring (kernel 6.1 or newer, not blocked, is needed)", error))
        .ok();
    let mut last = None;
    for (index, phase) in phases.iter().enumerate() {
        let measured = phase.kind == PhaseKind::Measure;
        if leads {
            stage.phase.store(index as u32, Ordering::Relaxed);
        }
        let cpu_before = (leads && measured).then(|| stage.server.as_ref()?.cpu()).flatten();
        stage.barrier.wait();
        if let Some(running) = &mut worker {
            match running.run(phase) {
                Ok(result) => last = measured.then_some(result),
                Err(error) => {
                    fail("io_uring", error);
                    worker = None;
                }
            }
        }
        stage.barrier.wait();
        if let Some(before) = cpu_before {
            let after = stage.server.as_ref().and_then(ServerProcesses::cpu);
            if let Ok(mut cpu) = stage.server_cpu.lock() {
                *cpu = after.map(|after| after.saturating_sub(before));
            }
        }
    }
    let failures = worker.as_ref().map(|worker| worker.failures().clone()).unwrap_or_default();
    ThreadResult { core, phase: last, failures }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up_and_are_even() {
        for (total, threads) in [(0, 1), (7, 3), (1_000_000, 7), (2, 4)] {
            let shares: Vec<u64> = (0..threads).map(|thread| share(total, thread, threads)).collect();
            assert_eq!(shares.iter().sum::<u64>(), total);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
