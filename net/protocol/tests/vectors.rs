//! Checks the codec against the test vectors of `docs/protocol.md`.
//!
//! A block ` ```vector NAME ` holds fields, `---` and the frame in hex; ` ```broken NAME ` the error's
//! text and the bytes. Every vector is encoded and decoded, and written once more by the encoder
//! that the node or a client would use.

use std::collections::BTreeMap;

use pinnace_protocol::native::{
    self, ANY_CORE, Features, Flags, Frame, Header, HelloReply, HelloRequest, IncrementBody, MultiGetItem,
    MultiGetItems, MultiGetKeys, NativeLimits, Opcode, Options, Status,
};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");
const DEADLINE: u64 = 1_767_225_600_000;

struct Block<'d> {
    fields: BTreeMap<&'d str, &'d str>,
    bytes: Vec<u8>,
}

/// The blocks of one kind, by name.
fn blocks(kind: &str) -> BTreeMap<&'static str, Block<'static>> {
    let mut blocks = BTreeMap::new();
    let opening = format!("```{kind} ");
    for part in DOCUMENT.split(opening.as_str()).skip(1) {
        let (name, rest) = part.split_once('\n').expect("a block has lines");
        let (body, _) = rest.split_once("\n```").expect("a block ends");
        let (fields, hex) = body.split_once("---\n").expect("a block has fields and bytes");
        let fields = fields
            .lines()
            .map(|line| {
                line.split_once(' ').map(|(name, value)| (name, value.trim())).expect("a field has a value")
            })
            .collect();
        let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
        assert!(blocks.insert(name, Block { fields, bytes }).is_none(), "{name} is there twice");
    }
    blocks
}

impl Block<'_> {
    fn number(&self, field: &str) -> u64 {
        let Some(text) = self.fields.get(field) else { return 0 };
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).expect("a hex number"),
            None => text.parse().expect("a number"),
        }
    }

    fn bytes_field(&self, field: &str) -> Vec<u8> {
        let Some(text) = self.fields.get(field) else { return Vec::new() };
        let mut text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).expect("a quoted text");
        let mut out = Vec::new();
        while let Some(c) = text.chars().next() {
            if let Some(escape) = text.strip_prefix("\\x") {
                out.push(u8::from_str_radix(&escape[..2], 16).expect("two hex digits"));
                text = &escape[2..];
            } else {
                assert!(c.is_ascii() && c != '\\');
                out.push(c as u8);
                text = &text[1..];
            }
        }
        out
    }

    fn header(&self) -> Header {
        Header {
            opcode: Opcode(self.number("opcode") as u8),
            flags: Flags(self.number("flags") as u8),
            status: Status((self.number("status") | self.number("options")) as u16),
            request_id: self.number("request_id") as u32,
            deadline: self.number("deadline"),
            version: self.fields.contains_key("version").then(|| self.number("version")),
        }
    }
}

#[test]
fn vectors_encode_and_decode_as_the_document_says() {
    let vectors = blocks("vector");
    assert!(vectors.len() >= 24, "only {} vectors found", vectors.len());
    for (name, block) in &vectors {
        let known =
            ["opcode", "flags", "status", "options", "request_id", "deadline", "version", "key", "value"];
        assert!(block.fields.keys().all(|field| known.contains(field)), "{name}: {:?}", block.fields);
        let (header, key, value) = (block.header(), block.bytes_field("key"), block.bytes_field("value"));
        let mut encoded = Vec::new();
        native::encode(&mut encoded, &header, &key, &value);
        assert_eq!(encoded, block.bytes, "{name} encodes to {encoded:02x?}");

        let expected = Frame {
            opcode: header.opcode,
            flags: header.flags,
            status: header.status,
            request_id: header.request_id,
            deadline: header.deadline,
            version: header.version,
            unknown_extensions: 0,
            key: &key,
            value: &value,
        };
        let decoded = native::decode(&block.bytes, &NativeLimits::FORMAT);
        assert_eq!(decoded, Ok(Some((expected, block.bytes.len()))), "{name}");
        assert!(expected.opcode.is_reply() || expected.is_supported(), "{name}");
        for cut in 0..block.bytes.len() {
            assert_eq!(
                native::decode(&block.bytes[..cut], &NativeLimits::FORMAT),
                Ok(None),
                "{name} cut at {cut}"
            );
        }
    }
}

#[test]
fn broken_frames_are_refused_with_the_text_of_the_document() {
    let broken = blocks("broken");
    assert!(broken.len() >= 4);
    for (name, block) in &broken {
        let error = native::decode(&block.bytes, &NativeLimits::FORMAT).expect_err(name);
        assert_eq!(error.to_string(), block.fields["error"], "{name}");
    }
}

#[test]
fn special_encoders_write_the_vectors_of_the_document() {
    let mut vectors = blocks("vector");
    for (name, encode) in requests().into_iter().chain(replies()) {
        let block = vectors.remove(name).unwrap_or_else(|| panic!("the document has no vector {name}"));
        let mut encoded = Vec::new();
        encode(&mut encoded);
        assert_eq!(encoded, block.bytes, "{name} encodes to {encoded:02x?}");
    }
    assert!(vectors.is_empty(), "no encoder is checked against {:?}", vectors.keys());
}

type Encode = fn(&mut Vec<u8>);

fn requests() -> Vec<(&'static str, Encode)> {
    vec![
        ("hello", |out| HELLO.encode(out, 1)),
        ("ping", |out| native::encode(out, &Header::request(Opcode::PING, 2), &[], b"are you there?")),
        ("noop", |out| native::encode(out, &Header::request(Opcode::NOOP, 3), &[], &[])),
        ("get", |out| native::encode_get(out, 7, Flags::NONE, b"user:1")),
        ("get-quiet", |out| native::encode_get(out, 11, Flags::QUIET, b"a")),
        ("multi-get", |out| {
            let header = Header::request(Opcode::MULTI_GET, 12).with_flags(Flags::RETURN_VERSION);
            native::encode_multi_get(out, &header, &[b"a", b"", b"key"]);
        }),
        ("set", |out| native::encode_set(out, 13, Options::NONE, b"user:1", b"hello", DEADLINE)),
        ("set-if-absent", |out| {
            let header = Header::request(Opcode::SET, 14)
                .with_options(Options::SET_IF_ABSENT)
                .with_flags(Flags::RETURN_VERSION);
            native::encode(out, &header, b"lock", b"me");
        }),
        ("delete", |out| native::encode_delete(out, 15, b"user:1")),
        ("touch", |out| native::encode_touch(out, 16, b"user:1", DEADLINE)),
        ("increment", |out| {
            let body = IncrementBody { delta: -1, initial: 10 };
            native::encode_increment(out, 17, Options::INCREMENT_CREATE, b"hits", body, 0);
        }),
        ("cas", |out| native::encode_cas(out, 18, b"user:1", b"hello, world", 0, 7)),
    ]
}

fn replies() -> Vec<(&'static str, Encode)> {
    vec![
        ("hello-reply", |out| hello_reply().encode(out, 1)),
        ("ping-reply", |out| {
            native::encode(out, &Header::reply(Opcode::PING, 2, Status::OK), &[], b"are you there?");
        }),
        ("get-reply", |out| native::encode_get_reply(out, 7, b"hello", DEADLINE, None)),
        ("get-reply-versioned", |out| {
            native::encode_get_reply_header(out, 8, 5, 0, Some(0x0102_0304_0506_0708));
            out.extend_from_slice(b"hello");
            native::encode_padding(out, 5);
        }),
        ("get-not-found", |out| native::encode_status(out, Opcode::GET, 7, Status::NOT_FOUND, None)),
        ("multi-get-reply", |out| {
            let reply = native::begin_multi_get_reply(out, 12, 3);
            for item in ITEMS {
                native::push_multi_get_item(out, item.status, item.value, item.deadline, item.version);
            }
            native::finish_multi_get_reply(out, reply, 0).expect("the reply is small");
        }),
        ("set-reply", |out| native::encode_status(out, Opcode::SET, 13, Status::OK, None)),
        ("set-exists", |out| native::encode_status(out, Opcode::SET, 14, Status::EXISTS, None)),
        ("increment-reply", |out| native::encode_integer_reply(out, 17, 10, None)),
        ("cas-mismatch", |out| {
            native::encode_status(out, Opcode::CAS, 18, Status::VERSION_MISMATCH, None);
        }),
        ("cas-reply", |out| native::encode_status(out, Opcode::CAS, 18, Status::OK, Some(8))),
        ("error", |out| {
            let text = "value is not an integer or out of range";
            native::encode_error(out, Opcode::INCREMENT, 9, Status::NOT_A_NUMBER, text);
        }),
        ("connection-error", |out| {
            let error = native::decode(b"*", &NativeLimits::FORMAT).expect_err("no frame begins so");
            native::encode_error(out, Opcode::CONNECTION_ERROR, 0, error.status(), &error.to_string());
        }),
    ]
}

const HELLO: HelloRequest<'static> =
    HelloRequest { features: Features(0x0f), wanted_core: 1, auth: b"", client_name: b"app-one" };

fn hello_reply() -> HelloReply {
    HelloReply {
        features: Features::VERSIONS.common(Features(0x0f)).with(Features::CORE_PLACEMENT),
        value_bytes_max: 512 << 20,
        key_bytes_max: u16::MAX,
        this_core: 1,
        in_flight_max: 4096,
        node_id: 0,
        epoch: 0,
        core_ports: vec![7800, 7801],
        shard_cores: vec![0, 1, 0, 1],
        server: "pinnace 0.1.0".to_owned(),
    }
}

const ITEMS: [MultiGetItem<'static>; 3] = [
    MultiGetItem { status: Status::OK, value: b"hello", deadline: DEADLINE, version: Some(7) },
    MultiGetItem { status: Status::NOT_FOUND, value: b"", deadline: 0, version: None },
    MultiGetItem { status: Status::OK, value: b"", deadline: 0, version: Some(8) },
];

#[test]
fn bodies_decode_to_what_the_vectors_were_made_from() {
    let vectors = blocks("vector");
    let value = |name: &str| vectors[name].bytes_field("value");
    assert_eq!(HelloRequest::decode(&value("hello")), Some(HELLO));
    assert_eq!(HelloReply::decode(&value("hello-reply")), Some(hello_reply()));
    assert_eq!(IncrementBody::decode(&value("increment")), Some(IncrementBody { delta: -1, initial: 10 }));
    let body = value("multi-get");
    assert_eq!(MultiGetKeys::decode(&body).map(Vec::from_iter), Some(vec![&b"a"[..], b"", b"key"]));
    let body = value("multi-get-reply");
    assert_eq!(MultiGetItems::decode(&body).map(Vec::from_iter), Some(ITEMS.to_vec()));
}

/// The numbers that the document's tables give to names, so that neither changes without the other.
#[test]
fn tables_of_the_document_name_the_numbers_of_the_code() {
    let row = |number: String, name: &str| {
        let found = DOCUMENT.lines().any(|line| line.starts_with(&format!("| {number} | {name} |")));
        assert!(found, "no row | {number} | {name} |");
    };
    let opcodes = [
        (Opcode::HELLO, "HELLO"),
        (Opcode::PING, "PING"),
        (Opcode::NOOP, "NOOP"),
        (Opcode::GET, "GET"),
        (Opcode::MULTI_GET, "MULTI_GET"),
        (Opcode::SET, "SET"),
        (Opcode::DELETE, "DELETE"),
        (Opcode::TOUCH, "TOUCH"),
        (Opcode::INCREMENT, "INCREMENT"),
        (Opcode::CAS, "CAS"),
        (Opcode::CONNECTION_ERROR, "CONNECTION_ERROR"),
    ];
    opcodes.iter().for_each(|(opcode, name)| row(format!("{:#04x}", opcode.0), name));
    let statuses = [
        (Status::OK, "OK"),
        (Status::NOT_FOUND, "NOT_FOUND"),
        (Status::EXISTS, "EXISTS"),
        (Status::VERSION_MISMATCH, "VERSION_MISMATCH"),
        (Status::BAD_REQUEST, "BAD_REQUEST"),
        (Status::UNKNOWN_OPCODE, "UNKNOWN_OPCODE"),
        (Status::UNSUPPORTED, "UNSUPPORTED"),
        (Status::TOO_LARGE, "TOO_LARGE"),
        (Status::NOT_A_NUMBER, "NOT_A_NUMBER"),
        (Status::OVERFLOW, "OVERFLOW"),
        (Status::WRONG_TYPE, "WRONG_TYPE"),
        (Status::UNAUTHENTICATED, "UNAUTHENTICATED"),
        (Status::FORBIDDEN, "FORBIDDEN"),
        (Status::OUT_OF_MEMORY, "OUT_OF_MEMORY"),
        (Status::OVERLOADED, "OVERLOADED"),
        (Status::SHUTTING_DOWN, "SHUTTING_DOWN"),
        (Status::MOVED, "MOVED"),
        (Status::UNAVAILABLE, "UNAVAILABLE"),
        (Status::INTERNAL, "INTERNAL"),
    ];
    statuses.iter().for_each(|(status, name)| row(format!("{:#06x}", status.0), name));
    let flags = [
        (Flags::QUIET, "QUIET"),
        (Flags::STALE_OK, "STALE_OK"),
        (Flags::RETURN_VERSION, "RETURN_VERSION"),
        (Flags::EXTENDED, "EXTENDED"),
    ];
    flags.iter().for_each(|(flag, name)| row(flag.0.trailing_zeros().to_string(), name));
    let features = [
        (Features::VERSIONS, "VERSIONS"),
        (Features::CORE_PLACEMENT, "CORE_PLACEMENT"),
        (Features::DURABILITY, "DURABILITY"),
        (Features::STALE_READS, "STALE_READS"),
    ];
    features.iter().for_each(|(feature, name)| row(feature.0.trailing_zeros().to_string(), name));
    assert_eq!(ANY_CORE, 0xffff);
}
