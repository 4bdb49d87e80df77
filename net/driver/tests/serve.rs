//! One core, real clients: replies, limits, slow readers, hang-ups, stops.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Mode, Pieces, Setup, echo, pattern, thread_cpu};
use socket2::SockRef;

#[test]
fn many_clients_get_their_own_bytes_back() {
    let node = Setup::new(Mode::Echo).start();
    let mut clients: Vec<_> = (0..100).map(|_| node.connect()).collect();
    for round in 0..5u32 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.write_all(format!("client {n} round {round};").as_bytes()).unwrap();
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let expected = format!("client {n} round {round};");
            let mut back = vec![0; expected.len()];
            client.read_exact(&mut back).unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), expected);
        }
    }
    drop(clients);
    let stats = node.until("close of all", |stats| stats.closed == 100);
    assert_eq!((stats.accepts, stats.closed_error), (100, 0));
    assert!(node.shared.live.lock().unwrap().is_empty());
    node.stop();
}

#[test]
fn large_requests_and_replies_pass_whole() {
    let node = Setup::new(Mode::Echo).start();
    let mut client = node.connect();
    let bytes: Vec<u8> = (0..16 << 20).map(pattern).collect();
    let mut writer = client.try_clone().unwrap();
    let sent = bytes.clone();
    let thread = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == bytes);
    thread.join().unwrap();
    node.stop();
}

#[test]
fn a_slow_reader_gets_every_byte_in_order() {
    const BYTES: usize = 16 << 20;
    let mut setup = Setup::tiny(Mode::Flood(BYTES));
    setup.limits.output_close_bytes = 64 << 20;
    let node = setup.start();
    let mut client = node.connect();
    SockRef::from(&client).set_recv_buffer_size(64 << 10).unwrap();
    client.write_all(b"x").unwrap();
    let mut received = 0;
    let mut chunk = [0; 20_000];
    while received < BYTES {
        let count = client.read(&mut chunk).unwrap();
        assert!(count > 0);
        assert!(chunk[..count].iter().enumerate().all(|(n, &byte)| byte == pattern(received + n)));
        received += count;
        if received < 400_000 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let stats = node.stop();
    assert!(stats.sends_partial > 0 && stats.output_pauses > 0, "{stats:?}");
}

#[test]
fn pinned_values_are_sent_in_place_and_let_go_after_the_last_byte() {
    let pieces: Vec<Vec<u8>> = (0..300).map(|n| (0..n * 10).map(pattern).collect()).collect();
    let pieces = Pieces(Arc::new(pieces));
    let mut setup = Setup::new(Mode::Pinned(pieces.clone()));
    setup.limits.output_close_bytes = 64 << 20;
    let node = setup.start();
    let one = [b"<".to_vec(), pieces.0.concat(), b">".to_vec()].concat();
    let mut client = node.connect();
    SockRef::from(&client).set_recv_buffer_size(64 << 10).unwrap();
    client.write_all(b"abcde").unwrap();
    let mut back = vec![0; one.len() * 5];
    client.read_exact(&mut back).unwrap();
    assert!(back == one.repeat(5));
    // A client that hangs up in the middle of a value lets go of it as well.
    client.write_all(b"fghij").unwrap();
    client.read_exact(&mut back[..1000]).unwrap();
    common::reset(client);
    node.until("close", |stats| stats.closed == 1);
    // One here, one in the mode of the service.
    assert!(Arc::strong_count(&pieces.0) <= 3, "{}", Arc::strong_count(&pieces.0));
    node.stop();
    assert_eq!(Arc::strong_count(&pieces.0), 1);
}

#[test]
fn a_client_that_never_reads_is_paused_and_then_closed() {
    let mut setup = Setup::tiny(Mode::Flood(1000));
    // More than the kernel's socket buffers can hold, so that it shows in ours.
    setup.limits.output_close_bytes = 16 << 20;
    let node = setup.start();
    let mut client = node.connect();
    SockRef::from(&client).set_recv_buffer_size(4 << 10).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut accepted = 0;
    loop {
        match client.write(&[b'x'; 256]) {
            Ok(count) => accepted += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(_) => break,
        }
    }
    let stats = node.until("pause or close", |stats| stats.output_pauses + stats.closed_output_limit > 0);
    assert!(stats.bytes_in < accepted as u64, "{stats:?}");
    // Memory is bounded by the pause limit and what was received until the pause took effect.
    let peak = node.shared.unsent_peak.load(Ordering::Relaxed);
    assert!(peak < 40 << 20, "{peak}");
    // Others are served meanwhile.
    let mut other = node.connect();
    other.write_all(b"y").unwrap();
    other.read_exact(&mut [0; 1000]).unwrap();
    node.stop();
}

#[test]
fn clients_that_never_read_hold_no_more_than_the_total_together() {
    const CLIENTS: usize = 100;
    const REPLY: usize = 1000;
    let mut setup = Setup::tiny(Mode::Flood(REPLY));
    // No client meets a limit of its own: each could hold ten times the total.
    setup.limits.output_pause_bytes = 320 << 20;
    setup.limits.output_close_bytes = 320 << 20;
    setup.limits.output_bytes_max = 32 << 20;
    let total_max = setup.limits.output_bytes_max;
    let node = setup.start();
    let mut reader = node.connect();
    let mut silent: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = node.connect();
            SockRef::from(&client).set_recv_buffer_size(4 << 10).unwrap();
            client
        })
        .collect();
    let mut held = 0;
    for round in 0..60 {
        for client in &mut silent {
            // Fails for those that were closed.
            let _ = client.write(&[b'x'; 100]);
        }
        reader.write_all(b"x").unwrap();
        let mut reply = [0; REPLY];
        reader.read_exact(&mut reply).unwrap();
        assert!(reply.iter().enumerate().all(|(n, &byte)| byte == pattern(n)), "round {round}");
        held = held.max(node.shared.output_peak.load(Ordering::Relaxed));
    }
    let stats = node.until("closes", |stats| {
        let closed = CLIENTS as u64 + 1 - stats.connections;
        closed > 0 && stats.closed_output_total == closed && stats.output_bytes <= total_max
    });
    assert!(stats.output_bytes > total_max / 4 && stats.connections > 1, "the others are kept: {stats:?}");
    // What one turn of tiny buffers can add to it: vectors grow by doubling.
    assert!(held < total_max + (40 << 20), "{held}");
    assert_eq!((stats.closed_output_limit, stats.output_pauses), (0, 0));
    reader.write_all(b"x").unwrap();
    reader.read_exact(&mut [0; REPLY]).unwrap();
    drop(silent);
    let stats = node.until("close of all but one", |stats| stats.connections == 1);
    assert_eq!(stats.output_bytes, 0, "nothing is counted that is not held");
    node.stop();
}

#[test]
fn one_reply_over_the_close_limit_closes() {
    let node = Setup::tiny(Mode::Flood(1 << 20)).start();
    let mut client = node.connect();
    client.write_all(b"x").unwrap();
    let mut all = Vec::new();
    let _ = client.read_to_end(&mut all);
    assert!(all.len() < 1 << 20);
    let stats = node.until("close", |stats| stats.closed == 1);
    assert_eq!(stats.closed_output_limit, 1);
    node.stop();
}

#[test]
fn a_paused_reader_that_reads_on_is_served_on() {
    let mut setup = Setup::tiny(Mode::Flood(64 << 10));
    setup.limits.output_close_bytes = 1 << 30;
    let node = setup.start();
    let mut client = node.connect();
    SockRef::from(&client).set_recv_buffer_size(64 << 10).unwrap();
    let mut writer = client.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..100 {
            writer.write_all(&[b'x'; 2]).unwrap();
            std::thread::sleep(Duration::from_micros(300));
        }
    });
    let mut all = vec![0; 200 * (64 << 10)];
    std::thread::sleep(Duration::from_millis(100));
    client.read_exact(&mut all).unwrap();
    assert!(all.iter().enumerate().all(|(n, &byte)| byte == pattern(n % (64 << 10))));
    thread.join().unwrap();
    let stats = node.stats();
    assert!(stats.output_pauses > 0 && node.shared.drained.load(Ordering::Relaxed) > 0, "{stats:?}");
    echo_size(&mut client, 64 << 10);
    node.stop();
}

#[test]
fn a_service_that_waits_for_its_replies_to_drain_is_told_so_by_fast_readers_too() {
    const CHUNK: usize = 6000;
    // Over the pause limit, but gone with the next enter: such a connection is never paused.
    let node = Setup::tiny(Mode::FloodWhenDrained(CHUNK)).start();
    let mut client = node.connect();
    client.write_all(b"x").unwrap();
    for _ in 0..500 {
        let mut chunk = vec![0; CHUNK];
        client.read_exact(&mut chunk).unwrap();
        assert!(chunk.iter().enumerate().all(|(n, &byte)| byte == pattern(n)));
    }
    drop(client);
    node.until("close", |stats| stats.closed == 1);
    node.stop();
}

fn echo_size(client: &mut TcpStream, reply: usize) {
    client.write_all(b"x").unwrap();
    client.read_exact(&mut vec![0; reply]).unwrap();
}

#[test]
fn buffers_that_run_dry_come_back_to_everybody() {
    let node = Setup::tiny(Mode::Echo).start();
    let threads: Vec<_> = (0..32u8)
        .map(|n| {
            let mut client = node.connect();
            std::thread::spawn(move || {
                let bytes: Vec<u8> = (0..300_000).map(|index| pattern(index) ^ n).collect();
                let mut writer = client.try_clone().unwrap();
                let sent = bytes.clone();
                let thread = std::thread::spawn(move || writer.write_all(&sent).unwrap());
                let mut back = vec![0; bytes.len()];
                client.read_exact(&mut back).unwrap();
                assert!(back == bytes);
                thread.join().unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = node.stop();
    assert!(stats.buffers_dry > 0 && stats.greedy > 0, "{stats:?}");
}

#[test]
fn a_greedy_client_does_not_starve_the_others() {
    let node = Setup::tiny(Mode::EchoSingles).start();
    let mut greedy = node.connect();
    let greedy_thread = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(2);
        let mut sent = 0;
        while Instant::now() < until {
            sent += greedy.write(&[7; 64 << 10]).unwrap();
        }
        sent
    });
    let mut polite = node.connect();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let started = Instant::now();
        echo(&mut polite, b"p");
        slowest = slowest.max(started.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = greedy_thread.join().unwrap();
    let stats = node.until("all bytes", |stats| stats.bytes_in == sent as u64 + 20);
    assert!(stats.greedy > 0, "{stats:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    node.stop();
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut setup = Setup::new(Mode::Echo);
    setup.limits.connections_max = 3;
    let node = setup.start();
    let mut clients: Vec<_> = (0..3).map(|_| node.connect()).collect();
    clients.iter_mut().for_each(|client| echo(client, b"in"));
    for _ in 0..5 {
        let mut refused = node.connect();
        let mut text = String::new();
        refused.read_to_string(&mut text).unwrap();
        assert_eq!(text, "-ERR max number of clients reached\r\n");
    }
    drop(clients.pop());
    node.until("a free place", |stats| stats.connections == 2);
    echo(&mut node.connect(), b"in again");
    let stats = node.stop();
    assert_eq!((stats.accepts, stats.accepts_refused), (4, 5));
}

#[test]
fn silent_clients_are_closed_and_talking_ones_are_not() {
    let mut setup = Setup::new(Mode::Echo);
    setup.limits.idle_timeout_ms = 300;
    let node = setup.start();
    let mut silent = node.connect();
    let mut talking = node.connect();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(900) {
        echo(&mut talking, b"still here");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let stats = node.stats();
    assert_eq!((stats.closed_idle, stats.connections), (1, 1));
    node.stop();
}

#[test]
fn replies_are_sent_after_the_client_has_finished_sending() {
    for mode in [Mode::Echo, Mode::EchoLater] {
        let node = Setup::new(mode).start();
        let mut client = node.connect();
        client.write_all(b"last words").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        node.until("close", |stats| stats.closed == 1);
        node.stop();
    }
}

#[test]
fn close_after_flush_delivers_the_reply_to_a_client_that_still_sends() {
    let node = Setup::new(Mode::EchoOnce).start();
    for _ in 0..20 {
        let mut client = node.connect();
        client.write_all(b"first").unwrap();
        let mut back = [0; 5];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"first");
        // What comes after is ignored and must not turn into a reset.
        let _ = client.write_all(&[b'x'; 10_000]);
        assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
    }
    node.until("close of all", |stats| stats.closed == 20);
    assert!(node.shared.live.lock().unwrap().is_empty());
    node.stop();
}

#[test]
fn a_closed_client_that_does_not_hang_up_is_cut_off() {
    let mut setup = Setup::new(Mode::EchoOnce);
    setup.tuning.linger_ms = 100;
    let node = setup.start();
    let mut client = node.connect();
    echo(&mut client, b"bye");
    let started = Instant::now();
    node.until("close", |stats| stats.closed == 1);
    assert!(started.elapsed() >= Duration::from_millis(80));
    drop(client);
    node.stop();
}

#[test]
fn a_stop_sends_what_is_under_way() {
    const BYTES: usize = 8 << 20;
    let node = Setup::new(Mode::Flood(BYTES)).start();
    let mut client = node.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all.len()
    });
    node.stop();
    assert_eq!(reader.join().unwrap(), BYTES - 1);
}

#[test]
fn a_stop_does_not_wait_for_a_client_that_does_not_read() {
    let mut setup = Setup::new(Mode::Flood(32 << 20));
    setup.tuning.drain_ms = 200;
    let node = setup.start();
    let mut client = node.connect();
    client.write_all(b"x").unwrap();
    node.until("reply under way", |stats| stats.bytes_out > 0);
    let started = Instant::now();
    node.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_thousand_idle_clients_cost_next_to_nothing() {
    let mut setup = Setup::new(Mode::Echo);
    setup.cores = 2;
    let node = setup.start();
    let mut clients: Vec<_> = (0..1000).map(|_| node.connect()).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    let measure = |threads: &[i32]| threads.iter().map(|&thread| thread_cpu(thread)).sum::<Duration>();
    std::thread::sleep(Duration::from_millis(200));
    let before = measure(&node.threads);
    std::thread::sleep(Duration::from_secs(2));
    let used = measure(&node.threads) - before;
    println!("2 idle cores, 1000 idle clients: {:.3} % of a core", used.as_secs_f64() / 2.0 * 100.0);
    assert!(used < Duration::from_millis(20), "{used:?} in 2 s");
    drop(clients);
    node.stop();
}
