//! Large values that go from core to core are shared, not copied, and their memory comes back.

mod mesh;

use mesh::{Client, Mesh, encode};
use pinnace_protocol::native::{self, Header, MultiGetItems, NativeLimits, Opcode, Status};

const MEMORY_BYTES: u64 = 32 << 20;
const LARGE: usize = 1 << 20;

/// Two cores with a large value each, and a small one.
fn filled() -> (Mesh, Client, [Vec<u8>; 2]) {
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let client = mesh.connect(0);
    let keys = [mesh.key_on(0, 0), mesh.key_on(1, 0)];
    for (key, byte) in keys.iter().zip([b'a', b'b']) {
        assert_eq!(mesh.request(client, &[b"SET", key, &vec![byte; LARGE]]), b"+OK\r\n");
    }
    (mesh, client, keys)
}

fn bulk(value: &[u8]) -> Vec<u8> {
    let mut bytes = format!("${}\r\n", value.len()).into_bytes();
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Sends requests, and checks the reply and the memory that it takes.
fn check(mesh: &mut Mesh, client: Client, requests: &[u8], reply: &[u8]) {
    mesh.send(client, requests);
    mesh.settle();
    let memory = mesh.reply_memory(client);
    assert!(memory < LARGE / 4, "{memory} bytes beside the engine's");
    assert!(mesh.take(client) == reply);
}

#[test]
fn replies_gathered_from_several_cores_share_their_large_values() {
    let (mut mesh, client, [a, b]) = filled();
    let large = [b'a', b'b'].map(|byte| bulk(&vec![byte; LARGE]));
    mesh.request(client, &[b"SET", &mesh.key_on(1, 1), b"small"]);
    let small = mesh.key_on(1, 1);
    let reply = [b"*5\r\n", &large[1][..], b"$-1\r\n", &large[0], b"$5\r\nsmall\r\n", &large[1]].concat();
    check(&mut mesh, client, &encode(&[b"MGET", &b, b"absent", &a, &small, &b]), &reply);
}

#[test]
fn a_large_reply_of_another_core_is_shared_wherever_it_has_to_wait() {
    let (mut mesh, client, [a, b]) = filled();
    let large = [b'a', b'b'].map(|byte| bulk(&vec![byte; LARGE]));
    // The local reply waits behind the remote one.
    let requests = [encode(&[b"GET", &b]), encode(&[b"GET", &a]), encode(&[b"PING"])].concat();
    check(&mut mesh, client, &requests, &[&large[1][..], &large[0], b"+PONG\r\n"].concat());
    let requests = [&[&b"MULTI"[..]][..], &[b"GET", &b], &[b"PING"], &[b"GET", &b], &[b"EXEC"]];
    let requests: Vec<u8> = requests.iter().flat_map(|args| encode(args)).collect();
    let queued = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n";
    let reply = [&queued[..], &large[1], b"+PONG\r\n", &large[1]].concat();
    check(&mut mesh, client, &requests, &reply);
}

/// A client may send its requests, finish, and then read. Most of the requests have to wait until others
/// are answered; the driver closes such a connection as soon as the core owes it nothing.
#[test]
fn a_client_that_has_finished_sending_is_owed_what_it_asked_for() {
    const REQUESTS: usize = 40;
    let (mut mesh, client, [a, b]) = filled();
    let reply = [bulk(&vec![b'b'; LARGE]), bulk(&vec![b'a'; LARGE])].concat();
    let requests = [encode(&[b"GET", &b]), encode(&[b"GET", &a])].concat().repeat(REQUESTS);
    mesh.send(client, &requests);
    let whole = reply.repeat(REQUESTS);
    let mut received = Vec::new();
    while received.len() < whole.len() {
        mesh.settle();
        let is_owed = mesh.owes_reply(client);
        received.extend(mesh.take(client));
        assert!(is_owed || received.len() == whole.len(), "closed after {} bytes", received.len());
    }
    assert!(received == whole);
    mesh.settle();
    assert!(!mesh.owes_reply(client), "never closed");
}

#[test]
fn a_reply_under_way_keeps_its_value_and_gives_the_memory_back() {
    let (mut mesh, client, [_, b]) = filled();
    mesh.send(client, &encode(&[b"GET", &b]));
    mesh.settle();
    let other = mesh.connect(1);
    // As much as fits, again and again: the old value's memory is taken only once nobody reads it.
    for round in 0..200u8 {
        assert_eq!(mesh.request(other, &[b"SET", &b, &vec![round; 8 * LARGE]]), b"+OK\r\n");
    }
    assert!(mesh.take(client) == bulk(&vec![b'b'; LARGE]));
    for round in 0..20u8 {
        assert_eq!(mesh.request(other, &[b"SET", &b, &vec![round; 12 * LARGE]]), b"+OK\r\n");
    }
}

#[test]
fn a_large_value_is_renamed_and_copied_from_core_to_core() {
    let (mut mesh, client, [a, b]) = filled();
    let large = bulk(&vec![b'a'; LARGE]);
    assert_eq!(mesh.request(client, &[b"RENAME", &a, &b]), b"+OK\r\n");
    assert!(mesh.request(client, &[b"GET", &b]) == large);
    assert_eq!(mesh.request(client, &[b"COPY", &b, &a]), b":1\r\n");
    assert!(mesh.request(client, &[b"GET", &a]) == large);
    assert_eq!(
        mesh.request(client, &[b"BITOP", b"XOR", &mesh.key_on(1, 5), &a, &b]),
        format!(":{LARGE}\r\n").as_bytes()
    );
    assert_eq!(mesh.request(client, &[b"BITCOUNT", &mesh.key_on(1, 5)]), b":0\r\n");
}

#[test]
fn a_native_multi_get_shares_large_values() {
    let (mut mesh, client, [a, b]) = filled();
    let small = mesh.key_on(1, 1);
    mesh.request(client, &[b"SET", &small, b"small"]);
    let client = mesh.connect(0);
    let mut request = Vec::new();
    let header = Header::request(Opcode::MULTI_GET, 7);
    native::encode_multi_get(&mut request, &header, &[&b, b"absent", &a, &small, &b]);
    mesh.send(client, &request);
    mesh.settle();
    assert!(mesh.reply_memory(client) < LARGE / 4);
    let reply = mesh.take(client);
    let (frame, bytes) = native::decode(&reply, &NativeLimits::FORMAT).unwrap().unwrap();
    assert_eq!((frame.request_id, bytes), (7, reply.len()));
    let items: Vec<_> = MultiGetItems::decode(frame.value).unwrap().collect();
    let values: Vec<_> = items.iter().map(|item| (item.value.len(), item.value.first())).collect();
    let large = [(LARGE, Some(&b'b')), (LARGE, Some(&b'a'))];
    assert_eq!(values, [large[0], (0, None), large[1], (5, Some(&b's')), large[0]]);
    assert_eq!(items[1].status, Status::NOT_FOUND);
}

#[test]
fn results_that_are_built_beside_the_memory_are_built_one_at_a_time() {
    let (mut mesh, client, [a, b]) = filled();
    let target = mesh.key_on(1, 5);
    let clients: Vec<Client> = (0..4).map(|_| mesh.connect(0)).collect();
    for &client in &clients {
        mesh.send(client, &encode(&[b"BITOP", b"XOR", &target, &a, &b]));
    }
    mesh.disconnect(clients[2]);
    mesh.settle();
    for &client in [0, 1, 3].map(|index| &clients[index]) {
        assert_eq!(mesh.take(client), format!(":{LARGE}\r\n").as_bytes());
    }
    assert_eq!(mesh.request(client, &[b"STRLEN", &target]), format!(":{LARGE}\r\n").as_bytes());
}

#[test]
fn a_client_that_sends_everything_before_it_reads_is_read_on() {
    let (mut mesh, client, [_, b]) = filled();
    let small = mesh.key_on(1, 1);
    // As many requests as may wait for other cores, or more, then more than is kept meanwhile.
    let mut pipeline = encode(&[b"GET", &small]).repeat(3);
    pipeline.extend(encode(&[b"GET", &b]).repeat(5));
    let next = encode(&[b"SET", &small, &vec![b's'; LARGE]]);
    let (now, later) = next.split_at(LARGE * 3 / 4);
    pipeline.extend(now);
    mesh.send(client, &pipeline);
    assert!(!mesh.is_read(client));
    mesh.settle();
    // The replies are more than is sent ahead, so the next request has to wait; its bytes have not.
    assert!(mesh.is_read(client));
    mesh.send(client, later);
    let mut replies = Vec::new();
    for _ in 0..8 {
        mesh.settle();
        replies.extend(mesh.take(client));
    }
    let large = bulk(&vec![b'b'; LARGE]);
    assert!(replies == [b"$-1\r\n".repeat(3), large.repeat(5), b"+OK\r\n".to_vec()].concat());
}
