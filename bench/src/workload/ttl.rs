//! How long written items live.

use pinnace_types::Prng;

/// A distribution of lives, in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TtlDistribution {
    /// For ever.
    None,
    /// Evenly between two bounds, both included.
    Uniform { min_ms: u64, max_ms: u64 },
    /// One of these, each alike.
    Choice(Vec<u64>),
}

impl TtlDistribution {
    /// `none`, `60s`, `10s-5m` or `1m,10m,1h`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no TTL distribution: use none, 60s, 10s-5m or 1m,10m,1h");
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some((min, max)) = text.split_once('-') {
            let (min_ms, max_ms) = duration_ms(min).zip(duration_ms(max)).ok_or_else(wrong)?;
            return if min_ms <= max_ms { Ok(Self::Uniform { min_ms, max_ms }) } else { Err(wrong()) };
        }
        text.split(',').map(duration_ms).collect::<Option<Vec<u64>>>().map(Self::Choice).ok_or_else(wrong)
    }

    /// A life, or 0 for ever.
    #[inline]
    pub(crate) fn draw_ms(&self, prng: &mut Prng) -> u64 {
        match self {
            Self::None => 0,
            Self::Uniform { min_ms, max_ms } => min_ms + prng.below(max_ms - min_ms + 1),
            Self::Choice(lives) => lives[prng.below(lives.len() as u64) as usize],
        }
    }
}

/// A duration with its unit: `250ms`, `60s`, `5m`, `1h`, `2d`; bare numbers are seconds.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let factor = match &text[unit..] {
        "ms" => 1.0,
        "" | "s" => 1e3,
        "m" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    let ms = text[..unit].parse::<f64>().ok()? * factor;
    (ms.is_finite() && ms < 1e13).then_some(ms.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::{TtlDistribution, duration_ms};
    use pinnace_types::Prng;

    #[test]
    fn lives_are_drawn_from_what_was_named() {
        let mut prng = Prng::new(1);
        let mut draw = |text| TtlDistribution::parse(text).unwrap().draw_ms(&mut prng);
        assert_eq!(draw("none"), 0);
        assert_eq!(draw("250ms"), 250);
        assert!((10_000..=300_000).contains(&draw("10s-5m")));
        assert!([60_000, 3_600_000].contains(&draw("1m,1h")));
        assert_eq!(duration_ms("1.5"), Some(1500));
        assert!(TtlDistribution::parse("5m-1s").is_err() && TtlDistribution::parse("soon").is_err());
    }
}
