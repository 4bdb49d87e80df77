//! Checks the formats against the test vectors of `docs/wal.md`.
//!
//! A block ` ```vector NAME ` holds fields, `---` and bytes in hex; zeros behind them are left out.

use std::collections::BTreeMap;

use pinnace_types::{CommitNumber, CoreId, LogIndex, LogPosition, SegmentNumber, ShardId, Term};
use pinnace_wal::snapshot::{SnapshotInfo, SnapshotWriter};
use pinnace_wal::{
    BLOCK_BYTES, CommitHeader, GroupStart, HardState, LogLimits, LogStart, LogWriter, RecordHeader,
    RecordKind, Run, SegmentHeader,
};

const DOCUMENT: &str = include_str!("../../../docs/wal.md");
const NONCE: u64 = 0x0123_4567_89ab_cdef;

struct Vector {
    fields: Vec<(&'static str, &'static str)>,
    bytes: Vec<u8>,
}

fn vectors() -> BTreeMap<&'static str, Vector> {
    let mut vectors = BTreeMap::new();
    for part in DOCUMENT.split("```vector ").skip(1) {
        let (name, rest) = part.split_once('\n').expect("a block has lines");
        let (body, _) = rest.split_once("\n```").expect("a block ends");
        let (fields, hex) = body.split_once("---\n").expect("a block has fields and bytes");
        let fields = fields.lines().map(|line| line.split_once(' ').expect("a field has a value"));
        let fields = fields.map(|(name, value)| (name, value.trim())).collect();
        let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
        assert!(vectors.insert(name, Vector { fields, bytes }).is_none(), "{name} is there twice");
    }
    vectors
}

impl Vector {
    fn number(&self, field: &str) -> u64 {
        let found = self.fields.iter().find(|(name, _)| *name == field);
        found.unwrap_or_else(|| panic!("no field {field}")).1.parse().expect("a number")
    }

    /// Whether `written` is the vector's bytes and zeros behind them.
    fn assert_is(&self, written: &[u8]) {
        let used = written.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1).next_multiple_of(8);
        assert_eq!(hex(&written[..used]), hex(&self.bytes));
    }

    fn padded(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        bytes
    }
}

fn hex(bytes: &[u8]) -> String {
    let lines =
        bytes.chunks(16).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn segment() -> SegmentHeader {
    SegmentHeader {
        core: CoreId(3),
        node_id: 77,
        run: Run { number: 5, nonce: NONCE },
        segment: SegmentNumber(2),
        position: LogPosition(73_728),
        segment_bytes: LogLimits::DEFAULT.segment_bytes,
        synced_through: LogPosition(69_632),
    }
}

#[test]
fn the_segment_header_is_as_the_document_says() {
    let vector = &vectors()["segment"];
    let mut written = Vec::new();
    segment().encode(&mut written);
    vector.assert_is(&written);
    let read = SegmentHeader::decode(&vector.padded()).unwrap();
    assert_eq!(read, segment());
    assert_eq!(
        [read.node_id, read.run.number, read.run.nonce, read.position.0, read.synced_through.0],
        ["node_id", "run", "nonce", "position", "synced_through"].map(|field| vector.number(field))
    );
}

/// A writer whose next commit is that of the vector.
fn writer_before_the_vector() -> LogWriter {
    let start = LogStart {
        core: CoreId(3),
        node_id: 77,
        run: Run { number: 5, nonce: NONCE },
        segment: SegmentNumber(1),
        position: LogPosition(69_632 - 8 * BLOCK_BYTES),
        group_count: 8,
        groups: vec![GroupStart { group: ShardId(6), term: Term(3), index: LogIndex(5) }],
    };
    LogWriter::new(start, LogLimits::TEST_MIN)
}

#[test]
fn a_commit_is_as_the_document_says() {
    let mut writer = writer_before_the_vector();
    let mut out = Vec::new();
    // Eight commits: a header and seven blocks fill the first segment, the eighth begins the second.
    for number in 1..=8 {
        writer.append(ShardId(7), |out| out.push(1));
        let sealed = writer.seal(&mut out).unwrap();
        if number == 7 {
            writer.on_synced(sealed.number);
        }
    }
    writer.truncate(ShardId(6), LogIndex(4));
    writer.append_hard_state(ShardId(6), &HardState { term: 3, vote: 2, commit: 4 });
    writer.append(ShardId(6), |out| out.extend_from_slice(b"abcd"));
    writer.append(ShardId(0), |out| out.extend_from_slice(b"xy"));
    writer.append(ShardId(6), |out| out.extend_from_slice(b"efgh"));
    out.clear();
    let sealed = writer.seal(&mut out).unwrap();
    let vector = &vectors()["commit"];
    vector.assert_is(&out);

    let bytes = vector.padded();
    let (header, mut rest) = CommitHeader::decode(&bytes).unwrap();
    let expected = CommitHeader {
        core: CoreId(3),
        len: header.len,
        nonce: NONCE,
        segment: SegmentNumber(2),
        position: LogPosition(vector.number("position")),
        synced_through: LogPosition(vector.number("synced_through")),
        number: CommitNumber(vector.number("number")),
        record_count: 4,
    };
    assert_eq!((header, sealed.position), (expected, header.position));
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (record, payload, behind) = RecordHeader::decode(rest).unwrap();
        let (group, term, index) = (record.group.0, record.term, record.index);
        lines.push(match record.kind {
            RecordKind::Truncation => ("truncation", format!("{group} {index}")),
            RecordKind::HardState => {
                let state = HardState::decode(payload).unwrap();
                ("hard_state", format!("{group} {} {} {}", state.term, state.vote, state.commit))
            }
            RecordKind::Entry => {
                let payload = std::str::from_utf8(payload).unwrap();
                ("entry", format!("{group} {term} {index} \"{payload}\""))
            }
        });
        rest = behind;
    }
    let listed: Vec<_> =
        vector.fields[6..].iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    assert_eq!(lines, listed);
}

#[test]
fn a_marker_is_as_the_document_says() {
    let start = LogStart {
        core: CoreId(0),
        node_id: 1,
        run: Run { number: 1, nonce: 1 },
        segment: SegmentNumber(1),
        position: LogPosition(0),
        group_count: 1,
        groups: Vec::new(),
    };
    let mut out = Vec::new();
    LogWriter::new(start, LogLimits::DEFAULT).seal_marker(&mut out).unwrap();
    vectors()["marker"].assert_is(&out[BLOCK_BYTES as usize..]);
}

#[test]
fn a_piece_of_a_snapshot_is_as_the_document_says() {
    let info = SnapshotInfo {
        node_id: 77,
        core: 3,
        shard_count: 8,
        number: 1,
        run_number: 5,
        nonce: NONCE,
        position: 0,
        begun_unix_ms: 0,
    };
    let mut writer = SnapshotWriter::new(info, 4096);
    writer.begin_section(ShardId(6));
    writer.append_item(|out| out.extend_from_slice(b"abcdefgh"));
    writer.end_section(Term(3), LogIndex(5));
    writer.finish();
    let mut file = Vec::new();
    writer.take_blocks(&mut file);
    // Behind the header, whose archive has 52 bytes, and the beginning of the section.
    let start = 32 + 56 + 32;
    vectors()["snapshot-frames"].assert_is(&file[start..start + 40]);
}
