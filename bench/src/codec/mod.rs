//! How requests become bytes and bytes become replies, one type per protocol.
//!
//! Pure: no socket, no clock. A codec belongs to one connection and may keep what it needs to tell
//! replies apart. Nothing here allocates per request once its buffers have grown.

mod memcache;
mod native;
mod resp;

pub(crate) use memcache::{MetaCodec, TextCodec};
pub(crate) use native::{FEATURES, NativeCodec};
pub(crate) use resp::RespCodec;

/// What one request asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Read.
    Get,
    /// Read, and tell the version that a [`Command::Cas`] needs.
    GetVersion,
    /// Write.
    Set,
    /// Remove.
    Delete,
    /// Add 1 to a counter, from 0 if there is none.
    Increment,
    /// Write if the version is still the one told.
    Cas,
}

/// One request about one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) command: Command,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Life of a written item in ms; 0: for ever.
    pub(crate) ttl_ms: u64,
    /// Wall clock in ms, for protocols that want deadlines.
    pub(crate) wall_ms: u64,
    pub(crate) version: u64,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Carried out.
    Done,
    /// Here is the value: the body.
    Value,
    /// There is no such key.
    Miss,
    /// Here is a number: the body, in decimal.
    Number,
    /// A condition did not hold: another version, or the key is there.
    Refused,
    /// The items of a multi-get: the body, for [`Codec::item`].
    Items,
    /// Another node owns the key: the body is `SLOT HOST:PORT`.
    Moved,
    /// The key is on its way to another node, which is to be asked this once: the body is as above.
    Ask,
    /// The server could not or would not: the body is its message.
    Error,
    /// A message that answers no request.
    Unasked,
}

/// One reply, in the buffer it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply<'b> {
    /// Bytes it takes from the front of the buffer.
    pub(crate) consumed: usize,
    /// The request's number, for codecs that are not [`Codec::ORDERED`].
    pub(crate) id: u32,
    pub(crate) outcome: Outcome,
    pub(crate) body: &'b [u8],
    pub(crate) version: u64,
}

impl<'b> Reply<'b> {
    fn new(consumed: usize, outcome: Outcome, body: &'b [u8]) -> Self {
        Self { consumed, id: 0, outcome, body, version: 0 }
    }
}

/// Bytes that are no reply of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodecError(pub(crate) String);

impl CodecError {
    fn unexpected(bytes: &[u8]) -> Self {
        let start = &bytes[..bytes.len().min(40)];
        Self(format!("unexpected reply `{}`", start.escape_ascii()))
    }
}

/// The keys of one multi-get.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyBatch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyBatch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

/// Takes the items of a multi-get: place in the request, value or absence.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(usize, Option<&[u8]>);

/// One protocol, as one connection speaks it.
pub(crate) trait Codec: Send {
    /// Replies come in the order of the requests; otherwise they carry the request's id.
    const ORDERED: bool;

    /// Appends a request.
    fn encode(&mut self, out: &mut Vec<u8>, id: u32, request: &Request<'_>);

    /// Appends a request for many keys.
    fn encode_multi_get(&mut self, out: &mut Vec<u8>, id: u32, keys: &KeyBatch);

    /// Appends what makes the next request one about a key that is on its way; it has a reply of its own.
    fn encode_asking(&mut self, _out: &mut Vec<u8>) {}

    /// Reads the reply at the start of `bytes`; `None` if it is not there as a whole.
    fn decode<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Reply<'b>>, CodecError>;

    /// Reads the body of a multi-get's reply: shows the value of each of `keys`, by its place in the
    /// request, or that it is absent.
    fn items(&self, body: &[u8], keys: &KeyBatch, visit: Visit<'_>) -> Result<(), CodecError>;
}

/// Appends a decimal number.
fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The line at the start of `bytes` without its CR LF; `None` if its end is not there yet.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some(bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]))
}

/// A decimal number that fills `digits`.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        digit.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests;
