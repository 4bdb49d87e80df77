//! A disk in memory and what a recovery makes of it.
#![allow(dead_code)] // Each test uses a part of it.

use std::collections::BTreeMap;

use pinnace_types::{CoreId, LogPosition, SegmentNumber, ShardId};
use pinnace_wal::{
    FoundSegment, GroupError, GroupLogs, GroupStart, LogEnd, LogError, LogLimits, LogReader, LogStart,
    LogWriter, Run, SegmentHeader, Verdict,
};

pub const GROUP_COUNT: u16 = 5;
pub const SEGMENT_BYTES: usize = LogLimits::TEST_MIN.segment_bytes as usize;

/// Segment files by number.
pub type Files = BTreeMap<u64, Vec<u8>>;

/// An entry: group, index, payload.
pub type Entry = (u16, u64, Vec<u8>);

/// A state that a recovery came to.
#[derive(Debug)]
pub struct Recovered {
    /// Entries that are to be applied, in order.
    pub entries: Vec<Entry>,
    /// Commits, by their position.
    pub commits: Vec<LogPosition>,
    pub end: LogEnd,
    pub groups: GroupLogs,
}

/// Why a recovery refused.
#[derive(Debug)]
pub enum Refused {
    Log(LogError),
    Group(GroupError),
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<GroupError> for Refused {
    fn from(error: GroupError) -> Self {
        Self::Group(error)
    }
}

pub fn writer(run: u64, segment: SegmentNumber, position: LogPosition, groups: Vec<GroupStart>) -> LogWriter {
    let start = LogStart {
        core: CoreId(0),
        node_id: 1,
        run: Run { number: run, nonce: nonce(run) },
        segment,
        position,
        group_count: GROUP_COUNT,
        groups,
    };
    LogWriter::new(start, LogLimits::TEST_MIN)
}

/// The nonce of a run: no client knows it.
pub fn nonce(run: u64) -> u64 {
    run.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Recovers behind a snapshot that covers the log up to `covered`, and the groups as `groups` has them.
pub fn recover(
    files: &Files,
    covered: LogPosition,
    mut groups: GroupLogs,
    nonces: &[u64],
) -> Result<Recovered, Refused> {
    let found = files.iter().map(|(&number, bytes)| FoundSegment {
        number: SegmentNumber(number),
        header: SegmentHeader::decode(bytes),
    });
    let mut reader = LogReader::new(CoreId(0), found.collect(), nonces)?;
    reader.skip_covered(covered);
    let (mut entries, mut commits) = (Vec::new(), Vec::new());
    for index in 0..reader.segments().len() {
        let bytes = &files[&reader.segments()[index].number.0];
        reader.begin_segment(index)?;
        while let Some(commit) = reader.next_commit(bytes)? {
            commits.push(commit.header.position);
            for record in commit.records() {
                if groups.accept(&record)? == Verdict::Apply {
                    entries.push((record.group.0, record.index.0, record.payload.to_vec()));
                }
            }
        }
    }
    Ok(Recovered { entries, commits, end: reader.finish(), groups })
}

pub fn starts(groups: &GroupLogs) -> Vec<GroupStart> {
    groups.starts((0..GROUP_COUNT).map(ShardId))
}
