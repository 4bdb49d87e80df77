//! Keys: a number becomes bytes of a stated length, computed rather than looked up.
//!
//! Computing 8 digits takes about 3 ns; a table of a million keys would cost a cache miss instead.

/// How key numbers become key bytes: a prefix, filling, then the decimal number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyFormat {
    prefix: Vec<u8>,
    /// Digits of the number: 8, 16 or 20.
    digits: usize,
    bytes_min: usize,
    bytes_max: usize,
}

/// Keys are filled up with this byte between prefix and number.
const FILL: u8 = b'-';
/// Prefixes and lengths are bounded so that a key fits into the scratch space of a request.
pub(crate) const KEY_BYTES_MAX: usize = 512;

impl KeyFormat {
    /// Keys of `bytes_min..=bytes_max` bytes for numbers up to `number_max`.
    pub(crate) fn new(
        prefix: &str,
        bytes_min: usize,
        bytes_max: usize,
        number_max: u64,
    ) -> Result<Self, String> {
        let digits = match number_max {
            0..100_000_000 => 8,
            100_000_000..10_000_000_000_000_000 => 16,
            _ => 20,
        };
        let needed = prefix.len() + digits;
        if bytes_min > bytes_max {
            return Err(format!("keys of {bytes_min} to {bytes_max} bytes: the range is empty"));
        }
        if bytes_max > KEY_BYTES_MAX {
            return Err(format!("keys of {bytes_max} bytes are longer than {KEY_BYTES_MAX}"));
        }
        if bytes_min < needed {
            return Err(format!(
                "keys of {bytes_min} bytes are too short: prefix and number take {needed} bytes here"
            ));
        }
        Ok(Self { prefix: prefix.as_bytes().to_vec(), digits, bytes_min, bytes_max })
    }

    /// The shortest key size that holds `prefix` and numbers up to `number_max`.
    pub(crate) fn bytes_needed(prefix: &str, number_max: u64) -> usize {
        prefix.len()
            + if number_max < 100_000_000 {
                8
            } else if number_max < 10_u64.pow(16) {
                16
            } else {
                20
            }
    }

    /// Writes key `number` into `scratch` and returns it.
    #[inline]
    pub(crate) fn write<'s>(&self, number: u64, scratch: &'s mut KeyScratch) -> &'s [u8] {
        if scratch.len != self.bytes_min || self.bytes_min != self.bytes_max {
            self.prepare(number, scratch);
        }
        let len = scratch.len;
        let tail = &mut scratch.bytes[len - self.digits..len];
        if self.digits == 8 {
            tail.copy_from_slice(&digits8(number as u32));
        } else {
            write_long(number, tail);
        }
        &scratch.bytes[..len]
    }

    /// Lays out everything but the digits.
    fn prepare(&self, number: u64, scratch: &mut KeyScratch) {
        let span = (self.bytes_max - self.bytes_min + 1) as u64;
        let len = self.bytes_min + (mix(number) % span) as usize;
        scratch.len = len;
        scratch.bytes[..len].fill(FILL);
        scratch.bytes[..self.prefix.len()].copy_from_slice(&self.prefix);
    }
}

/// Room for one key. Belongs to one [`KeyFormat`]: what does not change between keys stays in it.
#[derive(Clone, Debug)]
pub(crate) struct KeyScratch {
    bytes: [u8; KEY_BYTES_MAX],
    len: usize,
}

impl KeyScratch {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; KEY_BYTES_MAX], len: usize::MAX }
    }
}

/// Eight decimal digits of a number below 10^8, in three steps of parallel division.
#[inline]
fn digits8(number: u32) -> [u8; 8] {
    let number = u64::from(number % 100_000_000);
    let (high, low) = (number / 10_000, number % 10_000);
    let quads = high | (low << 32);
    // Each 32-bit half holds four digits; 5243 / 2^19 is 1 / 100 for numbers below 10^4.
    let hundreds = ((quads.wrapping_mul(5243)) >> 19) & 0x0000_007f_0000_007f;
    let pairs = quads.wrapping_sub(hundreds.wrapping_mul(100)) << 16 | hundreds;
    // Each 16-bit quarter holds two digits; 103 / 2^10 is 1 / 10 for numbers below 100.
    let tens = (pairs.wrapping_mul(103) >> 10) & 0x000f_000f_000f_000f;
    let digits = pairs.wrapping_sub(tens.wrapping_mul(10)) << 8 | tens;
    (digits | 0x3030_3030_3030_3030).to_le_bytes()
}

fn write_long(mut number: u64, tail: &mut [u8]) {
    for chunk in tail.rchunks_mut(8) {
        let digits = digits8((number % 100_000_000) as u32);
        chunk.copy_from_slice(&digits[8 - chunk.len()..]);
        number /= 100_000_000;
    }
}

/// SplitMix64's finalizer: a bijection that scatters numbers.
#[inline]
pub(crate) const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{KeyFormat, KeyScratch, digits8};

    #[test]
    fn digits_are_those_of_the_number() {
        let mut number = 0u32;
        while number < 100_000_000 {
            assert_eq!(&digits8(number), format!("{number:08}").as_bytes());
            number += 1 + number / 1000 + number % 7;
        }
        assert_eq!(&digits8(99_999_999), b"99999999");
    }

    #[test]
    fn keys_have_the_stated_length_and_are_distinct() {
        let format = KeyFormat::new("key:", 16, 16, 1 << 20).unwrap();
        let mut scratch = KeyScratch::new();
        assert_eq!(format.write(42, &mut scratch), b"key:----00000042");
        assert_eq!(format.write(1_048_575, &mut scratch), b"key:----01048575");

        let ranged = KeyFormat::new("k", 20, 40, u64::MAX).unwrap_err();
        assert!(ranged.contains("21 bytes"), "{ranged}");
        let ranged = KeyFormat::new("k", 21, 40, u64::MAX).unwrap();
        let mut scratch = KeyScratch::new();
        let lens: Vec<usize> = (0..500).map(|n| ranged.write(n << 40, &mut scratch).len()).collect();
        assert_eq!((lens.iter().min(), lens.iter().max()), (Some(&21), Some(&40)));
        assert!(ranged.write(u64::MAX, &mut scratch).ends_with(b"18446744073709551615"));
    }
}
