//! Commands that begin like an earlier one: a pipeline repeats `*2 CR LF $3 CR LF GET CR LF`, and one
//! comparison finds that out, instead of reading two headers and looking the name up.

use crate::ArgRange;

/// The bytes of a command before its second argument's header.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// The bytes, little-endian, and which of 16 they are.
    bytes: u128,
    mask: u128,
    name: ArgRange,
    args: u32,
}

const BYTES_MAX: usize = size_of::<u128>();

impl Beginning {
    /// What no command begins with.
    pub const NONE: Self = Self { bytes: 1, mask: 0, name: ArgRange { start: 0, len: 0 }, args: 0 };

    /// The beginning of the command at the start of `buf`, whose arguments are `ranges`; `None` if it is
    /// inline or longer than 16 bytes.
    #[must_use]
    pub fn of(buf: &[u8], ranges: &[ArgRange]) -> Option<Self> {
        let name = *ranges.first()?;
        let len = name.start as usize + name.len as usize + 2;
        if buf.first() != Some(&b'*') || !(1..=BYTES_MAX).contains(&len) {
            return None;
        }
        let mask = u128::MAX >> (8 * (BYTES_MAX - len));
        let bytes = u128::from_le_bytes(*buf.first_chunk()?) & mask;
        Some(Self { bytes, mask, name, args: ranges.len() as u32 })
    }

    /// Whether `buf` begins like this; not told of fewer than 16 bytes.
    #[inline(always)]
    pub(super) fn begins(&self, buf: &[u8]) -> bool {
        buf.first_chunk().is_some_and(|chunk| u128::from_le_bytes(*chunk) & self.mask == self.bytes)
    }

    /// Where the name stands.
    #[inline(always)]
    pub(super) fn name(&self) -> ArgRange {
        self.name
    }

    /// Bytes of the beginning.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        (self.name.start.wrapping_add(self.name.len) as usize).wrapping_add(2)
    }

    /// The number of arguments, the name included.
    #[inline(always)]
    pub(super) fn args(&self) -> u32 {
        self.args
    }
}

#[cfg(test)]
mod tests {
    use super::Beginning;
    use crate::resp::{Decoded, RespDecoder, RespLimits};

    const LIMITS: RespLimits =
        RespLimits { args_max: 4, bulk_bytes_max: 100, line_bytes_max: 64, request_bytes_max: 200 };

    fn beginning(command: &[u8]) -> Option<Beginning> {
        let (mut decoder, mut ranges) = (RespDecoder::new(), Vec::new());
        let decoded = decoder.decode(command, &LIMITS, &mut ranges);
        assert_eq!(decoded, Ok(Decoded::Command { consumed: command.len() }));
        Beginning::of(command, &ranges)
    }

    #[test]
    fn a_repeated_beginning_decodes_to_what_the_decoder_gives() {
        let first = beginning(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n").expect("13 bytes");
        let whole = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$12\r\nvalue--value\r\n";
        for cut in 0..=whole.len() {
            let (mut decoder, mut ranges) = (RespDecoder::new(), Vec::new());
            let consumed = decoder.decode_like(&first, &whole[..cut], &LIMITS, &mut ranges);
            assert_eq!(consumed, (cut == whole.len()).then_some(cut));
            let mut expected = Vec::new();
            if cut == whole.len() {
                assert!(RespDecoder::new().decode(whole, &LIMITS, &mut expected).is_ok());
            }
            assert_eq!(ranges, expected);
        }
    }

    #[test]
    fn other_beginnings_and_what_the_limits_forbid_are_left_to_the_decoder() {
        let first = beginning(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").expect("13 bytes");
        let others: [&[u8]; 6] = [
            b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n",
            b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n:1\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$-1\r\n------",
            b"GET k              \r\n",
            &[&b"*2\r\n$3\r\nGET\r\n$101\r\n"[..], &[b'k'; 101], b"\r\n"].concat(),
        ];
        for other in others {
            let (mut decoder, mut ranges) = (RespDecoder::new(), Vec::new());
            assert_eq!(decoder.decode_like(&first, other, &LIMITS, &mut ranges), None, "{other:?}");
            assert!(ranges.is_empty());
            assert_eq!(decoder.decode_like(&Beginning::NONE, other, &LIMITS, &mut ranges), None);
        }
    }

    #[test]
    fn long_names_and_inline_commands_have_no_beginning() {
        assert!(beginning(b"*2\r\n$7\r\nSETNXYY\r\n$1\r\nk\r\n").is_none());
        assert!(beginning(b"GET some-key-of-many-bytes\r\n").is_none());
    }
}
