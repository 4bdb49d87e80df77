//! Requests of one key, as clients write them, and the one body among them that is not plain bytes.

use super::{Flags, Header, Opcode, Options, encode};

/// Appends a GET.
pub fn encode_get(out: &mut Vec<u8>, request_id: u32, flags: Flags, key: &[u8]) {
    encode(out, &Header::request(Opcode::GET, request_id).with_flags(flags), key, &[]);
}

/// Appends a SET; `deadline` in unix ms, 0 for none.
pub fn encode_set(
    out: &mut Vec<u8>,
    request_id: u32,
    options: Options,
    key: &[u8],
    value: &[u8],
    deadline: u64,
) {
    let header = Header::request(Opcode::SET, request_id).with_options(options).with_deadline(deadline);
    encode(out, &header, key, value);
}

/// Appends a DELETE.
pub fn encode_delete(out: &mut Vec<u8>, request_id: u32, key: &[u8]) {
    encode(out, &Header::request(Opcode::DELETE, request_id), key, &[]);
}

/// Appends a TOUCH; a deadline of 0 takes the item's away.
pub fn encode_touch(out: &mut Vec<u8>, request_id: u32, key: &[u8], deadline: u64) {
    encode(out, &Header::request(Opcode::TOUCH, request_id).with_deadline(deadline), key, &[]);
}

/// Appends a CAS: writes if the item still has `version`.
pub fn encode_cas(out: &mut Vec<u8>, request_id: u32, key: &[u8], value: &[u8], deadline: u64, version: u64) {
    let header = Header::request(Opcode::CAS, request_id).with_deadline(deadline).with_version(Some(version));
    encode(out, &header, key, value);
}

/// Appends an INCREMENT; with [`Options::INCREMENT_CREATE`] the deadline is the new item's.
pub fn encode_increment(
    out: &mut Vec<u8>,
    request_id: u32,
    options: Options,
    key: &[u8],
    body: IncrementBody,
    deadline: u64,
) {
    let header = Header::request(Opcode::INCREMENT, request_id).with_options(options).with_deadline(deadline);
    encode(out, &header, key, &body.to_bytes());
}

/// The value of an INCREMENT request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncrementBody {
    /// What is added; may be negative.
    pub delta: i64,
    /// What an absent key becomes, with [`Options::INCREMENT_CREATE`].
    pub initial: i64,
}

impl IncrementBody {
    /// Reads a request's value; `None` if it has another length.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let value: &[u8; 16] = value.try_into().ok()?;
        let (delta, initial) = value.split_at(8);
        Some(Self {
            delta: i64::from_le_bytes(delta.try_into().ok()?),
            initial: i64::from_le_bytes(initial.try_into().ok()?),
        })
    }

    /// The 16 bytes of the value.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.delta.to_le_bytes());
        bytes[8..].copy_from_slice(&self.initial.to_le_bytes());
        bytes
    }
}
