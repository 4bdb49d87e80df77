//! Results side by side: ratios, spreads, and whether a difference is more than noise.

use std::fmt::Write as _;

use crate::result::RunResult;
use crate::text::{duration_text, rate_text};
use crate::worker::record::Row;

/// One number of a result, and how it is told.
struct Metric {
    name: &'static str,
    of: fn(&RunResult) -> Option<f64>,
    /// The same number of a part of the run, where parts can tell it.
    part: Option<fn(&Row, f64) -> f64>,
    text: fn(f64) -> String,
}

const METRICS: [Metric; 6] = [
    Metric {
        name: "answers a second",
        of: |result| Some(result.achieved_rate),
        part: Some(|row, seconds| row.count() as f64 / seconds),
        text: rate_text,
    },
    Metric {
        name: "p50",
        of: |result| Some(result.total.p50_ns as f64),
        part: Some(|row, _| row.quantile_ns(0.5) as f64),
        text: duration_text,
    },
    Metric {
        name: "p99",
        of: |result| Some(result.total.p99_ns as f64),
        part: Some(|row, _| row.quantile_ns(0.99) as f64),
        text: duration_text,
    },
    Metric {
        name: "p99.9",
        of: |result| Some(result.total.p999_ns as f64),
        part: Some(|row, _| row.quantile_ns(0.999) as f64),
        text: duration_text,
    },
    Metric {
        name: "server CPU a request",
        of: |result| result.server_side.as_ref().map(|server| server.cpu_ns_per_request),
        part: None,
        text: duration_text,
    },
    Metric {
        name: "generator CPU a request",
        of: |result| Some(result.generator.cpu_ns_per_request),
        part: None,
        text: duration_text,
    },
];

/// A run without repetitions is cut into so many parts to see how much it varies.
const PARTS: usize = 8;
/// CPU times of single runs are taken to vary by this share, as repeated ones were seen to.
const SINGLE_SPREAD: f64 = 0.05;

/// Runs of the same thing: the same server, workload and load.
struct Group<'r> {
    name: String,
    runs: Vec<&'r RunResult>,
}

/// A number with how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Value {
    middle: f64,
    /// Half of the range that it was seen in.
    spread: f64,
}

/// The table of all `results`; the first kind is what the others are compared with.
pub(crate) fn table(results: &[(String, RunResult)]) -> String {
    let groups = group(results);
    let mut out = String::new();
    for (index, group) in groups.iter().enumerate() {
        // Writing to a string cannot fail; results of `write!` are dropped for that reason throughout.
        let _ = writeln!(out, "{} {}: {} run(s)", letter(index), group.name, group.runs.len());
        let marked = group.runs.iter().flat_map(|run| &run.warnings);
        for warning in marked {
            let _ = writeln!(out, "  WARNING {warning}");
        }
    }
    for metric in &METRICS {
        let values: Vec<Option<Value>> = groups.iter().map(|group| value(metric, group)).collect();
        let Some(base) = values[0] else { continue };
        let _ = writeln!(out, "\n{}", metric.name);
        for (index, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let spread = if value.middle > 0.0 { value.spread / value.middle * 100.0 } else { 0.0 };
            let _ = write!(out, "  {} {:>10} +- {spread:>4.1} %", letter(index), (metric.text)(value.middle));
            if index > 0 {
                let _ = write!(
                    out,
                    "   {:.2} x A, {}",
                    value.middle / base.middle.max(1e-9),
                    verdict(base, *value)
                );
            }
            out.push('\n');
        }
    }
    out
}

fn letter(index: usize) -> char {
    char::from(b'A' + (index % 26) as u8)
}

fn group(results: &[(String, RunResult)]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (file, result) in results {
        match groups.iter_mut().find(|group| is_same(group.runs[0], result)) {
            Some(group) => group.runs.push(result),
            None => {
                let load = match result.load.offered_rate {
                    Some(rate) => format!("{}/s offered", rate_text(rate)),
                    None => format!("{} x {}", result.load.connections, result.load.depth),
                };
                let mix = result.workload.mix.as_deref().unwrap_or("load");
                let name = format!("{} ({}), {mix}, {load}, from {file}", result.server, result.protocol);
                groups.push(Group { name, runs: vec![result] });
            }
        }
    }
    groups
}

/// Whether one run repeats the other, perhaps with another seed.
fn is_same(a: &RunResult, b: &RunResult) -> bool {
    a.server == b.server && a.protocol == b.protocol && a.workload == b.workload && a.load == b.load
}

fn value(metric: &Metric, group: &Group<'_>) -> Option<Value> {
    let mut values: Vec<f64> = group.runs.iter().filter_map(|run| (metric.of)(run)).collect();
    values.sort_by(f64::total_cmp);
    let middle = *values.get(values.len() / 2)?;
    let spread = match (&values[..], metric.part) {
        ([_], Some(part)) => spread_of_parts(group.runs[0], part),
        ([only], None) => only * SINGLE_SPREAD,
        (many, _) => (many[many.len() - 1] - many[0]) / 2.0,
    };
    Some(Value { middle, spread })
}

/// How far the mean of a run's parts may be off: two standard errors.
fn spread_of_parts(run: &RunResult, part: fn(&Row, f64) -> f64) -> f64 {
    let rows = &run.series.rows;
    let size = rows.len() / PARTS;
    if size == 0 {
        return f64::INFINITY;
    }
    let parts: Vec<f64> = rows
        .chunks_exact(size)
        .take(PARTS)
        .map(|chunk| {
            let mut sum = Row::EMPTY;
            chunk.iter().for_each(|sparse| sum.add(&sparse.row()));
            part(&sum, chunk.len() as f64 * run.series.interval_s)
        })
        .collect();
    let count = parts.len() as f64;
    let mean = parts.iter().sum::<f64>() / count;
    let variance = parts.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    2.0 * (variance / count).sqrt()
}

fn verdict(base: Value, other: Value) -> &'static str {
    if (base.middle - other.middle).abs() > base.spread + other.spread {
        "more than the noise"
    } else {
        "within the noise"
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, verdict};

    #[test]
    fn only_what_exceeds_both_spreads_is_a_difference() {
        let value = |middle, spread| Value { middle, spread };
        assert_eq!(verdict(value(100.0, 5.0), value(111.0, 5.0)), "more than the noise");
        assert_eq!(verdict(value(100.0, 5.0), value(109.0, 5.0)), "within the noise");
        assert_eq!(verdict(value(100.0, f64::INFINITY), value(900.0, 1.0)), "within the noise");
    }
}
