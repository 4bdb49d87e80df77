//! The native protocol: frames with a fixed header of 24 bytes, little-endian, 8-byte aligned.
//!
//! One format for client requests and replies, the log and replication. Decoding is one function
//! without state: a frame is there or it is not. What an opcode means is `core`'s business; how its
//! body is laid out is told here. `docs/protocol.md` specifies all of it, with test vectors.
//!
//! Invariants: a frame's length is a multiple of [`ALIGNMENT`]; encoders write zeros wherever the
//! specification says reserved; decoders accept any bytes without a panic.

mod code;
mod decode;
mod encode;
mod hello;
mod multi_get;
mod request;

pub use code::{Features, Flags, Opcode, Options, Status};
pub use decode::{Frame, NativeError, NativeLimits, PlainGet, decode, decode_plain_get, frame_bytes};
pub use encode::{
    Header, encode, encode_error, encode_get_reply, encode_get_reply_header, encode_integer_reply,
    encode_padding, encode_parts, encode_status,
};
pub use hello::{AuthSlot, HelloReply, HelloRequest};
pub use multi_get::{
    MULTI_GET_KEYS_MAX, MultiGetItem, MultiGetItems, MultiGetKeys, MultiGetReply, begin_multi_get_reply,
    encode_multi_get, finish_multi_get_reply, multi_get_item_layout, push_multi_get_item,
    push_multi_get_item_header,
};
pub use request::{
    IncrementBody, encode_cas, encode_delete, encode_get, encode_increment, encode_set, encode_touch,
};

/// First byte of every frame. No RESP request begins with it: it is neither `*` nor printable.
pub const MAGIC: u8 = 0xb7;
/// The version this code speaks.
pub const PROTOCOL_VERSION: u8 = 1;
/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 24;
/// Frames begin and end at multiples of this within a stream.
pub const ALIGNMENT: usize = 8;
/// A core number that means "any".
pub const ANY_CORE: u16 = u16::MAX;

/// Bytes to add so that `len` becomes a multiple of [`ALIGNMENT`].
#[inline]
const fn padding(len: usize) -> usize {
    len.wrapping_neg() & (ALIGNMENT - 1)
}

#[cfg(test)]
mod tests;
