//! Bytes of the file with their checksum and place, and the two things all of it is made of: lengths
//! and strings.

use std::io::{ErrorKind, Read};

use crc::{CRC_64_REDIS, Crc, Digest, Table};

use crate::error::{RdbError, RdbFault};
use crate::lzf;

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Read at a time: large enough for few calls, small enough for the cache.
const BUFFER_BYTES: usize = 64 << 10;

/// A length, or how the string that stands in its place is encoded.
pub(crate) enum Length {
    Plain(u64),
    Encoding(u8),
}

/// A source of bytes.
pub(crate) struct Input<R> {
    source: R,
    buffer: Box<[u8]>,
    /// What of the buffer is filled, taken, and counted in the checksum.
    filled: usize,
    taken: usize,
    hashed: usize,
    /// Bytes of the file before the buffer.
    before: u64,
    digest: Digest<'static, u64, Table<16>>,
    compressed: Vec<u8>,
    string_bytes_max: u64,
}

impl<R: Read> Input<R> {
    pub(crate) fn new(source: R, string_bytes_max: u64) -> Self {
        Self {
            source,
            buffer: vec![0; BUFFER_BYTES].into(),
            filled: 0,
            taken: 0,
            hashed: 0,
            before: 0,
            digest: CRC.digest(),
            compressed: Vec::new(),
            string_bytes_max,
        }
    }

    /// Bytes taken so far.
    pub(crate) fn offset(&self) -> u64 {
        self.before + self.taken as u64
    }

    pub(crate) fn error(&self, fault: RdbFault) -> RdbError {
        RdbError { offset: self.offset(), fault }
    }

    /// The checksum of everything taken so far.
    pub(crate) fn checksum(&mut self) -> u64 {
        self.hash();
        self.digest.clone().finalize()
    }

    fn hash(&mut self) {
        self.digest.update(&self.buffer[self.hashed..self.taken]);
        self.hashed = self.taken;
    }

    /// What is there to take, at least a byte; empty at the end of the file.
    fn available(&mut self) -> Result<&[u8], RdbError> {
        while self.taken == self.filled {
            self.hash();
            self.before += self.taken as u64;
            (self.taken, self.hashed, self.filled) = (0, 0, 0);
            match self.source.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => self.filled = count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(RdbFault::Io(error))),
            }
        }
        Ok(&self.buffer[self.taken..self.filled])
    }

    pub(crate) fn is_at_end(&mut self) -> Result<bool, RdbError> {
        Ok(self.available()?.is_empty())
    }

    /// Hands the next `count` bytes to `take`, in the pieces in which they come.
    fn pieces(&mut self, mut count: u64, mut take: impl FnMut(&[u8])) -> Result<(), RdbError> {
        while count > 0 {
            let available = self.available()?;
            if available.is_empty() {
                return Err(self.error(RdbFault::Truncated));
            }
            let len = usize::try_from(count).map_or(available.len(), |count| count.min(available.len()));
            take(&available[..len]);
            self.taken += len;
            count -= len as u64;
        }
        Ok(())
    }

    pub(crate) fn skip(&mut self, count: u64) -> Result<(), RdbError> {
        self.pieces(count, |_| {})
    }

    pub(crate) fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], RdbError> {
        let mut bytes = [0; LEN];
        let mut at = 0;
        self.pieces(LEN as u64, |piece| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })?;
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.array::<1>()?[0])
    }

    /// A length, or an encoding instead of one.
    fn length(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        let low = first & 63;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(u64::from(low)),
            (1, _) => Length::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            (3, _) => Length::Encoding(low),
            (_, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            _ => return Err(self.error(RdbFault::Damaged("a length"))),
        })
    }

    /// A number that is written as a length.
    pub(crate) fn number(&mut self) -> Result<u64, RdbError> {
        match self.length()? {
            Length::Plain(number) => Ok(number),
            Length::Encoding(_) => Err(self.error(RdbFault::Damaged("a number"))),
        }
    }

    fn bounded(&self, bytes: u64) -> Result<u64, RdbError> {
        let max = self.string_bytes_max;
        if bytes <= max { Ok(bytes) } else { Err(self.error(RdbFault::StringTooLong { bytes, max })) }
    }

    /// Replaces `out` by the next string. It grows with what the file really holds, whatever length
    /// the file tells.
    pub(crate) fn string(&mut self, out: &mut Vec<u8>) -> Result<(), RdbError> {
        out.clear();
        let number = match self.length()? {
            Length::Plain(count) => {
                let count = self.bounded(count)?;
                return self.pieces(count, |piece| out.extend_from_slice(piece));
            }
            Length::Encoding(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Length::Encoding(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Length::Encoding(2) => i32::from_le_bytes(self.array()?),
            Length::Encoding(3) => return self.compressed_string(out),
            Length::Encoding(_) => return Err(self.error(RdbFault::Damaged("a string's encoding"))),
        };
        out.extend_from_slice(number.to_string().as_bytes());
        Ok(())
    }

    fn compressed_string(&mut self, out: &mut Vec<u8>) -> Result<(), RdbError> {
        let count = self.number()?;
        let count = self.bounded(count)?;
        let len = self.number()?;
        let len = self.bounded(len)? as usize;
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.clear();
        self.pieces(count, |piece| compressed.extend_from_slice(piece))?;
        let done = lzf::decompress(&compressed, len, out);
        self.compressed = compressed;
        done.ok_or_else(|| self.error(RdbFault::Damaged("a compressed string")))
    }

    /// Walks over a string.
    pub(crate) fn skip_string(&mut self) -> Result<(), RdbError> {
        let count = match self.length()? {
            Length::Plain(count) => self.bounded(count)?,
            Length::Encoding(0) => 1,
            Length::Encoding(1) => 2,
            Length::Encoding(2) => 4,
            Length::Encoding(3) => {
                let count = self.number()?;
                let len = self.number()?;
                self.bounded(len)?;
                self.bounded(count)?
            }
            Length::Encoding(_) => return Err(self.error(RdbFault::Damaged("a string's encoding"))),
        };
        self.skip(count)
    }
}
