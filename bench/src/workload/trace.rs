//! Traces: recorded requests, one get each.
//!
//! A file holds 16-byte little-endian records: u64 key, u32 value bytes (0: unknown), u32 life in
//! seconds (0: none); `.zst` files hold the same under zstd.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::error::BenchError;

/// One recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceRecord {
    pub(crate) key: u64,
    pub(crate) size: u32,
    pub(crate) ttl_seconds: u32,
}

/// A whole trace in memory.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) records: Vec<TraceRecord>,
    pub(crate) key_max: u64,
    pub(crate) size_max: u32,
    /// Sizes and lives by key, as first seen, sorted; empty if the trace tells none.
    items: Vec<TraceRecord>,
}

const RECORD_BYTES: usize = 16;
/// Larger traces do not fit this way of replaying them.
const TRACE_BYTES_MAX: u64 = 8 << 30;

impl Trace {
    pub(crate) fn read(path: &Path) -> Result<Self, BenchError> {
        let wrong =
            |problem: &dyn std::fmt::Display| BenchError::file(path, format!("not a trace: {problem}"));
        let file = File::open(path).map_err(|error| BenchError::file(path, error))?;
        let mut bytes = Vec::new();
        read_bytes(path, file, &mut bytes).map_err(|error| wrong(&error))?;
        if bytes.is_empty() || bytes.len() % RECORD_BYTES != 0 {
            return Err(wrong(&format!("{} bytes are no whole number of 16-byte records", bytes.len())));
        }
        let mut this = Self::new(bytes.as_chunks::<RECORD_BYTES>().0.iter().map(record).collect());
        this.index_items();
        Ok(this)
    }

    fn new(records: Vec<TraceRecord>) -> Self {
        let key_max = records.iter().map(|record| record.key).max().unwrap_or(0);
        let size_max = records.iter().map(|record| record.size).max().unwrap_or(0);
        Self { records, key_max, size_max, items: Vec::new() }
    }

    fn index_items(&mut self) {
        if self.records.iter().any(|record| record.size > 0 || record.ttl_seconds > 0) {
            self.items.clone_from(&self.records);
            self.items.sort_by_key(|record| record.key);
            self.items.dedup_by_key(|record| record.key);
        }
    }

    fn item(&self, key: u64) -> Option<&TraceRecord> {
        self.items.binary_search_by_key(&key, |record| record.key).ok().map(|at| &self.items[at])
    }

    /// The size that the trace tells for a key.
    pub(crate) fn size_of(&self, key: u64) -> Option<usize> {
        self.item(key).map(|record| record.size as usize).filter(|size| *size > 0)
    }

    /// The life that the trace tells for a key.
    pub(crate) fn life_s(&self, key: u64) -> Option<u64> {
        self.item(key).map(|record| u64::from(record.ttl_seconds)).filter(|life| *life > 0)
    }
}

fn record(bytes: &[u8; RECORD_BYTES]) -> TraceRecord {
    let half =
        |from: usize| u32::from_le_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]]);
    let key = u64::from(half(0)) | u64::from(half(4)) << 32;
    TraceRecord { key, size: half(8), ttl_seconds: half(12) }
}

fn read_bytes(path: &Path, file: File, bytes: &mut Vec<u8>) -> io::Result<()> {
    let file = BufReader::new(file);
    if path.extension().is_some_and(|extension| extension == "zst") {
        zstd::Decoder::new(file)?.take(TRACE_BYTES_MAX).read_to_end(bytes)?;
    } else {
        file.take(TRACE_BYTES_MAX).read_to_end(bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Trace, TraceRecord};
    use std::path::PathBuf;

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pinnace-bench-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn plain_and_compressed_traces_read_the_same() {
        let mut bytes = Vec::new();
        for (key, size, ttl) in [(7u64, 100u32, 60u32), (u64::MAX, 5, 0), (7, 100, 60)] {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(&ttl.to_le_bytes());
        }
        let plain = file("plain.bin", &bytes);
        let compressed = file("packed.bin.zst", &zstd::encode_all(bytes.as_slice(), 3).unwrap());
        for path in [plain, compressed] {
            let trace = Trace::read(&path).unwrap();
            assert_eq!(trace.records[0], TraceRecord { key: 7, size: 100, ttl_seconds: 60 });
            assert_eq!((trace.records.len(), trace.key_max, trace.size_max), (3, u64::MAX, 100));
            assert_eq!(
                (trace.size_of(7), trace.size_of(u64::MAX), trace.size_of(8)),
                (Some(100), Some(5), None)
            );
            assert_eq!((trace.life_s(7), trace.life_s(u64::MAX)), (Some(60), None));
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_is_no_trace_is_refused_by_name() {
        for (name, bytes) in [("cut.bin", &[0; 17][..]), ("empty.bin", &[]), ("noise.bin.zst", &[1; 64])] {
            let path = file(name, bytes);
            let error = Trace::read(&path).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("not a trace"), "{error}");
            std::fs::remove_file(path).unwrap();
        }
        assert!(Trace::read("/no/such/trace.bin".as_ref()).is_err());
    }
}
