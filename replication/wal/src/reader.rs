//! Reads one core's log back: which segments count and up to where, whose commits are whole, and whether the first one
//! that is not was never synced (a torn tail, which is cut) or was (damage, which is refused).
//!
//! A commit that is not whole is a torn tail unless something behind it says that everything before a later position was
//! synced when it was written: `synced_through` of a commit or of a segment's header. A later run begins where the recovery
//! before it found the log to end; that is where everything older ends, whatever the older segments hold behind it.

use pinnace_types::{CoreId, LogIndex, LogPosition, SegmentNumber, ShardId, Term};

use crate::control::HardState;
use crate::format::{
    BLOCK_BYTES, COMMIT_MAGIC, CommitHeader, HeaderError, RecordHeader, RecordKind, Run, SegmentHeader,
};

/// A segment file as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSegment {
    /// The number in the file's name.
    pub number: SegmentNumber,
    /// What its first block holds: [`SegmentHeader::decode`].
    pub header: Result<SegmentHeader, HeaderError>,
}

/// A segment to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSegment {
    /// Its number, which is its file's name.
    pub number: SegmentNumber,
    /// Its header; `None`: the segment was not begun, and is only looked at for what should not be there.
    pub header: Option<SegmentHeader>,
    /// Where it ends because a later segment begins there; `None`: it is the last that was begun.
    pub end: Option<LogPosition>,
}

/// Reads the segments of one core's directory. For each of [`Self::segments`], in order: [`Self::begin_segment`], then
/// [`Self::next_commit`] with the whole file's bytes until it has no more; at last [`Self::finish`].
#[derive(Debug)]
pub struct LogReader {
    core: CoreId,
    segments: Vec<LogSegment>,
    /// Nonces of runs that may have written segments whose header is gone.
    nonces: Vec<u64>,
    next_segment: SegmentNumber,
    at: Option<usize>,
    offset: u64,
    /// Where the log goes on.
    position: LogPosition,
    /// The log goes on here or behind, whatever is found.
    covered: LogPosition,
    last_run: Option<Run>,
    /// The log ends here; what follows is only looked at for proof that it should not.
    stop: Option<Stop>,
    padding_flaws: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    segment: SegmentNumber,
    offset: u64,
    reason: Option<HeaderError>,
}

/// A whole commit.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'b> {
    /// Its header.
    pub header: CommitHeader,
    /// Where in the file it begins.
    pub offset: u64,
    records: &'b [u8],
}

/// A record of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'b> {
    /// What it is.
    pub kind: RecordKind,
    /// Whose it is.
    pub group: ShardId,
    /// The entry's term.
    pub term: Term,
    /// The entry's index; of a truncation the last index that stays.
    pub index: LogIndex,
    /// An entry's native frames, or an archive.
    pub payload: &'b [u8],
}

/// How a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Where the next run's log begins.
    pub position: LogPosition,
    /// The number that the next run's first segment may have: above all that were found.
    pub next_segment: SegmentNumber,
    /// The latest run that was found.
    pub last_run: Option<Run>,
    /// What was cut off, if something was begun behind the end and never synced.
    pub torn: Option<TornTail>,
    /// Commits whose filling is not all zeros: their data is whole, their disk is not.
    pub padding_flaws: u64,
}

/// A tail that was not written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment in which the log ends.
    pub segment: SegmentNumber,
    /// Where in its file.
    pub offset: u64,
}

/// The log cannot be what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment:016}, offset {offset} (log position {position}): {damage}")]
pub struct LogError {
    /// The segment.
    pub segment: SegmentNumber,
    /// Where in its file.
    pub offset: u64,
    /// Where in the log.
    pub position: LogPosition,
    /// What is wrong.
    pub damage: LogDamage,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogDamage {
    /// A commit is missing or broken, though it was synced.
    #[error(
        "a commit that was synced is broken or missing ({reason}); segment {witness:016}, offset \
         {witness_offset}, was written when it was safe"
    )]
    Lost {
        /// What stands in its place.
        reason: HeaderError,
        /// The segment that proves it.
        witness: SegmentNumber,
        /// Where in that segment's file.
        witness_offset: u64,
    },
    /// A segment of another core.
    #[error("the segment belongs to core {}", .0.0)]
    Core(CoreId),
    /// A segment or commit in another format.
    #[error("{0}")]
    Format(HeaderError),
    /// A commit's checksum fits, its records do not.
    #[error("the records of the commit make no sense")]
    Records,
    /// A later run's log begins within a commit.
    #[error("a later segment begins within the commit")]
    Overlap,
}

impl LogReader {
    /// Orders what was found in `core`'s directory. `nonces` are those of runs that are known from elsewhere: they let
    /// the reader see commits in a segment whose header is destroyed.
    pub fn new(core: CoreId, mut found: Vec<FoundSegment>, nonces: &[u64]) -> Result<Self, LogError> {
        found.sort_by_key(|segment| segment.number);
        let mut segments: Vec<LogSegment> = Vec::with_capacity(found.len());
        let mut nonces = nonces.to_vec();
        for segment in &found {
            let refuse = |damage| LogError {
                segment: segment.number,
                offset: 0,
                position: segment.header.map_or(LogPosition(0), |header| header.position),
                damage,
            };
            let header = match segment.header {
                Ok(header) if header.core != core => return Err(refuse(LogDamage::Core(header.core))),
                Ok(header) => Some(header).filter(|header| header.segment == segment.number),
                Err(error @ (HeaderError::Version(_) | HeaderError::Field)) => {
                    return Err(refuse(LogDamage::Format(error)));
                }
                Err(HeaderError::Short | HeaderError::Absent | HeaderError::Checksum) => None,
            };
            nonces.extend(header.map(|header| header.run.nonce));
            segments.push(LogSegment { number: segment.number, header, end: None });
        }
        let mut end = None;
        for segment in segments.iter_mut().rev() {
            segment.end = end;
            let begin = segment.header.map(|header| header.position);
            end = begin.into_iter().chain(end).min();
        }
        nonces.sort_unstable();
        nonces.dedup();
        // What an older recovery has cut away needs no look.
        segments.retain(|segment| match (segment.header, segment.end) {
            (Some(header), Some(end)) => header.position < end,
            _ => true,
        });
        Ok(Self {
            core,
            nonces,
            next_segment: found.last().map_or(SegmentNumber(1), |segment| segment.number.next()),
            segments,
            at: None,
            offset: 0,
            position: LogPosition(0),
            covered: LogPosition(0),
            last_run: None,
            stop: None,
            padding_flaws: 0,
        })
    }

    /// The segments to be read, in order.
    #[must_use]
    pub fn segments(&self) -> &[LogSegment] {
        &self.segments
    }

    /// Leaves out segments that end at or before `position`, which a snapshot of this log covers. The log goes on behind
    /// it even if no segment is left.
    ///
    /// # Panics
    /// If a segment was begun.
    pub fn skip_covered(&mut self, position: LogPosition) {
        assert!(self.at.is_none(), "segments are left out before the first is read");
        (self.covered, self.position) = (position, position);
        let is_covered = |segment: &LogSegment| segment.end.is_some_and(|end| end <= position);
        let last = self.segments.iter().rposition(|s| s.header.is_some() && is_covered(s));
        self.segments.drain(..last.map_or(0, |last| last + 1));
    }

    /// The log may begin anywhere up to `position`, to which a snapshot covers it, since segments before were removed. Those
    /// that are still there are read: not every group in them need be one of that snapshot.
    ///
    /// # Panics
    /// If a segment was begun.
    pub fn begin_within(&mut self, position: LogPosition) {
        assert!(self.at.is_none(), "a log begins before the first segment is read");
        (self.covered, self.position) = (position, position);
    }

    /// Turns to the segment at `index` of [`Self::segments`].
    ///
    /// # Panics
    /// If segments are not read in order.
    pub fn begin_segment(&mut self, index: usize) -> Result<(), LogError> {
        assert_eq!(index, self.at.map_or(0, |at| at + 1), "segments are read in order");
        self.at = Some(index);
        self.offset = 0;
        let segment = self.segments[index].clone();
        let here = Stop { segment: segment.number, offset: 0, reason: None };
        let Some(header) = segment.header else {
            self.stop.get_or_insert(here);
            return Ok(());
        };
        // The first segment must be there: the log begins at 0, or where a snapshot covers it.
        if self.last_run.is_none() {
            self.position = self.position.min(header.position);
        }
        let position = self.position;
        if header.position == position {
            // What stands before was never begun.
            self.stop = None;
        } else {
            self.stop.get_or_insert(Stop { reason: Some(HeaderError::Absent), ..here });
        }
        if self.stop.is_some() && header.synced_through > position {
            return Err(self.lost(segment.number, 0));
        }
        self.last_run = Some(header.run);
        self.offset = BLOCK_BYTES;
        if self.stop.is_none() {
            self.position = position.plus(BLOCK_BYTES);
        }
        Ok(())
    }

    /// The next whole commit of the segment, whose file's bytes are `bytes`; `None`: nothing more counts in it.
    pub fn next_commit<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Commit<'b>>, LogError> {
        let segment = self.segments[self.at.expect("a segment is begun")].clone();
        let Some(header) = segment.header.filter(|_| self.stop.is_none()) else {
            self.look_for_proof(&segment, bytes)?;
            return Ok(None);
        };
        let position = header.position.plus(self.offset);
        if segment.end == Some(position) {
            self.position = position;
            return Ok(None);
        }
        let offset = self.offset;
        let refuse = |damage| LogError { segment: segment.number, offset, position, damage };
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        match CommitHeader::decode(rest) {
            Ok((commit, records)) if self.is_here(&commit, &header, offset) => {
                self.offset += commit.padded_len();
                if segment.end.is_some_and(|end| position.plus(commit.padded_len()) > end) {
                    return Err(refuse(LogDamage::Overlap));
                }
                check_records(records, commit.record_count).ok_or(refuse(LogDamage::Records))?;
                let padded = rest.len().min(commit.padded_len() as usize);
                let is_filled = rest[commit.len as usize..padded].iter().all(|&byte| byte == 0);
                self.padding_flaws += u64::from(!is_filled);
                self.position = position.plus(commit.padded_len());
                return Ok(Some(Commit { header: commit, offset, records }));
            }
            Err(error @ (HeaderError::Version(_) | HeaderError::Field)) => {
                return Err(refuse(LogDamage::Format(error)));
            }
            Ok(_) => self.stop_at(&segment, None),
            Err(error) => {
                let is_begun = CommitHeader::peek(rest)
                    .is_some_and(|commit| commit.nonce == header.run.nonce && commit.position == position);
                self.stop_at(&segment, is_begun.then_some(error));
            }
        }
        self.position = position;
        self.look_for_proof(&segment, bytes)?;
        Ok(None)
    }

    /// Where the log ended.
    ///
    /// # Panics
    /// If a segment was not read.
    #[must_use]
    pub fn finish(self) -> LogEnd {
        assert_eq!(self.at.map_or(0, |at| at + 1), self.segments.len(), "every segment is read");
        let torn = self.stop.filter(|stop| stop.reason.is_some());
        LogEnd {
            position: self.position.max(self.covered),
            next_segment: self.next_segment,
            last_run: self.last_run,
            torn: torn.map(|stop| TornTail { segment: stop.segment, offset: stop.offset }),
            padding_flaws: self.padding_flaws,
        }
    }

    fn is_here(&self, commit: &CommitHeader, header: &SegmentHeader, offset: u64) -> bool {
        commit.core == self.core
            && commit.nonce == header.run.nonce
            && commit.segment == header.segment
            && commit.position == header.position.plus(offset)
    }

    fn stop_at(&mut self, segment: &LogSegment, reason: Option<HeaderError>) {
        self.stop = Some(Stop { segment: segment.number, offset: self.offset, reason });
    }

    /// Looks behind the log's end for a commit that was written when something behind that end was synced.
    fn look_for_proof(&mut self, segment: &LogSegment, bytes: &[u8]) -> Result<(), LogError> {
        let blocks = bytes.len() as u64 / BLOCK_BYTES;
        for block in self.offset / BLOCK_BYTES..blocks {
            let offset = block * BLOCK_BYTES;
            let rest = &bytes[offset as usize..];
            if rest[..4] != COMMIT_MAGIC {
                continue;
            }
            let Ok((commit, _)) = CommitHeader::decode(rest) else { continue };
            let is_here = match &segment.header {
                Some(header) => self.is_here(&commit, header, offset),
                None => {
                    commit.core == self.core
                        && commit.segment == segment.number
                        && self.nonces.binary_search(&commit.nonce).is_ok()
                }
            };
            if !is_here {
                continue;
            }
            if commit.synced_through > self.position {
                return Err(self.lost(segment.number, offset));
            }
            let stop = self.stop.as_mut().expect("only what is behind the end is looked at");
            stop.reason.get_or_insert(HeaderError::Absent);
        }
        self.offset = blocks * BLOCK_BYTES;
        Ok(())
    }

    fn lost(&self, witness: SegmentNumber, witness_offset: u64) -> LogError {
        let stop = self.stop.expect("the log has ended");
        let reason = stop.reason.unwrap_or(HeaderError::Absent);
        LogError {
            segment: stop.segment,
            offset: stop.offset,
            position: self.position,
            damage: LogDamage::Lost { reason, witness, witness_offset },
        }
    }
}

/// Whether every record of a commit is one, and there are as many as it says.
fn check_records(mut rest: &[u8], count: u32) -> Option<()> {
    for _ in 0..count {
        let (header, payload, behind) = RecordHeader::decode(rest).ok()?;
        let is_sound = match header.kind {
            RecordKind::Entry => !payload.is_empty() && header.index > LogIndex(0),
            RecordKind::HardState => HardState::decode(payload).is_ok(),
            RecordKind::Truncation => payload.is_empty(),
        };
        if !is_sound {
            return None;
        }
        rest = behind;
    }
    rest.is_empty().then_some(())
}

impl<'b> Commit<'b> {
    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'b>> + use<'b> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let (header, payload, behind) = RecordHeader::decode(rest).ok()?;
            rest = behind;
            Some(Record {
                kind: header.kind,
                group: header.group,
                term: header.term,
                index: header.index,
                payload,
            })
        })
    }
}

#[cfg(test)]
mod tests;
