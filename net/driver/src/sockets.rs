//! All that a core has open: the ring, the connections, the listeners, the mailboxes. Implements
//! [`Wire`] for the service and turns completions into events.
//!
//! Split by what happens to a connection: `accept.rs` makes it, `receive.rs` reads it, `transmit.rs`
//! writes it, `close.rs` ends it or moves it to another core.
//!
//! Invariants: every connection that the service was told of is reported closed or detached exactly
//! once. A slot is freed only when no receive and no send of it is in flight, so memory that the
//! kernel refers to is never freed or reused. The service's calls never act on the kernel at once;
//! they queue submissions that the next enter takes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{cqueue, opcode, squeue, types};
use pinnace_protocol::wire::{DetachedSocket, Event, Wire};
use pinnace_protocol::{OutBuf, Slices};
use pinnace_types::{ConnId, CoreId};

use crate::accept::Accepting;
use crate::budget::ConnectionBudget;
use crate::buffers::BufferPool;
use crate::config::{DriverConfig, DriverSettings, DriverTuning};
use crate::error::DriverError;
use crate::mesh::MeshEnd;
use crate::outgoing::Spares;
use crate::slab::{Phase, Slab, pause};
use crate::stats::{DriverStats, add};
use crate::token::{self, Op};
use crate::uring::Uring;

/// Something to tell the service that carries no received bytes.
#[derive(Debug)]
pub(crate) enum Notice {
    Accepted { conn: ConnId, peer: SocketAddr, local: SocketAddr },
    Drained(ConnId),
    Closed(ConnId),
    Detached(ConnId, DetachedSocket),
}

/// One core's sockets.
#[derive(Debug)]
pub(crate) struct Sockets<P, M> {
    pub(crate) uring: Uring,
    pub(crate) slab: Slab<P>,
    pub(crate) spares: Spares,
    pub(crate) mesh: MeshEnd<M>,
    pub(crate) accepting: Vec<Accepting>,
    pub(crate) budget: Arc<ConnectionBudget>,
    pub(crate) stats: Rc<DriverStats>,
    pub(crate) settings: Rc<DriverSettings>,
    pub(crate) tuning: DriverTuning,
    /// Told to the service before anything that happens later.
    pub(crate) notices: VecDeque<Notice>,
    /// Connections whose reply buffer was touched in this turn.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections over the output limit after the last flush, looked at again after the sends ran.
    pub(crate) over_limit: Vec<ConnId>,
    /// Receives to arm once this turn's buffers are back.
    pub(crate) rearm: Vec<ConnId>,
    /// Connections that took many buffers in this turn.
    pub(crate) greedy: Vec<ConnId>,
    /// Buffers that completions of this turn named.
    pub(crate) used_buffers: Vec<u16>,
    /// Whether the buffers ran out for somebody in this turn.
    pub(crate) ran_dry: bool,
    /// Connections that wait to be quiet before they leave.
    pub(crate) detaching: Vec<ConnId>,
    /// Connections whose client has finished sending but is still owed replies by the service.
    pub(crate) half_closed: Vec<ConnId>,
    /// Connections that must be gone by a time, in order of time.
    pub(crate) deadlines: VecDeque<(u64, ConnId)>,
    pub(crate) sweep_next: usize,
    pub(crate) sweep_at_ns: u64,
    pub(crate) probe_next: usize,
    pub(crate) probe_at_ns: u64,
    /// Monotonic time of the turn.
    pub(crate) now_ns: u64,
    pub(crate) turn: u32,
    /// Connections that sent something in this tick.
    pub(crate) heard: u64,
    /// Sends put in flight in this turn.
    pub(crate) turn_sends: usize,
    pub(crate) is_stopping: bool,
    /// An enter that failed inside a call that cannot say so; ends the loop.
    failure: Option<DriverError>,
    completions: Vec<cqueue::Entry>,
}

/// A tick is 2^20 ns, about a millisecond: idle times fit 32 bits for 52 days.
pub(crate) fn tick_of(ns: u64) -> u32 {
    (ns >> 20) as u32
}

impl<P: Slices, M: Send> Sockets<P, M> {
    pub(crate) fn new(uring: Uring, config: DriverConfig<M>) -> Self {
        let DriverConfig { mesh, listeners, budget, limits, tuning } = config;
        let settings = DriverSettings::new(&limits, &tuning, mesh.core_count());
        Self {
            uring,
            slab: Slab::new(tuning.slots.min(token::INDEX_MAX)),
            spares: Spares::default(),
            mesh,
            accepting: listeners.into_iter().map(Accepting::new).collect(),
            budget,
            stats: Rc::default(),
            settings: Rc::new(settings),
            tuning,
            notices: VecDeque::new(),
            dirty: Vec::new(),
            over_limit: Vec::new(),
            rearm: Vec::new(),
            greedy: Vec::new(),
            used_buffers: Vec::new(),
            ran_dry: false,
            detaching: Vec::new(),
            half_closed: Vec::new(),
            deadlines: VecDeque::new(),
            sweep_next: 0,
            sweep_at_ns: 0,
            probe_next: 0,
            probe_at_ns: 0,
            now_ns: 0,
            turn: 0,
            heard: 0,
            turn_sends: 0,
            is_stopping: false,
            failure: None,
            completions: Vec::new(),
        }
    }

    /// Queues a submission.
    ///
    /// # Safety
    /// As for [`Uring::push`].
    pub(crate) unsafe fn submit(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller keeps the entry's memory valid.
        if let Err(error) = unsafe { self.uring.push(entry) } {
            self.failure.get_or_insert(error);
        }
    }

    /// Queues a submission that points to no memory.
    pub(crate) fn submit_plain(&mut self, entry: &squeue::Entry) {
        if let Err(error) = self.uring.push_plain(entry) {
            self.failure.get_or_insert(error);
        }
    }

    /// Asks an operation to end early. It completes as any other does.
    pub(crate) fn submit_cancel(&mut self, op: Op, conn: ConnId) {
        let entry = opcode::AsyncCancel::new(token::encode(op, conn)).build();
        self.submit_plain(&entry.user_data(token::encode(Op::Cancel, conn)));
    }

    /// The failure that ends the loop, if there was one.
    pub(crate) fn take_failure(&mut self) -> Result<(), DriverError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Turns up to `max` completions into events, notices first; returns how many it took.
    pub(crate) fn collect<'b>(
        &mut self,
        max: usize,
        pool: &'b BufferPool,
        events: &mut Vec<Event<'b>>,
    ) -> usize {
        self.turn = self.turn.wrapping_add(1);
        self.turn_sends = 0;
        self.tell(events);
        let mut completions = std::mem::take(&mut self.completions);
        self.uring.take_completions(max, &mut completions);
        let count = completions.len();
        for completion in completions.drain(..) {
            let (op, conn) = token::decode(completion.user_data()).expect("every token was made by encode");
            match op {
                Op::Receive => self.on_receive(conn, &completion, pool, events),
                Op::Send => self.on_send(conn, completion.result()),
                Op::Accept => self.on_accept(conn.slab_index(), &completion),
                Op::Wake => self.on_wake(&completion),
                Op::Cancel => {}
            }
            if !self.notices.is_empty() {
                self.tell(events);
            }
        }
        self.completions = completions;
        self.check_over_limit();
        self.check_output_total();
        self.tell(events);
        count
    }

    fn tell(&mut self, events: &mut Vec<Event<'_>>) {
        events.extend(self.notices.drain(..).map(|notice| match notice {
            Notice::Accepted { conn, peer, local } => Event::Accepted { conn, peer, local },
            Notice::Drained(conn) => Event::Drained { conn },
            Notice::Closed(conn) => Event::Closed { conn },
            Notice::Detached(conn, socket) => Event::Detached { conn, socket },
        }));
    }

    /// The end of a turn, before the buffers go back: sends replies, wakes other cores, ends what is
    /// to be ended. `owes_reply` asks the service about a connection.
    pub(crate) fn finish_turn(&mut self, owes_reply: impl Fn(ConnId) -> bool) {
        if !self.dirty.is_empty() {
            self.flush();
        }
        if !self.half_closed.is_empty() {
            self.finish_half_closed(&owes_reply);
        }
        if !self.detaching.is_empty() {
            self.finish_detaching(&owes_reply);
        }
        if self.mesh.has_to_wake() {
            add(&self.stats.wakeups_sent, self.mesh.wake_receivers());
        }
    }

    /// Whether something waits to be told or done without any completion.
    pub(crate) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Lets other cores end a wait of the ring. The eventfd is never read: every write ends a wait.
    pub(crate) fn arm_wake(&mut self) {
        let fd = types::Fd(self.mesh.gate().nap_fd.as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        let nobody = ConnId { index: 0, generation: 0 };
        self.submit_plain(&entry.user_data(token::encode(Op::Wake, nobody)));
    }

    fn on_wake(&mut self, completion: &cqueue::Entry) {
        // Waking is all it is for. A poll that has ended was cancelled, or the completion queue was full.
        if !cqueue::more(completion.flags()) && completion.result() >= 0 {
            self.arm_wake();
        }
    }

    /// Hands waiting mail to `deliver`, up to `max` messages of each core; returns how many.
    pub(crate) fn take_mail(&mut self, max: usize, mut deliver: impl FnMut(&mut Self, CoreId, M)) -> usize {
        let mut count = 0;
        for from in 0..self.mesh.core_count() {
            for _ in 0..max {
                let Some(mail) = self.mesh.receive(from) else { break };
                count += 1;
                deliver(self, CoreId(from as u16), mail);
            }
        }
        if count > 0 {
            add(&self.stats.mails_in, count as u64);
        }
        count
    }

    /// Takes no more clients, and lets go of those that there are once their replies are sent.
    pub(crate) fn begin_stop(&mut self) {
        self.is_stopping = true;
        self.stop_accepting();
        for id in self.slab.ids() {
            match self.slab.get(id) {
                Some(conn) if conn.unsent() == 0 => self.begin_close(id),
                _ => self.close_after_flush(id),
            }
        }
    }

    /// Closes all connections, sent or not.
    pub(crate) fn close_all(&mut self) {
        for id in self.slab.ids() {
            self.begin_close(id);
        }
    }

    /// Whether no connection is left and nothing can come any more.
    pub(crate) fn is_over(&self) -> bool {
        self.slab.len() == 0 && self.accepting.iter().all(|accepting| !accepting.is_armed)
    }

    /// Ends whatever is still in flight, for a loop that was dropped in the middle. Returns false if
    /// the kernel may still refer to memory.
    pub(crate) fn abandon(&mut self) -> bool {
        if self.is_over() {
            return true;
        }
        self.begin_stop();
        self.close_all();
        let has_ended = self.uring.cancel_all() && self.uring.enter().is_ok();
        self.close_unclaimed();
        for _ in 0..self.slab.len() {
            self.budget.leave();
        }
        if !has_ended {
            self.slab.leak();
        }
        has_ended
    }

    /// Closes sockets that were accepted but that nobody took out of the completion queue.
    fn close_unclaimed(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.uring.take_completions(usize::MAX, &mut completions);
        for completion in completions.drain(..) {
            let is_accept = matches!(token::decode(completion.user_data()), Some((Op::Accept, _)));
            if is_accept && completion.result() >= 0 {
                // SAFETY: the completion of an accept hands over a new descriptor, once.
                drop(unsafe { OwnedFd::from_raw_fd(completion.result()) });
            }
        }
    }

    /// Runs timers that are due, and says when the next one is.
    pub(crate) fn run_timers(&mut self) -> Option<u64> {
        let deadline = self.run_deadlines();
        let sweep = [self.sweep_idle(), self.probe_resets()].into_iter().flatten().min();
        let accept = self.retry_accepts();
        [deadline, sweep, accept].into_iter().flatten().min()
    }
}

impl<P: Slices, M: Send> Wire for Sockets<P, M> {
    type Pinned = P;
    type Mail = M;

    #[inline]
    fn out(&mut self, id: ConnId) -> Option<&mut OutBuf<P>> {
        let conn = self.slab.get_mut(id)?;
        if !conn.takes_replies() {
            return None;
        }
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(id);
            if conn.out.bytes().capacity() == 0 {
                *conn.out.bytes() = self.spares.take();
            }
        }
        Some(&mut conn.out)
    }

    #[inline]
    fn unsent_bytes(&self, id: ConnId) -> usize {
        self.slab.get(id).map_or(0, |conn| conn.unsent())
    }

    fn pause_reads(&mut self, id: ConnId) {
        self.pause(id, pause::SERVICE);
    }

    fn resume_reads(&mut self, id: ConnId) {
        self.resume(id, pause::SERVICE);
    }

    fn close_after_flush(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        if matches!(conn.phase, Phase::Open | Phase::HalfClosed) {
            self.begin_flushing(id);
            // The end of the turn finds out whether anything is left to send.
            self.out(id);
        }
    }

    fn close(&mut self, id: ConnId) {
        self.begin_close(id);
    }

    fn exempt_from_idle_timeout(&mut self, id: ConnId, exempt: bool) {
        if let Some(conn) = self.slab.get_mut(id) {
            conn.may_be_idle = exempt;
        }
    }

    fn detach(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get(id) else { return };
        let is_served = matches!(conn.phase, Phase::Open | Phase::HalfClosed);
        if is_served && conn.paused & pause::DETACH == 0 {
            self.pause(id, pause::DETACH);
            self.detaching.push(id);
        }
    }

    fn attach(&mut self, socket: DetachedSocket) -> ConnId {
        let fd = i32::try_from(socket.handle).expect("the handle of a detached socket is a descriptor");
        // SAFETY: `finish_detaching` of the core it comes from gave the descriptor up into the handle, and a
        // handle is attached once.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        debug_assert!(socket.as_raw_fd() >= 0);
        self.adopt(socket)
    }

    fn send_mail(&mut self, to: CoreId, mail: M) -> Result<(), M> {
        self.mesh.send(to, mail)?;
        add(&self.stats.mails_out, 1);
        Ok(())
    }
}
