//! Integers as Redis reads them: one spelling for each number, nothing else.

/// Longest text of an `i64`, the sign included.
const TEXT_BYTES_MAX: usize = 20;

/// Parses a 64-bit integer in its only spelling: no blank, no plus sign, no leading zero, no `-0`.
///
/// Being strict keeps the round trip exact: a value that counts as an integer is byte for byte what
/// printing that integer gives.
#[inline]
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return None;
    }
    if text == b"0" {
        return Some(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut magnitude = 0u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_spelling_is_an_integer() {
        for text in ["", "-", "+1", " 1", "1 ", "01", "-0", "00", "1e3", "0x1", "1.0", "--1", "1\0"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        for text in
            ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "184467440737095516160"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_integers() {
        for number in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(number: i64) {
            prop_assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn what_parses_prints_as_it_was(text in "[-+ 0-9]{0,22}") {
            if let Some(number) = parse(text.as_bytes()) {
                prop_assert_eq!(number.to_string(), text);
            }
        }
    }
}
