//! The ends of a connection: hang-ups, closes, timeouts, and moves to another core.

use std::net::Shutdown;
use std::os::fd::IntoRawFd;

use pinnace_protocol::wire::DetachedSocket;
use pinnace_protocol::{OutBuf, Slices};
use pinnace_types::ConnId;
use socket2::SockRef;

use crate::accept::addresses;
use crate::slab::{Phase, Receive, pause};
use crate::sockets::{Notice, Sockets, tick_of};
use crate::stats::add;
use crate::token::Op;

/// Slots looked at in one go of the idle sweep, some microseconds' worth.
const SWEEP_SLOTS: usize = 1024;
/// Bounds of the time that a sweep over all slots takes.
const SWEEP_NS: std::ops::RangeInclusive<u64> = 10_000_000..=1_000_000_000;

/// A silent connection is looked at for an unreported reset within this time.
const PROBE_PERIOD_NS: u64 = 1_000_000_000;

impl<P: Slices, M: Send> Sockets<P, M> {
    /// The client has finished sending. Requests that it sent before are still answered.
    pub(crate) fn on_eof(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        conn.eof = true;
        match conn.phase {
            Phase::Open => {
                conn.phase = Phase::HalfClosed;
                self.half_closed.push(id);
            }
            Phase::Lingering => self.begin_close(id),
            Phase::Flushing | Phase::HalfClosed | Phase::Dying | Phase::Free => {}
        }
    }

    /// Closes the half-closed connections that the service owes nothing any more. One that is to be
    /// detached is not: the core that takes it over serves what is left, and hears of the end again.
    pub(crate) fn finish_half_closed(&mut self, owes_reply: &impl Fn(ConnId) -> bool) {
        let mut ids = std::mem::take(&mut self.half_closed);
        ids.retain(|&id| {
            let half_closed = self.slab.get(id).filter(|conn| conn.phase == Phase::HalfClosed);
            let is_leaving = half_closed.is_some_and(|conn| conn.paused & pause::DETACH != 0);
            let is_waiting = half_closed.is_some();
            if is_waiting && !is_leaving && !owes_reply(id) {
                self.begin_flushing(id);
                if self.slab.get(id).is_some_and(|conn| conn.unsent() == 0) {
                    self.finish_flushing(id);
                }
                return false;
            }
            is_waiting
        });
        ids.append(&mut self.half_closed);
        self.half_closed = ids;
    }

    /// From here the connection only sends what it has, within a bounded time without progress.
    pub(crate) fn begin_flushing(&mut self, id: ConnId) {
        let tick = tick_of(self.now_ns);
        let Some(conn) = self.slab.get_mut(id) else { return };
        conn.phase = Phase::Flushing;
        conn.active_tick = tick;
        self.add_deadline(id);
    }

    /// All is sent: shuts our direction, so that the client reads to the end, and waits for its end.
    pub(crate) fn finish_flushing(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        if conn.eof {
            return self.begin_close(id);
        }
        conn.phase = Phase::Lingering;
        conn.paused = 0;
        let shut = conn.socket.as_ref().map(|socket| SockRef::from(socket).shutdown(Shutdown::Write));
        self.notices.push_back(Notice::Closed(id));
        if !matches!(shut, Some(Ok(()))) {
            return self.begin_close(id);
        }
        self.arm_receive(id);
        self.add_deadline(id);
    }

    fn add_deadline(&mut self, id: ConnId) {
        let at_ns = self.now_ns + u64::from(self.tuning.linger_ms) * 1_000_000;
        self.deadlines.push_back((at_ns, id));
    }

    /// Closes connections that had their time; when the next one has.
    pub(crate) fn run_deadlines(&mut self) -> Option<u64> {
        let linger_ticks = tick_of(u64::from(self.tuning.linger_ms) * 1_000_000);
        while let Some(&(at_ns, id)) = self.deadlines.front() {
            if at_ns > self.now_ns {
                return Some(at_ns);
            }
            self.deadlines.pop_front();
            let Some(conn) = self.slab.get(id) else { continue };
            let still_for = tick_of(self.now_ns).wrapping_sub(conn.active_tick);
            match conn.phase {
                // A slow reader that reads is waited for.
                Phase::Flushing if still_for < linger_ticks => self.add_deadline(id),
                Phase::Flushing | Phase::Lingering => self.begin_close(id),
                Phase::Open | Phase::HalfClosed | Phase::Dying | Phase::Free => {}
            }
        }
        None
    }

    /// Closes connections that sent nothing for too long, some slots at a time; when to go on.
    pub(crate) fn sweep_idle(&mut self) -> Option<u64> {
        let timeout_ms = self.settings.idle_timeout_ms.get();
        if timeout_ms == 0 || self.slab.len() == 0 {
            return None;
        }
        if self.sweep_at_ns > self.now_ns {
            return Some(self.sweep_at_ns);
        }
        let steps = self.slab.slot_count().div_ceil(SWEEP_SLOTS);
        let timeout_ns = timeout_ms.saturating_mul(1_000_000);
        let period_ns = (timeout_ns / 4).clamp(*SWEEP_NS.start(), *SWEEP_NS.end());
        self.sweep_at_ns = self.now_ns + period_ns / steps as u64;
        // Idle times are told in 32-bit ticks.
        let timeout_ticks = u32::try_from(timeout_ns >> 20).unwrap_or(u32::MAX / 2);
        let first = if self.sweep_next < self.slab.slot_count() { self.sweep_next } else { 0 };
        self.sweep_next = first + SWEEP_SLOTS;
        for index in first..self.sweep_next.min(self.slab.slot_count()) {
            self.close_if_idle(index, timeout_ticks);
        }
        Some(self.sweep_at_ns)
    }

    fn close_if_idle(&mut self, index: usize, timeout_ticks: u32) {
        let Some(id) = self.slab.id_at(index) else { return };
        let Some(conn) = self.slab.get(id) else { return };
        let idle_ticks = tick_of(self.now_ns).wrapping_sub(conn.active_tick);
        let is_open = matches!(conn.phase, Phase::Open | Phase::HalfClosed);
        if is_open && !conn.may_be_idle && idle_ticks > timeout_ticks {
            add(&self.stats.closed_idle, 1);
            self.begin_close(id);
        }
    }

    /// Looks once at every connection that has fallen silent for a reset that the ring did not report.
    ///
    /// A multishot receive that takes the last bytes before a reset asks the socket whether more is
    /// there, and the kernel's answer covers a FIN but not an error: if the reset's wake-up came with
    /// the bytes', the receive waits for one that never comes. Seen a few times in 10,000 connections
    /// that are reset right behind their last bytes. When to go on.
    pub(crate) fn probe_resets(&mut self) -> Option<u64> {
        if self.slab.len() == 0 {
            return None;
        }
        if self.probe_at_ns > self.now_ns {
            return Some(self.probe_at_ns);
        }
        let steps = self.slab.slot_count().div_ceil(SWEEP_SLOTS);
        self.probe_at_ns = self.now_ns + PROBE_PERIOD_NS / steps as u64;
        let first = if self.probe_next < self.slab.slot_count() { self.probe_next } else { 0 };
        self.probe_next = first + SWEEP_SLOTS;
        for index in first..self.probe_next.min(self.slab.slot_count()) {
            self.probe_reset(index);
        }
        Some(self.probe_at_ns)
    }

    fn probe_reset(&mut self, index: usize) {
        let Some(id) = self.slab.id_at(index) else { return };
        let now = tick_of(self.now_ns);
        let Some(conn) = self.slab.get_mut(id) else { return };
        let is_silent = now.wrapping_sub(conn.active_tick) > tick_of(PROBE_PERIOD_NS);
        if !is_silent || conn.probed_tick == conn.active_tick || conn.receive != Receive::Armed {
            return;
        }
        conn.probed_tick = conn.active_tick;
        let error = conn.socket.as_ref().and_then(|socket| SockRef::from(socket).take_error().ok().flatten());
        if error.is_some() {
            add(&self.stats.closed_error, 1);
            self.begin_close(id);
        }
    }

    /// Gives a connection up: its replies are dropped, its operations cancelled, its slot freed when
    /// they have ended.
    pub(crate) fn begin_close(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        match conn.phase {
            Phase::Dying | Phase::Free => return,
            Phase::Lingering => {}
            Phase::Open | Phase::HalfClosed | Phase::Flushing => self.notices.push_back(Notice::Closed(id)),
        }
        conn.phase = Phase::Dying;
        conn.out = OutBuf::new();
        // What is in flight comes back with the cancelled send, in the next enter.
        let owned = std::mem::take(&mut conn.owned_counted) as u64;
        self.stats.output_bytes.set(self.stats.output_bytes.get() - owned);
        let is_sending = !conn.outgoing.is_idle();
        self.cancel_receive(id);
        if is_sending {
            self.submit_cancel(Op::Send, id);
        }
        self.release_if_quiet(id);
    }

    /// Frees the slot of a dying connection once no operation refers to it.
    pub(crate) fn release_if_quiet(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get(id) else { return };
        debug_assert!(conn.phase == Phase::Dying);
        if conn.receive == Receive::Idle && conn.outgoing.is_idle() {
            // Dropping the descriptor closes the socket, the file table's reference being gone.
            drop(self.take_out(id));
            self.budget.leave();
            add(&self.stats.closed, 1);
        }
    }

    /// Takes the socket out of ring and slab.
    fn take_out(&mut self, id: ConnId) -> Option<std::os::fd::OwnedFd> {
        // Cannot fail for a slot of the table; if it did, the next tenant would overwrite the entry.
        let _ = self.uring.set_file(id.index, -1);
        let open = self.stats.connections.get();
        self.stats.connections.set(open.saturating_sub(1));
        debug_assert!(self.slab.get(id).is_none_or(|conn| conn.owned_counted == 0));
        self.slab.remove(id)
    }

    /// Lets the connections go that are quiet: nothing to send, no receive in flight, nothing owed.
    pub(crate) fn finish_detaching(&mut self, owes_reply: &impl Fn(ConnId) -> bool) {
        let mut ids = std::mem::take(&mut self.detaching);
        ids.retain(|&id| {
            let Some(conn) = self.slab.get(id) else { return false };
            if !matches!(conn.phase, Phase::Open | Phase::HalfClosed) {
                return false;
            }
            if conn.receive != Receive::Idle || conn.unsent() > 0 || owes_reply(id) {
                return true;
            }
            self.let_go(id);
            false
        });
        ids.append(&mut self.detaching);
        self.detaching = ids;
    }

    fn let_go(&mut self, id: ConnId) {
        let Some(socket) = self.slab.get(id).and_then(|conn| conn.socket.as_ref()) else { return };
        let Ok((peer, local)) = addresses(socket) else {
            // Reset meanwhile: there is nothing to move.
            return self.begin_close(id);
        };
        let Some(socket) = self.take_out(id) else { return };
        add(&self.stats.detached, 1);
        let handle = socket.into_raw_fd() as u64;
        self.notices.push_back(Notice::Detached(id, DetachedSocket { handle, peer, local }));
    }
}
