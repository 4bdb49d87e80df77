//! The expectations were printed by C's `long double` on x86-64, through Redis' INCRBYFLOAT.

use super::{Extended, big::Big};
use proptest::prelude::*;

fn sum(a: &str, b: &str) -> Option<String> {
    let sum = Extended::parse(a.as_bytes())?.checked_add(Extended::parse(b.as_bytes())?)?;
    let mut out = Vec::new();
    sum.print(&mut out);
    Some(String::from_utf8(out).unwrap())
}

#[test]
fn sums_are_those_of_long_doubles() {
    for (a, b, expected) in [
        ("0", "0.1", "0.1"),
        ("0.1", "0.2", "0.3"),
        ("10.50", "0.1", "10.6"),
        ("5.0e3", "2.0e2", "5200"),
        ("3.0", "1.000000000000000005", "4.00000000000000001"),
        ("0", "-43113.1", "-43113.10000000000000142"),
        ("1", "-1", "0"),
        ("-0", "0", "0"),
        ("0", "-1e-30", "0"),
        ("0", "1e-17", "0.00000000000000001"),
        ("1e20", "1", "100000000000000000000"),
        ("0", "0x10", "16"),
        ("0", "0x1.8p1", "3"),
        ("+1", ".5", "1.5"),
        ("1.", "1", "2"),
        ("9007199254740993", "0", "9007199254740993"),
        ("18446744073709551616", "1", "18446744073709551616"),
        ("18446744073709551615", "0", "18446744073709551615"),
    ] {
        assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
    }
}

#[test]
fn what_strtold_does_not_take_whole_is_refused() {
    for text in
        ["", "-", ".", "e5", "1e", "1e+", "0x", "1 ", " 1", "nan", "-nan", "1,5", "abc", "1e5000", "1e-5000"]
    {
        assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Extended::parse(&[b'1'; 5120]), None);
    assert!(Extended::parse(&[&b"0."[..], &[b'1'; 5000]].concat()).is_some());
}

#[test]
fn infinity_parses_and_is_no_sum() {
    assert!(Extended::parse(b"-Infinity").is_some());
    assert_eq!(sum("inf", "1"), None);
    assert_eq!(sum("1.1e4932", "1.1e4932"), None);
}

#[test]
fn the_largest_and_smallest_numbers_parse() {
    assert!(Extended::parse(b"1.18973149535723176502e4932").is_some());
    assert_eq!(Extended::parse(b"1.18973149535723176515e4932"), None);
    assert!(Extended::parse(b"3.6e-4951").is_some());
    assert_eq!(Extended::parse(b"1.8e-4951"), None);
    assert_eq!(sum("1e4900", "0").map(|text| text.len()), Some(4901));
}

#[test]
fn big_numbers_print_as_they_were_read() {
    let digits = b"1000000000000000000123456789000000000000000000000000000000000000000000000009";
    let mut out = Vec::new();
    Big::from_digits(digits).print(&mut out);
    assert_eq!(out, digits);
}

/// Numbers below 10 with a few digits behind the point.
fn short_decimal() -> impl Strategy<Value = (i64, u32)> {
    (0u32..8).prop_flat_map(|places| {
        let end = 10i64.pow(places + 1);
        (1 - end..end, Just(places))
    })
}

fn decimal_text(units: i128, places: u32) -> String {
    let scale = 10i128.pow(places);
    let sign = if units < 0 { "-" } else { "" };
    let (whole, fraction) = (units.abs() / scale, units.abs() % scale);
    let text = format!("{sign}{whole}.{fraction:0width$}", width = places as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

proptest! {
    /// With 64 bits of significand, sums of small short decimals come out as on paper.
    #[test]
    fn short_sums_are_exact((a, a_places) in short_decimal(), (b, b_places) in short_decimal()) {
        let places = a_places.max(b_places);
        let scaled = |n: i64, p: u32| i128::from(n) * 10i128.pow(places - p);
        let exact = decimal_text(scaled(a, a_places) + scaled(b, b_places), places);
        let got = sum(&decimal_text(a.into(), a_places), &decimal_text(b.into(), b_places)).unwrap();
        prop_assert_eq!(got, if exact.is_empty() { "0".to_owned() } else { exact });
    }

    /// Every double is a long double: parsing its exact text gives it back, as does printing.
    #[test]
    fn doubles_with_small_fractions_survive(units: i64, shift in 0u32..17) {
        let value = (units >> 11) as f64 / f64::from(1u32 << shift);
        let text = format!("{value}");
        let printed = sum(&text, "0").unwrap();
        prop_assert_eq!(printed.parse::<f64>().unwrap(), value + 0.0);
    }

    #[test]
    fn any_text_is_safe(text in "[-+0-9.eExXpPaAfinN]{0,30}") {
        if let Some(number) = Extended::parse(text.as_bytes()) {
            number.print(&mut Vec::new());
        }
    }
}
