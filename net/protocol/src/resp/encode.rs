//! Reply encoders. Each appends one header or one whole value to a vector.
//!
//! The replies of the hot path (small bulks, small integers, nulls) are written as copies of
//! constant size: a copy whose size the compiler knows is one or two moves instead of a call.

use super::double::{DOUBLE_BYTES_MAX, format_double};

/// The protocol version a connection has chosen with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RESP2, what every connection starts with.
    #[default]
    V2,
    /// RESP3.
    V3,
}

/// Longest header: a type byte, 20 digits and sign, CR LF.
const HEADER_BYTES_MAX: usize = 24;

/// `+text`. Line breaks in the text become spaces, since they would end the reply early.
pub fn simple(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    line(out, b'+', text.as_ref());
}

/// `-text`, where the text starts with the error's code: `ERR unknown command`. Line breaks in the
/// text become spaces, since they would end the reply early.
pub fn error(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    line(out, b'-', text.as_ref());
}

/// `:value`.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    if let 0..=9 = value {
        out.extend_from_slice(&[b':', b'0' | value as u8, b'\r', b'\n']);
    } else {
        number_line(out, b':', value);
    }
}

/// A bulk string: `$5 CR LF value CR LF`.
#[inline]
pub fn bulk(out: &mut Vec<u8>, value: &[u8]) {
    out.reserve(value.len() + (HEADER_BYTES_MAX + 2));
    bulk_header(out, value.len());
    out.extend_from_slice(value);
    crlf(out);
}

/// The line before a bulk string's bytes; the caller appends `len` bytes and [`crlf`].
#[inline]
pub fn bulk_header(out: &mut Vec<u8>, len: usize) {
    counted(out, b'$', len);
}

/// CR LF.
#[inline]
pub fn crlf(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// The absent value: `$-1` in RESP2, `_` in RESP3.
#[inline]
pub fn null(out: &mut Vec<u8>, version: Version) {
    match version {
        Version::V2 => out.extend_from_slice(b"$-1\r\n"),
        Version::V3 => out.extend_from_slice(b"_\r\n"),
    }
}

/// The absent array: `*-1` in RESP2, `_` in RESP3.
#[inline]
pub fn null_array(out: &mut Vec<u8>, version: Version) {
    match version {
        Version::V2 => out.extend_from_slice(b"*-1\r\n"),
        Version::V3 => out.extend_from_slice(b"_\r\n"),
    }
}

/// The header of an array of `items` values, which the caller appends.
#[inline]
pub fn array(out: &mut Vec<u8>, items: usize) {
    counted(out, b'*', items);
}

/// The header of a map of `pairs` pairs; in RESP2 an array of twice as many values.
pub fn map(out: &mut Vec<u8>, version: Version, pairs: usize) {
    match version {
        Version::V2 => counted(out, b'*', pairs * 2),
        Version::V3 => counted(out, b'%', pairs),
    }
}

/// The header of a set; in RESP2 an array.
pub fn set(out: &mut Vec<u8>, version: Version, items: usize) {
    counted(out, if version == Version::V3 { b'~' } else { b'*' }, items);
}

/// The header of an out-of-band message; in RESP2 an array.
pub fn push(out: &mut Vec<u8>, version: Version, items: usize) {
    counted(out, if version == Version::V3 { b'>' } else { b'*' }, items);
}

/// A double in Redis' spelling; in RESP2 a bulk string.
pub fn double(out: &mut Vec<u8>, version: Version, value: f64) {
    let mut buffer = [0; DOUBLE_BYTES_MAX];
    let text = format_double(&mut buffer, value);
    match version {
        Version::V2 => bulk(out, text),
        Version::V3 => line(out, b',', text),
    }
}

/// A truth value: `#t` or `#f`; in RESP2 `:1` or `:0`.
pub fn boolean(out: &mut Vec<u8>, version: Version, value: bool) {
    out.extend_from_slice(match (version, value) {
        (Version::V2, false) => b":0\r\n",
        (Version::V2, true) => b":1\r\n",
        (Version::V3, false) => b"#f\r\n",
        (Version::V3, true) => b"#t\r\n",
    });
}

/// A string with a format of three letters (`txt`, `mkd`); in RESP2 a bulk string without it.
pub fn verbatim(out: &mut Vec<u8>, version: Version, format: &str, value: &[u8]) {
    debug_assert_eq!(format.len(), 3, "clients split the format off by position");
    match version {
        Version::V2 => bulk(out, value),
        Version::V3 => {
            out.reserve(value.len() + HEADER_BYTES_MAX + 6);
            counted(out, b'=', value.len() + 4);
            out.extend_from_slice(format.as_bytes());
            out.push(b':');
            out.extend_from_slice(value);
            crlf(out);
        }
    }
}

/// An integer of any size, as decimal digits; in RESP2 a bulk string.
pub fn big_number(out: &mut Vec<u8>, version: Version, digits: &str) {
    match version {
        Version::V2 => bulk(out, digits.as_bytes()),
        Version::V3 => line(out, b'(', digits.as_bytes()),
    }
}

/// A type byte, a count and CR LF. Counts below 1000 are written as constant-size copies.
#[inline]
fn counted(out: &mut Vec<u8>, kind: u8, count: usize) {
    let digit = |n: usize| b'0' | n as u8;
    match count {
        0..=9 => out.extend_from_slice(&[kind, digit(count), b'\r', b'\n']),
        10..=99 => out.extend_from_slice(&[kind, digit(count / 10), digit(count % 10), b'\r', b'\n']),
        100..=999 => out.extend_from_slice(&[
            kind,
            digit(count / 100),
            digit(count / 10 % 10),
            digit(count % 10),
            b'\r',
            b'\n',
        ]),
        _ => number_line(out, kind, count),
    }
}

#[inline(never)]
fn number_line<N: itoa::Integer>(out: &mut Vec<u8>, kind: u8, number: N) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    out.reserve(digits.len() + 3);
    out.push(kind);
    out.extend_from_slice(digits);
    crlf(out);
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(text);
    for byte in &mut out[start..] {
        if matches!(*byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    crlf(out);
}
