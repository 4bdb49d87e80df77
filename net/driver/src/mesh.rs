//! Mailboxes between the cores of a node: one bounded single-producer ring for each ordered pair, and
//! a gate per core that says whether it sleeps.
//!
//! Sending costs no system call and touches no line that a third core writes. A sleeping core is
//! woken through its eventfd, once per turn of the sender, however many messages there are.
//!
//! **No lost wake-up.** The sender pushes, fences, then reads the gate's state; the sleeper writes the
//! state, fences, then looks into its mailboxes a last time. Both fences are `SeqCst`, so at least one of
//! the two sees what the other wrote (the store-buffering pattern): either the sender sees the sleeper
//! and writes an eventfd, or the sleeper sees the message and does not sleep. An eventfd is a counter,
//! so a signal that arrives before the sleeper waits for it is not lost either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

use pinnace_types::CoreId;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::error::DriverError;
use crate::eventfd::EventFd;

/// The core runs and will look at its mailboxes.
const AWAKE: u8 = 0;
/// The core sleeps in its ring, where `nap_fd` is polled.
const NAPPING: u8 = 1;
/// The core sleeps in its executor, which waits for `park_fd`.
const PARKED: u8 = 2;

/// What others need to know of a core to wake it. Two cache lines of its own: the neighbour line is
/// prefetched with it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Gate {
    state: AtomicU8,
    /// Somebody outside the mesh wants a turn.
    turn_wanted: AtomicBool,
    pub(crate) nap_fd: EventFd,
    /// Also what completions signal while the core is parked. Not the same as `nap_fd`: a poll in the ring
    /// that completes because of an eventfd may not signal another one at once, the kernel defers that.
    pub(crate) park_fd: EventFd,
}

impl Gate {
    fn new() -> Result<Self, DriverError> {
        let eventfd = || EventFd::new().map_err(DriverError::system("eventfd"));
        Ok(Self {
            state: AtomicU8::new(AWAKE),
            turn_wanted: AtomicBool::new(false),
            nap_fd: eventfd()?,
            park_fd: eventfd()?,
        })
    }

    /// Wakes the core if it sleeps; true if that took a system call. The caller has published what
    /// the core is to see.
    fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == AWAKE {
            return false;
        }
        // Only the first of several wakers pays for the system call.
        match self.state.swap(AWAKE, Ordering::Relaxed) {
            NAPPING => self.nap_fd.signal(),
            PARKED => self.park_fd.signal(),
            _ => return false,
        }
        true
    }

    /// Announces a sleep in the ring. The core must look for work after this and before it sleeps.
    pub(crate) fn announce_nap(&self) {
        self.state.store(NAPPING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Announces a sleep in the executor, likewise.
    pub(crate) fn announce_park(&self) {
        self.state.store(PARKED, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The core is awake again.
    pub(crate) fn announce_awake(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Whether a turn was asked for since the last call.
    #[inline]
    pub(crate) fn take_turn_wanted(&self) -> bool {
        // Acquire: whoever asks has written something that the turn is to see.
        self.turn_wanted.load(Ordering::Relaxed) && self.turn_wanted.swap(false, Ordering::Acquire)
    }

    fn is_turn_wanted(&self) -> bool {
        self.turn_wanted.load(Ordering::Relaxed)
    }
}

/// Wakes a core from any thread: its service gets a turn.
#[derive(Clone, Debug)]
pub struct Waker {
    gates: Arc<[Gate]>,
    core: CoreId,
}

impl Waker {
    /// Gives the core a turn soon, whether it sleeps or not.
    pub fn wake(&self) {
        let gate = &self.gates[self.core.index()];
        gate.turn_wanted.store(true, Ordering::Release);
        gate.wake();
    }

    /// The core that this wakes.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }
}

/// One core's end of all its mailboxes.
#[derive(Debug)]
pub struct MeshEnd<M> {
    core: CoreId,
    /// By destination; `None` at the own place.
    outboxes: Vec<Option<Producer<M>>>,
    /// By source; `None` at the own place.
    inboxes: Vec<Option<Consumer<M>>>,
    /// Destinations that were sent something since the last [`MeshEnd::wake_receivers`].
    to_wake: Vec<CoreId>,
    gates: Arc<[Gate]>,
}

/// The mailboxes between `core_count` cores; each holds `capacity` messages. Entry `i` is for core `i`.
///
/// # Errors
/// If the system has no eventfd left.
pub fn mesh<M: Send>(core_count: u16, capacity: usize) -> Result<Vec<MeshEnd<M>>, DriverError> {
    let gates: Arc<[Gate]> = (0..core_count).map(|_| Gate::new()).collect::<Result<_, _>>()?;
    let mut ends: Vec<MeshEnd<M>> = (0..core_count)
        .map(|core| MeshEnd {
            core: CoreId(core),
            outboxes: (0..core_count).map(|_| None).collect(),
            inboxes: (0..core_count).map(|_| None).collect(),
            to_wake: Vec::with_capacity(usize::from(core_count)),
            gates: Arc::clone(&gates),
        })
        .collect();
    for from in 0..usize::from(core_count) {
        for to in (0..usize::from(core_count)).filter(|&to| to != from) {
            let (producer, consumer) = RingBuffer::new(capacity);
            ends[from].outboxes[to] = Some(producer);
            ends[to].inboxes[from] = Some(consumer);
        }
    }
    Ok(ends)
}

impl<M> MeshEnd<M> {
    /// The core that this end belongs to.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// The number of cores in the mesh.
    #[must_use]
    pub fn core_count(&self) -> usize {
        self.outboxes.len()
    }

    /// A handle that wakes this core.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { gates: Arc::clone(&self.gates), core: self.core }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gates[self.core.index()]
    }

    /// Puts a message into the mailbox of `to`; it is woken by the next [`MeshEnd::wake_receivers`].
    ///
    /// # Panics
    /// If `to` is this core or no core: a core that mails itself would wait for itself.
    pub(crate) fn send(&mut self, to: CoreId, mail: M) -> Result<(), M> {
        let outbox = self.outboxes[to.index()].as_mut().expect("a core sends mail to others only");
        if let Err(PushError::Full(mail)) = outbox.push(mail) {
            // A full mailbox of a sleeping core: it must be woken, or it would stay full.
            self.mark(to);
            return Err(mail);
        }
        self.mark(to);
        Ok(())
    }

    fn mark(&mut self, to: CoreId) {
        if !self.to_wake.contains(&to) {
            self.to_wake.push(to);
        }
    }

    /// Whether anybody was sent something since the last [`MeshEnd::wake_receivers`].
    #[inline]
    pub(crate) fn has_to_wake(&self) -> bool {
        !self.to_wake.is_empty()
    }

    /// Wakes those that were sent something and sleep; returns how many system calls that took.
    pub(crate) fn wake_receivers(&mut self) -> u64 {
        let gates = &self.gates;
        self.to_wake.drain(..).map(|to| u64::from(gates[to.index()].wake())).sum()
    }

    /// The next message of core `from`.
    #[inline]
    pub(crate) fn receive(&mut self, from: usize) -> Option<M> {
        self.inboxes[from].as_mut()?.pop().ok()
    }

    /// Whether there is nothing to do for this core: no mail, no wanted turn.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.gate().is_turn_wanted() && self.inboxes.iter().flatten().all(Consumer::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::mesh;
    use pinnace_types::CoreId;

    #[test]
    fn mail_arrives_in_order_and_a_full_box_gives_it_back() {
        let mut ends = mesh::<u32>(3, 2).unwrap();
        assert_eq!(ends[0].send(CoreId(2), 1), Ok(()));
        assert_eq!(ends[0].send(CoreId(2), 2), Ok(()));
        assert_eq!(ends[0].send(CoreId(2), 3), Err(3));
        assert!(!ends[2].is_quiet() && ends[1].is_quiet());
        assert_eq!([ends[2].receive(0), ends[2].receive(0), ends[2].receive(0)], [Some(1), Some(2), None]);
        assert_eq!(ends[2].receive(1), None);
    }

    #[test]
    fn only_a_sleeping_core_costs_a_system_call_and_only_once() {
        let mut ends = mesh::<u32>(2, 8).unwrap();
        ends[0].send(CoreId(1), 1).unwrap();
        assert_eq!(ends[0].wake_receivers(), 0);
        ends[1].gate().announce_park();
        for mail in 0..3 {
            ends[0].send(CoreId(1), mail).unwrap();
        }
        assert_eq!(ends[0].wake_receivers(), 1);
        assert!(ends[1].gate().park_fd.clear());
        ends[1].gate().announce_nap();
        ends[0].send(CoreId(1), 4).unwrap();
        assert_eq!(ends[0].wake_receivers(), 1);
        assert!(ends[1].gate().nap_fd.clear() && !ends[1].gate().park_fd.clear());
        ends[0].send(CoreId(1), 9).unwrap();
        assert_eq!(ends[0].wake_receivers(), 0);
    }

    #[test]
    fn a_waker_asks_for_a_turn_once() {
        let ends = mesh::<u32>(1, 8).unwrap();
        ends[0].waker().wake();
        assert!(!ends[0].is_quiet());
        assert!(ends[0].gate().take_turn_wanted() && !ends[0].gate().take_turn_wanted());
    }
}
