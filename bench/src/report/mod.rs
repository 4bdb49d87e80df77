//! A result as people want it: tables, curves, plots, pages.

mod bitmap;
pub(crate) mod curve;
mod html;
mod plots;
mod tables;
pub(crate) mod terminal;

use std::path::Path;

use crate::error::BenchError;
use crate::result::RunResult;
use crate::search::Steps;

/// Writes every form of the report into `folder`: HTML, plots as SVG and PNG, HGRM and CSV.
pub(crate) fn write_all(result: &RunResult, folder: &Path, name: &str) -> Result<(), BenchError> {
    std::fs::create_dir_all(folder).map_err(|error| BenchError::file(folder, error))?;
    let write = |suffix: &str, bytes: &[u8]| {
        let path = folder.join(format!("{name}{suffix}"));
        std::fs::write(&path, bytes).map_err(|error| BenchError::file(path, error))
    };
    let broken = |problem: String| BenchError::file(name, problem);
    for latency in result.operations.iter().chain([&result.total]).chain(&result.service) {
        let text = tables::hgrm(&latency.histogram().map_err(broken)?);
        write(&format!(".{}.hgrm", latency.name), text.as_bytes())?;
    }
    write(".percentiles.csv", tables::percentiles_csv(result).map_err(broken)?.as_bytes())?;
    write(".series.csv", tables::series_csv(result).as_bytes())?;
    write(".html", html::page(result).map_err(broken)?.as_bytes())?;
    for plot in plots::Plot::ALL {
        write(&format!(".{}.svg", plot.name()), plots::svg(result, plot).map_err(broken)?.as_bytes())?;
        let path = folder.join(format!("{name}.{}.png", plot.name()));
        plots::png(result, plot, &path).map_err(|error| BenchError::file(&path, error))?;
    }
    Ok(())
}

/// Writes a search into `folder`: its curve, and its best step as a run of its own.
pub(crate) fn write_search(steps: &Steps, folder: &Path) -> Result<(), BenchError> {
    write_steps(steps, folder)?;
    match steps.best.and_then(|best| steps.runs.get(best)) {
        Some(best) => write_all(best, folder, "best"),
        None => Ok(()),
    }
}

/// Writes the curve of a search: SVG, PNG and CSV.
fn write_steps(steps: &Steps, folder: &Path) -> Result<(), BenchError> {
    std::fs::create_dir_all(folder).map_err(|error| BenchError::file(folder, error))?;
    let path = |suffix: &str| folder.join(format!("{}.{suffix}", steps.kind));
    let write = |suffix: &str, text: &str| {
        std::fs::write(path(suffix), text).map_err(|error| BenchError::file(path(suffix), error))
    };
    write("csv", &steps.csv())?;
    write("svg", &plots::steps_svg(steps).map_err(|problem| BenchError::file(path("svg"), problem))?)?;
    plots::steps_png(steps, &path("png")).map_err(|problem| BenchError::file(path("png"), problem))
}
