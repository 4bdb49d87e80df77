//! The fuzz targets on a few thousand inputs: random ones, and sound logs and snapshots that were changed a little.

mod fuzz_entry;

use fuzz_entry::{log_entry, snapshot_entry};
use pinnace_types::{CoreId, LogIndex, LogPosition, Prng, SegmentNumber, ShardId, Term};
use pinnace_wal::snapshot::{SnapshotInfo, SnapshotWriter};
use pinnace_wal::{BLOCK_BYTES, HardState, LogLimits, LogStart, LogWriter, Run};

/// A log in the form that [`fuzz_entry::files_of`] reads.
fn sound_log(run: u64) -> Vec<u8> {
    let start = LogStart {
        core: CoreId(0),
        node_id: 1,
        run: Run { number: run, nonce: 7 },
        segment: SegmentNumber(1),
        position: LogPosition(0),
        group_count: 4,
        groups: Vec::new(),
    };
    let mut writer = LogWriter::new(start, LogLimits::TEST_MIN);
    let mut data = Vec::new();
    for round in 0..9u16 {
        writer.append(ShardId(round % 3), |out| out.extend_from_slice(&[round as u8; 16]));
        if round == 4 {
            writer.append_hard_state(ShardId(1), &HardState { term: 2, vote: 1, commit: 1 });
            writer.truncate(ShardId(2), LogIndex(1));
        }
        let mut bytes = Vec::new();
        while let Some(sealed) = writer.seal(&mut bytes) {
            for (block, content) in bytes.chunks(BLOCK_BYTES as usize).enumerate() {
                let begins = sealed.offset == 0 && block == 0 && sealed.segment.0 > 1;
                let used = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                data.extend_from_slice(&[u8::from(begins) | 2, u8::try_from(used).unwrap()]);
                data.extend_from_slice(&content[..used]);
            }
            bytes.clear();
        }
        if round % 2 == 0 {
            writer.on_synced(pinnace_types::CommitNumber(writer.pending_commit().0 - 1));
        }
    }
    data
}

fn sound_snapshot() -> Vec<u8> {
    let info = SnapshotInfo {
        node_id: 1,
        core: 0,
        shard_count: 4,
        number: 1,
        run_number: 1,
        nonce: 7,
        position: 4096,
        begun_unix_ms: 0,
    };
    let mut writer = SnapshotWriter::new(info, 256);
    for group in 0..3 {
        writer.begin_section(ShardId(group));
        (0..12).for_each(|item| writer.append_item(|out| out.extend_from_slice(&[item; 32])));
        writer.end_section(Term(1), LogIndex(9));
    }
    writer.finish();
    let mut data = vec![1];
    writer.take_blocks(&mut data);
    data
}

fn changed(prng: &mut Prng, sound: &[u8]) -> Vec<u8> {
    let mut data = sound.to_vec();
    for _ in 0..=prng.below(4) {
        let at = prng.below(data.len() as u64) as usize;
        match prng.below(4) {
            0 => data[at] ^= 1 << prng.below(8),
            1 => data[at] = prng.next_u64() as u8,
            2 => data.truncate(at + 1),
            _ => {
                let from = prng.below(data.len() as u64) as usize;
                let len = (prng.below(80) as usize).min(data.len() - at.max(from));
                data.copy_within(from..from + len, at);
            }
        }
    }
    data
}

#[test]
fn a_log_of_any_bytes_is_read_or_refused() {
    let mut prng = Prng::new(11);
    let sound = sound_log(1);
    log_entry(&sound);
    for _ in 0..4000 {
        log_entry(&changed(&mut prng, &sound));
    }
    for size in 0..400 {
        let random: Vec<u8> = (0..size).map(|_| prng.next_u64() as u8).collect();
        log_entry(&random);
    }
}

#[test]
fn a_snapshot_of_any_bytes_is_read_or_refused() {
    let mut prng = Prng::new(12);
    let sound = sound_snapshot();
    snapshot_entry(&sound);
    for _ in 0..4000 {
        snapshot_entry(&changed(&mut prng, &sound));
    }
    for size in 0..400 {
        let random: Vec<u8> = (0..size).map(|_| prng.next_u64() as u8).collect();
        snapshot_entry(&random);
    }
}
