//! Reading and writing allocate nothing once the keyspace is warm, and resident memory stays within
//! the budget. One test, since both look at the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use pinnace_engine::{EngineConfig, Keyspace};
use pinnace_types::{CoreId, Deadline, HashSeed, Prng, ShardMap, UnixMillis};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps this method's contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(address, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("statm has pages") * 4096
}

/// One round of reads, overwrites, inserts with eviction, deadlines and deletes; large values if asked.
fn churn(ks: &mut Keyspace, prng: &mut Prng, value: &[u8], steps: u64, large: bool) {
    for step in 0..steps {
        let key = prng.below(300_000).to_le_bytes();
        let now = ks.now().0 + 1;
        ks.set_now(UnixMillis(now));
        let key = ks.key(&key);
        if ks.get(&key).is_some() && step % 3 != 0 {
            continue;
        }
        let len = if large && step % 64 == 0 { prng.below(300_000) } else { prng.below(700) };
        let ttl = [0, 1_000, 50_000][prng.below(3) as usize];
        let deadline = if ttl == 0 { Deadline::NEVER } else { Deadline::at(UnixMillis(now + ttl)) };
        ks.set(&key, &value[..len as usize], deadline).expect("an evicting keyspace has room");
        if step % 50 == 0 {
            ks.delete(&key);
        }
        ks.maintain(8);
    }
}

#[test]
fn warm_paths_allocate_nothing_and_resident_memory_stays_within_the_budget() {
    /// Resident bytes beyond the budget: the process itself, and half of a huge page at both ends.
    const CONSTANT_BYTES: u64 = 6 << 20;
    const BUDGET: u64 = 32 << 20;
    let before = resident_bytes();
    let shards = ShardMap::new(16, 1);
    let mut ks = Keyspace::new(EngineConfig::new(BUDGET, shards, CoreId(0), HashSeed::new(3))).unwrap();
    let (mut prng, value) = (Prng::new(4), vec![7u8; 300_000]);
    churn(&mut ks, &mut prng, &value, 600_000, false);
    assert!(ks.stats().evicted > 0 && ks.stats().expired > 0, "{:?}", ks.stats());
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let reads = ks.stats().hits;
    for _ in 0..200_000 {
        let key = prng.below(300_000).to_le_bytes();
        let key = ks.key(&key);
        if let Some(entry) = ks.get(&key) {
            let len = entry.value.len();
            ks.set(&key, &value[..len], Deadline::NEVER).expect("an overwrite in place");
        }
    }
    assert!(ks.stats().hits > reads + 10_000);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - allocations, 0, "GET and SET in place");
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    churn(&mut ks, &mut prng, &value, 100_000, false);
    let per_write = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    // A table or the ghost changes its size now and then; that makes a few lists.
    assert!(per_write < 200, "{per_write} allocations in 100,000 steps");
    for round in 0..6 {
        churn(&mut ks, &mut prng, &value, 40_000, round % 2 == 0);
        let resident = resident_bytes() - before;
        assert!(resident <= BUDGET + CONSTANT_BYTES, "{resident} resident in round {round}");
    }
}
