//! One pass over a core's shards: what the walk meets and what happens meanwhile, in the order of time.

use std::cell::RefCell;
use std::rc::Rc;

use pinnace_engine::{EffectSink, Entry, Key, WriteError};
use pinnace_protocol::native::{self, Header, Opcode};
use pinnace_types::{Deadline, LogIndex, ShardId, Term, UnixMillis};
use pinnace_wal::snapshot::SnapshotWriter;

/// The clock is written again when it has gone on by this much: whoever restores lets time pass as it did.
const CLOCK_STEP_MS: u64 = 1000;

/// The file that is being made, shared by the walk and the keyspace's sink.
pub(super) struct Pass {
    pub(super) writer: SnapshotWriter,
    now: UnixMillis,
    /// The clock that the open section was told last.
    clock: UnixMillis,
}

impl Pass {
    pub(super) fn new(writer: SnapshotWriter, now: UnixMillis) -> Self {
        Self { writer, now, clock: UnixMillis(0) }
    }

    pub(super) fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
    }

    pub(super) fn begin_section(&mut self, shard: ShardId) {
        self.writer.begin_section(shard);
        self.tell_clock();
    }

    /// Sets the clock back to when the pass began: what a log tells behind this section happened then or later.
    pub(super) fn end_section(&mut self, term: Term, index: LogIndex) {
        let header = Header::request(Opcode::CLOCK, 0).with_deadline(self.writer.info().begun_unix_ms);
        self.writer.append_effect(|out| native::encode(out, &header, &[], &[]));
        self.writer.end_section(term, index);
    }

    #[cold]
    fn tell_clock(&mut self) {
        self.clock = self.now;
        let header = Header::request(Opcode::CLOCK, 0).with_deadline(self.now.0);
        self.writer.append_effect(|out| native::encode(out, &header, &[], &[]));
    }

    /// An item that the walk meets; returns the bytes of its frame, about.
    pub(super) fn item(&mut self, key: &[u8], entry: &Entry<'_>) -> usize {
        let header = Header::request(Opcode::SET, 0).with_deadline(entry.deadline.to_raw());
        let parts: Vec<&[u8]> = match entry.value {
            pinnace_engine::ValueRef::Bytes(bytes) => {
                self.writer.append_item(|out| native::encode(out, &header, key, bytes));
                return key.len() + bytes.len();
            }
            pinnace_engine::ValueRef::Large(_) => entry.value.slices().collect(),
        };
        self.writer.append_item(|out| native::encode_parts(out, &header, key, &parts));
        key.len() + entry.value.len()
    }

    /// Something that happened to the shard whose section is open; anything else is met by its own walk.
    #[inline]
    fn effect(&mut self, shard: ShardId, write: impl FnOnce(&mut Vec<u8>)) {
        if self.writer.section() != Some(shard) {
            return;
        }
        // A clock that was set back counts as well.
        if self.now.0.wrapping_sub(self.clock.0) >= CLOCK_STEP_MS {
            self.tell_clock();
        }
        self.writer.append_effect(write);
    }
}

/// Whom the keyspace told before the pass began: a log, or nobody.
pub(super) type Before = Rc<RefCell<Option<Box<dyn EffectSink>>>>;

/// What the keyspace tells of while a pass is under way.
pub(super) struct Tail {
    pub(super) pass: Rc<RefCell<Pass>>,
    pub(super) before: Before,
}

impl Tail {
    fn tell(&self, tell: impl FnOnce(&mut dyn EffectSink)) {
        if let Some(sink) = self.before.borrow_mut().as_deref_mut() {
            tell(sink);
        }
    }
}

impl EffectSink for Tail {
    fn admit(&self, key: &Key<'_>, value_bytes: u64) -> Result<(), WriteError> {
        self.before.borrow().as_deref().map_or(Ok(()), |sink| sink.admit(key, value_bytes))
    }

    fn set(&mut self, shard: ShardId, key: &Key<'_>, parts: &[&[u8]], deadline: Deadline) {
        self.tell(|sink| sink.set(shard, key, parts, deadline));
        let header = Header::request(Opcode::SET, 0).with_deadline(deadline.to_raw());
        self.pass.borrow_mut().effect(shard, |out| native::encode_parts(out, &header, key.bytes(), parts));
    }

    fn delete(&mut self, shard: ShardId, key: &Key<'_>) {
        self.tell(|sink| sink.delete(shard, key));
        let header = Header::request(Opcode::DELETE, 0);
        self.pass.borrow_mut().effect(shard, |out| native::encode(out, &header, key.bytes(), &[]));
    }

    fn set_deadline(&mut self, shard: ShardId, key: &Key<'_>, deadline: Deadline) {
        self.tell(|sink| sink.set_deadline(shard, key, deadline));
        let header = Header::request(Opcode::TOUCH, 0).with_deadline(deadline.to_raw());
        self.pass.borrow_mut().effect(shard, |out| native::encode(out, &header, key.bytes(), &[]));
    }

    fn clear(&mut self, shard: ShardId) {
        self.tell(|sink| sink.clear(shard));
        let header = Header::request(Opcode::CLEAR, 0);
        self.pass.borrow_mut().effect(shard, |out| native::encode(out, &header, &[], &[]));
    }
}
