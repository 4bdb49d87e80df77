//! Reading: multishot receives into provided buffers, and who may have how many of them.
//!
//! A multishot receive takes buffers as bytes arrive, so one connection with a full socket could take
//! all of them. When they run low, connections that took more than their share are put on single
//! receives: one buffer a turn. A receive that found no buffer ends with ENOBUFS and is armed again at
//! the end of the turn, after the turn's buffers were given back.

use io_uring::{cqueue, opcode, squeue, types};
use pinnace_protocol::Slices;
use pinnace_protocol::wire::Event;
use pinnace_types::ConnId;

use crate::buffers::{self, BufferPool};
use crate::slab::{Phase, Receive};
use crate::sockets::{Sockets, tick_of};
use crate::stats::add;
use crate::token::{self, Op};

/// Single receives that a greedy connection does before it is trusted with multishot again.
const SINGLE_RECEIVES: u8 = 32;

impl<P: Slices, M: Send> Sockets<P, M> {
    /// Puts a receive in flight if there should be one and is none.
    pub(crate) fn arm_receive(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        if conn.receive != Receive::Idle || !conn.wants_receive() {
            return;
        }
        conn.receive = Receive::Armed;
        let file = types::Fixed(id.index);
        let entry = if conn.single_left > 0 {
            let single = opcode::Recv::new(file, std::ptr::null_mut(), 0).buf_group(buffers::GROUP).build();
            single.flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(file, buffers::GROUP).build()
        };
        self.submit_plain(&entry.user_data(token::encode(Op::Receive, id)));
    }

    /// Arms the receive at the end of the turn, when the buffers are back.
    fn rearm_later(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        if !conn.is_rearming {
            conn.is_rearming = true;
            self.rearm.push(id);
        }
    }

    /// Arms what waited for buffers; called after they were given back.
    pub(crate) fn rearm_receives(&mut self) {
        let mut ids = std::mem::take(&mut self.rearm);
        for id in ids.drain(..) {
            if let Some(conn) = self.slab.get_mut(id) {
                conn.is_rearming = false;
                self.arm_receive(id);
            }
        }
        self.rearm = ids;
    }

    /// Asks the receive in flight to end; its last completions still arrive.
    pub(crate) fn cancel_receive(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        if conn.receive == Receive::Armed {
            conn.receive = Receive::Cancelled;
            self.submit_cancel(Op::Receive, id);
        }
    }

    /// Stops reading for a reason.
    pub(crate) fn pause(&mut self, id: ConnId, reason: u8) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        conn.paused |= reason;
        self.cancel_receive(id);
    }

    /// Takes a reason away; reads on if it was the last one.
    pub(crate) fn resume(&mut self, id: ConnId, reason: u8) {
        let Some(conn) = self.slab.get_mut(id) else { return };
        conn.paused &= !reason;
        // A cancelled receive that has not ended yet is armed again by its last completion.
        self.arm_receive(id);
    }

    #[inline]
    pub(crate) fn on_receive<'b>(
        &mut self,
        id: ConnId,
        completion: &cqueue::Entry,
        pool: &'b BufferPool,
        events: &mut Vec<Event<'b>>,
    ) {
        let (result, flags) = (completion.result(), completion.flags());
        let buffer = cqueue::buffer_select(flags);
        self.used_buffers.extend(buffer);
        let conn = self.slab.get_mut(id).expect("a slot is freed only after its receive has ended");
        let has_ended = !cqueue::more(flags);
        if has_ended {
            conn.receive = Receive::Idle;
        }
        match (result, buffer) {
            (1.., Some(buffer)) => self.on_bytes(id, pool.slice(buffer, result as usize), pool, events),
            (0, _) => self.on_eof(id),
            _ => self.on_receive_error(id, -result),
        }
        if has_ended {
            self.on_receive_ended(id);
        }
    }

    #[inline]
    fn on_bytes<'b>(&mut self, id: ConnId, bytes: &'b [u8], pool: &BufferPool, events: &mut Vec<Event<'b>>) {
        add(&self.stats.receives, 1);
        add(&self.stats.bytes_in, bytes.len() as u64);
        let (turn, tick) = (self.turn, tick_of(self.now_ns));
        let conn = self.slab.get_mut(id).expect("looked up by the caller");
        if conn.phase != Phase::Open {
            return;
        }
        conn.active_tick = tick;
        if conn.heard_tick != tick {
            conn.heard_tick = tick;
            self.heard += 1;
        }
        conn.turn_buffers = if conn.turn == turn { conn.turn_buffers + 1 } else { 1 };
        conn.turn = turn;
        if conn.single_left > 0 {
            // A buffer that was not filled means that the socket is empty: nothing to hold back any more.
            let is_full = bytes.len() == pool.buffer_bytes();
            conn.single_left = if is_full { conn.single_left - 1 } else { 0 };
        }
        if conn.turn_buffers == fair_share(pool) {
            self.greedy.push(id);
        }
        events.push(Event::Data { conn: id, bytes });
    }

    fn on_receive_error(&mut self, id: ConnId, errno: i32) {
        match errno {
            libc::ENOBUFS => {
                add(&self.stats.buffers_dry, 1);
                self.ran_dry = true;
            }
            // Ended at our wish, or for no reason of the connection's.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            _ => {
                add(&self.stats.closed_error, 1);
                self.begin_close(id);
            }
        }
    }

    fn on_receive_ended(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get(id) else { return };
        if conn.phase == Phase::Dying {
            self.release_if_quiet(id);
        } else if conn.wants_receive() {
            self.rearm_later(id);
        }
    }

    /// Puts connections that took more than their share on single receives if the buffers ran low.
    pub(crate) fn restrain_greedy(&mut self, pool: &BufferPool) {
        let low = usize::from(pool.count()) * 3 / 4;
        let ran_low = self.ran_dry || self.used_buffers.len() >= low;
        self.ran_dry = false;
        let mut ids = std::mem::take(&mut self.greedy);
        for id in ids.drain(..) {
            let Some(conn) = self.slab.get_mut(id) else { continue };
            if ran_low && conn.single_left == 0 {
                conn.single_left = SINGLE_RECEIVES;
                add(&self.stats.greedy, 1);
                self.cancel_receive(id);
            }
        }
        self.greedy = ids;
    }
}

/// Buffers that a connection may take in one turn without being looked at when they run low.
fn fair_share(pool: &BufferPool) -> u16 {
    (pool.count() / 8).max(2)
}
