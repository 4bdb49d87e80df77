//! The client side of the socket ring: one io_uring over connected sockets, for load generators.
//!
//! Sends are batches: the caller fills a byte vector and exchanges it for an empty one; a connection
//! has at most one send in flight, so bytes leave in order. Receives are multishot into one pool of
//! provided buffers and are shown to the caller as slices that live for one callback.
//!
//! What it does not do: connect, resolve names, keep time, know a protocol, or serve (the node's
//! driver does). One thread owns a ring and everything in it.
//!
//! Invariants: a vector given to the kernel is neither touched nor dropped before its completion; a
//! provided buffer is shown to the caller only between its completion and its return to the ring.

mod buffers;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use buffers::BufferRing;

const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const CONNECTION_MASK: u64 = u32::MAX as u64;
const BUFFER_GROUP: u16 = 0;
/// Turns that a dropped ring waits for the kernel to let go of its memory, 10 ms each.
const CLOSE_TURNS_MAX: u32 = 200;

/// The size of a ring.
#[derive(Clone, Copy, Debug)]
pub struct ClientRingConfig {
    /// Submission entries: a power of two; two a connection save system calls.
    pub entries: u32,
    /// Provided buffers of the pool: a power of two, at most 32768.
    pub buffer_count: u16,
    /// Bytes of each provided buffer.
    pub buffer_bytes: u32,
}

/// How long a turn may wait for the first completion.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    For(Duration),
}

/// What happened to a connection.
#[derive(Debug)]
pub enum ClientEvent<'a> {
    /// Bytes arrived; never empty.
    Data(&'a [u8]),
    /// A send completed: [`ClientRing::send`] takes bytes again.
    Sent,
    /// The connection is of no more use: closed by the peer (`None`) or failed.
    Closed(Option<io::Error>),
}

/// One connected socket and what the kernel holds of it.
struct Socket {
    stream: TcpStream,
    /// The bytes of the send under way; empty when there is none.
    sending: Vec<u8>,
    sent: usize,
    receiving: bool,
    closed: bool,
}

/// An io_uring over connected sockets.
pub struct ClientRing {
    ring: IoUring,
    buffers: BufferRing,
    sockets: Vec<Socket>,
    completions: Vec<(u64, i32, u32)>,
}

impl ClientRing {
    /// A ring over `streams`, which are known by their index from now on.
    ///
    /// # Errors
    /// If the kernel refuses a ring of this kind (older than 6.1, or io_uring is blocked).
    pub fn new(config: ClientRingConfig, streams: Vec<TcpStream>) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(config.entries.saturating_mul(4).max(4096))
            .build(config.entries)?;
        let descriptors: Vec<_> = streams.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&descriptors)?;
        let buffers = BufferRing::register(&ring, BUFFER_GROUP, config.buffer_count, config.buffer_bytes)?;
        let sockets = streams
            .into_iter()
            .map(|stream| Socket { stream, sending: Vec::new(), sent: 0, receiving: false, closed: false })
            .collect();
        let mut this = Self { ring, buffers, sockets, completions: Vec::with_capacity(4096) };
        for index in 0..this.sockets.len() {
            this.arm_receive(index)?;
        }
        Ok(this)
    }

    /// Whether a send of this connection is under way.
    #[inline]
    #[must_use]
    pub fn is_sending(&self, connection: usize) -> bool {
        !self.sockets[connection].sending.is_empty()
    }

    /// Sends `bytes` with the next turn, leaving an empty vector in their place. Does nothing and
    /// returns `false` while the last send is under way, or when the connection is closed.
    ///
    /// # Errors
    /// If the kernel takes no submissions.
    pub fn send(&mut self, connection: usize, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let socket = &mut self.sockets[connection];
        if bytes.is_empty() || !socket.sending.is_empty() || socket.closed {
            return Ok(false);
        }
        std::mem::swap(&mut socket.sending, bytes);
        socket.sent = 0;
        self.submit_send(connection)?;
        Ok(true)
    }

    /// Submits what waits, takes what completed and tells `on_event` of it, connection by connection.
    ///
    /// # Errors
    /// If the ring itself fails; failures of one connection are events.
    pub fn turn(&mut self, wait: Wait, mut on_event: impl FnMut(usize, ClientEvent<'_>)) -> io::Result<()> {
        self.enter(wait)?;
        let mut completions = std::mem::take(&mut self.completions);
        completions
            .extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        for (data, result, flags) in completions.drain(..) {
            let connection = (data & CONNECTION_MASK) as usize;
            if data & RECEIVE != 0 {
                self.on_received(connection, result, flags, &mut on_event)?;
            } else {
                self.on_sent(connection, result, &mut on_event)?;
            }
        }
        self.completions = completions;
        self.buffers.publish();
        Ok(())
    }

    /// Closes a connection from this side; [`ClientEvent::Closed`] follows.
    pub fn close(&mut self, connection: usize) {
        // A socket that is gone already needs no shutdown.
        let _ = self.sockets[connection].stream.shutdown(Shutdown::Both);
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let entered = match wait {
            Wait::No => self.ring.submitter().submit_and_wait(0),
            Wait::For(time) => {
                let limit = types::Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&limit))
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if ends_wait(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn on_received(
        &mut self,
        connection: usize,
        result: i32,
        flags: u32,
        on_event: &mut impl FnMut(usize, ClientEvent<'_>),
    ) -> io::Result<()> {
        let more = cqueue::more(flags);
        self.sockets[connection].receiving = more;
        if let Some(buffer) = cqueue::buffer_select(flags) {
            if result > 0 && !self.sockets[connection].closed {
                on_event(
                    connection,
                    ClientEvent::Data(self.buffers.bytes(buffer, result.unsigned_abs() as usize)),
                );
            }
            self.buffers.give_back(buffer);
        }
        if result == 0 || (result < 0 && result != -libc::ENOBUFS) {
            self.on_closed(connection, result, on_event);
        } else if !more && !self.sockets[connection].closed {
            // Out of buffers, or the kernel ended the multishot: the buffers are back by now.
            self.buffers.publish();
            self.arm_receive(connection)?;
        }
        Ok(())
    }

    fn on_sent(
        &mut self,
        connection: usize,
        result: i32,
        on_event: &mut impl FnMut(usize, ClientEvent<'_>),
    ) -> io::Result<()> {
        let socket = &mut self.sockets[connection];
        if result < 0 {
            socket.sending.clear();
            self.on_closed(connection, result, on_event);
            return Ok(());
        }
        socket.sent += result.unsigned_abs() as usize;
        if socket.sent < socket.sending.len() {
            return self.submit_send(connection);
        }
        socket.sending.clear();
        if !socket.closed {
            on_event(connection, ClientEvent::Sent);
        }
        Ok(())
    }

    fn on_closed(
        &mut self,
        connection: usize,
        result: i32,
        on_event: &mut impl FnMut(usize, ClientEvent<'_>),
    ) {
        let socket = &mut self.sockets[connection];
        if !socket.closed {
            socket.closed = true;
            // Ends the other direction, whose memory the kernel may still hold.
            let _ = socket.stream.shutdown(Shutdown::Both);
            let error = (result < 0).then(|| io::Error::from_raw_os_error(-result));
            on_event(connection, ClientEvent::Closed(error));
        }
    }

    fn arm_receive(&mut self, connection: usize) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(types::Fixed(connection as u32), BUFFER_GROUP)
            .build()
            .user_data(RECEIVE | connection as u64);
        self.sockets[connection].receiving = true;
        self.push(&entry)
    }

    fn submit_send(&mut self, connection: usize) -> io::Result<()> {
        let socket = &self.sockets[connection];
        let rest = &socket.sending[socket.sent..];
        let bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fixed(connection as u32), rest.as_ptr(), bytes)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(SEND | connection as u64);
        self.push(&entry)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the memory an entry points to is a `sending` vector, which is left alone until
            // its completion and outlives the ring (`Drop` waits for it), or the buffer pool, which
            // this ring owns as well.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn is_quiet(&self) -> bool {
        self.sockets.iter().all(|socket| socket.sending.is_empty() && !socket.receiving)
    }
}

impl std::fmt::Debug for ClientRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientRing").field("connections", &self.sockets.len()).finish_non_exhaustive()
    }
}

impl Drop for ClientRing {
    /// Shuts every connection down and waits until the kernel holds no memory of ours any more.
    fn drop(&mut self) {
        for socket in &mut self.sockets {
            socket.closed = true;
            // A socket that is gone already needs no shutdown.
            let _ = socket.stream.shutdown(Shutdown::Both);
        }
        for _ in 0..CLOSE_TURNS_MAX {
            if self.is_quiet() || self.turn(Wait::For(Duration::from_millis(10)), |_, _| ()).is_err() {
                break;
            }
        }
        if !self.is_quiet() {
            // Rather a leak than memory that the kernel still writes to.
            for socket in &mut self.sockets {
                std::mem::forget(std::mem::take(&mut socket.sending));
            }
            self.buffers.leak();
        }
    }
}

/// Errors of a wait that mean no more than "come back later".
fn ends_wait(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

#[cfg(test)]
mod tests;
