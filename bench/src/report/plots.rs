//! The plots of a result, as SVG and PNG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, BitMapBackend, ChartBuilder, Color, DrawingArea, DrawingBackend, IntoDrawingArea, IntoLogRange,
    LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, SeriesLabelPosition, WHITE,
};
use plotters::style::IntoFont;

use super::bitmap::LabelledBitmap;
use super::curve::{Point, nines_label, points};
use crate::result::{Latency, RunResult, SeriesRow};
use crate::search::Steps;
use crate::text::{duration_text, rate_text};
use crate::worker::record::{CLASS_COUNT, class_start_ns};

/// One kind of plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plot {
    /// Latency by percentile.
    Percentiles,
    /// Answers by latency and time.
    HeatMap,
    /// Answers a second over time.
    Throughput,
    /// The same by generator thread.
    Threads,
}

impl Plot {
    pub(crate) const ALL: [Self; 4] = [Self::Percentiles, Self::HeatMap, Self::Throughput, Self::Threads];

    /// Part of the file's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Percentiles => "percentiles",
            Self::HeatMap => "heat-map",
            Self::Throughput => "throughput",
            Self::Threads => "threads",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Percentiles => "Latency by percentile",
            Self::HeatMap => "Latency over time (darker: more answers; line: p99)",
            Self::Throughput => "Answers a second over time",
            Self::Threads => "Answers a second by generator thread",
        }
    }
}

const SIZE: (u32, u32) = (900, 380);
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 90, 160),
    RGBColor(200, 70, 30),
    RGBColor(30, 140, 60),
    RGBColor(130, 60, 160),
    RGBColor(170, 130, 0),
    RGBColor(0, 140, 150),
    RGBColor(190, 40, 110),
    RGBColor(90, 90, 90),
];

/// The plot as SVG text.
pub(crate) fn svg(result: &RunResult, plot: Plot) -> Result<String, String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&area, result, plot)?;
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// The plot as a PNG file.
pub(crate) fn png(result: &RunResult, plot: Plot, path: &Path) -> Result<(), String> {
    let area = LabelledBitmap(BitMapBackend::new(path, SIZE)).into_drawing_area();
    draw(&area, result, plot)?;
    area.present().map_err(|error| error.to_string())
}

/// The latency-throughput curve of a search as SVG text.
pub(crate) fn steps_svg(steps: &Steps) -> Result<String, String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw_steps(&area, steps)?;
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// The same as a PNG file.
pub(crate) fn steps_png(steps: &Steps, path: &Path) -> Result<(), String> {
    let area = LabelledBitmap(BitMapBackend::new(path, SIZE)).into_drawing_area();
    draw_steps(&area, steps)?;
    area.present().map_err(|error| error.to_string())
}

/// Something to draw on.
type Area<B> = DrawingArea<B, Shift>;

fn draw<B: DrawingBackend>(area: &Area<B>, result: &RunResult, plot: Plot) -> Result<(), String> {
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    match plot {
        Plot::Percentiles => {
            let curves = result.operations.iter().chain(&result.service);
            let curves = curves.map(|latency| Ok((latency.name.clone(), points(&latency.histogram()?))));
            percentiles(area, &curves.collect::<Result<Vec<_>, String>>()?)
        }
        Plot::HeatMap => heat_map(area, result),
        Plot::Throughput => {
            let rows = result.series.rows.iter().map(|row| row.count);
            over_time(area, result, plot, &[("all".to_owned(), rows.collect())])
        }
        Plot::Threads => {
            let threads = result.series.threads.iter().zip(&result.generator.threads).enumerate();
            let name = |index, core: Option<usize>| match core {
                Some(core) => format!("thread {index}, core {core}"),
                None => format!("thread {index}"),
            };
            let lines: Vec<_> =
                threads.map(|(index, (rows, thread))| (name(index, thread.core), rows.clone())).collect();
            over_time(area, result, plot, &lines)
        }
    }
}

/// Percentile curves of any origin: several results can share a plot.
fn percentiles<B: DrawingBackend>(area: &Area<B>, curves: &[(String, Vec<Point>)]) -> Result<(), String> {
    let all = || curves.iter().flat_map(|(_, points)| points);
    let low = all().map(|point| point.ns).min().unwrap_or(1).max(1) as f64;
    let high = all().map(|point| point.ns).max().unwrap_or(10).max(10) as f64;
    let nines = all().map(Point::nines).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(Plot::Percentiles.title(), ("sans-serif", 16).into_font())
        .margin(8)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..nines, (low * 0.9..high * 1.2).log_scale())
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .x_labels(nines as usize + 1)
        .x_label_formatter(&|at| nines_label(at.round() as usize))
        .y_label_formatter(&|ns| duration_text(*ns))
        .light_line_style(WHITE.mix(0.0))
        .draw()
        .map_err(|error| error.to_string())?;
    for (index, (name, points)) in curves.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let line = points.iter().map(|point| (point.nines(), point.ns.max(1) as f64));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))
            .map_err(|error| error.to_string())?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| error.to_string())
}

fn heat_map<B: DrawingBackend>(area: &Area<B>, result: &RunResult) -> Result<(), String> {
    let series = &result.series;
    let classes = || series.rows.iter().flat_map(|row| &row.classes);
    let low = classes().map(|(class, _)| *class / HEAT_CLASSES * HEAT_CLASSES).min().unwrap_or(0);
    let high = classes().map(|(class, _)| *class).max().unwrap_or(0) + 1;
    let most = classes().map(|(_, count)| *count).max().unwrap_or(1).saturating_mul(2).max(2);
    let start = |class: u16| class_start_ns(usize::from(class).min(CLASS_COUNT - 1)) as f64;
    let seconds = (series.rows.len() as f64 * series.interval_s).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .caption(Plot::HeatMap.title(), ("sans-serif", 16).into_font())
        .margin(8)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..seconds, (start(low)..start(high) * 1.05).log_scale())
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_label_formatter(&|at| format!("{at:.1} s"))
        .y_label_formatter(&|ns| duration_text(*ns))
        .draw()
        .map_err(|error| error.to_string())?;
    let span = series.rows.len().div_ceil(HEAT_COLUMNS_MAX).max(1);
    let width = span as f64 * series.interval_s;
    let cells = series.rows.chunks(span).enumerate().flat_map(|(index, rows)| {
        let left = index as f64 * width;
        heat_cells(rows).into_iter().map(move |(class, count)| {
            let corners = [(left, start(class + HEAT_CLASSES)), ((left + width).min(seconds), start(class))];
            Rectangle::new(corners, heat(count, most).filled())
        })
    });
    chart.draw_series(cells).map_err(|error| error.to_string())?;
    let p99 = series.rows.iter().enumerate().filter(|(_, row)| row.count > 0).map(|(index, sparse)| {
        ((index as f64 + 0.5) * series.interval_s, sparse.row().quantile_ns(0.99) as f64)
    });
    chart.draw_series(LineSeries::new(p99, COLORS[1].stroke_width(1))).map_err(|error| error.to_string())?;
    Ok(())
}

/// More columns are joined: a page of thousands of rectangles is slow to look at.
const HEAT_COLUMNS_MAX: usize = 120;
/// Classes that make one cell.
const HEAT_CLASSES: u16 = 2;

/// The answers of some rows by pairs of classes.
fn heat_cells(rows: &[SeriesRow]) -> Vec<(u16, u32)> {
    let mut cells = std::collections::BTreeMap::new();
    for (class, count) in rows.iter().flat_map(|row| &row.classes) {
        let cell: &mut u32 = cells.entry(class / HEAT_CLASSES * HEAT_CLASSES).or_default();
        *cell = cell.saturating_add(*count);
    }
    cells.into_iter().collect()
}

/// Pale for one answer, dark for the most, by the logarithm.
fn heat(count: u32, most: u32) -> RGBColor {
    let depth = f64::from(count).ln_1p() / f64::from(most).ln_1p();
    let shade = |pale: f64, dark: f64| (pale + (dark - pale) * depth) as u8;
    RGBColor(shade(225.0, 8.0), shade(236.0, 48.0), shade(247.0, 107.0))
}

fn over_time<B: DrawingBackend>(
    area: &Area<B>,
    result: &RunResult,
    plot: Plot,
    lines: &[(String, Vec<u64>)],
) -> Result<(), String> {
    let interval = result.series.interval_s.max(1e-9);
    // The last interval may be cut short by the end of the run.
    let whole = (result.elapsed_s / interval + 0.01) as usize;
    let rates = |rows: &[u64]| -> Vec<(f64, f64)> {
        let rates = rows.iter().take(whole.max(1)).enumerate();
        rates.map(|(index, count)| ((index as f64 + 0.5) * interval, *count as f64 / interval)).collect()
    };
    let high = lines.iter().flat_map(|(_, rows)| rates(rows)).map(|(_, rate)| rate).fold(1.0, f64::max);
    let seconds = (result.series.rows.len() as f64 * interval).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .caption(plot.title(), ("sans-serif", 16).into_font())
        .margin(8)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..seconds, 0.0..high * 1.1)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .x_label_formatter(&|at| format!("{at:.1} s"))
        .y_label_formatter(&|rate| rate_text(*rate))
        .light_line_style(WHITE.mix(0.0))
        .draw()
        .map_err(|error| error.to_string())?;
    for (index, (name, rows)) in lines.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        chart
            .draw_series(LineSeries::new(rates(rows), color.stroke_width(2)))
            .map_err(|error| error.to_string())?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| error.to_string())
}

/// A curve of a search: its name and what it tells of a run.
type Told = (&'static str, fn(&Latency) -> u64);

fn draw_steps<B: DrawingBackend>(area: &Area<B>, steps: &Steps) -> Result<(), String> {
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    let told: [Told; 3] = [("p50", |l| l.p50_ns), ("p99", |l| l.p99_ns), ("p99.9", |l| l.p999_ns)];
    let totals = || steps.runs.iter().map(|run| &run.total);
    let low = totals().map(|total| total.p50_ns).min().unwrap_or(1).max(1) as f64;
    let high = totals().map(|total| total.p999_ns).max().unwrap_or(10).max(10) as f64;
    let rates = || steps.runs.iter().map(|run| run.achieved_rate);
    let mut chart = ChartBuilder::on(area)
        .caption("Latency by throughput", ("sans-serif", 16).into_font())
        .margin(8)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..rates().fold(1.0, f64::max) * 1.05, (low * 0.8..high * 1.3).log_scale())
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .x_label_formatter(&|rate| format!("{}/s", rate_text(*rate)))
        .y_label_formatter(&|ns| duration_text(*ns))
        .light_line_style(WHITE.mix(0.0))
        .draw()
        .map_err(|error| error.to_string())?;
    for (index, (name, of)) in told.into_iter().enumerate() {
        let color = COLORS[index];
        let line = rates().zip(totals()).map(|(rate, total)| (rate, of(total).max(1) as f64));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)).point_size(3))
            .map_err(|error| error.to_string())?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| error.to_string())
}
