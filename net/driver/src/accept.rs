//! New connections: accepted from a listener or taken over from another core.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};
use pinnace_protocol::Slices;
use pinnace_types::ConnId;
use socket2::{SockAddr, SockRef};

use crate::listen::Listener;
use crate::sockets::{Notice, Sockets, tick_of};
use crate::stats::add;
use crate::token::{self, Op};

/// What a client over the limit is told; Redis' words.
const REFUSAL: &[u8] = b"-ERR max number of clients reached\r\n";
/// Pause after an accept failed, for want of descriptors or memory perhaps: the next would fail as well.
const RETRY_NS: u64 = 50_000_000;

/// A listener and the state of its accept operation.
#[derive(Debug)]
pub(crate) struct Accepting {
    listener: Option<Listener>,
    pub(crate) is_armed: bool,
    /// Not armed again before this time; `None` if nothing is to be done.
    retry_at_ns: Option<u64>,
}

impl Accepting {
    pub(crate) fn new(listener: Listener) -> Self {
        Self { listener: Some(listener), is_armed: false, retry_at_ns: None }
    }
}

/// Accept operations have no generation: listeners are not replaced.
fn accept_id(index: usize) -> ConnId {
    ConnId { index: index as u32, generation: 0 }
}

impl<P: Slices, M: Send> Sockets<P, M> {
    /// Arms accept on all listeners.
    pub(crate) fn start_accepting(&mut self) {
        for index in 0..self.accepting.len() {
            self.arm_accept(index);
        }
    }

    /// Ends accept on all listeners and closes them.
    pub(crate) fn stop_accepting(&mut self) {
        for index in 0..self.accepting.len() {
            if self.accepting[index].is_armed {
                self.submit_cancel(Op::Accept, accept_id(index));
            }
            self.accepting[index].listener = None;
            self.accepting[index].retry_at_ns = None;
        }
    }

    fn arm_accept(&mut self, index: usize) {
        let accepting = &mut self.accepting[index];
        let Some(listener) = &accepting.listener else { return };
        accepting.is_armed = true;
        accepting.retry_at_ns = None;
        // Blocking sockets on purpose: for non-blocking ones the ring reports EAGAIN instead of waiting.
        let entry =
            opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.submit_plain(&entry.user_data(token::encode(Op::Accept, accept_id(index))));
    }

    pub(crate) fn on_accept(&mut self, index: usize, completion: &cqueue::Entry) {
        if !cqueue::more(completion.flags()) {
            self.accepting[index].is_armed = false;
        }
        let result = completion.result();
        if result >= 0 {
            // SAFETY: the completion of an accept hands over a new descriptor, once.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            self.welcome(socket);
        } else if result != -libc::ECANCELED {
            add(&self.stats.accept_errors, 1);
        }
        if self.accepting[index].is_armed {
            return;
        }
        // Ended without a failure, or by a client that was gone before it was accepted: go on at once.
        let goes_on = result >= 0 || matches!(-result, libc::ECONNABORTED | libc::EINTR | libc::ECANCELED);
        if goes_on {
            self.arm_accept(index);
        } else {
            self.accepting[index].retry_at_ns = Some(self.now_ns + RETRY_NS);
        }
    }

    /// Arms accepts whose pause is over; when the next one is.
    pub(crate) fn retry_accepts(&mut self) -> Option<u64> {
        let mut next = None;
        for index in 0..self.accepting.len() {
            match self.accepting[index].retry_at_ns {
                Some(at_ns) if at_ns <= self.now_ns => self.arm_accept(index),
                Some(at_ns) => next = Some(next.map_or(at_ns, |next: u64| next.min(at_ns))),
                None => {}
            }
        }
        next
    }

    fn welcome(&mut self, socket: OwnedFd) {
        if self.is_stopping {
            return;
        }
        let Ok((peer, local)) = addresses(&socket) else {
            // Reset before it was accepted.
            add(&self.stats.accept_errors, 1);
            return;
        };
        if !self.budget.try_enter() {
            add(&self.stats.accepts_refused, 1);
            refuse(&socket);
            return;
        }
        match self.admit(socket) {
            Ok(conn) => {
                add(&self.stats.accepts, 1);
                self.notices.push_back(Notice::Accepted { conn, peer, local });
            }
            Err(socket) => {
                self.budget.leave();
                add(&self.stats.accepts_refused, 1);
                refuse(&socket);
            }
        }
    }

    /// Takes over a socket that another core detached. If there is no slot for it, it is closed and
    /// its id reported so.
    pub(crate) fn adopt(&mut self, socket: OwnedFd) -> ConnId {
        add(&self.stats.attached, 1);
        self.admit(socket).unwrap_or_else(|_full| {
            self.budget.leave();
            add(&self.stats.closed, 1);
            let never = ConnId { index: u32::MAX, generation: self.turn };
            self.notices.push_back(Notice::Closed(never));
            never
        })
    }

    fn admit(&mut self, socket: OwnedFd) -> Result<ConnId, OwnedFd> {
        let fd = socket.as_raw_fd();
        let id = self.slab.insert(socket)?;
        if self.uring.set_file(id.index, fd).is_err() {
            return Err(self.slab.remove(id).expect("it was inserted above"));
        }
        let tick = tick_of(self.now_ns);
        let conn = self.slab.get_mut(id).expect("it was inserted above");
        conn.active_tick = tick;
        add(&self.stats.connections, 1);
        self.arm_receive(id);
        Ok(id)
    }
}

/// The client's address and the one it connected to; IPv4 clients of an IPv6 socket as IPv4.
pub(crate) fn addresses(socket: &OwnedFd) -> io::Result<(SocketAddr, SocketAddr)> {
    let plain = |address: SockAddr| {
        let address = address.as_socket().ok_or_else(|| io::Error::other("not an IP address"))?;
        Ok::<_, io::Error>(SocketAddr::new(address.ip().to_canonical(), address.port()))
    };
    let socket = SockRef::from(socket);
    Ok((plain(socket.peer_addr()?)?, plain(socket.local_addr()?)?))
}

/// Tells a client that there is no room. What it has sent already is read first: unread bytes would
/// turn the close into a reset, and the client might not see the reason.
fn refuse(socket: &OwnedFd) {
    let socket = SockRef::from(socket);
    let _ = socket.send_with_flags(REFUSAL, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut scratch = [std::mem::MaybeUninit::uninit(); 4096];
    let _ = socket.recv_with_flags(&mut scratch, libc::MSG_DONTWAIT);
}
