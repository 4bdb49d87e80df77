//! The request decoder: finds the arguments of one command at the start of a buffer.
//!
//! Two paths. [`fast_command`] reads a small command that is wholly there and gives up on anything
//! unusual. [`RespDecoder::decode_array`] and [`RespDecoder::decode_inline`] handle everything, and
//! remember how far they got: a command that arrives in many pieces costs time linear in its size.
//!
//! Invariants: `ranges` grows only when a command is complete; every range lies within the bytes
//! that are reported as consumed (or within [`RespDecoder::unescaped`]); how a stream is cut into
//! calls changes nothing of its outcome. Memory held is at most 8 bytes per argument received, or
//! one inline line, and only while a command is under way.

use super::RespError;
use super::inline::{self, Words};
use super::repeat::Beginning;
use crate::ArgRange;

/// Bounds of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RespLimits {
    /// Arguments of one command, its name included.
    pub args_max: u32,
    /// Bytes of one argument.
    pub bulk_bytes_max: u64,
    /// Bytes of an inline line and of a header line.
    pub line_bytes_max: u32,
    /// Bytes of a whole request as sent. At most 4 GiB - 1, since ranges have 32 bits; a higher
    /// value means that.
    pub request_bytes_max: u64,
}

impl RespLimits {
    /// The part of a node's limits that concerns RESP.
    #[must_use]
    pub fn new(limits: &pinnace_types::Limits) -> Self {
        Self {
            args_max: limits.args_max,
            bulk_bytes_max: limits.value_bytes_max,
            line_bytes_max: limits.line_bytes_max,
            request_bytes_max: limits.request_bytes_max,
        }
    }
}

/// What is at the start of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A command; its ranges are offsets into the buffer.
    Command {
        /// Bytes of the buffer it took.
        consumed: usize,
    },
    /// An inline command with escapes; its ranges are offsets into [`RespDecoder::unescaped`].
    Unescaped {
        /// Bytes of the buffer it took.
        consumed: usize,
    },
    /// An empty line or an empty array, to be skipped without a reply.
    Nothing {
        /// Bytes of the buffer it took.
        consumed: usize,
    },
    /// The start of a command. Call again with the same bytes and more behind them.
    Incomplete {
        /// At least this many bytes must arrive before another call can get further. It comes from
        /// the client: wait for so much, but do not reserve it.
        missing_hint: usize,
    },
}

/// The decoder of one connection.
#[derive(Debug, Default)]
pub struct RespDecoder {
    /// Arguments that are still to be found; 0 between commands.
    args_left: u32,
    /// Where the next argument's header begins, while `args_left` > 0.
    resume_at: u32,
    /// The line that begins here does not end before `scanned`.
    scan_line: u32,
    scanned: u32,
    /// Some bytes of a command were seen, but not all.
    started: bool,
    /// There while `args_left` > 0, and from [`Decoded::Unescaped`] to the next call.
    slow: Option<Box<Slow>>,
}

/// What only unusual commands need, apart so that a decoder is small.
#[derive(Debug, Default)]
struct Slow {
    /// Ranges of the arguments found so far.
    ranges: Vec<ArgRange>,
    unescaped: Vec<u8>,
}

/// An incomplete command with fewer arguments than this is parsed from its start again, which is
/// about as cheap as keeping its ranges: commands cut by the end of a receive cost no memory.
const RESUME_ARGS_MIN: usize = 64;

impl RespDecoder {
    /// A decoder at the start of a command.
    #[must_use]
    pub const fn new() -> Self {
        Self { args_left: 0, resume_at: 0, scan_line: 0, scanned: 0, started: false, slow: None }
    }

    /// Whether no command is under way, as far as this decoder has been told of bytes.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.started
    }

    /// The bytes that the ranges of the last [`Decoded::Unescaped`] point into.
    #[must_use]
    pub fn unescaped(&self) -> &[u8] {
        self.slow.as_ref().map_or(&[], |slow| &slow.unescaped)
    }

    /// Finds the command at the start of `buf` and appends the ranges of its arguments to `ranges`.
    ///
    /// After [`Decoded::Incomplete`] the next call must pass the same bytes with more behind them;
    /// after anything else, what follows the consumed bytes.
    ///
    /// # Errors
    /// If no further request can be told from the stream: answer and close.
    #[inline]
    pub fn decode(
        &mut self,
        buf: &[u8],
        limits: &RespLimits,
        ranges: &mut Vec<ArgRange>,
    ) -> Result<Decoded, RespError> {
        let base = ranges.len();
        if self.slow.is_none() {
            if let Some(consumed) = fast_command(buf, limits, ranges) {
                self.forget();
                return Ok(Decoded::Command { consumed });
            }
            ranges.truncate(base);
        }
        self.decode_any(buf, limits, ranges, base)
    }

    /// [`RespDecoder::decode`] for a command that begins like an earlier one and is wholly there; `None`,
    /// and nothing changed, for any other.
    #[inline(always)]
    pub fn decode_like(
        &mut self,
        beginning: &Beginning,
        buf: &[u8],
        limits: &RespLimits,
        ranges: &mut Vec<ArgRange>,
    ) -> Option<usize> {
        if !beginning.begins(buf) || self.slow.is_some() {
            return None;
        }
        let base = ranges.len();
        ranges.push(beginning.name());
        let left = beginning.args().wrapping_sub(1);
        let consumed = fast_bulks(buf, beginning.len(), left, limits, ranges);
        if consumed.is_some() {
            self.forget();
        } else {
            ranges.truncate(base);
        }
        consumed
    }

    #[inline(never)]
    fn decode_any(
        &mut self,
        buf: &[u8],
        limits: &RespLimits,
        ranges: &mut Vec<ArgRange>,
        base: usize,
    ) -> Result<Decoded, RespError> {
        if self.args_left == 0 {
            self.slow = None;
        }
        let result = match buf.first() {
            None => return Ok(Decoded::Incomplete { missing_hint: 1 }),
            Some(b'*') => self.decode_array(buf, limits, ranges),
            Some(_) => self.decode_inline(buf, limits, ranges),
        };
        match result {
            Ok(Decoded::Incomplete { .. }) => self.started = true,
            Ok(_) => self.forget(),
            Err(_) => {
                ranges.truncate(base);
                *self = Self::new();
            }
        }
        result
    }

    fn decode_inline(
        &mut self,
        buf: &[u8],
        limits: &RespLimits,
        ranges: &mut Vec<ArgRange>,
    ) -> Result<Decoded, RespError> {
        let line_max = limits.line_bytes_max as usize;
        let Some(end) = self.find(buf, 0, b'\n', line_max) else {
            return if buf.len() > line_max {
                Err(RespError::InlineTooLong)
            } else {
                Ok(Decoded::Incomplete { missing_hint: 1 })
            };
        };
        let consumed = end + 1;
        let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
        let base = ranges.len();
        match inline::split(line, ranges)? {
            Words::InPlace if ranges.len() == base => Ok(Decoded::Nothing { consumed }),
            Words::InPlace => Ok(Decoded::Command { consumed }),
            Words::Unescaped(bytes) => {
                self.slow.get_or_insert_default().unescaped = bytes;
                Ok(Decoded::Unescaped { consumed })
            }
        }
    }

    fn decode_array(
        &mut self,
        buf: &[u8],
        limits: &RespLimits,
        ranges: &mut Vec<ArgRange>,
    ) -> Result<Decoded, RespError> {
        if let Some(mut slow) = self.slow.take() {
            let progress =
                self.decode_bulks(buf, self.resume_at as usize, self.args_left, limits, &mut slow.ranges)?;
            if progress.args_left == 0 {
                ranges.append(&mut slow.ranges);
                return Ok(Decoded::Command { consumed: progress.at });
            }
            return Ok(self.keep(&progress, slow));
        }
        let Some(header) = self.header(buf, 0, limits, RespError::ArrayLineTooLong)? else {
            return Ok(Decoded::Incomplete { missing_hint: 1 });
        };
        let count = header.number.ok_or(RespError::ArrayLength)?;
        if count <= 0 {
            return Ok(Decoded::Nothing { consumed: header.end });
        }
        if count > i64::from(limits.args_max) {
            return Err(RespError::ArrayLength);
        }
        let base = ranges.len();
        // Bounded by `args_max`, which has 32 bits.
        let progress = self.decode_bulks(buf, header.end, count as u32, limits, ranges)?;
        if progress.args_left == 0 {
            return Ok(Decoded::Command { consumed: progress.at });
        }
        if ranges.len() - base < RESUME_ARGS_MIN {
            ranges.truncate(base);
            return Ok(Decoded::Incomplete { missing_hint: progress.missing });
        }
        let found = ranges.drain(base..).collect();
        Ok(self.keep(&progress, Box::new(Slow { ranges: found, unescaped: Vec::new() })))
    }

    /// Remembers where to go on.
    fn keep(&mut self, progress: &Progress, slow: Box<Slow>) -> Decoded {
        // `decode_bulks` keeps positions below 4 GiB.
        (self.args_left, self.resume_at, self.slow) = (progress.args_left, progress.at as u32, Some(slow));
        Decoded::Incomplete { missing_hint: progress.missing }
    }

    /// Reads bulk strings from `at` on until all are there or the buffer ends.
    fn decode_bulks(
        &mut self,
        buf: &[u8],
        mut at: usize,
        mut args_left: u32,
        limits: &RespLimits,
        ranges: &mut Vec<ArgRange>,
    ) -> Result<Progress, RespError> {
        let request_max = limits.request_bytes_max.min(u64::from(u32::MAX));
        while args_left > 0 {
            let (start, len) = match buf.get(at..).and_then(fast_header) {
                Some((len, header_bytes)) => (at + header_bytes, u64::from(len)),
                None => match self.bulk_header(buf, at, limits)? {
                    Some(found) => found,
                    None => return Ok(Progress { at, args_left, missing: 1 }),
                },
            };
            if len > limits.bulk_bytes_max {
                return Err(RespError::BulkLength);
            }
            let next = (start as u64).saturating_add(len).saturating_add(2);
            if next > request_max {
                return Err(RespError::RequestTooLarge);
            }
            // The request fits 32 bits, so these casts lose nothing.
            if next > buf.len() as u64 {
                return Ok(Progress { at, args_left, missing: next as usize - buf.len() });
            }
            ranges.push(ArgRange { start: start as u32, len: len as u32 });
            at = next as usize;
            args_left -= 1;
        }
        Ok(Progress { at, args_left, missing: 0 })
    }

    /// The header of the bulk string at `at`, however it is written: where the bytes begin, and
    /// how many they are.
    fn bulk_header(
        &mut self,
        buf: &[u8],
        at: usize,
        limits: &RespLimits,
    ) -> Result<Option<(usize, u64)>, RespError> {
        let Some(header) = self.header(buf, at, limits, RespError::BulkLineTooLong)? else {
            return Ok(None);
        };
        if buf[at] != b'$' {
            return Err(RespError::BulkExpected(buf[at]));
        }
        let len = header.number.and_then(|len| u64::try_from(len).ok()).ok_or(RespError::BulkLength)?;
        Ok(Some((header.end, len)))
    }

    /// The header line that begins at `at`: its number and where it ends.
    fn header(
        &mut self,
        buf: &[u8],
        at: usize,
        limits: &RespLimits,
        too_long: RespError,
    ) -> Result<Option<Header>, RespError> {
        let line_max = limits.line_bytes_max as usize;
        let Some(cr) = self.find(buf, at, b'\r', line_max) else {
            return if buf.len() - at > line_max { Err(too_long) } else { Ok(None) };
        };
        // Redis takes whatever follows the CR for the LF.
        if cr + 1 >= buf.len() {
            return Ok(None);
        }
        // An empty line has not even a type byte.
        let number = buf.get(at + 1..cr).and_then(parse_i64);
        Ok(Some(Header { number, end: cr + 2 }))
    }

    /// Looks for a line end from `from` on, remembering what was looked at in vain.
    fn find(&mut self, buf: &[u8], from: usize, end: u8, line_max: usize) -> Option<usize> {
        let start = if self.scan_line as usize == from { from.max(self.scanned as usize) } else { from };
        let window = buf.len().min(from.saturating_add(line_max).saturating_add(1));
        let found = buf.get(start..window)?.iter().position(|&b| b == end);
        if found.is_none() {
            (self.scan_line, self.scanned) = (from as u32, window as u32);
        }
        found.map(|offset| start + offset)
    }

    /// Makes ready for the next command.
    #[inline]
    fn forget(&mut self) {
        (self.args_left, self.scan_line, self.scanned, self.started) = (0, 0, 0, false);
    }
}

struct Header {
    /// `None` if it is not a number.
    number: Option<i64>,
    end: usize,
}

struct Progress {
    at: usize,
    args_left: u32,
    missing: usize,
}

/// Decodes an array of up to 99 arguments that are all there. `None` if it is anything else; `ranges`
/// may then hold arguments that the caller takes off.
///
/// What bounds its speed is that each header's place depends on the length before it. The two most
/// common beginnings are compared as a whole, so that the processor can guess their lengths and go
/// on with the key before it has seen them.
#[inline]
fn fast_command(buf: &[u8], limits: &RespLimits, ranges: &mut Vec<ArgRange>) -> Option<usize> {
    let head = u64::from_le_bytes(*buf.first_chunk::<8>()?);
    let (count, name_len) = match head & BEGINNING_MASK {
        BEGINNING_2_3 => (2, 3),
        BEGINNING_3_3 => (3, 3),
        _ => fast_beginning(head)?,
    };
    if count > limits.args_max {
        return None;
    }
    let (at, left) = match name_len {
        // The count has two digits, or the name's length has.
        NAME_LEN_UNKNOWN => (if count > 9 { 5 } else { 4 }, count),
        _ => {
            ranges.push(ArgRange { start: 8, len: name_len });
            (name_len as usize + 10, count - 1)
        }
    };
    fast_bulks(buf, at, left, limits, ranges)
}

/// Reads the `left` last arguments of a command from `at` on; gives the end of the command.
#[inline(always)]
fn fast_bulks(
    buf: &[u8],
    mut at: usize,
    mut left: u32,
    limits: &RespLimits,
    ranges: &mut Vec<ArgRange>,
) -> Option<usize> {
    while left > 0 {
        let (len, header_bytes) = fast_header(buf.get(at..)?)?;
        let start = at.wrapping_add(header_bytes);
        ranges.push(ArgRange { start: start as u32, len });
        at = start.wrapping_add(len as usize + 2);
        left -= 1;
    }
    // Where the whole command is within a bound, so is each of its arguments; and if it ends below
    // 4 GiB, the casts above lost nothing.
    let bound = limits.bulk_bytes_max.min(limits.request_bytes_max).min(u64::from(u32::MAX));
    (at <= buf.len() && at as u64 <= bound).then_some(at)
}

/// `*2 CR LF $3 CR LF` and `*3 CR LF $3 CR LF` (GET, SET), little-endian, without the LFs.
const BEGINNING_2_3: u64 = 0x000d_3324_000d_322a;
const BEGINNING_3_3: u64 = 0x000d_3324_000d_332a;
const BEGINNING_MASK: u64 = 0x00ff_ffff_00ff_ffff;
/// `*d CR LF $d CR LF`.
const BEGINNING_ANY: u64 = 0x000d_3024_000d_302a;
const BEGINNING_ANY_MASK: u64 = 0x00ff_f0ff_00ff_f0ff;
/// `*d CR` and `*dd CR`.
const COUNT_ONE_DIGIT: u64 = 0x000d_302a;
const COUNT_ONE_DIGIT_MASK: u64 = 0x00ff_f0ff;
const COUNT_TWO_DIGITS: u64 = 0x0d30_302a;
const COUNT_TWO_DIGITS_MASK: u64 = 0xfff0_f0ff;
/// In place of a length: the first argument's header is yet to be read.
const NAME_LEN_UNKNOWN: u32 = u32::MAX;

/// The number of arguments and the length of the first one, or [`NAME_LEN_UNKNOWN`].
fn fast_beginning(head: u64) -> Option<(u32, u32)> {
    let digit = |shift: u32| (head >> shift & 0xf) as u32;
    let (first, second, name_len) = (digit(8), digit(16), digit(40));
    // The masks let the bytes `:` to `?` through as well.
    if head & BEGINNING_ANY_MASK == BEGINNING_ANY && (1..=9).contains(&first) && name_len <= 9 {
        return Some((first, name_len));
    }
    if head & COUNT_ONE_DIGIT_MASK == COUNT_ONE_DIGIT && (1..=9).contains(&first) {
        return Some((first, NAME_LEN_UNKNOWN));
    }
    if head & COUNT_TWO_DIGITS_MASK == COUNT_TWO_DIGITS && (1..=9).contains(&first) && second <= 9 {
        return Some((first * 10 + second, NAME_LEN_UNKNOWN));
    }
    None
}

/// The length behind `$` and the bytes of the header line, CR and the byte behind it included.
#[inline]
fn fast_header(rest: &[u8]) -> Option<(u32, usize)> {
    let word = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let (first, second) = (word >> 8 & 0xf, word >> 16 & 0xf);
    if word & ONE_DIGIT_MASK == ONE_DIGIT && first <= 9 {
        return Some((first, 4));
    }
    if word & TWO_DIGITS_MASK == TWO_DIGITS && (1..=9).contains(&first) && second <= 9 {
        return Some((first * 10 + second, 5));
    }
    long_header(rest)
}

/// [`fast_header`] for three to nine digits.
fn long_header(rest: &[u8]) -> Option<(u32, usize)> {
    if rest[0] != b'$' || !(b'1'..=b'9').contains(&rest[1]) {
        return None;
    }
    let mut len = 0u32;
    for (index, &byte) in rest[1..].iter().take(10).enumerate() {
        match byte {
            b'0'..=b'9' if index < 9 => len = len * 10 + u32::from(byte - b'0'),
            b'\r' => return Some((len, index + 3)),
            _ => return None,
        }
    }
    None
}

/// `$d CR` and any byte, little-endian. The masks let `:` to `?` through as well.
const ONE_DIGIT: u32 = 0x000d_3024;
const ONE_DIGIT_MASK: u32 = 0x00ff_f0ff;
/// `$dd CR`.
const TWO_DIGITS: u32 = 0x0d30_3024;
const TWO_DIGITS_MASK: u32 = 0xfff0_f0ff;

/// A number as Redis accepts it: no plus sign, no leading zero, no minus zero, no space.
fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut number = 0i64;
    for &byte in digits {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Counted down, since the lowest number has no positive counterpart.
        number = number.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::{Decoded, RespDecoder, RespLimits};

    #[test]
    fn a_long_command_is_resumed_behind_its_last_whole_argument() {
        let limits = RespLimits::new(&pinnace_types::Limits::DEFAULT);
        let (mut decoder, mut ranges) = (RespDecoder::new(), Vec::new());
        let mut stream = [b"*201\r\n".to_vec(), b"$1\r\nk\r\n".repeat(200)].concat();
        let decoded = decoder.decode(&stream[..6 + 7 * 150 + 3], &limits, &mut ranges);
        assert_eq!(decoded, Ok(Decoded::Incomplete { missing_hint: 1 }));
        assert_eq!((decoder.resume_at, decoder.args_left), (6 + 7 * 150, 51));

        stream.extend_from_slice(b"$100\r\n");
        let decoded = decoder.decode(&stream, &limits, &mut ranges);
        assert_eq!(decoded, Ok(Decoded::Incomplete { missing_hint: 102 }));
        assert_eq!((decoder.resume_at, decoder.args_left), (6 + 7 * 200, 1));
        assert!(ranges.is_empty());

        stream.extend_from_slice(&[b'v'; 102]);
        let decoded = decoder.decode(&stream, &limits, &mut ranges);
        assert_eq!(decoded, Ok(Decoded::Command { consumed: stream.len() }));
        assert_eq!(ranges.len(), 201);
        assert!(decoder.slow.is_none(), "memory is given back");
    }

    #[test]
    fn a_short_command_that_is_cut_costs_no_memory() {
        let limits = RespLimits::new(&pinnace_types::Limits::DEFAULT);
        let (mut decoder, mut ranges) = (RespDecoder::new(), Vec::new());
        let decoded = decoder.decode(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\n", &limits, &mut ranges);
        assert_eq!(decoded, Ok(Decoded::Incomplete { missing_hint: 11 }));
        assert!(decoder.slow.is_none() && ranges.is_empty() && !decoder.is_idle());
    }

    #[test]
    fn unescaped_bytes_are_given_back_with_the_next_call() {
        let limits = RespLimits::new(&pinnace_types::Limits::DEFAULT);
        let (mut decoder, mut ranges) = (RespDecoder::new(), Vec::new());
        let decoded = decoder.decode(b"ECHO \"a\\x41\"\n", &limits, &mut ranges);
        assert_eq!(decoded, Ok(Decoded::Unescaped { consumed: 13 }));
        assert_eq!(decoder.unescaped(), b"ECHOaA");
        let decoded = decoder.decode(b"*1\r\n$4\r\nPING\r\n", &limits, &mut ranges);
        assert_eq!(decoded, Ok(Decoded::Command { consumed: 14 }));
        assert_eq!(decoder.unescaped(), b"");
    }
}
