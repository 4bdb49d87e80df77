//! The effects of one core as native frames in its log.

use std::cell::RefCell;
use std::rc::Rc;

use pinnace_engine::{EffectSink, Key, WriteError};
use pinnace_protocol::Args;
use pinnace_protocol::native::{self, Header, Opcode};
use pinnace_types::{CommitNumber, Deadline, KeyHash, ShardId, UnixMillis};
use pinnace_wal::{LogLimits, LogRoom, LogWriter};

use crate::command::{CommandSpec, Flags};

/// Keys are told apart by this many bits of their hash: 32 KiB, which stays in the second-level cache, and a read of a
/// key that is not in flight meets a false one rarely.
const IN_FLIGHT_BITS: u32 = 12;

/// The clock is logged again when it has gone on by this much: what expires during a replay is expired late by no more.
const CLOCK_STEP_MS: u64 = 1000;

/// Room that a command must find before it runs. What it writes is checked again, by its size; this is for its deletes.
const ADMIT_BYTES: u64 = 64 << 10;
/// Room that is left to them when the size of a value is checked.
const ADMIT_RESERVE_BYTES: u64 = 32 << 10;

/// The longest value that a log of `shard_count` shards takes, whatever its key: a value is never divided over two segments.
#[must_use]
pub fn logged_value_bytes_max(limits: &LogLimits, shard_count: u16, key_bytes_max: u32) -> u64 {
    let beside = ADMIT_RESERVE_BYTES + u64::from(key_bytes_max);
    limits.payload_bytes_max(shard_count).saturating_sub(beside)
}

/// The log of a core, shared by the keyspace, which appends, and the core.
pub(crate) struct Log {
    pub(crate) writer: LogWriter,
    /// Replies wait for the log: it is remembered which keys are in flight.
    is_sync: bool,
    /// The disk has no room for a further segment.
    is_short: bool,
    /// By bits of the hash, the last commit that has an effect on such a key. Never cleared, since numbers only grow.
    in_flight: Box<[CommitNumber]>,
    /// The last commit in which a shard was cleared: any key may have been in it.
    cleared: CommitNumber,
    /// The last commit that has an effect.
    last_commit: CommitNumber,
    /// Effects so far; only compared for whether there were more.
    effects: u64,
    now: UnixMillis,
    /// The clock that was logged last.
    logged: UnixMillis,
    /// Commands under way that must be in one commit, each within the other.
    atomic_depth: u32,
}

impl Log {
    pub(super) fn new(writer: LogWriter, is_sync: bool) -> Self {
        Self {
            writer,
            is_sync,
            is_short: false,
            in_flight: vec![CommitNumber(0); 1 << IN_FLIGHT_BITS].into_boxed_slice(),
            cleared: CommitNumber(0),
            last_commit: CommitNumber(0),
            effects: 0,
            now: UnixMillis(0),
            logged: UnixMillis(0),
            atomic_depth: 0,
        }
    }

    pub(crate) fn is_sync(&self) -> bool {
        self.is_sync
    }

    pub(crate) fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
    }

    /// Effects so far.
    #[inline]
    pub(crate) fn effects(&self) -> u64 {
        self.effects
    }

    /// The last commit that has an effect.
    #[inline]
    pub(crate) fn last_commit(&self) -> CommitNumber {
        self.last_commit
    }

    /// The last commit that may have an effect on the key. Only kept for a synchronous log.
    #[inline]
    pub(crate) fn commit_of(&self, hash: KeyHash) -> CommitNumber {
        self.in_flight[slot(hash)].max(self.cleared)
    }

    /// Whether there is room for what a command may do.
    #[inline]
    pub(crate) fn admits_writes(&self) -> bool {
        self.writer.room(ADMIT_BYTES) == LogRoom::Fits
    }

    /// There is no room, and none on the disk for more: writes are refused.
    pub(crate) fn refuses_writes(&self) -> bool {
        self.is_short && !self.admits_writes()
    }

    /// There is no room, since the next segment is not ready yet: writes wait for it.
    pub(crate) fn is_late(&self) -> bool {
        !self.is_short && !self.admits_writes()
    }

    pub(super) fn set_short(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    /// What is appended from here to [`Log::end_atomic`] is found as a whole after a crash, or not at all.
    pub(crate) fn begin_atomic(&mut self, payload_bytes: u64) {
        self.atomic_depth += 1;
        if self.atomic_depth == 1 {
            self.writer.begin_atomic(payload_bytes);
        }
    }

    pub(crate) fn end_atomic(&mut self) {
        self.atomic_depth -= 1;
        if self.atomic_depth == 0 {
            self.writer.end_atomic();
        }
    }

    #[inline]
    fn append(&mut self, shard: ShardId, write: impl FnOnce(&mut Vec<u8>)) {
        // A clock that was set back counts as well: what is replayed must not be late.
        if self.now.0.wrapping_sub(self.logged.0) >= CLOCK_STEP_MS {
            self.append_clock(shard);
        }
        self.writer.append(shard, write);
        self.effects += 1;
        self.last_commit = self.writer.pending_commit();
    }

    #[cold]
    fn append_clock(&mut self, shard: ShardId) {
        self.logged = self.now;
        let header = Header::request(Opcode::CLOCK, 0).with_deadline(self.now.0);
        self.writer.append(shard, |out| native::encode(out, &header, &[], &[]));
    }

    #[inline]
    fn append_keyed(&mut self, shard: ShardId, key: &Key<'_>, header: &Header, value: &[&[u8]]) {
        self.append(shard, |out| native::encode_parts(out, header, key.bytes(), value));
        if self.is_sync {
            self.in_flight[slot(key.hash())] = self.last_commit;
        }
    }
}

/// A command that runs with a log.
pub(crate) struct Logged<'l> {
    log: &'l RefCell<Log>,
    effects: u64,
    has_one_key: bool,
    is_atomic: bool,
}

impl<'l> Logged<'l> {
    /// Before it runs.
    #[inline]
    pub(crate) fn begin(log: &'l RefCell<Log>, spec: &CommandSpec, args: Args<'_>) -> Self {
        let has_one_key = spec.has_one_key(args.len());
        let is_atomic = spec.flags.contains(Flags::WRITE) && !has_one_key;
        if is_atomic {
            log.borrow_mut().begin_atomic(args.iter().map(|arg| arg.len() as u64).sum());
        }
        Self { log, effects: log.borrow().effects(), has_one_key, is_atomic }
    }

    /// When it has run: the commit that its reply waits for, 0 if none.
    #[inline]
    pub(crate) fn end(self, hash: KeyHash) -> CommitNumber {
        let mut log = self.log.borrow_mut();
        if self.is_atomic {
            log.end_atomic();
        }
        if !log.is_sync {
            CommitNumber(0)
        } else if self.has_one_key && log.effects == self.effects {
            log.commit_of(hash)
        } else {
            log.last_commit
        }
    }
}

#[inline]
fn slot(hash: KeyHash) -> usize {
    (hash.0 >> (64 - IN_FLIGHT_BITS)) as usize
}

/// What the keyspace tells of.
pub(super) struct Sink(pub(super) Rc<RefCell<Log>>);

impl EffectSink for Sink {
    fn admit(&self, key: &Key<'_>, value_bytes: u64) -> Result<(), WriteError> {
        let key_bytes = key.bytes().len() as u64;
        let log = self.0.borrow();
        match log.writer.room(value_bytes + key_bytes + ADMIT_RESERVE_BYTES) {
            LogRoom::Fits => Ok(()),
            LogRoom::Full if log.is_short => Err(WriteError::LogFull),
            // Its command was let in, or sent here before the others knew: it waits in memory until the segment is ready.
            LogRoom::Full => Ok(()),
            LogRoom::TooLarge => {
                let max = log.writer.payload_bytes_max().saturating_sub(ADMIT_RESERVE_BYTES + key_bytes);
                Err(WriteError::ValueTooLarge { len: value_bytes, max })
            }
        }
    }

    #[inline]
    fn set(&mut self, shard: ShardId, key: &Key<'_>, parts: &[&[u8]], deadline: Deadline) {
        let header = Header::request(Opcode::SET, 0).with_deadline(deadline.to_raw());
        self.0.borrow_mut().append_keyed(shard, key, &header, parts);
    }

    fn delete(&mut self, shard: ShardId, key: &Key<'_>) {
        self.0.borrow_mut().append_keyed(shard, key, &Header::request(Opcode::DELETE, 0), &[&[]]);
    }

    fn set_deadline(&mut self, shard: ShardId, key: &Key<'_>, deadline: Deadline) {
        let header = Header::request(Opcode::TOUCH, 0).with_deadline(deadline.to_raw());
        self.0.borrow_mut().append_keyed(shard, key, &header, &[&[]]);
    }

    fn clear(&mut self, shard: ShardId) {
        let mut log = self.0.borrow_mut();
        log.append(shard, |out| native::encode(out, &Header::request(Opcode::CLEAR, 0), &[], &[]));
        if log.is_sync {
            log.cleared = log.last_commit;
        }
    }
}
