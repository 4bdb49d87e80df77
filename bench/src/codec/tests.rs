use super::{Codec, Command, KeyBatch, MetaCodec, NativeCodec, Outcome, Request, RespCodec, TextCodec};
use pinnace_protocol::native;

fn request(command: Command, ttl_ms: u64) -> Request<'static> {
    Request { command, key: b"key-0001", value: b"abc", ttl_ms, wall_ms: 1_000_000, version: 9 }
}

fn encoded(codec: &mut impl Codec, command: Command, ttl_ms: u64) -> String {
    let mut out = Vec::new();
    codec.encode(&mut out, 5, &request(command, ttl_ms));
    String::from_utf8(out).unwrap()
}

fn batch() -> KeyBatch {
    let mut keys = KeyBatch::default();
    keys.push(b"k1");
    keys.push(b"k2");
    keys.push(b"k3");
    keys
}

/// Decodes `bytes` at every split point, and checks that only the whole is a reply.
fn decode_all(codec: &mut impl Codec, bytes: &[u8]) -> (Outcome, Vec<u8>, u64) {
    for end in 0..bytes.len() {
        assert_eq!(
            codec.decode(&bytes[..end]).unwrap(),
            None,
            "{:?}",
            bytes[..end].escape_ascii().to_string()
        );
    }
    let longer = [bytes, b"+"].concat();
    let reply = codec.decode(&longer).unwrap().unwrap();
    assert_eq!(reply.consumed, bytes.len());
    (reply.outcome, reply.body.to_vec(), reply.version)
}

fn items(codec: &mut impl Codec, bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let (outcome, body, _) = decode_all(codec, bytes);
    assert_eq!(outcome, Outcome::Items);
    let mut seen = Vec::new();
    codec
        .items(&body, &batch(), &mut |place, value| {
            assert_eq!(place, seen.len());
            seen.push(value.map(<[u8]>::to_vec));
        })
        .unwrap();
    seen
}

#[test]
fn resp_requests_are_those_of_the_manual() {
    let mut codec = RespCodec::default();
    assert_eq!(encoded(&mut codec, Command::Get, 0), "*2\r\n$3\r\nGET\r\n$8\r\nkey-0001\r\n");
    assert_eq!(encoded(&mut codec, Command::Set, 0), "*3\r\n$3\r\nSET\r\n$8\r\nkey-0001\r\n$3\r\nabc\r\n");
    assert!(encoded(&mut codec, Command::Set, 1500).ends_with("$2\r\nPX\r\n$4\r\n1500\r\n"));
    assert_eq!(encoded(&mut codec, Command::Increment, 0), "*2\r\n$4\r\nINCR\r\n$8\r\nkey-0001\r\n");
    let mut out = Vec::new();
    codec.encode_multi_get(&mut out, 0, &batch());
    assert_eq!(out, b"*4\r\n$4\r\nMGET\r\n$2\r\nk1\r\n$2\r\nk2\r\n$2\r\nk3\r\n");
}

#[test]
fn resp_replies_are_told_apart_at_every_split() {
    let mut codec = RespCodec::default();
    let mut outcome = |bytes: &[u8]| decode_all(&mut codec, bytes).0;
    assert_eq!(outcome(b"+OK\r\n"), Outcome::Done);
    assert_eq!(outcome(b"$-1\r\n"), Outcome::Miss);
    assert_eq!(outcome(b"$3\r\na\r\n\r\n"), Outcome::Value);
    assert_eq!(outcome(b":12\r\n"), Outcome::Number);
    assert_eq!(outcome(b"-ERR no\r\n"), Outcome::Error);
    assert_eq!(outcome(b"-MOVED 7 h:1\r\n"), Outcome::Moved);
    let seen = items(&mut codec, b"*3\r\n$1\r\na\r\n$-1\r\n$0\r\n\r\n");
    assert_eq!(seen, [Some(b"a".to_vec()), None, Some(Vec::new())]);
    assert!(codec.decode(b"HTTP/1.1 400\r\n").is_err());
    assert!(codec.decode(b"$3\r\nabcd\r\n").is_err());
}

#[test]
fn memcache_text_speaks_and_understands() {
    let mut codec = TextCodec;
    assert_eq!(encoded(&mut codec, Command::Get, 0), "get key-0001\r\n");
    assert_eq!(encoded(&mut codec, Command::Set, 1500), "set key-0001 0 2 3\r\nabc\r\n");
    assert_eq!(encoded(&mut codec, Command::Cas, 0), "cas key-0001 0 0 3 9\r\nabc\r\n");
    let month_ms = 31 * 24 * 3_600_000;
    let absolute = 1000 + month_ms / 1000;
    assert_eq!(
        encoded(&mut codec, Command::Set, month_ms),
        format!("set key-0001 0 {absolute} 3\r\nabc\r\n")
    );
    assert_eq!(
        decode_all(&mut codec, b"VALUE k 0 3 77\r\nE\r\n\r\nEND\r\n"),
        (Outcome::Value, b"E\r\n".to_vec(), 77)
    );
    assert_eq!(decode_all(&mut codec, b"END\r\n").0, Outcome::Miss);
    assert_eq!(decode_all(&mut codec, b"SERVER_ERROR x\r\n").0, Outcome::Error);
    assert_eq!(decode_all(&mut codec, b"12\r\n").0, Outcome::Number);
    let seen = items(&mut codec, b"VALUE k1 0 1\r\na\r\nVALUE k3 0 1\r\nc\r\nEND\r\n");
    assert_eq!(seen, [Some(b"a".to_vec()), None, Some(b"c".to_vec())]);
}

#[test]
fn memcache_meta_speaks_and_understands() {
    let mut codec = MetaCodec;
    assert_eq!(encoded(&mut codec, Command::GetVersion, 0), "mg key-0001 c v\r\n");
    assert_eq!(encoded(&mut codec, Command::Cas, 1500), "ms key-0001 3 T2 C9\r\nabc\r\n");
    assert_eq!(decode_all(&mut codec, b"VA 2 c5\r\nab\r\n"), (Outcome::Value, b"ab".to_vec(), 5));
    assert_eq!(decode_all(&mut codec, b"EN\r\n").0, Outcome::Miss);
    assert_eq!(decode_all(&mut codec, b"HD\r\n").0, Outcome::Done);
    assert_eq!(items(&mut codec, b"MN\r\n"), [None, None, None]);
    let seen = items(&mut codec, b"VA 1 kk2\r\nb\r\nMN\r\n");
    assert_eq!(seen, [None, Some(b"b".to_vec()), None]);
}

#[test]
fn native_requests_are_frames_that_the_node_reads() {
    let mut codec = NativeCodec::default();
    let mut out = Vec::new();
    for command in [Command::Get, Command::Set, Command::Delete, Command::Increment, Command::Cas] {
        codec.encode(&mut out, 5, &request(command, 0));
    }
    codec.encode(&mut out, 5, &Request { key: &[b'x'; 300], ..request(Command::Get, 0) });
    codec.encode_multi_get(&mut out, 5, &batch());
    let mut opcodes = Vec::new();
    let mut rest = out.as_slice();
    while let Some((frame, bytes)) = native::decode(rest, &native::NativeLimits::FORMAT).unwrap() {
        assert!(frame.is_supported() && frame.request_id == 5);
        opcodes.push(frame.opcode.0);
        rest = &rest[bytes..];
    }
    assert!(rest.is_empty());
    assert_eq!(opcodes, [0x10, 0x12, 0x13, 0x15, 0x16, 0x10, 0x11]);
    let key: Vec<u8> = (0..=60).collect();
    for len in 1..=key.len() {
        let (mut short, mut plain) = (vec![9], vec![9]);
        codec.encode(&mut short, 5, &Request { key: &key[..len], ..request(Command::Get, 0) });
        native::encode_get(&mut plain, 5, native::Flags::NONE, &key[..len]);
        assert_eq!(short, plain, "the short way writes the same frame");
    }
}

#[test]
fn native_replies_carry_id_outcome_and_version() {
    let mut codec = NativeCodec::default();
    let mut bytes = Vec::new();
    native::encode_get_reply(&mut bytes, 8, b"abc", 0, Some(77));
    assert_eq!(codec.decode(&bytes).unwrap().unwrap().id, 8);
    assert_eq!(decode_all(&mut codec, &bytes), (Outcome::Value, b"abc".to_vec(), 77));
    let mut bytes = Vec::new();
    native::encode_status(&mut bytes, native::Opcode::GET, 8, native::Status::NOT_FOUND, None);
    assert_eq!(decode_all(&mut codec, &bytes).0, Outcome::Miss);
    let mut bytes = Vec::new();
    let reply = native::begin_multi_get_reply(&mut bytes, 8, 3);
    native::push_multi_get_item(&mut bytes, native::Status::OK, b"a", 0, None);
    native::push_multi_get_item(&mut bytes, native::Status::NOT_FOUND, b"", 0, None);
    native::push_multi_get_item(&mut bytes, native::Status::OK, b"", 0, Some(1));
    native::finish_multi_get_reply(&mut bytes, reply, 0).unwrap();
    assert_eq!(items(&mut codec, &bytes), [Some(b"a".to_vec()), None, Some(Vec::new())]);
}
