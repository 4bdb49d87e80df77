//! What the fuzz target checks. Shared by `fuzz/` and by the smoke test.
#![allow(unreachable_pub, reason = "a module of several crates")]

use std::io::{self, Read};

use pinnace_rdb::{Kind, Reader, Record};

/// Small enough for a fuzzer to go over it.
pub const STRING_BYTES_MAX: u64 = 2048;

/// Gives a few bytes at a time.
struct Trickle<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (now, later) = self.rest.split_at(self.step.min(self.rest.len()));
        buffer[..now.len()].copy_from_slice(now);
        self.rest = later;
        Ok(now.len())
    }
}

/// Records with their keys and values.
type Found = Vec<(Record, Vec<u8>, Vec<u8>)>;

/// What a reader finds, and the text of the error that ended it.
fn outcome(source: impl Read, values: bool) -> (Found, String) {
    let mut found = Vec::new();
    let mut reader = match Reader::new(source, STRING_BYTES_MAX) {
        Ok(reader) => reader,
        Err(error) => return (found, error.to_string()),
    };
    loop {
        let record = match reader.next_record() {
            Ok(Record::End(_)) => return (found, String::new()),
            Ok(record) => record,
            Err(error) => return (found, error.to_string()),
        };
        let mut value = Vec::new();
        if values && matches!(record, Record::Key { kind: Kind::String, .. }) {
            if let Err(error) = reader.read_value() {
                return (found, error.to_string());
            }
            value.extend_from_slice(reader.value());
        }
        assert!(reader.key().len() as u64 <= STRING_BYTES_MAX && value.len() as u64 <= STRING_BYTES_MAX);
        found.push((record, reader.key().to_vec(), value));
    }
}

/// Entry of the target: how the bytes come and whether values are read changes nothing of what is found.
pub fn rdb_entry(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let whole = outcome(data, true);
    assert_eq!(whole, outcome(Trickle { rest: data, step: usize::from(*step % 16) + 1 }, true));
    let walked = outcome(data, false);
    // Only a compressed string can look whole to who walks over it and be none.
    assert!(walked.0.len() >= whole.0.len());
    for (read, walked) in whole.0.iter().zip(&walked.0) {
        assert_eq!((&read.0, &read.1), (&walked.0, &walked.1));
    }
    assert!(!whole.1.is_empty() || walked.1.is_empty());
}
