//! Natural numbers of any size, as little as reading and printing floating point numbers needs.

/// A natural number in base 2^32, the lowest limb first, without leading zero limbs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Big(Vec<u32>);

/// The largest power of ten in a limb.
const TEN_POWER: u32 = 9;
const TEN_POWER_VALUE: u32 = 10u32.pow(TEN_POWER);

/// Bits of a [`quotient`], give or take one: more than the 65 that rounding needs.
const QUOTIENT_BITS: i64 = 68;

impl Big {
    /// The number with these ASCII digits.
    pub(super) fn from_digits(digits: &[u8]) -> Self {
        let mut number = Self(Vec::new());
        for chunk in digits.chunks(TEN_POWER as usize) {
            let value = chunk.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
            number.multiply_add(10u32.pow(chunk.len() as u32), value);
        }
        number
    }

    /// `value * 2^shift`.
    pub(super) fn from_shifted(value: u64, shift: u32) -> Self {
        let mut number = Self(vec![value as u32, (value >> 32) as u32]);
        number.trim();
        number.shift_left(shift);
        number
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    pub(super) fn multiply_power_of_ten(&mut self, power: u32) {
        for _ in 0..power / TEN_POWER {
            self.multiply_add(TEN_POWER_VALUE, 0);
        }
        self.multiply_add(10u32.pow(power % TEN_POWER), 0);
    }

    fn bit_len(&self) -> i64 {
        self.0.last().map_or(0, |top| self.0.len() as i64 * 32 - i64::from(top.leading_zeros()))
    }

    fn shift_left(&mut self, shift: u32) {
        let bits = shift % 32;
        let mut carry = 0;
        for limb in &mut self.0 {
            let wide = u64::from(*limb) << bits | carry;
            *limb = wide as u32;
            carry = wide >> 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, (shift / 32) as usize));
        }
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            let low = *limb & 1;
            *limb = *limb >> 1 | carry << 31;
            carry = low;
        }
        self.trim();
    }

    fn is_less_than(&self, other: &Self) -> bool {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev())).is_lt()
    }

    /// Subtracts a number that is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (index, limb) in self.0.iter_mut().enumerate() {
            let part = other.0.get(index).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(part);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        debug_assert!(!borrow, "the subtrahend is not larger");
        self.trim();
    }

    /// The upper 128 bits, whether any lower bit is set, and by how many bits they are shifted.
    pub(super) fn top_bits(&self) -> (u128, bool, u32) {
        let shift = (self.bit_len() - 128).max(0) as usize;
        let (limbs, bits) = (shift / 32, shift % 32);
        let more = self.0[..limbs].iter().any(|limb| *limb != 0)
            || self.0.get(limbs).is_some_and(|limb| limb & ((1 << bits) - 1) != 0);
        let mut value = 0u128;
        for (index, limb) in self.0[limbs..].iter().enumerate() {
            let at = index as i64 * 32 - bits as i64;
            let wide = u128::from(*limb);
            value |= if at < 0 { wide >> -at } else { wide << at };
        }
        (value, more, shift as u32)
    }

    /// Appends the decimal digits.
    pub(super) fn print(mut self, out: &mut Vec<u8>) {
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0u64;
            for limb in self.0.iter_mut().rev() {
                let wide = rest << 32 | u64::from(*limb);
                *limb = (wide / u64::from(TEN_POWER_VALUE)) as u32;
                rest = wide % u64::from(TEN_POWER_VALUE);
            }
            self.trim();
            chunks.push(rest);
        }
        let first = chunks.pop().unwrap_or(0);
        out.extend_from_slice(first.to_string().as_bytes());
        for chunk in chunks.iter().rev() {
            out.extend_from_slice(format!("{chunk:09}").as_bytes());
        }
    }
}

/// `numerator / denominator` as (value, whether the true quotient is a little more, exponent), the
/// value having at least 67 bits.
pub(super) fn quotient(mut numerator: Big, mut denominator: Big) -> (u128, bool, i64) {
    let shift = denominator.bit_len() - numerator.bit_len() + QUOTIENT_BITS;
    // The denominator starts at the quotient's top bit and is halved once per bit.
    let lead = QUOTIENT_BITS;
    numerator.shift_left(shift.max(0) as u32);
    denominator.shift_left((lead - shift.min(0)) as u32);
    let mut value = 0u128;
    for _ in 0..=lead {
        value <<= 1;
        if !numerator.is_less_than(&denominator) {
            numerator.subtract(&denominator);
            value |= 1;
        }
        denominator.halve();
    }
    (value, !numerator.0.is_empty(), -shift)
}
