//! Cost of the codecs, per command: each round decodes or encodes a pipeline of 64.
//!
//! `cargo bench -p pinnace-protocol`; divan prints a round's time and items a second.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use pinnace_protocol::native::{self, Flags, NativeLimits, Options};
use pinnace_protocol::resp::{self, Decoded, RespDecoder, RespLimits, Version};
use pinnace_types::Limits;

const PIPELINE: usize = 64;

fn main() {
    divan::main();
}

fn resp_command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    resp::array(&mut out, args.len());
    for arg in args {
        resp::bulk(&mut out, arg);
    }
    out
}

fn bench_decode_resp(bencher: Bencher<'_, '_>, command: &[u8]) {
    let pipeline = command.repeat(PIPELINE);
    let limits = RespLimits::new(&Limits::DEFAULT);
    let mut decoder = RespDecoder::new();
    let mut ranges = Vec::with_capacity(1024);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        let mut rest = black_box(pipeline.as_slice());
        while !rest.is_empty() {
            ranges.clear();
            match decoder.decode(rest, &limits, &mut ranges) {
                Ok(Decoded::Command { consumed }) => rest = &rest[consumed..],
                other => panic!("not a command: {other:?}"),
            }
            black_box(&ranges);
        }
    });
}

#[divan::bench]
fn resp_decode_get(bencher: Bencher<'_, '_>) {
    bench_decode_resp(bencher, &resp_command(&[b"GET", b"key:0000001"]));
}

#[divan::bench]
fn resp_decode_set_32(bencher: Bencher<'_, '_>) {
    bench_decode_resp(bencher, &resp_command(&[b"SET", b"key:0000001", &[b'v'; 32]]));
}

#[divan::bench]
fn resp_decode_set_1024(bencher: Bencher<'_, '_>) {
    bench_decode_resp(bencher, &resp_command(&[b"SET", b"key:0000001", &[b'v'; 1024]]));
}

#[divan::bench]
fn resp_decode_mget_16(bencher: Bencher<'_, '_>) {
    let mut args: Vec<&[u8]> = vec![b"MGET"];
    args.resize(17, b"key:0000001");
    bench_decode_resp(bencher, &resp_command(&args));
}

#[divan::bench]
fn resp_decode_inline_get(bencher: Bencher<'_, '_>) {
    bench_decode_resp(bencher, b"GET key:0000001\r\n");
}

#[divan::bench(args = [3, 32, 256])]
fn resp_encode_bulk(bencher: Bencher<'_, '_>, len: usize) {
    let value = vec![b'v'; len];
    let mut out = Vec::with_capacity(PIPELINE * (len + 16));
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        out.clear();
        for _ in 0..PIPELINE {
            resp::bulk(&mut out, black_box(&value));
        }
        black_box(&out);
    });
}

#[divan::bench(args = [1, 12_345])]
fn resp_encode_integer(bencher: Bencher<'_, '_>, number: i64) {
    let mut out = Vec::with_capacity(PIPELINE * 32);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        out.clear();
        for _ in 0..PIPELINE {
            resp::integer(&mut out, black_box(number));
        }
        black_box(&out);
    });
}

#[divan::bench]
fn resp_encode_null(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(PIPELINE * 8);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        out.clear();
        for _ in 0..PIPELINE {
            resp::null(&mut out, black_box(Version::V2));
        }
        black_box(&out);
    });
}

fn bench_decode_native(bencher: Bencher<'_, '_>, frame: &[u8]) {
    let pipeline = frame.repeat(PIPELINE);
    let limits = NativeLimits::new(&Limits::DEFAULT);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        let mut rest = black_box(pipeline.as_slice());
        let mut sum = 0u64;
        while let Ok(Some((frame, consumed))) = native::decode(rest, &limits) {
            let bytes = u64::from(frame.key[0]) + frame.value.len() as u64;
            sum += u64::from(frame.opcode.0) + u64::from(frame.request_id) + frame.deadline + bytes;
            rest = &rest[consumed..];
        }
        assert!(rest.is_empty());
        sum
    });
}

#[divan::bench]
fn native_decode_get(bencher: Bencher<'_, '_>) {
    let mut frame = Vec::new();
    native::encode_get(&mut frame, 1, Flags::NONE, b"key:0000001");
    bench_decode_native(bencher, &frame);
}

#[divan::bench]
fn native_decode_set_32(bencher: Bencher<'_, '_>) {
    let mut frame = Vec::new();
    native::encode_set(&mut frame, 1, Options::NONE, b"key:0000001", &[b'v'; 32], 0);
    bench_decode_native(bencher, &frame);
}

#[divan::bench]
fn native_decode_cas(bencher: Bencher<'_, '_>) {
    let mut frame = Vec::new();
    native::encode_cas(&mut frame, 1, b"key:0000001", &[b'v'; 32], 0, 7);
    bench_decode_native(bencher, &frame);
}

#[divan::bench]
fn native_encode_get(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(PIPELINE * 64);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        out.clear();
        for id in 0..PIPELINE as u32 {
            native::encode_get(&mut out, id, Flags::NONE, black_box(b"key:0000001"));
        }
        black_box(&out);
    });
}

#[divan::bench(args = [3, 32, 256])]
fn native_encode_get_reply(bencher: Bencher<'_, '_>, len: usize) {
    let value = vec![b'v'; len];
    let mut out = Vec::with_capacity(PIPELINE * (len + 64));
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        out.clear();
        for id in 0..PIPELINE as u32 {
            native::encode_get_reply(&mut out, id, black_box(&value), 0, None);
        }
        black_box(&out);
    });
}

#[divan::bench]
fn native_encode_not_found(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(PIPELINE * 64);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| {
        out.clear();
        for id in 0..PIPELINE as u32 {
            native::encode_status(
                &mut out,
                native::Opcode::GET,
                id,
                native::Status::NOT_FOUND,
                black_box(None),
            );
        }
        black_box(&out);
    });
}
