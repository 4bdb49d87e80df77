//! Integers of any width at any bit offset, with Redis' three ways to overflow.

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Whether it holds negative numbers, in two's complement.
    pub signed: bool,
    /// Its width: 1 to 64, or to 63 if unsigned, so that every value fits a reply integer.
    pub bits: u8,
}

/// What happens when a result does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The low bits are kept.
    Wrap,
    /// The nearest value that fits is taken.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl Field {
    /// Parses `i8`, `u63` and so on.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (sign, width) = text.split_first()?;
        let (signed, bits_max) = match sign {
            b'i' => (true, 64),
            b'u' => (false, 63),
            _ => return None,
        };
        let bits = super::integer::parse(width)?;
        (1..=bits_max).contains(&bits).then_some(Self { signed, bits: bits as u8 })
    }

    /// The field at bit `offset`; bits past the end are 0.
    #[must_use]
    pub fn read(self, bytes: &[u8], offset: u64) -> i64 {
        let mut raw = 0u128;
        for index in (offset / 8)..=(offset + u64::from(self.bits) - 1) / 8 {
            let byte = usize::try_from(index).ok().and_then(|index| bytes.get(index)).copied().unwrap_or(0);
            raw = raw << 8 | u128::from(byte);
        }
        self.truncate((raw >> self.bits_behind(offset)) as i128)
    }

    /// Writes the low bits of `value` at bit `offset`; the field must lie within `bytes`.
    pub fn write(self, bytes: &mut [u8], offset: u64, value: i64) {
        let behind = self.bits_behind(offset);
        let mut mask = self.mask() << behind;
        let mut raw = (value as u128 & self.mask()) << behind;
        for index in ((offset / 8)..=(offset + u64::from(self.bits) - 1) / 8).rev() {
            let byte = &mut bytes[index as usize];
            *byte = *byte & !(mask as u8) | raw as u8;
            (mask, raw) = (mask >> 8, raw >> 8);
        }
    }

    /// `old` plus `by`, or `None` where it does not fit and must not be written.
    #[must_use]
    pub fn add(self, old: i64, by: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(old) + i128::from(by), overflow)
    }

    /// What writing `value` stores, or `None` where it does not fit and must not be written. To an
    /// unsigned field a negative number is the large one with the same 64 bits.
    ///
    /// Saturating has a quirk of Redis: a number so far below a signed field's range that its
    /// distance to the top does not fit 64 bits is taken for one above.
    #[must_use]
    pub fn assign(self, value: i64, overflow: Overflow) -> Option<i64> {
        if !self.signed {
            return self.fit(i128::from(value as u64), overflow);
        }
        let top = self.range().1;
        let is_far_below = overflow == Overflow::Saturate && top - i128::from(value) > i128::from(i64::MAX);
        self.fit(if is_far_below && self.bits < 64 { top } else { i128::from(value) }, overflow)
    }

    /// The least and the greatest value.
    fn range(self) -> (i128, i128) {
        if self.signed {
            (-1i128 << (self.bits - 1), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1i128 << self.bits) - 1)
        }
    }

    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = self.range();
        match overflow {
            _ if (min..=max).contains(&value) => Some(value as i64),
            Overflow::Wrap => Some(self.truncate(value)),
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }

    /// The value of the low bits.
    fn truncate(self, raw: i128) -> i64 {
        let unused = 128 - u32::from(self.bits);
        let shifted = raw << unused;
        (if self.signed { shifted >> unused } else { ((shifted as u128) >> unused) as i128 }) as i64
    }

    fn mask(self) -> u128 {
        (1u128 << self.bits) - 1
    }

    /// Bits between the field's last bit and the end of the byte that holds it.
    fn bits_behind(self, offset: u64) -> u32 {
        (7 - (offset + u64::from(self.bits) - 1) % 8) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::bits;
    use super::{Field, Overflow};
    use proptest::prelude::*;

    fn field() -> impl Strategy<Value = Field> {
        (any::<bool>(), 1u8..=64)
            .prop_map(|(signed, bits)| Field { signed, bits: if signed { bits } else { bits.min(63) } })
    }

    fn model_read(field: Field, bytes: &[u8], offset: u64) -> i64 {
        let raw = (offset..offset + u64::from(field.bits))
            .fold(0u64, |raw, at| raw << 1 | u64::from(bits::get(bytes, at)));
        let is_negative = field.signed && raw >> (field.bits - 1) & 1 == 1;
        if is_negative && field.bits < 64 { (raw | u64::MAX << field.bits) as i64 } else { raw as i64 }
    }

    #[test]
    fn types_parse_as_redis_names_them() {
        assert_eq!(Field::parse(b"i64"), Some(Field { signed: true, bits: 64 }));
        assert_eq!(Field::parse(b"u1"), Some(Field { signed: false, bits: 1 }));
        for text in ["", "i", "u64", "i65", "i0", "u-1", "x8", "I8", "u08", "i8 "] {
            assert_eq!(Field::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_corners_of_overflow() {
        let i8 = Field { signed: true, bits: 8 };
        assert_eq!(i8.add(127, 1, Overflow::Wrap), Some(-128));
        assert_eq!(i8.add(127, 1, Overflow::Saturate), Some(127));
        assert_eq!(i8.add(-128, -1, Overflow::Saturate), Some(-128));
        assert_eq!(i8.add(-128, -1, Overflow::Fail), None);
        let u63 = Field { signed: false, bits: 63 };
        assert_eq!(u63.add(0, -1, Overflow::Wrap), Some(i64::MAX));
        assert_eq!(u63.add(0, -1, Overflow::Saturate), Some(0));
        assert_eq!(u63.assign(-1, Overflow::Saturate), Some(i64::MAX));
        let i64 = Field { signed: true, bits: 64 };
        assert_eq!(i64.add(i64::MAX, i64::MAX, Overflow::Wrap), Some(-2));
        assert_eq!(i64.add(i64::MIN, -1, Overflow::Saturate), Some(i64::MIN));
        let i63 = Field { signed: true, bits: 63 };
        assert_eq!(i63.assign(i64::MIN, Overflow::Saturate), Some(i64::MAX / 2));
        let i62 = Field { signed: true, bits: 62 };
        assert_eq!(i62.assign(i64::MIN / 4 - 1, Overflow::Saturate), Some(i64::MIN / 4));
        assert_eq!(i62.assign(i64::MIN, Overflow::Saturate), Some(i64::MAX / 4));
    }

    proptest! {
        #[test]
        fn read_agrees_with_single_bits(
            field in field(),
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
            offset in 0u64..200,
        ) {
            prop_assert_eq!(field.read(&bytes, offset), model_read(field, &bytes, offset));
        }

        #[test]
        fn write_is_read_back_and_touches_nothing_else(
            field in field(),
            bytes in proptest::collection::vec(any::<u8>(), 17..20),
            offset in 0u64..70,
            value: i64,
        ) {
            let stored = field.assign(value, Overflow::Wrap).unwrap();
            let mut after = bytes.clone();
            field.write(&mut after, offset, stored);
            prop_assert_eq!(field.read(&after, offset), stored);
            let inside = offset..offset + u64::from(field.bits);
            for at in (0..bytes.len() as u64 * 8).filter(|at| !inside.contains(at)) {
                prop_assert_eq!(bits::get(&after, at), bits::get(&bytes, at));
            }
        }

        #[test]
        fn wrapping_addition_is_addition_of_the_low_bits(field in field(), a: i64, b: i64) {
            let old = field.assign(a, Overflow::Wrap).unwrap();
            let sum = field.add(old, b, Overflow::Wrap).unwrap();
            let mask = if field.bits == 64 { u64::MAX } else { (1u64 << field.bits) - 1 };
            prop_assert_eq!(sum as u64 & mask, (a as u64).wrapping_add(b as u64) & mask);
        }
    }
}
