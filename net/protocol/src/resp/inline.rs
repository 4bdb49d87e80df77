//! Inline commands: words on a line, with the quoting rules of Redis' own splitter.
//!
//! Words are separated by white space. Within double quotes `\n \r \t \b \a`, `\xHH` and `\` before
//! any other byte are escapes; within single quotes only `\'` is. A closing quote must be followed
//! by white space or the end of the line. Quotes may open in the middle of a word.

use super::RespError;
use crate::ArgRange;

/// Where the words of a line are.
pub(super) enum Words {
    /// In the line itself: ranges were appended, relative to the line.
    InPlace,
    /// In the vector, because a word held an escape or a quote within.
    Unescaped(Vec<u8>),
}

/// Splits `line`, which has no line end, and appends one range per word.
///
/// On an error `ranges` may hold words of the line; the caller takes them off.
pub(super) fn split(line: &[u8], ranges: &mut Vec<ArgRange>) -> Result<Words, RespError> {
    let base = ranges.len();
    if split_in_place(line, ranges)? {
        return Ok(Words::InPlace);
    }
    ranges.truncate(base);
    let mut words = Vec::with_capacity(line.len());
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let start = words.len();
        rest = skip_space(unescape_word(rest, &mut words)?);
        ranges.push(ArgRange { start: start as u32, len: (words.len() - start) as u32 });
    }
    Ok(Words::Unescaped(words))
}

/// White space between words, in C's sense.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// What ends a word outside of quotes. Vertical tab and form feed do not: so it is in Redis.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn skip_space(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&b| !is_space(b)).unwrap_or(line.len());
    &line[start..]
}

/// Appends ranges of words that are bare or wholly within one pair of quotes; `false` if a word is
/// anything else.
fn split_in_place(line: &[u8], ranges: &mut Vec<ArgRange>) -> Result<bool, RespError> {
    let mut at = 0;
    loop {
        at += line[at..].len() - skip_space(&line[at..]).len();
        let Some(&first) = line.get(at) else { return Ok(true) };
        let word = &line[at..];
        let (skip, len) = if matches!(first, b'"' | b'\'') {
            let body = &word[1..];
            let end = body.iter().position(|&b| b == first || b == b'\\');
            match end {
                Some(end) if body[end] == first => (1, end),
                Some(_) => return Ok(false),
                None => return Err(RespError::UnbalancedQuotes),
            }
        } else {
            let len = word.iter().position(|&b| ends_word(b)).unwrap_or(word.len());
            if word[..len].iter().any(|b| matches!(b, b'"' | b'\'')) {
                return Ok(false);
            }
            (0, len)
        };
        ranges.push(ArgRange { start: (at + skip) as u32, len: len as u32 });
        at += skip + len + skip;
        if skip > 0 && line.get(at).is_some_and(|&b| !is_space(b)) {
            return Err(RespError::UnbalancedQuotes);
        }
    }
}

/// Appends the first word of `line` to `out` and returns what follows it.
fn unescape_word<'l>(mut line: &'l [u8], out: &mut Vec<u8>) -> Result<&'l [u8], RespError> {
    while let [byte, rest @ ..] = line {
        match byte {
            b'"' => line = unescape_double(rest, out)?,
            b'\'' => line = unescape_single(rest, out)?,
            &byte if ends_word(byte) => break,
            &byte => {
                out.push(byte);
                line = rest;
                continue;
            }
        }
        // A quoted part ends its word.
        return match line {
            [next, ..] if !is_space(*next) => Err(RespError::UnbalancedQuotes),
            _ => Ok(line),
        };
    }
    Ok(line)
}

/// The part behind an opening double quote, up to and with the closing one.
fn unescape_double<'l>(mut line: &'l [u8], out: &mut Vec<u8>) -> Result<&'l [u8], RespError> {
    loop {
        let (byte, rest) = match line {
            [] => return Err(RespError::UnbalancedQuotes),
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', b'x', high, low, rest @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                (hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0), rest)
            }
            [b'\\', escaped, rest @ ..] => (escape(*escaped), rest),
            [byte, rest @ ..] => (*byte, rest),
        };
        out.push(byte);
        line = rest;
    }
}

/// The part behind an opening single quote, up to and with the closing one.
fn unescape_single<'l>(mut line: &'l [u8], out: &mut Vec<u8>) -> Result<&'l [u8], RespError> {
    loop {
        let (byte, rest) = match line {
            [] => return Err(RespError::UnbalancedQuotes),
            [b'\\', b'\'', rest @ ..] => (b'\'', rest),
            [b'\'', rest @ ..] => return Ok(rest),
            [byte, rest @ ..] => (*byte, rest),
        };
        out.push(byte);
        line = rest;
    }
}

fn escape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
