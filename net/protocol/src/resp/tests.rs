use super::double::{DOUBLE_BYTES_MAX, format_double};
use super::{RespError, Version, encode};

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn counts_of_every_width_are_plain_decimals() {
    let edges = [0, 1, 9, 10, 11, 99, 100, 101, 109, 999, 1000, 1001, 12_345, 536_870_912, usize::MAX];
    for count in edges.into_iter().chain(0..2000) {
        assert_eq!(encoded(|out| encode::bulk_header(out, count)), format!("${count}\r\n"));
        assert_eq!(encoded(|out| encode::array(out, count)), format!("*{count}\r\n"));
    }
}

#[test]
fn integers_of_every_size_are_plain_decimals() {
    for value in [0, 9, 10, -1, -9, 99, 100, 1000, i64::MAX, i64::MIN].into_iter().chain(-300..300) {
        assert_eq!(encoded(|out| encode::integer(out, value)), format!(":{value}\r\n"));
    }
}

#[test]
fn bulks_hold_any_bytes() {
    let mut out = Vec::new();
    encode::bulk(&mut out, b"");
    encode::bulk(&mut out, b"\r\n\0\xff");
    assert_eq!(out, b"$0\r\n\r\n$4\r\n\r\n\0\xff\r\n");
}

#[test]
fn every_type_in_both_versions() {
    use Version::{V2, V3};
    type Encode = fn(&mut Vec<u8>, Version);
    let table: [(Encode, &str, &str); 12] = [
        (|out, v| encode::null(out, v), "$-1\r\n", "_\r\n"),
        (|out, v| encode::null_array(out, v), "*-1\r\n", "_\r\n"),
        (|out, v| encode::map(out, v, 3), "*6\r\n", "%3\r\n"),
        (|out, v| encode::set(out, v, 3), "*3\r\n", "~3\r\n"),
        (|out, v| encode::push(out, v, 3), "*3\r\n", ">3\r\n"),
        (|out, v| encode::double(out, v, 3.25), "$4\r\n3.25\r\n", ",3.25\r\n"),
        (|out, v| encode::double(out, v, f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
        (|out, v| encode::boolean(out, v, true), ":1\r\n", "#t\r\n"),
        (|out, v| encode::boolean(out, v, false), ":0\r\n", "#f\r\n"),
        (|out, v| encode::verbatim(out, v, "txt", b"a\nb"), "$3\r\na\nb\r\n", "=7\r\ntxt:a\nb\r\n"),
        (
            |out, v| encode::big_number(out, v, "1234567890123456789012"),
            "$22\r\n1234567890123456789012\r\n",
            "(1234567890123456789012\r\n",
        ),
        (|out, _| encode::simple(out, "OK"), "+OK\r\n", "+OK\r\n"),
    ];
    for (write, v2, v3) in table {
        assert_eq!(encoded(|out| write(out, V2)), v2);
        assert_eq!(encoded(|out| write(out, V3)), v3);
    }
}

#[test]
fn a_line_break_in_an_error_cannot_end_it_early() {
    assert_eq!(encoded(|out| encode::error(out, "ERR a\r\nb\n")), "-ERR a  b \r\n");
    assert_eq!(encoded(|out| encode::simple(out, "a\nb")), "+a b\r\n");
}

#[test]
fn protocol_errors_read_as_in_redis() {
    assert_eq!(RespError::BulkExpected(b'x').to_string(), "Protocol error: expected '$', got 'x'");
    let text = encoded(|out| RespError::BulkExpected(b'x').encode(out));
    assert_eq!(text, "-ERR Protocol error: expected '$', got 'x'\r\n");
    let text = encoded(|out| RespError::UnbalancedQuotes.encode(out));
    assert_eq!(text, "-ERR Protocol error: unbalanced quotes in request\r\n");
}

#[test]
fn doubles_are_spelled_as_redis_spells_them() {
    let table = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-3.0, "-3"),
        (0.1, "0.1"),
        (-12.75, "-12.75"),
        (0.001, "0.001"),
        (0.0000015, "1.5e-6"),
        (0.000123, "0.000123"),
        (1e-7, "1e-7"),
        (4_503_599_627_370_496.0, "4503599627370496"),
        (1e16, "10000000000000000"),
        (1.5e15, "1500000000000000"),
        (-4_611_686_018_427_387_904.0, "-4611686018427387904"),
        (1e19, "1e+19"),
        (123_456_789_012_345_680_000.0, "123456789012345680000"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (2.2250738585072014e-308, "2.2250738585072014e-308"),
        (3.333333333333333, "3.333333333333333"),
        (f64::NAN, "nan"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
    ];
    for (value, text) in table {
        let mut buffer = [0; DOUBLE_BYTES_MAX];
        assert_eq!(std::str::from_utf8(format_double(&mut buffer, value)), Ok(text), "{value:?}");
    }
}

proptest::proptest! {
    #[test]
    fn doubles_read_back_as_themselves(bits in proptest::prelude::any::<u64>()) {
        let value = f64::from_bits(bits);
        let mut buffer = [0; DOUBLE_BYTES_MAX];
        let text = std::str::from_utf8(format_double(&mut buffer, value)).unwrap();
        let again: f64 = text.parse().unwrap();
        proptest::prop_assert!(again == value || value.is_nan() && again.is_nan(), "{} is not {:?}", text, value);
    }
}
