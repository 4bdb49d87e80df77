//! RESP2, the part of it that a cache's client uses.

use super::{
    Codec, CodecError, Command, KeyBatch, Outcome, Reply, Request, Visit, line, number, push_number,
};

/// RESP of one connection. Replies come in order, so nothing is remembered between them.
#[derive(Debug, Default)]
pub(crate) struct RespCodec {
    /// The head of a GET up to the key, for keys of `get_key_len` bytes.
    get_head: Vec<u8>,
    get_key_len: usize,
}

const CRLF: &[u8] = b"\r\n";

impl Codec for RespCodec {
    const ORDERED: bool = true;

    #[inline]
    fn encode(&mut self, out: &mut Vec<u8>, _id: u32, request: &Request<'_>) {
        let key = request.key;
        match request.command {
            Command::Get | Command::GetVersion => self.encode_get(out, key),
            Command::Set | Command::Cas if request.ttl_ms == 0 => {
                out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                push_bulk(out, key);
                push_bulk(out, request.value);
            }
            Command::Set | Command::Cas => {
                out.extend_from_slice(b"*5\r\n$3\r\nSET\r\n");
                push_bulk(out, key);
                push_bulk(out, request.value);
                out.extend_from_slice(b"$2\r\nPX\r\n");
                push_bulk(out, itoa::Buffer::new().format(request.ttl_ms).as_bytes());
            }
            Command::Delete => {
                out.extend_from_slice(b"*2\r\n$3\r\nDEL\r\n");
                push_bulk(out, key);
            }
            Command::Increment => {
                out.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n");
                push_bulk(out, key);
            }
        }
    }

    fn encode_multi_get(&mut self, out: &mut Vec<u8>, _id: u32, keys: &KeyBatch) {
        out.push(b'*');
        push_number(out, keys.len() as u64 + 1);
        out.extend_from_slice(b"\r\n$4\r\nMGET\r\n");
        keys.iter().for_each(|key| push_bulk(out, key));
    }

    fn encode_asking(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
    }

    #[inline]
    fn decode<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Reply<'b>>, CodecError> {
        let Some(&kind) = bytes.first() else { return Ok(None) };
        if kind == b'$' {
            return bulk(bytes);
        }
        let Some(text) = line(&bytes[1..]) else { return Ok(None) };
        let consumed = text.len() + 3;
        let outcome = match kind {
            b'+' => Outcome::Done,
            b':' => Outcome::Number,
            b'_' => Outcome::Miss,
            b'-' => return Ok(Some(error(consumed, text))),
            b'*' => return array(bytes, text, consumed),
            _ => return Err(CodecError::unexpected(bytes)),
        };
        Ok(Some(Reply::new(consumed, outcome, text)))
    }

    fn items(&self, body: &[u8], keys: &KeyBatch, visit: Visit<'_>) -> Result<(), CodecError> {
        let mut at = 0;
        for place in 0..keys.len() {
            let item =
                bulk(&body[at..])?.ok_or_else(|| CodecError("a multi-get reply ends early".to_owned()))?;
            at += item.consumed;
            visit(place, (item.outcome == Outcome::Value).then_some(item.body));
        }
        Ok(())
    }
}

impl RespCodec {
    #[inline]
    fn encode_get(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        if self.get_key_len != key.len() || self.get_head.is_empty() {
            self.get_key_len = key.len();
            self.get_head.clear();
            self.get_head.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$");
            push_number(&mut self.get_head, key.len() as u64);
            self.get_head.extend_from_slice(CRLF);
        }
        out.reserve(self.get_head.len() + key.len() + 2);
        out.extend_from_slice(&self.get_head);
        out.extend_from_slice(key);
        out.extend_from_slice(CRLF);
    }
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(CRLF);
    out.extend_from_slice(bytes);
    out.extend_from_slice(CRLF);
}

/// A bulk string or its null.
#[inline]
fn bulk(bytes: &[u8]) -> Result<Option<Reply<'_>>, CodecError> {
    let Some(text) = line(bytes) else { return Ok(None) };
    let start = text.len() + 2;
    if text == b"$-1" || text == b"_" {
        return Ok(Some(Reply::new(start, Outcome::Miss, &[])));
    }
    let len = text.strip_prefix(b"$").and_then(number).ok_or_else(|| CodecError::unexpected(bytes))?;
    let end = start + usize::try_from(len).map_err(|_| CodecError::unexpected(bytes))?;
    let Some(tail) = bytes.get(end..end + 2) else { return Ok(None) };
    if tail != CRLF {
        return Err(CodecError::unexpected(tail));
    }
    Ok(Some(Reply::new(end + 2, Outcome::Value, &bytes[start..end])))
}

/// An array of bulk strings, as a whole: the reply to MGET.
fn array<'b>(bytes: &'b [u8], text: &[u8], start: usize) -> Result<Option<Reply<'b>>, CodecError> {
    let count = number(text).ok_or_else(|| CodecError::unexpected(bytes))?;
    let mut end = start;
    for _ in 0..count {
        match bulk(&bytes[end..])? {
            Some(item) => end += item.consumed,
            None => return Ok(None),
        }
    }
    Ok(Some(Reply::new(end, Outcome::Items, &bytes[start..end])))
}

fn error(consumed: usize, text: &[u8]) -> Reply<'_> {
    if let Some(place) = text.strip_prefix(b"MOVED ") {
        return Reply::new(consumed, Outcome::Moved, place);
    }
    match text.strip_prefix(b"ASK ") {
        Some(place) => Reply::new(consumed, Outcome::Ask, place),
        None => Reply::new(consumed, Outcome::Error, text),
    }
}
