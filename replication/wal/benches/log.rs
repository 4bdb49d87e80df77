//! Cost of the log per effect and per byte: a turn of 64 SET frames over 128 groups, and a segment that is read back.
//!
//! `cargo bench -p pinnace-wal`; divan prints a round's time and items or bytes a second.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use pinnace_types::{CoreId, LogPosition, Prng, SegmentNumber, ShardId};
use pinnace_wal::{FoundSegment, GroupLogs, LogLimits, LogReader, LogStart, LogWriter, Run, SegmentHeader};

/// Frames of one turn.
const TURN: usize = 64;
const GROUP_COUNT: u16 = 128;
/// A SET of an 11-byte key and a 32-byte value.
const FRAME: [u8; 72] = [0xb7; 72];

fn main() {
    divan::main();
}

fn writer() -> LogWriter {
    let start = LogStart {
        core: CoreId(0),
        node_id: 1,
        run: Run { number: 1, nonce: 7 },
        segment: SegmentNumber(1),
        position: LogPosition(0),
        group_count: GROUP_COUNT,
        groups: Vec::new(),
    };
    LogWriter::new(start, LogLimits::DEFAULT)
}

fn groups() -> Vec<ShardId> {
    let mut prng = Prng::new(5);
    (0..4096).map(|_| ShardId(prng.below(u64::from(GROUP_COUNT)) as u16)).collect()
}

#[divan::bench(args = [1, 16, 64, 512])]
fn append_and_seal(bencher: Bencher<'_, '_>, turn: usize) {
    let (mut writer, groups, mut out, mut at) = (writer(), groups(), Vec::new(), 0);
    bencher.counter(ItemsCount::new(turn)).bench_local(|| {
        for _ in 0..turn {
            at = (at + 1) % groups.len();
            writer.append(groups[at], |out| out.extend_from_slice(black_box(&FRAME)));
        }
        out.clear();
        let sealed = writer.seal(&mut out).expect("something is pending");
        writer.on_synced(sealed.number);
        black_box(&out);
    });
}

/// The same without the log: what the frame costs.
#[divan::bench]
fn frames_alone(bencher: Bencher<'_, '_>) {
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
        out.clear();
        for _ in 0..TURN {
            out.extend_from_slice(black_box(&FRAME));
        }
        black_box(&out);
    });
}

#[divan::bench(args = [64, 4096])]
fn read_segment(bencher: Bencher<'_, '_>, turn: usize) {
    let (mut writer, groups, mut file) = (writer(), groups(), Vec::new());
    let mut at = 0;
    while file.len() < (32 << 20) {
        for _ in 0..turn {
            at = (at + 1) % groups.len();
            writer.append(groups[at], |out| out.extend_from_slice(&FRAME));
        }
        let sealed = writer.seal(&mut file).expect("something is pending");
        writer.on_synced(sealed.number);
    }
    bencher.counter(BytesCount::new(file.len())).bench_local(|| {
        let found = FoundSegment { number: SegmentNumber(1), header: SegmentHeader::decode(&file) };
        let mut reader = LogReader::new(CoreId(0), vec![found], &[]).expect("the log is sound");
        let mut groups = GroupLogs::new(GROUP_COUNT);
        reader.begin_segment(0).expect("the log is sound");
        while let Some(commit) = reader.next_commit(&file).expect("the log is sound") {
            for record in commit.records() {
                black_box(groups.accept(&record).expect("the log is sound"));
            }
        }
        black_box(reader.finish());
    });
}
