//! Values of settings that are more than a number: time spans, core selections, memory, modes.
//!
//! Each parses from the same text on the command line, in a variable and in a file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use pinnace_types::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time span written with its unit: `50us`, `1500ms`, `30s`, `5m`, `1h`; `0` needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// Longest first, so that `ms` is not read as minutes.
const SPAN_UNITS: [(&str, u64); 5] =
    [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!("'{text}' is not a time span: write a number and us, ms, s, m or h, as in 50us or 30s")
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = text[..digits].parse().map_err(|_| refuse())?;
        if text[digits..].is_empty() && number == 0 {
            return Ok(Self(Duration::ZERO));
        }
        let (_, unit_ns) = SPAN_UNITS.iter().find(|(unit, _)| *unit == &text[digits..]).ok_or_else(refuse)?;
        number.checked_mul(*unit_ns).map(|ns| Self(Duration::from_nanos(ns))).ok_or_else(refuse)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let fits = |unit_ns: u64| ns.is_multiple_of(u128::from(unit_ns));
        match SPAN_UNITS.iter().rev().find(|(_, unit_ns)| ns > 0 && fits(*unit_ns)) {
            Some((unit, unit_ns)) => write!(f, "{}{unit}", ns / u128::from(*unit_ns)),
            None => f.write_str("0"),
        }
    }
}

/// Which CPUs get a core thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CoreSelection {
    /// All that affinity and the cgroup's CPU quota allow.
    Auto,
    /// The first so many of the allowed ones.
    Count(u16),
    /// Exactly these CPUs, ascending, each once.
    List(Vec<usize>),
}

impl FromStr for CoreSelection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "'{text}' is not a core selection: write auto, a number such as 2, or a list such as 0,2-3 or 1,"
            )
        };
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Ok(count) = text.parse::<u16>() {
            return if count == 0 { Err(refuse()) } else { Ok(Self::Count(count)) };
        }
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u16 = first.trim().parse().map_err(|_| refuse())?;
            let last: u16 = last.trim().parse().map_err(|_| refuse())?;
            if last < first {
                return Err(refuse());
            }
            cpus.extend((first..=last).map(usize::from));
        }
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.is_empty() { Err(refuse()) } else { Ok(Self::List(cpus)) }
    }
}

impl fmt::Display for CoreSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
            Self::List(cpus) => f.write_str(&cpu_list(cpus)),
        }
    }
}

/// CPUs as a list that [`CoreSelection`] reads back: `0,2-3`; one CPU keeps a comma, since `1` is a count.
pub(crate) fn cpu_list(cpus: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for run in cpus.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [one] => parts.push(one.to_string()),
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    match parts.as_slice() {
        [one] if !one.contains('-') => format!("{one},"),
        _ => parts.join(","),
    }
}

/// How much memory the node may use for items and their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemorySetting {
    /// A share of what the host or cgroup has.
    Auto,
    /// Exactly this.
    Bytes(ByteSize),
}

impl FromStr for MemorySetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Bytes).map_err(|error: pinnace_types::ParseSizeError| error.to_string())
    }
}

impl fmt::Display for MemorySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => write!(f, "{}", size.0),
        }
    }
}

/// Serde through the text form; files may also give a bare number (or, for cores, a list of numbers).
macro_rules! serde_as_text {
    ($type:ty, $expecting:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> de::Visitor<'de> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<$type, A::Error> {
                        let mut text = String::new();
                        while let Some(number) = seq.next_element::<u64>()? {
                            text.push_str(&format!("{number},"));
                        }
                        text.parse().map_err(de::Error::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

serde_as_text!(Span, "a time span such as 50us, 30s or 5m");
serde_as_text!(CoreSelection, "auto, a number of cores, or a list such as \"0,2-3\"");
serde_as_text!(MemorySetting, "auto or a size such as 4GiB");

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Once it is in memory; a restart starts empty.
    None,
    /// Once it is handed to the log, which is synced every few ms.
    Async,
    /// Once the log is synced.
    Sync,
}

/// What a write meets when the budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// Older items make room.
    Evict,
    /// The write fails with OOM, reads go on.
    Reject,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// One readable line an event, and the banner.
    Text,
    /// One JSON object an event, no banner.
    Json,
}

#[cfg(test)]
mod tests {
    use super::{CoreSelection, MemorySetting, Span, cpu_list};
    use std::time::Duration;

    #[test]
    fn spans_read_back_what_they_print() {
        for text in ["0", "50us", "1500ms", "30s", "5m", "2h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse(), Ok(Span(Duration::from_secs(90))));
        for text in ["", "5", "s", "5 s", "-1s", "1.5s", "5d", "99999999999999999999s", "99999999999999h"] {
            assert!(text.parse::<Span>().unwrap_err().contains("30s"), "{text}");
        }
    }

    #[test]
    fn core_selections_are_counts_or_lists() {
        let list = |cpus: &[usize]| Ok(CoreSelection::List(cpus.to_vec()));
        assert_eq!("2".parse(), Ok(CoreSelection::Count(2)));
        assert_eq!("1,".parse(), list(&[1]));
        assert_eq!("3,0,2-3".parse(), list(&[0, 2, 3]));
        assert_eq!("4-6".parse(), list(&[4, 5, 6]));
        for text in ["", "0", "a", "3-1", "-1", "1,x", ",", "1-"] {
            assert!(text.parse::<CoreSelection>().is_err(), "{text}");
        }
    }

    #[test]
    fn cpu_lists_read_back_what_they_print() {
        for cpus in [&[3][..], &[0, 2, 3], &[0, 1, 2, 3], &[0, 5, 9]] {
            assert_eq!(cpu_list(cpus).parse(), Ok(CoreSelection::List(cpus.to_vec())));
        }
    }

    #[test]
    fn memory_is_auto_or_a_size() {
        assert_eq!("auto".parse(), Ok(MemorySetting::Auto));
        assert_eq!("1k".parse(), Ok(MemorySetting::Bytes(pinnace_types::ByteSize(1024))));
        assert!("lots".parse::<MemorySetting>().unwrap_err().contains("lots"));
    }
}
