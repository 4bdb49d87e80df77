//! What the fuzz targets check. Shared by `fuzz/` and by the smoke test, so that CI runs the same code that the fuzzer
//! does.
#![allow(dead_code, reason = "each user takes its part")]
#![allow(unreachable_pub, reason = "a module of several crates")]

use pinnace_types::{CoreId, LogPosition, SegmentNumber};
use pinnace_wal::snapshot::{SnapshotEvent, SnapshotReader, Trailer, read_footer};
use pinnace_wal::{BLOCK_BYTES, FoundSegment, GroupLogs, HardState, LogReader, SegmentHeader};

const BLOCK: usize = BLOCK_BYTES as usize;
const FILES_MAX: usize = 4;
const BLOCKS_MAX: usize = 64;

/// Spreads a short input over the blocks of files: for each block a control byte, a length and the block's first bytes.
/// The control byte says whether a new file begins and whether checksums are made right, without which no fuzzer gets
/// past them.
pub fn files_of(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut files = vec![Vec::new()];
    let mut blocks = 0;
    while let Some((&[control, len], rest)) = data.split_first_chunk::<2>() {
        let (head, behind) = rest.split_at(usize::from(len).min(rest.len()));
        data = behind;
        if control & 1 != 0 && files.len() < FILES_MAX {
            files.push(Vec::new());
        }
        let file = files.last_mut().expect("there is one");
        let start = file.len();
        file.extend_from_slice(head);
        file.resize(start + BLOCK, 0);
        if control & 2 != 0 {
            let covered = if start == 0 { BLOCK } else { length_of(head) };
            put_crc(&mut file[start..], covered);
        }
        blocks += 1;
        if blocks == BLOCKS_MAX {
            break;
        }
    }
    files
}

/// The length that a commit's header claims.
fn length_of(head: &[u8]) -> usize {
    head.get(12..16).map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

fn put_crc(piece: &mut [u8], len: usize) {
    if let Some(covered) = piece.get(8..len) {
        let crc = crc32c::crc32c(covered);
        piece[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Reads any bytes as a log. Commits come in order and within their file; payloads lie within their commit.
pub fn log_entry(data: &[u8]) {
    let files = files_of(data);
    let found = files.iter().enumerate().map(|(index, bytes)| FoundSegment {
        number: SegmentNumber(index as u64 + 1),
        header: SegmentHeader::decode(bytes),
    });
    let Ok(mut reader) = LogReader::new(CoreId(0), found.collect(), &[7]) else { return };
    reader.skip_covered(LogPosition(data.first().map_or(0, |&byte| u64::from(byte >> 4) * BLOCK_BYTES)));
    let mut groups = GroupLogs::new(4);
    let mut position = LogPosition(0);
    for index in 0..reader.segments().len() {
        let bytes = &files[reader.segments()[index].number.0 as usize - 1];
        if reader.begin_segment(index).is_err() {
            return;
        }
        loop {
            match reader.next_commit(bytes) {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(commit)) => {
                    assert!(commit.header.position >= position);
                    position = commit.header.position.plus(commit.header.padded_len());
                    let end = commit.offset + u64::from(commit.header.len);
                    assert!(commit.offset >= BLOCK_BYTES && end <= bytes.len() as u64);
                    let records = commit.records().inspect(|record| {
                        let _ = groups.accept(record);
                    });
                    assert_eq!(records.count(), commit.header.record_count as usize);
                }
            }
        }
    }
    let end = reader.finish();
    assert!(end.position >= position && end.next_segment.0 == files.len() as u64 + 1);
    let _ = HardState::decode(data);
}

/// Reads any bytes as a snapshot: whole, by its trailer, and by sections. The first byte says whether the checksums of
/// its pieces are made right.
pub fn snapshot_entry(data: &[u8]) {
    let Some((&control, bytes)) = data.split_first() else { return };
    let mut file = bytes.to_vec();
    if control & 1 != 0 {
        repair_pieces(&mut file);
    }
    let mut reader = SnapshotReader::new();
    let sections = read_through(&file, &mut reader);
    let Ok(trailer) = Trailer::decode(&file) else { return };
    let footer = usize::try_from(trailer.footer_offset).ok().and_then(|offset| file.get(offset..));
    let Some(Ok(entries)) = footer.map(|footer| read_footer(footer, &trailer)) else { return };
    for entry in entries {
        if usize::try_from(entry.offset).is_ok_and(|offset| offset <= file.len()) {
            read_through(&file, &mut SnapshotReader::section(&entry, trailer.nonce));
        }
    }
    assert!(sections <= file.len());
}

/// Reads until nothing more can be read; says how many sections ended.
fn read_through(file: &[u8], reader: &mut SnapshotReader) -> usize {
    let mut sections = 0;
    while !reader.is_done() {
        let before = reader.offset();
        let rest = &file[before as usize..];
        let Ok(Some((event, len))) = reader.read(rest) else { break };
        assert!(len > 0 && len <= rest.len() && reader.offset() == before + len as u64);
        match event {
            SnapshotEvent::Frames(_, frames) => assert!(frames.len() < len),
            SnapshotEvent::SectionEnd(_) => sections += 1,
            _ => {}
        }
    }
    sections
}

/// Makes the checksums of all pieces right, as far as their lengths lead, and that of a trailer.
fn repair_pieces(file: &mut [u8]) {
    let mut start = 0;
    while let Some(len) = SnapshotReader::piece_bytes(&file[start..]) {
        if file.len() - start < len {
            break;
        }
        put_crc(&mut file[start..], len);
        start += len;
    }
    if let Some(trailer) = file.len().checked_sub(32) {
        put_crc(&mut file[trailer..], 32);
    }
}
