//! Glob patterns: `*`, `?`, `[a-c]`, `[^x]` and backslash escapes, as KEYS, SCAN and PSUBSCRIBE take them.
//!
//! Only the last `*` is ever taken back: everything after it is matched afresh one byte further on,
//! and earlier stars need not be reconsidered, because a star matches whatever the later ones leave
//! over. So the work is bounded by pattern length times text length; a pattern like `a*a*a*a*b`
//! cannot blow it up, as it does in a recursive matcher.

/// Whether `text` matches `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, |byte| byte)
}

/// Whether `text` matches `pattern`, ASCII case aside.
#[must_use]
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, |byte| byte.to_ascii_lowercase())
}

fn run(pattern: &[u8], text: &[u8], fold: impl Fn(u8) -> u8 + Copy) -> bool {
    if text.is_empty() {
        return pattern.is_empty(); // Redis' odd corner: not even `*` matches the empty text.
    }
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        match element(&pattern[p..], text[t], fold) {
            Some(width) => (p, t) = (p + width, t + 1),
            None => {
                let Some((after_star, matched)) = retry else { return false };
                retry = Some((after_star, matched + 1));
                (p, t) = (after_star, matched + 1);
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The pattern bytes taken by the element that `byte` matches, which is not a star; `None` if it
/// does not match.
fn element(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => class(pattern, byte, fold),
        [b'\\', escaped, ..] => (fold(escaped) == fold(byte)).then_some(2),
        [literal, ..] => (fold(literal) == fold(byte)).then_some(1),
    }
}

/// As [`element`] for a class. A class that is never closed ends with the pattern. A `]` right after
/// the bracket closes an empty class, which matches nothing.
fn class(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut found = false;
    let wanted = fold(byte);
    let width = loop {
        match pattern[at..] {
            [] => break at,
            [b'\\', escaped, ..] => {
                found |= fold(escaped) == wanted;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [start, b'-', end, ..] => {
                // Signed, as C's `char` on the platforms Redis runs on: it decides which way round
                // a range with one end over 127 goes.
                let (start, end) = (fold(start) as i8, fold(end) as i8);
                found |= (start.min(end)..=start.max(end)).contains(&(wanted as i8));
                at += 3;
            }
            [member, ..] => {
                found |= fold(member) == wanted;
                at += 1;
            }
        }
    };
    (found != negated).then_some(width)
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_ignore_case};
    use proptest::prelude::*;

    fn check(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn literals_stars_and_question_marks() {
        for (pattern, text) in [
            ("", ""),
            ("a", "a"),
            ("*", "a"),
            ("**", "abc"),
            ("a*c", "ac"),
            ("a*c", "abbc"),
            ("?", "x"),
            ("a**", "a"),
        ] {
            assert!(check(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a", ""), ("*", ""), ("?", ""), ("a*c", "ab"), ("a?", "a"), ("a", "ab")]
        {
            assert!(!check(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn classes_ranges_and_escapes() {
        for (pattern, text) in [
            ("[abc]", "b"),
            ("[a-c]x", "cx"),
            ("[c-a]", "b"),
            ("[^a]", "b"),
            ("[^]", "b"),
            ("[a-]", "^"),
            ("[-a]", "-"),
            ("[\\]]", "]"),
            ("[\\-a]", "-"),
            ("\\*", "*"),
            ("\\", "\\"),
            ("a[b", "ab"),
            ("a[^b", "ac"),
            ("h[a-cx]llo*", "hxllo world"),
        ] {
            assert!(check(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("[abc]", "d"),
            ("[]", "]"),
            ("[^a]", "a"),
            ("\\*", "a"),
            ("[^a-c]", "b"),
            ("a[", "ab"),
            ("[]a]", "a"),
        ] {
            assert!(!check(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn case_is_folded_only_on_request() {
        assert!(!check("ABC*", "abcd"));
        assert!(matches_ignore_case(b"A[B-C]C*", b"abCd"));
    }

    #[test]
    fn patterns_made_to_backtrack_stay_cheap() {
        let text = vec![b'a'; 20_000];
        let mut pattern = b"a*".repeat(1_000);
        pattern.push(b'b');
        assert!(!matches(&pattern, &text));
        pattern.pop();
        assert!(matches(&pattern, &text));
    }

    /// The definition, as a recursion that tries everything.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some(b'*') => (0..=text.len()).any(|skip| model(&pattern[1..], &text[skip..])),
            Some(_) => {
                !text.is_empty()
                    && super::element(pattern, text[0], |b| b)
                        .is_some_and(|w| model(&pattern[w..], &text[1..]))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_recursive_definition(pattern in "[ab*?\\[\\]^\\\\-]{0,9}", text in "[ab\\]^-]{1,9}") {
            prop_assert_eq!(check(&pattern, &text), model(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_bytes_are_safe(
            pattern in proptest::collection::vec(any::<u8>(), 0..20),
            text in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let _ = matches(&pattern, &text);
        }
    }
}
