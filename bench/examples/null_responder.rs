//! A responder that does nothing but answer: how fast can a generator go if no server limits it?
//!
//! `cargo run --release -p pinnace-bench --example null_responder -- ADDRESS [CORE] [VALUE_BYTES]`, then
//! `pinnace-bench run pinnace://ADDRESS --verify-every 0 ...`. Every GET is a hit with the same value (of
//! 32 bytes; with 0 every GET is a miss), everything else is answered with OK. Nothing is stored, so
//! what it answers says nothing about a cache; it says what the generator can ask for and take in.
//!
//! A connection that begins with an HTTP GET gets the same value for each of its GETs: so generators that speak
//! only HTTP, as wrk, can be compared with ours.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use pinnace_protocol::native::{self, Features, HEADER_BYTES, HelloReply, NativeLimits, Opcode, Status};

/// Bytes read at once: about 1600 requests for keys of 11 bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Where a frame's header has the request's number.
const ID: std::ops::Range<usize> = 12..16;

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let address = words.next().unwrap_or_else(|| "127.0.0.1:7799".to_owned());
    let core = words.next().and_then(|word| word.parse::<usize>().ok());
    let value_bytes = words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(32);
    let listener = TcpListener::bind(&address)?;
    println!("answers at {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        thread::spawn(move || {
            if let Some(id) = core {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            // A client that goes away ends its thread; there is nothing to clean up.
            let _ = serve(stream, &get_reply(value_bytes), &http_reply(value_bytes));
        });
    }
    Ok(())
}

/// The reply to every GET, but for the request's number.
fn get_reply(value_bytes: usize) -> Vec<u8> {
    let mut reply = Vec::new();
    match value_bytes {
        0 => native::encode_status(&mut reply, Opcode::GET, 0, Status::NOT_FOUND, None),
        _ => native::encode_get_reply(&mut reply, 0, &vec![b'v'; value_bytes], 0, None),
    }
    reply
}

fn http_reply(value_bytes: usize) -> Vec<u8> {
    let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {value_bytes}\r\n\r\n").into_bytes();
    reply.extend_from_slice(&vec![b'v'; value_bytes]);
    reply
}

fn serve(mut stream: TcpStream, get_reply: &[u8], http_reply: &[u8]) -> io::Result<()> {
    let mut received = vec![0; PIECE_BYTES];
    let mut out = Vec::new();
    let mut kept = 0;
    let mut http = None;
    loop {
        let len = match stream.read(&mut received[kept..])? {
            0 => return Ok(()),
            len => kept + len,
        };
        let bytes = &received[..len];
        let consumed = if *http.get_or_insert_with(|| bytes.starts_with(b"GET")) {
            answer_http(bytes, http_reply, &mut out)
        } else {
            answer(bytes, get_reply, &mut out)?
        };
        received.copy_within(consumed..len, 0);
        kept = len - consumed;
        if kept == received.len() {
            received.resize(2 * kept, 0);
        }
        stream.write_all(&out)?;
        out.clear();
    }
}

/// Answers all whole frames; returns how many bytes they take.
fn answer(bytes: &[u8], get_reply: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    let mut at = 0;
    loop {
        let decoded = native::decode(&bytes[at..], &NativeLimits::FORMAT)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let Some((frame, consumed)) = decoded else { return Ok(at) };
        match frame.opcode {
            Opcode::GET => {
                let start = out.len();
                out.extend_from_slice(get_reply);
                out[start..start + HEADER_BYTES][ID].copy_from_slice(&frame.request_id.to_le_bytes());
            }
            Opcode::HELLO => hello().encode(out, frame.request_id),
            opcode => native::encode_status(out, opcode, frame.request_id, Status::OK, None),
        }
        at += consumed;
    }
}

/// Answers all whole requests, which end with an empty line; returns how many bytes they take.
fn answer_http(bytes: &[u8], reply: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while let Some(end) = bytes[at..].windows(4).position(|four| four == b"\r\n\r\n") {
        out.extend_from_slice(reply);
        at += end + 4;
    }
    at
}

fn hello() -> HelloReply {
    HelloReply {
        features: Features::VERSIONS,
        value_bytes_max: 512 << 20,
        key_bytes_max: 65_535,
        this_core: 0,
        in_flight_max: 1 << 16,
        node_id: 0,
        epoch: 0,
        core_ports: Vec::new(),
        shard_cores: vec![0],
        server: "null responder".to_owned(),
    }
}
