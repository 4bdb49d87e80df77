//! What will be in the next commit: payloads in the order they came, linked by group.
//!
//! One buffer holds all payloads, so that a turn over many groups touches memory in order, and nothing is allocated
//! once it has grown to a turn's size. A list of pieces says which part belongs to which group; a group knows its
//! first and last piece, and the list of touched groups saves looking at all of them.

use pinnace_types::{LogIndex, ShardId, Term};

use crate::format::{RECORD_HEADER_BYTES, RecordHeader, RecordKind, record_padded};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u32,
    len: u32,
    /// The group's next piece, or [`NONE`].
    next: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) term: Term,
    /// Of the last entry, what is pending included.
    pub(crate) index: LogIndex,
    /// Bytes of this group that are pending; 0: the group is not touched.
    payload_bytes: u32,
    first: u32,
    last: u32,
}

#[derive(Debug)]
pub(crate) struct Pending {
    groups: Vec<Group>,
    touched: Vec<u16>,
    payloads: Vec<u8>,
    pieces: Vec<Piece>,
    /// Whole control records, which come before all entries.
    controls: Vec<u8>,
    control_count: u32,
    /// An upper bound of the records' bytes.
    bytes: u64,
}

impl Pending {
    pub(crate) fn new(group_count: u16) -> Self {
        let group = Group { term: Term(1), index: LogIndex(0), payload_bytes: 0, first: NONE, last: NONE };
        Self {
            groups: vec![group; usize::from(group_count)],
            touched: Vec::with_capacity(usize::from(group_count)),
            payloads: Vec::new(),
            pieces: Vec::new(),
            controls: Vec::new(),
            control_count: 0,
            bytes: 0,
        }
    }

    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn group(&self, group: ShardId) -> &Group {
        &self.groups[group.index()]
    }

    pub(crate) fn group_mut(&mut self, group: ShardId) -> &mut Group {
        &mut self.groups[group.index()]
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.control_count == 0
    }

    /// An upper bound of the records' bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn has_entry(&self, group: ShardId) -> bool {
        self.groups[group.index()].payload_bytes > 0
    }

    /// The buffer that a payload is appended to, before [`Self::link`].
    #[inline]
    pub(crate) fn payloads(&mut self) -> &mut Vec<u8> {
        &mut self.payloads
    }

    /// Makes the payload that stands from `start` on part of the group's entry.
    #[inline]
    pub(crate) fn link(&mut self, group: ShardId, start: usize) {
        let len = self.payloads.len() - start;
        if len == 0 {
            return;
        }
        let end = u32::try_from(self.payloads.len()).expect("a commit is far smaller than 4 GiB");
        let (start, len) = (end - len as u32, len as u32);
        let this = self.pieces.len() as u32;
        let state = &mut self.groups[group.index()];
        self.bytes += u64::from(len);
        if state.payload_bytes == 0 {
            state.index = state.index.next();
            state.first = this;
            self.touched.push(group.0);
            self.bytes += RECORD_HEADER_BYTES as u64 + 8;
        } else if state.last + 1 == this {
            self.pieces[state.last as usize].len += len;
            state.payload_bytes += len;
            return;
        } else {
            self.pieces[state.last as usize].next = this;
        }
        state.payload_bytes += len;
        state.last = this;
        self.pieces.push(Piece { start, len, next: NONE });
    }

    pub(crate) fn push_control(&mut self, header: &RecordHeader, payload: &[u8]) {
        let len = self.controls.len();
        self.controls.extend_from_slice(&header.encode());
        self.controls.extend_from_slice(payload);
        self.controls.resize(record_padded(self.controls.len()), 0);
        self.control_count += 1;
        self.bytes += (self.controls.len() - len) as u64;
    }

    /// Number and bytes of the records, exactly.
    pub(crate) fn measure(&self) -> (u32, usize) {
        let entry = |&group: &u16| {
            RECORD_HEADER_BYTES + record_padded(self.groups[usize::from(group)].payload_bytes as usize)
        };
        let bytes = self.controls.len() + self.touched.iter().map(entry).sum::<usize>();
        (self.control_count + self.touched.len() as u32, bytes)
    }

    /// Appends all records to `out`; nothing is pending then. `start` is where payloads end that count: what stands
    /// behind has not been linked and becomes the first of the next commit.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>, start: usize, kept_bytes_max: usize) {
        out.extend_from_slice(&self.controls);
        for &number in &self.touched {
            let group = &mut self.groups[usize::from(number)];
            let header = RecordHeader {
                kind: RecordKind::Entry,
                group: ShardId(number),
                payload_len: group.payload_bytes,
                term: group.term,
                index: group.index,
            };
            out.extend_from_slice(&header.encode());
            let mut at = group.first;
            while at != NONE {
                let piece = self.pieces[at as usize];
                out.extend_from_slice(&self.payloads[piece.start as usize..][..piece.len as usize]);
                at = piece.next;
            }
            let padding = record_padded(group.payload_bytes as usize) - group.payload_bytes as usize;
            out.extend_from_slice(&[0; 8][..padding]);
            group.payload_bytes = 0;
        }
        let rest = self.payloads.len() - start;
        self.payloads.copy_within(start.., 0);
        self.payloads.truncate(rest);
        self.payloads.shrink_to(kept_bytes_max);
        self.touched.clear();
        self.pieces.clear();
        self.controls.clear();
        (self.control_count, self.bytes) = (0, 0);
    }
}
