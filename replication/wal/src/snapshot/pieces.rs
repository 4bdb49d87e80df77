//! Where which field of a piece and of the trailer stands, and the archives that control pieces carry.

use pinnace_types::{LogIndex, LogPosition, ShardId, Term};

use crate::format::{
    BLOCK_BYTES, FORMAT_VERSION, HeaderError, crc_matches, put_crc, record_padded, u16_at, u32_at, u64_at,
};

/// Bytes of a piece's header.
pub(crate) const PIECE_HEADER_BYTES: usize = 32;
/// Bytes of the trailer, the last of the file.
pub(crate) const TRAILER_BYTES: usize = 32;
const PIECE_MAGIC: [u8; 4] = *b"PNSP";
const TRAILER_MAGIC: [u8; 4] = *b"PNSE";

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Header,
    SectionBegin,
    Frames,
    SectionEnd,
    Footer,
}

impl PieceKind {
    const ALL: [(u8, Self); 5] = [
        (1, Self::Header),
        (2, Self::SectionBegin),
        (3, Self::Frames),
        (4, Self::SectionEnd),
        (5, Self::Footer),
    ];

    fn byte(self) -> u8 {
        Self::ALL.iter().find(|(_, kind)| *kind == self).expect("every kind has a number").0
    }
}

/// What a piece begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceHeader {
    pub(crate) kind: PieceKind,
    pub(crate) group: ShardId,
    pub(crate) payload_len: u32,
    /// 0, 1, 2 and so on within the file.
    pub(crate) sequence: u64,
    /// [`SnapshotInfo::nonce`] of the file.
    pub(crate) nonce: u64,
}

impl PieceHeader {
    /// Writes the header into `piece`, which holds header, payload and padding, and the CRC of it all.
    pub(crate) fn put(&self, piece: &mut [u8]) {
        piece[0..4].copy_from_slice(&PIECE_MAGIC);
        piece[8] = self.kind.byte();
        piece[9] = FORMAT_VERSION as u8;
        piece[10..12].copy_from_slice(&self.group.0.to_le_bytes());
        piece[12..16].copy_from_slice(&self.payload_len.to_le_bytes());
        piece[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        piece[24..32].copy_from_slice(&self.nonce.to_le_bytes());
        put_crc(piece);
    }

    /// Reads the piece at the beginning of `bytes`: header, payload and the whole piece's bytes. `Short`: more bytes are
    /// needed.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, &[u8], usize), HeaderError> {
        let head = bytes.first_chunk::<PIECE_HEADER_BYTES>().ok_or(HeaderError::Short)?;
        if head[..4] != PIECE_MAGIC {
            return Err(HeaderError::Absent);
        }
        let payload_len = u32_at(head, 12) as usize;
        let len = PIECE_HEADER_BYTES + record_padded(payload_len);
        let piece = bytes.get(..len).ok_or(HeaderError::Short)?;
        if !crc_matches(piece) {
            return Err(HeaderError::Checksum);
        }
        if u16::from(head[9]) != FORMAT_VERSION {
            return Err(HeaderError::Version(u16::from(head[9])));
        }
        let kind = PieceKind::ALL.iter().find(|(byte, _)| *byte == head[8]).ok_or(HeaderError::Field)?.1;
        let (payload, padding) = piece[PIECE_HEADER_BYTES..].split_at(payload_len);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(HeaderError::Field);
        }
        let header = Self {
            kind,
            group: ShardId(u16_at(head, 10)),
            payload_len: payload_len as u32,
            sequence: u64_at(head, 16),
            nonce: u64_at(head, 24),
        };
        Ok((header, payload, len))
    }
}

/// What a snapshot file says about itself at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SnapshotInfo {
    /// The node that made it.
    pub node_id: u64,
    /// The core that made it.
    pub core: u16,
    /// Shards of the whole node.
    pub shard_count: u16,
    /// The file's number within its core's snapshots; the file is named after it.
    pub number: u64,
    /// The run that made it.
    pub run_number: u64,
    /// Random, as the run's; every piece repeats it.
    pub nonce: u64,
    /// Where the core's log ended when the pass began: whatever stands before is covered by every section.
    pub position: u64,
    /// When the pass began, unix time in ms.
    pub begun_unix_ms: u64,
}

impl SnapshotInfo {
    /// Where the core's log ended when the pass began.
    #[must_use]
    pub fn log_position(&self) -> LogPosition {
        LogPosition(self.position)
    }
}

/// One section as the footer lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SectionEntry {
    /// The shard.
    pub group: u16,
    /// Term of the shard's last entry at its end.
    pub term: u64,
    /// Index of the shard's last entry at its end: the section is the state at this index.
    pub index: u64,
    /// Where in the file its first piece begins.
    pub offset: u64,
    /// The sequence number of that piece.
    pub sequence: u64,
    /// Bytes of all its pieces.
    pub bytes: u64,
    /// Items that the walk met.
    pub items: u64,
    /// Effects that were applied meanwhile and stand between them.
    pub effects: u64,
    /// CRC32C over the CRCs of its pieces of frames, in order.
    pub crc: u32,
}

impl SectionEntry {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        ShardId(self.group)
    }

    /// Term and index that the section is the state at.
    #[must_use]
    pub fn last(&self) -> (Term, LogIndex) {
        (Term(self.term), LogIndex(self.index))
    }
}

/// The footer's archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Footer {
    pub(crate) sections: Vec<SectionEntry>,
}

/// The last bytes of a complete file: where the footer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where in the file the footer's piece begins.
    pub footer_offset: u64,
    /// [`SnapshotInfo::nonce`] of the file.
    pub nonce: u64,
}

impl Trailer {
    pub(crate) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[0..4].copy_from_slice(&TRAILER_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.nonce.to_le_bytes());
        put_crc(&mut bytes);
        bytes
    }

    /// Reads the trailer from the last bytes of a file, at least 32 of them. An error: the file is incomplete.
    pub fn decode(end_of_file: &[u8]) -> Result<Self, HeaderError> {
        let bytes = end_of_file.last_chunk::<TRAILER_BYTES>().ok_or(HeaderError::Short)?;
        if bytes[..4] != TRAILER_MAGIC {
            return Err(HeaderError::Absent);
        }
        if !crc_matches(bytes) {
            return Err(HeaderError::Checksum);
        }
        let version = u16_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        Ok(Self { footer_offset: u64_at(bytes, 16), nonce: u64_at(bytes, 24) })
    }
}

/// Zeros between the footer, which ends at `end`, and the trailer, so that the file ends with a block.
pub(crate) fn trailer_gap(end: u64) -> u64 {
    let end = end + TRAILER_BYTES as u64;
    end.next_multiple_of(BLOCK_BYTES) - end
}
