//! The seam between a socket driver and a core: events in, calls on [`Wire`] out.
//!
//! The node's io_uring driver and the simulator's network both implement [`Wire`] and drive a
//! [`Service`]; the service cannot tell which.

use std::net::SocketAddr;

use pinnace_types::{ConnId, CoreId, UnixMillis};

use crate::out::{OutBuf, Slices};

/// What happened on the wire since the last turn, in order of arrival.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client connected.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// The client's address.
        peer: SocketAddr,
        /// The address it connected to.
        local: SocketAddr,
    },
    /// Bytes arrived. They are valid until [`Service::on_turn`] returns.
    Data {
        /// The connection.
        conn: ConnId,
        /// The bytes, never empty.
        bytes: &'a [u8],
    },
    /// The unsent bytes of a connection fell below the pause limit after having been over it.
    Drained {
        /// The connection.
        conn: ConnId,
    },
    /// A connection is gone, by either side; its id is not used again.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// A connection that [`Wire::detach`] was called for is quiet now and can be sent to another core.
    Detached {
        /// The connection, whose id is not used again on this core.
        conn: ConnId,
        /// Handle for [`Wire::attach`] on the other core.
        socket: DetachedSocket,
    },
}

/// A connected socket on its way from one core to another.
#[derive(Debug)]
pub struct DetachedSocket {
    /// The driver's own handle of the socket (a file descriptor in the io_uring driver).
    pub handle: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
}

/// The time of a turn.
#[derive(Clone, Copy, Debug)]
pub struct TurnTime {
    /// Wall clock: deadlines and TIME are told by it.
    pub wall: UnixMillis,
    /// Microseconds of the wall clock within the millisecond, for TIME.
    pub wall_micros: u16,
    /// Monotonic clock in ns from an arbitrary start: durations are told by it.
    pub monotonic_ns: u64,
}

/// What a service wants of its driver after a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnResult {
    /// There is work left that needs no event: come back at once instead of waiting.
    pub busy: bool,
    /// Come back after at most this many ms even if nothing happens.
    pub wake_after_ms: Option<u32>,
    /// The service is done; stop the loop once all output is sent.
    pub stop: bool,
}

/// What a service may do with its connections and towards the other cores.
pub trait Wire {
    /// The engine's pinned value.
    type Pinned: Slices;
    /// What cores send each other.
    type Mail: Send;

    /// The reply buffer of a connection; `None` once it is closed. Everything in it is sent after
    /// the turn, in one batch with all other connections.
    fn out(&mut self, conn: ConnId) -> Option<&mut OutBuf<Self::Pinned>>;

    /// Reply bytes of a connection that are not sent yet, the ones in flight included.
    fn unsent_bytes(&self, conn: ConnId) -> usize;

    /// Stops reading from a connection until [`Wire::resume_reads`]; bytes already received may
    /// still arrive in this and a few later turns.
    fn pause_reads(&mut self, conn: ConnId);

    /// Reads on.
    fn resume_reads(&mut self, conn: ConnId);

    /// Closes a connection once its replies are sent.
    fn close_after_flush(&mut self, conn: ConnId);

    /// Closes a connection now; unsent replies are lost.
    fn close(&mut self, conn: ConnId);

    /// Sets whether silence is no reason to close a connection: a subscriber need not send anything.
    fn exempt_from_idle_timeout(&mut self, conn: ConnId, exempt: bool) {
        let _ = (conn, exempt);
    }

    /// Asks for a connection to be made ready for another core; [`Event::Detached`] follows once
    /// its output is sent and its last received bytes have been delivered.
    fn detach(&mut self, conn: ConnId);

    /// Takes over a connection from another core; events for it follow.
    fn attach(&mut self, socket: DetachedSocket) -> ConnId;

    /// Hands a message to another core; the driver wakes it after the turn. Gives the message back
    /// when that core's mailbox is full: keep it and try in the next turn.
    ///
    /// # Errors
    /// The message itself, if there is no room.
    fn send_mail(&mut self, to: CoreId, mail: Self::Mail) -> Result<(), Self::Mail>;
}

/// What runs on a core: the node's core, or a test's echo.
pub trait Service {
    /// The engine's pinned value.
    type Pinned: Slices;
    /// What cores send each other.
    type Mail: Send;

    /// A message of another core; called before `on_turn` of the same turn.
    fn on_mail<W>(&mut self, time: TurnTime, from: CoreId, mail: Self::Mail, wire: &mut W)
    where
        W: Wire<Pinned = Self::Pinned, Mail = Self::Mail>;

    /// One turn of the loop: `events` holds everything that happened since the last one (possibly
    /// nothing: turns also run on timers and for background work).
    fn on_turn<W>(&mut self, time: TurnTime, events: &[Event<'_>], wire: &mut W) -> TurnResult
    where
        W: Wire<Pinned = Self::Pinned, Mail = Self::Mail>;

    /// Whether replies to `conn` are still to come from elsewhere, such as another core. Asked about
    /// connections whose client has finished sending or that are to be detached: they are let go only
    /// when their replies are sent and none is owed any more.
    fn owes_reply(&self, conn: ConnId) -> bool {
        let _ = conn;
        false
    }
}
