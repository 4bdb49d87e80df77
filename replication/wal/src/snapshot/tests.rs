use pinnace_types::{LogIndex, ShardId, Term};

use super::{SnapshotEvent, SnapshotInfo, SnapshotReader, SnapshotWriter, Trailer, read_footer};

const INFO: SnapshotInfo = SnapshotInfo {
    node_id: 9,
    core: 1,
    shard_count: 8,
    number: 3,
    run_number: 2,
    nonce: 0xfeed_beef,
    position: 8192,
    begun_unix_ms: 1_767_225_600_000,
};

/// A file of three sections, one of them without items, taken a few blocks at a time.
fn file() -> Vec<u8> {
    let mut writer = SnapshotWriter::new(INFO, 2048);
    let mut file = Vec::new();
    for (group, items) in [(1u16, 100u8), (4, 0), (7, 9)] {
        writer.begin_section(ShardId(group));
        for item in 0..items {
            writer.append_item(|out| out.extend_from_slice(&[item; 96]));
            if item % 10 == 9 {
                writer.append_effect(|out| out.extend_from_slice(&[0xee; 24]));
            }
            writer.take_blocks(&mut file);
            assert!(writer.held_bytes() < 2048 + 96 + 4096);
        }
        writer.end_section(Term(1), LogIndex(u64::from(group) * 10));
    }
    writer.finish();
    writer.take_blocks(&mut file);
    assert_eq!((writer.held_bytes(), writer.taken_bytes()), (0, file.len() as u64));
    assert_eq!(file.len() % 4096, 0);
    file
}

/// Everything that a reader tells, or where it refuses the file; `None`: it ends before its end.
fn read_all(file: &[u8], mut reader: SnapshotReader) -> Result<Option<Vec<SnapshotEvent<'_>>>, u64> {
    let mut events = Vec::new();
    while !reader.is_done() {
        let rest = &file[reader.offset() as usize..];
        match reader.read(rest) {
            Ok(Some((event, len))) => {
                assert_eq!(SnapshotReader::piece_bytes(rest), Some(len));
                events.push(event);
            }
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.offset),
        }
    }
    Ok(Some(events))
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let file = file();
    let events = read_all(&file, SnapshotReader::new()).unwrap().unwrap();
    assert_eq!(events[0], SnapshotEvent::Header(INFO));
    assert_eq!(events.last(), Some(&SnapshotEvent::End));
    let ends: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            SnapshotEvent::SectionEnd(end) => Some((end.group, end.index, end.items, end.effects)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(1, 10, 100, 10), (4, 40, 0, 0), (7, 70, 9, 0)]);
    let frames = |group: u16| -> Vec<u8> {
        let of_group = events.iter().filter_map(|event| match event {
            SnapshotEvent::Frames(shard, bytes) if shard.0 == group => Some(*bytes),
            _ => None,
        });
        of_group.collect::<Vec<_>>().concat()
    };
    assert_eq!((frames(1).len(), frames(4).len(), frames(7).len()), (100 * 96 + 10 * 24, 0, 9 * 96));
}

#[test]
fn a_section_is_read_alone() {
    let file = file();
    let trailer = Trailer::decode(&file).unwrap();
    let sections = read_footer(&file[trailer.footer_offset as usize..], &trailer).unwrap();
    assert_eq!(sections.iter().map(|section| section.group).collect::<Vec<_>>(), [1, 4, 7]);
    for section in &sections {
        let events = read_all(&file, SnapshotReader::section(section, trailer.nonce)).unwrap().unwrap();
        assert_eq!(events[0], SnapshotEvent::SectionBegin(section.shard()));
        assert_eq!(events.last(), Some(&SnapshotEvent::SectionEnd(*section)));
    }
}

#[test]
fn a_file_cut_anywhere_is_incomplete() {
    let file = file();
    for cut in 0..file.len() {
        assert!(Trailer::decode(&file[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_is_found_or_changes_nothing() {
    let mut file = file();
    let whole = read_all(&file, SnapshotReader::new()).unwrap().unwrap().len();
    let trailer = Trailer::decode(&file).unwrap();
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        let events = read_all(&file, SnapshotReader::new());
        let is_found = Trailer::decode(&file).is_err() || !matches!(events, Ok(Some(_)));
        // Between footer and trailer stand zeros that nobody reads.
        let is_gap = (bit / 8) as u64 > trailer.footer_offset && bit / 8 < file.len() - 32;
        assert!(is_found || (is_gap && events.unwrap().unwrap().len() == whole), "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
}
