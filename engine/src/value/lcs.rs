//! The longest common subsequence of two strings, by the textbook table.

/// A run of bytes that both strings share: inclusive positions, as LCS IDX reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// First and last position in the first string.
    pub a: (usize, usize),
    /// First and last position in the second string.
    pub b: (usize, usize),
}

impl Match {
    /// Bytes of the run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }

    /// Never: a run has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A common subsequence of greatest length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The runs it consists of, the last one first.
    pub matches: Vec<Match>,
}

/// Bytes of the table that [`common`] needs.
#[must_use]
pub fn table_bytes(a_len: usize, b_len: usize) -> u64 {
    (a_len as u64 + 1).saturating_mul(b_len as u64 + 1).saturating_mul(4)
}

/// Computes a longest common subsequence in time and memory proportional to the product of the
/// lengths; the caller bounds them with [`table_bytes`].
#[must_use]
pub fn common(a: &[u8], b: &[u8]) -> Common {
    let table = fill(a, b);
    let width = b.len() + 1;
    let (mut i, mut j) = (a.len(), b.len());
    let mut bytes = Vec::with_capacity(table[i * width + j] as usize);
    let mut matches: Vec<Match> = Vec::new();
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            bytes.push(a[i - 1]);
            (i, j) = (i - 1, j - 1);
            match matches.last_mut() {
                Some(run) if run.a.0 == i + 1 && run.b.0 == j + 1 => (run.a.0, run.b.0) = (i, j),
                _ => matches.push(Match { a: (i, i), b: (j, j) }),
            }
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    bytes.reverse();
    Common { bytes, matches }
}

/// The length of a longest common subsequence of every pair of prefixes, row by row.
fn fill(a: &[u8], b: &[u8]) -> Vec<u32> {
    let width = b.len() + 1;
    let mut table = vec![0u32; (a.len() + 1) * width];
    for (i, x) in a.iter().enumerate() {
        let (above, row) = table[i * width..].split_at_mut(width);
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Match, common};
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_documentation() {
        let found = common(b"ohmytext", b"mynewtext");
        assert_eq!(found.bytes, b"mytext");
        assert_eq!(found.matches, [Match { a: (4, 7), b: (5, 8) }, Match { a: (2, 3), b: (0, 1) }]);
    }

    #[test]
    fn nothing_in_common_is_empty() {
        assert!(common(b"", b"abc").matches.is_empty());
        assert!(common(b"xyz", b"abc").bytes.is_empty());
    }

    fn length(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([], _) | (_, []) => 0,
            ([x, a_rest @ ..], [y, b_rest @ ..]) if x == y => 1 + length(a_rest, b_rest),
            ([_, a_rest @ ..], [_, b_rest @ ..]) => length(a_rest, b).max(length(a, b_rest)),
        }
    }

    proptest! {
        #[test]
        fn runs_are_shared_ordered_and_of_greatest_length(a in "[abc]{0,9}", b in "[abc]{0,9}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let found = common(a, b);
            prop_assert_eq!(found.bytes.len(), length(a, b));
            let joined: Vec<u8> =
                found.matches.iter().rev().flat_map(|run| a[run.a.0..=run.a.1].to_vec()).collect();
            prop_assert_eq!(&joined, &found.bytes);
            for run in &found.matches {
                prop_assert_eq!(&a[run.a.0..=run.a.1], &b[run.b.0..=run.b.1]);
            }
        }
    }
}
