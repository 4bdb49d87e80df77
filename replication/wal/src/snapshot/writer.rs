//! Makes a snapshot file's bytes, a few at a time.

use pinnace_types::{LogIndex, ShardId, Term};
use rkyv::rancor::Failure;

use super::pieces::{
    Footer, PIECE_HEADER_BYTES, PieceHeader, PieceKind, SectionEntry, SnapshotInfo, Trailer, trailer_gap,
};
use crate::format::{BLOCK_BYTES, record_padded};

/// Writes one snapshot file. Between [`Self::begin_section`] and [`Self::end_section`] the walk's items and the shard's
/// effects are appended in the order in which they happen. What is ready to be written leaves by [`Self::take_blocks`].
#[derive(Debug)]
pub struct SnapshotWriter {
    info: SnapshotInfo,
    piece_bytes: usize,
    /// Finished pieces, then the open one: room for its header, and its payload.
    bytes: Vec<u8>,
    /// Where the open piece begins in `bytes`; what stands before is finished.
    open: usize,
    /// Bytes that have left.
    taken: u64,
    sequence: u64,
    section: Option<SectionEntry>,
    sections: Vec<SectionEntry>,
    is_finished: bool,
}

impl SnapshotWriter {
    /// A writer whose pieces of frames are closed when they have grown to `piece_bytes`.
    #[must_use]
    pub fn new(info: SnapshotInfo, piece_bytes: usize) -> Self {
        let mut writer = Self {
            info,
            piece_bytes,
            bytes: Vec::with_capacity(piece_bytes + piece_bytes / 4),
            open: 0,
            taken: 0,
            sequence: 0,
            section: None,
            sections: Vec::new(),
            is_finished: false,
        };
        let payload = rkyv::to_bytes::<Failure>(&info).expect("numbers are archived without fail");
        writer.control(PieceKind::Header, ShardId(0), &payload);
        writer
    }

    /// What the file says about itself.
    #[must_use]
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// Begins a shard's section: from now on every effect on it is to be appended.
    ///
    /// # Panics
    /// If a section is open.
    pub fn begin_section(&mut self, group: ShardId) {
        assert!(self.section.is_none() && !self.is_finished, "one section at a time");
        self.section = Some(SectionEntry {
            group: group.0,
            term: 0,
            index: 0,
            offset: self.len(),
            sequence: self.sequence,
            bytes: 0,
            items: 0,
            effects: 0,
            crc: 0,
        });
        self.control(PieceKind::SectionBegin, group, &[]);
        self.bytes.resize(self.open + PIECE_HEADER_BYTES, 0);
    }

    /// The shard whose section is open.
    #[must_use]
    pub fn section(&self) -> Option<ShardId> {
        self.section.map(|section| section.shard())
    }

    /// Appends the frame of an item that the walk meets.
    #[inline]
    pub fn append_item(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.open_section().items += 1;
        self.append(write);
    }

    /// Appends the frame of an effect that has been applied to the open section's shard.
    #[inline]
    pub fn append_effect(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.open_section().effects += 1;
        self.append(write);
    }

    fn open_section(&mut self) -> &mut SectionEntry {
        self.section.as_mut().expect("a section is open")
    }

    #[inline]
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        if self.bytes.len() - self.open >= self.piece_bytes {
            self.close_frames();
            self.bytes.resize(self.open + PIECE_HEADER_BYTES, 0);
        }
    }

    /// Ends the section: it is the state at this index, all effects up to it have been appended.
    ///
    /// # Panics
    /// If no section is open.
    pub fn end_section(&mut self, term: Term, index: LogIndex) {
        self.close_frames();
        let mut section = self.section.take().expect("a section is open");
        (section.term, section.index) = (term.0, index.0);
        let end_bytes = PIECE_HEADER_BYTES + record_padded(archived_len(&section));
        section.bytes = self.len() + end_bytes as u64 - section.offset;
        let payload = rkyv::to_bytes::<Failure>(&section).expect("numbers are archived without fail");
        self.control(PieceKind::SectionEnd, section.shard(), &payload);
        self.sections.push(section);
    }

    /// Ends the file with footer and trailer; its length is a multiple of a block then.
    ///
    /// Before the file counts, the log must be synced to where it ended with the last section: else a crash could leave
    /// a snapshot with effects that the log has lost, and a log that goes on behind a gap.
    ///
    /// # Panics
    /// If a section is open.
    pub fn finish(&mut self) {
        assert!(self.section.is_none() && !self.is_finished, "all sections are ended");
        let footer = Footer { sections: std::mem::take(&mut self.sections) };
        let footer_offset = self.len();
        let payload = rkyv::to_bytes::<Failure>(&footer).expect("numbers are archived without fail");
        self.control(PieceKind::Footer, ShardId(0), &payload);
        let gap = trailer_gap(self.len());
        self.bytes.resize(self.bytes.len() + gap as usize, 0);
        let trailer = Trailer { footer_offset, nonce: self.info.nonce };
        self.bytes.extend_from_slice(&trailer.encode());
        self.open = self.bytes.len();
        self.sections = footer.sections;
        self.is_finished = true;
    }

    /// Whether the file is complete, once all of it has been taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The sections that are ended.
    #[must_use]
    pub fn sections(&self) -> &[SectionEntry] {
        &self.sections
    }

    /// Whole blocks that can be taken, in bytes.
    #[must_use]
    pub fn ready_bytes(&self) -> usize {
        self.open - self.open % BLOCK_BYTES as usize
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the whole blocks that are finished to `out`: the next bytes of the file, beginning at
    /// [`Self::taken_bytes`].
    pub fn take_blocks(&mut self, out: &mut Vec<u8>) {
        let ready = self.ready_bytes();
        out.extend_from_slice(&self.bytes[..ready]);
        self.bytes.copy_within(ready.., 0);
        self.bytes.truncate(self.bytes.len() - ready);
        self.bytes.shrink_to(2 * self.piece_bytes);
        self.open -= ready;
        self.taken += ready as u64;
    }

    /// Bytes that have been taken: where in the file the next ones go.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.taken
    }

    /// Where in the file the open piece begins.
    fn len(&self) -> u64 {
        self.taken + self.open as u64
    }

    /// Closes the open piece of frames; one without frames is dropped.
    fn close_frames(&mut self) {
        let group = self.open_section().shard();
        if self.bytes.len() - self.open == PIECE_HEADER_BYTES {
            self.bytes.truncate(self.open);
            return;
        }
        let start = self.open;
        self.close(PieceKind::Frames, group);
        let crc =
            [self.bytes[start + 4], self.bytes[start + 5], self.bytes[start + 6], self.bytes[start + 7]];
        let section = self.open_section();
        section.crc = crc32c::crc32c_append(section.crc, &crc);
    }

    fn control(&mut self, kind: PieceKind, group: ShardId, payload: &[u8]) {
        self.bytes.resize(self.open + PIECE_HEADER_BYTES, 0);
        self.bytes.extend_from_slice(payload);
        self.close(kind, group);
    }

    fn close(&mut self, kind: PieceKind, group: ShardId) {
        let payload_len = self.bytes.len() - self.open - PIECE_HEADER_BYTES;
        self.bytes.resize(self.open + PIECE_HEADER_BYTES + record_padded(payload_len), 0);
        let header = PieceHeader {
            kind,
            group,
            payload_len: u32::try_from(payload_len).expect("a piece is far smaller than 4 GiB"),
            sequence: self.sequence,
            nonce: self.info.nonce,
        };
        header.put(&mut self.bytes[self.open..]);
        self.sequence += 1;
        self.open = self.bytes.len();
    }
}

/// Bytes of a section's archive, which are the same for all sections.
fn archived_len(_: &SectionEntry) -> usize {
    size_of::<rkyv::Archived<SectionEntry>>()
}
