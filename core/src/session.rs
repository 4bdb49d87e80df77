//! What a core knows of a connection.

use std::net::SocketAddr;

use pinnace_protocol::resp::{self, RespDecoder};
use pinnace_types::{ConnId, UnixMillis};

use crate::command::CommandId;
use crate::replies::ReplyQueue;
use crate::server::pubsub::Subscriptions;
use crate::tx::{Transaction, Watched};

/// Which protocol a connection speaks; its first byte tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing has been received yet.
    Undecided,
    /// RESP2 or RESP3, inline commands included.
    Resp,
    /// Native frames.
    Native,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// Replies are sent.
    On,
    /// No reply is sent until CLIENT REPLY ON.
    Off,
    /// The next command's reply is not sent.
    SkipNext,
    /// This command's reply is not sent.
    Skip,
}

/// Why the next command of a session has to wait. Bytes received meanwhile are kept in `partial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It has not.
    None,
    /// A command must be answered first.
    Barrier,
    /// Too many requests wait for other cores.
    Forwarded,
    /// The client does not read its replies.
    Output,
    /// Too many of its replies wait for the log to be synced.
    Unsynced,
    /// CLIENT PAUSE.
    Pause,
    /// It writes, and the next segment of a log is not ready yet.
    Segment,
    /// Replies are held back until this monotonic ns (DEBUG SLEEP).
    Until(u64),
    /// The connection is moving to another core.
    Moving,
}

/// Requests to other cores a session may have under way at first; grows while replies are small,
/// shrinks when they are large, so that a burst of large remote values cannot fill the memory.
const FORWARD_WINDOW_START: u32 = 4;
/// Replies up to this size let the window grow.
const FORWARD_SMALL_BYTES: usize = 4096;
/// Remote reply bytes a session may cause at a time, about.
const FORWARD_BYTES_MAX: usize = 4 << 20;

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// Number of the connection, unique within the node.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: Vec<u8>,
    /// RESP version, 2 until HELLO says 3.
    pub resp: resp::Version,
    /// When it connected.
    pub created: UnixMillis,
    /// When it sent something last, in monotonic ms.
    pub last_active_ms: u64,
    /// The last command.
    pub last_command: Option<CommandId>,
    /// Its channels and patterns.
    pub subscriptions: Subscriptions,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// MONITOR.
    pub monitor: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// Commands run.
    pub commands: u64,
    /// Bytes received.
    pub input_bytes: u64,
    /// Bytes replied.
    pub output_bytes: u64,
    /// The client speaks native frames rather than RESP.
    pub protocol: Protocol,
    /// Set when commands cannot take the short way: held, closing, queueing, subscribed, not
    /// replying. Kept by [`Session::refresh`].
    pub(crate) special: bool,
    /// It waits for messages rather than replies: the wire has been told that it may be silent.
    pub(crate) listens: bool,
    /// The client chose its core; the connection is not moved to even out the spread.
    pub(crate) placed: bool,
    pub(crate) closing: bool,
    /// To be closed once every reply that is awaited has been sent.
    pub(crate) close_when_answered: bool,
    pub(crate) hold: Hold,
    /// It is not read until its hold ends: enough has arrived meanwhile.
    pub(crate) reads_paused: bool,
    /// Which source's rest has been moved to `partial` since the hold began, plus one.
    pub(crate) spilled_source: u32,
    /// An incomplete request at the end of an event waits in the current batch.
    pub(crate) tail_in_batch: bool,
    pub(crate) decoder: RespDecoder,
    /// Received bytes that no command has been made of yet.
    pub(crate) partial: Vec<u8>,
    pub(crate) replies: ReplyQueue,
    /// What a native client is told last, behind the replies that are awaited.
    pub(crate) farewell: Vec<u8>,
    /// A NOOP that is answered once everything before it is; its request id.
    pub(crate) noop: Option<u32>,
    /// Native requests under way at other cores.
    pub(crate) native_waiting: u32,
    pub(crate) forward_window: u32,
    pub(crate) transaction: Option<Box<Transaction>>,
    pub(crate) watched: Vec<Watched>,
}

impl Session {
    pub(crate) fn new(
        id: u64,
        peer: SocketAddr,
        local: SocketAddr,
        created: UnixMillis,
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            peer,
            local,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            resp: resp::Version::V2,
            created,
            last_active_ms: now_ms,
            last_command: None,
            subscriptions: Subscriptions::default(),
            no_evict: false,
            no_touch: false,
            monitor: false,
            reply_mode: ReplyMode::On,
            commands: 0,
            input_bytes: 0,
            output_bytes: 0,
            protocol: Protocol::Undecided,
            special: false,
            listens: false,
            placed: false,
            closing: false,
            close_when_answered: false,
            hold: Hold::None,
            reads_paused: false,
            spilled_source: 0,
            tail_in_batch: false,
            decoder: RespDecoder::new(),
            partial: Vec::new(),
            replies: ReplyQueue::default(),
            farewell: Vec::new(),
            noop: None,
            native_waiting: 0,
            forward_window: FORWARD_WINDOW_START,
            transaction: None,
            watched: Vec::new(),
        }
    }

    /// Recomputes whether commands can take the short way.
    pub(crate) fn refresh(&mut self) {
        self.special = self.closing
            || self.hold != Hold::None
            || self.transaction.is_some()
            || self.reply_mode != ReplyMode::On
            || self.no_touch
            || (self.resp == resp::Version::V2 && self.subscriptions.count() > 0);
    }

    /// Makes the next command wait.
    pub(crate) fn hold(&mut self, reason: Hold) {
        self.hold = reason;
        self.spilled_source = 0;
        self.special = true;
    }

    /// Whether the reply of the command that is running is not to be sent.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.reply_mode, ReplyMode::Off | ReplyMode::Skip)
    }

    /// Requests at other cores that no answer has come for.
    pub(crate) fn forwarded(&self) -> u32 {
        self.replies.waiting() + self.native_waiting
    }

    /// A reply of `bytes` came from another core: adapts how many may be under way.
    pub(crate) fn on_forwarded_reply(&mut self, bytes: usize, window_max: u32) {
        self.forward_window = if bytes <= FORWARD_SMALL_BYTES {
            self.forward_window.saturating_add(1).min(window_max)
        } else {
            self.forward_window.min((FORWARD_BYTES_MAX / bytes).max(1) as u32)
        };
    }

    /// Commands queued by MULTI, if it is open.
    #[must_use]
    pub fn multi_len(&self) -> Option<usize> {
        self.transaction.as_ref().map(|transaction| transaction.len())
    }

    /// Keys under WATCH.
    #[must_use]
    pub fn watch_len(&self) -> usize {
        self.watched.len()
    }

    /// Bytes received that no command has been made of yet.
    #[must_use]
    pub fn query_buffer_len(&self) -> usize {
        self.partial.len()
    }
}

/// All sessions of a core, by connection.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    entries: Vec<Entry>,
    len: usize,
}

#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    session: Option<Session>,
}

impl Sessions {
    #[inline]
    pub(crate) fn get(&self, conn: ConnId) -> Option<&Session> {
        let entry = self.entries.get(conn.slab_index())?;
        if entry.generation == conn.generation { entry.session.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        let entry = self.entries.get_mut(conn.slab_index())?;
        if entry.generation == conn.generation { entry.session.as_mut() } else { None }
    }

    pub(crate) fn insert(&mut self, conn: ConnId, session: Session) {
        if self.entries.len() <= conn.slab_index() {
            self.entries.resize_with(conn.slab_index() + 1, Entry::default);
        }
        let entry = &mut self.entries[conn.slab_index()];
        assert!(entry.session.is_none(), "the driver gave out {conn:?} while its predecessor was open");
        *entry = Entry { generation: conn.generation, session: Some(session) };
        self.len += 1;
    }

    /// The connection that still has the place of `conn`: gone on the wire, not yet told so here.
    pub(crate) fn predecessor(&self, conn: ConnId) -> Option<ConnId> {
        let entry = self.entries.get(conn.slab_index())?;
        entry.session.as_ref().map(|_| ConnId { index: conn.index, generation: entry.generation })
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.get(conn)?;
        self.len -= 1;
        self.entries[conn.slab_index()].session.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Session)> + '_ {
        self.entries.iter().enumerate().filter_map(|(index, entry)| {
            let conn = ConnId { index: index as u32, generation: entry.generation };
            entry.session.as_ref().map(|session| (conn, session))
        })
    }
}
