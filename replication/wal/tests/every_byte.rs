//! A small log, cut behind each of its bytes and with each of its bits flipped.

mod disk;

use disk::{Entry, Files, SEGMENT_BYTES, nonce, recover, writer};
use pinnace_types::{CommitNumber, LogPosition, SegmentNumber, ShardId};
use pinnace_wal::{BLOCK_BYTES, COMMIT_HEADER_BYTES, GroupLogs, RECORD_HEADER_BYTES};

/// One commit of the log.
struct Written {
    end: LogPosition,
    /// Bytes that the checksum covers end here.
    data_end: usize,
    /// From here on there are only zeros.
    zeros: usize,
    entries: Vec<Entry>,
}

/// A log in one segment. Commit n is sealed when all but the `in_flight` commits before it are synced.
fn small_log(payload_bytes: &[usize], in_flight: u64) -> (Vec<u8>, Vec<Written>) {
    let mut writer = writer(1, SegmentNumber(1), LogPosition(0), Vec::new());
    let (mut log, mut commits) = (Vec::new(), Vec::new());
    for (number, &bytes) in (1u64..).zip(payload_bytes) {
        if number > in_flight {
            writer.on_synced(CommitNumber(number - 1 - in_flight));
        }
        let mut entries = Vec::new();
        for group in 0..=number as u16 % 3 {
            let payload = vec![number as u8 * 16 + group as u8; bytes];
            writer.append(ShardId(group), |out| out.extend_from_slice(&payload));
            entries.push((group, writer.last_index(ShardId(group)).1.0, payload));
        }
        let records: usize =
            entries.iter().map(|(_, _, p)| RECORD_HEADER_BYTES + p.len().next_multiple_of(8)).sum();
        let start = log.len() + if log.is_empty() { BLOCK_BYTES as usize } else { 0 };
        let sealed = writer.seal(&mut log).unwrap();
        let data_end = start + COMMIT_HEADER_BYTES + records;
        let zeros = log.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        commits.push(Written { end: sealed.end(), data_end, zeros, entries });
    }
    assert!(log.len() < SEGMENT_BYTES);
    (log, commits)
}

fn entries_of(commits: &[Written]) -> Vec<Entry> {
    commits.iter().flat_map(|commit| commit.entries.clone()).collect()
}

fn assert_every_prefix_recovers(base: &[u8]) {
    let (log, commits) = small_log(&[40, 1500, 8, 1000, 300], 2);
    for cut in 0..=log.len() {
        let mut file = base.to_vec();
        file[..cut].copy_from_slice(&log[..cut]);
        let files = Files::from([(1, file)]);
        let recovered = recover(&files, LogPosition(0), GroupLogs::new(disk::GROUP_COUNT), &[]);
        let recovered = recovered.unwrap_or_else(|error| panic!("cut at {cut}: {error:?}"));
        // All that was synced ended before the cut; all that was written has its data before it.
        let acknowledged = commits.iter().filter(|commit| commit.end.0 as usize <= cut).count();
        let written = commits.iter().filter(|commit| commit.zeros <= cut).count();
        let count = recovered.commits.len();
        assert!((acknowledged..=written).contains(&count), "cut at {cut}: {count} commits");
        assert_eq!(recovered.entries, entries_of(&commits[..count]), "cut at {cut}");
        match count.checked_sub(1) {
            Some(last) => assert_eq!(recovered.end.position, commits[last].end, "cut at {cut}"),
            // Without a commit it matters little whether the header was whole.
            None => assert!(recovered.end.position.0 <= BLOCK_BYTES, "cut at {cut}"),
        }
    }
}

#[test]
fn every_prefix_in_a_new_file_recovers_to_what_was_written() {
    assert_every_prefix_recovers(&vec![0; SEGMENT_BYTES]);
}

#[test]
fn every_prefix_in_a_recycled_file_recovers_to_what_was_written() {
    // What an earlier run left there: the same commits at the same offsets.
    let mut old = writer(7, SegmentNumber(9), LogPosition(0), Vec::new());
    let mut base = Vec::new();
    while base.len() < SEGMENT_BYTES {
        old.append(ShardId(0), |out| out.extend_from_slice(&[0xab; 1000]));
        old.seal(&mut base).unwrap();
    }
    base.truncate(SEGMENT_BYTES);
    assert_every_prefix_recovers(&base);
}

#[test]
fn every_flipped_bit_is_refused_or_cuts_the_tail_or_changes_nothing() {
    let (log, commits) = small_log(&[40, 500, 8], 0);
    let all = entries_of(&commits);
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    let mut files = Files::from([(1, log.clone())]);
    for bit in 0..log.len() * 8 {
        let byte = bit / 8;
        files.get_mut(&1).unwrap()[byte] ^= 1 << (bit % 8);
        match recover(&files, LogPosition(0), GroupLogs::new(disk::GROUP_COUNT), &[nonce(1)]) {
            Err(_) => refused += 1,
            Ok(recovered) => {
                let count = recovered.commits.len();
                assert_eq!(recovered.entries, entries_of(&commits[..count]), "bit {bit}");
                if recovered.entries == all {
                    // Filling: noticed and told, since it says something about the disk.
                    assert_eq!(recovered.end.padding_flaws, 1, "bit {bit}");
                    harmless += 1;
                } else {
                    // Only the last commit is known to be synced to nothing behind it.
                    assert_eq!(count, commits.len() - 1, "bit {bit}");
                    cut += 1;
                }
            }
        }
        files.get_mut(&1).unwrap()[byte] ^= 1 << (bit % 8);
    }
    let data = commits.last().unwrap().data_end - commits[commits.len() - 2].end.0 as usize;
    assert_eq!(cut, data * 8);
    assert!(refused > BLOCK_BYTES as usize * 8 && harmless > 0);
}
