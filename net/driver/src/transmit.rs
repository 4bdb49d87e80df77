//! Writing: one send in flight per connection, queued at the end of the turn for all connections
//! together; and what happens to clients that do not read.

use io_uring::types;
use pinnace_protocol::Slices;
use pinnace_types::ConnId;

use crate::outgoing::Outgoing;
use crate::slab::{Phase, pause};
use crate::sockets::{Notice, Sockets, tick_of};
use crate::stats::add;
use crate::token::{self, Op};

impl<P: Slices, M: Send> Sockets<P, M> {
    /// Queues the replies of all connections that were written to in this turn.
    pub(crate) fn flush(&mut self) {
        let mut ids = std::mem::take(&mut self.dirty);
        for id in ids.drain(..) {
            self.flush_one(id);
            self.count_owned(id);
        }
        // What came up meanwhile (a close marks nothing dirty) waits for the next turn.
        ids.append(&mut self.dirty);
        self.dirty = ids;
    }

    #[inline]
    fn flush_one(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        conn.is_dirty = false;
        if conn.out.is_empty() {
            self.spares.put(std::mem::take(conn.out.bytes()));
        }
        if !conn.takes_replies() {
            return;
        }
        if conn.out.byte_len() == 0 {
            // Nothing, or only values without bytes.
            conn.out.clear();
            if conn.outgoing.is_idle() {
                self.on_all_sent(id);
            }
            return;
        }
        let unsent = conn.unsent() as u64;
        if unsent > self.settings.output_close_bytes.get() {
            add(&self.stats.closed_output_limit, 1);
            return self.begin_close(id);
        }
        let is_over = conn.is_over || conn.paused & pause::OUTPUT != 0;
        if unsent > self.settings.output_pause_bytes.get() && !is_over {
            // A large reply to a client that reads is gone after the next enter: look again then.
            self.over_limit.push(id);
        }
        if conn.outgoing.is_idle() {
            conn.outgoing = Outgoing::take(&mut conn.out);
            self.submit_send(id);
        }
    }

    /// Puts what remains of the outgoing replies in flight.
    fn submit_send(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        let Some(entry) = conn.outgoing.entry(types::Fixed(id.index)) else { return };
        let entry = entry.user_data(token::encode(Op::Send, id));
        // SAFETY: the entry points into `conn.outgoing`, which owns the bytes (a reply vector, or values
        // whose slices stay where they are by the contract of `Slices`) and is changed only by the
        // completion of this send; the slot is not freed before.
        unsafe { self.submit(&entry) };
        self.turn_sends += 1;
    }

    /// Pauses the connections that are over the limit even after their send had its chance. The
    /// others have drained: a service that saw them over the limit waits to be told.
    pub(crate) fn check_over_limit(&mut self) {
        if self.over_limit.is_empty() {
            return;
        }
        let mut ids = std::mem::take(&mut self.over_limit);
        let limit = self.settings.output_pause_bytes.get();
        for id in ids.drain(..) {
            let Some(conn) = self.slab.get(id) else { continue };
            if conn.is_over || conn.paused & pause::OUTPUT != 0 || !conn.takes_replies() {
                continue;
            }
            if conn.unsent() as u64 > limit {
                add(&self.stats.output_pauses, 1);
                self.hold_over_limit(id);
            } else {
                self.notices.push_back(Notice::Drained(id));
            }
        }
        self.over_limit = ids;
    }

    /// Brings the core's total up to date with what a connection holds now.
    #[inline]
    fn count_owned(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        if conn.phase == Phase::Dying {
            return;
        }
        let owned = conn.owned_bytes();
        let before = std::mem::replace(&mut conn.owned_counted, owned);
        let total = &self.stats.output_bytes;
        total.set(total.get() - before as u64 + owned as u64);
    }

    /// Closes the connections that hold most if all together hold too much. Called when the sends of
    /// the last flush had their chance: whoever reads has taken its replies by then.
    #[inline]
    pub(crate) fn check_output_total(&mut self) {
        if self.stats.output_bytes.get() > self.settings.output_bytes_max.get() {
            self.close_largest();
        }
    }

    #[cold]
    fn close_largest(&mut self) {
        let holders = self.slab.ids().into_iter();
        let holders = holders.filter_map(|id| self.slab.get(id).map(|conn| (conn.owned_counted, id)));
        let mut holders: Vec<_> = holders.filter(|&(owned, _)| owned > 0).collect();
        holders.sort_unstable_by_key(|&(owned, id)| (owned, id.index));
        while self.stats.output_bytes.get() > self.settings.output_bytes_max.get()
            && let Some((_, id)) = holders.pop()
        {
            add(&self.stats.closed_output_total, 1);
            self.begin_close(id);
        }
    }

    /// A connection is over the pause limit until it has drained.
    fn hold_over_limit(&mut self, id: ConnId) {
        if self.settings.output_pauses_reads.get() {
            return self.pause(id, pause::OUTPUT);
        }
        if let Some(conn) = self.slab.get_mut(id) {
            conn.is_over = true;
        }
    }

    #[inline]
    pub(crate) fn on_send(&mut self, id: ConnId, result: i32) {
        let conn = self.slab.get_mut(id).expect("a slot is freed only after its send has ended");
        if conn.phase == Phase::Dying {
            conn.outgoing = Outgoing::Idle;
            return self.release_if_quiet(id);
        }
        let Ok(sent) = usize::try_from(result) else { return self.on_send_error(id, -result) };
        add(&self.stats.sends, 1);
        add(&self.stats.bytes_out, sent as u64);
        conn.active_tick = tick_of(self.now_ns);
        if conn.outgoing.advance(sent) {
            if let Outgoing::Plain { bytes, .. } = std::mem::replace(&mut conn.outgoing, Outgoing::Idle) {
                self.spares.put(bytes);
            }
            self.on_outgoing_done(id);
        } else {
            add(&self.stats.sends_partial, 1);
            self.submit_send(id);
        }
        self.count_owned(id);
        self.check_drained(id);
    }

    fn on_send_error(&mut self, id: ConnId, errno: i32) {
        if matches!(errno, libc::EINTR | libc::EAGAIN | libc::ENOBUFS) {
            self.submit_send(id);
            return;
        }
        if let Some(conn) = self.slab.get_mut(id) {
            conn.outgoing = Outgoing::Idle;
        }
        add(&self.stats.closed_error, 1);
        self.begin_close(id);
    }

    #[inline]
    fn on_outgoing_done(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        if conn.out.is_empty() {
            self.on_all_sent(id);
        } else if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
    }

    #[inline]
    fn on_all_sent(&mut self, id: ConnId) {
        if self.slab.get(id).is_some_and(|conn| conn.phase == Phase::Flushing) {
            self.finish_flushing(id);
        }
    }

    #[inline]
    fn check_drained(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        let is_over = (conn.is_over || conn.paused & pause::OUTPUT != 0) && conn.takes_replies();
        if is_over && (conn.unsent() as u64) < self.settings.output_pause_bytes.get() / 2 {
            conn.is_over = false;
            self.notices.push_back(Notice::Drained(id));
            self.resume(id, pause::OUTPUT);
        }
    }
}
