//! What the fuzz targets check. Shared by `fuzz/` and by the smoke test, so that CI runs the same
//! code that the fuzzer does.
#![allow(dead_code, reason = "each user takes its part")]
#![allow(unreachable_pub, reason = "a module of several crates")]

use pinnace_protocol::native::{
    self, HelloReply, HelloRequest, IncrementBody, MultiGetItems, MultiGetKeys, NativeLimits,
};
use pinnace_protocol::resp::{self, Decoded, RespDecoder, RespError, RespLimits};
use pinnace_protocol::{ArgRange, Args};

/// Small enough for a fuzzer to reach every bound.
pub const RESP_LIMITS: RespLimits =
    RespLimits { args_max: 200, bulk_bytes_max: 300, line_bytes_max: 64, request_bytes_max: 1500 };

/// As [`RESP_LIMITS`].
pub const NATIVE_LIMITS: NativeLimits = NativeLimits { key_bytes_max: 64, value_bytes_max: 4096 };

/// What a decoder made of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A command's arguments.
    Command(Vec<Vec<u8>>),
    /// An empty line or array.
    Nothing,
    /// The end of the stream as far as requests go.
    Error(RespError),
    /// Bytes of a command that is not complete.
    Incomplete(usize),
}

/// Feeds `stream` to a decoder in pieces that end at `cuts` (ascending) and at its end.
pub fn resp_outcomes(stream: &[u8], cuts: &[usize], limits: &RespLimits) -> Vec<Outcome> {
    let mut decoder = RespDecoder::new();
    let mut ranges: Vec<ArgRange> = vec![ArgRange { start: 7, len: 7 }];
    let mut outcomes = Vec::new();
    let mut start = 0;
    for &end in cuts.iter().chain([&stream.len()]) {
        loop {
            let buf = &stream[start..end];
            ranges.truncate(1);
            let args = |bytes: &[u8], ranges: &[ArgRange]| {
                Args::new(bytes, &ranges[1..]).iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
            };
            let consumed = match decoder.decode(buf, limits, &mut ranges) {
                Ok(Decoded::Command { consumed }) => {
                    outcomes.push(Outcome::Command(args(&buf[..consumed], &ranges)));
                    consumed
                }
                Ok(Decoded::Unescaped { consumed }) => {
                    outcomes.push(Outcome::Command(args(decoder.unescaped(), &ranges)));
                    consumed
                }
                Ok(Decoded::Nothing { consumed }) => {
                    outcomes.push(Outcome::Nothing);
                    consumed
                }
                Ok(Decoded::Incomplete { missing_hint }) => {
                    assert!(missing_hint > 0 && missing_hint as u64 <= limits.request_bytes_max);
                    assert_eq!(ranges.len(), 1, "an incomplete command leaves no ranges");
                    assert_eq!(decoder.is_idle(), buf.is_empty());
                    break;
                }
                Err(error) => {
                    assert_eq!(ranges.len(), 1, "an error leaves no ranges");
                    outcomes.push(Outcome::Error(error));
                    return outcomes;
                }
            };
            assert!(consumed > 0 && decoder.is_idle());
            assert!(ranges.len() - 1 <= limits.args_max.max(limits.line_bytes_max) as usize);
            start += consumed;
        }
    }
    if start < stream.len() {
        outcomes.push(Outcome::Incomplete(stream.len() - start));
    }
    outcomes
}

/// Entry of the RESP target: the first two bytes choose how the rest is cut; the outcome must not
/// depend on it. Commands found must survive being encoded as arrays.
pub fn resp_entry(data: &[u8]) {
    let Some((cut, stream)) = data.split_first_chunk::<2>() else { return };
    let whole = resp_outcomes(stream, &[], &RESP_LIMITS);
    let step = usize::from(cut[0] % 32) + 1;
    let cuts: Vec<usize> = (usize::from(cut[1])..stream.len()).step_by(step).collect();
    assert_eq!(whole, resp_outcomes(stream, &cuts, &RESP_LIMITS));
    let roomy = RespLimits { bulk_bytes_max: 1 << 20, request_bytes_max: 1 << 20, ..RESP_LIMITS };
    for outcome in &whole {
        if let Outcome::Command(args) = outcome {
            let mut encoded = Vec::new();
            resp::array(&mut encoded, args.len());
            args.iter().for_each(|arg| resp::bulk(&mut encoded, arg));
            let again = resp_outcomes(&encoded, &[], &roomy);
            assert_eq!(again.as_slice(), std::slice::from_ref(outcome));
        }
    }
}

/// Entry of the native target: decodes a stream of frames, checks that no proper prefix of a frame
/// is taken for one, that frames survive being encoded again, and that body decoders hold.
pub fn native_entry(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, consumed))) = native::decode(rest, &NATIVE_LIMITS) {
        assert!(consumed <= rest.len() && consumed.is_multiple_of(native::ALIGNMENT));
        assert_eq!(native::frame_bytes(rest, &NATIVE_LIMITS), Ok(Some(consumed)));
        assert_eq!(native::decode(&rest[..consumed - 1], &NATIVE_LIMITS), Ok(None));
        check_encodes_again(&frame);
        check_bodies(frame.value);
        rest = &rest[consumed..];
    }
    check_bodies(data);
}

fn check_encodes_again(frame: &native::Frame<'_>) {
    let header = native::Header {
        opcode: frame.opcode,
        flags: native::Flags(frame.flags.0 & !native::Flags::EXTENDED.0),
        status: frame.status,
        request_id: frame.request_id,
        deadline: frame.deadline,
        version: frame.version,
    };
    let mut encoded = Vec::new();
    native::encode(&mut encoded, &header, frame.key, frame.value);
    let (again, consumed) = native::decode(&encoded, &NATIVE_LIMITS)
        .expect("an encoded frame is a frame")
        .expect("an encoded frame is a whole frame");
    assert_eq!(consumed, encoded.len());
    // An extension without known fields is not written again.
    let flags = if frame.version.is_some() { frame.flags } else { header.flags };
    assert_eq!(again, native::Frame { flags, unknown_extensions: 0, ..*frame });
}

fn check_bodies(body: &[u8]) {
    if let Some(keys) = MultiGetKeys::decode(body) {
        assert!(keys.len() <= body.len() / 2);
        assert_eq!(keys.len(), keys.clone().count());
        let bytes: usize = keys.map(|key| key.len() + 2).sum();
        assert_eq!(bytes + 4, body.len());
    }
    if let Some(items) = MultiGetItems::decode(body) {
        let bytes: usize = items.map(|item| item.value.len() + 16).sum();
        assert!(bytes <= body.len());
    }
    if let Some(hello) = HelloRequest::decode(body) {
        let mut encoded = Vec::new();
        hello.encode(&mut encoded, 1);
        let frame =
            native::decode(&encoded, &NativeLimits::FORMAT).expect("a frame").expect("a whole frame").0;
        assert_eq!(HelloRequest::decode(frame.value), Some(hello));
    }
    if let Some(hello) = HelloReply::decode(body) {
        let mut encoded = Vec::new();
        hello.encode(&mut encoded, 1);
        let frame =
            native::decode(&encoded, &NativeLimits::FORMAT).expect("a frame").expect("a whole frame").0;
        assert_eq!(HelloReply::decode(frame.value), Some(hello));
    }
    if let Some(increment) = IncrementBody::decode(body) {
        assert_eq!(increment.to_bytes(), body);
    }
}
