//! Makes commits of what a core's turns append, and knows where each goes.
//!
//! One writer per core and run. It never reads a file and never waits: what it seals must be written in order, at the
//! place that [`Sealed`] names, and synced in order. Each run begins with a segment of its own.

use std::collections::VecDeque;

use pinnace_types::{CommitNumber, CoreId, LogIndex, LogPosition, SegmentNumber, ShardId, Term};

use crate::control::HardState;
use crate::format::{
    BLOCK_BYTES, COMMIT_HEADER_BYTES, CommitHeader, RECORD_HEADER_BYTES, RecordHeader, RecordKind, Run,
    SegmentHeader, block_padded, put_crc,
};
use crate::pending::Pending;

/// Where a writer begins.
#[derive(Clone, Debug)]
pub struct LogStart {
    /// The core whose log it is.
    pub core: CoreId,
    /// The node, as in its identity file; a log of another node is refused at a start.
    pub node_id: u64,
    /// This run: a number above those of all earlier runs, and a random nonce.
    pub run: Run,
    /// The first segment: one more than the last that was found, or 1.
    pub segment: SegmentNumber,
    /// Where the recovered log ends, or 0. Everything before it must be synced before the first commit is written,
    /// since that commit says so.
    pub position: LogPosition,
    /// Shards of the node; groups are numbered below it.
    pub group_count: u16,
    /// Groups that do not begin at term 1 and index 0.
    pub groups: Vec<GroupStart>,
}

/// The last entry of a group as it was recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStart {
    /// The group.
    pub group: ShardId,
    /// Its term.
    pub term: Term,
    /// Its last index.
    pub index: LogIndex,
}

/// Bounds of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of a segment file, a multiple of a block.
    pub segment_bytes: u64,
    /// A commit is closed before it becomes larger than this. One effect, or what was appended between
    /// [`LogWriter::begin_atomic`] and [`LogWriter::end_atomic`], is never divided.
    pub commit_bytes_max: u64,
    /// Memory that a writer keeps for the next turn; what a larger turn took is given back.
    pub kept_bytes_max: usize,
}

impl LogLimits {
    /// Segments of 64 MiB: a few hundred files for tens of gigabytes, and one is filled in 25 ms at the soonest.
    pub const DEFAULT: Self =
        Self { segment_bytes: 64 << 20, commit_bytes_max: 8 << 20, kept_bytes_max: 4 << 20 };
    /// Segments and commits that a short test fills.
    pub const TEST_MIN: Self =
        Self { segment_bytes: 32 << 10, commit_bytes_max: 8 << 10, kept_bytes_max: 4 << 10 };

    /// What [`LogWriter::room`] takes at most: more is [`LogRoom::TooLarge`] even for an empty segment.
    #[must_use]
    pub fn payload_bytes_max(&self, group_count: u16) -> u64 {
        (self.segment_bytes - BLOCK_BYTES).saturating_sub(slack(u64::from(group_count)))
    }
}

/// Headers and padding that an effect may need beside its payload.
#[inline]
fn slack(group_count: u64) -> u64 {
    (COMMIT_HEADER_BYTES as u64) + BLOCK_BYTES + group_count * (RECORD_HEADER_BYTES as u64 + 8)
}

/// Whether something may be applied, because the log will have room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRoom {
    /// It fits into segments that are there.
    Fits,
    /// It may not fit: no further segment is ready. Refuse it, and try again later.
    Full,
    /// It never fits into a segment.
    TooLarge,
}

/// A commit that is to be written: `len` bytes at `offset` of the file of `segment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its number; commits are sealed, written and synced in the order of their numbers.
    pub number: CommitNumber,
    /// Where its bytes stand in the log.
    pub position: LogPosition,
    /// The segment they go to.
    pub segment: SegmentNumber,
    /// The offset in that segment's file. 0: the segment begins, and its header is among the bytes.
    pub offset: u64,
    /// How many bytes; a multiple of a block.
    pub len: u64,
}

impl Sealed {
    /// Where the log ends with this commit.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        self.position.plus(self.len)
    }
}

/// Where the next commit goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: SegmentNumber,
    /// Bytes of the segment that are taken.
    offset: u64,
    position: LogPosition,
}

/// Writes one core's log.
#[derive(Debug)]
pub struct LogWriter {
    core: CoreId,
    node_id: u64,
    run: Run,
    limits: LogLimits,
    pending: Pending,
    place: Place,
    /// Segments up to this one can be written.
    ready_through: SegmentNumber,
    /// The number of the commit that is open.
    open: CommitNumber,
    /// Commits closed within a turn, which [`Self::seal`] hands out first, and their bytes.
    closed: VecDeque<Sealed>,
    closed_bytes: Vec<u8>,
    /// Sealed and not yet synced: each commit's number and end.
    in_flight: VecDeque<(CommitNumber, LogPosition)>,
    synced: CommitNumber,
    synced_through: LogPosition,
    /// The log is complete and says that it is synced up to here; `None`: this run has written nothing.
    marked_through: Option<LogPosition>,
    is_atomic: bool,
}

impl LogWriter {
    /// A writer that begins a segment with its first commit.
    ///
    /// # Panics
    /// If the limits leave no room for a commit, or `start` names a group that is not there.
    #[must_use]
    pub fn new(start: LogStart, limits: LogLimits) -> Self {
        assert!(limits.segment_bytes >= 4 * BLOCK_BYTES && limits.segment_bytes.is_multiple_of(BLOCK_BYTES));
        assert!(limits.commit_bytes_max <= limits.segment_bytes - BLOCK_BYTES);
        let mut pending = Pending::new(start.group_count);
        for group in &start.groups {
            let state = pending.group_mut(group.group);
            (state.term, state.index) = (group.term, group.index);
        }
        assert!(start.position.0.is_multiple_of(BLOCK_BYTES) && start.segment.0 > 0);
        let before_first = SegmentNumber(start.segment.0 - 1);
        Self {
            core: start.core,
            node_id: start.node_id,
            run: start.run,
            pending,
            place: Place { segment: before_first, offset: limits.segment_bytes, position: start.position },
            limits,
            ready_through: before_first,
            open: CommitNumber(1),
            closed: VecDeque::new(),
            closed_bytes: Vec::new(),
            in_flight: VecDeque::new(),
            synced: CommitNumber(0),
            synced_through: start.position,
            marked_through: None,
            is_atomic: false,
        }
    }

    /// Appends to the group's entry of this turn what `write` appends to the buffer.
    #[inline]
    pub fn append(&mut self, group: ShardId, write: impl FnOnce(&mut Vec<u8>)) {
        let payloads = self.pending.payloads();
        let start = payloads.len();
        write(payloads);
        let len = (payloads.len() - start) as u64;
        if self.pending.bytes() + len > self.limits.commit_bytes_max && !self.is_atomic {
            self.close(start);
            self.pending.link(group, 0);
        } else {
            self.pending.link(group, start);
        }
    }

    /// From here to [`Self::end_atomic`] everything is part of one commit: all of it is found after a crash, or none.
    pub fn begin_atomic(&mut self, payload_bytes: u64) {
        if self.pending.bytes() + payload_bytes > self.limits.commit_bytes_max {
            self.close_all();
        }
        self.is_atomic = true;
    }

    /// Ends what [`Self::begin_atomic`] began.
    pub fn end_atomic(&mut self) {
        self.is_atomic = false;
    }

    /// Logs a group's hard state, before the entries of the same commit.
    pub fn append_hard_state(&mut self, group: ShardId, state: &HardState) {
        let payload = state.encode();
        let header = RecordHeader {
            kind: RecordKind::HardState,
            group,
            payload_len: payload.len() as u32,
            term: Term(0),
            index: LogIndex(0),
        };
        self.pending.push_control(&header, &payload);
    }

    /// Voids the group's entries behind `last`; the next one follows it.
    ///
    /// # Panics
    /// If the group's log ends before `last`.
    pub fn truncate(&mut self, group: ShardId, last: LogIndex) {
        if self.pending.has_entry(group) {
            self.close_all();
        }
        let state = self.pending.group_mut(group);
        assert!(last <= state.index, "a log is cut within itself");
        state.index = last;
        let header =
            RecordHeader { kind: RecordKind::Truncation, group, payload_len: 0, term: Term(0), index: last };
        self.pending.push_control(&header, &[]);
    }

    /// The term of the group's entries from now on.
    pub fn set_term(&mut self, group: ShardId, term: Term) {
        if self.pending.has_entry(group) {
            self.close_all();
        }
        self.pending.group_mut(group).term = term;
    }

    /// Term and index of the group's last entry, what is pending included.
    #[must_use]
    pub fn last_index(&self, group: ShardId) -> (Term, LogIndex) {
        let state = self.pending.group(group);
        (state.term, state.index)
    }

    /// The commit that holds what was appended last, or will hold what is appended next if nothing is pending. To know
    /// the commit of an effect, ask after appending it.
    #[inline]
    #[must_use]
    pub fn pending_commit(&self) -> CommitNumber {
        self.open
    }

    /// Whether [`Self::seal`] has something to hand out.
    #[inline]
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.closed.is_empty()
    }

    /// Whether payloads of that many bytes together, for any groups, fit into segments that are ready. Ask before
    /// anything is applied: an effect that has been applied must be logged. What is appended without room goes to segments
    /// that are not ready yet: whoever writes waits for them, and until then there is no room for more.
    #[inline]
    #[must_use]
    pub fn room(&self, payload_bytes: u64) -> LogRoom {
        let bytes = payload_bytes + slack(self.pending.group_count() as u64);
        let open = self.pending.bytes() + bytes;
        let fits =
            open <= self.limits.commit_bytes_max && open + self.place.offset <= self.limits.segment_bytes;
        if fits && self.place.segment <= self.ready_through {
            return LogRoom::Fits;
        }
        self.room_in_next(bytes)
    }

    #[cold]
    fn room_in_next(&self, bytes: u64) -> LogRoom {
        let capacity = self.limits.segment_bytes - BLOCK_BYTES;
        if bytes > capacity {
            return LogRoom::TooLarge;
        }
        if self.place.segment > self.ready_through {
            return LogRoom::Full;
        }
        let mut segment = self.place.segment;
        let mut rest = self.limits.segment_bytes.saturating_sub(self.place.offset);
        let open = self.pending.bytes();
        let apart = [block_padded(open + COMMIT_HEADER_BYTES as u64), bytes];
        let together = [0, open + bytes];
        let divided = open > 0 && open + bytes > self.limits.commit_bytes_max;
        for piece in if divided { apart } else { together } {
            if piece <= rest {
                rest -= piece;
            } else if segment < self.ready_through && piece <= capacity {
                segment = segment.next();
                rest = capacity - piece;
            } else {
                return LogRoom::Full;
            }
        }
        LogRoom::Fits
    }

    /// Segments up to this one are there and can be written.
    pub fn on_segment_ready(&mut self, through: SegmentNumber) {
        self.ready_through = self.ready_through.max(through);
    }

    /// Appends the next commit to `out`, padded to a block, and says where it goes. Call it until it has nothing: a
    /// turn that is too large for one commit gives several.
    pub fn seal(&mut self, out: &mut Vec<u8>) -> Option<Sealed> {
        if let Some(sealed) = self.closed.pop_front() {
            let len = sealed.len as usize;
            out.extend_from_slice(&self.closed_bytes[..len]);
            self.closed_bytes.copy_within(len.., 0);
            self.closed_bytes.truncate(self.closed_bytes.len() - len);
            if self.closed.is_empty() {
                self.closed_bytes = Vec::new();
            }
            return Some(sealed);
        }
        if self.pending.is_empty() {
            return None;
        }
        let payloads_end = self.pending.payloads().len();
        Some(self.seal_open(out, payloads_end))
    }

    /// Appends a commit without records if the log does not say yet that it is synced to its end. Without it, damage of
    /// the last commit that was synced looks like a torn write. To be written, and synced, when a run begins (before it
    /// serves anybody: what the recovery found is then what counts), when a log falls idle, and at the end. Nothing if the
    /// segment is full: the next commit will say it.
    pub fn seal_marker(&mut self, out: &mut Vec<u8>) -> Option<Sealed> {
        let begins = self.open == CommitNumber(1);
        let fits = begins || self.place.offset + BLOCK_BYTES <= self.limits.segment_bytes;
        let is_marked = self.marked_through == Some(self.synced_through);
        if self.has_pending() || !self.in_flight.is_empty() || is_marked || !fits {
            return None;
        }
        let sealed = self.seal_open(out, 0);
        self.marked_through = Some(sealed.end());
        Some(sealed)
    }

    /// Everything up to this commit is synced.
    ///
    /// # Panics
    /// If that commit was never sealed.
    pub fn on_synced(&mut self, through: CommitNumber) {
        assert!(through < self.open, "only what was sealed can be synced");
        while let Some(&(number, end)) = self.in_flight.front().filter(|(number, _)| *number <= through) {
            self.in_flight.pop_front();
            (self.synced, self.synced_through) = (number, end);
        }
    }

    /// See [`LogLimits::payload_bytes_max`].
    #[must_use]
    pub fn payload_bytes_max(&self) -> u64 {
        self.limits.payload_bytes_max(self.pending.group_count() as u16)
    }

    /// The last commit known to be synced.
    #[must_use]
    pub fn synced(&self) -> CommitNumber {
        self.synced
    }

    /// Where the log ends with what has been sealed or closed. Of a snapshot pass that begins now, every section covers
    /// what stands before.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        self.place.position
    }

    /// The segment that was written last.
    #[must_use]
    pub fn segment(&self) -> SegmentNumber {
        self.place.segment
    }

    fn close_all(&mut self) {
        let payloads_end = self.pending.payloads().len();
        self.close(payloads_end);
    }

    /// Closes the open commit within a turn; payload bytes from `payloads_end` on go to the next.
    #[cold]
    fn close(&mut self, payloads_end: usize) {
        if self.pending.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.closed_bytes);
        let sealed = self.seal_open(&mut bytes, payloads_end);
        self.closed_bytes = bytes;
        self.closed.push_back(sealed);
    }

    fn seal_open(&mut self, out: &mut Vec<u8>, payloads_end: usize) -> Sealed {
        let (record_count, record_bytes) = self.pending.measure();
        let len = COMMIT_HEADER_BYTES + record_bytes;
        let padded = block_padded(len as u64);
        let place = self.take_place(padded);
        out.reserve((BLOCK_BYTES + padded) as usize);
        let sealed_start = out.len();
        if place.offset == 0 {
            self.segment_header(&place).encode(out);
        }
        let start = out.len();
        let header = CommitHeader {
            core: self.core,
            len: u32::try_from(len).expect("a commit is far smaller than 4 GiB"),
            nonce: self.run.nonce,
            segment: place.segment,
            position: place.position.plus((start - sealed_start) as u64),
            synced_through: self.synced_through,
            number: self.open,
            record_count,
        };
        out.extend_from_slice(&header.encode());
        self.pending.drain(out, payloads_end, self.limits.kept_bytes_max);
        assert_eq!(out.len() - start, len, "records are measured before they are written");
        put_crc(&mut out[start..]);
        out.resize(start + padded as usize, 0);
        let sealed = Sealed {
            number: self.open,
            position: place.position,
            segment: place.segment,
            offset: place.offset,
            len: (out.len() - sealed_start) as u64,
        };
        self.open = self.open.next();
        self.in_flight.push_back((sealed.number, sealed.end()));
        sealed
    }

    fn segment_header(&self, place: &Place) -> SegmentHeader {
        SegmentHeader {
            core: self.core,
            node_id: self.node_id,
            run: self.run,
            segment: place.segment,
            position: place.position,
            segment_bytes: self.limits.segment_bytes,
            synced_through: self.synced_through,
        }
    }

    /// Takes a commit's place. What does not fit into the segment begins the next; a commit that is larger than a
    /// segment has one to itself, which is as large as it must be.
    fn take_place(&mut self, padded: u64) -> Place {
        let mut place = self.place;
        let mut len = padded;
        if place.offset + padded > self.limits.segment_bytes {
            place = Place { segment: place.segment.next(), offset: 0, position: place.position };
            len += BLOCK_BYTES;
        }
        self.place =
            Place { segment: place.segment, offset: place.offset + len, position: place.position.plus(len) };
        place
    }
}

#[cfg(test)]
mod tests;
