//! The 80-bit floating point numbers that INCRBYFLOAT computes with, in integers.
//!
//! Redis uses the `long double` of x86: a 64-bit significand and a 15-bit exponent, read by
//! `strtold` and printed with 17 digits behind the point. Its answers show which: 0.1 + 0.2 is 0.3
//! there, and 0.30000000000000004 with doubles. Rounding is to nearest, ties to even, throughout.

use std::cmp::Ordering;

mod big;

use big::Big;

/// A finite number: `significand * 2^exponent`, negated if `negative`.
///
/// The significand's top bit is set unless the exponent is [`EXPONENT_MIN`]; zero has significand 0
/// and that exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Finite {
    negative: bool,
    significand: u64,
    exponent: i32,
}

/// An 80-bit floating point number that is not NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Finite(Finite),
    Infinite,
}

/// Exponent of the least significant bit of the smallest numbers.
const EXPONENT_MIN: i32 = -16_445;
/// Exponent of the least significant bit of the largest numbers.
const EXPONENT_MAX: i32 = 16_320;
/// Texts from this length on are refused, as by Redis, whose buffer ends there.
const TEXT_BYTES_END: usize = 5 * 1024;
/// No number of more decimal places before the point is finite, none with its first place further
/// behind it differs from zero (the limits are 4933 and 4951).
const PLACES_MAX: i64 = 5_000;
/// Digits printed behind the point.
const FRACTION_DIGITS: usize = 17;
const FRACTION_SCALE: u128 = 10u128.pow(FRACTION_DIGITS as u32);

impl Extended {
    /// Zero, the value of an absent key.
    pub const ZERO: Self =
        Self(Kind::Finite(Finite { negative: false, significand: 0, exponent: EXPONENT_MIN }));

    /// Parses what `strtold` accepts as a whole: decimal or hexadecimal with an optional exponent,
    /// or an infinity. Refuses NaN, blanks, and numbers too large or too small to be told from
    /// infinity or zero.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_END {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Self(Kind::Infinite));
        }
        let finite = match rest {
            [b'0', b'x' | b'X', digits @ ..] => parse_hexadecimal(negative, digits),
            digits => parse_decimal(negative, digits),
        };
        finite.map(|finite| Self(Kind::Finite(finite)))
    }

    /// The sum, or `None` if it is not finite.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (Kind::Finite(a), Kind::Finite(b)) = (self.0, other.0) else { return None };
        add(a, b).map(|sum| Self(Kind::Finite(sum)))
    }

    /// Appends the number as Redis prints it: 17 digits behind the point, less trailing zeros.
    pub fn print(self, out: &mut Vec<u8>) {
        let Kind::Finite(number) = self.0 else {
            out.extend_from_slice(b"inf");
            return;
        };
        let start = out.len();
        if number.negative {
            out.push(b'-');
        }
        if number.exponent >= 0 {
            Big::from_shifted(number.significand, number.exponent as u32).print(out);
        } else {
            print_fraction(number, out);
        }
        if &out[start..] == b"-0" {
            out.remove(start);
        }
    }
}

fn print_fraction(number: Finite, out: &mut Vec<u8>) {
    let shift = number.exponent.unsigned_abs();
    let exact = u128::from(number.significand) * FRACTION_SCALE; // Below 2^121.
    let scaled = if shift >= 128 { 0 } else { shift_rounded(exact, shift, false) };
    out.extend_from_slice((scaled / FRACTION_SCALE).to_string().as_bytes());
    let fraction = format!(".{:0width$}", scaled % FRACTION_SCALE, width = FRACTION_DIGITS);
    out.extend_from_slice(fraction.trim_end_matches('0').trim_end_matches('.').as_bytes());
}

/// `value / 2^shift`, to nearest, ties to even; `more` tells that the true value lies a little
/// above. `shift` is 1 to 127.
fn shift_rounded(value: u128, shift: u32, more: bool) -> u128 {
    let (kept, rest, half) = (value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1));
    let up = match rest.cmp(&half) {
        Ordering::Less => false,
        Ordering::Equal => more || kept & 1 == 1,
        Ordering::Greater => true,
    };
    kept + u128::from(up)
}

/// Rounds `value * 2^exponent` to 64 bits; `None` past the largest number. `more` tells that the
/// true value lies a little above; then `value` must have more than 65 bits.
fn round(negative: bool, value: u128, more: bool, exponent: i64) -> Option<Finite> {
    let bits = i64::from(128 - value.leading_zeros());
    let mut drop = (bits - 64).max(i64::from(EXPONENT_MIN) - exponent);
    let mut significand = match drop {
        _ if value == 0 || drop >= 128 => {
            return Some(Finite { negative, significand: 0, exponent: EXPONENT_MIN });
        }
        1.. => shift_rounded(value, drop as u32, more),
        _ => value << -drop,
    };
    if significand >> 64 != 0 {
        (significand, drop) = (significand >> 1, drop + 1);
    }
    let exponent = exponent + drop;
    (exponent <= i64::from(EXPONENT_MAX)).then_some(Finite {
        negative,
        significand: significand as u64,
        exponent: exponent as i32,
    })
}

fn add(a: Finite, b: Finite) -> Option<Finite> {
    if a.significand == 0 || b.significand == 0 {
        return Some(if a.significand == 0 { b } else { a });
    }
    let (high, low) =
        if (a.exponent, a.significand) >= (b.exponent, b.significand) { (a, b) } else { (b, a) };
    let distance = (high.exponent - low.exponent) as u32;
    let exponent = i64::from(high.exponent) - 63;
    let upper = u128::from(high.significand) << 63;
    let whole = u128::from(low.significand) << 63;
    let lower = whole.checked_shr(distance).unwrap_or(0);
    let more = lower.checked_shl(distance).unwrap_or(0) != whole;
    if high.negative == low.negative {
        return round(high.negative, upper + lower, more, exponent);
    }
    let difference = upper - lower - u128::from(more);
    round(high.negative && difference != 0, difference, more, exponent)
}

/// The exponent behind a mark such as `e`, and nothing after it. Saturates: far out is far out.
fn parse_exponent(text: &[u8], mark: u8) -> Option<i64> {
    let [first, rest @ ..] = text else { return Some(0) };
    let (negative, digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if first.to_ascii_lowercase() != mark || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0i64, |n, d| (n * 10 + i64::from(d - b'0')).min(1 << 40));
    Some(if negative { -magnitude } else { magnitude })
}

/// Splits `digits[.digits][exponent]` into the digits before and behind the point and the rest.
fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let end_of = |text: &[u8]| text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len());
    let (whole, rest) = text.split_at(end_of(text));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(end_of(rest)),
        rest => (&rest[..0], rest),
    };
    (!whole.is_empty() || !fraction.is_empty()).then_some((whole, fraction, rest))
}

fn parse_hexadecimal(negative: bool, text: &[u8]) -> Option<Finite> {
    let (whole, fraction, rest) = split_digits(text, u8::is_ascii_hexdigit)?;
    let mut exponent = parse_exponent(rest, b'p')? - 4 * fraction.len() as i64;
    let (mut value, mut more) = (0u128, false);
    for byte in whole.iter().chain(fraction) {
        let digit = (*byte as char).to_digit(16).map_or(0, u128::from);
        if value >> 124 == 0 {
            value = value << 4 | digit;
        } else {
            (exponent, more) = (exponent + 4, more || digit != 0);
        }
    }
    let number = round(negative, value, more, exponent)?;
    (value == 0 || number.significand != 0).then_some(number)
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<Finite> {
    let (whole, fraction, rest) = split_digits(text, u8::is_ascii_digit)?;
    let exponent = parse_exponent(rest, b'e')? - fraction.len() as i64;
    let digits: Vec<u8> = whole.iter().chain(fraction).copied().skip_while(|digit| *digit == b'0').collect();
    if digits.is_empty() {
        return Some(Finite { negative, significand: 0, exponent: EXPONENT_MIN });
    }
    let places = digits.len() as i64 + exponent;
    if !(-PLACES_MAX..=PLACES_MAX).contains(&places) {
        return None;
    }
    let mut numerator = Big::from_digits(&digits);
    let number = if exponent >= 0 {
        numerator.multiply_power_of_ten(exponent as u32);
        let (value, more, shift) = numerator.top_bits();
        round(negative, value, more, i64::from(shift))
    } else {
        let mut denominator = Big::from_digits(b"1");
        denominator.multiply_power_of_ten(exponent.unsigned_abs() as u32);
        let (value, more, exponent) = big::quotient(numerator, denominator);
        round(negative, value, more, exponent)
    }?;
    (number.significand != 0).then_some(number)
}

#[cfg(test)]
mod tests;
