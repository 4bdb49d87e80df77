//! Where which field of a segment, a commit and a record stands. Little-endian; `docs/wal.md` has the tables.
//!
//! A segment begins with a block of its own, its header. Behind it stand commits, each from the beginning of a block
//! and filled with zeros to the end of one, so that a synced block is never written again. A commit carries records.
//!
//! What an earlier use of the file or a client's value left behind can never pass for a commit: each repeats its
//! place (core, segment, position) and the nonce of the run that wrote it, which no client can know.

use pinnace_types::{CommitNumber, CoreId, LogIndex, LogPosition, SegmentNumber, ShardId, Term};

/// Commits begin at multiples of this: the largest block that disks write in one piece.
pub const BLOCK_BYTES: u64 = 4096;
/// Bytes of a commit's header.
pub const COMMIT_HEADER_BYTES: usize = 64;
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 24;
/// What segments and commits carry as their version.
pub const FORMAT_VERSION: u16 = 1;

pub(crate) const SEGMENT_MAGIC: [u8; 4] = *b"PNWS";
pub(crate) const COMMIT_MAGIC: [u8; 4] = *b"PNWC";
/// The fields of a segment's header; zeros from here to the end of its block.
const SEGMENT_FIELD_BYTES: usize = 72;
/// Magic and CRC, which the CRC does not cover.
const UNCOVERED_BYTES: usize = 8;

/// One run of the process. A commit belongs to the run that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Larger for each run of a node, so that runs have an order.
    pub number: u64,
    /// Random, so that no client can make a value that looks like a commit.
    pub nonce: u64,
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The core whose log it is.
    pub core: CoreId,
    /// The node that wrote it.
    pub node_id: u64,
    /// The run that wrote it. Each run begins a segment of its own.
    pub run: Run,
    /// The segment's number; its file is named after it.
    pub segment: SegmentNumber,
    /// The position of this header. Whatever the segment before holds from here on is void.
    pub position: LogPosition,
    /// The bytes of the file as it was planned.
    pub segment_bytes: u64,
    /// Everything before was known to be synced when this was written. A run's first segment says its own position.
    pub synced_through: LogPosition,
}

/// What a commit begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitHeader {
    /// The core whose log it is.
    pub core: CoreId,
    /// Bytes of header and records, without the zeros behind.
    pub len: u32,
    /// [`Run::nonce`] of the segment.
    pub nonce: u64,
    /// The segment it is in.
    pub segment: SegmentNumber,
    /// Its own position.
    pub position: LogPosition,
    /// Everything before was known to be synced when this was written.
    pub synced_through: LogPosition,
    /// Its number within the run.
    pub number: CommitNumber,
    /// Records in it.
    pub record_count: u32,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An entry of the group's log; the payload is what it does.
    Entry,
    /// The group's hard state; the payload is a [`crate::HardState`].
    HardState,
    /// The group's entries behind this record's index are void.
    Truncation,
}

/// What a record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the record is.
    pub kind: RecordKind,
    /// Whose it is.
    pub group: ShardId,
    /// Bytes behind the header, without padding to a multiple of 8.
    pub payload_len: u32,
    /// The entry's term; 0 for other kinds.
    pub term: Term,
    /// The entry's index; of a truncation the last index that stays; else 0.
    pub index: LogIndex,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not enough bytes.
    #[error("the file ends within a header")]
    Short,
    /// Something else stands there: zeros, or what an earlier use of the file left.
    #[error("no header is there")]
    Absent,
    /// The checksum does not fit.
    #[error("the checksum does not match the bytes")]
    Checksum,
    /// Another version of the format.
    #[error("the format is version {0}, this program reads version {FORMAT_VERSION}")]
    Version(u16),
    /// The checksum fits and a field makes no sense.
    #[error("a field has a value that no writer gives it")]
    Field,
}

/// `len` rounded up to a multiple of a block.
pub(crate) const fn block_padded(len: u64) -> u64 {
    len.next_multiple_of(BLOCK_BYTES)
}

/// `len` rounded up to a multiple of 8, which records are.
pub(crate) const fn record_padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Writes the CRC of all behind it into a piece that begins with magic and CRC.
pub(crate) fn put_crc(piece: &mut [u8]) {
    let crc = crc32c::crc32c(&piece[UNCOVERED_BYTES..]);
    piece[4..8].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn crc_matches(piece: &[u8]) -> bool {
    crc32c::crc32c(&piece[UNCOVERED_BYTES..]) == u32_at(piece, 4)
}

impl SegmentHeader {
    /// Appends the whole block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.core.0.to_le_bytes());
        out.extend_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        for field in [
            self.node_id,
            self.run.number,
            self.run.nonce,
            self.segment.0,
            self.position.0,
            self.segment_bytes,
            self.synced_through.0,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.resize(start + BLOCK_BYTES as usize, 0);
        put_crc(&mut out[start..]);
    }

    /// Reads the first block of a file.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let block = bytes.get(..BLOCK_BYTES as usize).ok_or(HeaderError::Short)?;
        if block[..4] != SEGMENT_MAGIC {
            return Err(HeaderError::Absent);
        }
        if !crc_matches(block) {
            return Err(HeaderError::Checksum);
        }
        let version = u16_at(block, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let header = Self {
            core: CoreId(u16_at(block, 10)),
            node_id: u64_at(block, 16),
            run: Run { number: u64_at(block, 24), nonce: u64_at(block, 32) },
            segment: SegmentNumber(u64_at(block, 40)),
            position: LogPosition(u64_at(block, 48)),
            segment_bytes: u64_at(block, 56),
            synced_through: LogPosition(u64_at(block, 64)),
        };
        let zeros = block[SEGMENT_FIELD_BYTES..].iter().all(|&byte| byte == 0);
        let is_sound = u64::from(u32_at(block, 12)) == BLOCK_BYTES
            && zeros
            && header.segment.0 > 0
            && header.position.0.is_multiple_of(BLOCK_BYTES)
            && header.synced_through <= header.position;
        if is_sound { Ok(header) } else { Err(HeaderError::Field) }
    }
}

impl CommitHeader {
    /// The header's bytes, without the CRC.
    pub(crate) fn encode(&self) -> [u8; COMMIT_HEADER_BYTES] {
        let mut bytes = [0; COMMIT_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&COMMIT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.core.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced_through.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.number.0.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.record_count.to_le_bytes());
        bytes
    }

    /// The fields of what may be a header, unchecked.
    pub(crate) fn peek(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<COMMIT_HEADER_BYTES>()?;
        Some(Self::fields(head)).filter(|_| head[..4] == COMMIT_MAGIC)
    }

    fn fields(head: &[u8; COMMIT_HEADER_BYTES]) -> Self {
        Self {
            core: CoreId(u16_at(head, 10)),
            len: u32_at(head, 12),
            nonce: u64_at(head, 16),
            segment: SegmentNumber(u64_at(head, 24)),
            position: LogPosition(u64_at(head, 32)),
            synced_through: LogPosition(u64_at(head, 40)),
            number: CommitNumber(u64_at(head, 48)),
            record_count: u32_at(head, 56),
        }
    }

    /// Reads the commit at the beginning of `bytes` and checks its CRC: the header and the records' bytes.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let head = bytes.first_chunk::<COMMIT_HEADER_BYTES>().ok_or(HeaderError::Short)?;
        if head[..4] != COMMIT_MAGIC {
            return Err(HeaderError::Absent);
        }
        let len = u32_at(head, 12);
        if (len as usize) < COMMIT_HEADER_BYTES {
            return Err(HeaderError::Checksum);
        }
        let commit = bytes.get(..len as usize).ok_or(HeaderError::Short)?;
        if !crc_matches(commit) {
            return Err(HeaderError::Checksum);
        }
        let version = u16_at(head, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        if u32_at(head, 60) != 0 {
            return Err(HeaderError::Field);
        }
        Ok((Self::fields(head), &commit[COMMIT_HEADER_BYTES..]))
    }

    /// Bytes of the commit with the zeros behind it.
    #[must_use]
    pub fn padded_len(&self) -> u64 {
        block_padded(u64::from(self.len))
    }
}

impl RecordKind {
    #[inline]
    const fn byte(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::HardState => 2,
            Self::Truncation => 3,
        }
    }

    #[inline]
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Entry),
            2 => Some(Self::HardState),
            3 => Some(Self::Truncation),
            _ => None,
        }
    }
}

impl RecordHeader {
    /// The header's bytes.
    #[inline]
    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[0] = self.kind.byte();
        bytes[2..4].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.0.to_le_bytes());
        bytes
    }

    /// Reads the record at the beginning of a commit's rest: header, payload, and what follows.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8], &[u8]), HeaderError> {
        let head = bytes.first_chunk::<RECORD_HEADER_BYTES>().ok_or(HeaderError::Short)?;
        let kind = RecordKind::from_byte(head[0]).ok_or(HeaderError::Field)?;
        let payload_len = u32_at(head, 4);
        let body = &bytes[RECORD_HEADER_BYTES..];
        let (padded, rest) =
            body.split_at_checked(record_padded(payload_len as usize)).ok_or(HeaderError::Short)?;
        let (payload, padding) = padded.split_at(payload_len as usize);
        if head[1] != 0 || padding.iter().any(|&byte| byte != 0) {
            return Err(HeaderError::Field);
        }
        let header = Self {
            kind,
            group: ShardId(u16_at(head, 2)),
            payload_len,
            term: Term(u64_at(head, 8)),
            index: LogIndex(u64_at(head, 16)),
        };
        Ok((header, payload, rest))
    }
}
