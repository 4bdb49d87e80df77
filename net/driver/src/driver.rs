//! The loop of one core: collect, serve, flush, enter; when idle spin, then nap, then park.

use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use pinnace_protocol::Slices;
use pinnace_protocol::wire::{Event, Service, TurnResult, TurnTime};

use crate::buffers::BufferPool;
use crate::clock::Clock;
use crate::config::{DriverConfig, DriverSettings, OtherWork};
use crate::error::DriverError;
use crate::gather::{Gather, Seen};
use crate::mesh::Waker;
use crate::park;
use crate::sockets::Sockets;
use crate::spin::{Idle, Spin};
use crate::stats::{DriverStats, add};
use crate::uring::Uring;

/// Completions handled in one turn: bounds the time until replies go out and other tasks run.
const COMPLETIONS_MAX: usize = 1024;
/// Pending when it is awaited, due when the executor has looked once for finished I/O.
const DUE_SOON: Duration = Duration::from_micros(1);
/// Messages taken from one mailbox in one turn.
const MAILS_MAX: usize = 256;

/// The socket ring of the core that made it.
#[derive(Debug)]
pub struct Driver<P: Slices, M: Send> {
    // First, so that the ring is closed before its buffers are unmapped.
    sockets: Sockets<P, M>,
    pool: BufferPool,
    clock: Clock,
    spin: Spin,
    gather: Gather,
    /// When the loop last let other tasks run.
    yielded_at_ns: u64,
    /// Whether the core napped since there was last work.
    has_napped: bool,
    /// When the turn before this one began, if it was busy.
    busy_since_ns: Option<u64>,
}

/// What the loop knows after a turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    now_ns: u64,
    /// Something happened, or is left to be done at once.
    was_busy: bool,
    /// When a timer of the sockets is due.
    timer_ns: Option<u64>,
}

/// When the service wants its next turn even if nothing happens.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Now,
    At(u64),
    Never,
    Stop,
}

impl Wish {
    fn new(result: TurnResult, now_ns: u64) -> Self {
        match (result.stop, result.busy, result.wake_after_ms) {
            (true, _, _) => Self::Stop,
            (_, true, _) => Self::Now,
            (_, _, Some(ms)) => Self::At(now_ns.saturating_add(u64::from(ms) * 1_000_000)),
            (_, _, None) => Self::Never,
        }
    }

    fn is_due(self, now_ns: u64) -> bool {
        match self {
            Self::Now => true,
            Self::At(at_ns) => at_ns <= now_ns,
            Self::Never | Self::Stop => false,
        }
    }
}

/// An empty vector for events of another lifetime in the memory of `events` (the standard library
/// collects in place).
fn recycle<'a>(mut events: Vec<Event<'_>>) -> Vec<Event<'a>> {
    events.clear();
    events.into_iter().map(|_| unreachable!("the vector was cleared")).collect()
}

impl<P: Slices, M: Send> Driver<P, M> {
    /// Makes the ring. To be called inside the glommio executor that will run it: the ring belongs to
    /// the calling thread.
    ///
    /// # Errors
    /// What [`crate::check_uring`] finds, or a refused registration.
    pub fn new(config: DriverConfig<M>) -> Result<Self, DriverError> {
        let tuning = config.tuning.clone();
        let mut uring = Uring::new(tuning.ring_entries, tuning.slots)?;
        let pool = BufferPool::new(&mut uring, tuning.buffer_count, tuning.buffer_bytes)?;
        let sockets = Sockets::new(uring, config);
        Ok(Self {
            sockets,
            pool,
            clock: Clock::new(),
            spin: Spin::default(),
            gather: Gather::default(),
            yielded_at_ns: 0,
            has_napped: false,
            busy_since_ns: None,
        })
    }

    /// The driver's counters, for the service.
    #[must_use]
    pub fn stats(&self) -> Rc<DriverStats> {
        Rc::clone(&self.sockets.stats)
    }

    /// What may be changed while the driver runs, for the service.
    #[must_use]
    pub fn settings(&self) -> Rc<DriverSettings> {
        Rc::clone(&self.sockets.settings)
    }

    /// Asks for turns of this driver, from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.sockets.mesh.waker()
    }

    /// Accepts and serves until the service wants to stop; then sends what can be sent within
    /// `drain_ms`, closes everything and gives the service back.
    ///
    /// # Errors
    /// If the ring fails, which it does not do on a working kernel.
    pub async fn run<S>(mut self, mut service: S) -> Result<S, DriverError>
    where
        S: Service<Pinned = P, Mail = M>,
    {
        let park_fd = self.sockets.mesh.gate().park_fd.as_raw_fd();
        self.sockets.uring.register_eventfd(park_fd)?;
        self.sockets.arm_wake();
        self.sockets.start_accepting();
        let mut store = Vec::new();
        // The service has its first turn at once: it may have timers.
        let mut wish = Wish::Now;
        loop {
            let turn = self.turn(&mut service, &mut wish, &mut store)?;
            let wanted_ns = match wish {
                Wish::Stop => break,
                Wish::Now => Some(turn.now_ns),
                Wish::At(at_ns) => Some(at_ns),
                Wish::Never => None,
            };
            let is_urged = matches!(wish, Wish::Now) || self.sockets.has_notices();
            let is_busy = turn.was_busy || is_urged;
            let next_ns = [turn.timer_ns, wanted_ns].into_iter().flatten().min();
            if !is_urged && self.gather(turn.now_ns, next_ns)? {
                self.give_way(turn.now_ns).await?;
                continue;
            }
            self.rest(turn.now_ns, is_busy, next_ns).await?;
        }
        self.drain().await?;
        Ok(service)
    }

    /// One turn: collect completions and mail, serve, queue replies, return buffers, enter.
    #[inline]
    fn turn<S>(
        &mut self,
        service: &mut S,
        wish: &mut Wish,
        store: &mut Vec<Event<'static>>,
    ) -> Result<Turn, DriverError>
    where
        S: Service<Pinned = P, Mail = M>,
    {
        let time = self.begin_turn();
        let mut events = recycle(std::mem::take(store));
        let completions = self.sockets.collect(COMPLETIONS_MAX, &self.pool, &mut events);
        let timer_ns = self.sockets.run_timers();
        let mails =
            self.sockets.take_mail(MAILS_MAX, |wire, from, mail| service.on_mail(time, from, mail, wire));
        let is_wanted = self.sockets.mesh.gate().take_turn_wanted() | wish.is_due(time.monotonic_ns);
        let is_served = !events.is_empty() || mails > 0 || is_wanted;
        if is_served {
            let result = service.on_turn(time, &events, &mut self.sockets);
            *wish = Wish::new(result, time.monotonic_ns);
        }
        *store = recycle(events);
        self.sockets.finish_turn(|conn| service.owes_reply(conn));
        self.end_turn()?;
        let was_busy = is_served || completions > 0 || self.sockets.has_notices();
        self.count_turn(was_busy, time.monotonic_ns);
        Ok(Turn { now_ns: time.monotonic_ns, was_busy, timer_ns })
    }

    fn begin_turn(&mut self) -> TurnTime {
        let time = self.clock.now();
        self.sockets.now_ns = time.monotonic_ns;
        // Before anything of this turn is counted.
        self.look_back(time.monotonic_ns);
        time
    }

    /// Gives the buffers back, arms the receives that waited for them, and enters the kernel once if
    /// there is a reason to.
    #[inline]
    fn end_turn(&mut self) -> Result<(), DriverError> {
        self.sockets.restrain_greedy(&self.pool);
        self.pool.give_back(&mut self.sockets.used_buffers);
        self.sockets.rearm_receives();
        if self.sockets.uring.wants_enter() {
            add(&self.sockets.stats.enters, 1);
            self.sockets.uring.enter()?;
        }
        self.sockets.take_failure()
    }

    /// Time is told once per turn, so the time of a busy turn is that until the next turn begins.
    #[inline]
    fn count_turn(&mut self, was_busy: bool, now_ns: u64) {
        if let Some(since_ns) = self.busy_since_ns.take() {
            add(&self.sockets.stats.busy_ns, now_ns - since_ns);
        }
        if was_busy {
            add(&self.sockets.stats.turns, 1);
            self.busy_since_ns = Some(now_ns);
        }
    }

    #[inline]
    fn look_back(&mut self, now_ns: u64) {
        let sockets = &mut self.sockets;
        let max_us = sockets.settings.gather_us.get();
        self.gather.on_turn(now_ns, max_us, || {
            let stats = &sockets.stats;
            let (receives, busy_ns, mails) =
                (stats.receives.get(), stats.busy_ns.get(), stats.mails_in.get());
            (Seen { receives, busy_ns, mails }, std::mem::take(&mut sockets.heard))
        });
    }

    /// Under a crowd of clients, sleeps until several requests are there. False if this is no time to:
    /// the core then rests as it does otherwise.
    #[inline]
    fn gather(&mut self, now_ns: u64, next_ns: Option<u64>) -> Result<bool, DriverError> {
        let Some(wanted) = self.gather.wanted() else { return Ok(false) };
        if self.other_work() != OtherWork::None {
            return Ok(false);
        }
        // The small sends of this turn are complete: what else there is are requests, all but few.
        let there = self.sockets.uring.completions();
        let missing = (wanted + self.sockets.turn_sends).saturating_sub(there);
        if missing == 0 {
            self.on_gathered();
            return Ok(true);
        }
        let settings = &self.sockets.settings;
        let max_us = settings.gather_us.get().min(settings.nap_us.get());
        let timeout_ns = next_ns.map_or(u64::MAX, |at_ns| at_ns.saturating_sub(now_ns));
        let timeout_ns = timeout_ns.min(u64::from(max_us) * 1000);
        if timeout_ns == 0 {
            return Ok(false);
        }
        let from_ns = self.clock.monotonic_ns();
        if let Some(since_ns) = self.busy_since_ns.take() {
            add(&self.sockets.stats.busy_ns, from_ns - since_ns);
        }
        add(&self.sockets.stats.gathers, 1);
        self.sleep_in_ring(there + missing, timeout_ns)?;
        if self.sockets.uring.completions() == 0 {
            self.gather.give_up();
        }
        self.on_gathered();
        Ok(true)
    }

    /// The core has no part of an idle time behind it.
    fn on_gathered(&mut self) {
        self.spin.reset();
        self.has_napped = false;
    }

    /// Between turns: lets other tasks run when it is time; when idle, spins, then naps, then parks.
    #[inline]
    async fn rest(&mut self, now_ns: u64, is_busy: bool, next_ns: Option<u64>) -> Result<(), DriverError> {
        let spin_ns = self.spin_ns();
        if is_busy {
            if self.spin.on_work(spin_ns) {
                add(&self.sockets.stats.spins_hit, 1);
            }
            self.has_napped = false;
            return self.give_way(now_ns).await;
        }
        match self.spin.on_idle(now_ns, spin_ns) {
            Idle::Begin => add(&self.sockets.stats.spins, 1),
            Idle::Look => std::hint::spin_loop(),
            Idle::Sleep => self.sleep(now_ns, next_ns).await?,
        }
        Ok(())
    }

    fn other_work(&self) -> OtherWork {
        self.sockets.settings.other_work.get()
    }

    /// How long to look for work at most before a sleep. Not at all while replies wait for a disk: the kernel ends a write or
    /// a sync in threads of its own, some of them bound to this CPU, and they would wait for the core to stop looking.
    fn spin_ns(&self) -> u64 {
        match self.other_work() {
            OtherWork::Urgent => 0,
            OtherWork::None | OtherWork::Patient => u64::from(self.sockets.settings.spin_us.get()) * 1000,
        }
    }

    /// Lets other tasks of the executor run if they did not for a while; that costs about as much as a
    /// request. A timer, not a plain yield: as long as a task queue is ready,
    /// glommio looks for finished I/O and timers only when its preemption timer tells it to, every
    /// 100 ms unless a queue asks for less.
    #[inline]
    async fn give_way(&mut self, now_ns: u64) -> Result<(), DriverError> {
        let tuning = &self.sockets.tuning;
        let is_urgent = self.other_work() == OtherWork::Urgent;
        let yield_ns = u64::from(if is_urgent { tuning.urgent_yield_us } else { tuning.yield_us }) * 1000;
        if now_ns.saturating_sub(self.yielded_at_ns) >= yield_ns {
            self.yielded_at_ns = now_ns;
            glommio::timer::sleep(DUE_SOON).await;
        }
        Ok(())
    }

    /// Sleeps until a completion, mail, a waker or the next timer, unless there is work already: first
    /// in the ring, and if that brought nothing, parked.
    async fn sleep(&mut self, now_ns: u64, next_ns: Option<u64>) -> Result<(), DriverError> {
        let timeout_ns = next_ns.map(|at_ns| at_ns.saturating_sub(now_ns));
        if timeout_ns == Some(0) {
            return Ok(());
        }
        let nap_ns = u64::from(self.sockets.settings.nap_us.get()) * 1000;
        if nap_ns > 0 && !self.has_napped && self.other_work() == OtherWork::None {
            self.has_napped = true;
            self.give_way(now_ns).await?;
            self.nap(timeout_ns.map_or(nap_ns, |timeout_ns| timeout_ns.min(nap_ns)))
        } else {
            self.park(timeout_ns).await
        }?;
        let spin_ns = self.spin_ns();
        self.spin.on_slept(now_ns, self.clock.monotonic_ns(), spin_ns);
        Ok(())
    }

    /// Sleeps in the ring: cheap, but other tasks of the executor have to wait.
    fn nap(&mut self, timeout_ns: u64) -> Result<(), DriverError> {
        add(&self.sockets.stats.naps, 1);
        self.sleep_in_ring(1, timeout_ns)
    }

    fn sleep_in_ring(&mut self, wanted: usize, timeout_ns: u64) -> Result<(), DriverError> {
        // Announced before the last look into the mailboxes; whoever sends looks after having sent.
        self.sockets.mesh.gate().announce_nap();
        let slept = if self.sockets.mesh.is_quiet() {
            self.sockets.uring.enter_and_wait(wanted, timeout_ns)
        } else {
            Ok(())
        };
        self.sockets.mesh.gate().announce_awake();
        slept
    }

    /// Sleeps in the executor: other tasks run, and if there are none, the thread sleeps.
    async fn park(&mut self, timeout_ns: Option<u64>) -> Result<(), DriverError> {
        // Both are announced before the last look; whoever makes work looks after having made it.
        self.sockets.uring.arm_eventfd();
        self.sockets.mesh.gate().announce_park();
        if self.sockets.uring.is_quiet() && self.sockets.mesh.is_quiet() {
            add(&self.sockets.stats.parks, 1);
            let timeout = timeout_ns.map(Duration::from_nanos);
            park::wait_readable(&self.sockets.mesh.gate().park_fd, timeout).await?;
            self.yielded_at_ns = self.clock.monotonic_ns();
        }
        self.sockets.mesh.gate().announce_awake();
        self.sockets.uring.disarm_eventfd();
        self.sockets.mesh.gate().park_fd.clear();
        Ok(())
    }

    /// Sends what can be sent in time and closes everything.
    async fn drain(&mut self) -> Result<(), DriverError> {
        let time = self.begin_turn();
        self.sockets.begin_stop();
        let patience_ns = u64::from(self.sockets.tuning.drain_ms) * 1_000_000;
        let close_at_ns = time.monotonic_ns.saturating_add(patience_ns);
        let mut is_forced = false;
        while !self.sockets.is_over() {
            let now_ns = self.begin_turn().monotonic_ns;
            if now_ns >= close_at_ns && !is_forced {
                is_forced = true;
                self.sockets.close_all();
            }
            let mut events = Vec::new();
            let completions = self.sockets.collect(COMPLETIONS_MAX, &self.pool, &mut events);
            drop(events);
            let timer_ns = self.sockets.run_timers();
            self.sockets.finish_turn(|_| false);
            self.end_turn()?;
            let is_busy = completions > 0 || self.sockets.has_notices() || is_forced;
            let next_ns = timer_ns.map_or(close_at_ns, |timer_ns| timer_ns.min(close_at_ns));
            self.rest(now_ns, is_busy, Some(next_ns)).await?;
        }
        Ok(())
    }
}

impl<P: Slices, M: Send> Drop for Driver<P, M> {
    /// A loop that was dropped in the middle of its work has operations in flight.
    fn drop(&mut self) {
        if !self.sockets.abandon() {
            self.pool.leak();
        }
    }
}
