//! Properties of both codecs: encode then decode is the identity, however the stream is cut, and
//! no input makes a decoder panic or hold more than its share.

mod fuzz_entry;

use fuzz_entry::{Outcome, native_entry, resp_entry, resp_outcomes};
use pinnace_protocol::native::{self, Flags, Frame, Header, MultiGetKeys, NativeLimits, Opcode, Status};
use pinnace_protocol::resp::{self, Decoded, RespDecoder, RespLimits};
use pinnace_types::Limits;
use proptest::collection::vec;
use proptest::prelude::*;

fn encode_command(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    resp::array(&mut out, args.len());
    args.iter().for_each(|arg| resp::bulk(&mut out, arg));
    out
}

fn header() -> impl Strategy<Value = Header> {
    let numbers = (any::<u8>(), 0..0x80u8, any::<u16>(), any::<u32>(), any::<u64>(), any::<Option<u64>>());
    numbers.prop_map(|(opcode, flags, status, request_id, deadline, version)| Header {
        opcode: Opcode(opcode),
        flags: Flags(flags),
        status: Status(status),
        request_id,
        deadline,
        version,
    })
}

fn as_frame<'a>(header: &Header, key: &'a [u8], value: &'a [u8]) -> Frame<'a> {
    let extended = if header.version.is_some() { Flags::EXTENDED } else { Flags::NONE };
    Frame {
        opcode: header.opcode,
        flags: header.flags.with(extended),
        status: header.status,
        request_id: header.request_id,
        deadline: header.deadline,
        version: header.version,
        unknown_extensions: 0,
        key,
        value,
    }
}

proptest! {
    #[test]
    fn commands_decode_to_what_was_encoded_at_every_cut(
        commands in vec(vec(vec(any::<u8>(), 0..20), 1..12), 1..4),
        long in vec(any::<u8>(), 900..1100),
    ) {
        let limits = RespLimits::new(&Limits::DEFAULT);
        let mut stream: Vec<u8> = commands.iter().flat_map(|args| encode_command(args)).collect();
        stream.extend(encode_command(std::slice::from_ref(&long)));
        let mut expected: Vec<_> = commands.into_iter().map(Outcome::Command).collect();
        expected.push(Outcome::Command(vec![long]));
        for cut in 0..stream.len() {
            prop_assert_eq!(&resp_outcomes(&stream, &[cut], &limits), &expected);
        }
    }

    #[test]
    fn inline_words_survive_quoting(words in vec(vec(any::<u8>(), 0..12), 1..6), single in any::<bool>()) {
        let mut line = Vec::new();
        for word in &words {
            line.push(b' ');
            // Single quotes can hold anything but line feeds and what would escape the quote.
            let plain = single && !word.iter().any(|b| matches!(b, b'\n' | b'\r' | b'\'' | b'\\'));
            line.push(if plain { b'\'' } else { b'"' });
            for &byte in word {
                match byte {
                    _ if plain => line.push(byte),
                    b'"' | b'\\' => line.extend([b'\\', byte]),
                    b' '..=b'~' => line.push(byte),
                    _ => line.extend(format!("\\x{byte:02x}").bytes()),
                }
            }
            line.push(if plain { b'\'' } else { b'"' });
        }
        line.push(b'\n');
        let limits = RespLimits::new(&Limits::DEFAULT);
        prop_assert_eq!(resp_outcomes(&line, &[], &limits), vec![Outcome::Command(words)]);
    }

    #[test]
    fn frames_decode_to_what_was_encoded_at_every_cut(
        frames in vec((header(), vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..90)), 1..4),
    ) {
        let mut stream = Vec::new();
        let mut ends = Vec::new();
        for (header, key, value) in &frames {
            native::encode(&mut stream, header, key, value);
            ends.push(stream.len());
        }
        let mut start = 0;
        for ((header, key, value), &end) in frames.iter().zip(&ends) {
            for cut in start..end {
                prop_assert_eq!(native::decode(&stream[start..cut], &NativeLimits::FORMAT), Ok(None));
            }
            let decoded = native::decode(&stream[start..], &NativeLimits::FORMAT);
            prop_assert_eq!(decoded, Ok(Some((as_frame(header, key, value), end - start))));
            start = end;
        }
    }

    #[test]
    fn multi_get_keys_survive(keys in vec(vec(any::<u8>(), 0..30), 0..20)) {
        let mut out = Vec::new();
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        native::encode_multi_get(&mut out, &Header::request(Opcode::MULTI_GET, 1), &slices);
        let frame = native::decode(&out, &NativeLimits::FORMAT).unwrap().unwrap().0;
        prop_assert_eq!(MultiGetKeys::decode(frame.value).map(Vec::from_iter), Some(slices));
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        resp_entry(&bytes);
        native_entry(&bytes);
        let mut frame = vec![native::MAGIC, native::PROTOCOL_VERSION];
        frame.extend_from_slice(&bytes);
        native_entry(&frame);
    }

    #[test]
    fn mutated_requests_do_no_harm(
        args in vec(vec(any::<u8>(), 0..20), 1..80),
        (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
        cut in any::<[u8; 2]>(),
    ) {
        let mut stream = cut.to_vec();
        stream.extend(encode_command(&args));
        let at = 2 + at.index(stream.len() - 2);
        stream[at] = byte;
        resp_entry(&stream);
    }

    #[test]
    fn mutated_frames_do_no_harm(
        (header, key, value) in (header(), vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..90)),
        (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        let mut stream = Vec::new();
        native::encode(&mut stream, &header, &key, &value);
        native::encode(&mut stream, &header, &key, &value);
        let at = at.index(stream.len());
        stream[at] = byte;
        native_entry(&stream);
    }
}

/// Counts the steps of a decoder by the bytes it is shown: a command of a million arguments that
/// arrives in pieces must not be read again from its start with every piece.
#[test]
fn a_million_arguments_in_small_pieces_take_linear_work() {
    let args: Vec<Vec<u8>> =
        (0..500_000).flat_map(|n: u32| [format!("key:{n}").into(), vec![b'v'; 3]]).collect();
    let mut args = [vec![b"MSET".to_vec()], args].concat();
    args.truncate(1 << 20);
    let stream = encode_command(&args);
    let limits = RespLimits::new(&Limits::DEFAULT);
    // 800 pieces of 16 KiB: were each to start over, this would parse 400 million arguments.
    let cuts: Vec<usize> = (0..stream.len()).step_by(16 << 10).collect();
    assert_eq!(resp_outcomes(&stream, &cuts, &limits), vec![Outcome::Command(args)]);
}

#[test]
fn a_line_that_trickles_in_is_scanned_once() {
    let limits = RespLimits::new(&Limits::DEFAULT);
    let line = [vec![b'x'; 65_000], b"\n".to_vec()].concat();
    let cuts: Vec<usize> = (0..line.len()).collect();
    let expected = vec![Outcome::Command(vec![line[..65_000].to_vec()])];
    // Byte by byte: two thousand million steps if each byte made the decoder scan from the start.
    assert_eq!(resp_outcomes(&line, &cuts, &limits), expected);
}

#[test]
fn huge_declared_lengths_reserve_nothing() {
    let limits = RespLimits::new(&Limits::DEFAULT);
    let mut ranges = Vec::new();
    let mut decoder = RespDecoder::new();
    let decoded = decoder.decode(b"*1000000\r\n$536870912\r\n", &limits, &mut ranges);
    assert_eq!(decoded, Ok(Decoded::Incomplete { missing_hint: 536_870_914 }));
    assert_eq!(ranges.capacity(), 0);

    let mut header = Vec::new();
    native::encode(&mut header, &Header::request(Opcode::SET, 1), b"k", b"v");
    header[8..12].copy_from_slice(&(512u32 << 20).to_le_bytes());
    let limits = NativeLimits::new(&Limits::DEFAULT);
    assert_eq!(native::decode(&header, &limits), Ok(None));
    assert_eq!(native::frame_bytes(&header, &limits), Ok(Some((512 << 20) + 32)));
    assert!(MultiGetKeys::decode(&[0xff; 4]).is_none());
}

#[test]
fn frames_over_the_limits_are_refused_by_their_header() {
    let limits = NativeLimits { key_bytes_max: 4, value_bytes_max: 8 };
    let encoded = |key: &[u8], value: &[u8]| {
        let mut out = Vec::new();
        native::encode(&mut out, &Header::request(Opcode::SET, 1), key, value);
        out
    };
    let at_limit = whole(&encoded(b"keys", b"8 bytes!"), &limits);
    assert_eq!(at_limit, Ok(true));
    let key = whole(&encoded(b"5 key", b"")[..24], &limits);
    assert_eq!(key, Err(native::NativeError::KeyTooLong(5)));
    let value = whole(&encoded(b"", b"9 bytes!!")[..24], &limits);
    assert_eq!(value, Err(native::NativeError::ValueTooLarge(9)));
}

fn whole(bytes: &[u8], limits: &NativeLimits) -> Result<bool, native::NativeError> {
    native::decode(bytes, limits).map(|frame| frame.is_some())
}
