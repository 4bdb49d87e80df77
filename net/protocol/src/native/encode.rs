//! The frame encoder, and the replies that every opcode has in common.

use super::decode::{EXTENSION_HEADER_BYTES, EXTENSION_VERSION};
use super::{ALIGNMENT, HEADER_BYTES, MAGIC, PROTOCOL_VERSION, padding};
use super::{Flags, Opcode, Options, Status};

/// A frame's header as values. The lengths come with key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame asks for or answers.
    pub opcode: Opcode,
    /// Flags; [`Flags::EXTENDED`] is set by the encoder where needed.
    pub flags: Flags,
    /// A reply's status, or a request's options.
    pub status: Status,
    /// The request's number.
    pub request_id: u32,
    /// Unix time in ms; 0: none.
    pub deadline: u64,
    /// The item's version, if the frame tells it.
    pub version: Option<u64>,
}

impl Header {
    /// A request without flags, options, deadline and version.
    #[must_use]
    pub const fn request(opcode: Opcode, request_id: u32) -> Self {
        Self { opcode, flags: Flags::NONE, status: Status::OK, request_id, deadline: 0, version: None }
    }

    /// The reply to a request of `opcode`, without deadline and version.
    #[must_use]
    pub const fn reply(opcode: Opcode, request_id: u32, status: Status) -> Self {
        Self { opcode: opcode.reply(), flags: Flags::NONE, status, request_id, deadline: 0, version: None }
    }

    /// The same with flags.
    #[must_use]
    pub const fn with_flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    /// The same with options: for requests.
    #[must_use]
    pub const fn with_options(self, options: Options) -> Self {
        Self { status: Status(options.0), ..self }
    }

    /// The same with a deadline.
    #[must_use]
    pub const fn with_deadline(self, deadline: u64) -> Self {
        Self { deadline, ..self }
    }

    /// The same with a version.
    #[must_use]
    pub const fn with_version(self, version: Option<u64>) -> Self {
        Self { version, ..self }
    }
}

/// Appends a whole frame.
///
/// # Panics
/// If the key is longer than 65,535 bytes or the value longer than 4 GiB - 1.
#[inline]
pub fn encode(out: &mut Vec<u8>, header: &Header, key: &[u8], value: &[u8]) {
    out.reserve(HEADER_BYTES + EXTENSION_HEADER_BYTES + 8 + key.len() + value.len() + ALIGNMENT);
    encode_header(out, header, key.len(), value.len());
    if !key.is_empty() {
        out.extend_from_slice(key);
    }
    if !value.is_empty() {
        out.extend_from_slice(value);
    }
    encode_padding(out, key.len() + value.len());
}

/// Appends a whole frame whose value is given in pieces.
///
/// # Panics
/// As [`encode`].
#[inline]
pub fn encode_parts(out: &mut Vec<u8>, header: &Header, key: &[u8], value: &[&[u8]]) {
    if let [value] = value {
        return encode(out, header, key, value);
    }
    let value_len = value.iter().map(|part| part.len()).sum();
    out.reserve(HEADER_BYTES + EXTENSION_HEADER_BYTES + 8 + key.len() + value_len + ALIGNMENT);
    encode_header(out, header, key.len(), value_len);
    out.extend_from_slice(key);
    value.iter().for_each(|part| out.extend_from_slice(part));
    encode_padding(out, key.len() + value_len);
}

/// Appends header and extension block of a frame whose key and value the caller appends.
#[inline]
fn encode_header(out: &mut Vec<u8>, header: &Header, key_len: usize, value_len: usize) {
    let key_len = u16::try_from(key_len).expect("keys are checked against the limit of 65,535 bytes");
    let value_len = u32::try_from(value_len).expect("values are checked against the limit of 512 MiB");
    let flags = if header.version.is_some() { header.flags.with(Flags::EXTENDED) } else { header.flags };
    // Whole words: a store of its own for each field costs more than putting them together.
    let start = u64::from(MAGIC)
        | u64::from(PROTOCOL_VERSION) << 8
        | u64::from(header.opcode.0) << 16
        | u64::from(flags.0) << 24
        | u64::from(key_len) << 32
        | u64::from(header.status.0) << 48;
    let lengths = u64::from(value_len) | u64::from(header.request_id) << 32;
    let words: [[u8; 8]; HEADER_BYTES / 8] =
        [start.to_le_bytes(), lengths.to_le_bytes(), header.deadline.to_le_bytes()];
    out.extend_from_slice(words.as_flattened());
    if let Some(version) = header.version {
        let mut block = [0; EXTENSION_HEADER_BYTES + 8];
        block[0..2].copy_from_slice(&(EXTENSION_HEADER_BYTES as u16 + 8).to_le_bytes());
        block[2..4].copy_from_slice(&EXTENSION_VERSION.to_le_bytes());
        block[8..16].copy_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&block);
    }
}

/// Appends the zeros behind `body_len` bytes of key and value.
#[inline]
pub fn encode_padding(out: &mut Vec<u8>, body_len: usize) {
    // A copy of constant size and a shorter length cost less than a copy of varying size.
    let len = out.len() + padding(body_len);
    out.extend_from_slice(&[0; ALIGNMENT]);
    out.truncate(len);
}

/// Appends the reply to a GET that found the key.
#[inline]
pub fn encode_get_reply(
    out: &mut Vec<u8>,
    request_id: u32,
    value: &[u8],
    deadline: u64,
    version: Option<u64>,
) {
    let header =
        Header::reply(Opcode::GET, request_id, Status::OK).with_deadline(deadline).with_version(version);
    encode(out, &header, &[], value);
}

/// Appends the start of a GET reply whose value is sent from elsewhere; [`encode_padding`] of
/// `value_len` comes after the value.
pub fn encode_get_reply_header(
    out: &mut Vec<u8>,
    request_id: u32,
    value_len: usize,
    deadline: u64,
    version: Option<u64>,
) {
    let header =
        Header::reply(Opcode::GET, request_id, Status::OK).with_deadline(deadline).with_version(version);
    encode_header(out, &header, 0, value_len);
}

/// Appends a reply without key and value to a request of `opcode`.
#[inline]
pub fn encode_status(
    out: &mut Vec<u8>,
    opcode: Opcode,
    request_id: u32,
    status: Status,
    version: Option<u64>,
) {
    encode_header(out, &Header::reply(opcode, request_id, status).with_version(version), 0, 0);
}

/// Appends a reply whose value is a message for people.
pub fn encode_error(out: &mut Vec<u8>, opcode: Opcode, request_id: u32, status: Status, message: &str) {
    encode(out, &Header::reply(opcode, request_id, status), &[], message.as_bytes());
}

/// Appends the reply to an INCREMENT that was carried out: the new number, 8 bytes.
pub fn encode_integer_reply(out: &mut Vec<u8>, request_id: u32, number: i64, version: Option<u64>) {
    let header = Header::reply(Opcode::INCREMENT, request_id, Status::OK).with_version(version);
    encode(out, &header, &[], &number.to_le_bytes());
}
