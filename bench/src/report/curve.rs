//! The points of a percentile curve, and the curve in characters.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::text::duration_text;

/// One point of a percentile curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Share of the answers, below 1.
    pub(crate) share: f64,
    pub(crate) ns: u64,
    /// Answers up to here.
    pub(crate) count: u64,
}

impl Point {
    /// Nines: 0 at p0, 1 at p90, 2 at p99: the usual horizontal axis.
    pub(crate) fn nines(&self) -> f64 {
        -(1.0 - self.share).max(1e-9).log10()
    }
}

/// Steps per nine.
const STEPS: usize = 20;

/// The curve up to the last answer: `STEPS` points a nine, as many nines as there are answers for.
pub(crate) fn points(histogram: &Histogram<u64>) -> Vec<Point> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let nines_max = (histogram.len() as f64).log10().max(1.0);
    let steps = (nines_max * STEPS as f64).ceil() as usize;
    (0..=steps)
        .map(|step| {
            let nines = (step as f64 / STEPS as f64).min(nines_max);
            let share = 1.0 - 10f64.powf(-nines);
            let ns = histogram.value_at_quantile(share);
            Point { share, ns, count: histogram.count_between(0, ns) }
        })
        .collect()
}

const WIDTH: usize = 64;
const HEIGHT: usize = 12;

/// The curve in characters: nines to the right, latency (logarithmic) upwards.
pub(crate) fn ascii(histogram: &Histogram<u64>) -> String {
    let points = points(histogram);
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let (low, high) = (log(first.ns), log(last.ns).max(log(first.ns) + 0.1));
    let nines_max = last.nines();
    let mut columns = [0; WIDTH];
    for (x, column) in columns.iter_mut().enumerate() {
        let nines = nines_max * x as f64 / (WIDTH - 1) as f64;
        let ns = histogram.value_at_quantile(1.0 - 10f64.powf(-nines));
        *column = ((log(ns) - low) / (high - low) * (HEIGHT - 1) as f64).round() as usize;
    }
    let mut out = String::new();
    for y in (0..HEIGHT).rev() {
        let level = 10f64.powf(low + (high - low) * y as f64 / (HEIGHT - 1) as f64);
        let marks = columns.iter().map(|&column| {
            if column == y {
                '*'
            } else if column > y {
                '.'
            } else {
                ' '
            }
        });
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:>9} |{}", duration_text(level), marks.collect::<String>().trim_end());
    }
    let _ = writeln!(out, "{:>9} +{}", "", "-".repeat(WIDTH));
    let _ = writeln!(out, "{:>9}  {}", "", axis(nines_max));
    out
}

fn log(ns: u64) -> f64 {
    (ns.max(1) as f64).log10()
}

/// The percentiles below the curve.
fn axis(nines_max: f64) -> String {
    let mut text = String::from("0 %");
    for nines in 1..=nines_max as usize {
        let label = nines_label(nines);
        let at = (nines as f64 / nines_max * (WIDTH - 1) as f64) as usize;
        if at > text.len() && at + label.len() <= WIDTH + 4 {
            text.push_str(&" ".repeat(at - text.len()));
            text.push_str(&label);
        }
    }
    text
}

/// `90 %`, `99 %`, `99.9 %` ...
pub(crate) fn nines_label(nines: usize) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::{ascii, nines_label, points};
    use crate::worker::record::latency_histogram;

    #[test]
    fn the_curve_ends_at_the_slowest_answer() {
        let mut histogram = latency_histogram();
        (1..=10_000u64).for_each(|n| histogram.record(n * 1000).unwrap());
        let curve = points(&histogram);
        assert!(curve.windows(2).all(|pair| pair[0].ns <= pair[1].ns && pair[0].share < pair[1].share));
        assert!(curve.last().unwrap().ns >= 9_990_000);
        let p90 = curve.iter().find(|point| point.nines() >= 0.999).unwrap();
        assert!((8_990_000..=9_020_000).contains(&p90.ns) && (8990..=9010).contains(&p90.count), "{p90:?}");
        let picture = ascii(&histogram);
        assert!(picture.contains("99.9 %") && picture.lines().count() == 14, "{picture}");
        assert!(points(&latency_histogram()).is_empty() && ascii(&latency_histogram()).is_empty());
        assert_eq!(nines_label(4), "99.99 %");
    }
}
