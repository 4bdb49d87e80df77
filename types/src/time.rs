//! Time as data: pure crates are told what time it is, they never ask.

/// A wall-clock instant in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// When an item stops existing: an absolute instant, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// The item lives until it is deleted or evicted.
    pub const NEVER: Self = Self(0);
    /// The latest instant that can be stored: 48 bits of milliseconds, the year 10889.
    pub const MAX: UnixMillis = UnixMillis((1 << 48) - 1);

    /// The item is absent from `at` on. Instants past [`Deadline::MAX`] are clamped to it; 0, the
    /// stored form of "never", is moved to 1, which is long past as well.
    #[must_use]
    pub fn at(at: UnixMillis) -> Self {
        Self(at.0.clamp(1, Self::MAX.0))
    }

    /// The instant, or `None` for never.
    #[inline]
    #[must_use]
    pub fn instant(self) -> Option<UnixMillis> {
        (self.0 != 0).then_some(UnixMillis(self.0))
    }

    /// Whether the item is absent at `now`. Redis' rule: an item lives through its deadline's
    /// millisecond and is gone once the clock has passed it.
    #[inline]
    #[must_use]
    pub fn is_past(self, now: UnixMillis) -> bool {
        self.0 != 0 && now.0 > self.0
    }

    /// The stored form: 0 is never.
    #[inline]
    #[must_use]
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// From the stored form. Values over 48 bits are clamped.
    #[inline]
    #[must_use]
    pub fn from_raw(raw: u64) -> Self {
        Self(raw.min(Self::MAX.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{Deadline, UnixMillis};

    #[test]
    fn an_item_lives_through_its_deadline_millisecond() {
        let deadline = Deadline::at(UnixMillis(10));
        assert!(!deadline.is_past(UnixMillis(10)));
        assert!(deadline.is_past(UnixMillis(11)));
        assert!(!Deadline::NEVER.is_past(UnixMillis(u64::MAX)));
    }

    #[test]
    fn zero_is_past_rather_than_never() {
        assert!(Deadline::at(UnixMillis(0)).is_past(UnixMillis(2)));
    }

    #[test]
    fn far_instants_are_clamped() {
        assert_eq!(Deadline::at(UnixMillis(u64::MAX)).instant(), Some(Deadline::MAX));
    }
}
