//! Several cores: mail, wake-ups, moving connections.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Mode, Setup, echo};
use pinnace_types::Prng;

#[test]
fn no_wake_up_is_lost_between_two_cores() {
    // A ball that each core throws back at once: if a single wake-up were lost, it would lie still.
    // Different spin times move the moment at which a core falls asleep.
    for (spin_us, nap_us) in [(0, 0), (0, 1000), (1, 0), (3, 50), (20, 100)] {
        let mut setup = Setup::new(Mode::Mail);
        setup.cores = 2;
        setup.tuning.spin_us = spin_us;
        setup.tuning.nap_us = nap_us;
        let node = setup.start();
        let started = Instant::now();
        let mut last = 0;
        while started.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(100));
            let pings = node.shared.pings.load(Ordering::Relaxed);
            assert!(
                pings > last,
                "the ball lies still after {pings} throws, spin {spin_us} us, nap {nap_us} us"
            );
            last = pings;
        }
        println!("spin {spin_us} us, nap {nap_us} us: {:.1} us a throw", 1e6 / last as f64);
        node.stop();
    }
}

#[test]
fn a_waker_wakes_at_any_moment() {
    for nap_us in [0, 200] {
        let mut setup = Setup::new(Mode::Echo);
        setup.tuning.spin_us = 2;
        setup.tuning.nap_us = nap_us;
        let node = setup.start();
        let turns = || node.shared.turns.load(Ordering::Relaxed);
        let mut prng = Prng::new(1);
        let mut slowest = Duration::ZERO;
        for _ in 0..500 {
            let before = turns();
            let started = Instant::now();
            node.wakers[0].wake();
            while turns() == before {
                assert!(started.elapsed() < Duration::from_secs(5), "a wake-up was lost");
                std::thread::yield_now();
            }
            slowest = slowest.max(started.elapsed());
            std::thread::sleep(Duration::from_micros(prng.below(600)));
        }
        println!("nap {nap_us} us: slowest wake-up {slowest:?}");
        node.stop();
    }
}

#[test]
fn connections_move_under_traffic_without_losing_or_reordering_a_byte() {
    const CLIENTS: usize = 8;
    const BYTES: usize = 400_000;
    let mut setup = Setup::tiny(Mode::EchoAndMove);
    setup.cores = 2;
    let node = setup.start();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let mut client = node.connect();
            std::thread::spawn(move || {
                let bytes: Vec<u8> = (0..BYTES).map(|index| common::pattern(index + n)).collect();
                let mut writer = client.try_clone().unwrap();
                let sent = bytes.clone();
                let thread = std::thread::spawn(move || {
                    let mut prng = Prng::new(n as u64);
                    let mut rest = &sent[..];
                    while !rest.is_empty() {
                        let size = (1 + prng.below(3000) as usize).min(rest.len());
                        writer.write_all(&rest[..size]).unwrap();
                        rest = &rest[size..];
                    }
                    // The end of what is sent may be met on either core, or between the two.
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut back = Vec::new();
                client.read_to_end(&mut back).unwrap();
                assert!(back == bytes, "client {n} got other bytes");
                thread.join().unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = node.until("close of all", |stats| stats.closed == CLIENTS as u64);
    println!("{} moves", stats.detached);
    assert!(stats.detached > 20 && stats.detached == stats.attached, "{stats:?}");
    assert_eq!((stats.accepts, stats.closed), (CLIENTS as u64, CLIENTS as u64));
    node.stop();
}

#[test]
fn a_core_listens_on_several_addresses_of_both_families() {
    let ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let mut setup = Setup::new(Mode::Echo);
    setup.cores = 2;
    setup.also = vec![SocketAddr::from(([127, 0, 0, 1], 0)); 2];
    if TcpListener::bind(ipv6).is_ok() {
        setup.also.push(ipv6);
    } else {
        println!("no IPv6 on this host");
    }
    let node = setup.start();
    let mut clients = Vec::new();
    for addr in &node.also {
        for _ in 0..20 {
            let mut client = TcpStream::connect(addr).unwrap();
            echo(&mut client, b"hello");
            clients.push(client);
        }
    }
    node.stats();
    let accepts: Vec<u64> = node.shared.stats.lock().unwrap().iter().map(|stats| stats.accepts).collect();
    assert_eq!(accepts, [0, clients.len() as u64], "ports of its own lead to their core");
    drop(clients);
    node.stop();
}

#[test]
fn each_core_accepts_its_share() {
    let mut setup = Setup::new(Mode::Echo);
    setup.cores = 2;
    let node = setup.start();
    let mut clients: Vec<_> = (0..200).map(|_| node.connect()).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    node.stats();
    let shares: Vec<u64> = node.shared.stats.lock().unwrap().iter().map(|stats| stats.accepts).collect();
    assert!(shares.iter().all(|&share| share > 40), "{shares:?}");
    drop(clients);
    node.stop();
}
