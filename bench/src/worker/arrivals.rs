//! When an open loop's requests are due, whatever the server does.

use pinnace_types::Prng;

/// How the times between requests are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// All alike.
    Constant,
    /// Exponential: independent users, the harder and truer load.
    Poisson,
}

/// The due times of one thread.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    /// Mean time between requests, ns.
    gap_ns: f64,
    spacing: Spacing,
    /// The next due time; kept as a fraction so that rounding does not change the rate.
    next: f64,
    prng: Prng,
}

impl Arrivals {
    /// Due times from `start` on, `rate` a second.
    pub(super) fn new(start: u64, rate: f64, spacing: Spacing, seed: u64) -> Self {
        let mut this =
            Self { gap_ns: 1e9 / rate, spacing, next: start as f64, prng: Prng::new(seed ^ 0x6172_7269) };
        // Threads do not start in step with each other.
        this.next += this.prng.unit_f64() * this.gap_ns;
        this
    }

    /// When the next request is due.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next as u64
    }

    /// Takes the next request.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.next += match self.spacing {
            Spacing::Constant => self.gap_ns,
            Spacing::Poisson => -self.gap_ns * (1.0 - self.prng.unit_f64()).ln(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Spacing};

    fn gaps(spacing: Spacing) -> Vec<u64> {
        let mut arrivals = Arrivals::new(1_000_000, 10_000.0, spacing, 3);
        let times: Vec<u64> = (0..=100_000)
            .map(|_| {
                let due = arrivals.next();
                arrivals.advance();
                due
            })
            .collect();
        assert!(times[0] >= 1_000_000);
        let span = (times[100_000] - times[0]) as f64;
        assert!((0.98e10..1.02e10).contains(&span), "the rate is kept: {span}");
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn constant_gaps_are_equal_and_poisson_gaps_are_exponential() {
        assert!(gaps(Spacing::Constant).iter().all(|gap| (99_999..=100_001).contains(gap)));
        let poisson = gaps(Spacing::Poisson);
        let over = |limit: u64| poisson.iter().filter(|&&gap| gap > limit).count() as f64 / 100_000.0;
        // P(gap > k * mean) is e^-k.
        assert!((over(100_000) - 0.3679).abs() < 0.01 && (over(300_000) - 0.0498).abs() < 0.004);
    }
}
