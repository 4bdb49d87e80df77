//! Moves connections between cores: because a client asks for a core, or because the kernel's
//! spread of connections over listeners came out clearly uneven.
//!
//! A connection moves only when it is quiet: no reply awaited, no transaction, no subscription. The
//! driver sends what is unsent and delivers what has arrived; then socket and session go to the
//! other core in one message.

use pinnace_protocol::wire::DetachedSocket;
use pinnace_types::{ConnId, CoreId};

use crate::core::{Core, CoreWire};
use crate::mail::{Adoption, Mail, SessionParcel};
use crate::server::control::Control;
use crate::session::{Hold, Session};

/// Connections moved per tick at most: moving costs both cores some work.
const MOVES_PER_TICK: usize = 8;
/// A core gives connections away only if it has this many more than another: below that the spread
/// is not clearly uneven.
const SURPLUS_MIN: usize = 8;

/// How many connections each core has, as far as this core has been told.
#[derive(Debug)]
pub(crate) struct Balance {
    connections: Vec<usize>,
    told: usize,
    /// Connections on their way out, and where to.
    moving: Vec<(ConnId, CoreId)>,
}

impl Balance {
    pub(crate) fn new(core_count: usize) -> Self {
        Self { connections: vec![0; core_count], told: 0, moving: Vec::new() }
    }
}

impl Session {
    pub(crate) fn is_quiet(&self) -> bool {
        self.hold == Hold::None
            && !self.closing
            && self.forwarded() == 0
            && self.replies.is_empty()
            && self.transaction.is_none()
            && self.watched.is_empty()
            && self.subscriptions.count() == 0
            && !self.monitor
    }
}

impl Core {
    /// Starts to move a connection, if it is quiet; else it stays.
    pub(crate) fn begin_move<W: CoreWire>(&mut self, conn: ConnId, to: CoreId, wire: &mut W) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if !session.is_quiet()
            || wire.holds(conn)
            || to == self.config.core
            || to.0 >= self.config.shards.core_count()
        {
            return;
        }
        session.hold(Hold::Moving);
        self.balance.moving.push((conn, to));
        wire.detach(conn);
    }

    /// The driver has let go of the socket: sends it on with everything known of it.
    pub(crate) fn finish_move(&mut self, conn: ConnId, socket: &DetachedSocket) {
        let position = self.balance.moving.iter().position(|(moving, _)| *moving == conn);
        let Some((_, to)) = position.map(|at| self.balance.moving.swap_remove(at)) else {
            unreachable!("the driver detaches only what it was asked to");
        };
        let mut session =
            self.sessions.remove(conn).expect("a session goes with its socket, or when it is closed");
        self.partial_bytes -= session.partial.capacity() as u64;
        session.hold = Hold::None;
        session.reads_paused = false;
        session.tail_in_batch = false;
        session.refresh();
        self.stats.connections_moved += 1;
        let socket = DetachedSocket { handle: socket.handle, peer: socket.peer, local: socket.local };
        let adoption = Adoption { socket, session: SessionParcel(Box::new(session)) };
        self.post.push((to, Mail::Adopt(Box::new(adoption))));
    }

    /// Takes over the connections that other cores sent in this turn.
    ///
    /// Only behind the turn's events: an attached socket may get the place of a connection that one of
    /// them tells to be detached, and that one's session has to have gone out before.
    pub(crate) fn adopt_arrivals<W: CoreWire>(&mut self, wire: &mut W) {
        let mut adoptions = std::mem::take(&mut self.adoptions);
        for adoption in adoptions.drain(..) {
            self.adopt(adoption, wire);
        }
        self.adoptions = adoptions;
    }

    fn adopt<W: CoreWire>(&mut self, adoption: Adoption, wire: &mut W) {
        let conn = wire.attach(adoption.socket);
        // The place may be that of a connection that was closed in this turn, which is told in the next.
        if let Some(gone) = self.sessions.predecessor(conn) {
            self.close_session(gone);
            wire.forget(gone);
        }
        let session = *adoption.session.0;
        self.partial_bytes += session.partial.capacity() as u64;
        let unfinished = !session.partial.is_empty();
        self.sessions.insert(conn, session);
        if unfinished {
            self.resume.push(conn);
        }
    }

    /// Tells the other cores how many connections this one has, and gives some away if it has
    /// clearly more than one of them.
    pub(crate) fn balance_connections(&mut self) {
        self.balance.moving.retain(|(conn, _)| self.sessions.get(*conn).is_some());
        let own = self.sessions.len() - self.balance.moving.len();
        let me = self.config.core;
        self.balance.connections[me.index()] = own;
        if own != self.balance.told {
            self.balance.told = own;
            for core in (0..self.core_count()).map(CoreId).filter(|&core| core != me) {
                self.send_control(core, Control::Connections(own));
            }
        }
        let fewest = self.balance.connections.iter().enumerate().min_by_key(|(_, count)| **count);
        let Some((to, &count)) = fewest else { return };
        // Half of the surplus over the other core would even the two out; a quarter cannot overshoot
        // when several cores give to the same one.
        if own < count + SURPLUS_MIN || own < count + count / 2 {
            return;
        }
        let surplus = ((own - count) / 4).clamp(1, MOVES_PER_TICK);
        let to = CoreId(to as u16);
        let movable: Vec<ConnId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_quiet() && !session.placed)
            .map(|(conn, _)| conn)
            .take(surplus)
            .collect();
        for conn in movable {
            self.effect(crate::effects::Effect::Move { conn, to });
        }
        // Until the other core reports again, count what is on its way.
        self.balance.connections[to.index()] += surplus;
    }

    /// Another core reports its number of connections.
    pub(crate) fn on_connections(&mut self, from: CoreId, count: usize) {
        self.balance.connections[from.index()] = count;
    }
}
