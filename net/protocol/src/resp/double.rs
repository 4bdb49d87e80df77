//! Doubles as Redis 7.2 prints them: the shortest digits that read back as the same number, plain
//! where that is short and with an exponent otherwise.

use std::io::Write;

/// Longest output: 17 digits, sign, point, `e-308`, with room for leading zeros.
pub(super) const DOUBLE_BYTES_MAX: usize = 40;

/// Integers up to here fit 64 bits with room and are printed without an exponent; Redis' bound.
const INTEGER_MAX: f64 = 4_611_686_018_427_387_904.0; // 2^62

/// Writes `value` into `buffer` and returns the part written.
pub(super) fn format_double(buffer: &mut [u8; DOUBLE_BYTES_MAX], value: f64) -> &[u8] {
    let mut text = Text { buffer, len: 0 };
    if value.is_nan() {
        text.put(b"nan");
    } else if value.is_infinite() {
        text.put(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value == 0.0 {
        text.put(if value.is_sign_negative() { b"-0" } else { b"0" });
    } else if value.abs() <= INTEGER_MAX && value.fract() == 0.0 {
        text.put(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        format_fraction(&mut text, value);
    }
    let Text { buffer, len } = text;
    &buffer[..len]
}

struct Text<'b> {
    buffer: &'b mut [u8; DOUBLE_BYTES_MAX],
    len: usize,
}

impl Text<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn zeros(&mut self, count: usize) {
        self.buffer[self.len..][..count].fill(b'0');
        self.len += count;
    }
}

fn format_fraction(text: &mut Text<'_>, value: f64) {
    let (digits, scale) = shortest_digits(value.abs());
    let digits = digits.as_slice();
    let count = digits.len() as i32;
    // value = digits x 10^scale = d.ddd x 10^exponent
    let exponent = scale + count - 1;
    if value < 0.0 {
        text.put(b"-");
    }
    if scale >= 0 && exponent < count + 7 {
        text.put(digits);
        text.zeros(scale as usize);
    } else if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        let whole = count + scale;
        if whole <= 0 {
            text.put(b"0.");
            text.zeros(whole.unsigned_abs() as usize);
            text.put(digits);
        } else {
            let (whole, fraction) = digits.split_at(whole as usize);
            text.put(whole);
            text.put(b".");
            text.put(fraction);
        }
    } else {
        text.put(&digits[..1]);
        if count > 1 {
            text.put(b".");
            text.put(&digits[1..]);
        }
        text.put(if exponent < 0 { b"e-" } else { b"e+" });
        text.put(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
    }
}

/// The digits of a finite number above zero.
struct Digits {
    bytes: [u8; 17],
    len: usize,
}

impl Digits {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The fewest decimal digits that read back as `value`, and the power of ten of the last one.
fn shortest_digits(value: f64) -> (Digits, i32) {
    let mut buffer = [0; 32];
    let mut rest = buffer.as_mut_slice();
    write!(rest, "{value:e}").expect("17 digits, a point and an exponent fit 32 bytes");
    let unused = rest.len();
    let text = &buffer[..buffer.len() - unused];
    let split = text.iter().position(|&b| b == b'e').expect("the e format writes an e");
    let mut digits = Digits { bytes: [0; 17], len: 0 };
    for &byte in text[..split].iter().filter(|b| b.is_ascii_digit()) {
        digits.bytes[digits.len] = byte;
        digits.len += 1;
    }
    let exponent: i32 = std::str::from_utf8(&text[split + 1..])
        .ok()
        .and_then(|exponent| exponent.parse().ok())
        .expect("the e format writes a decimal exponent");
    let scale = exponent - (digits.len as i32 - 1);
    (digits, scale)
}
