//! The connections of one core, by index and generation.

use std::os::fd::OwnedFd;

use pinnace_protocol::{OutBuf, Slices};
use pinnace_types::ConnId;

use crate::outgoing::Outgoing;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The slot holds no connection.
    Free,
    /// Both directions work.
    Open,
    /// The client has finished sending; it may still want the replies it is owed.
    HalfClosed,
    /// To be closed once its replies are sent; what it sends is ignored.
    Flushing,
    /// All is sent and our direction is shut; waits for the client to hang up, so that unread requests
    /// do not turn the close into a reset that destroys the replies.
    Lingering,
    /// To be released as soon as no operation refers to it.
    Dying,
}

/// The receive operation of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    /// None in flight.
    Idle,
    /// One in flight.
    Armed,
    /// One in flight that was asked to end.
    Cancelled,
}

/// Reasons not to read from a connection, as bits.
pub(crate) mod pause {
    /// The service asked for it.
    pub(crate) const SERVICE: u8 = 1;
    /// The client does not read its replies.
    pub(crate) const OUTPUT: u8 = 2;
    /// It is leaving for another core.
    pub(crate) const DETACH: u8 = 4;
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn<P> {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) receive: Receive,
    /// Bits of [`pause`].
    pub(crate) paused: u8,
    /// Over the output limit, and read on all the same.
    pub(crate) is_over: bool,
    /// Whether it is in the list of connections to flush at the end of the turn.
    pub(crate) is_dirty: bool,
    /// Whether it is in the list of receives to arm at the end of the turn.
    pub(crate) is_rearming: bool,
    /// Whether the client has finished sending.
    pub(crate) eof: bool,
    /// Receives left that take one buffer at a time, after it took more than its share.
    pub(crate) single_left: u8,
    /// Provided buffers it took in turn `turn`.
    pub(crate) turn_buffers: u16,
    pub(crate) turn: u32,
    /// When bytes last moved, in [`crate::sockets::Sockets`] ticks.
    pub(crate) active_tick: u32,
    /// When it was last counted among the clients heard, in the same ticks.
    pub(crate) heard_tick: u32,
    /// `active_tick` when the socket was last looked at for a reset that the ring did not report.
    pub(crate) probed_tick: u32,
    /// Silence is no reason to close it.
    pub(crate) may_be_idle: bool,
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) out: OutBuf<P>,
    pub(crate) outgoing: Outgoing<P>,
    /// What of [`Conn::owned_bytes`] is in the core's total.
    pub(crate) owned_counted: usize,
}

impl<P: Slices> Conn<P> {
    fn vacant() -> Self {
        Self {
            generation: 0,
            phase: Phase::Free,
            receive: Receive::Idle,
            paused: 0,
            is_over: false,
            is_dirty: false,
            is_rearming: false,
            eof: false,
            single_left: 0,
            turn_buffers: 0,
            turn: 0,
            active_tick: 0,
            heard_tick: 0,
            probed_tick: 0,
            may_be_idle: false,
            socket: None,
            out: OutBuf::new(),
            outgoing: Outgoing::Idle,
            owned_counted: 0,
        }
    }

    /// Whether replies may still be written.
    #[inline]
    pub(crate) fn takes_replies(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::HalfClosed | Phase::Flushing)
    }

    /// Reply bytes not sent yet.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.out.byte_len() + self.outgoing.remaining()
    }

    /// Memory held by reply bytes that are not sent yet, pinned values not counted.
    #[inline]
    pub(crate) fn owned_bytes(&self) -> usize {
        self.out.owned_bytes() + self.outgoing.owned_bytes()
    }

    /// Whether a receive should be in flight.
    #[inline]
    pub(crate) fn wants_receive(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Flushing => self.paused == 0 && !self.eof,
            Phase::Lingering => !self.eof,
            Phase::Free | Phase::HalfClosed | Phase::Dying => false,
        }
    }
}

/// All connections of a core. Slots are reused most recently freed first, while they are in the cache.
#[derive(Debug)]
pub(crate) struct Slab<P> {
    conns: Vec<Conn<P>>,
    free: Vec<u32>,
    slots_max: u32,
}

impl<P: Slices> Slab<P> {
    pub(crate) fn new(slots_max: u32) -> Self {
        Self { conns: Vec::new(), free: Vec::new(), slots_max }
    }

    /// Takes a slot for a socket; gives the socket back if there is none.
    pub(crate) fn insert(&mut self, socket: OwnedFd) -> Result<ConnId, OwnedFd> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.conns.len() < self.slots_max as usize => {
                self.conns.push(Conn::vacant());
                (self.conns.len() - 1) as u32
            }
            None => return Err(socket),
        };
        let conn = &mut self.conns[index as usize];
        let generation = conn.generation;
        *conn = Conn { generation, phase: Phase::Open, socket: Some(socket), ..Conn::vacant() };
        Ok(ConnId { index, generation })
    }

    /// Frees a slot; its id is dead from now on.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<OwnedFd> {
        let conn = self.get_mut(id)?;
        let socket = conn.socket.take();
        *conn = Conn { generation: id.generation.wrapping_add(1), ..Conn::vacant() };
        self.free.push(id.index);
        socket
    }

    /// The connection, unless it is gone.
    #[inline]
    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn<P>> {
        let conn = self.conns.get(id.slab_index())?;
        (conn.generation == id.generation && conn.phase != Phase::Free).then_some(conn)
    }

    /// The connection, unless it is gone.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn<P>> {
        let conn = self.conns.get_mut(id.slab_index())?;
        (conn.generation == id.generation && conn.phase != Phase::Free).then_some(conn)
    }

    /// Number of connections.
    pub(crate) fn len(&self) -> usize {
        self.conns.len() - self.free.len()
    }

    /// Slots ever used.
    pub(crate) fn slot_count(&self) -> usize {
        self.conns.len()
    }

    /// The connection in a slot, if there is one.
    pub(crate) fn id_at(&self, index: usize) -> Option<ConnId> {
        let conn = self.conns.get(index)?;
        (conn.phase != Phase::Free).then_some(ConnId { index: index as u32, generation: conn.generation })
    }

    /// All connections.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        (0..self.conns.len()).filter_map(|index| self.id_at(index)).collect()
    }

    /// Gives all memory up without freeing it: for operations that could not be ended.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.conns));
    }
}

#[cfg(test)]
mod tests {
    use super::Slab;
    use pinnace_protocol::Slices;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    struct Nothing;
    impl Slices for Nothing {
        fn slice_count(&self) -> usize {
            0
        }
        fn slice(&self, _index: usize) -> &[u8] {
            &[]
        }
    }

    fn fd() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_slot_is_reused_under_another_generation() {
        let mut slab = Slab::<Nothing>::new(2);
        let first = slab.insert(fd()).unwrap();
        assert!(slab.remove(first).is_some());
        let second = slab.insert(fd()).unwrap();
        assert_eq!(first.index, second.index);
        assert_ne!(first.generation, second.generation);
        assert!(slab.get(first).is_none() && slab.get_mut(first).is_none() && slab.remove(first).is_none());
        assert!(slab.get(second).is_some());
    }

    #[test]
    fn a_full_slab_gives_the_socket_back() {
        let mut slab = Slab::<Nothing>::new(1);
        let only = slab.insert(fd()).unwrap();
        assert!(slab.insert(fd()).is_err());
        assert_eq!((slab.len(), slab.ids()), (1, vec![only]));
    }
}
