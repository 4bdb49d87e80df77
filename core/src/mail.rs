//! What cores send each other. Requests for keys of another core travel in one hand-over per
//! destination and turn; the same box carries the answers home and is used again, so that a steady
//! stream of forwarded requests allocates nothing.

use pinnace_engine::PinnedValue;
use pinnace_protocol::wire::DetachedSocket;
use pinnace_protocol::{ArgRange, Args, resp};
use pinnace_types::{ConnId, KeyHash, ShardId};

use crate::answer::{Answer, Mark, View};
use crate::command::CommandId;
use crate::replies::Ticket;
use crate::server::control::Control;
use crate::session::Session;

/// A message between two cores of a node.
#[derive(Debug)]
pub enum Mail {
    /// Requests to answer.
    Ask(Box<Handover>),
    /// A hand-over on its way back, with its answers.
    Answer(Box<Handover>),
    /// Something to know; no answer is expected.
    Control(Box<Control>),
    /// A connection to take over.
    Adopt(Box<Adoption>),
}

/// A connection on its way to another core: the socket, and all the core knew of it.
#[derive(Debug)]
pub struct Adoption {
    /// The socket.
    pub socket: DetachedSocket,
    /// The session, with the bytes received but not yet worked on.
    pub session: SessionParcel,
}

/// A session that is quiet: nothing of it refers to the core it comes from.
#[derive(Debug)]
pub struct SessionParcel(pub Box<Session>);

/// Where an answer belongs.
#[derive(Clone, Copy, Debug)]
pub enum ReturnTo {
    /// A place in the reply queue of a RESP connection.
    Session {
        /// The connection.
        conn: ConnId,
        /// The place.
        ticket: Ticket,
    },
    /// A native connection; its answers carry their request id and need no order.
    Native {
        /// The connection.
        conn: ConnId,
    },
    /// Nowhere: the client wants no reply.
    Nobody,
    /// A part of a gathered command.
    Gather {
        /// The gather.
        id: u64,
        /// Which of its requests.
        part: u32,
    },
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// A keyed RESP command whose first key is hashed already.
    Keyed {
        /// The command.
        command: CommandId,
        /// Hash of the first key.
        hash: KeyHash,
        /// Shard of the first key.
        shard: ShardId,
    },
    /// The `part` function of a command.
    Part {
        /// The command.
        command: CommandId,
    },
    /// A native frame; its one "argument" is the whole frame.
    Native {
        /// Hash of the key.
        hash: KeyHash,
        /// Shard of the key.
        shard: ShardId,
    },
}

/// One request of a hand-over.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub(crate) ask: Ask,
    pub(crate) resp: resp::Version,
    pub(crate) return_to: ReturnTo,
    /// Hits count in the items' counters.
    pub(crate) touching: bool,
    bytes_start: usize,
    range_start: u32,
    range_count: u32,
    /// Where this request's answer ends in `answers`.
    answer_end: Mark,
}

/// Requests of one core for another, and the answers.
#[derive(Debug, Default)]
pub struct Handover {
    requests: Vec<Request>,
    ranges: Vec<ArgRange>,
    bytes: Vec<u8>,
    /// Large values that go with requests, by the index of the request.
    attached: Vec<(usize, PinnedValue)>,
    answers: Answer,
}

/// Buffers larger than this are not kept for the next use.
const KEEP_BYTES_MAX: usize = 1 << 20;

impl Handover {
    /// Whether no request is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Bytes of all requests.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a request by copying its arguments.
    pub fn push<'a>(
        &mut self,
        ask: Ask,
        resp: resp::Version,
        return_to: ReturnTo,
        touching: bool,
        args: impl Iterator<Item = &'a [u8]>,
    ) {
        let bytes_start = self.bytes.len();
        let range_start = self.ranges.len() as u32;
        for arg in args {
            let start = (self.bytes.len() - bytes_start) as u32;
            self.ranges.push(ArgRange { start, len: arg.len() as u32 });
            self.bytes.extend_from_slice(arg);
        }
        let range_count = self.ranges.len() as u32 - range_start;
        self.requests.push(Request {
            ask,
            resp,
            return_to,
            touching,
            bytes_start,
            range_start,
            range_count,
            answer_end: Mark::default(),
        });
    }

    /// Lets a large value go with the request that was added last.
    pub(crate) fn attach(&mut self, value: PinnedValue) {
        self.attached.push((self.requests.len() - 1, value));
    }

    /// Whether a large value goes with any request.
    #[inline]
    pub(crate) fn has_attached(&self) -> bool {
        !self.attached.is_empty()
    }

    /// The large value that goes with request `index`.
    pub(crate) fn attached(&self, index: usize) -> Option<&PinnedValue> {
        self.attached.iter().find(|(request, _)| *request == index).map(|(_, value)| value)
    }

    /// Request `index`.
    #[must_use]
    pub fn request(&self, index: usize) -> Request {
        self.requests[index]
    }

    /// The arguments of request `index`.
    #[must_use]
    pub fn args(&self, index: usize) -> Args<'_> {
        let request = &self.requests[index];
        let ranges = &self.ranges[request.range_start as usize..][..request.range_count as usize];
        Args::new(&self.bytes[request.bytes_start..], ranges)
    }

    /// Moves the requests from `index` on, none of them answered yet, to another hand-over.
    pub(crate) fn split_off(&mut self, index: usize, rest: &mut Self) {
        for request in index..self.requests.len() {
            let Request { ask, resp, return_to, touching, .. } = self.requests[request];
            rest.push(ask, resp, return_to, touching, self.args(request).iter());
            if let Some(value) = self.attached(request) {
                rest.attach(value.clone());
            }
        }
        self.attached.retain(|(request, _)| *request < index);
        self.requests.truncate(index);
    }

    /// Takes what answers are appended to, so that requests can be read meanwhile.
    pub(crate) fn take_answers(&mut self) -> Answer {
        std::mem::take(&mut self.answers)
    }

    pub(crate) fn set_answer_end(&mut self, index: usize, end: Mark) {
        self.requests[index].answer_end = end;
    }

    pub(crate) fn put_answers(&mut self, answers: Answer) {
        self.answers = answers;
    }

    /// The answer of request `index`.
    pub(crate) fn answer(&self, index: usize) -> View<'_> {
        let start = if index == 0 { Mark::default() } else { self.requests[index - 1].answer_end };
        self.answers.between(start, self.requests[index].answer_end)
    }

    /// Empties it for its next use.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.ranges.clear();
        self.attached = Vec::new();
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES_MAX);
        self.answers.clear(KEEP_BYTES_MAX);
    }
}
