//! Micro-benchmarks of the hot calls; the numbers of record come from `examples/speed.rs`, which
//! counts CPU time and so can be run on a busy machine.
//!
//! `cargo bench -p pinnace-engine`

use divan::{Bencher, black_box};
use pinnace_engine::{EngineConfig, Keyspace};
use pinnace_types::{CoreId, Deadline, HashSeed, Prng, ShardMap};

const ITEMS: u64 = 1_000_000;
const BATCH: usize = 32;

fn main() {
    divan::main();
}

fn filled(shards: u16) -> Keyspace {
    let shards = ShardMap::new(shards, 1);
    let config = EngineConfig::new(256 << 20, shards, CoreId(0), HashSeed::new(1));
    let mut ks = Keyspace::new(config).expect("valid settings");
    for index in 0..ITEMS {
        let key = index.to_be_bytes();
        ks.set(&ks.key(&key), &[1; 32], Deadline::NEVER).expect("there is room");
    }
    ks
}

fn batch(prng: &mut Prng) -> [[u8; 8]; BATCH] {
    std::array::from_fn(|_| prng.below(ITEMS).to_be_bytes())
}

#[divan::bench(args = [1, 256])]
fn get_32_prefetched(bencher: Bencher<'_, '_>, shards: u16) {
    let (mut ks, mut prng) = (filled(shards), Prng::new(2));
    bencher.counter(BATCH).bench_local(|| {
        let keys = batch(&mut prng);
        let mut keys: [_; BATCH] = std::array::from_fn(|i| ks.key(&keys[i]));
        keys.iter().for_each(|key| ks.prefetch_index(key));
        keys.iter_mut().for_each(|key| ks.prefetch_item(key));
        keys.iter().for_each(|key| _ = black_box(ks.get(key)));
    });
}

#[divan::bench(args = [1, 256])]
fn set_32_in_place(bencher: Bencher<'_, '_>, shards: u16) {
    let (mut ks, mut prng) = (filled(shards), Prng::new(3));
    bencher.counter(BATCH).bench_local(|| {
        let keys = batch(&mut prng);
        let mut keys: [_; BATCH] = std::array::from_fn(|i| ks.key(&keys[i]));
        keys.iter().for_each(|key| ks.prefetch_index(key));
        keys.iter_mut().for_each(|key| ks.prefetch_item(key));
        keys.iter().for_each(|key| ks.set(key, &[2; 32], Deadline::NEVER).expect("there is room"));
    });
}

#[divan::bench(args = [1, 256])]
fn set_new_with_eviction(bencher: Bencher<'_, '_>, shards: u16) {
    let config = EngineConfig::new(32 << 20, ShardMap::new(shards, 1), CoreId(0), HashSeed::new(1));
    let mut ks = Keyspace::new(config).expect("valid settings");
    let mut index = 0u64;
    bencher.counter(1usize).bench_local(|| {
        index += 1;
        let key = index.to_be_bytes();
        ks.set(&ks.key(&key), &[1; 32], Deadline::NEVER).expect("there is room");
    });
}
