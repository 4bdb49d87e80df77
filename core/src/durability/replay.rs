//! Puts entries of a log and blocks of a snapshot into the keyspace.

use pinnace_engine::{Key, WriteError};
use pinnace_protocol::native::{self, Frame, NativeError, NativeLimits, Opcode};
use pinnace_types::{Deadline, ShardId, UnixMillis};

use crate::core::Core;

/// Frames whose buckets and items are fetched ahead of being applied.
const AHEAD: usize = 32;

/// Why a payload cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It is no sequence of frames.
    #[error("at byte {at} of the payload: {error}")]
    Frame {
        /// Where.
        at: usize,
        /// What is wrong.
        error: NativeError,
    },
    /// It ends within a frame.
    #[error("at byte {at} of the payload: a frame is cut off")]
    Cut {
        /// Where the frame begins.
        at: usize,
    },
    /// A frame that is no effect.
    #[error("at byte {at} of the payload: opcode 0x{opcode:02x} is no effect, or has fields that none has")]
    Opcode {
        /// Where.
        at: usize,
        /// Its opcode.
        opcode: u8,
    },
    /// A key of another shard, or a shard of another core.
    #[error("at byte {at} of the payload: a key of shard {found} in the log of shard {expected}")]
    Shard {
        /// Where.
        at: usize,
        /// The shard of the key.
        found: u16,
        /// The shard whose payload it is.
        expected: u16,
    },
    /// The keyspace does not take it.
    #[error("at byte {at} of the payload: {error}")]
    Write {
        /// Where.
        at: usize,
        /// Why.
        error: WriteError,
    },
}

/// A frame of the payload and where it is.
#[derive(Clone, Copy)]
struct Effect<'p> {
    at: usize,
    frame: Frame<'p>,
    key: Key<'p>,
}

impl Core {
    /// Applies the effects of an entry of a shard's log, or the items of a snapshot. Payloads of one log come in
    /// their order, logs of one shard oldest first; before [`Core::start_log`], and [`Core::finish_replay`] comes behind the last.
    /// The keyspace's clock is that of the log meanwhile.
    ///
    /// # Errors
    /// If the payload is malformed, is not of that shard, or does not fit into the memory. Effects before the one that is wrong
    /// have been applied.
    ///
    /// # Panics
    /// If a log has been started: it would be told of its own effects.
    pub fn recover_payload(&mut self, shard: ShardId, payload: &[u8]) -> Result<(), ReplayError> {
        assert!(self.log.is_none(), "a log is replayed before it is written to");
        let mut at = 0;
        while at < payload.len() {
            at = self.replay_batch(shard, payload, at)?;
        }
        Ok(())
    }

    fn replay_batch(&mut self, shard: ShardId, payload: &[u8], start: usize) -> Result<usize, ReplayError> {
        let mut batch: [Option<Effect<'_>>; AHEAD] = [None; AHEAD];
        let mut at = start;
        for slot in &mut batch {
            if at >= payload.len() {
                break;
            }
            let decoded = native::decode(&payload[at..], &NativeLimits::FORMAT);
            let decoded = decoded.map_err(|error| ReplayError::Frame { at, error })?;
            let Some((frame, bytes)) = decoded else { return Err(ReplayError::Cut { at }) };
            let key = self.replayed_key(shard, &frame, at)?;
            *slot = Some(Effect { at, frame, key });
            at += bytes;
        }
        for effect in batch.iter_mut().map_while(Option::as_mut) {
            self.ks.prefetch_item(&mut effect.key);
        }
        for effect in batch.iter().map_while(Option::as_ref) {
            self.replay(shard, effect)?;
        }
        Ok(at)
    }

    /// Checks a frame and starts to fetch its key's bucket.
    fn replayed_key<'p>(&self, shard: ShardId, frame: &Frame<'p>, at: usize) -> Result<Key<'p>, ReplayError> {
        let is_keyed =
            !frame.key.is_empty() && matches!(frame.opcode, Opcode::SET | Opcode::DELETE | Opcode::TOUCH);
        let is_plain = matches!(frame.opcode, Opcode::CLEAR | Opcode::CLOCK) && frame.key.is_empty();
        let has_value = !frame.value.is_empty() && frame.opcode != Opcode::SET;
        let is_odd = has_value || frame.flags.0 != 0 || frame.status.0 != 0;
        if !(is_keyed || is_plain) || is_odd {
            return Err(ReplayError::Opcode { at, opcode: frame.opcode.0 });
        }
        let key = self.ks.key(frame.key);
        if is_keyed {
            if key.shard() != shard {
                return Err(ReplayError::Shard { at, found: key.shard().0, expected: shard.0 });
            }
            self.ks.prefetch_index(&key);
        }
        Ok(key)
    }

    fn replay(&mut self, shard: ShardId, effect: &Effect<'_>) -> Result<(), ReplayError> {
        let Effect { at, frame, key } = effect;
        let deadline = Deadline::from_raw(frame.deadline);
        let result = match frame.opcode {
            Opcode::SET => self.ks.set(key, frame.value, deadline),
            Opcode::TOUCH => self.ks.set_deadline(key, deadline).map(|_| ()),
            Opcode::DELETE => {
                self.ks.delete(key);
                Ok(())
            }
            Opcode::CLEAR => {
                self.ks.clear_shard(shard);
                Ok(())
            }
            _ => {
                self.ks.set_now(UnixMillis(frame.deadline));
                Ok(())
            }
        };
        result.map_err(|error| ReplayError::Write { at: *at, error })
    }
}
