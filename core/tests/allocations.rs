//! After warm-up the hot commands allocate nothing, run on the client's core or on another.
#![allow(unsafe_code, reason = "only a global allocator sees every allocation")]

mod mesh;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use mesh::{Mesh, encode};
use pinnace_core::Durability;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and no test waits for it.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` gave the pointer.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and `alloc` gave the pointer.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MEMORY_BYTES: u64 = 16 << 20;
/// More keys with values than the budget holds, so that writes evict.
const KEYS: usize = 40_000;
const KEYS_PER_ROUND: usize = 100;
const ROUNDS_WARM_UP: usize = 3 * KEYS / KEYS_PER_ROUND;
const ROUNDS_MEASURED: usize = KEYS / KEYS_PER_ROUND;

/// One pipeline per round over the next keys: `request` gives the arguments for a key and for the
/// number of the request.
fn pipelines(request: impl Fn(&[u8], usize) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let pipeline = |round: usize| {
        let numbers = round * KEYS_PER_ROUND..(round + 1) * KEYS_PER_ROUND;
        let requests = numbers.map(|number| {
            let args = request(format!("key:{}", number % KEYS).as_bytes(), number);
            encode(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
        });
        requests.collect::<Vec<_>>().concat()
    };
    (0..ROUNDS_WARM_UP + ROUNDS_MEASURED).map(pipeline).collect()
}

/// Allocations of the measured rounds.
fn measure(mut mesh: Mesh, pipelines: &[Vec<u8>]) -> u64 {
    mesh.disks.iter_mut().for_each(|disk| disk.at_once = true);
    let client = mesh.connect(0);
    let mut before = 0;
    for (round, pipeline) in pipelines.iter().enumerate() {
        if round == ROUNDS_WARM_UP {
            before = ALLOCATIONS.get();
        }
        mesh.send(client, pipeline);
        mesh.settle();
        assert!(mesh.forget(client) >= KEYS_PER_ROUND * 4, "every request is answered");
    }
    ALLOCATIONS.get() - before
}

fn check(core_counts: &[u16], name: &str, request: impl Fn(&[u8], usize) -> Vec<Vec<u8>>) {
    let pipelines = pipelines(request);
    for &core_count in core_counts {
        let mesh = Mesh::new(core_count, MEMORY_BYTES);
        assert_eq!(measure(mesh, &pipelines), 0, "{name} on {core_count} cores");
        for durability in [Durability::Async, Durability::Sync] {
            let mesh = Mesh::durable(core_count, MEMORY_BYTES, durability);
            assert_eq!(measure(mesh, &pipelines), 0, "{name} on {core_count} cores, {durability:?}");
        }
    }
}

fn value(number: usize) -> Vec<u8> {
    vec![b'v'; 100 + number * 37 % 700]
}

fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

#[test]
fn set_and_get_allocate_nothing() {
    check(&[1, 2], "SET and GET", |key, number| match number % 3 {
        0 => words(&[b"GET", key]),
        _ => words(&[b"SET", key, &value(number)]),
    });
}

#[test]
fn set_with_options_allocates_nothing() {
    check(&[1, 2], "SET with options", |key, number| match number % 3 {
        0 => words(&[b"SET", key, &value(number), b"EX", b"100"]),
        1 => words(&[b"SET", key, &value(number), b"XX", b"KEEPTTL"]),
        _ => words(&[b"SETEX", key, b"100", &value(number)]),
    });
}

#[test]
fn counters_and_deadlines_allocate_nothing() {
    // Many keys stay, and one comes and goes: a shard that becomes empty gives its table back, and
    // allocates when it needs one again.
    check(&[1, 2], "INCR, EXPIRE, TTL, EXISTS, DEL", |_, number| {
        let key = format!("counter:{}", number / 6 % 5000).into_bytes();
        match number % 6 {
            _ if number < 6000 => words(&[b"SET", format!("stays:{number}").as_bytes(), b"1"]),
            0 | 1 => words(&[b"INCR", &key]),
            2 => words(&[b"EXPIRE", &key, b"100"]),
            3 => words(&[b"TTL", &key]),
            4 => words(&[b"EXISTS", &key]),
            _ => words(&[b"DEL", &key]),
        }
    });
}

#[test]
fn many_keys_of_one_core_allocate_nothing() {
    check(&[1], "MGET, MSET and DEL", |key, number| {
        let other = [b"other:", key].concat();
        match number % 3 {
            0 => words(&[b"MGET", key, &other, b"missing"]),
            1 => words(&[b"MSET", key, &value(number), &other, &value(number)]),
            _ => words(&[b"DEL", key, &other]),
        }
    });
}
