use super::{
    Features, Flags, Header, MULTI_GET_KEYS_MAX, MultiGetItems, MultiGetKeys, NativeError, NativeLimits,
    Opcode, Options, PlainGet, Status, begin_multi_get_reply, decode, decode_plain_get, encode,
    finish_multi_get_reply, frame_bytes, push_multi_get_item,
};

const KEYED_WRITES: [Opcode; 5] =
    [Opcode::SET, Opcode::DELETE, Opcode::TOUCH, Opcode::INCREMENT, Opcode::CAS];

#[test]
fn quiet_leaves_out_the_expected_reply_and_no_other() {
    let quiet = Flags::QUIET.with(Flags::RETURN_VERSION);
    assert!(quiet.suppresses(Opcode::GET, Status::NOT_FOUND));
    assert!(!quiet.suppresses(Opcode::GET, Status::OK));
    assert!(!quiet.suppresses(Opcode::GET, Status::OVERLOADED));
    for write in KEYED_WRITES {
        assert!(quiet.suppresses(write, Status::OK));
        for other in [Status::NOT_FOUND, Status::EXISTS, Status::VERSION_MISMATCH, Status::OUT_OF_MEMORY] {
            assert!(!quiet.suppresses(write, other));
        }
    }
    for always in [Opcode::HELLO, Opcode::PING, Opcode::NOOP, Opcode::MULTI_GET, Opcode::CONNECTION_ERROR] {
        assert!(!quiet.suppresses(always, Status::OK) && !quiet.suppresses(always, Status::NOT_FOUND));
    }
    assert!(!Flags::RETURN_VERSION.suppresses(Opcode::SET, Status::OK));
}

#[test]
fn a_plain_get_is_told_from_everything_else() {
    let limits = NativeLimits { key_bytes_max: 20, value_bytes_max: 100 };
    let frame = |header: &Header, key: &[u8], value: &[u8]| {
        let mut bytes = Vec::new();
        encode(&mut bytes, header, key, value);
        bytes
    };
    let get = Header::request(Opcode::GET, 7);
    for key_len in 1..=20 {
        let bytes = frame(&get, &vec![b'k'; key_len], b"");
        let (plain, total) = decode_plain_get(&bytes, &limits).expect("it is one");
        assert_eq!(plain, PlainGet { request_id: 7, key_len: key_len as u16 });
        assert_eq!(total, decode(&bytes, &limits).unwrap().unwrap().1);
        for cut in 0..bytes.len() {
            assert_eq!(decode_plain_get(&bytes[..cut], &limits), None);
        }
    }
    let others = [
        frame(&get.with_flags(Flags::QUIET), b"key", b""),
        frame(&get.with_options(Options(1)), b"key", b""),
        frame(&get.with_version(Some(1)), b"key", b""),
        frame(&get, b"", b""),
        frame(&get, b"key", b"value"),
        frame(&get, &[b'k'; 21], b""),
        frame(&Header::request(Opcode::SET, 7), b"key", b""),
    ];
    for other in others {
        assert_eq!(decode_plain_get(&other, &limits), None, "{other:?}");
    }
    for index in 0..2 {
        let mut broken = frame(&get, b"key", b"");
        broken[index] ^= 1;
        assert_eq!(decode_plain_get(&broken, &limits), None, "neither magic nor version may differ");
    }
}

fn is_supported(header: &Header) -> bool {
    let mut bytes = Vec::new();
    encode(&mut bytes, header, b"key", b"");
    decode(&bytes, &NativeLimits::FORMAT).unwrap().unwrap().0.is_supported()
}

#[test]
fn a_request_with_a_bit_of_no_meaning_is_not_supported() {
    let known = [
        (Opcode::SET, vec![Options::SET_IF_ABSENT, Options::SET_IF_PRESENT, Options::KEEP_DEADLINE]),
        (Opcode::CAS, vec![Options::KEEP_DEADLINE]),
        (Opcode::INCREMENT, vec![Options::INCREMENT_CREATE]),
        (Opcode::GET, vec![]),
        (Opcode::DELETE, vec![]),
    ];
    for (opcode, options) in known {
        for bit in 0..16 {
            let option = Options(1 << bit);
            let header = Header::request(opcode, 1).with_options(option);
            assert_eq!(is_supported(&header), options.contains(&option), "{opcode:?} {option:?}");
        }
    }
    for bit in 0..7u8 {
        let header = Header::request(Opcode::GET, 1).with_flags(Flags(1 << bit));
        assert_eq!(is_supported(&header), bit < 5, "flag bit {bit}");
    }
}

/// A GET of `k` whose extension block has these fields and these bytes behind its first eight.
fn extended(length: u16, fields: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, &Header::request(Opcode::GET, 1).with_flags(Flags::EXTENDED), b"k", b"");
    let mut block = [length.to_le_bytes(), fields.to_le_bytes(), [0; 2], [0; 2]].concat();
    block.extend_from_slice(rest);
    bytes.splice(24..24, block);
    bytes
}

#[test]
fn unknown_extension_fields_are_skipped_and_those_that_must_be_understood_are_told() {
    let field = [9u64.to_le_bytes(), 5u64.to_le_bytes()].concat();
    let bytes = extended(24, 0x0003, &field);
    let (frame, consumed) = decode(&bytes, &NativeLimits::FORMAT).unwrap().unwrap();
    assert_eq!((frame.version, frame.key, consumed), (Some(9), &b"k"[..], bytes.len()));
    assert!(frame.is_supported());

    let bytes = extended(16, 0x0100, &field[..8]);
    let (frame, _) = decode(&bytes, &NativeLimits::FORMAT).unwrap().unwrap();
    assert_eq!((frame.version, frame.unknown_extensions, frame.key), (None, 0x0100, &b"k"[..]));
    assert!(!frame.is_supported());

    for length in [0, 4, 7, 9, 12] {
        assert_eq!(
            decode(&extended(length, 0, &[]), &NativeLimits::FORMAT),
            Err(NativeError::Extension(length))
        );
    }
    // Longer than the largest block that is a multiple of 8, and the largest itself, not there yet.
    let bytes = extended(65_528, 0, &[]);
    assert_eq!(decode(&bytes, &NativeLimits::FORMAT), Ok(None));
    assert_eq!(frame_bytes(&bytes, &NativeLimits::FORMAT), Ok(Some(24 + 65_528 + 8)));
}

#[test]
fn the_largest_frame_of_the_format_has_a_length() {
    let mut bytes = Vec::new();
    encode(&mut bytes, &Header::request(Opcode::SET, 1), b"", b"");
    bytes[4..6].fill(0xff);
    bytes[8..12].fill(0xff);
    let length = 24 + 65_535 + u64::from(u32::MAX);
    let expected = length.next_multiple_of(8) as usize;
    assert_eq!(frame_bytes(&bytes, &NativeLimits::FORMAT), Ok(Some(expected)));
    assert_eq!(decode(&bytes, &NativeLimits::FORMAT), Ok(None));
}

#[test]
fn more_keys_than_a_multi_get_may_have_are_refused() {
    let body = |count: u32| [count.to_le_bytes().to_vec(), vec![0; 2 * count as usize]].concat();
    assert_eq!(MultiGetKeys::decode(&body(MULTI_GET_KEYS_MAX)).map(|keys| keys.len()), Some(65_536));
    assert!(MultiGetKeys::decode(&body(MULTI_GET_KEYS_MAX + 1)).is_none());
}

#[test]
fn a_multi_get_reply_that_is_cut_ends_early() {
    let mut out = b"earlier".to_vec();
    let reply = begin_multi_get_reply(&mut out, 1, 2);
    push_multi_get_item(&mut out, Status::OK, b"value", 7, Some(3));
    push_multi_get_item(&mut out, Status::NOT_FOUND, b"", 0, None);
    finish_multi_get_reply(&mut out, reply, 0).unwrap();
    let (frame, consumed) = decode(&out[7..], &NativeLimits::FORMAT).unwrap().unwrap();
    assert_eq!(consumed, out.len() - 7);
    let count = |body: &[u8]| MultiGetItems::decode(body).map(Iterator::count);
    assert_eq!(count(frame.value), Some(2));
    for cut in 8..frame.value.len() {
        let whole_items = usize::from(cut >= 8 + 16 + 8 + 8);
        assert_eq!(count(&frame.value[..cut]), Some(whole_items), "cut at {cut}");
    }
    assert_eq!(count(&frame.value[..7]), None);
}

#[test]
fn opcodes_and_statuses_know_their_kind() {
    for opcode in (0..=u8::MAX).map(Opcode) {
        assert_eq!(opcode.is_reply(), opcode.0 >= 0x80);
        assert_eq!(opcode.reply().request(), opcode.request());
        assert!(opcode.reply().is_reply() && !opcode.request().is_reply());
        assert_eq!(
            (opcode.is_record(), opcode.is_peer()),
            ((0x40..0x60).contains(&opcode.0), (0x60..0x80).contains(&opcode.0),)
        );
    }
    assert!(Status::VERSION_MISMATCH.is_outcome() && !Status::BAD_REQUEST.is_outcome());
    assert!(Status::OVERLOADED.is_retryable() && !Status::TOO_LARGE.is_retryable());
    assert!(Features(3).contains(Features::VERSIONS) && !Features(2).contains(Features::VERSIONS));
}
