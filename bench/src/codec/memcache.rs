//! memcached's text and meta commands.

use super::{
    Codec, CodecError, Command, KeyBatch, Outcome, Reply, Request, Visit, line, number, push_number,
};

/// The classic text commands of one connection.
#[derive(Debug, Default)]
pub(crate) struct TextCodec;

/// The meta commands of one connection.
#[derive(Debug, Default)]
pub(crate) struct MetaCodec;

const CRLF: &[u8] = b"\r\n";
/// Relative times longer than this are taken for absolute ones.
const RELATIVE_SECONDS_MAX: u64 = 30 * 24 * 3600;

impl Codec for TextCodec {
    const ORDERED: bool = true;

    #[inline]
    fn encode(&mut self, out: &mut Vec<u8>, _id: u32, request: &Request<'_>) {
        let verb: &[u8] = match request.command {
            Command::Get => b"get ",
            Command::GetVersion => b"gets ",
            Command::Set => b"set ",
            Command::Delete => b"delete ",
            Command::Increment => b"incr ",
            Command::Cas => b"cas ",
        };
        out.extend_from_slice(verb);
        out.extend_from_slice(request.key);
        match request.command {
            Command::Get | Command::GetVersion | Command::Delete => (),
            Command::Increment => out.extend_from_slice(b" 1"),
            Command::Set | Command::Cas => {
                out.extend_from_slice(b" 0 ");
                push_number(out, seconds(request));
                out.push(b' ');
                push_number(out, request.value.len() as u64);
                if request.command == Command::Cas {
                    out.push(b' ');
                    push_number(out, request.version);
                }
                out.extend_from_slice(CRLF);
                out.extend_from_slice(request.value);
            }
        }
        out.extend_from_slice(CRLF);
    }

    fn encode_multi_get(&mut self, out: &mut Vec<u8>, _id: u32, keys: &KeyBatch) {
        out.extend_from_slice(b"get");
        for key in keys.iter() {
            out.push(b' ');
            out.extend_from_slice(key);
        }
        out.extend_from_slice(CRLF);
    }

    #[inline]
    fn decode<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Reply<'b>>, CodecError> {
        let Some(first) = line(bytes) else { return Ok(None) };
        if first.starts_with(b"VALUE ") {
            return values(bytes);
        }
        let outcome = match first {
            b"END" | b"NOT_FOUND" => Outcome::Miss,
            b"STORED" | b"DELETED" | b"OK" | b"TOUCHED" => Outcome::Done,
            b"EXISTS" | b"NOT_STORED" => Outcome::Refused,
            _ if first.first().is_some_and(u8::is_ascii_digit) => Outcome::Number,
            _ if is_error(first) => Outcome::Error,
            _ => return Err(CodecError::unexpected(bytes)),
        };
        Ok(Some(Reply::new(first.len() + 2, outcome, first)))
    }

    fn items(&self, body: &[u8], keys: &KeyBatch, visit: Visit<'_>) -> Result<(), CodecError> {
        visit_values(body, keys, value, visit)
    }
}

fn seconds(request: &Request<'_>) -> u64 {
    match request.ttl_ms.div_ceil(1000) {
        relative @ 0..=RELATIVE_SECONDS_MAX => relative,
        longer => request.wall_ms / 1000 + longer,
    }
}

fn is_error(line: &[u8]) -> bool {
    [b"ERROR".as_slice(), b"CLIENT_ERROR", b"SERVER_ERROR"].iter().any(|word| line.starts_with(word))
}

/// One `VALUE` line with its data.
struct TextValue<'b> {
    consumed: usize,
    key: &'b [u8],
    value: &'b [u8],
    version: u64,
}

fn value(bytes: &[u8]) -> Result<Option<TextValue<'_>>, CodecError> {
    let Some(head) = line(bytes) else { return Ok(None) };
    let Some(rest) = head.strip_prefix(b"VALUE ") else { return Ok(None) };
    let mut words = rest.split(|&byte| byte == b' ');
    let key = words.next().unwrap_or_default();
    let _flags = words.next();
    let len = words.next().and_then(number).ok_or_else(|| CodecError::unexpected(bytes))?;
    let version = words.next().and_then(number).unwrap_or(0);
    let start = head.len() + 2;
    let end = start + len as usize;
    match bytes.get(end..end + 2) {
        None => Ok(None),
        Some(CRLF) => Ok(Some(TextValue { consumed: end + 2, key, value: &bytes[start..end], version })),
        Some(other) => Err(CodecError::unexpected(other)),
    }
}

/// One or more values up to `END`.
fn values(bytes: &[u8]) -> Result<Option<Reply<'_>>, CodecError> {
    let Some(first) = value(bytes)? else { return Ok(None) };
    let mut end = first.consumed;
    loop {
        match line(&bytes[end..]) {
            None => return Ok(None),
            Some(b"END") if end == first.consumed => {
                let mut reply = Reply::new(end + 5, Outcome::Value, first.value);
                reply.version = first.version;
                return Ok(Some(reply));
            }
            Some(b"END") => return Ok(Some(Reply::new(end + 5, Outcome::Items, &bytes[..end]))),
            Some(_) => match value(&bytes[end..])? {
                Some(item) => end += item.consumed,
                None if bytes[end..].starts_with(b"VALUE ") => return Ok(None),
                None => return Err(CodecError::unexpected(&bytes[end..])),
            },
        }
    }
}

/// Values come in the order of the keys, absent ones are left out.
fn visit_values(
    body: &[u8],
    keys: &KeyBatch,
    read: fn(&[u8]) -> Result<Option<TextValue<'_>>, CodecError>,
    visit: Visit<'_>,
) -> Result<(), CodecError> {
    let mut at = 0;
    for (place, key) in keys.iter().enumerate() {
        match read(&body[at..])?.filter(|item| item.key == key) {
            Some(item) => {
                at += item.consumed;
                visit(place, Some(item.value));
            }
            None => visit(place, None),
        }
    }
    if at == body.len() { Ok(()) } else { Err(CodecError::unexpected(&body[at..])) }
}

impl Codec for MetaCodec {
    const ORDERED: bool = true;

    #[inline]
    fn encode(&mut self, out: &mut Vec<u8>, _id: u32, request: &Request<'_>) {
        let verb: &[u8] = match request.command {
            Command::Get | Command::GetVersion => b"mg ",
            Command::Set | Command::Cas => b"ms ",
            Command::Delete => b"md ",
            Command::Increment => b"ma ",
        };
        out.extend_from_slice(verb);
        out.extend_from_slice(request.key);
        match request.command {
            Command::Get => out.extend_from_slice(b" v"),
            Command::GetVersion => out.extend_from_slice(b" c v"),
            Command::Delete => (),
            Command::Increment => out.extend_from_slice(b" N0 J1 v"),
            Command::Set | Command::Cas => {
                out.push(b' ');
                push_number(out, request.value.len() as u64);
                if request.ttl_ms > 0 {
                    out.extend_from_slice(b" T");
                    push_number(out, seconds(request));
                }
                if request.command == Command::Cas {
                    out.extend_from_slice(b" C");
                    push_number(out, request.version);
                }
                out.extend_from_slice(CRLF);
                out.extend_from_slice(request.value);
            }
        }
        out.extend_from_slice(CRLF);
    }

    fn encode_multi_get(&mut self, out: &mut Vec<u8>, _id: u32, keys: &KeyBatch) {
        for key in keys.iter() {
            out.extend_from_slice(b"mg ");
            out.extend_from_slice(key);
            out.extend_from_slice(b" k q v\r\n");
        }
        out.extend_from_slice(b"mn\r\n");
    }

    #[inline]
    fn decode<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Reply<'b>>, CodecError> {
        let Some(first) = line(bytes) else { return Ok(None) };
        let consumed = first.len() + 2;
        let outcome = match first.get(..2) {
            Some(b"VA") => return meta_values(bytes),
            Some(b"HD") => Outcome::Done,
            Some(b"EN" | b"NF") => Outcome::Miss,
            Some(b"EX" | b"NS") => Outcome::Refused,
            // All keys of a multi-get are absent.
            Some(b"MN") => return Ok(Some(Reply::new(consumed, Outcome::Items, &[]))),
            _ if is_error(first) => Outcome::Error,
            _ => return Err(CodecError::unexpected(bytes)),
        };
        Ok(Some(Reply::new(consumed, outcome, first)))
    }

    fn items(&self, body: &[u8], keys: &KeyBatch, visit: Visit<'_>) -> Result<(), CodecError> {
        visit_values(body, keys, meta_value, visit)
    }
}

/// One `VA` line with its data; the key is empty unless the line tells it.
fn meta_value(bytes: &[u8]) -> Result<Option<TextValue<'_>>, CodecError> {
    let Some(head) = line(bytes) else { return Ok(None) };
    let Some(rest) = head.strip_prefix(b"VA ") else { return Ok(None) };
    let mut words = rest.split(|&byte| byte == b' ');
    let len = words.next().and_then(number).ok_or_else(|| CodecError::unexpected(bytes))?;
    let (mut key, mut version) = (&[][..], 0);
    for word in words {
        match word.split_first() {
            Some((b'k', name)) => key = name,
            Some((b'c', digits)) => version = number(digits).unwrap_or(0),
            _ => (),
        }
    }
    let start = head.len() + 2;
    let end = start + len as usize;
    match bytes.get(end..end + 2) {
        None => Ok(None),
        Some(CRLF) => Ok(Some(TextValue { consumed: end + 2, key, value: &bytes[start..end], version })),
        Some(other) => Err(CodecError::unexpected(other)),
    }
}

/// A single value, or, where lines tell keys, all values up to `MN`.
fn meta_values(bytes: &[u8]) -> Result<Option<Reply<'_>>, CodecError> {
    let Some(first) = meta_value(bytes)? else { return Ok(None) };
    if first.key.is_empty() {
        let mut reply = Reply::new(first.consumed, Outcome::Value, first.value);
        reply.version = first.version;
        return Ok(Some(reply));
    }
    let mut end = first.consumed;
    loop {
        match line(&bytes[end..]) {
            None => return Ok(None),
            Some(b"MN") => return Ok(Some(Reply::new(end + 4, Outcome::Items, &bytes[..end]))),
            Some(_) => match meta_value(&bytes[end..])? {
                Some(item) => end += item.consumed,
                None if bytes[end..].starts_with(b"VA ") => return Ok(None),
                None => return Err(CodecError::unexpected(&bytes[end..])),
            },
        }
    }
}
