//! What became of every key.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Keys shown of each sort.
const EXAMPLES_MAX: usize = 3;
/// Characters shown of a key.
const EXAMPLE_CHARS_MAX: usize = 60;

/// Keys that were not imported for one reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct LeftOut {
    pub(super) count: u64,
    examples: Vec<String>,
}

impl LeftOut {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }

    fn line(&self, name: &str) -> String {
        let more = if self.count > self.examples.len() as u64 { ", ..." } else { "" };
        let examples = self.examples.join(", ");
        format!("  {:>9}  {name}: {examples}{more}", self.count)
    }
}

/// Counts of an import.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) imported: u64,
    imported_with_deadline: u64,
    /// The node had them (`--keep`).
    pub(super) kept: u64,
    /// Their deadline had passed before they could be imported.
    pub(super) expired: u64,
    /// A live server listed them and had them no more when asked.
    pub(super) vanished: u64,
    pub(super) refused: LeftOut,
    left_out: BTreeMap<String, LeftOut>,
    /// What is worth knowing beside counts.
    #[serde(skip)]
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn imported(&mut self, has_deadline: bool) {
        self.imported += 1;
        self.imported_with_deadline += u64::from(has_deadline);
    }

    pub(super) fn refused(&mut self, key: &[u8], error: &str) {
        self.refused.add(|| format!("{} ({error})", shown(key)));
    }

    /// Counts a key that a node cannot hold, under what it is.
    pub(super) fn leave_out(&mut self, what: &str, key: &[u8]) {
        if !self.left_out.contains_key(what) {
            self.left_out.insert(what.to_owned(), LeftOut::default());
        }
        if let Some(left_out) = self.left_out.get_mut(what) {
            left_out.add(|| shown(key));
        }
    }

    pub(super) fn left_out_count(&self) -> u64 {
        self.left_out.values().map(|left_out| left_out.count).sum()
    }

    /// The report as its reader sees it.
    pub(super) fn text(&self, target: &str, took: Duration) -> String {
        let mut text = format!(
            "imported {} keys into {target} in {:.1} s, {} of them with a deadline\n",
            self.imported,
            took.as_secs_f64(),
            self.imported_with_deadline
        );
        let mut line = |text_line: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{text_line}");
        };
        for (count, what) in [
            (self.expired, "had expired already"),
            (self.kept, "were there already and were kept"),
            (self.vanished, "were gone before they could be read"),
        ] {
            if count > 0 {
                line(format!("  {count:>9}  {what}"));
            }
        }
        if self.refused.count > 0 {
            line("refused by the node:".to_owned());
            line(self.refused.line("keys"));
        }
        if !self.left_out.is_empty() {
            line("left out:".to_owned());
            self.left_out.iter().for_each(|(what, left_out)| line(left_out.line(what)));
        }
        self.notes.iter().for_each(|note| line(format!("note: {note}")));
        text
    }
}

/// A key for people: printable, and not too long.
fn shown(key: &[u8]) -> String {
    let mut text: String = key.escape_ascii().take(EXAMPLE_CHARS_MAX).map(char::from).collect();
    if key.escape_ascii().count() > EXAMPLE_CHARS_MAX {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Report;
    use std::time::Duration;

    #[test]
    fn a_report_tells_every_sort_with_examples() {
        let mut report = Report { expired: 2, kept: 1, ..Report::default() };
        report.imported(true);
        report.imported(false);
        (0..5).for_each(|number| report.leave_out("list", format!("queue:{number}\n").as_bytes()));
        report.leave_out("hash", &[b'h'; 100]);
        report.refused(b"big", "ERR too long");
        assert_eq!(report.left_out_count(), 6);
        let text = report.text("cache:7700", Duration::from_millis(1500));
        for line in [
            "imported 2 keys into cache:7700 in 1.5 s, 1 of them with a deadline",
            "          2  had expired already",
            "          1  were there already and were kept",
            "          1  keys: big (ERR too long)",
            r"          5  list: queue:0\n, queue:1\n, queue:2\n, ...",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert!(text.contains(&format!("hash: {}...", "h".repeat(60))) && !text.contains("gone"), "{text}");
    }
}
