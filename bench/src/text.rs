//! Numbers as people read them.

/// Nanoseconds with a fitting unit and three digits.
pub(crate) fn duration_text(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A rate or count with a fitting unit and three digits.
pub(crate) fn rate_text(value: f64) -> String {
    match value {
        v if v < 1e3 => three_digits(v),
        v if v < 1e6 => format!("{} k", three_digits(v / 1e3)),
        v => format!("{} M", three_digits(v / 1e6)),
    }
}

/// A number of bytes with a binary unit.
pub(crate) fn bytes_text(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1024.0 => format!("{bytes} B"),
        b if b < 1_048_576.0 => format!("{:.1} KiB", b / 1024.0),
        b if b < 1_073_741_824.0 => format!("{:.1} MiB", b / 1_048_576.0),
        b => format!("{:.2} GiB", b / 1_073_741_824.0),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A count with thousands apart: 1 234 567.
pub(crate) fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// An instant as `2026-11-20 17:05:09 UTC`.
pub(crate) fn time_text(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days from civil, backwards: eras of 400 years that begin in March (Hinnant).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::{bytes_text, count_text, duration_text, rate_text, time_text};

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(duration_text(999.0), "999 ns");
        assert_eq!(duration_text(12_345.0), "12.3 us");
        assert_eq!(duration_text(2.5e9), "2.50 s");
        assert_eq!(rate_text(9_060_000.0), "9.06 M");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!((count_text(1_234_567), count_text(12)), ("1 234 567".to_owned(), "12".to_owned()));
    }

    #[test]
    fn instants_are_dates() {
        assert_eq!(time_text(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time_text(1_709_210_096_000), "2024-02-29 12:34:56 UTC");
        assert_eq!(time_text(1_767_225_599_000), "2025-12-31 23:59:59 UTC");
    }
}
