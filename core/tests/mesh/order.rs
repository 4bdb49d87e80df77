//! What happens to a core one turn at a time, in an order that the test draws.
//!
//! As in the driver, a turn collects what there is to tell, reads mail, and then tells; and the place
//! of a connection is free as soon as it has been let go, a turn before its core is told so.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use pinnace_core::Mail;
use pinnace_protocol::wire::{DetachedSocket, Event, Service};
use pinnace_types::{ConnId, CoreId, Limits};

use super::{Client, Mesh};

/// What a core is told in its next turn.
enum Told {
    Data(ConnId, Vec<u8>),
    Drained(ConnId),
    Detached(ConnId, u64),
}

/// Mail and events under way in a mesh, and the sockets behind its connections.
#[derive(Default)]
pub struct Order {
    told: Vec<Vec<Told>>,
    /// `mail[to][from]`, oldest first.
    mail: Vec<Vec<VecDeque<Mail>>>,
    /// Where each socket is; nowhere while it moves. The handle of a socket is its index here.
    places: Vec<Option<Client>>,
    /// How many connections have changed their core.
    pub moves: usize,
}

impl Order {
    /// Nothing under way between `core_count` cores.
    pub fn new(core_count: usize) -> Self {
        let mailboxes = || (0..core_count).map(|_| VecDeque::new()).collect();
        let mail = (0..core_count).map(|_| mailboxes()).collect();
        let told = (0..core_count).map(|_| Vec::new()).collect();
        Self { told, mail, places: Vec::new(), moves: 0 }
    }

    /// A new socket that is connected to a core.
    pub fn connect(&mut self, mesh: &mut Mesh, core: usize) -> usize {
        self.places.push(Some(mesh.connect(core)));
        self.collect_mail(mesh, core);
        self.places.len() - 1
    }

    /// Whether a socket is read at the moment. Bytes may still come from one that is about to leave.
    pub fn is_read(&self, mesh: &Mesh, socket: usize) -> bool {
        self.places[socket].is_some_and(|at| mesh.is_read(at))
    }

    /// Bytes of a socket that its core is told of in its next turn.
    pub fn send(&mut self, socket: usize, bytes: &[u8]) {
        let at = self.places[socket].expect("the socket is read");
        self.told[at.core].push(Told::Data(at.conn, bytes.to_vec()));
    }

    /// What the core has for a socket is sent.
    pub fn take(&mut self, mesh: &mut Mesh, socket: usize) -> Vec<u8> {
        let Some(at) = self.places[socket] else { return Vec::new() };
        let bytes = mesh.take_silently(at);
        if bytes.len() as u64 > Limits::DEFAULT.output_pause_bytes {
            self.told[at.core].push(Told::Drained(at.conn));
        }
        bytes
    }

    /// A core's turn, with up to `mails` messages of each core.
    pub fn turn(&mut self, mesh: &mut Mesh, core: usize, mails: usize) {
        let told = std::mem::take(&mut self.told[core]);
        let time = mesh.time();
        let (service, wire) = &mut mesh.cores[core];
        for (from, mailbox) in self.mail[core].iter_mut().enumerate() {
            for mail in mailbox.drain(..mails.min(mailbox.len())) {
                service.on_mail(time, CoreId(from as u16), mail, wire);
            }
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7700));
        let events = told.iter().map(|told| match told {
            Told::Data(conn, bytes) => Event::Data { conn: *conn, bytes },
            Told::Drained(conn) => Event::Drained { conn: *conn },
            Told::Detached(conn, handle) => {
                let socket = DetachedSocket { handle: *handle, peer: address, local: address };
                Event::Detached { conn: *conn, socket }
            }
        });
        let events: Vec<Event<'_>> = events.collect();
        service.on_turn(time, &events, wire);
        for (handle, conn) in wire.arrived.drain(..) {
            let was = self.places[handle as usize].replace(Client { core, conn });
            assert!(was.is_none(), "the socket {handle} is in two places");
            self.moves += 1;
        }
        mesh.write(core);
        self.collect_mail(mesh, core);
    }

    /// Lets go of a connection that a core wants to give away, if one is quiet.
    pub fn let_go(&mut self, mesh: &mut Mesh, core: usize) {
        let (service, wire) = &mut mesh.cores[core];
        let told = &self.told[core];
        let is_quiet = |conn: ConnId| {
            // What was received before is told first.
            let is_told = told.iter().any(|told| matches!(told, Told::Data(at, _) if *at == conn));
            !is_told && wire.out[&conn].byte_len() == 0 && !service.owes_reply(conn)
        };
        let Some(at) = wire.leaving.iter().position(|&conn| is_quiet(conn)) else { return };
        let conn = wire.leaving.swap_remove(at);
        wire.out.remove(&conn);
        wire.free.push(ConnId { generation: conn.generation + 1, ..conn });
        let is_here = |place: &Option<Client>| place.is_some_and(|at| at.core == core && at.conn == conn);
        let handle = self.places.iter().position(is_here).expect("the connection has a socket");
        self.places[handle] = None;
        self.told[core].push(Told::Detached(conn, handle as u64));
    }

    fn collect_mail(&mut self, mesh: &mut Mesh, from: usize) {
        for (to, mail) in mesh.cores[from].1.mail.drain(..) {
            self.mail[to.index()][from].push_back(mail);
        }
    }
}

impl super::TestWire {
    /// A place for a socket that arrives.
    pub(super) fn place(&mut self) -> ConnId {
        self.free.pop().unwrap_or_else(|| {
            let used = self.out.keys().map(|conn| conn.index + 1).max().unwrap_or(0);
            ConnId { index: used.max(ARRIVALS), generation: 0 }
        })
    }
}

/// Indexes from here on are for connections that came from other cores.
const ARRIVALS: u32 = 1 << 8;
