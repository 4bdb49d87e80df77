//! Storms of connections, orderly and not: nothing may leak. One test at a time, since descriptors are
//! counted for the whole process.

mod common;

use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Mode, Setup, echo, open_files, reset};
use pinnace_types::Prng;

/// glommio 0.9 leaves one eventfd open for each executor that has ended; nothing of ours may be left.
const LEFT_BY_AN_EXECUTOR: usize = 1;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn thousands_of_connections_come_and_go_without_a_trace() {
    let _guard = alone();
    let before = open_files();
    let mut setup = Setup::new(Mode::Echo);
    setup.cores = 2;
    let node = setup.start();
    echo(&mut node.connect(), b"warm");
    // Sleeping opens a descriptor for as long as it lasts, so the count varies by one a core.
    node.until("quiet", |stats| stats.connections == 0);
    let running = open_files();
    for round in 0..3 {
        let mut clients: Vec<_> = (0..2500).map(|_| node.connect()).collect();
        for client in &mut clients {
            client.write_all(b"hello").unwrap();
        }
        for client in &mut clients {
            client.read_exact(&mut [0; 5]).unwrap();
        }
        assert_eq!(node.stats().connections, 2500);
        drop(clients);
        let stats = node.until("close of all", |stats| stats.connections == 0);
        assert_eq!(stats.closed, 2500 * (round + 1) + 1);
        assert!(open_files().abs_diff(running) <= 2);
        assert_eq!(node.budget.open(), 0);
        assert!(node.shared.live.lock().unwrap().is_empty());
    }
    node.stop();
    assert_eq!(open_files(), before + 2 * LEFT_BY_AN_EXECUTOR);
}

#[test]
fn resets_at_any_moment_leak_nothing_and_hit_nobody_else() {
    let _guard = alone();
    let before = open_files();
    let mut setup = Setup::tiny(Mode::Echo);
    setup.limits.output_close_bytes = 64 << 20;
    let node = setup.start();
    let witness_addr = node.connect();
    let witness = std::thread::spawn(move || {
        let mut witness = witness_addr;
        for n in 0..2000u32 {
            echo(&mut witness, &n.to_le_bytes());
        }
    });
    let threads: Vec<_> = (0..4u64)
        .map(|seed| {
            let addr = node.addr;
            std::thread::spawn(move || {
                let mut prng = Prng::new(seed);
                for _ in 0..300 {
                    let mut client = std::net::TcpStream::connect(addr).unwrap();
                    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    let size = prng.below(20_000) as usize;
                    client.set_nonblocking(true).unwrap();
                    let _ = client.write(&vec![1; size]);
                    match prng.below(4) {
                        0 => drop(client),
                        1 => {
                            let _ = client.read(&mut [0; 100]);
                            reset(client);
                        }
                        2 => {
                            std::thread::sleep(Duration::from_micros(prng.below(500)));
                            reset(client);
                        }
                        _ => reset(client),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    witness.join().unwrap();
    let stats = node.until("close of all", |stats| stats.connections == 0);
    assert_eq!(stats.accepts, stats.closed);
    assert!(node.shared.live.lock().unwrap().is_empty());
    // Every receive buffer has come back: more echoes than there are buffers still work.
    let mut client = node.connect();
    for _ in 0..50 {
        echo(&mut client, &[5; 3000]);
    }
    drop(client);
    node.stop();
    assert_eq!(open_files(), before + LEFT_BY_AN_EXECUTOR);
}

#[test]
fn a_stop_in_the_middle_of_a_storm_closes_everything() {
    let _guard = alone();
    let before = open_files();
    let node = Setup::new(Mode::Echo).start();
    let addr = node.addr;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut clients = Vec::new();
                // Ends with the refusal that follows the stop.
                while let Ok(mut client) = std::net::TcpStream::connect(addr) {
                    let _ = client.write(b"hello");
                    clients.push(client);
                    if clients.len() > 50 {
                        clients.clear();
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    node.stop();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(open_files(), before + LEFT_BY_AN_EXECUTOR);
}
