//! Operations and the shares in which they are asked for.

/// One kind of operation, as results tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Get,
    Set,
    Delete,
    /// Adds 1 to a counter; counters have keys of their own.
    Increment,
    /// Reads an item with its version, then writes it on condition: one operation, two round trips.
    Cas,
    /// Reads many keys with one request.
    MultiGet,
    /// Writes a key that was not there before.
    Insert,
    /// Reads an item, then writes it: one operation, two round trips.
    ReadModifyWrite,
    /// Writes what a read has missed (cache-aside).
    Fill,
}

/// Kinds of operations.
pub(crate) const OP_COUNT: usize = 9;

impl Op {
    pub(crate) const ALL: [Self; OP_COUNT] = [
        Self::Get,
        Self::Set,
        Self::Delete,
        Self::Increment,
        Self::Cas,
        Self::MultiGet,
        Self::Insert,
        Self::ReadModifyWrite,
        Self::Fill,
    ];

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The word used in mixes and results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Increment => "incr",
            Self::Cas => "cas",
            Self::MultiGet => "mget",
            Self::Insert => "insert",
            Self::ReadModifyWrite => "rmw",
            Self::Fill => "fill",
        }
    }
}

/// Shares of operations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mix {
    /// Operations with the sums of their shares, scaled to 2^32.
    upto: Vec<(u64, Op)>,
}

impl Mix {
    /// `get=95,set=5`: weights, not necessarily of 100.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut weights = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let op = Op::ALL.into_iter().find(|op| op.name() == name.trim() && *op != Op::Fill).ok_or_else(
                || format!("`{name}` is no operation: use get, set, delete, incr, cas, mget, insert or rmw"),
            )?;
            let weight: f64 = weight
                .trim()
                .parse()
                .ok()
                .filter(|w: &f64| w.is_finite() && *w >= 0.0)
                .ok_or_else(|| format!("`{part}`: the share is no number"))?;
            if weights.iter().any(|(other, _)| *other == op) {
                return Err(format!("`{name}` is named twice"));
            }
            weights.push((op, weight));
        }
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        if total <= 0.0 {
            return Err(format!("`{text}`: no operation has a share"));
        }
        let mut sum = 0.0;
        let scaled = weights.iter().filter(|(_, weight)| *weight > 0.0).map(|(op, weight)| {
            sum += weight;
            ((sum / total * 4_294_967_296.0).round() as u64, *op)
        });
        Ok(Self { upto: scaled.collect() })
    }

    /// The operation at a point of the unit interval, given as 32 random bits.
    #[inline]
    pub(crate) fn at(&self, point: u32) -> Op {
        for (upto, op) in &self.upto {
            if u64::from(point) < *upto {
                return *op;
            }
        }
        self.upto[self.upto.len() - 1].1
    }

    /// The only operation, if there is but one.
    pub(crate) fn single(&self) -> Option<Op> {
        (self.upto.len() == 1).then(|| self.upto[0].1)
    }

    /// The operations that have a share.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Op> {
        self.upto.iter().map(|(_, op)| *op)
    }
}

#[cfg(test)]
mod tests {
    use super::{Mix, Op};

    #[test]
    fn shares_are_kept() {
        let mix = Mix::parse("get=95, set=5,delete=0").unwrap();
        let points = (0..10_000u32).map(|n| n * 429_496);
        let sets = points.filter(|&point| mix.at(point) == Op::Set).count();
        assert!((495..=505).contains(&sets), "{sets}");
        assert_eq!(mix.ops().count(), 2);
        assert_eq!(Mix::parse("get").unwrap().single(), Some(Op::Get));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "fetch=1", "get=x", "get=0", "get=1,get=2", "fill=1"] {
            assert!(Mix::parse(bad).is_err(), "{bad}");
        }
    }
}
