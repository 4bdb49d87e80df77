//! Speed, memory per item and the longest stall of growth, on one core.
//!
//! `cargo run --release -p pinnace-engine --example speed`
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use pinnace_engine::{EngineConfig, Keyspace};
use pinnace_types::{CoreId, Deadline, HashSeed, Prng, ShardMap};

const ITEMS: u64 = 1_000_000;
const BATCH: usize = 32;

fn keyspace(memory_bytes: u64, shards: u16) -> Keyspace {
    let shards = ShardMap::new(shards, 1);
    Keyspace::new(EngineConfig::new(memory_bytes, shards, CoreId(0), HashSeed::new(42)))
        .expect("valid settings")
}

/// Eleven bytes, as most load generators make them.
fn key_bytes(index: u64) -> [u8; 11] {
    let mut key = *b"key:0000000";
    let mut rest = index;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("statm has pages") * 4096
}

fn shuffled(seed: u64) -> Vec<[u8; 11]> {
    let mut prng = Prng::new(seed);
    (0..4 * ITEMS / 2).map(|_| key_bytes(prng.below(ITEMS))).collect()
}

/// Nanoseconds that this thread has spent on a CPU: a busy machine does not count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("schedstat begins with CPU time")
}

fn per_key(started: u64, count: usize) -> f64 {
    (cpu_ns() - started) as f64 / count as f64
}

fn get_batched(ks: &mut Keyspace, keys: &[[u8; 11]]) -> f64 {
    let started = cpu_ns();
    let mut sum = 0usize;
    for batch in keys.chunks_exact(BATCH) {
        let mut hashed: [_; BATCH] = std::array::from_fn(|i| ks.key(&batch[i]));
        hashed.iter().for_each(|key| ks.prefetch_index(key));
        hashed.iter_mut().for_each(|key| ks.prefetch_item(key));
        for key in &hashed {
            let entry = ks.get(key).expect("every key was written");
            sum += entry.value.slices().map(|s| usize::from(s[0])).sum::<usize>();
        }
    }
    black_box(sum);
    per_key(started, keys.len())
}

/// What the phases of a batch cost, each with those before it.
fn phases(ks: &mut Keyspace, keys: &[[u8; 11]]) -> [f64; 3] {
    std::array::from_fn(|phase| {
        let started = cpu_ns();
        for batch in keys.chunks_exact(BATCH) {
            let mut hashed: [_; BATCH] = std::array::from_fn(|i| ks.key(&batch[i]));
            if phase >= 1 {
                hashed.iter().for_each(|key| ks.prefetch_index(key));
            }
            if phase >= 2 {
                hashed.iter_mut().for_each(|key| ks.prefetch_item(key));
            }
            black_box(&hashed);
        }
        per_key(started, keys.len())
    })
}

fn get_single(ks: &mut Keyspace, keys: &[[u8; 11]]) -> f64 {
    let started = cpu_ns();
    for key in keys {
        let key = ks.key(key);
        black_box(ks.get(&key).expect("every key was written").value.len());
    }
    per_key(started, keys.len())
}

fn set_batched(ks: &mut Keyspace, keys: &[[u8; 11]], value: &[u8]) -> f64 {
    let started = cpu_ns();
    for batch in keys.chunks_exact(BATCH) {
        let mut hashed: [_; BATCH] = std::array::from_fn(|i| ks.key(&batch[i]));
        hashed.iter().for_each(|key| ks.prefetch_index(key));
        hashed.iter_mut().for_each(|key| ks.prefetch_item(key));
        for key in &hashed {
            ks.set(key, value, Deadline::NEVER).expect("there is room");
        }
    }
    per_key(started, keys.len())
}

fn get_and_set(shards: u16) {
    let before = resident_bytes();
    let mut ks = keyspace(256 << 20, shards);
    let started = cpu_ns();
    for index in 0..ITEMS {
        let key = key_bytes(index);
        ks.set(&ks.key(&key), &[b'v'; 32], Deadline::NEVER).expect("there is room");
    }
    let insert = per_key(started, ITEMS as usize);
    let rss = (resident_bytes() - before) as f64 / ITEMS as f64;
    let keys = shuffled(1);
    get_batched(&mut ks, &keys);
    let best = |f: &mut dyn FnMut() -> f64| (0..5).map(|_| f()).fold(f64::MAX, f64::min);
    let batched = best(&mut || get_batched(&mut ks, &keys));
    let single = best(&mut || get_single(&mut ks, &keys));
    let overwrite = best(&mut || set_batched(&mut ks, &keys, &[b'w'; 32]));
    let [hash, index, item] = phases(&mut ks, &keys);
    println!(
        "{shards:>4} shards: hash {hash:.1}, and prefetch of the index {index:.1}, and of the item {item:.1} ns"
    );
    println!(
        "{shards:>4} shards: GET {batched:.1} ns batched, {single:.1} ns single; SET overwrite {overwrite:.1} ns batched; \
         insert {insert:.1} ns; RSS {rss:.2} B per item"
    );
}

fn full_cache() {
    let mut ks = keyspace(64 << 20, 256);
    let fill = |ks: &mut Keyspace, from: u64, count: u64| {
        let started = cpu_ns();
        for index in from..from + count {
            let key = key_bytes(index);
            ks.set(&ks.key(&key), &[b'v'; 32], Deadline::NEVER).expect("there is room");
        }
        per_key(started, count as usize)
    };
    fill(&mut ks, 0, 2_000_000);
    let evicting = fill(&mut ks, 2_000_000, 3_000_000);
    let memory = ks.memory();
    println!(
        "full cache of 64 MiB: insert with eviction {evicting:.1} ns; {} items, {:.2} B of budget per item; {memory:?}",
        ks.len(),
        memory.budget as f64 / ks.len() as f64
    );
}

/// The same writes three times; of each write the shortest time counts, so that only what the
/// keyspace itself does is left, and not what else the machine did at that moment.
fn growth(shards: u16) {
    const COUNT: u64 = 10_000_000;
    let mut ns = vec![u32::MAX; COUNT as usize];
    let mut growths = 0;
    for _ in 0..3 {
        let mut ks = keyspace(1 << 30, shards);
        for (index, least) in ns.iter_mut().enumerate() {
            let key = (index as u64).to_le_bytes();
            let started = Instant::now();
            ks.set(&ks.key(&key), &[b'v'; 32], Deadline::NEVER).expect("there is room");
            *least = (*least).min(started.elapsed().as_nanos() as u32);
        }
        assert_eq!((ks.len(), ks.stats().evicted), (COUNT, 0));
        growths = ks.stats().index_growths;
    }
    ns.sort_unstable();
    let at = |share: f64| ns[((COUNT - 1) as f64 * share) as usize];
    println!(
        "{shards:>4} shards, growth to {COUNT} items: p50 {} p99 {} p99.9 {} p99.99 {} p99.999 {} max {} ns; {growths} growths",
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.9999),
        at(0.99999),
        at(1.0)
    );
}

/// Lookups of few keys: what a lookup costs when nothing is waited for.
fn hot() {
    let mut ks = keyspace(256 << 20, 256);
    for index in 0..ITEMS {
        let key = key_bytes(index);
        ks.set(&ks.key(&key), &[b'v'; 32], Deadline::NEVER).expect("there is room");
    }
    let mut prng = Prng::new(5);
    let few: Vec<[u8; 11]> = (0..256).map(|_| key_bytes(prng.below(ITEMS))).collect();
    let keys: Vec<[u8; 11]> = (0..ITEMS).map(|_| few[prng.below(256) as usize]).collect();
    get_batched(&mut ks, &keys);
    let best = (0..20).map(|_| get_batched(&mut ks, &keys)).fold(f64::MAX, f64::min);
    let hash = (0..5).map(|_| phases(&mut ks, &keys)[0]).fold(f64::MAX, f64::min);
    println!("256 hot keys: GET {best:.1} ns batched, {hash:.1} ns of it for slot and hash");
}

fn main() {
    let only = std::env::args().nth(1);
    let wants = |name: &str| only.as_deref().is_none_or(|o| o == name);
    if wants("get") {
        get_and_set(1);
        get_and_set(256);
    }
    if wants("hot") {
        hot();
    }
    if wants("full") {
        full_cache();
    }
    if wants("growth") {
        growth(1);
        growth(256);
    }
}
