//! The bodies of MULTI_GET: many keys in, many items out, in the same order.
//!
//! Request: u32 count, then per key u16 length and the bytes. Reply: u32 count, u32 reserved, then
//! per item an entry of 16 bytes (status, flags, value length, deadline), its version if flag bit 0
//! is set, its value, and zeros to the next multiple of 8.

use super::{ALIGNMENT, HEADER_BYTES, Header, Opcode, Status, encode, padding};

/// Keys of one request. Bounds what a node must hold for it: a body of short keys costs many times
/// its size once it is split by owners.
pub const MULTI_GET_KEYS_MAX: u32 = 65_536;

/// Appends a MULTI_GET request for `keys`, with the flags of `header`.
///
/// # Panics
/// If a key is longer than 65,535 bytes.
pub fn encode_multi_get(out: &mut Vec<u8>, header: &Header, keys: &[&[u8]]) {
    let mut body = Vec::with_capacity(4 + keys.iter().map(|key| key.len() + 2).sum::<usize>());
    body.extend_from_slice(&(keys.len() as u32).to_le_bytes());
    for key in keys {
        let len = u16::try_from(key.len()).expect("keys are checked against the limit of 65,535 bytes");
        body.extend_from_slice(&len.to_le_bytes());
        body.extend_from_slice(key);
    }
    encode(out, &Header { opcode: Opcode::MULTI_GET, ..*header }, &[], &body);
}

/// The keys of a request, read in place.
#[derive(Clone, Debug)]
pub struct MultiGetKeys<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> MultiGetKeys<'a> {
    /// Checks the whole body, so that the iteration cannot fail; `None` if it is malformed or has
    /// more keys than [`MULTI_GET_KEYS_MAX`].
    #[must_use]
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (count, rest) = body.split_first_chunk::<4>()?;
        let keys = Self { left: u32::from_le_bytes(*count), rest };
        if keys.left > MULTI_GET_KEYS_MAX {
            return None;
        }
        let mut walk = keys.clone();
        while walk.left > 0 {
            walk.step()?;
        }
        walk.rest.is_empty().then_some(keys)
    }

    fn step(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        self.rest = rest;
        self.left -= 1;
        Some(key)
    }
}

impl<'a> Iterator for MultiGetKeys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 { None } else { self.step() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for MultiGetKeys<'_> {}

/// A reply under construction.
#[derive(Debug)]
#[must_use = "the reply is not a frame until it is finished"]
pub struct MultiGetReply {
    /// Where its frame begins in its vector.
    start: usize,
}

/// Starts a reply for `count` items; exactly so many [`push_multi_get_item`] follow, then
/// [`finish_multi_get_reply`]. Nothing else may be appended in between.
pub fn begin_multi_get_reply(out: &mut Vec<u8>, request_id: u32, count: u32) -> MultiGetReply {
    let start = out.len();
    let mut body = [0; 8];
    body[..4].copy_from_slice(&count.to_le_bytes());
    encode(out, &Header::reply(Opcode::MULTI_GET, request_id, Status::OK), &[], &body);
    MultiGetReply { start }
}

/// Appends one item. For an absent one the value is empty and the status NOT_FOUND.
pub fn push_multi_get_item(
    out: &mut Vec<u8>,
    status: Status,
    value: &[u8],
    deadline: u64,
    version: Option<u64>,
) {
    out.reserve(ITEM_BYTES + 8 + value.len() + ALIGNMENT);
    push_multi_get_item_header(out, status, value.len(), deadline, version);
    out.extend_from_slice(value);
    out.extend_from_slice(&[0; ALIGNMENT][..padding(value.len())]);
}

/// Appends what precedes the value of an item; for a value that is not copied. Its bytes and
/// [`encode_padding`](super::encode_padding) follow.
pub fn push_multi_get_item_header(
    out: &mut Vec<u8>,
    status: Status,
    value_bytes: usize,
    deadline: u64,
    version: Option<u64>,
) {
    let value_len = u32::try_from(value_bytes).expect("values are checked against the limit of 512 MiB");
    let mut entry = [0; ITEM_BYTES];
    entry[0..2].copy_from_slice(&status.0.to_le_bytes());
    entry[2..4].copy_from_slice(&u16::from(version.is_some()).to_le_bytes());
    entry[4..8].copy_from_slice(&value_len.to_le_bytes());
    entry[8..16].copy_from_slice(&deadline.to_le_bytes());
    out.extend_from_slice(&entry);
    if let Some(version) = version {
        out.extend_from_slice(&version.to_le_bytes());
    }
}

/// How many bytes stand before the value of the item that `items` begin with, and how many from the
/// value's first byte to the next item; `None` if they end early.
#[must_use]
pub fn multi_get_item_layout(items: &[u8]) -> Option<(usize, usize)> {
    let head = items.first_chunk::<ITEM_BYTES>()?;
    let value_len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let before = ITEM_BYTES + if head[2] & 1 == 0 { 0 } else { 8 };
    Some((before, value_len + padding(value_len)))
}

/// Writes the reply's length into its header. `shared_bytes` are those of values that are not copied.
///
/// # Errors
/// If the items are longer than a frame can be; the vector is as before the reply then.
pub fn finish_multi_get_reply(
    out: &mut Vec<u8>,
    reply: MultiGetReply,
    shared_bytes: usize,
) -> Result<(), Status> {
    let Ok(len) = u32::try_from(out.len() - reply.start - HEADER_BYTES + shared_bytes) else {
        out.truncate(reply.start);
        return Err(Status::TOO_LARGE);
    };
    out[reply.start + 8..][..4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Bytes of an entry before version and value.
const ITEM_BYTES: usize = 16;

/// The items of a reply, read in place. Ends early, with `None` from [`MultiGetItems::next`], if the
/// body does.
#[derive(Clone, Debug)]
pub struct MultiGetItems<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> MultiGetItems<'a> {
    /// Reads a reply's value; `None` if it has no count.
    #[must_use]
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (head, rest) = body.split_first_chunk::<8>()?;
        Some(Self { left: u32::from_le_bytes([head[0], head[1], head[2], head[3]]), rest })
    }
}

/// One item of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiGetItem<'a> {
    /// OK, or why there is no value.
    pub status: Status,
    /// The value; empty unless the status is OK.
    pub value: &'a [u8],
    /// Unix time in ms; 0: none.
    pub deadline: u64,
    /// The item's version, if the request asked for it.
    pub version: Option<u64>,
}

impl<'a> Iterator for MultiGetItems<'a> {
    type Item = MultiGetItem<'a>;

    fn next(&mut self) -> Option<MultiGetItem<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (head, mut rest) = self.rest.split_first_chunk::<ITEM_BYTES>()?;
        let status = Status(u16::from_le_bytes([head[0], head[1]]));
        let mut version = None;
        if head[2] & 1 != 0 {
            let (field, after) = rest.split_first_chunk::<8>()?;
            (version, rest) = (Some(u64::from_le_bytes(*field)), after);
        }
        let value_len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let deadline = u64::from_le_bytes(head[8..].try_into().ok()?);
        let (value, after) = rest.split_at_checked(value_len)?;
        self.rest = after.get(padding(value_len)..)?;
        Some(MultiGetItem { status, value, deadline, version })
    }
}
