//! What happens at the limits.

use super::*;

fn filled(ks: &mut Keyspace, value: &[u8]) -> u64 {
    let mut count = 0u64;
    loop {
        let key = format!("item:{count}").into_bytes();
        let k = ks.key(&key);
        if ks.set(&k, value, Deadline::NEVER).is_err() {
            return count;
        }
        count += 1;
        assert!(count < 10_000_000, "a budget has an end");
    }
}

#[test]
fn values_of_every_critical_length_are_kept() {
    let mut ks = Keyspace::new(config(128 << 20, 4)).unwrap();
    let segment = ks.memory.segment_bytes() as usize;
    let lens = [0, 1, segment / 8 - 1, segment / 8, segment / 8 + 1, segment - 1, segment, segment + 1];
    for len in lens.into_iter().chain([1 << 20, 64 << 20]) {
        let value: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
        for deadline in [Deadline::NEVER, Deadline::at(UnixMillis(5))] {
            let k = ks.key(b"key");
            ks.set(&k, &value, deadline).unwrap();
            let entry = ks.get(&k).unwrap();
            assert_eq!(entry.deadline, deadline);
            assert!(bytes_of(entry.value) == value, "{len}");
            ks.verify();
        }
    }
    let k = ks.key(b"key");
    assert!(ks.delete(&k) && ks.is_empty());
}

#[test]
fn lengths_over_the_limits_are_refused_by_name() {
    let mut config = config(64 << 20, 1);
    (config.key_bytes_max, config.value_bytes_max) = (100, 1000);
    let mut ks = Keyspace::new(config).unwrap();
    let (long, ok) = (vec![b'k'; 101], vec![b'k'; 100]);
    assert_eq!(
        ks.set(&ks.key(&long), b"", Deadline::NEVER),
        Err(WriteError::KeyTooLong { len: 101, max: 100 })
    );
    assert_eq!(ks.set(&ks.key(&ok), &[0; 1000], Deadline::NEVER), Ok(()));
    let refused = ks.set(&ks.key(&ok), &[0; 1001], Deadline::NEVER);
    assert_eq!(refused, Err(WriteError::ValueTooLarge { len: 1001, max: 1000 }));
    assert_eq!(ks.get(&ks.key(&ok)).unwrap().value.len(), 1000);
}

#[test]
fn the_longest_key_fits_with_every_kind_of_value() {
    let mut ks = Keyspace::new(config(64 << 20, 1)).unwrap();
    let key = vec![b'k'; 65_535];
    for len in [0usize, 10, 20_000, 1 << 20] {
        let k = ks.key(&key);
        ks.set(&k, &vec![1; len], Deadline::at(UnixMillis(9))).unwrap();
        assert!(ks.version(&k).unwrap().is_some());
        assert_eq!(ks.get(&k).unwrap().value.len(), len);
        ks.verify();
    }
}

#[test]
fn a_value_that_the_budget_never_holds_is_refused() {
    let mut ks = Keyspace::new(config(16 << 20, 1)).unwrap();
    let k = ks.key(b"key");
    let refused = ks.set(&k, &vec![0; 16 << 20], Deadline::NEVER);
    let Err(WriteError::ValueTooLarge { max, .. }) = refused else { panic!("{refused:?}") };
    ks.set(&k, &vec![1; max as usize], Deadline::NEVER).unwrap();
    assert_eq!(ks.get(&k).unwrap().value.len() as u64, max);
    ks.verify();
}

#[test]
fn a_rejecting_keyspace_goes_on_reading_and_takes_writes_again_after_deletes() {
    for value in [&[7u8; 20][..], &[7u8; 900], &[7u8; 3000], &[7u8; 30_000]] {
        let mut ks = tiny(MemoryPolicy::Reject, 2);
        let count = filled(&mut ks, value);
        ks.verify();
        assert!(ks.memory().live * 100 >= ks.memory().budget * 50, "{:?}", ks.memory());
        for index in 0..count {
            let key = format!("item:{index}").into_bytes();
            assert_eq!(bytes_of(ks.get(&ks.key(&key)).unwrap().value), value);
            // Overwriting needs no memory if the length stays.
            if value.len() < 1000 {
                assert_eq!(ks.set(&ks.key(&key), value, Deadline::NEVER), Ok(()));
            }
        }
        assert!(ks.stats().out_of_memory > 0 && ks.stats().evicted == 0);
        // Scattered deletes leave no segment empty: cleaning must make them usable.
        for index in (0..count).step_by(3) {
            let key = format!("item:{index}").into_bytes();
            assert!(ks.delete(&ks.key(&key)));
        }
        let mut written = 0;
        while written < count / 6 {
            let key = format!("more:{written}").into_bytes();
            ks.set(&ks.key(&key), value, Deadline::NEVER).unwrap();
            written += 1;
        }
        ks.verify();
    }
}

#[test]
fn too_small_a_budget_is_a_clear_error() {
    let error = Keyspace::new(config(2 << 20, 256)).unwrap_err();
    let EngineError::BudgetTooSmall { minimum_bytes, .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("give at least"), "{error}");
    let mut ks = Keyspace::new(config(minimum_bytes, 256)).unwrap();
    for index in 0..200_000u32 {
        let key = index.to_le_bytes();
        ks.set(&ks.key(&key), &[0; 32], Deadline::NEVER).unwrap();
    }
    assert!(ks.len() > 5_000, "{} items in {minimum_bytes} B", ks.len());
    ks.verify();
}

#[test]
fn everything_pinned_is_out_of_memory_and_comes_back() {
    let mut ks = tiny(MemoryPolicy::Evict, 1);
    let mut pins = Vec::new();
    for index in 0..1000u32 {
        let key = index.to_le_bytes();
        let k = ks.key(&key);
        if ks.set(&k, &[1; 20_000], Deadline::NEVER).is_err() {
            break;
        }
        if let Some(Entry { value: ValueRef::Large(large), .. }) = ks.peek(&k) {
            pins.push(large.clone());
        }
    }
    assert!(pins.len() < 30 && ks.stats().out_of_memory == 1);
    ks.verify();
    drop(pins);
    ks.set(&ks.key(b"after"), &[1; 20_000], Deadline::NEVER).unwrap();
    ks.verify();
}

#[test]
fn scans_visit_everything_once_while_the_index_grows_and_shrinks() {
    let mut ks = Keyspace::new(config(32 << 20, 3)).unwrap();
    let put = |ks: &mut Keyspace, prefix: &str, index: u32| {
        let key = format!("{prefix}{index}").into_bytes();
        ks.set(&ks.key(&key), b"v", Deadline::NEVER).unwrap();
    };
    (0..20_000).for_each(|index| put(&mut ks, "stay:", index));
    let mut seen = BTreeMap::new();
    let (mut cursor, mut turn) = (Some(ScanCursor::START), 0);
    while let Some(at) = cursor {
        cursor = ks.scan(at, 10, &mut |key, _| {
            if key.starts_with(b"stay:") {
                *seen.entry(key.to_vec()).or_insert(0) += 1;
            }
        });
        // Grows to more than twice the size, then shrinks again.
        for step in 0..60 {
            let index = turn * 60 + step;
            if turn < 1000 {
                put(&mut ks, "go:", index);
            } else {
                let key = format!("go:{}", index - 60_000).into_bytes();
                ks.delete(&ks.key(&key));
            }
        }
        turn += 1;
        ks.maintain(8);
    }
    assert_eq!(seen.len(), 20_000);
    assert!(seen.values().all(|&times| times == 1));
    assert!(ks.stats().evicted == 0 && turn > 1000);
}

#[test]
fn random_keys_are_drawn_from_everywhere() {
    let mut ks = tiny(MemoryPolicy::Evict, 4);
    let (mut prng, mut out) = (Prng::new(1), Vec::new());
    assert!(!ks.random_key(&mut prng, &mut out));
    for index in 0..50u8 {
        ks.set(&ks.key(&[index]), b"v", Deadline::NEVER).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3000 {
        assert!(ks.random_key(&mut prng, &mut out));
        seen.insert(out.clone());
    }
    assert!(seen.len() >= 48, "{}", seen.len());
}

#[test]
fn cleared_memory_is_all_free() {
    let mut ks = tiny(MemoryPolicy::Evict, 4);
    for index in 0..5000u32 {
        let key = index.to_le_bytes();
        ks.set(&ks.key(&key), &vec![0; (index % 5000) as usize], Deadline::NEVER).unwrap();
    }
    ks.clear();
    ks.verify();
    assert_eq!((ks.memory().segments, ks.memory().live, ks.memory().dead), (0, 0, 0));
}
