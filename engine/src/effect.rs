//! What a log is told of the keyspace: every change that a client caused, as the effect it had.

use pinnace_types::{Deadline, ShardId};

use crate::error::WriteError;
use crate::key::Key;

/// Takes the effects on one keyspace, each right after it was applied, in the order in which they
/// were.
///
/// Replayed in that order into an empty keyspace, they give every key the value it had last. What
/// time and memory do is not among them: deadlines are instants, and an evicted key may be there
/// again after a replay, with what was written to it last. While an effect is replayed the clock must
/// not be ahead of what it was at first: a deadline that is past by now may have been changed in time.
pub trait EffectSink {
    /// Whether an effect with a value of that many bytes may be applied. Asked before every effect but
    /// deletes and clearing, which are applied whatever there is room for.
    ///
    /// # Errors
    /// If there is no room for it; nothing is changed then.
    fn admit(&self, key: &Key<'_>, value_bytes: u64) -> Result<(), WriteError>;

    /// A value was written; `parts` together are the value.
    fn set(&mut self, shard: ShardId, key: &Key<'_>, parts: &[&[u8]], deadline: Deadline);

    /// A key was deleted. Told of an absent key as well if items have been evicted or may be: it may
    /// be absent here alone, and an older effect would bring it back.
    fn delete(&mut self, shard: ShardId, key: &Key<'_>);

    /// A live key's deadline was changed; [`Deadline::NEVER`] took it away.
    fn set_deadline(&mut self, shard: ShardId, key: &Key<'_>, deadline: Deadline);

    /// Every key of a shard was removed.
    fn clear(&mut self, shard: ShardId);
}
