//! Inclusive ranges whose ends may count from the back, as GETRANGE, BITCOUNT and BITPOS take them.

/// A non-empty run of positions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first position.
    pub first: u64,
    /// The last position.
    pub last: u64,
}

/// Resolves `start` and `end` against `len` positions; `None` when nothing lies between them.
///
/// A negative end counts from the back and stops at position 0, so that `0 -100` is the first
/// position rather than none. Two negative ends in the wrong order are none even if both lie before
/// the first position.
#[must_use]
pub fn resolve(start: i64, end: i64, len: u64) -> Option<Span> {
    if start < 0 && end < 0 && start > end { None } else { clamp(start, end, len) }
}

/// As [`resolve`], but for two ends before the first position: that is the first position whatever
/// their order. BITPOS sees it this way, GETRANGE and BITCOUNT do not.
#[must_use]
pub fn clamp(start: i64, end: i64, len: u64) -> Option<Span> {
    let from_front = |position: i64| match u64::try_from(position) {
        Ok(position) => position,
        Err(_) => len.saturating_sub(position.unsigned_abs()),
    };
    let (first, last) = (from_front(start), from_front(end).min(len.checked_sub(1)?));
    (first <= last).then_some(Span { first, last })
}

#[cfg(test)]
mod tests {
    use super::{Span, clamp, resolve};

    /// The wording of Redis' documentation, on numbers wide enough to need no care.
    fn model(start: i64, end: i64, len: i128) -> Option<Span> {
        if start < 0 && end < 0 && start > end {
            return None;
        }
        let fix = |p: i64| if p < 0 { (i128::from(p) + len).max(0) } else { i128::from(p) };
        let (first, last) = (fix(start), fix(end).min(len - 1));
        (first <= last && len > 0).then_some(Span { first: first as u64, last: last as u64 })
    }

    #[test]
    fn every_small_range_and_the_extremes_agree_with_the_model() {
        let ends = [i64::MIN, i64::MIN + 1, i64::MAX, -9, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 9];
        for len in 0..6 {
            for start in ends {
                for end in ends {
                    assert_eq!(
                        resolve(start, end, len),
                        model(start, end, i128::from(len)),
                        "{start} {end} {len}"
                    );
                }
            }
        }
    }

    #[test]
    fn ends_before_the_start_meet_there() {
        assert_eq!(clamp(-5, -9, 3), Some(Span { first: 0, last: 0 }));
        assert_eq!(clamp(-1, -2, 3), None);
        assert_eq!(clamp(0, -1, 0), None);
    }
}
