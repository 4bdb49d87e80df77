use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{ClientEvent, ClientRing, ClientRingConfig, Wait};

const SMALL: ClientRingConfig = ClientRingConfig { entries: 8, buffer_count: 4, buffer_bytes: 64 };
const TICK: Wait = Wait::For(Duration::from_millis(50));

/// Streams to a server thread that runs `serve` on each accepted socket.
fn connect(count: usize, serve: fn(TcpStream)) -> Vec<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let streams = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..count {
        let socket = listener.accept().unwrap().0;
        thread::spawn(move || serve(socket));
    }
    streams
}

fn echo(mut socket: TcpStream) {
    let mut buffer = [0; 777];
    while let Ok(len @ 1..) = socket.read(&mut buffer) {
        if socket.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

#[test]
fn bytes_come_back_in_order_though_the_pool_is_tiny() {
    let mut ring = ClientRing::new(SMALL, connect(3, echo)).unwrap();
    let sent: Vec<Vec<u8>> =
        (0..3u8).map(|c| (0..50_000u32).map(|i| (i % 251) as u8 ^ c).collect()).collect();
    for (connection, bytes) in sent.iter().enumerate() {
        assert!(ring.send(connection, &mut bytes.clone()).unwrap());
        assert!(!ring.send(connection, &mut vec![1]).unwrap(), "one send at a time");
    }
    let mut received = vec![Vec::new(); 3];
    let end = Instant::now() + Duration::from_secs(10);
    while received != sent {
        assert!(Instant::now() < end, "the echo is not complete");
        ring.turn(TICK, |connection, event| match event {
            ClientEvent::Data(bytes) => received[connection].extend_from_slice(bytes),
            ClientEvent::Sent => (),
            ClientEvent::Closed(error) => panic!("closed: {error:?}"),
        })
        .unwrap();
    }
    assert!((0..3).all(|connection| !ring.is_sending(connection)));
}

#[test]
fn a_peer_that_leaves_is_told_once_and_the_others_go_on() {
    let mut streams = connect(1, |mut socket| drop(socket.read(&mut [0; 1])));
    streams.extend(connect(1, echo));
    let mut ring = ClientRing::new(SMALL, streams).unwrap();
    ring.send(0, &mut vec![1]).unwrap();
    let (mut closed, mut echoed) = (0, 0);
    let (start, mut turns_after) = (Instant::now(), 0);
    // Some turns more than it takes, to see that it is not told again.
    while (turns_after < 10 || echoed < 2) && start.elapsed() < Duration::from_secs(20) {
        turns_after += usize::from(closed > 0);
        ring.send(1, &mut vec![2]).unwrap();
        ring.turn(TICK, |connection, event| match event {
            ClientEvent::Closed(_) => closed += 1 + connection,
            ClientEvent::Data(bytes) => echoed += bytes.len(),
            ClientEvent::Sent => (),
        })
        .unwrap();
    }
    assert_eq!(closed, 1);
    assert!(echoed > 1);
    assert!(!ring.send(0, &mut vec![1]).unwrap(), "a closed connection takes nothing");
}

#[test]
fn a_ring_dropped_with_a_send_under_way_ends_soon() {
    let mut ring =
        ClientRing::new(SMALL, connect(1, |_socket| thread::sleep(Duration::from_secs(2)))).unwrap();
    ring.send(0, &mut vec![0; 64 << 20]).unwrap();
    ring.turn(Wait::No, |_, _| ()).unwrap();
    assert!(ring.is_sending(0), "64 MiB do not fit into socket buffers");
    let start = Instant::now();
    drop(ring);
    assert!(start.elapsed() < Duration::from_secs(1));
}
