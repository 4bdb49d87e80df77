//! Reads a snapshot file piece by piece and believes none of it unchecked.

use pinnace_types::ShardId;
use rkyv::rancor::Failure;

use super::pieces::{Footer, PIECE_HEADER_BYTES, PieceHeader, PieceKind, SectionEntry, SnapshotInfo};
use crate::format::HeaderError;

/// What a piece says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotEvent<'b> {
    /// The file begins.
    Header(SnapshotInfo),
    /// A shard's section begins.
    SectionBegin(ShardId),
    /// Native frames to be applied to the shard, in order.
    Frames(ShardId, &'b [u8]),
    /// The section ends: all its frames together are the state at its index.
    SectionEnd(SectionEntry),
    /// All sections were read.
    End,
}

/// Why a snapshot is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot is damaged at offset {offset}: {reason}")]
pub struct SnapshotError {
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub reason: SnapshotDamage,
}

/// What is wrong with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotDamage {
    /// The piece itself.
    #[error("{0}")]
    Piece(HeaderError),
    /// The piece is sound and does not belong here.
    #[error("a piece of another place or another file stands there")]
    Order,
    /// A control piece holds no archive of its kind.
    #[error("a control piece is not what its kind says")]
    Archive,
    /// What a section's end says is not what was read.
    #[error("the section is not what its end says")]
    Section,
}

/// Reads pieces in order: a whole file from its beginning, or one section of it.
#[derive(Debug)]
pub struct SnapshotReader {
    offset: u64,
    sequence: u64,
    nonce: Option<u64>,
    /// The open section: its shard, where it began, the CRC so far.
    section: Option<(SectionEntry, u32)>,
    is_single: bool,
    is_done: bool,
}

impl SnapshotReader {
    /// Reads a whole file from offset 0.
    #[must_use]
    pub fn new() -> Self {
        Self { offset: 0, sequence: 0, nonce: None, section: None, is_single: false, is_done: false }
    }

    /// Reads one section, which the footer of the file with this nonce lists, from its offset.
    #[must_use]
    pub fn section(entry: &SectionEntry, nonce: u64) -> Self {
        Self {
            offset: entry.offset,
            sequence: entry.sequence,
            nonce: Some(nonce),
            section: None,
            is_single: true,
            is_done: false,
        }
    }

    /// Where in the file the bytes of the next [`Self::read`] must begin.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether all was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Bytes of the piece at the beginning of `bytes`, once its header is there: how much to read before it is complete.
    #[must_use]
    pub fn piece_bytes(bytes: &[u8]) -> Option<usize> {
        PieceHeader::len_of(bytes)
    }

    /// Reads the next piece and says how many bytes it took. `None`: the bytes end within the piece. Every reader of the
    /// whole file must come to [`SnapshotEvent::End`]: without it the file is incomplete.
    pub fn read<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<(SnapshotEvent<'b>, usize)>, SnapshotError> {
        let (header, payload, len) = match PieceHeader::decode(bytes) {
            Ok(piece) => piece,
            Err(HeaderError::Short) => return Ok(None),
            Err(error) => return Err(self.refuse(SnapshotDamage::Piece(error))),
        };
        let crc = &bytes[4..8];
        let event = self.accept(&header, payload, crc, len as u64).map_err(|reason| self.refuse(reason))?;
        self.offset += len as u64;
        self.sequence += 1;
        Ok(Some((event, len)))
    }

    fn refuse(&self, reason: SnapshotDamage) -> SnapshotError {
        SnapshotError { offset: self.offset, reason }
    }

    fn accept<'b>(
        &mut self,
        header: &PieceHeader,
        payload: &'b [u8],
        crc: &[u8],
        len: u64,
    ) -> Result<SnapshotEvent<'b>, SnapshotDamage> {
        let is_here = header.sequence == self.sequence
            && self.nonce.is_none_or(|nonce| nonce == header.nonce)
            && (header.kind == PieceKind::Header) == self.nonce.is_none()
            && !self.is_done;
        if !is_here {
            return Err(SnapshotDamage::Order);
        }
        match (header.kind, self.section.as_mut()) {
            (PieceKind::Header, None) => {
                let info = archive::<SnapshotInfo>(payload)?;
                if info.nonce != header.nonce {
                    return Err(SnapshotDamage::Order);
                }
                self.nonce = Some(info.nonce);
                Ok(SnapshotEvent::Header(info))
            }
            (PieceKind::SectionBegin, None) if payload.is_empty() => {
                let begun = SectionEntry {
                    group: header.group.0,
                    term: 0,
                    index: 0,
                    offset: self.offset,
                    sequence: self.sequence,
                    bytes: len,
                    items: 0,
                    effects: 0,
                    crc: 0,
                };
                self.section = Some((begun, 0));
                Ok(SnapshotEvent::SectionBegin(header.group))
            }
            (PieceKind::Frames, Some((section, section_crc))) if section.shard() == header.group => {
                *section_crc = crc32c::crc32c_append(*section_crc, crc);
                section.bytes += len;
                Ok(SnapshotEvent::Frames(header.group, payload))
            }
            (PieceKind::SectionEnd, Some((section, section_crc))) if section.shard() == header.group => {
                let end = archive::<SectionEntry>(payload)?;
                let is_same = end.group == section.group
                    && end.offset == section.offset
                    && end.sequence == section.sequence
                    && end.bytes == section.bytes + len
                    && end.crc == *section_crc;
                if !is_same {
                    return Err(SnapshotDamage::Section);
                }
                self.section = None;
                self.is_done = self.is_single;
                Ok(SnapshotEvent::SectionEnd(end))
            }
            (PieceKind::Footer, None) if !self.is_single => {
                archive_footer(payload)?;
                self.is_done = true;
                Ok(SnapshotEvent::End)
            }
            _ => Err(SnapshotDamage::Order),
        }
    }
}

impl Default for SnapshotReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads the footer, which begins at [`super::Trailer::footer_offset`]: the sections of the file with that nonce.
pub fn read_footer(bytes: &[u8], trailer: &super::Trailer) -> Result<Vec<SectionEntry>, SnapshotError> {
    let refuse = |reason| SnapshotError { offset: trailer.footer_offset, reason };
    let (header, payload, _) =
        PieceHeader::decode(bytes).map_err(|error| refuse(SnapshotDamage::Piece(error)))?;
    if header.kind != PieceKind::Footer || header.nonce != trailer.nonce {
        return Err(refuse(SnapshotDamage::Order));
    }
    Ok(archive_footer(payload).map_err(refuse)?.sections)
}

fn archive_footer(payload: &[u8]) -> Result<Footer, SnapshotDamage> {
    rkyv::from_bytes::<Footer, Failure>(payload).map_err(|_| SnapshotDamage::Archive)
}

fn archive<T>(payload: &[u8]) -> Result<T, SnapshotDamage>
where
    T: rkyv::Archive,
    T::Archived: for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, Failure>>
        + rkyv::Deserialize<T, rkyv::api::high::HighDeserializer<Failure>>,
{
    if payload.len() != size_of::<T::Archived>() {
        return Err(SnapshotDamage::Archive);
    }
    rkyv::from_bytes::<T, Failure>(payload).map_err(|_| SnapshotDamage::Archive)
}

impl PieceHeader {
    fn len_of(bytes: &[u8]) -> Option<usize> {
        let head = bytes.first_chunk::<PIECE_HEADER_BYTES>()?;
        let payload = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        Some(PIECE_HEADER_BYTES + crate::format::record_padded(payload as usize))
    }
}
