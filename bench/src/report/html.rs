//! One page with everything, that needs nothing from elsewhere: plots are inline SVG.

use std::fmt::Write as _;

use super::curve::ascii;
use super::plots::{Plot, svg};
use super::terminal;
use crate::result::{Latency, RunResult};
use crate::text::{bytes_text, count_text, duration_text, rate_text, time_text};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#1b2733;max-width:960px;margin:2em auto;padding:0 1em}\
h1{font-size:1.5em;margin-bottom:.2em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ccd}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.15em .7em;text-align:right;\
border-bottom:1px solid #e4e8ee;font-weight:400}th{color:#567;text-align:right}td:first-child,th:first-child{\
text-align:left}.text td{text-align:left;vertical-align:top;overflow-wrap:anywhere}.warn{background:#fff1e0;\
border-left:5px solid #d9480f;padding:.5em 1em;margin:1em 0}.note{color:#567}pre{background:#f4f6f9;padding:1em;\
overflow-x:auto;font-size:12px}svg{max-width:100%;height:auto}";

/// The page.
pub(crate) fn page(result: &RunResult) -> Result<String, String> {
    let mut out = String::new();
    let title =
        format!("{} on {}", result.workload.mix.as_deref().unwrap_or("load"), result.targets.join(", "));
    // Writing to a string cannot fail; results of `write!` are dropped for that reason throughout.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>pinnace-bench: {0}</title><style>{STYLE}</style></head><body>\n\
         <h1>{0}</h1>\n<p class=\"note\">{1}, {2}, seed {3}</p>\n",
        escape(&title),
        escape(&result.server),
        time_text(result.started_unix_ms),
        result.seed,
    );
    warnings(&mut out, result);
    summary(&mut out, result);
    latencies(&mut out, result);
    for plot in Plot::ALL {
        let _ = write!(out, "<h2>{}</h2>\n{}\n", plot.title(), svg(result, plot)?);
    }
    let curve = ascii(&result.total.histogram()?);
    let _ = write!(out, "<h2>The same in characters</h2>\n<pre>{}</pre>\n", escape(&curve));
    pairs(&mut out, "Generator", &generator(result));
    if let Some(server) = &result.server_side {
        let mut lines = vec![
            ("process", format!("{}, pid {:?}", server.name, server.pids)),
            ("CPU time a request", duration_text(server.cpu_ns_per_request)),
            ("CPUs in use", format!("{:.2}", server.cpus_used)),
            ("resident memory", bytes_text(server.resident_bytes)),
        ];
        let own = server.reported_latency.clone();
        lines.push(("latency by its own account", own.unwrap_or_else(|| "none reported".to_owned())));
        pairs(&mut out, "Server", &lines);
    }
    pairs(&mut out, "Workload", &workload(result));
    pairs(&mut out, "Machine", &result.environment.lines());
    pairs(&mut out, "How to repeat it", &repeat(result));
    out.push_str("</body></html>\n");
    Ok(out)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn warnings(out: &mut String, result: &RunResult) {
    if !result.complete {
        out.push_str(
            "<div class=\"warn\"><b>Partial result:</b> not everything asked for was measured.</div>\n",
        );
    }
    for warning in &result.warnings {
        let _ = writeln!(out, "<div class=\"warn\">{}</div>", escape(warning));
    }
    for (what, times) in &result.failures {
        let _ = writeln!(out, "<div class=\"warn\">{} &times; {}</div>", count_text(*times), escape(what));
    }
}

fn summary(out: &mut String, result: &RunResult) {
    let counts = &result.counts;
    let load = &result.load;
    let offered = match load.offered_rate {
        Some(rate) => {
            format!("open loop ({}), {} /s offered", load.mode.trim_start_matches("open-"), rate_text(rate))
        }
        None => format!("closed loop, {} in flight a connection", load.depth),
    };
    let lines = [
        ("load", format!("{offered}, {} connections, {} threads", load.connections, load.threads)),
        (
            "answers",
            format!(
                "{} in {:.2} s: {} /s",
                count_text(counts.answered),
                result.elapsed_s,
                rate_text(result.achieved_rate)
            ),
        ),
        ("hits, misses, refused", format!("{}, {}, {}", counts.hits, counts.misses, counts.refused)),
        (
            "errors, timeouts, lost, unsent",
            format!("{}, {}, {}, {}", counts.errors, counts.timeouts, counts.lost, counts.unsent),
        ),
        ("wrong answers", format!("{} of {} values checked", counts.wrong, count_text(counts.verified))),
    ];
    pairs(out, "Summary", &lines);
}

fn latencies(out: &mut String, result: &RunResult) {
    out.push_str("<h2>Latency</h2>\n<table><tr><th></th>");
    for column in ["count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max"] {
        let _ = write!(out, "<th>{column}</th>");
    }
    out.push_str("</tr>\n");
    for latency in result.operations.iter().chain([&result.total]).chain(&result.service) {
        latency_row(out, latency);
    }
    let _ = writeln!(out, "</table>\n<p class=\"note\">{}</p>", escape(terminal::omission_note(result)));
}

fn latency_row(out: &mut String, latency: &Latency) {
    let _ = write!(out, "<tr><td>{}</td><td>{}</td>", escape(&latency.name), count_text(latency.count));
    let exact = [
        latency.p50_ns,
        latency.p90_ns,
        latency.p99_ns,
        latency.p999_ns,
        latency.p9999_ns,
        latency.p99999_ns,
        latency.max_ns,
    ];
    for ns in std::iter::once(latency.mean_ns).chain(exact.map(|ns| ns as f64)) {
        let _ = write!(out, "<td>{}</td>", duration_text(ns));
    }
    out.push_str("</tr>\n");
}

fn generator(result: &RunResult) -> Vec<(&'static str, String)> {
    let generator = &result.generator;
    let threads = generator.threads.iter().enumerate().map(|(index, thread)| {
        let core = thread.core.map_or_else(|| "any core".to_owned(), |core| format!("core {core}"));
        format!(
            "{index} on {core}: {} answers, {:.0} % busy, {:.1} % waiting for the CPU",
            count_text(thread.answered),
            thread.busy_share * 100.0,
            thread.waiting_share * 100.0
        )
    });
    let mut lines = vec![
        ("CPU time a request", duration_text(generator.cpu_ns_per_request)),
        ("busiest thread", format!("{:.0} % busy", generator.busy_share * 100.0)),
        ("bottleneck", generator.bottleneck.clone()),
        ("threads", threads.collect::<Vec<_>>().join("; ")),
    ];
    if let Some(lag) = &generator.lag {
        let (p99, max) = (duration_text(lag.p99_ns as f64), duration_text(lag.max_ns as f64));
        lines.push(("requests handed over late", format!("p99 {p99}, max {max}")));
        lines.push(("held back by full windows", count_text(generator.held_back)));
    }
    lines
}

fn workload(result: &RunResult) -> Vec<(&'static str, String)> {
    let spec = &result.workload;
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "as needed".to_owned());
    let mut lines = vec![
        ("mix", said(&spec.mix)),
        ("keys", spec.keys.map_or_else(String::new, count_text)),
        ("key size", said(&spec.key_size)),
        ("value size", said(&spec.value_size)),
        ("popularity", said(&spec.popularity)),
        ("life", said(&spec.ttl)),
        ("cache-aside", spec.cache_aside.unwrap_or(false).to_string()),
    ];
    if let Some(preset) = &spec.preset {
        lines.insert(0, ("preset", preset.clone()));
    }
    if let Some(trace) = &spec.trace {
        lines.insert(0, ("trace", trace.display().to_string()));
    }
    lines
}

fn repeat(result: &RunResult) -> Vec<(&'static str, String)> {
    vec![
        ("command line", result.command_line.join(" ")),
        ("version", result.tool_version.clone()),
        ("commit", result.commit.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("server", result.server.clone()),
        ("started", time_text(result.started_unix_ms)),
    ]
}

fn pairs(out: &mut String, title: &str, lines: &[(&str, String)]) {
    let _ = writeln!(out, "<h2>{title}</h2>\n<table class=\"text\">");
    for (name, value) in lines {
        let value = escape(value).replace('\n', "<br>");
        let _ = writeln!(out, "<tr><td class=\"note\">{}</td><td>{value}</td></tr>", escape(name));
    }
    out.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn a_servers_words_cannot_become_markup() {
        assert_eq!(escape("<script>&\""), "&lt;script&gt;&amp;&quot;");
    }
}
