//! Commands on many keys: hashed and prefetched a few at a time, then run in order.

use pinnace_engine::Key;
use pinnace_protocol::Args;

use super::refusal::Refusal;
use crate::exec::Exec;

/// Keys per round: enough to hide memory latency, few enough for their items to stay in the
/// first-level cache.
const ROUND_KEYS: usize = 16;

/// Runs `visit` for the keys at positions 1, 1 + `step` and so on, and tells it the position.
#[inline]
pub(super) fn for_each_key(
    exec: &mut Exec<'_>,
    args: Args<'_>,
    step: usize,
    mut visit: impl FnMut(&mut Exec<'_>, &Key<'_>, usize) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if args.len() <= 1 + step {
        let key = exec.first_key; // The router has hashed and prefetched it.
        return visit(exec, &key, 1);
    }
    for start in (1..args.len()).step_by(step * ROUND_KEYS) {
        let mut keys = [exec.key(args.at(start)); ROUND_KEYS];
        let positions = (start..args.len()).step_by(step).take(ROUND_KEYS);
        for (key, position) in keys.iter_mut().zip(positions.clone()) {
            *key = exec.key(args.at(position));
            exec.ks.prefetch_index(key);
        }
        let round = &mut keys[..positions.len()];
        round.iter_mut().for_each(|key| exec.ks.prefetch_item(key));
        for (key, position) in round.iter().zip(positions) {
            visit(exec, key, position)?;
        }
    }
    Ok(())
}
