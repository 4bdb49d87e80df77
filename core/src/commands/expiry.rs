//! Expiry times as arguments: `EX 10`, `PXAT 1700000000000` and the ones of EXPIRE.

use pinnace_engine::value::integer;
use pinnace_types::{Deadline, UnixMillis};

use super::refusal::{NOT_AN_INTEGER, Refusal};

/// How an expiry time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Milliseconds in a unit.
    pub(super) unit: i64,
    /// Whether it counts from now rather than from the Unix epoch.
    pub(super) is_relative: bool,
}

impl Form {
    pub(super) const EX: Self = Self { unit: 1000, is_relative: true };
    pub(super) const PX: Self = Self { unit: 1, is_relative: true };
    pub(super) const EXAT: Self = Self { unit: 1000, is_relative: false };
    pub(super) const PXAT: Self = Self { unit: 1, is_relative: false };

    fn parse(option: &[u8]) -> Option<Self> {
        [(&b"ex"[..], Self::EX), (b"px", Self::PX), (b"exat", Self::EXAT), (b"pxat", Self::PXAT)]
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(option))
            .map(|(_, form)| form)
    }

    /// The instant of `count` units; `None` where milliseconds in 64 bits do not reach.
    fn instant(self, count: i64, now: UnixMillis) -> Option<Instant> {
        let base = if self.is_relative { i64::try_from(now.0).ok()? } else { 0 };
        count.checked_mul(self.unit)?.checked_add(base).map(Instant)
    }
}

/// An expiry time that was given as an option, not read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime<'a> {
    form: Form,
    text: &'a [u8],
}

/// Milliseconds since the Unix epoch; negative: before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant(pub(super) i64);

impl<'a> Lifetime<'a> {
    pub(super) fn new(form: Form, text: &'a [u8]) -> Self {
        Self { form, text }
    }

    /// An option that takes a time, with the argument after it; `None` if it is not such an option
    /// or nothing follows.
    pub(super) fn parse(option: &[u8], next: Option<&'a [u8]>) -> Option<Self> {
        Some(Self { form: Form::parse(option)?, text: next? })
    }

    /// Whether both are given by the same option: then the later one counts.
    pub(super) fn is_same_option(&self, other: &Self) -> bool {
        self.form == other.form
    }

    /// Reads the time, which must be positive; `command` is named in the error.
    pub(super) fn resolve(self, now: UnixMillis, command: &str) -> Result<Instant, Refusal> {
        let count = integer::parse(self.text).ok_or(Refusal::Text(NOT_AN_INTEGER))?;
        if count <= 0 {
            return Err(Refusal::expiry(command));
        }
        self.form.instant(count, now).ok_or_else(|| Refusal::expiry(command))
    }

    /// Reads the time, which may lie in the past.
    pub(super) fn resolve_any(self, now: UnixMillis, command: &str) -> Result<Instant, Refusal> {
        let count = integer::parse(self.text).ok_or(Refusal::Text(NOT_AN_INTEGER))?;
        self.form.instant(count, now).ok_or_else(|| Refusal::expiry(command))
    }
}

impl Instant {
    /// The deadline to store, or `None` if it has been reached: the key is to be deleted.
    pub(super) fn deadline(self, now: UnixMillis) -> Option<Deadline> {
        let at = UnixMillis(u64::try_from(self.0).ok()?);
        (at > now).then(|| Deadline::at(at))
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, Instant, Lifetime};
    use pinnace_types::{Deadline, UnixMillis};

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn instant(form: Form, text: &str) -> Option<i64> {
        Lifetime::new(form, text.as_bytes()).resolve(NOW, "set").ok().map(|instant| instant.0)
    }

    #[test]
    fn times_that_do_not_fit_64_bits_of_milliseconds_are_refused() {
        assert_eq!(instant(Form::EX, "10"), Some(1_010_000));
        assert_eq!(instant(Form::PXAT, "10"), Some(10));
        assert_eq!(instant(Form::PXAT, "9223372036854775807"), Some(i64::MAX));
        assert_eq!(instant(Form::PX, "9223372036854775807"), None);
        assert_eq!(instant(Form::EXAT, "9223372036854775"), Some(9_223_372_036_854_775_000));
        assert_eq!(instant(Form::EXAT, "9223372036854776"), None);
        assert_eq!(instant(Form::EX, "0"), None);
    }

    #[test]
    fn an_instant_that_has_come_has_no_deadline() {
        assert_eq!(Instant(1_000_000).deadline(NOW), None);
        assert_eq!(Instant(-5).deadline(NOW), None);
        assert_eq!(Instant(1_000_001).deadline(NOW), Some(Deadline::at(UnixMillis(1_000_001))));
    }
}
