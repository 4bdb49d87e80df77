//! LZF decompression, as Redis writes long strings.

/// Appends the `len` bytes that `input` stands for to `out`; `None` if it stands for anything else.
pub(crate) fn decompress(input: &[u8], len: usize, out: &mut Vec<u8>) -> Option<()> {
    /// Below: so many plain bytes follow, and one.
    const PLAIN: u8 = 32;
    let start = out.len();
    let end = start + len;
    let mut bytes = input;
    while let Some((&control, rest)) = bytes.split_first() {
        bytes = rest;
        if control < PLAIN {
            let (plain, rest) = bytes.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(plain);
            bytes = rest;
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                let (&more, rest) = bytes.split_first()?;
                count += usize::from(more);
                bytes = rest;
            }
            let (&low, rest) = bytes.split_first()?;
            bytes = rest;
            let distance = (usize::from(control & 31) << 8 | usize::from(low)) + 1;
            let from = out.len().checked_sub(distance).filter(|&from| from >= start)?;
            // The copy may run into what it writes: that is how repetition is told.
            for at in from..from + count + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > end {
            return None;
        }
    }
    (out.len() == end).then_some(())
}

#[cfg(test)]
mod tests {
    use super::decompress;

    fn run(input: &[u8], len: usize) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        decompress(input, len, &mut out).map(|()| out.split_off(6))
    }

    #[test]
    fn plain_bytes_and_repetitions() {
        assert_eq!(run(&[2, b'a', b'b', b'c'], 3).unwrap(), b"abc");
        // One byte, then ten more of it: a distance of one.
        assert_eq!(run(&[0, b'x', 0xE0, 1, 0], 11).unwrap(), b"xxxxxxxxxxx");
        assert_eq!(run(&[1, b'a', b'b', 0x40, 1], 6).unwrap(), b"ababab");
        assert_eq!(run(&[], 0).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_or_points_before_the_start_is_refused() {
        for (input, len) in [
            (&[2, b'a'][..], 3),
            (&[0, b'x', 0xE0], 11),
            (&[0, b'x', 0xE0, 1], 11),
            (&[0, b'x', 0x20, 1], 4),
            (&[0, b'x'], 2),
            (&[1, b'x', b'y'], 1),
        ] {
            assert_eq!(run(input, len), None, "{input:?}");
        }
    }
}
