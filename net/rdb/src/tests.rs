//! Dumps written by hand: every form of a string, every type, and what is not a dump.

use super::{Checksum, Kind, RdbError, RdbFault, Reader, Record};

const STRING_BYTES_MAX: u64 = 1000;

/// A dump without a checksum around these bytes.
fn dump(body: &[u8]) -> Vec<u8> {
    [b"REDIS0012", body, &[255], &[0; 8]].concat()
}

fn string(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8], text].concat()
}

/// Keys with type, deadline and value.
type Found = Vec<(Vec<u8>, Kind, Option<i64>, Vec<u8>)>;

fn read(bytes: &[u8]) -> Result<Found, RdbError> {
    let mut reader = Reader::new(bytes, STRING_BYTES_MAX)?;
    let mut found = Vec::new();
    loop {
        match reader.next_record()? {
            Record::Key { kind, deadline_ms } => {
                let mut value = Vec::new();
                if kind == Kind::String {
                    reader.read_value()?;
                    value.extend_from_slice(reader.value());
                }
                found.push((reader.key().to_vec(), kind, deadline_ms, value));
            }
            Record::End(_) => return Ok(found),
            _ => {}
        }
    }
}

fn fault(bytes: &[u8]) -> RdbFault {
    read(bytes).expect_err("this is broken").fault
}

#[test]
fn strings_in_every_encoding_with_deadlines() {
    let mut body = vec![250];
    body.extend([string(b"redis-ver"), string(b"7.4.0")].concat());
    body.extend([254, 0, 251, 5, 2, 244, 1, 2, 0]);
    body.extend([&[0][..], &string(b"raw"), &string(b"text")].concat());
    body.extend([&[253, 0, 0, 0, 1, 0][..], &string(b"i8"), &[0xC0, 0xFF]].concat());
    body.extend([&[252, 1, 2, 0, 0, 0, 0, 0, 0, 248, 7, 0][..], &string(b"i16"), &[0xC1, 0, 0x80]].concat());
    body.extend([&[249, 200, 0][..], &string(b"i32"), &[0xC2, 1, 0, 0, 0x7F]].concat());
    body.extend([&[0][..], &string(b"lzf"), &[0xC3, 5, 11, 0, b'x', 0xE0, 1, 0]].concat());
    body.extend([&[0][..], &string(b"14 bits"), &[0x40, 2, b'o', b'k']].concat());
    body.extend([&[0][..], &string(b"32 bits"), &[0x80, 0, 0, 0, 1, b'o']].concat());
    body.extend([&[0][..], &string(b"64 bits"), &[0x81, 0, 0, 0, 0, 0, 0, 0, 1, b'o']].concat());
    let found = read(&dump(&body)).unwrap();
    let line =
        |key: &[u8], deadline_ms, value: &[u8]| (key.to_vec(), Kind::String, deadline_ms, value.to_vec());
    let wanted = [
        line(b"raw", None, b"text"),
        line(b"i8", Some(16_777_216_000), b"-1"),
        line(b"i16", Some(513), b"-32768"),
        line(b"i32", None, b"2130706433"),
        line(b"lzf", None, b"xxxxxxxxxxx"),
        line(b"14 bits", None, b"ok"),
        line(b"32 bits", None, b"o"),
        line(b"64 bits", None, b"o"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn every_other_type_is_walked_over_by_type_and_key() {
    let packed = string(b"whatever is in it");
    let two = |parts: &[&[u8]]| [&[2][..], &parts.concat(), &parts.concat()].concat();
    let (a, b) = (string(b"a"), string(b"bb"));
    let stream = |version: u8| {
        let ids: &[u8] = if version >= 2 { &[9; 8] } else { &[9; 3] };
        let group_ids: &[u8] = if version >= 2 { &[1; 3] } else { &[1; 2] };
        let times: &[u8] = if version >= 3 { &[0; 16] } else { &[0; 8] };
        let pending = two(&[&[0xFF; 24], &[1]]);
        let consumer = two(&[&a, times, &two(&[&[0xFF; 16]])]);
        [&two(&[&a, &packed])[..], ids, &two(&[&b, group_ids, &pending, &consumer])].concat()
    };
    // An id of all ones is nine underscores and version 1023.
    let module =
        [&[0x81][..], &[0xFF; 8], &[1, 5, 2, 6, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 5], &a, &[0]];
    let types: &[(u8, &str, Vec<u8>)] = &[
        (1, "list", two(&[&a])),
        (2, "set", two(&[&b])),
        (3, "sorted set", [&[3][..], &a, &[253], &a, &[255], &a, &[3, b'1', b'.', b'5']].concat()),
        (4, "hash", two(&[&a, &b])),
        (5, "sorted set", two(&[&a, &[0xFF; 8]])),
        (7, "module type _________", module.concat()),
        (9, "hash", packed.clone()),
        (10, "list", packed.clone()),
        (11, "set", packed.clone()),
        (12, "sorted set", packed.clone()),
        (13, "hash", packed.clone()),
        (14, "list", two(&[&packed])),
        (15, "stream", stream(1)),
        (16, "hash", packed.clone()),
        (17, "sorted set", packed.clone()),
        (18, "list", two(&[&[1], &packed])),
        (19, "stream", stream(2)),
        (20, "set", packed.clone()),
        (21, "stream", stream(3)),
        (22, "hash", two(&[&[0], &a, &b])),
        (23, "hash", packed.clone()),
        (24, "hash", [&[0xFF; 8][..], &two(&[&[0], &a, &b])].concat()),
        (25, "hash", [&[0xFF; 8][..], &packed].concat()),
    ];
    let mut body = Vec::new();
    for (byte, _, value) in types {
        body.extend([&[*byte][..], &string(&[b'k', *byte]), value].concat());
    }
    // Between two keys stand functions and what modules keep beside keys.
    body.extend([&[245][..], &packed, &[247, 0x81], &[0; 8], &[2, 1, 0], &[0][..], &a, &b].concat());
    let found = read(&dump(&body)).unwrap();
    assert_eq!(found.len(), types.len() + 1);
    for ((key, kind, ..), (byte, name, _)) in found.iter().zip(types) {
        assert_eq!((key.as_slice(), kind.to_string().as_str()), (&[b'k', *byte][..], *name), "type {byte}");
    }
    assert_eq!(found.last().unwrap().3, b"bb");
}

#[test]
fn checksums_are_compared() {
    // An empty dump as Redis 7.0 would write it, with the checksum of these bytes.
    let mut bytes = b"REDIS0010\xFE\x00\xFF".to_vec();
    let checksum = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&bytes);
    bytes.extend(checksum.to_le_bytes());
    let mut reader = Reader::new(bytes.as_slice(), 10).unwrap();
    assert_eq!(reader.next_record().unwrap(), Record::Database(0));
    assert_eq!(reader.next_record().unwrap(), Record::End(Checksum::Right));
    assert_eq!(reader.version(), 10);
    bytes[10] = 1;
    assert!(matches!(fault(&bytes), RdbFault::Checksum { .. }));
    // Before version 5 there was none.
    assert!(read(b"REDIS0004\xFF").unwrap().is_empty());
}

#[test]
fn what_is_no_dump_is_refused_with_its_place() {
    assert!(matches!(fault(b""), RdbFault::NotADump));
    assert!(matches!(fault(b"VALKEY080"), RdbFault::NotADump));
    assert!(matches!(fault(b"REDIS00x1\xFF"), RdbFault::NotADump));
    assert!(matches!(fault(b"REDIS0013\xFF"), RdbFault::VersionUnknown(13)));
    assert!(matches!(fault(b"REDIS0000\xFF"), RdbFault::VersionUnknown(0)));
    assert!(matches!(fault(b"REDIS0012"), RdbFault::Truncated));
    assert!(matches!(fault(&dump(&[99])), RdbFault::TypeUnknown(99)));
    assert!(matches!(fault(&dump(&[6])), RdbFault::Unreadable(_)));
    assert!(matches!(fault(&dump(&[246])), RdbFault::Unreadable(_)));
    assert!(matches!(fault(&dump(&[0, 0xBF])), RdbFault::Damaged(_)));
    assert!(matches!(fault(&dump(&[0, 0xC9])), RdbFault::Damaged(_)));
    assert!(matches!(fault(&dump(&[254, 0xC1, 1, 1])), RdbFault::Damaged(_)));
    assert!(matches!(fault(&dump(&[0, 0x80, 0xFF, 0, 0, 0])), RdbFault::StringTooLong { .. }));
    assert!(matches!(fault(&[&dump(&[])[..], b"*1\r\n"].concat()), RdbFault::Trailing));
    let error = read(&dump(&[254, 0, 99])).unwrap_err();
    assert_eq!(error.to_string(), "at byte 12: 99 is no known type or opcode");
}

#[test]
fn a_value_is_read_once_and_only_if_it_is_a_string() {
    let bytes = dump(&[0, 1, b'k', 1, b'v', 1, 1, b'l', 0]);
    let mut reader = Reader::new(bytes.as_slice(), 10).unwrap();
    assert!(reader.read_value().is_err());
    reader.next_record().unwrap();
    reader.read_value().unwrap();
    assert!(reader.read_value().is_err());
    assert!(matches!(reader.next_record().unwrap(), Record::Key { kind: Kind::List, .. }));
    assert!(reader.read_value().is_err());
}
