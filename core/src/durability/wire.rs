//! The wire as a core's code sees it: straight to the driver, or by way of the gate.
//!
//! Two types rather than one with a flag: without a log the code of a core is compiled as if there were no gate.

use pinnace_engine::PinnedValue;
use pinnace_protocol::OutBuf;
use pinnace_protocol::wire::{DetachedSocket, Wire};
use pinnace_types::{ConnId, CoreId, Limits};

use super::Gate;
use super::gate::HeldPart;
use crate::core::append_out;
use crate::mail::Mail;
use crate::session::{Hold, Sessions};

/// Names the wire a core works on.
pub(crate) trait CoreWire: Wire<Pinned = PinnedValue, Mail = Mail> {
    /// Whether there is a gate.
    const GATED: bool;

    /// The gate.
    fn gate(&mut self) -> Option<&mut Gate>;

    /// Whether a connection's replies wait here, so that the driver knows nothing of them.
    fn holds(&self, conn: ConnId) -> bool;

    /// A connection is gone.
    fn forget(&mut self, conn: ConnId);

    /// Passes on what was staged in the turn, or holds it.
    fn settle(&mut self, sessions: &mut Sessions, limits: &Limits);
}

/// Without a log.
pub(crate) struct Direct<'w, W>(pub(crate) &'w mut W);

/// With a log.
pub(crate) struct Gated<'w, W> {
    wire: &'w mut W,
    gate: &'w mut Gate,
}

macro_rules! pass_on {
    ($self:ident, $wire:expr) => {
        fn pause_reads(&mut $self, conn: ConnId) {
            $wire.pause_reads(conn);
        }

        fn resume_reads(&mut $self, conn: ConnId) {
            $wire.resume_reads(conn);
        }

        fn exempt_from_idle_timeout(&mut $self, conn: ConnId, exempt: bool) {
            $wire.exempt_from_idle_timeout(conn, exempt);
        }

        fn attach(&mut $self, socket: DetachedSocket) -> ConnId {
            $wire.attach(socket)
        }

        fn send_mail(&mut $self, to: CoreId, mail: Mail) -> Result<(), Mail> {
            $wire.send_mail(to, mail)
        }
    };
}

impl<W: Wire<Pinned = PinnedValue, Mail = Mail>> Wire for Direct<'_, W> {
    type Pinned = PinnedValue;
    type Mail = Mail;

    pass_on!(self, self.0);

    #[inline(always)]
    fn out(&mut self, conn: ConnId) -> Option<&mut OutBuf<PinnedValue>> {
        self.0.out(conn)
    }

    #[inline]
    fn unsent_bytes(&self, conn: ConnId) -> usize {
        self.0.unsent_bytes(conn)
    }

    fn close_after_flush(&mut self, conn: ConnId) {
        self.0.close_after_flush(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.0.close(conn);
    }

    fn detach(&mut self, conn: ConnId) {
        self.0.detach(conn);
    }
}

impl<W: Wire<Pinned = PinnedValue, Mail = Mail>> CoreWire for Direct<'_, W> {
    const GATED: bool = false;

    #[inline(always)]
    fn gate(&mut self) -> Option<&mut Gate> {
        None
    }

    #[inline(always)]
    fn holds(&self, _: ConnId) -> bool {
        false
    }

    #[inline(always)]
    fn forget(&mut self, _: ConnId) {}

    #[inline(always)]
    fn settle(&mut self, _: &mut Sessions, _: &Limits) {}
}

impl<W: Wire<Pinned = PinnedValue, Mail = Mail>> Wire for Gated<'_, W> {
    type Pinned = PinnedValue;
    type Mail = Mail;

    pass_on!(self, self.wire);

    #[inline]
    fn out(&mut self, conn: ConnId) -> Option<&mut OutBuf<PinnedValue>> {
        if !self.gate.stages(conn) {
            return self.wire.out(conn);
        }
        if !self.gate.is_staged(conn) {
            // Whether it is open still.
            self.wire.out(conn)?;
            self.gate.stage(conn);
        }
        self.gate.outlet_mut(conn).map(|outlet| &mut outlet.staged)
    }

    fn unsent_bytes(&self, conn: ConnId) -> usize {
        self.wire.unsent_bytes(conn) + self.gate.outlet(conn).map_or(0, |outlet| outlet.bytes())
    }

    fn close_after_flush(&mut self, conn: ConnId) {
        match self.gate.outlet_mut(conn) {
            Some(outlet) if !outlet.is_empty() => outlet.closes = true,
            _ => self.wire.close_after_flush(conn),
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.gate.forget(conn);
        self.wire.close(conn);
    }

    /// Only what is quiet is detached: nothing is held, and what is staged goes on now.
    fn detach(&mut self, conn: ConnId) {
        if let Some(outlet) = self.gate.outlet_mut(conn)
            && let Some(to) = self.wire.out(conn)
        {
            append_out(to, &mut outlet.staged);
        }
        self.wire.detach(conn);
    }
}

impl<W: Wire<Pinned = PinnedValue, Mail = Mail>> CoreWire for Gated<'_, W> {
    const GATED: bool = true;

    #[inline(always)]
    fn gate(&mut self) -> Option<&mut Gate> {
        Some(self.gate)
    }

    /// What is staged and need not wait is as good as sent.
    fn holds(&self, conn: ConnId) -> bool {
        self.gate
            .outlet(conn)
            .is_some_and(|outlet| !outlet.held.is_empty() || !self.gate.is_synced(outlet.need))
    }

    fn forget(&mut self, conn: ConnId) {
        self.gate.forget(conn);
    }

    fn settle(&mut self, sessions: &mut Sessions, limits: &Limits) {
        let mut staged = std::mem::take(&mut self.gate.staged);
        for conn in staged.drain(..) {
            self.settle_one(conn, sessions, limits);
        }
        self.gate.staged = staged;
    }
}

impl<'w, W: Wire<Pinned = PinnedValue, Mail = Mail>> Gated<'w, W> {
    pub(crate) fn new(wire: &'w mut W, gate: &'w mut Gate) -> Self {
        Self { wire, gate }
    }

    fn settle_one(&mut self, conn: ConnId, sessions: &mut Sessions, limits: &Limits) {
        let Some(outlet) = self.gate.outlet_mut(conn).filter(|outlet| outlet.is_staged) else { return };
        outlet.is_staged = false;
        let need = outlet.need;
        let mut staged = std::mem::take(&mut outlet.staged);
        let Some(to) = self.wire.out(conn) else { return self.gate.forget(conn) };
        if outlet.held.is_empty() && need <= self.gate.synced() {
            append_out(to, &mut staged);
            self.gate.recycle(staged);
            self.pass_on(conn, sessions, limits);
            return;
        }
        if staged.is_empty() {
            return self.gate.recycle(staged);
        }
        self.gate.hold(conn, staged);
        let held = self.gate.outlet(conn).map_or(0, |outlet| outlet.held_bytes) as u64;
        if held > limits.held_pause_bytes || self.gate.held_bytes() > limits.held_bytes_max {
            hold(sessions, conn, Hold::Unsynced);
        }
    }

    /// Bytes have gone to the connection: has it read enough, and was it to be closed behind them?
    fn pass_on(&mut self, conn: ConnId, sessions: &mut Sessions, limits: &Limits) {
        let Some(to) = self.wire.out(conn) else { return };
        if to.byte_len() as u64 > limits.output_pause_bytes {
            hold(sessions, conn, Hold::Output);
        }
        if let Some(outlet) = self.gate.outlet_mut(conn).filter(|outlet| outlet.closes && outlet.is_empty()) {
            outlet.closes = false;
            self.wire.close_after_flush(conn);
        }
    }

    /// Sends what is held and has waited long enough.
    pub(super) fn release(&mut self, sessions: &mut Sessions, limits: &Limits, resume: &mut Vec<ConnId>) {
        let mut waiting = std::mem::take(&mut self.gate.waiting);
        waiting.retain(|&conn| {
            if !self.release_one(conn) {
                return self.gate.outlet(conn).is_some_and(|outlet| !outlet.held.is_empty());
            }
            self.pass_on(conn, sessions, limits);
            let held = self.gate.outlet(conn).map_or(0, |outlet| outlet.held_bytes) as u64;
            let is_little =
                held <= limits.held_pause_bytes / 2 && self.gate.held_bytes() <= limits.held_bytes_max / 2;
            if let Some(session) = sessions.get_mut(conn)
                && session.hold == Hold::Unsynced
                && (held == 0 || is_little)
            {
                session.hold = Hold::None;
                session.refresh();
                resume.push(conn);
            }
            self.gate.outlet(conn).is_some_and(|outlet| !outlet.held.is_empty())
        });
        waiting.append(&mut self.gate.waiting);
        self.gate.waiting = waiting;
    }

    /// Sends what one connection has waited for. Returns whether there was something.
    fn release_one(&mut self, conn: ConnId) -> bool {
        let mut any = false;
        while let Some(mut buffer) = self.gate.take_synced(conn) {
            any = true;
            match self.wire.out(conn) {
                Some(to) => append_out(to, &mut buffer),
                None => self.gate.forget(conn),
            }
            self.gate.recycle(buffer);
        }
        any
    }

    pub(super) fn take_synced_parts(&mut self) -> Vec<HeldPart> {
        self.gate.take_synced_parts()
    }
}

fn hold(sessions: &mut Sessions, conn: ConnId, reason: Hold) {
    if let Some(session) = sessions.get_mut(conn)
        && session.hold == Hold::None
    {
        session.hold(reason);
    }
}
