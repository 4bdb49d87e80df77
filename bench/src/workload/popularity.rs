//! Which key a request is for: uniform, Zipf, hot set, or latest.

use pinnace_types::Prng;

/// How requests are spread over the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Popularity {
    /// Every key alike.
    Uniform,
    /// The key of rank r is asked for in proportion to r^-exponent.
    Zipf { exponent: f64 },
    /// A share of the requests goes to a share of the keys.
    HotSet { keys: f64, requests: f64 },
    /// Zipf over age: the newest key is the most popular.
    Latest { exponent: f64 },
}

impl Popularity {
    /// `uniform`, `zipf[:EXPONENT]`, `hot:KEYS%,REQUESTS%` or `latest[:EXPONENT]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no popularity: use uniform, zipf[:EXPONENT], hot:KEYS%,REQUESTS% or latest[:EXPONENT]"
            )
        };
        let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
        let exponent = || match parameters {
            "" => Ok(0.99),
            _ => parameters.parse().ok().filter(|e: &f64| (0.0..=10.0).contains(e)).ok_or_else(wrong),
        };
        match name {
            "uniform" if parameters.is_empty() => Ok(Self::Uniform),
            "zipf" => Ok(Self::Zipf { exponent: exponent()? }),
            "latest" => Ok(Self::Latest { exponent: exponent()? }),
            "hot" => {
                let share = |text: &str| {
                    let percent: f64 = text.trim().trim_end_matches('%').parse().ok()?;
                    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
                };
                let (keys, requests) = parameters.split_once(',').ok_or_else(wrong)?;
                let (keys, requests) = share(keys).zip(share(requests)).ok_or_else(wrong)?;
                Ok(Self::HotSet { keys, requests })
            }
            _ => Err(wrong()),
        }
    }
}

/// Draws key numbers in `0..count`.
#[derive(Clone, Debug)]
pub(crate) struct KeyPicker {
    count: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Zipf { ranks: Zipf, scatter: Scatter },
    HotSet { keys: u64, requests: f64, scatter: Scatter },
    Latest { ages: Zipf },
}

impl KeyPicker {
    pub(crate) fn new(popularity: Popularity, count: u64) -> Self {
        assert!(count > 0, "a workload has keys");
        let scatter = Scatter::new(count);
        let kind = match popularity {
            Popularity::Uniform => Kind::Uniform,
            Popularity::Zipf { exponent } => Kind::Zipf { ranks: Zipf::new(count, exponent), scatter },
            Popularity::HotSet { keys, requests } => {
                let keys = ((count as f64 * keys).round() as u64).clamp(1, count);
                Kind::HotSet { keys, requests, scatter }
            }
            Popularity::Latest { exponent } => Kind::Latest { ages: Zipf::new(count, exponent) },
        };
        Self { count, kind }
    }

    /// The number of the next key; the ages of `Latest` are counted from `newest` backwards.
    #[inline]
    pub(crate) fn pick(&self, prng: &mut Prng, newest: impl Fn(u64) -> u64) -> u64 {
        match &self.kind {
            Kind::Uniform => prng.below(self.count),
            Kind::Zipf { ranks, scatter } => scatter.apply(ranks.draw(prng)),
            Kind::HotSet { keys, requests, scatter } => {
                let hot = prng.unit_f64() < *requests || *keys == self.count;
                let rank = if hot { prng.below(*keys) } else { keys + prng.below(self.count - keys) };
                scatter.apply(rank)
            }
            Kind::Latest { ages } => newest(ages.draw(prng)),
        }
    }
}

/// A fixed permutation of `0..count`, so that popular keys are not neighbours.
#[derive(Clone, Copy, Debug)]
struct Scatter {
    count: u64,
    factor: u64,
}

impl Scatter {
    fn new(count: u64) -> Self {
        // The golden section of the range, moved up to a number without a common divisor.
        let mut factor = ((count as f64 * 0.618_033_988_749_895) as u64).max(1);
        while divisor(factor, count) != 1 {
            factor += 1;
        }
        Self { count, factor }
    }

    #[inline]
    fn apply(self, rank: u64) -> u64 {
        (u128::from(rank) * u128::from(self.factor) % u128::from(self.count)) as u64
    }
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Zipf ranks by rejection-inversion (Hörmann and Derflinger 1996): exact, without a table.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral's values at the range's ends.
    low: f64,
    high: f64,
    /// Below this distance from a whole rank a draw is taken without a second look.
    sure: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let mut this = Self { count: count as f64, exponent, low: 0.0, high: 0.0, sure: 0.0 };
        this.low = this.integral(1.5) - 1.0;
        this.high = this.integral(this.count + 0.5);
        this.sure = 2.0 - this.inverse(this.integral(2.5) - (-exponent * 2.0_f64.ln()).exp());
        this
    }

    /// A rank in `0..count`, 0 the most popular.
    #[inline]
    fn draw(&self, prng: &mut Prng) -> u64 {
        loop {
            let point = self.high + prng.unit_f64() * (self.low - self.high);
            let x = self.inverse(point);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.sure
                || point >= self.integral(rank + 0.5) - (-self.exponent * rank.ln()).exp()
            {
                return rank as u64 - 1;
            }
        }
    }

    /// The integral of x^-exponent, up to a constant.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let slope = (1.0 - self.exponent) * log;
        log * if slope.abs() > 1e-8 { slope.exp_m1() / slope } else { 1.0 + slope / 2.0 }
    }

    fn inverse(&self, y: f64) -> f64 {
        let slope = (y * (1.0 - self.exponent)).max(-1.0);
        (y * if slope.abs() > 1e-8 { slope.ln_1p() / slope } else { 1.0 - slope / 2.0 }).exp()
    }
}

#[cfg(test)]
mod tests;
