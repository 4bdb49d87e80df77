use pinnace_types::{CommitNumber, CoreId, LogIndex, LogPosition, SegmentNumber, ShardId, Term};

use super::{GroupStart, LogLimits, LogRoom, LogStart, LogWriter};
use crate::control::HardState;
use crate::format::{BLOCK_BYTES, CommitHeader, RecordHeader, RecordKind, Run, SegmentHeader};

fn start() -> LogStart {
    LogStart {
        core: CoreId(3),
        node_id: 77,
        run: Run { number: 5, nonce: 0x1234_5678 },
        segment: SegmentNumber(1),
        position: LogPosition(0),
        group_count: 8,
        groups: vec![GroupStart { group: ShardId(2), term: Term(4), index: LogIndex(10) }],
    }
}

fn writer() -> LogWriter {
    let mut writer = LogWriter::new(start(), LogLimits::TEST_MIN);
    writer.on_segment_ready(SegmentNumber(3));
    writer
}

fn append(writer: &mut LogWriter, group: u16, payload: &[u8]) {
    writer.append(ShardId(group), |out| out.extend_from_slice(payload));
}

/// The records of a commit, checked: header and payload.
fn records(bytes: &[u8]) -> (CommitHeader, Vec<(RecordHeader, Vec<u8>)>) {
    let (header, mut rest) = CommitHeader::decode(bytes).unwrap();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (record, payload, behind) = RecordHeader::decode(rest).unwrap();
        records.push((record, payload.to_vec()));
        rest = behind;
    }
    assert_eq!(records.len(), header.record_count as usize);
    assert!(bytes[header.len as usize..].iter().all(|&byte| byte == 0));
    (header, records)
}

#[test]
fn a_turn_is_one_commit_with_one_entry_per_group() {
    let mut writer = writer();
    assert!(!writer.has_pending());
    for (group, payload) in [(2, "one"), (0, "a"), (2, "two"), (2, "three"), (0, "b"), (7, "x")] {
        append(&mut writer, group, payload.as_bytes());
    }
    assert_eq!(writer.pending_commit(), CommitNumber(1));
    assert_eq!(writer.last_index(ShardId(2)), (Term(4), LogIndex(11)));

    let mut out = Vec::new();
    let sealed = writer.seal(&mut out).unwrap();
    assert_eq!((sealed.number, sealed.segment, sealed.offset), (CommitNumber(1), SegmentNumber(1), 0));
    assert_eq!((sealed.len, out.len()), (2 * BLOCK_BYTES, 2 * BLOCK_BYTES as usize));
    assert_eq!(writer.seal(&mut out), None);
    let segment = SegmentHeader::decode(&out).unwrap();
    assert_eq!((segment.core, segment.node_id, segment.run.number), (CoreId(3), 77, 5));

    let (header, records) = records(&out[BLOCK_BYTES as usize..]);
    assert_eq!(header.position, LogPosition(BLOCK_BYTES));
    let entries: Vec<_> =
        records.iter().map(|(r, payload)| (r.group.0, r.term.0, r.index.0, payload.as_slice())).collect();
    assert_eq!(entries, [(2, 4, 11, &b"onetwothree"[..]), (0, 1, 1, b"ab"), (7, 1, 1, b"x")]);
}

#[test]
fn commits_say_what_was_synced_when_they_were_sealed() {
    let mut writer = writer();
    let seal = |writer: &mut LogWriter| {
        append(writer, 1, b"payload");
        let mut out = Vec::new();
        let sealed = writer.seal(&mut out).unwrap();
        let offset = if sealed.offset == 0 { BLOCK_BYTES as usize } else { 0 };
        (sealed, records(&out[offset..]).0.synced_through)
    };
    let (first, synced) = seal(&mut writer);
    assert_eq!(synced, LogPosition(0));
    let (second, synced) = seal(&mut writer);
    assert_eq!((second.offset, second.position, synced), (2 * BLOCK_BYTES, first.end(), LogPosition(0)));
    writer.on_synced(CommitNumber(1));
    let (_, synced) = seal(&mut writer);
    assert_eq!((synced, writer.synced()), (first.end(), CommitNumber(1)));
    writer.on_synced(CommitNumber(3));
    assert_eq!(writer.synced(), CommitNumber(3));
}

#[test]
fn a_marker_is_written_at_the_beginning_and_whenever_more_is_synced_than_the_log_says() {
    let mut writer = writer();
    let mut out = Vec::new();
    let first = writer.seal_marker(&mut out).unwrap();
    assert_eq!((first.offset, first.len, records(&out[BLOCK_BYTES as usize..]).1.len()), (0, 8192, 0));
    assert_eq!(writer.seal_marker(&mut out), None);
    writer.on_synced(first.number);
    assert_eq!(writer.seal_marker(&mut out), None);
    append(&mut writer, 1, b"payload");
    assert_eq!(writer.seal_marker(&mut out), None);
    let sealed = writer.seal(&mut out).unwrap();
    assert_eq!(writer.seal_marker(&mut out), None);
    writer.on_synced(sealed.number);
    out.clear();
    let marker = writer.seal_marker(&mut out).unwrap();
    let (header, records) = records(&out);
    assert_eq!((header.synced_through, records.len()), (sealed.end(), 0));
    writer.on_synced(marker.number);
    assert_eq!(writer.seal_marker(&mut out), None);
}

#[test]
fn a_full_segment_is_followed_by_the_next() {
    let mut writer = writer();
    let (mut segments, mut position) = (Vec::new(), LogPosition(0));
    for _ in 0..12 {
        append(&mut writer, 1, &[7; 5000]);
        let mut out = Vec::new();
        let sealed = writer.seal(&mut out).unwrap();
        assert_eq!((sealed.position, sealed.len), (position, out.len() as u64));
        assert!(sealed.offset + sealed.len <= LogLimits::TEST_MIN.segment_bytes);
        if sealed.offset == 0 {
            assert_eq!(SegmentHeader::decode(&out).unwrap().position, position);
        }
        position = sealed.end();
        segments.push(sealed.segment.0);
    }
    assert_eq!(segments, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
}

#[test]
fn a_turn_too_large_for_one_commit_gives_several_in_order() {
    let mut writer = writer();
    let mut numbers = Vec::new();
    for round in 0..5u8 {
        append(&mut writer, 1, &[round; 3000]);
        numbers.push(writer.pending_commit().0);
    }
    assert_eq!(numbers, [1, 1, 2, 2, 3]);
    let mut found = Vec::new();
    let mut out = Vec::new();
    while let Some(sealed) = writer.seal(&mut out) {
        let offset = if sealed.offset == 0 { BLOCK_BYTES as usize } else { 0 };
        for (record, payload) in records(&out[offset..]).1 {
            found.push((sealed.number.0, record.index.0, payload[0], payload.len()));
        }
        out.clear();
    }
    assert_eq!(found, [(1, 1, 0, 6000), (2, 2, 2, 6000), (3, 3, 4, 3000)]);
}

#[test]
fn what_is_atomic_is_in_one_commit() {
    let mut writer = writer();
    append(&mut writer, 1, &[1; 5000]);
    writer.begin_atomic(9000);
    for group in 0..3 {
        append(&mut writer, group, &[2; 3000]);
    }
    writer.end_atomic();
    append(&mut writer, 1, &[3; 100]);
    let mut sizes = Vec::new();
    let mut out = Vec::new();
    while let Some(sealed) = writer.seal(&mut out) {
        let offset = if sealed.offset == 0 { BLOCK_BYTES as usize } else { 0 };
        sizes.push(records(&out[offset..]).1.iter().map(|(_, payload)| payload.len()).collect::<Vec<_>>());
        out.clear();
    }
    assert_eq!(sizes, [vec![5000], vec![3000; 3], vec![100]]);
}

#[test]
fn control_records_come_before_entries() {
    let mut writer = writer();
    append(&mut writer, 2, b"void");
    writer.truncate(ShardId(2), LogIndex(9));
    writer.set_term(ShardId(2), Term(6));
    writer.append_hard_state(ShardId(2), &HardState { term: 6, vote: 1, commit: 9 });
    append(&mut writer, 2, b"new");
    let mut out = Vec::new();
    assert_eq!(writer.seal(&mut out).unwrap().number, CommitNumber(1));
    out.clear();
    assert_eq!(writer.seal(&mut out).unwrap().number, CommitNumber(2));
    let (_, records) = records(&out);
    let kinds: Vec<_> = records.iter().map(|(r, _)| (r.kind, r.index.0, r.term.0)).collect();
    let expected =
        [(RecordKind::Truncation, 9, 0), (RecordKind::HardState, 0, 0), (RecordKind::Entry, 10, 6)];
    assert_eq!(kinds, expected);
    assert_eq!(HardState::decode(&records[1].1), Ok(HardState { term: 6, vote: 1, commit: 9 }));
    assert!(HardState::decode(&records[1].1[1..]).is_err());
}

#[test]
fn room_is_refused_before_a_segment_is_missing() {
    let mut writer = LogWriter::new(start(), LogLimits::TEST_MIN);
    assert_eq!(writer.room(1), LogRoom::Full);
    writer.on_segment_ready(SegmentNumber(2));
    assert_eq!(writer.room(LogLimits::TEST_MIN.segment_bytes), LogRoom::TooLarge);
    let (mut out, mut last, mut size) = (Vec::new(), SegmentNumber(0), 1);
    while writer.room(size) == LogRoom::Fits {
        append(&mut writer, (size % 8) as u16, &vec![1; size as usize]);
        size = size * 7 % 9973;
        if size % 3 == 0 {
            while let Some(sealed) = writer.seal(&mut out) {
                last = sealed.segment;
                assert!(sealed.offset + sealed.len <= LogLimits::TEST_MIN.segment_bytes);
            }
        }
        assert!(out.len() < 4 * LogLimits::TEST_MIN.segment_bytes as usize, "room never ends");
    }
    assert!(last <= SegmentNumber(2));
    while let Some(sealed) = writer.seal(&mut out) {
        last = sealed.segment;
    }
    assert_eq!(last, SegmentNumber(2));
    assert_eq!(writer.room(20_000), LogRoom::Full);
    writer.on_segment_ready(SegmentNumber(3));
    assert_eq!(writer.room(20_000), LogRoom::Fits);
}
