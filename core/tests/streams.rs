//! A connection's bytes mean the same however they are cut, and whatever a request in their middle
//! has to wait for.

mod mesh;

use mesh::{Client, Mesh, encode};
use pinnace_protocol::native::{self, Flags, NativeLimits, Opcode, Status};

const MEMORY_BYTES: u64 = 32 << 20;

/// Commands of every way to run: local, forwarded, split, gathered, in several steps, queued,
/// refused, inline with and without quotes. `a` and `b` lie on different cores if there are two.
fn stream(mesh: &Mesh) -> Vec<u8> {
    let other = usize::from(mesh.core_count() > 1);
    let (a, b) = (mesh.key_on(0, 0), mesh.key_on(other, 1));
    let (a, b) = (a.as_slice(), b.as_slice());
    let commands: &[&[&[u8]]] = &[
        &[b"SET", a, b"1"],
        &[b"SET", b, b"\r\n$5\r\n"],
        &[b"GET", b],
        &[b"MGET", a, b, b"absent", a],
        &[b"INCR", a],
        &[b"NOSUCH", b"x"],
        &[b"GET"],
        &[b"WATCH", b],
        &[b"MULTI"],
        &[b"SET", b, b"in a transaction"],
        &[b"GET", b],
        &[b"EXEC"],
        &[b"WATCH", a, b],
        &[b"APPEND", a, b"!"],
        &[b"MULTI"],
        &[b"GET", a],
        &[b"EXEC"],
        &[b"RENAME", a, b"renamed"],
        &[b"GET", b"renamed"],
        &[b"DEL", a, b, b"renamed"],
        &[b"MSET", a, b"x", b, b"y"],
        &[b"DBSIZE"],
        &[b"GET", a],
        &[b"GET", b],
    ];
    let mut bytes: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
    bytes.extend_from_slice(b"PING\r\n\r\nECHO \"a\\x41 b\"\r\n*0\r\nGET ");
    bytes.extend_from_slice(b);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn flush(mesh: &mut Mesh, client: Client) {
    assert_eq!(mesh.request(client, &[b"FLUSHALL"]), b"+OK\r\n");
}

/// The replies to `pieces`; the mail between the cores moves after every piece if `settle`.
fn replies(mesh: &mut Mesh, pieces: &[&[u8]], settle: bool) -> String {
    let client = mesh.connect(0);
    flush(mesh, client);
    for piece in pieces {
        mesh.send(client, piece);
        if settle {
            mesh.settle();
        }
    }
    mesh.settle();
    String::from_utf8(mesh.take(client)).expect("the stream is text")
}

#[test]
fn replies_are_the_same_at_every_cut_and_on_any_number_of_cores() {
    let mut expected = None;
    for core_count in [1, 2, 3] {
        let mut mesh = Mesh::new(core_count, MEMORY_BYTES);
        let bytes = stream(&mesh);
        let whole = replies(&mut mesh, &[&bytes], true);
        assert_eq!(&whole, expected.get_or_insert_with(|| whole.clone()), "{core_count} cores");
        for cut in 1..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(replies(&mut mesh, &[head, tail], cut % 2 == 0), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(replies(&mut mesh, &single, false), whole, "byte by byte");
    }
    let expected = expected.expect("three meshes have run");
    assert!(expected.contains("-ERR unknown command 'NOSUCH'"), "{expected}");
    assert!(
        expected.contains("in a transaction") && expected.ends_with("$4\r\naA b\r\n$1\r\ny\r\n"),
        "{expected}"
    );
}

#[test]
fn a_long_pipeline_over_cores_keeps_its_order() {
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let client = mesh.connect(0);
    let keys: Vec<Vec<u8>> = (0..2000).map(|n| format!("key:{n}").into_bytes()).collect();
    let sets: Vec<u8> = keys.iter().flat_map(|key| encode(&[b"SET", key, key])).collect();
    assert_eq!(mesh.call(client, &sets), b"+OK\r\n".repeat(keys.len()));
    let gets: Vec<u8> = keys.iter().flat_map(|key| encode(&[b"GET", key])).collect();
    let expected: Vec<u8> =
        keys.iter().flat_map(|k| format!("${}\r\n{}\r\n", k.len(), text(k)).into_bytes()).collect();
    assert_eq!(text(&mesh.call(client, &gets)), text(&expected));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Request ids and statuses of native replies.
fn native_replies(mut bytes: &[u8]) -> Vec<(u32, Status)> {
    let mut replies = Vec::new();
    while let Some((frame, consumed)) =
        native::decode(bytes, &NativeLimits::FORMAT).expect("replies are frames")
    {
        replies.push((frame.request_id, frame.status));
        bytes = &bytes[consumed..];
    }
    assert!(bytes.is_empty());
    replies
}

#[test]
fn a_noop_is_answered_after_quiet_requests_to_other_cores() {
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let client = mesh.connect(0);
    let (near, far) = (mesh.key_on(0, 0), mesh.key_on(1, 0));
    let mut bytes = Vec::new();
    native::encode_get(&mut bytes, 1, Flags::NONE, &far);
    native::encode_get(&mut bytes, 2, Flags::QUIET, &far);
    native::encode(&mut bytes, &native::Header::request(Opcode::NOOP, 3), &[], &[]);
    native::encode_get(&mut bytes, 4, Flags::NONE, &near);
    mesh.send(client, &bytes);
    assert_eq!(mesh.take(client), b"", "everything waits for the other core");
    mesh.settle();
    let replies = native_replies(&mesh.take(client));
    assert_eq!(replies, [(1, Status::NOT_FOUND), (3, Status::OK), (4, Status::NOT_FOUND)]);
}

#[test]
fn a_broken_stream_is_answered_and_closed_after_what_came_before_it() {
    for core_count in [1, 2] {
        let mut mesh = Mesh::new(core_count, MEMORY_BYTES);
        let far = mesh.key_on(usize::from(core_count) - 1, 0);
        let client = mesh.connect(0);
        let mut bytes = encode(&[b"SET", &far, b"v"]);
        bytes.extend_from_slice(b"*1\r\n$x\r\n*1\r\n$4\r\nPING\r\n");
        mesh.send(client, &bytes);
        mesh.settle();
        assert_eq!(text(&mesh.take(client)), "+OK\r\n-ERR Protocol error: invalid bulk length\r\n");
    }
}
