//! Crowds of clients are answered in batches, and nobody waits for company that does not come.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Mode, Setup, echo};

/// One request of each client, then all the replies.
fn round(clients: &mut [TcpStream]) {
    for client in clients.iter_mut() {
        client.write_all(b"x").unwrap();
    }
    for client in clients {
        client.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_busy_core_waits_until_several_of_a_crowd_have_sent() {
    let mut setup = Setup::new(Mode::Echo);
    setup.tuning.gather_us = 2000;
    setup.tuning.nap_us = 10_000;
    let node = setup.start();
    let mut clients: Vec<_> = (0..48).map(|_| node.connect()).collect();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        round(&mut clients);
    }
    // The crowd goes quiet, and what one client sends is not kept for company.
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let asked = Instant::now();
        clients[0].write_all(b"x").unwrap();
        clients[0].read_exact(&mut [0]).unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    drop(clients);
    let stats = node.until("close of all", |stats| stats.closed == 48);
    assert!(stats.gathers > 0, "{stats:?}");
    node.stop();
}

#[test]
fn few_clients_never_wait_for_each_other() {
    let mut setup = Setup::new(Mode::Echo);
    setup.tuning.gather_us = 2000;
    let node = setup.start();
    let mut clients: Vec<_> = (0..4).map(|_| node.connect()).collect();
    for _ in 0..2000 {
        round(&mut clients);
    }
    echo(&mut clients[0], b"last");
    drop(clients);
    let stats = node.until("close of all", |stats| stats.closed == 4);
    assert_eq!(stats.gathers, 0);
    node.stop();
}

#[test]
fn it_can_be_switched_off() {
    let mut setup = Setup::new(Mode::Echo);
    setup.tuning.gather_us = 0;
    let node = setup.start();
    let mut clients: Vec<_> = (0..48).map(|_| node.connect()).collect();
    for _ in 0..300 {
        round(&mut clients);
    }
    drop(clients);
    let stats = node.until("close of all", |stats| stats.closed == 48);
    assert_eq!(stats.gathers, 0);
    node.stop();
}
