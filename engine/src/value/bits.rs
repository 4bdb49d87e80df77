//! Single bits, bit counts, bit searches and bitwise operations on strings.
//!
//! Bit 0 is the most significant bit of the first byte. Values come as the slices they lie in, so
//! that a large one is read in place.

use super::range::Span;

/// Bit `offset`; bits past the end are 0.
#[must_use]
pub fn get(bytes: &[u8], offset: u64) -> bool {
    usize::try_from(offset / 8)
        .ok()
        .and_then(|index| bytes.get(index))
        .is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets bit `offset`, which must lie within `bytes`, and gives its old value.
pub fn put(bytes: &mut [u8], offset: u64, on: bool) -> bool {
    let byte = &mut bytes[(offset / 8) as usize];
    let was = *byte & mask(offset) != 0;
    if on {
        *byte |= mask(offset);
    } else {
        *byte &= !mask(offset);
    }
    was
}

fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// The bytes of one slice that a range of bits touches: the first and last one masked, the ones
/// between whole.
struct Window<'a> {
    head: u8,
    middle: &'a [u8],
    tail: u8,
}

/// Cuts a range of bits, relative to `slice`, out of it. Bits outside of the range are set to `fill`.
fn window(slice: &[u8], first: u64, last: u64, fill: bool) -> Window<'_> {
    let (from, to) = ((first / 8) as usize, (last / 8) as usize);
    let head_mask = 0xffu8 >> (first % 8);
    let tail_mask = 0xffu8 << (7 - last % 8);
    let keep = |byte: u8, mask: u8| if fill { byte | !mask } else { byte & mask };
    if from == to {
        let neutral = if fill { 0xff } else { 0 };
        return Window { head: keep(slice[from], head_mask & tail_mask), middle: &[], tail: neutral };
    }
    Window {
        head: keep(slice[from], head_mask),
        middle: &slice[from + 1..to],
        tail: keep(slice[to], tail_mask),
    }
}

/// The part of a range that lies in a slice of `len` bytes starting at byte `base`, relative to it.
fn clip(span: Span, base: u64, len: usize) -> Option<(u64, u64)> {
    let (begin, end) = (base * 8, (base + len as u64) * 8);
    if len == 0 || span.last < begin || span.first >= end {
        return None;
    }
    Some((span.first.max(begin) - begin, span.last.min(end - 1) - begin))
}

/// The number of ones among the bits of `span`, which must not reach past the end.
pub fn count<'a>(slices: impl Iterator<Item = &'a [u8]>, span: Span) -> u64 {
    let (mut base, mut total) = (0, 0);
    for slice in slices {
        if let Some((first, last)) = clip(span, base, slice.len()) {
            let window = window(slice, first, last, false);
            total += u64::from(window.head.count_ones() + window.tail.count_ones()) + ones(window.middle);
        }
        base += slice.len() as u64;
    }
    total
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from(u64::from_le_bytes(*word).count_ones())).sum::<u64>();
    words + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The first bit of `span` that is `wanted`; the span must not reach past the end.
pub fn find<'a>(slices: impl Iterator<Item = &'a [u8]>, wanted: bool, span: Span) -> Option<u64> {
    let mut base = 0;
    for slice in slices {
        if let Some((first, last)) = clip(span, base, slice.len()) {
            let window = window(slice, first, last, !wanted);
            let head = (base + first / 8) * 8;
            if let Some(bit) = first_in_byte(window.head, wanted) {
                return Some(head + bit);
            }
            if let Some(bit) = first_in_bytes(window.middle, wanted) {
                return Some(head + 8 + bit);
            }
            if let Some(bit) = first_in_byte(window.tail, wanted) {
                return Some((base + last / 8) * 8 + bit);
            }
        }
        base += slice.len() as u64;
    }
    None
}

fn first_in_byte(byte: u8, wanted: bool) -> Option<u64> {
    let seen = if wanted { byte } else { !byte };
    (seen != 0).then(|| u64::from(seen.leading_zeros()))
}

fn first_in_bytes(bytes: &[u8], wanted: bool) -> Option<u64> {
    let dull = if wanted { 0u64 } else { u64::MAX };
    let (words, _) = bytes.as_chunks::<8>();
    let skip = words.iter().take_while(|word| u64::from_ne_bytes(**word) == dull).count() * 8;
    let dull = if wanted { 0 } else { 0xff };
    let index = skip + bytes[skip..].iter().position(|&byte| byte != dull)?;
    first_in_byte(bytes[index], wanted).map(|bit| index as u64 * 8 + bit)
}

/// A bitwise operation over any number of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Ones where every string has a one.
    And,
    /// Ones where at least one string has a one.
    Or,
    /// Ones where an odd number of strings has a one.
    Xor,
    /// The complement of one string.
    Not,
}

impl Operation {
    /// The operation of that name, in any case.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        [(&b"and"[..], Self::And), (b"or", Self::Or), (b"xor", Self::Xor), (b"not", Self::Not)]
            .into_iter()
            .find(|(text, _)| text.eq_ignore_ascii_case(name))
            .map(|(_, operation)| operation)
    }
}

/// Folds strings into one, each as if it were followed by zeros.
#[derive(Debug)]
pub struct Fold<'b> {
    operation: Operation,
    result: &'b mut Vec<u8>,
    is_first: bool,
}

impl<'b> Fold<'b> {
    /// Starts with no string; the buffer's content is dropped and becomes the result.
    pub fn new(operation: Operation, result: &'b mut Vec<u8>) -> Self {
        result.clear();
        Self { operation, result, is_first: true }
    }

    /// Takes the next string in. An absent key is an empty string.
    pub fn add<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) {
        let mut base = 0;
        for slice in slices {
            let end = base + slice.len();
            if self.result.len() < end {
                self.result.resize(end, 0);
            }
            self.merge(base, slice);
            base = end;
        }
        if self.operation == Operation::And {
            self.result[base..].fill(0);
        }
        self.is_first = false;
    }

    fn merge(&mut self, base: usize, slice: &[u8]) {
        let target = &mut self.result[base..][..slice.len()];
        match self.operation {
            _ if self.is_first && self.operation != Operation::Not => target.copy_from_slice(slice),
            Operation::And => target.iter_mut().zip(slice).for_each(|(t, s)| *t &= s),
            Operation::Or => target.iter_mut().zip(slice).for_each(|(t, s)| *t |= s),
            Operation::Xor => target.iter_mut().zip(slice).for_each(|(t, s)| *t ^= s),
            Operation::Not => target.iter_mut().zip(slice).for_each(|(t, s)| *t = !s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bits_of(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() as u64 * 8).map(|offset| get(bytes, offset)).collect()
    }

    fn pieces(bytes: &[u8], cut: usize) -> Vec<&[u8]> {
        bytes.chunks(cut).collect()
    }

    #[test]
    fn bit_zero_is_the_highest_bit_of_the_first_byte() {
        let mut bytes = [0u8; 2];
        assert!(!put(&mut bytes, 0, true));
        assert!(!put(&mut bytes, 15, true));
        assert_eq!(bytes, [0x80, 0x01]);
        assert!(put(&mut bytes, 0, false));
        assert!(!get(&bytes, u64::MAX));
    }

    proptest! {
        #[test]
        fn count_and_find_agree_with_a_walk_over_the_bits(
            bytes in vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 1..40),
            cut in 1usize..40,
            ends: (u64, u64),
            wanted: bool,
        ) {
            let bits = bits_of(&bytes);
            let (a, b) = (ends.0 % bits.len() as u64, ends.1 % bits.len() as u64);
            let span = Span { first: a.min(b), last: a.max(b) };
            let inside = &bits[span.first as usize..=span.last as usize];
            let ones = inside.iter().filter(|bit| **bit).count() as u64;
            let first = inside.iter().position(|bit| *bit == wanted).map(|at| at as u64 + span.first);
            prop_assert_eq!(count(pieces(&bytes, cut).into_iter(), span), ones);
            prop_assert_eq!(find(pieces(&bytes, cut).into_iter(), wanted, span), first);
        }

        #[test]
        fn put_changes_one_bit(bytes in vec(any::<u8>(), 1..9), offset: u64, on: bool) {
            let offset = offset % (bytes.len() as u64 * 8);
            let mut after = bytes.clone();
            let mut model = bits_of(&bytes);
            prop_assert_eq!(put(&mut after, offset, on), model[offset as usize]);
            model[offset as usize] = on;
            prop_assert_eq!(bits_of(&after), model);
        }

        #[test]
        fn folds_agree_with_bytewise_operations(
            strings in vec(vec(any::<u8>(), 0..9), 1..5),
            cut in 1usize..9,
            which in 0usize..3,
        ) {
            let (operation, f): (_, fn(u8, u8) -> u8) = [
                (Operation::And, (|a, b| a & b) as fn(u8, u8) -> u8),
                (Operation::Or, |a, b| a | b),
                (Operation::Xor, |a, b| a ^ b),
            ][which];
            let mut result = vec![1, 2, 3];
            let mut fold = Fold::new(operation, &mut result);
            strings.iter().for_each(|string| fold.add(pieces(string, cut).into_iter()));
            let len = strings.iter().map(Vec::len).max().unwrap();
            let at = |s: &Vec<u8>, i: usize| s.get(i).copied().unwrap_or(0);
            let model: Vec<u8> = (0..len).map(|i| strings.iter().map(|s| at(s, i)).reduce(f).unwrap()).collect();
            prop_assert_eq!(result, model);
        }
    }

    #[test]
    fn not_is_the_complement() {
        let mut result = Vec::new();
        Fold::new(Operation::Not, &mut result).add([&b"\x00\xf0"[..], b"\xaa"].into_iter());
        assert_eq!(result, b"\xff\x0f\x55");
        assert_eq!(Operation::parse(b"NoT"), Some(Operation::Not));
        assert_eq!(Operation::parse(b"nand"), None);
    }
}
