//! Pinnace's own frames. Replies carry the request's id and may overtake each other.

use pinnace_protocol::native::{
    self, Features, Flags, HEADER_BYTES, Header, IncrementBody, MultiGetItems, NativeLimits, Opcode, Options,
    Status,
};

use super::{Codec, CodecError, Command, KeyBatch, Outcome, Reply, Request, Visit};

/// The native protocol of one connection.
#[derive(Debug)]
pub(crate) struct NativeCodec {
    /// The header of a GET; key length and id are written into it.
    get_head: [u8; HEADER_BYTES],
    body: Vec<u8>,
}

/// What the generator can make use of.
pub(crate) const FEATURES: Features = Features::VERSIONS;

/// Keys up to this length take the short way: header, key and padding as one piece.
const SHORT_KEY_BYTES: usize = 40;

impl Default for NativeCodec {
    fn default() -> Self {
        let mut frame = Vec::new();
        native::encode_get(&mut frame, 0, Flags::NONE, &[]);
        let get_head = *frame.first_chunk().expect("every frame has a header");
        Self { get_head, body: Vec::new() }
    }
}

impl Codec for NativeCodec {
    const ORDERED: bool = false;

    #[inline]
    fn encode(&mut self, out: &mut Vec<u8>, id: u32, request: &Request<'_>) {
        let key = request.key;
        let deadline = if request.ttl_ms == 0 { 0 } else { request.wall_ms + request.ttl_ms };
        match request.command {
            Command::Get => self.encode_get(out, id, key),
            Command::GetVersion => native::encode_get(out, id, Flags::RETURN_VERSION, key),
            Command::Set => native::encode_set(out, id, Options::NONE, key, request.value, deadline),
            Command::Delete => native::encode_delete(out, id, key),
            Command::Increment => {
                let body = IncrementBody { delta: 1, initial: 1 };
                native::encode_increment(out, id, Options::INCREMENT_CREATE, key, body, deadline);
            }
            Command::Cas => native::encode_cas(out, id, key, request.value, deadline, request.version),
        }
    }

    fn encode_multi_get(&mut self, out: &mut Vec<u8>, id: u32, keys: &KeyBatch) {
        self.body.clear();
        self.body.extend_from_slice(&(keys.len() as u32).to_le_bytes());
        for key in keys.iter() {
            self.body.extend_from_slice(&(key.len() as u16).to_le_bytes());
            self.body.extend_from_slice(key);
        }
        native::encode(out, &Header::request(Opcode::MULTI_GET, id), &[], &self.body);
    }

    #[inline]
    fn decode<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Reply<'b>>, CodecError> {
        let decoded =
            native::decode(bytes, &NativeLimits::FORMAT).map_err(|error| CodecError(error.to_string()))?;
        let Some((frame, consumed)) = decoded else { return Ok(None) };
        let outcome = match (frame.status, frame.opcode.request()) {
            (Status::OK, Opcode::GET) => Outcome::Value,
            (Status::OK, Opcode::MULTI_GET) => Outcome::Items,
            (Status::OK, Opcode::INCREMENT) => Outcome::Number,
            (Status::OK, _) if frame.opcode != Opcode::CONNECTION_ERROR => Outcome::Done,
            (Status::NOT_FOUND, _) => Outcome::Miss,
            (Status::EXISTS | Status::VERSION_MISMATCH, _) => Outcome::Refused,
            _ => Outcome::Error,
        };
        Ok(Some(Reply {
            consumed,
            id: frame.request_id,
            outcome,
            body: if outcome == Outcome::Error { describe(frame.status, frame.value) } else { frame.value },
            version: frame.version.unwrap_or(0),
        }))
    }

    fn items(&self, body: &[u8], keys: &KeyBatch, visit: Visit<'_>) -> Result<(), CodecError> {
        let ends_early = || CodecError("a multi-get reply ends early".to_owned());
        let mut items = MultiGetItems::decode(body).ok_or_else(ends_early)?;
        for place in 0..keys.len() {
            let item = items.next().ok_or_else(ends_early)?;
            visit(place, (item.status == Status::OK).then_some(item.value));
        }
        Ok(())
    }
}

impl NativeCodec {
    #[inline]
    fn encode_get(&mut self, out: &mut Vec<u8>, id: u32, key: &[u8]) {
        if key.len() > SHORT_KEY_BYTES {
            return native::encode_get(out, id, Flags::NONE, key);
        }
        let mut frame = [0; HEADER_BYTES + SHORT_KEY_BYTES];
        frame[..HEADER_BYTES].copy_from_slice(&self.get_head);
        frame[4..6].copy_from_slice(&(key.len() as u16).to_le_bytes());
        frame[12..16].copy_from_slice(&id.to_le_bytes());
        copy_short(&mut frame[HEADER_BYTES..], key);
        let end = out.len() + (HEADER_BYTES + key.len()).next_multiple_of(native::ALIGNMENT);
        out.extend_from_slice(&frame);
        out.truncate(end);
    }
}

/// Copies a key of at most [`SHORT_KEY_BYTES`] by pieces of a known length, which overlap where need
/// be: a call of `memcpy` for a length known late costs more than the whole rest of a request.
#[inline]
fn copy_short(to: &mut [u8], key: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], key: &[u8]) -> bool {
        let (Some(first), Some(last)) = (key.first_chunk::<N>(), key.last_chunk::<N>()) else { return false };
        to[..N].copy_from_slice(first);
        to[key.len() - N..key.len()].copy_from_slice(last);
        true
    }
    let copied = match key.len() {
        8..=16 => ends::<8>(to, key),
        17..=32 => ends::<16>(to, key),
        _ => false,
    };
    if !copied {
        to[..key.len()].copy_from_slice(key);
    }
}

/// The server's message, or the status' name where it sent none.
fn describe(status: Status, message: &[u8]) -> &[u8] {
    if !message.is_empty() {
        return message;
    }
    match status {
        Status::BAD_REQUEST => b"BAD_REQUEST",
        Status::UNKNOWN_OPCODE => b"UNKNOWN_OPCODE",
        Status::UNSUPPORTED => b"UNSUPPORTED",
        Status::TOO_LARGE => b"TOO_LARGE",
        Status::NOT_A_NUMBER => b"NOT_A_NUMBER",
        Status::UNAUTHENTICATED => b"UNAUTHENTICATED",
        Status::OUT_OF_MEMORY => b"OUT_OF_MEMORY",
        Status::OVERLOADED => b"OVERLOADED",
        Status::MOVED => b"MOVED",
        _ => b"an error without a message",
    }
}
