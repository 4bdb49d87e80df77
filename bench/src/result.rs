//! A run's result: what is written as JSON and read by every report. `docs/bench.md` has the schema.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::BenchError;
use crate::worker::record::{CLASS_COUNT, Counts, Row, latency_histogram};
use crate::workload::WorkloadSpec;

/// The schema's name and version.
pub(crate) const SCHEMA: &str = "pinnace-bench/1";

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunResult {
    pub(crate) schema: String,
    pub(crate) tool_version: String,
    pub(crate) commit: Option<String>,
    pub(crate) command_line: Vec<String>,
    pub(crate) started_unix_ms: u64,
    pub(crate) seed: u64,
    pub(crate) targets: Vec<String>,
    pub(crate) protocol: String,
    /// The server's own name and version.
    pub(crate) server: String,
    pub(crate) workload: WorkloadSpec,
    pub(crate) load: LoadInfo,
    pub(crate) environment: Environment,
    /// Everything that was meant to be measured was.
    pub(crate) complete: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) counts: CountsInfo,
    pub(crate) elapsed_s: f64,
    /// Answers a second.
    pub(crate) achieved_rate: f64,
    /// All operations together, from the intended start.
    pub(crate) total: Latency,
    pub(crate) operations: Vec<Latency>,
    /// From the actual send: what a tool that omits waiting would tell. Open loop only.
    pub(crate) service: Option<Latency>,
    pub(crate) series: Series,
    pub(crate) generator: GeneratorInfo,
    pub(crate) server_side: Option<ServerSide>,
}

/// How requests were offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadInfo {
    /// `closed`, `open-constant` or `open-poisson`.
    pub(crate) mode: String,
    pub(crate) offered_rate: Option<f64>,
    pub(crate) connections: usize,
    /// Requests under way per connection: always (closed loop), or at most (open loop).
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) cores: Vec<usize>,
    pub(crate) preload: bool,
    pub(crate) warm_up_s: f64,
    pub(crate) duration_s: Option<f64>,
    pub(crate) requests: Option<u64>,
    pub(crate) verify_every: u32,
    pub(crate) timeout_s: f64,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CountsInfo {
    pub(crate) answered: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) refused: u64,
    pub(crate) errors: u64,
    pub(crate) lost: u64,
    pub(crate) timeouts: u64,
    pub(crate) wrong: u64,
    pub(crate) verified: u64,
    pub(crate) unsent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

impl From<Counts> for CountsInfo {
    fn from(counts: Counts) -> Self {
        let Counts {
            answered, hits, misses, refused, errors, lost, timeouts, wrong, verified, unsent, ..
        } = counts;
        let Counts { bytes_sent, bytes_received, .. } = counts;
        Self {
            answered,
            hits,
            misses,
            refused,
            errors,
            lost,
            timeouts,
            wrong,
            verified,
            unsent,
            bytes_sent,
            bytes_received,
        }
    }
}

/// One histogram, with the numbers most asked for beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) mean_ns: f64,
    pub(crate) min_ns: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) p9999_ns: u64,
    pub(crate) p99999_ns: u64,
    pub(crate) max_ns: u64,
    /// HDR histogram in ns, encoding V2 without compression, base64.
    pub(crate) hdr_v2: String,
}

impl Latency {
    pub(crate) fn new(name: &str, histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).expect("a vector takes every byte");
        let at = |share| histogram.value_at_quantile(share);
        Self {
            name: name.to_owned(),
            count: histogram.len(),
            mean_ns: histogram.mean(),
            min_ns: if histogram.is_empty() { 0 } else { histogram.min() },
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            p99999_ns: at(0.99999),
            max_ns: histogram.max(),
            hdr_v2: BASE64.encode(bytes),
        }
    }

    /// The histogram itself.
    pub(crate) fn histogram(&self) -> Result<Histogram<u64>, String> {
        let bytes =
            BASE64.decode(&self.hdr_v2).map_err(|error| format!("histogram {}: {error}", self.name))?;
        Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("histogram {}: {error}", self.name))
    }
}

/// Latency over time, in classes (see [`crate::worker::record::class_start_ns`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) interval_s: f64,
    pub(crate) rows: Vec<SeriesRow>,
    /// Answers per interval of each thread.
    pub(crate) threads: Vec<Vec<u64>>,
}

/// One interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeriesRow {
    pub(crate) count: u64,
    pub(crate) max_ns: u64,
    /// Class and number of answers in it, where there are any.
    pub(crate) classes: Vec<(u16, u32)>,
}

impl SeriesRow {
    pub(crate) fn new(row: &Row) -> Self {
        let classes = row.classes.iter().enumerate().filter(|(_, count)| **count > 0);
        Self {
            count: row.count(),
            max_ns: row.max_ns,
            classes: classes.map(|(class, count)| (class as u16, *count)).collect(),
        }
    }

    pub(crate) fn row(&self) -> Row {
        let mut row = Row::EMPTY;
        row.max_ns = self.max_ns;
        for &(class, count) in &self.classes {
            row.classes[usize::from(class).min(CLASS_COUNT - 1)] = count;
        }
        row
    }
}

/// The generator's own side: whether its word can be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GeneratorInfo {
    /// Share of time on the CPU with something to do, of the busiest thread.
    pub(crate) busy_share: f64,
    /// CPU time an answer cost, all threads, idle spinning left out.
    pub(crate) cpu_ns_per_request: f64,
    pub(crate) threads: Vec<ThreadInfo>,
    /// How late requests were handed over (open loop).
    pub(crate) lag: Option<Latency>,
    /// Requests made late because the window was full: the server's doing.
    pub(crate) held_back: u64,
    /// `generator`, `server` or `neither`: what limits a higher rate.
    pub(crate) bottleneck: String,
}

/// One generator thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadInfo {
    pub(crate) core: Option<usize>,
    pub(crate) answered: u64,
    pub(crate) busy_share: f64,
    /// Share of time ready to run while something else had the CPU.
    pub(crate) waiting_share: f64,
}

/// What the system and the server tell of the server, for local targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerSide {
    pub(crate) pids: Vec<u32>,
    pub(crate) name: String,
    /// CPU time of all its processes per answer.
    pub(crate) cpu_ns_per_request: f64,
    /// CPUs in use on average.
    pub(crate) cpus_used: f64,
    /// Resident memory at the end.
    pub(crate) resident_bytes: u64,
    /// The server's own words on its latency, where it has any.
    pub(crate) reported_latency: Option<String>,
}

impl RunResult {
    pub(crate) fn read(path: &Path) -> Result<Self, BenchError> {
        let text = std::fs::read_to_string(path).map_err(|error| BenchError::file(path, error))?;
        let result: Self = serde_json::from_str(&text)
            .map_err(|error| BenchError::file(path, format!("no result of this program: {error}")))?;
        if result.schema != SCHEMA {
            return Err(BenchError::file(path, format!("schema {}, expected {SCHEMA}", result.schema)));
        }
        Ok(result)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), BenchError> {
        let mut text = serde_json::to_string(self).expect("a result is made of plain values");
        text.push('\n');
        std::fs::write(path, text).map_err(|error| BenchError::file(path, error))
    }
}

/// All of several histograms in one.
pub(crate) fn merged<'h>(parts: impl Iterator<Item = &'h Histogram<u64>>) -> Histogram<u64> {
    let mut sum = latency_histogram();
    for part in parts {
        sum.add(part).expect("all histograms have the same bounds");
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{Latency, SeriesRow, merged};
    use crate::worker::record::{Row, latency_histogram};

    #[test]
    fn histograms_survive_the_way_through_json() {
        let mut histogram = latency_histogram();
        for value in [1, 500, 500, 1_000_000, 3_000_000_000] {
            histogram.record(value).unwrap();
        }
        let latency = Latency::new("get", &histogram);
        let text = serde_json::to_string(&latency).unwrap();
        let back: Latency = serde_json::from_str(&text).unwrap();
        assert_eq!(back.histogram().unwrap(), histogram);
        assert_eq!((back.count, back.min_ns, back.p50_ns), (5, 1, 500));
        assert_eq!(merged([&histogram, &histogram].into_iter()).len(), 10);
        // HDR V2 begins with its cookie, 0x1c849303 | 0x10, big-endian.
        assert!(latency.hdr_v2.starts_with("HISTEw"), "{}", &latency.hdr_v2[..8]);
    }

    #[test]
    fn rows_survive_being_written_sparsely() {
        let mut row = Row::EMPTY;
        (row.classes[3], row.classes[200], row.max_ns) = (7, 1, 99);
        assert_eq!(SeriesRow::new(&row).row(), row);
    }
}
