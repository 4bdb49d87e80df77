//! Commands that need other cores, or more than one step: requests go out as mail, the parts come
//! back, a continuation joins them into the reply that the session has been waiting for.
//!
//! The single-key hot path does not come through here: see `forward.rs`.

use pinnace_engine::PinnedValue;
use pinnace_protocol::resp;
use pinnace_types::{ConnId, CoreId};

use crate::answer::Answer;
use crate::command::CommandId;
use crate::core::Core;

/// The session a command came from.
#[derive(Clone, Copy, Debug)]
pub struct SessionRef {
    /// The connection on this core.
    pub conn: ConnId,
    /// Its RESP version at the time of the command.
    pub resp: resp::Version,
}

/// How a session command ended.
pub enum Outcome {
    /// The reply is written (or none is due, as for CLIENT REPLY OFF).
    Replied,
    /// The reply follows once other cores have answered; the session's later replies wait for it.
    Gather(Gather),
    /// The reply is written; it is sent, and the session's next command runs, at this instant.
    ReplyAt {
        /// Monotonic ns.
        monotonic_ns: u64,
    },
}

/// What to ask of which cores, and what to do with the answers.
pub struct Gather {
    /// The requests. A core may occur more than once; this core may occur as well.
    pub requests: Vec<PartRequest>,
    /// Called with one part per request, in the order of the requests.
    pub then: Then,
    /// Whether the session's next command waits until this one is answered: set where a later
    /// command of the same connection depends on the outcome (WATCH, CLIENT PAUSE, RENAME ...).
    pub barrier: bool,
    /// Whether it waits until no other such gather of this core is under way: set where a large value
    /// is built beside the engine's memory.
    pub alone: bool,
    /// After this long `then` is called with what has come, and an empty part for what has not; 0: never.
    pub timeout_ms: u64,
}

/// One request to one core.
pub struct PartRequest {
    /// The core asked, possibly this one.
    pub to: CoreId,
    /// The command whose `part` function runs there; or, if it has none, whose keyed function does.
    pub command: CommandId,
    /// The arguments, the command's name first.
    pub args: Vec<Vec<u8>>,
    /// A large value to go with them, for the part's function to take.
    pub large: Option<PinnedValue>,
}

/// Joins parts that are bytes.
pub type Continuation = Box<dyn FnOnce(&mut Core, SessionRef, Vec<Vec<u8>>) -> Next>;

/// Joins parts that may hold large values.
pub(crate) type LargeContinuation = Box<dyn FnOnce(&mut Core, SessionRef, Vec<Answer>) -> Next>;

/// Joins the parts.
pub enum Then {
    /// The parts are bytes.
    Plain(Continuation),
    /// The parts may hold large values.
    Large(LargeContinuation),
}

impl Then {
    pub(crate) fn run(self, core: &mut Core, session: SessionRef, parts: Vec<Answer>) -> Next {
        match self {
            Self::Plain(then) => then(core, session, parts.into_iter().map(Answer::into_bytes).collect()),
            Self::Large(then) => then(core, session, parts),
        }
    }
}

/// What follows a join.
pub enum Next {
    /// The reply: exactly one RESP value.
    Reply(Vec<u8>),
    /// As `Reply`, with large values in it.
    Large(Answer),
    /// Another round.
    Gather(Gather),
}

impl Gather {
    /// Asks every core of the node the same.
    pub fn from_all(core: &Core, command: CommandId, args: &[&[u8]], then: Continuation) -> Self {
        let requests = (0..core.core_count())
            .map(|index| PartRequest {
                to: CoreId(index),
                command,
                args: args.iter().map(|arg| arg.to_vec()).collect(),
                large: None,
            })
            .collect();
        Self { requests, then: Then::Plain(then), barrier: false, alone: false, timeout_ms: 0 }
    }

    /// Makes the session wait for the answer before its next command.
    #[must_use]
    pub fn with_barrier(mut self) -> Self {
        self.barrier = true;
        self
    }
}

/// Joins parts that are each a RESP integer by adding them.
#[must_use]
pub fn sum_of(parts: &[Vec<u8>]) -> i64 {
    parts.iter().filter_map(|part| parse_integer(part)).fold(0i64, i64::saturating_add)
}

/// The first part that is a RESP error, if there is one.
#[must_use]
pub fn first_error(parts: &[Vec<u8>]) -> Option<&Vec<u8>> {
    parts.iter().find(|part| part.first() == Some(&b'-'))
}

fn parse_integer(part: &[u8]) -> Option<i64> {
    std::str::from_utf8(part.strip_prefix(b":")?.strip_suffix(b"\r\n")?).ok()?.parse().ok()
}
