//! Values: size and content follow from the key's number alone, so that every reply can be checked.

use pinnace_types::Prng;

use super::keys::mix;
use super::sizes::SizeDistribution;

/// Values begin anywhere in this many bytes of the pool.
const OFFSET_SPAN: usize = 4096;
/// The first bytes of a value are a stamp of its key.
const STAMP_BYTES: usize = 8;
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";

/// Makes and checks values. Shared by all threads of a run.
#[derive(Debug)]
pub(crate) struct Values {
    sizes: SizeDistribution,
    seed: u64,
    /// Random text; a value is its key's stamp and then a piece of this.
    pool: Vec<u8>,
}

impl Values {
    /// Values of those sizes, and of others that a trace tells, up to `bytes_max`.
    pub(crate) fn new(sizes: SizeDistribution, bytes_max: usize, seed: u64) -> Self {
        let mut prng = Prng::new(seed ^ 0x76_616c);
        let pool = (0..bytes_max + OFFSET_SPAN).map(|_| ALPHABET[(prng.next_u64() & 63) as usize]).collect();
        Self { sizes, seed, pool }
    }

    /// Bytes of the value of key `number`.
    #[inline]
    pub(crate) fn len(&self, number: u64) -> usize {
        self.sizes.bytes(mix(number ^ self.seed))
    }

    /// Appends the value of key `number`, in `len` bytes.
    #[inline]
    pub(crate) fn write(&self, number: u64, len: usize, out: &mut Vec<u8>) {
        let (stamp, rest) = self.parts(number, len);
        out.extend_from_slice(&stamp[..len.min(STAMP_BYTES)]);
        out.extend_from_slice(rest);
    }

    /// Whether `value` is what key `number` was given, in `len` bytes.
    #[inline]
    pub(crate) fn is_right(&self, number: u64, len: usize, value: &[u8]) -> bool {
        let (stamp, rest) = self.parts(number, len);
        let stamp = &stamp[..len.min(STAMP_BYTES)];
        value.len() == len && &value[..stamp.len()] == stamp && &value[stamp.len()..] == rest
    }

    #[inline]
    fn parts(&self, number: u64, len: usize) -> ([u8; STAMP_BYTES], &[u8]) {
        let hash = mix(number.wrapping_add(self.seed));
        let mut stamp = [0; STAMP_BYTES];
        for (index, byte) in stamp.iter_mut().enumerate() {
            *byte = ALPHABET[(hash >> (6 * index) & 63) as usize];
        }
        let start = (hash >> 50) as usize % OFFSET_SPAN;
        (stamp, &self.pool[start..start + len.saturating_sub(STAMP_BYTES)])
    }
}

#[cfg(test)]
mod tests {
    use super::{SizeDistribution, Values};

    #[test]
    fn a_value_is_right_for_its_key_only() {
        let values = Values::new(SizeDistribution::parse("0-300").unwrap(), 300, 7);
        for number in 0..300 {
            let len = values.len(number);
            let mut value = Vec::new();
            values.write(number, len, &mut value);
            assert!(values.is_right(number, len, &value));
            if len >= 8 {
                let other = number + 1;
                assert!(!values.is_right(other, values.len(other), &value), "{number}");
                value[len - 1] ^= 1;
                assert!(!values.is_right(number, len, &value));
            }
        }
    }
}
