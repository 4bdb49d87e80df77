//! Sizes and lives for traces that tell none: synthetic, but the same for everybody who uses this rule.
//!
//! A size is a function of the key alone: six classes from 48 bytes to 64 KiB, median about 280, mean
//! about 1700. A life is one of a minute, ten minutes, an hour and a day, each alike, in a trace that is
//! taken to be a day long; a replay that takes less has its lives shortened by the same factor.

use super::keys::mix;
use super::ttl::duration_ms;

/// What is laid over a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Overlay {
    pub(crate) sizes: bool,
    pub(crate) ttls: bool,
    /// What the trace's day takes in the replay, ms.
    day_ms: u64,
}

const DAY_MS: u64 = 86_400_000;
/// No size is larger.
pub(crate) const SIZE_MAX: usize = 65_536;
/// The sizes' own sequence of hashes.
const SIZE_SALT: u64 = 0x5249_4e47_4c41_4e45;
const LIFE_SALT: u64 = 77;
const LIVES_S: [u64; 4] = [60, 600, 3600, 86_400];
/// The upper end of each class in 2^-16, and the sizes in it.
const CLASSES: [(u64, u64, u64); 6] = [
    (16_384, 48, 96),
    (32_768, 96, 280),
    (49_152, 280, 640),
    (58_982, 640, 2400),
    (64_226, 2400, 10_240),
    (65_536, 10_240, 65_536),
];

impl Overlay {
    pub(crate) const NONE: Self = Self { sizes: false, ttls: false, day_ms: DAY_MS };

    /// `sizes`, `ttls` or `sizes,ttls`, and how long a day takes.
    pub(crate) fn new(parts: Option<&str>, day: Option<&str>) -> Result<Self, String> {
        let mut this = Self::NONE;
        for part in parts.into_iter().flat_map(|parts| parts.split(',')) {
            match part.trim() {
                "sizes" => this.sizes = true,
                "ttls" => this.ttls = true,
                _ => return Err(format!("`{part}` is no overlay: use sizes, ttls or sizes,ttls")),
            }
        }
        if let Some(day) = day {
            this.day_ms = duration_ms(day)
                .filter(|ms| (1..=DAY_MS).contains(ms))
                .ok_or_else(|| format!("`{day}` is no length of a day: use 1ms to 1d"))?;
        }
        Ok(this)
    }

    /// A life in the replay's time, at least 1 ms.
    pub(crate) fn scaled_ms(&self, life_s: u64) -> u64 {
        (life_s * self.day_ms / (DAY_MS / 1000)).max(1)
    }
}

/// Bytes of the value of `key`.
pub(crate) fn size_of(key: u64) -> usize {
    let hash = mix(key ^ SIZE_SALT);
    let (class, place) = (hash >> 48, hash & 0xffff_ffff);
    let (_, low, high) =
        CLASSES.into_iter().find(|(end, ..)| class < *end).expect("the last class ends where 16 bits do");
    (low + (((high - low) * place) >> 32)) as usize
}

/// Seconds that the item of `key` lives.
pub(crate) fn life_s(key: u64) -> u64 {
    LIVES_S[(mix(key ^ LIFE_SALT) & 3) as usize]
}

#[cfg(test)]
mod tests {
    use super::{Overlay, life_s, size_of};

    #[test]
    fn sizes_and_lives_are_those_that_others_compute() {
        let known =
            [(0, 467, 600), (1, 94, 3600), (2, 2329, 86_400), (12_345, 434, 3600), (3_735_928_559, 50, 600)];
        for (key, size, life) in known {
            assert_eq!((size_of(key), life_s(key)), (size, life), "{key}");
        }
    }

    #[test]
    fn a_short_day_shortens_lives() {
        let overlay = Overlay::new(Some("sizes, ttls"), Some("60s")).unwrap();
        assert!(overlay.sizes && overlay.ttls);
        assert_eq!((overlay.scaled_ms(86_400), overlay.scaled_ms(60), overlay.scaled_ms(1)), (60_000, 41, 1));
        assert_eq!(Overlay::NONE.scaled_ms(60), 60_000);
        assert!(Overlay::new(Some("keys"), None).is_err() && Overlay::new(None, Some("2d")).is_err());
    }
}
