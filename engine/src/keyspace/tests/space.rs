//! How much of a budget holds live items, and how long dead and expired ones stay.

use super::*;

/// Lengths from 48 B to 64 KiB, mean about 1.7 KB: the classes of the size overlay of the traces.
fn mixed_len(prng: &mut Prng) -> usize {
    let classes = [
        (16_384, 48, 96),
        (32_768, 96, 280),
        (49_152, 280, 640),
        (58_982, 640, 2400),
        (64_226, 2400, 10_240),
        (65_536, 10_240, 65_536),
    ];
    let draw = prng.below(65_536);
    let (_, lo, hi) =
        classes.into_iter().find(|&(bound, _, _)| draw < bound).expect("the last bound covers all");
    (lo + prng.below(hi - lo)) as usize
}

#[test]
fn nine_tenths_are_live_under_overwrites_of_mixed_sizes() {
    let mut ks = Keyspace::new(config(32 << 20, 16)).unwrap();
    let (mut prng, value) = (Prng::new(1), vec![5u8; 65_536]);
    let mut least = u64::MAX;
    for step in 0..150_000u32 {
        let key = prng.below(40_000).to_le_bytes();
        let len = mixed_len(&mut prng);
        ks.set(&ks.key(&key), &value[..len], Deadline::NEVER).unwrap();
        if step > 60_000 && step % 500 == 0 {
            least = least.min(ks.memory().live);
        }
    }
    ks.verify();
    assert!(ks.stats().evicted > 0 && ks.stats().cleaned_bytes > 0);
    assert!(least * 100 >= ks.memory().budget * 90, "{least} of {}: {:?}", ks.memory().budget, ks.memory());
}

#[test]
fn expired_items_do_not_stay() {
    let mut ks = Keyspace::new(config(16 << 20, 4)).unwrap();
    let mut prng = Prng::new(2);
    let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for step in 0..200_000u64 {
        let now = 1_000_000 + step * 5;
        ks.set_now(UnixMillis(now));
        let ttl = [2_000, 20_000, 120_000, 900_000][prng.below(4) as usize];
        let (key, len) = (prng.below(30_000), prng.below(500));
        let bytes = key.to_le_bytes();
        ks.set(&ks.key(&bytes), &vec![0; len as usize], Deadline::at(UnixMillis(now + ttl))).unwrap();
        expected.insert(key, (now + ttl, 20 + len));
        ks.maintain(16);
        if step % 10_000 == 9_999 {
            let live: u64 = expected.values().filter(|&&(at, _)| at >= now).map(|&(_, bytes)| bytes).sum();
            let expired = ks.memory().live.saturating_sub(live);
            assert!(expired * 100 <= ks.memory().budget * 5, "{expired} at step {step}");
        }
    }
    ks.verify();
    assert_eq!(ks.stats().evicted, 0);
    ks.set_now(UnixMillis(u64::MAX >> 16));
    while ks.maintain(1000) {}
    assert!(ks.memory().live * 100 <= ks.memory().budget * 5);
}

#[test]
fn values_larger_than_the_small_share_are_kept_until_their_turn() {
    let mut ks = Keyspace::new(config(16 << 20, 1)).unwrap();
    ks.set(&ks.key(b"large"), &vec![1; 4 << 20], Deadline::NEVER).unwrap();
    for index in 0..20_000u32 {
        let key = index.to_le_bytes();
        ks.set(&ks.key(&key), &[0; 900], Deadline::NEVER).unwrap();
    }
    assert!(ks.stats().evicted > 0);
    assert!(ks.peek(&ks.key(b"large")).is_some(), "one-hit wonders go first");
    ks.verify();
}

#[test]
fn settings_can_change_while_it_runs() {
    let mut ks = tiny(MemoryPolicy::Evict, 1);
    for round in 0..6u8 {
        ks.set_small_share_percent(round * 30);
        ks.set_promote_threshold(round % 4);
        ks.set_ghost_percent(round * 50);
        for index in 0..4000u32 {
            let key = (index % 700).to_le_bytes();
            let k = ks.key(&key);
            if ks.get(&k).is_none() {
                ks.set(&k, &[0; 500], Deadline::NEVER).unwrap();
            }
        }
        ks.verify();
    }
    assert!(ks.stats().ghost_hits > 0 && ks.stats().promoted > 0 && ks.stats().reinserted > 0);
    ks.reset_stats();
    assert_eq!(*ks.stats(), EngineStats::default());
}
