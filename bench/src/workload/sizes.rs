//! Value-size distributions: fixed, uniform, log-normal, or a histogram.
//!
//! A size is a function of a hash, not of a generator's state: the same key has the same size always.

/// How sizes are spread.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SizeDistribution {
    /// Always this many bytes.
    Fixed(usize),
    /// Evenly between two bounds, both included.
    Uniform { min: usize, max: usize },
    /// Log-normal with this median and spread, cut off at `max`: the usual shape of caches.
    LogNormal { median: f64, sigma: f64, max: usize },
    /// Sizes with weights, as measured somewhere.
    Histogram(SizeHistogram),
}

/// Sizes and the sums of their weights in 2^-32.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SizeHistogram {
    upto: Vec<u32>,
    bytes: Vec<usize>,
}

/// No value may be larger: 512 MiB, as in Redis.
const BYTES_MAX: usize = 512 << 20;

impl SizeDistribution {
    /// `100`, `10-200`, `lognormal:MEDIAN,SIGMA[,MAX]` or `hist:SIZE=WEIGHT,...`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no size distribution: use 100, 10-200, lognormal:MEDIAN,SIGMA[,MAX] or hist:SIZE=WEIGHT,..."
            )
        };
        let this = if let Some(rest) = text.strip_prefix("lognormal:") {
            let numbers: Vec<f64> =
                rest.split(',').map(|n| n.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
            let (median, sigma, max) = match numbers[..] {
                [median, sigma] => (median, sigma, 1_048_576.0),
                [median, sigma, max] => (median, sigma, max),
                _ => return Err(wrong()),
            };
            if !(median >= 1.0 && (0.0..=10.0).contains(&sigma) && max >= median) {
                return Err(wrong());
            }
            Self::LogNormal { median, sigma, max: max as usize }
        } else if let Some(rest) = text.strip_prefix("hist:") {
            Self::Histogram(SizeHistogram::parse(rest).ok_or_else(wrong)?)
        } else if let Some((min, max)) = text.split_once('-') {
            let (min, max) = (bytes(min).ok_or_else(wrong)?, bytes(max).ok_or_else(wrong)?);
            if min > max {
                return Err(wrong());
            }
            Self::Uniform { min, max }
        } else {
            Self::Fixed(bytes(text).ok_or_else(wrong)?)
        };
        if this.bytes_max() > BYTES_MAX {
            return Err(format!("`{text}`: values larger than 512 MiB are not supported"));
        }
        Ok(this)
    }

    /// The size that belongs to `hash`.
    #[inline]
    pub(crate) fn bytes(&self, hash: u64) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { min, max } => {
                min + ((u128::from(hash) * (*max - *min + 1) as u128) >> 64) as usize
            }
            Self::LogNormal { median, sigma, max } => {
                ((median * (sigma * standard_normal(hash)).exp()) as usize).clamp(1, *max)
            }
            Self::Histogram(histogram) => histogram.bytes((hash >> 32) as u32),
        }
    }

    /// The largest size.
    pub(crate) fn bytes_max(&self) -> usize {
        match self {
            Self::Fixed(max) | Self::Uniform { max, .. } | Self::LogNormal { max, .. } => *max,
            Self::Histogram(histogram) => histogram.bytes.iter().copied().max().unwrap_or(0),
        }
    }
}

impl SizeHistogram {
    fn parse(text: &str) -> Option<Self> {
        let mut pairs = Vec::new();
        for pair in text.split(',') {
            let (size, weight) = pair.split_once('=')?;
            let weight: f64 = weight.trim().parse().ok().filter(|w: &f64| w.is_finite() && *w >= 0.0)?;
            pairs.push((bytes(size)?, weight));
        }
        let total: f64 = pairs.iter().map(|pair| pair.1).sum();
        if total <= 0.0 {
            return None;
        }
        let mut sum = 0.0;
        let mut this = Self { upto: Vec::new(), bytes: Vec::new() };
        for (bytes, weight) in pairs {
            sum += weight;
            this.upto.push((sum / total * f64::from(u32::MAX)).round() as u32);
            this.bytes.push(bytes);
        }
        Some(this)
    }

    fn bytes(&self, point: u32) -> usize {
        let index = self.upto.partition_point(|&upto| upto < point);
        self.bytes[index.min(self.bytes.len() - 1)]
    }
}

/// A size with an optional unit: `100`, `4k`, `1M`.
fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// A draw from the standard normal distribution (Box and Muller 1958) out of one hash.
fn standard_normal(hash: u64) -> f64 {
    let first = ((hash >> 32) as f64 + 1.0) / 4_294_967_297.0;
    let second = (hash & 0xffff_ffff) as f64 / 4_294_967_296.0;
    (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}

#[cfg(test)]
mod tests {
    use super::SizeDistribution;
    use crate::workload::keys::mix;

    fn sorted(text: &str) -> Vec<usize> {
        let sizes = SizeDistribution::parse(text).unwrap();
        let mut drawn: Vec<usize> = (0..20_000).map(|n| sizes.bytes(mix(n))).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn distributions_have_the_shape_they_are_named_for() {
        assert_eq!(sorted("4k")[0], 4096);
        let uniform = sorted("10-19");
        assert_eq!((uniform[0], uniform[19_999]), (10, 19));
        assert!((13..=15).contains(&uniform[10_000]));

        let log_normal = sorted("lognormal:200,1.0,100000");
        assert!((190..=210).contains(&log_normal[10_000]), "median {}", log_normal[10_000]);
        // One standard deviation up is the 84.13th percentile: 200 * e.
        assert!((515..=575).contains(&log_normal[16_827]), "{}", log_normal[16_827]);

        let histogram = sorted("hist:10=1,100=2,1000=1");
        let tens = histogram.iter().filter(|&&bytes| bytes == 10).count();
        let hundreds = histogram.iter().filter(|&&bytes| bytes == 100).count();
        assert!((4800..5200).contains(&tens) && (9700..10_300).contains(&hundreds), "{tens} {hundreds}");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            ["", "x", "9-1", "lognormal:1", "lognormal:0,1", "hist:", "hist:1", "hist:1=0", "1G", "600M"]
        {
            assert!(SizeDistribution::parse(bad).is_err(), "{bad}");
        }
    }
}
