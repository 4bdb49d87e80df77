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

/// Where a batch begins or an effect stands.
#[derive(Clone, Copy)]
struct Place {
    /// Which of the payloads.
    payload: usize,
    /// The byte in it.
    at: usize,
}

/// A frame of a payload and where it is.
#[derive(Clone, Copy)]
struct Effect<'p> {
    place: Place,
    shard: ShardId,
    frame: Frame<'p>,
    key: Key<'p>,
}

impl Core {
    /// Applies the effects of an entry of a shard's log, or the items of a snapshot: [`Core::recover_payloads`] with one.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn recover_payload(&mut self, shard: ShardId, payload: &[u8]) -> Result<(), ReplayError> {
        self.recover_payloads(&[(shard, payload)]).map_err(|(_, error)| error)
    }

    /// Applies the effects of entries. Payloads of one log come in their order, logs of one shard oldest first; before
    /// [`Core::start_log`], and [`Core::finish_replay`] comes behind the last. Many at a time are faster: what the next
    /// effects need is fetched from memory together, whatever entries they are in.
    /// The keyspace's clock is that of the log meanwhile.
    ///
    /// # Errors
    /// If a payload is malformed, is not of its shard, or does not fit into the memory, with its place in `payloads`. Some
    /// of the effects before the one that is wrong have been applied.
    ///
    /// # Panics
    /// If a log has been started: it would be told of its own effects.
    pub fn recover_payloads(&mut self, payloads: &[(ShardId, &[u8])]) -> Result<(), (usize, ReplayError)> {
        assert!(self.log.is_none(), "a log is replayed before it is written to");
        let mut place = Place { payload: 0, at: 0 };
        while place.payload < payloads.len() {
            self.replay_batch(payloads, &mut place)?;
        }
        Ok(())
    }

    fn replay_batch(
        &mut self,
        payloads: &[(ShardId, &[u8])],
        place: &mut Place,
    ) -> Result<(), (usize, ReplayError)> {
        let mut batch: [Option<Effect<'_>>; AHEAD] = [None; AHEAD];
        let mut len = 0;
        while let Some(&(shard, payload)) = payloads.get(place.payload)
            && len < AHEAD
        {
            if place.at == payload.len() {
                *place = Place { payload: place.payload + 1, at: 0 };
                continue;
            }
            let at = place.at;
            let refuse = |error| (place.payload, error);
            let decoded = native::decode(&payload[at..], &NativeLimits::FORMAT);
            let decoded = decoded.map_err(|error| refuse(ReplayError::Frame { at, error }))?;
            let Some((frame, bytes)) = decoded else { return Err(refuse(ReplayError::Cut { at })) };
            let key = self.replayed_key(shard, &frame, at).map_err(refuse)?;
            batch[len] = Some(Effect { place: *place, shard, frame, key });
            len += 1;
            place.at += bytes;
        }
        for effect in batch[..len].iter_mut().flatten() {
            self.ks.prefetch_item(&mut effect.key);
        }
        for effect in batch[..len].iter().flatten() {
            self.replay(effect).map_err(|error| {
                let Place { payload, at } = effect.place;
                (payload, ReplayError::Write { at, error })
            })?;
        }
        Ok(())
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

    fn replay(&mut self, effect: &Effect<'_>) -> Result<(), WriteError> {
        let Effect { frame, key, .. } = effect;
        let deadline = Deadline::from_raw(frame.deadline);
        match frame.opcode {
            Opcode::SET => self.ks.set(key, frame.value, deadline),
            Opcode::TOUCH => self.ks.set_deadline(key, deadline).map(|_| ()),
            Opcode::DELETE => {
                self.ks.delete(key);
                Ok(())
            }
            Opcode::CLEAR => {
                self.ks.clear_shard(effect.shard);
                Ok(())
            }
            _ => {
                self.ks.set_now(UnixMillis(frame.deadline));
                Ok(())
            }
        }
    }
}
