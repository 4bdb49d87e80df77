use pinnace_types::{CommitNumber, CoreId, LogIndex, LogPosition, SegmentNumber, ShardId, Term};

use super::{FoundSegment, LogDamage, LogEnd, LogError, LogReader};
use crate::format::{BLOCK_BYTES, Run, SegmentHeader};
use crate::groups::{GroupError, GroupLogs, Verdict};
use crate::writer::{LogLimits, LogStart, LogWriter};

const BLOCK: usize = BLOCK_BYTES as usize;
type Files = std::collections::BTreeMap<u64, Vec<u8>>;

fn writer(run: u64, segment: u64, position: LogPosition, groups: &GroupLogs) -> LogWriter {
    let start = LogStart {
        core: CoreId(0),
        node_id: 1,
        run: Run { number: run, nonce: 1000 + run },
        segment: SegmentNumber(segment),
        position,
        group_count: 4,
        groups: groups.starts((0..4).map(ShardId)),
    };
    LogWriter::new(start, LogLimits::TEST_MIN)
}

/// Seals and writes one commit; its synced number is told at once if `synced`.
fn commit(writer: &mut LogWriter, files: &mut Files, group: u16, payload: &[u8], synced: bool) {
    writer.append(ShardId(group), |out| out.extend_from_slice(payload));
    let mut out = Vec::new();
    while let Some(sealed) = writer.seal(&mut out) {
        let file = files
            .entry(sealed.segment.0)
            .or_insert_with(|| vec![0; LogLimits::TEST_MIN.segment_bytes as usize]);
        file[sealed.offset as usize..][..out.len()].copy_from_slice(&out);
        out.clear();
        if synced {
            writer.on_synced(sealed.number);
        }
    }
}

struct Recovered {
    entries: Vec<(u16, u64, Vec<u8>)>,
    end: LogEnd,
    groups: GroupLogs,
}

#[derive(Debug)]
enum Refused {
    Log(LogError),
    Group(GroupError),
}

fn reader(files: &Files) -> Result<LogReader, LogError> {
    let found = files.iter().map(|(&number, bytes)| FoundSegment {
        number: SegmentNumber(number),
        header: SegmentHeader::decode(bytes),
    });
    LogReader::new(CoreId(0), found.collect(), &[])
}

fn recover_with(files: &Files, mut groups: GroupLogs, covered: LogPosition) -> Result<Recovered, Refused> {
    let mut reader = reader(files).map_err(Refused::Log)?;
    reader.skip_covered(covered);
    let mut entries = Vec::new();
    for index in 0..reader.segments().len() {
        let bytes = &files[&reader.segments()[index].number.0];
        reader.begin_segment(index).map_err(Refused::Log)?;
        while let Some(commit) = reader.next_commit(bytes).map_err(Refused::Log)? {
            for record in commit.records() {
                if groups.accept(&record).map_err(Refused::Group)? == Verdict::Apply {
                    entries.push((record.group.0, record.index.0, record.payload.to_vec()));
                }
            }
        }
    }
    Ok(Recovered { entries, end: reader.finish(), groups })
}

fn recover(files: &Files) -> Result<Recovered, Refused> {
    recover_with(files, GroupLogs::new(4), LogPosition(0))
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let recovered = recover(&Files::new()).unwrap_or_else(|_| panic!("nothing is wrong with nothing"));
    assert_eq!((recovered.end.position, recovered.end.next_segment), (LogPosition(0), SegmentNumber(1)));
    assert!(recovered.entries.is_empty() && recovered.end.torn.is_none());
}

#[test]
fn several_segments_and_runs_read_back_in_order() {
    let (mut files, mut written) = (Files::new(), Vec::new());
    let mut groups = GroupLogs::new(4);
    let (mut position, mut segment) = (LogPosition(0), 1);
    for run in 1..=3 {
        let mut writer = writer(run, segment, position, &groups);
        for round in 0..11u16 {
            let payload = vec![(run * 16) as u8 + round as u8; 5000];
            commit(&mut writer, &mut files, round % 3, &payload, round % 2 == 0);
            written.push((round % 3, writer.last_index(ShardId(round % 3)).1.0, payload));
        }
        let recovered = recover(&files).unwrap_or_else(|_| panic!("the log is whole"));
        assert_eq!(recovered.entries, written);
        assert_eq!(recovered.end.position, writer.end());
        assert_eq!((recovered.end.torn, recovered.end.padding_flaws), (None, 0));
        (position, segment, groups) =
            (recovered.end.position, recovered.end.next_segment.0, recovered.groups);
    }
}

#[test]
fn a_torn_tail_is_cut_and_the_next_run_goes_on_behind_it() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    commit(&mut first, &mut files, 0, b"kept", true);
    let end = first.end();
    commit(&mut first, &mut files, 0, &[1; 6000], false);
    commit(&mut first, &mut files, 1, b"whole, but behind a hole", false);
    files.get_mut(&1).unwrap()[end.0 as usize + BLOCK..][..BLOCK].fill(0);

    let cut = recover(&files).unwrap_or_else(|_| panic!("nothing that was synced is missing"));
    assert_eq!(cut.entries, [(0, 1, b"kept".to_vec())]);
    assert_eq!(cut.end.position, end);
    assert_eq!(cut.end.torn.map(|torn| torn.offset), Some(end.0));

    let mut second = writer(2, cut.end.next_segment.0, end, &cut.groups);
    commit(&mut second, &mut files, 1, b"of the second run", true);
    // What was torn turns out to be there after all: it has been cut, and stays so.
    let after = recover(&files).unwrap_or_else(|_| panic!("the second run's log is whole"));
    assert_eq!(after.entries, [(0, 1, b"kept".to_vec()), (1, 1, b"of the second run".to_vec())]);
}

#[test]
fn damage_before_something_synced_is_refused_with_its_place() {
    for (damage_of, witness) in [("later commit", 1), ("later segment", 2), ("later run", 2)] {
        let mut files = Files::new();
        let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
        commit(&mut first, &mut files, 0, b"synced", true);
        let broken = first.end();
        commit(&mut first, &mut files, 0, b"synced too", true);
        match damage_of {
            "later commit" => commit(&mut first, &mut files, 0, b"witness", false),
            "later segment" => (0..5).for_each(|_| commit(&mut first, &mut files, 0, &[1; 5000], true)),
            _ => {
                let recovered = recover(&files).unwrap_or_else(|_| panic!("the log is whole"));
                let mut second = writer(2, 2, recovered.end.position, &recovered.groups);
                commit(&mut second, &mut files, 0, b"of the second run", false);
            }
        }
        if damage_of == "later segment" {
            files.get_mut(&1).unwrap()[broken.0 as usize..].fill(0);
        } else {
            files.get_mut(&1).unwrap()[broken.0 as usize + 70] ^= 1;
        }
        let Err(Refused::Log(error)) = recover(&files) else { panic!("{damage_of}") };
        assert_eq!((error.segment, error.offset, error.position), (SegmentNumber(1), broken.0, broken));
        let LogDamage::Lost { witness: by, .. } = error.damage else { panic!("{error}") };
        assert_eq!(by, SegmentNumber(witness), "{error}");
        assert!(error.to_string().contains("segment 0000000000000001, offset 8192"), "{error}");
    }
}

#[test]
fn a_segment_with_a_broken_header_is_missed_if_something_of_it_was_synced() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    for _ in 0..5 {
        commit(&mut first, &mut files, 0, &[1; 5000], true);
    }
    assert_eq!(first.segment(), SegmentNumber(2));
    let is_missed = |files: &Files| {
        let Err(Refused::Log(error)) = recover(files) else { return false };
        matches!(error.damage, LogDamage::Lost { witness: SegmentNumber(2), .. })
    };
    files.get_mut(&2).unwrap()[100] ^= 1;
    assert!(is_missed(&files));
    files.get_mut(&2).unwrap()[..BLOCK].fill(0);
    assert!(is_missed(&files));
}

#[test]
fn a_recycled_file_that_was_not_begun_is_no_part_of_the_log() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    for _ in 0..5 {
        commit(&mut first, &mut files, 0, &[1; 5000], true);
    }
    let old = files[&1].clone();
    files.insert(3, old);
    let recovered = recover(&files).unwrap_or_else(|_| panic!("the log is whole"));
    assert_eq!((recovered.entries.len(), recovered.end.next_segment), (5, SegmentNumber(4)));
    assert_eq!(recovered.end.torn, None);
}

#[test]
fn a_missing_segment_is_missed() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    for _ in 0..8 {
        commit(&mut first, &mut files, 0, &[1; 5000], true);
    }
    let mut without_middle = files.clone();
    without_middle.remove(&2);
    assert!(matches!(recover(&without_middle), Err(Refused::Log(_))));
    let second = SegmentHeader::decode(&files[&2]).unwrap().position;
    files.remove(&1);
    assert!(matches!(recover(&files), Err(Refused::Log(_))));
    // A snapshot that covers it, but not all of its entries, is none of this log.
    let Err(Refused::Group(error)) = recover_with(&files, GroupLogs::new(4), second) else {
        panic!("the first entries are missing")
    };
    assert_eq!((error.last, error.found), (LogIndex(0), LogIndex(4)));
    let mut groups = GroupLogs::new(4);
    groups.cover(ShardId(0), Term(1), LogIndex(5));
    let recovered = recover_with(&files, groups, second).unwrap_or_else(|_| panic!("covered"));
    assert_eq!(recovered.entries.iter().map(|(_, index, _)| *index).collect::<Vec<_>>(), [6, 7, 8]);
}

#[test]
fn covered_segments_need_not_be_read() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    for _ in 0..8 {
        commit(&mut first, &mut files, 0, &[1; 5000], true);
    }
    let mut reader = reader(&files).unwrap();
    let third = reader.segments()[2].header.unwrap().position;
    reader.skip_covered(third);
    assert_eq!(reader.segments().iter().map(|s| s.number.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_log_of_another_core_is_refused() {
    let mut files = Files::new();
    commit(&mut writer(1, 1, LogPosition(0), &GroupLogs::new(4)), &mut files, 0, b"x", true);
    let found = vec![FoundSegment { number: SegmentNumber(1), header: SegmentHeader::decode(&files[&1]) }];
    let error = LogReader::new(CoreId(1), found, &[]).unwrap_err();
    assert_eq!(error.damage, LogDamage::Core(CoreId(0)));
}

#[test]
fn truncations_and_hard_states_are_told() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    commit(&mut first, &mut files, 2, b"one", true);
    commit(&mut first, &mut files, 2, b"two", true);
    first.truncate(ShardId(2), LogIndex(1));
    first.append_hard_state(ShardId(2), &crate::HardState { term: 3, vote: 2, commit: 1 });
    first.set_term(ShardId(2), Term(3));
    commit(&mut first, &mut files, 2, b"another two", true);
    assert_eq!(first.pending_commit(), CommitNumber(4));
    let recovered = recover(&files).unwrap_or_else(|_| panic!("the log is whole"));
    let indexes: Vec<_> = recovered.entries.iter().map(|(_, index, _)| *index).collect();
    assert_eq!(indexes, [1, 2, 2]);
    let (term, index, hard_state) = recovered.groups.last(ShardId(2));
    assert_eq!((term, index, hard_state.unwrap().vote), (Term(3), LogIndex(2), 2));
}

#[test]
fn a_value_that_looks_like_a_commit_is_none() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    commit(&mut first, &mut files, 0, b"kept", true);
    let end = first.end();
    // A client that knows everything but the nonce makes the commit that would stand one block behind the next, and
    // says in it that the next was synced.
    let mut forger = writer(9, 1, LogPosition(0), &GroupLogs::new(4));
    let mut forged = Files::new();
    commit(&mut forger, &mut forged, 0, b"kept", true);
    commit(&mut forger, &mut forged, 0, b"one block", true);
    commit(&mut forger, &mut forged, 3, b"forged", true);
    let at = end.0 as usize + BLOCK;
    let copy = forged[&1][at..at + BLOCK].to_vec();
    let value = [vec![0; BLOCK - 64 - 24], copy].concat();
    commit(&mut first, &mut files, 0, &value, false);
    let file = files.get_mut(&1).unwrap();
    assert_eq!(file[at..at + 4], crate::format::COMMIT_MAGIC);
    // The commit around it is torn: its first block is not there.
    file[end.0 as usize..at].fill(0);
    let recovered = recover(&files).unwrap_or_else(|_| panic!("nothing that was synced is missing"));
    assert_eq!((recovered.entries.len(), recovered.end.position), (1, end));
    // Nor is it one where the next commit would stand.
    commit(&mut writer(1, 1, LogPosition(0), &GroupLogs::new(4)), &mut files, 0, b"kept", true);
    let content = files[&1][at..at + BLOCK].to_vec();
    files.get_mut(&1).unwrap()[end.0 as usize..at].copy_from_slice(&content);
    let recovered = recover(&files).unwrap_or_else(|_| panic!("nothing that was synced is missing"));
    assert_eq!((recovered.entries.len(), recovered.end.position), (1, end));
}

#[test]
fn the_header_of_a_later_run_proves_what_was_synced() {
    let mut files = Files::new();
    let mut first = writer(1, 1, LogPosition(0), &GroupLogs::new(4));
    commit(&mut first, &mut files, 0, b"one", true);
    let broken = first.end();
    commit(&mut first, &mut files, 0, b"two", true);
    let recovered = recover(&files).unwrap_or_else(|_| panic!("the log is whole"));
    let mut second = writer(2, 2, recovered.end.position, &recovered.groups);
    commit(&mut second, &mut files, 0, b"three", false);
    files.get_mut(&2).unwrap()[BLOCK..].fill(0);
    let alone = recover(&files).unwrap_or_else(|_| panic!("only the second run's commit is missing"));
    assert_eq!(alone.entries.len(), 2);
    files.get_mut(&1).unwrap()[broken.0 as usize + 70] ^= 1;
    let Err(Refused::Log(error)) = recover(&files) else { panic!("the second commit was synced") };
    assert!(matches!(error.damage, LogDamage::Lost { witness: SegmentNumber(2), witness_offset: 0, .. }));
}
