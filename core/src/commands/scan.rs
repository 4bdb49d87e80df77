//! SCAN: a walk over all keys in steps, core by core.
//!
//! A cursor is `position * cores + core`, the position being the engine's: the number of cores does
//! not change while a node runs. The engine walks in hash order within a shard, so growth of the
//! index neither skips nor repeats keys: a key that exists from the first step to the last is given
//! exactly once; one that comes or goes meanwhile, at most once (again if deleted and created).

use pinnace_engine::value::{glob, integer};
use pinnace_engine::{Entry, ScanCursor};
use pinnace_protocol::{Args, resp};
use pinnace_types::CoreId;

use super::keys::matches_all;
use super::refusal::{NOT_AN_INTEGER, SYNTAX};
use super::value::kind_name;
use super::{READ, docs, spec, with_part};
use crate::command::{CommandId, CommandSpec, KeySpec, Run};
use crate::core::Core;
use crate::gather::{Gather, Next, Outcome, PartRequest, SessionRef, Then};

pub(super) static SPECS: &[CommandSpec] = &[with_part(
    spec(
        "scan",
        -2,
        READ,
        KeySpec::NONE,
        Run::Session(scan),
        docs("generic", "2.8.0", "O(1) for every step", "Gives key names in steps."),
    ),
    scan_part,
)];

const INVALID_CURSOR: &str = "ERR invalid cursor";
/// Keys visited in a step unless COUNT says otherwise.
const COUNT_DEFAULT: u64 = 10;

/// One SCAN under way: a step may have to go on to the next core.
struct Walk {
    command: CommandId,
    core: CoreId,
    position: u64,
    /// Keys to visit yet.
    count: u64,
    pattern: Vec<u8>,
    /// Name of the type wanted; empty: any.
    kind: Vec<u8>,
    /// Keys found, as bulk strings.
    found: Vec<u8>,
    found_count: u64,
}

fn scan(core: &mut Core, _: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    match Walk::parse(core, args) {
        Ok(walk) => Outcome::Gather(walk.step()),
        Err(text) => {
            core.stats.count_error(text);
            resp::error(out, text);
            Outcome::Replied
        }
    }
}

/// Reads a cursor as C's `strtoul` does.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

impl Walk {
    fn parse(core: &Core, args: Args<'_>) -> Result<Self, &'static str> {
        let cursor = parse_cursor(args.at(1)).ok_or(INVALID_CURSOR)?;
        let cores = u64::from(core.core_count());
        let mut walk = Self {
            command: core.table.id(args.at(0)).expect("the command that runs stands in the table"),
            core: CoreId((cursor % cores) as u16),
            position: cursor / cores,
            count: COUNT_DEFAULT,
            pattern: b"*".to_vec(),
            kind: Vec::new(),
            found: Vec::new(),
            found_count: 0,
        };
        let mut index = 2;
        while let Some(option) = args.get(index) {
            let value = args.get(index + 1).ok_or(SYNTAX)?;
            if option.eq_ignore_ascii_case(b"count") {
                walk.count = match integer::parse(value).ok_or(NOT_AN_INTEGER)? {
                    count @ 1.. => count as u64,
                    _ => return Err(SYNTAX),
                };
            } else if option.eq_ignore_ascii_case(b"match") {
                walk.pattern = value.to_vec();
            } else if option.eq_ignore_ascii_case(b"type") {
                walk.kind = value.to_ascii_lowercase();
            } else {
                return Err(SYNTAX);
            }
            index += 2;
        }
        Ok(walk)
    }

    /// Asks the core that the walk has come to.
    fn step(self) -> Gather {
        let args = vec![
            b"scan".to_vec(),
            self.position.to_string().into_bytes(),
            self.count.to_string().into_bytes(),
            self.pattern.clone(),
            self.kind.clone(),
        ];
        let requests = vec![PartRequest { to: self.core, command: self.command, args, large: None }];
        let then =
            Box::new(move |core: &mut Core, _, parts: Vec<Vec<u8>>| self.join(core.core_count(), &parts[0]));
        // A later command of the connection must not run before a core's share of this one.
        Gather { requests, then: Then::Plain(then), barrier: true, alone: false, timeout_ms: 0 }
    }

    /// Takes a core's part in, and replies or goes on to the next core.
    fn join(mut self, core_count: u16, part: &[u8]) -> Next {
        let (header, keys) = part.split_at(Header::BYTES);
        let header = Header::decode(header);
        self.found.extend_from_slice(keys);
        self.found_count += header.found;
        self.count = self.count.saturating_sub(header.visited);
        let cores = u64::from(core_count);
        if let Some(position) = header.next {
            let cursor = position * cores + u64::from(self.core.0);
            return self.reply(cursor);
        }
        self.core.0 += 1;
        self.position = 0;
        if self.core.0 == core_count {
            self.reply(0)
        } else if self.count > 0 {
            Next::Gather(self.step())
        } else {
            let cursor = u64::from(self.core.0);
            self.reply(cursor)
        }
    }

    fn reply(self, cursor: u64) -> Next {
        let mut out = Vec::with_capacity(self.found.len() + 64);
        resp::array(&mut out, 2);
        resp::bulk(&mut out, cursor.to_string().as_bytes());
        resp::array(&mut out, self.found_count as usize);
        out.extend_from_slice(&self.found);
        Next::Reply(out)
    }
}

/// What stands in front of the keys that a core found.
struct Header {
    /// Where to go on; `None` at the end.
    next: Option<u64>,
    visited: u64,
    found: u64,
}

impl Header {
    const BYTES: usize = 24;
    /// Engine positions are below 2^48.
    const END: u64 = u64::MAX;

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [self.next.unwrap_or(Self::END), self.visited, self.found];
        for (chunk, field) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *chunk = field.to_le_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut fields = bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk));
        let mut field = || fields.next().expect("a header has three fields");
        let next = field();
        Self { next: (next != Self::END).then_some(next), visited: field(), found: field() }
    }
}

fn scan_part(core: &mut Core, args: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    let number = |index: usize| {
        let text = std::str::from_utf8(args.at(index)).expect("the walk wrote the numbers");
        text.parse::<u64>().expect("the walk wrote the numbers")
    };
    let (pattern, kind) = (args.at(3), args.at(4));
    let start = out.len();
    out.extend_from_slice(&[0; Header::BYTES]);
    let mut header = Header { next: None, visited: 0, found: 0 };
    let mut visit = |key: &[u8], entry: &Entry<'_>| {
        header.visited += 1;
        let is_wanted = kind.is_empty() || kind_name(entry.kind).as_bytes() == kind;
        if is_wanted && (matches_all(pattern) || glob::matches(pattern, key)) {
            header.found += 1;
            resp::bulk(out, key);
        }
    };
    let count = usize::try_from(number(2)).unwrap_or(usize::MAX);
    let next = core.ks.scan(ScanCursor::from(number(1)), count, &mut visit);
    header.next = next.map(u64::from);
    out[start..][..Header::BYTES].copy_from_slice(&header.encode());
}

#[cfg(test)]
mod tests {
    use super::parse_cursor;

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        assert_eq!(parse_cursor(b""), Some(0));
        assert_eq!(parse_cursor(b"00017"), Some(17));
        assert_eq!(parse_cursor(b"-1"), Some(u64::MAX));
        assert_eq!(parse_cursor(b"18446744073709551615"), Some(u64::MAX));
        for text in ["-", "+", " 1", "1x", "18446744073709551616"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }
}
