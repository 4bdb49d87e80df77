//! The frame decoder.

use super::{ALIGNMENT, HEADER_BYTES, MAGIC, PROTOCOL_VERSION};
use super::{Flags, Opcode, Options, Status};

/// Bounds of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeLimits {
    /// Bytes of a key. The field has 16 bits.
    pub key_bytes_max: u16,
    /// Bytes of the value field, which for some opcodes is a body of many values.
    pub value_bytes_max: u32,
}

impl NativeLimits {
    /// What the format itself allows.
    pub const FORMAT: Self = Self { key_bytes_max: u16::MAX, value_bytes_max: u32::MAX };

    /// The part of a node's limits that concerns frames. Bodies have the limit of a value.
    #[must_use]
    pub fn new(limits: &pinnace_types::Limits) -> Self {
        Self {
            key_bytes_max: u16::try_from(limits.key_bytes_max).unwrap_or(u16::MAX),
            value_bytes_max: u32::try_from(limits.value_bytes_max).unwrap_or(u32::MAX),
        }
    }
}

/// Why a stream cannot be read on. The connection is answered with
/// [`Opcode::CONNECTION_ERROR`] and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NativeError {
    /// The first byte of a frame is something else.
    #[error("frame does not start with 0xb7 but with {0:#04x}")]
    Magic(u8),
    /// Another protocol version.
    #[error("protocol version {0} is not supported, this node speaks version 1")]
    Version(u8),
    /// The key is longer than allowed.
    #[error("key of {0} bytes is too long")]
    KeyTooLong(u16),
    /// The value is longer than allowed.
    #[error("value of {0} bytes is too large")]
    ValueTooLarge(u32),
    /// The extension block's length is no multiple of 8, or too small for what it announces.
    #[error("extension block of {0} bytes is malformed")]
    Extension(u16),
}

impl NativeError {
    /// The status that tells the client.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Magic(_) | Self::Extension(_) => Status::BAD_REQUEST,
            Self::Version(_) => Status::UNSUPPORTED,
            Self::KeyTooLong(_) | Self::ValueTooLarge(_) => Status::TOO_LARGE,
        }
    }
}

/// A frame in the buffer it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it asks for or answers.
    pub opcode: Opcode,
    /// Flags as sent.
    pub flags: Flags,
    /// A reply's status. In a request these bits are its options: [`Frame::options`].
    pub status: Status,
    /// Chosen by the client, returned with the reply.
    pub request_id: u32,
    /// Unix time in ms; 0: none.
    pub deadline: u64,
    /// The item's version, from the extension block.
    pub version: Option<u64>,
    /// Must-understand extension bits that this code does not know; the request is UNSUPPORTED
    /// unless this is 0.
    pub unknown_extensions: u16,
    /// The key, possibly empty.
    pub key: &'a [u8],
    /// The value, or the body of the opcode.
    pub value: &'a [u8],
}

impl Frame<'_> {
    /// A request's options.
    #[inline]
    #[must_use]
    pub fn options(&self) -> Options {
        Options(self.status.0)
    }

    /// Whether the frame, taken as a request, asks for nothing that this version has no meaning for.
    #[inline]
    #[must_use]
    pub fn is_supported(&self) -> bool {
        let options = self.status.0 & !Options::known(self.opcode).0;
        self.flags.0 & Flags::RESERVED.0 == 0 && options == 0 && self.unknown_extensions == 0
    }
}

/// Bytes of the frame whose header is at the start of `buf`, padding included; `None` if the header
/// is not there yet, or its extension's.
///
/// # Errors
/// As [`decode`].
pub fn frame_bytes(buf: &[u8], limits: &NativeLimits) -> Result<Option<usize>, NativeError> {
    let Some(head) = head(buf, limits)? else { return Ok(None) };
    if !head.flags.contains(Flags::EXTENDED) {
        return Ok(Some(head.frame_bytes(0)));
    }
    Ok(extension(buf)?.map(|extension| head.frame_bytes(extension.bytes)))
}

/// Reads the frame at the start of `buf`, and tells how many bytes it takes; `None` if it is not
/// there as a whole.
///
/// # Errors
/// If it is no frame, or one beyond the limits: the stream cannot be read on.
#[inline]
pub fn decode<'a>(buf: &'a [u8], limits: &NativeLimits) -> Result<Option<(Frame<'a>, usize)>, NativeError> {
    let Some(head) = head(buf, limits)? else { return Ok(None) };
    let mut extension = Extension { bytes: 0, version: None, unknown: 0 };
    if head.flags.contains(Flags::EXTENDED) {
        match self::extension(buf)? {
            Some(found) => extension = found,
            None => return Ok(None),
        }
    }
    let total = head.frame_bytes(extension.bytes);
    let Some(frame) = buf.get(..total) else { return Ok(None) };
    let (key, rest) = frame[HEADER_BYTES + extension.bytes..].split_at(head.key_len as usize);
    let frame = Frame {
        opcode: head.opcode,
        flags: head.flags,
        status: head.status,
        request_id: head.request_id,
        deadline: head.deadline,
        version: extension.version,
        unknown_extensions: extension.unknown,
        key,
        value: &rest[..head.value_len as usize],
    };
    Ok(Some((frame, total)))
}

/// A GET that asks for nothing but the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainGet {
    /// Chosen by the client, returned with the reply.
    pub request_id: u32,
    /// Bytes of the key, which follows the header; not 0.
    pub key_len: u16,
}

/// Reads the frame at the start of `buf` if it is there as a whole and a GET without flags, options
/// and value, and tells how many bytes it takes. Everything else is for [`decode`].
#[inline(always)]
#[must_use]
pub fn decode_plain_get(buf: &[u8], limits: &NativeLimits) -> Option<(PlainGet, usize)> {
    /// The first eight bytes of such a frame, little-endian, without the length of the key.
    const START: u64 = MAGIC as u64 | (PROTOCOL_VERSION as u64) << 8 | (Opcode::GET.0 as u64) << 16;
    const KEY_LEN_SHIFT: u32 = 32;
    const START_MASK: u64 = !(0xffff << KEY_LEN_SHIFT);
    let (start, rest) = buf.split_first_chunk::<8>()?;
    let start = u64::from_le_bytes(*start);
    let lengths = u64::from_le_bytes(*rest.first_chunk::<8>()?);
    let key_len = (start >> KEY_LEN_SHIFT) as u16;
    // The lower half is the length of the value.
    if start & START_MASK != START || lengths as u32 != 0 || key_len == 0 || key_len > limits.key_bytes_max {
        return None;
    }
    let total =
        HEADER_BYTES.wrapping_add(usize::from(key_len)).wrapping_add(ALIGNMENT - 1) & !(ALIGNMENT - 1);
    let get = PlainGet { request_id: (lengths >> 32) as u32, key_len };
    (total <= buf.len()).then_some((get, total))
}

struct Head {
    opcode: Opcode,
    flags: Flags,
    key_len: u16,
    status: Status,
    value_len: u32,
    request_id: u32,
    deadline: u64,
}

impl Head {
    /// At most 24 + 65,528 + 65,535 + 2^32 + 7: fits 64 bits with room.
    #[inline]
    fn frame_bytes(&self, extension_bytes: usize) -> usize {
        // Rounded up by one addition and one mask: the next frame's place waits for this sum.
        let bytes = (HEADER_BYTES + ALIGNMENT - 1)
            .wrapping_add(extension_bytes)
            .wrapping_add((self.key_len as usize).wrapping_add(self.value_len as usize));
        bytes & !(ALIGNMENT - 1)
    }
}

#[inline]
fn head(buf: &[u8], limits: &NativeLimits) -> Result<Option<Head>, NativeError> {
    let Some(h) = buf.first_chunk::<HEADER_BYTES>() else {
        return check_start(buf).map(|()| None);
    };
    if h[0] != MAGIC || h[1] != PROTOCOL_VERSION {
        return check_start(buf).map(|()| None);
    }
    let head = Head {
        opcode: Opcode(h[2]),
        flags: Flags(h[3]),
        key_len: u16::from_le_bytes([h[4], h[5]]),
        status: Status(u16::from_le_bytes([h[6], h[7]])),
        value_len: u32::from_le_bytes([h[8], h[9], h[10], h[11]]),
        request_id: u32::from_le_bytes([h[12], h[13], h[14], h[15]]),
        deadline: u64::from_le_bytes([h[16], h[17], h[18], h[19], h[20], h[21], h[22], h[23]]),
    };
    if head.key_len > limits.key_bytes_max {
        return Err(NativeError::KeyTooLong(head.key_len));
    }
    if head.value_len > limits.value_bytes_max {
        return Err(NativeError::ValueTooLarge(head.value_len));
    }
    Ok(Some(head))
}

/// Refuses what cannot become a frame, from its first byte on.
#[cold]
fn check_start(buf: &[u8]) -> Result<(), NativeError> {
    match buf {
        [magic, ..] if *magic != MAGIC => Err(NativeError::Magic(*magic)),
        [_, version, ..] if *version != PROTOCOL_VERSION => Err(NativeError::Version(*version)),
        _ => Ok(()),
    }
}

/// The extension block: u16 bytes in all, u16 which fields, u32 reserved, then the fields in the
/// order of their bits.
struct Extension {
    bytes: usize,
    version: Option<u64>,
    unknown: u16,
}

/// The item's version, 8 bytes.
pub(super) const EXTENSION_VERSION: u16 = 0x0001;
/// Bits whose meaning must be known to carry out the request.
const EXTENSION_MUST_UNDERSTAND: u16 = 0xff00;
/// Bytes before the first field.
pub(super) const EXTENSION_HEADER_BYTES: usize = 8;

#[inline(never)]
fn extension(buf: &[u8]) -> Result<Option<Extension>, NativeError> {
    let Some(head) = buf[HEADER_BYTES..].first_chunk::<4>() else { return Ok(None) };
    let bytes = u16::from_le_bytes([head[0], head[1]]);
    let fields = u16::from_le_bytes([head[2], head[3]]);
    let versioned = fields & EXTENSION_VERSION != 0;
    let needed = EXTENSION_HEADER_BYTES + if versioned { 8 } else { 0 };
    if !usize::from(bytes).is_multiple_of(ALIGNMENT) || usize::from(bytes) < needed {
        return Err(NativeError::Extension(bytes));
    }
    let version = if versioned {
        let Some(field) = buf[HEADER_BYTES..].get(EXTENSION_HEADER_BYTES..).and_then(|b| b.first_chunk())
        else {
            return Ok(None);
        };
        Some(u64::from_le_bytes(*field))
    } else {
        None
    };
    let unknown = fields & EXTENSION_MUST_UNDERSTAND;
    Ok(Some(Extension { bytes: usize::from(bytes), version, unknown }))
}
