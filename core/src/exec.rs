//! What a keyed command runs against: the owning core's keyspace and the reply it writes.

use pinnace_engine::{Key, Keyspace, PinnedValue};
use pinnace_protocol::{Args, OutBuf, resp};
use pinnace_types::{Limits, Prng};

use crate::stats::CoreStats;

/// The context of one keyed command on the core that owns its keys.
///
/// It knows no connection: the same command runs for a client of this core and for one of another.
/// Every mutation goes through `Keyspace::{set, set_parts, delete, set_deadline}`, the three effects
/// that a log can carry.
pub struct Exec<'x> {
    /// The keyspace of this core; its clock is set.
    pub ks: &'x mut Keyspace,
    /// Where the reply goes: exactly one RESP value per command.
    pub out: &'x mut OutBuf<PinnedValue>,
    /// The RESP version of the client.
    pub resp: resp::Version,
    /// The first key of the command, already hashed by the router.
    pub first_key: Key<'x>,
    /// A reusable buffer for values under construction; its content is undefined on entry.
    pub scratch: &'x mut Vec<u8>,
    /// For RANDOMKEY and the like.
    pub prng: &'x mut Prng,
    /// What clients may send.
    pub limits: &'x Limits,
    /// Counters of this core.
    pub stats: &'x mut CoreStats,
}

impl<'x> Exec<'x> {
    /// Hashes a key of the command; use [`Exec::first_key`] for the first one.
    #[must_use]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        self.ks.key(bytes)
    }

    /// Replies with an error and counts it. `text` starts with its code: `ERR ...`, `WRONGTYPE ...`.
    #[cold]
    pub fn error(&mut self, text: &str) {
        self.stats.count_error(text);
        error_line(self.out.bytes(), text);
    }

    /// Replies `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.bytes().extend_from_slice(b"+OK\r\n");
    }

    /// Replies with an integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        resp::integer(self.out.bytes(), value);
    }

    /// Replies with a bulk string.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        resp::bulk(self.out.bytes(), value);
    }

    /// Replies with the null of the client's RESP version.
    #[inline]
    pub fn null(&mut self) {
        resp::null(self.out.bytes(), self.resp);
    }
}

/// What a client sent, for an error text: a character per byte. Error texts are written with
/// [`error_line`], which makes bytes of the characters again, so that the client gets its own bytes
/// back whatever they are.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Appends an error reply; every character of `text` is one byte. As in Redis, line ends at the end
/// are dropped and others become spaces.
pub(crate) fn error_line(out: &mut Vec<u8>, text: &str) {
    let byte = |character| match character {
        '\r' | '\n' => b' ',
        other => u8::try_from(other).unwrap_or(b'?'),
    };
    let bytes: Vec<u8> = text.trim_end_matches(['\r', '\n']).chars().map(byte).collect();
    resp::error(out, bytes);
}

/// A keyed command: runs on the core that owns all its keys.
pub type KeyedRun = fn(&mut Exec<'_>, Args<'_>);
