//! Files for other programs: `.hgrm` for HDR plotters, CSV for spreadsheets.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::curve::points;
use crate::result::RunResult;

/// Steps per halving of the distance to 100 %, as HdrHistogram's own tools print by default.
const TICKS_PER_HALF: u32 = 5;

/// The percentile distribution in the text format of HdrHistogram, values in ms.
pub(crate) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        let (ms, share) = (step.value_iterated_to() as f64 / 1e6, step.quantile_iterated_to());
        let count = histogram.count_between(0, step.value_iterated_to());
        // Writing to a string cannot fail.
        let _ = if share < 1.0 {
            writeln!(out, "{ms:>12.6} {share:>14.12} {count:>10} {:>14.2}", 1.0 / (1.0 - share))
        } else {
            writeln!(out, "{ms:>12.6} {share:>14.12} {count:>10}")
        };
    }
    let (mean, deviation) = (histogram.mean() / 1e6, histogram.stdev() / 1e6);
    let _ = writeln!(out, "#[Mean    = {mean:>12.6}, StdDeviation   = {deviation:>12.6}]");
    let max = histogram.max() as f64 / 1e6;
    let _ = writeln!(out, "#[Max     = {max:>12.6}, Total count    = {:>12}]", histogram.len());
    let _ = writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", 32, 2048);
    out
}

/// The percentile curves of all operations: `operation,percentile,latency_ns,count`.
pub(crate) fn percentiles_csv(result: &RunResult) -> Result<String, String> {
    let mut out = String::from("operation,percentile,latency_ns,count\n");
    for latency in result.operations.iter().chain([&result.total]).chain(&result.service) {
        for point in points(&latency.histogram()?) {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{},{:.7},{},{}", latency.name, point.share * 100.0, point.ns, point.count);
        }
    }
    Ok(out)
}

/// The run over time: `second,answers,rate,p50_ns,p99_ns,p999_ns,max_ns`, then the answers of each thread.
pub(crate) fn series_csv(result: &RunResult) -> String {
    let series = &result.series;
    let mut out = String::from("second,answers,rate,p50_ns,p99_ns,p999_ns,max_ns");
    (0..series.threads.len()).for_each(|thread| {
        let _ = write!(out, ",thread_{thread}");
    });
    out.push('\n');
    for (index, sparse) in series.rows.iter().enumerate() {
        let row = sparse.row();
        let _ = write!(
            out,
            "{:.3},{},{:.1},{},{},{},{}",
            index as f64 * series.interval_s,
            sparse.count,
            sparse.count as f64 / series.interval_s,
            row.quantile_ns(0.5),
            row.quantile_ns(0.99),
            row.quantile_ns(0.999),
            row.max_ns,
        );
        for thread in &series.threads {
            let _ = write!(out, ",{}", thread.get(index).copied().unwrap_or(0));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::hgrm;
    use crate::worker::record::latency_histogram;

    #[test]
    fn hgrm_has_the_columns_that_plotters_read() {
        let mut histogram = latency_histogram();
        (1..=1000u64).for_each(|n| histogram.record(n * 1_000_000).unwrap());
        let text = hgrm(&histogram);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_ascii_whitespace().collect())
            .collect();
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
        assert!(rows.iter().rev().skip(1).all(|row| row.len() == 4) && rows.len() > 30);
        assert_eq!(rows.last().unwrap()[1..], ["1.000000000000", "1000"]);
        let max: f64 = rows.last().unwrap()[0].parse().unwrap();
        assert!((1000.0..1001.0).contains(&max));
    }
}
