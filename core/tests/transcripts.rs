//! Replays `testdata/*.resp` against one core, and against several with the keys spread over them.
//!
//! The replies in the files come from a real Redis: `tests/transcripts_against_redis.py` writes and
//! checks them and describes the format.

mod mesh;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mesh::{Client, Mesh};

const MEMORY_BYTES: u64 = 64 << 20;

/// What a reply has to be.
enum Expected {
    Exactly(Vec<u8>),
    /// The same elements of an array in any order.
    Elements(Vec<u8>),
    Integer(i64, i64),
}

impl Expected {
    fn accepts(&self, reply: &[u8]) -> bool {
        match self {
            Self::Exactly(bytes) => bytes == reply,
            Self::Elements(bytes) => elements(bytes) == elements(reply),
            Self::Integer(low, high) => integer(reply).is_some_and(|value| (*low..=*high).contains(&value)),
        }
    }
}

fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?).ok()?.parse().ok()
}

/// An array of bulk strings as how often each occurs.
fn elements(reply: &[u8]) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    let mut rest = reply;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let line = &rest[..end];
        let text = std::str::from_utf8(line).unwrap_or_default();
        let len = text.strip_prefix('$').and_then(|len| len.parse::<usize>().ok()).map_or(0, |len| len + 2);
        let (element, behind) = rest.split_at(end + 2 + len);
        *counts.entry(element.to_vec()).or_insert(0) += 1;
        rest = behind;
    }
    counts
}

/// Reads escapes up to `end`; gives the bytes and the text behind `end`.
fn unescape(text: &str, end: Option<char>) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            char if Some(char) == end => break,
            '\\' => bytes.push(match chars.next().expect("an escape is not cut short") {
                'r' => b'\r',
                'n' => b'\n',
                't' => b'\t',
                'x' => {
                    let mut digit =
                        || chars.next().and_then(|c| c.to_digit(16)).expect("two hexadecimal digits");
                    (digit() * 16 + digit()) as u8
                }
                other => other as u8,
            }),
            char => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    (bytes, chars.as_str())
}

fn arguments(line: &str) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (bytes, behind) = unescape(quoted, Some('"'));
            args.push(bytes);
            rest = behind.trim_start();
        } else {
            let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            args.push(word.as_bytes().to_vec());
            rest = behind.trim_start();
        }
    }
    args
}

fn expectation(lines: &[&str]) -> Expected {
    let mut bytes = Vec::new();
    let mut any_order = false;
    for line in lines {
        if let Some(bounds) = line.strip_prefix("<in ") {
            let (low, high) = bounds.split_once(' ').expect("two bounds");
            return Expected::Integer(low.parse().expect("a bound"), high.parse().expect("a bound"));
        }
        any_order |= *line == "<sorted";
        if let Some(text) = line.strip_prefix("< ") {
            bytes.extend_from_slice(&unescape(text, None).0);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    if any_order { Expected::Elements(bytes) } else { Expected::Exactly(bytes) }
}

/// Replays a file; gives the number of requests and describes the replies that are wrong.
fn replay(text: &str, mesh: &mut Mesh, client: Client) -> (usize, Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    let (mut requests, mut failures, mut index) = (0, Vec::new(), 0);
    mesh.request(client, &[b"FLUSHALL"]);
    mesh.request(client, &[b"HELLO", b"2"]);
    while index < lines.len() {
        let line = lines[index];
        index += 1;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "@flush" => drop(mesh.request(client, &[b"FLUSHALL"])),
            "@resp" => drop(mesh.request(client, &[b"HELLO", rest.as_bytes()])),
            "@wait" => mesh.wait(rest.parse().expect("milliseconds")),
            ">" => {
                let end = index + lines[index..].iter().take_while(|line| line.starts_with('<')).count();
                let args = arguments(rest);
                let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                let reply = mesh.request(client, &args);
                if !expectation(&lines[index..end]).accepts(&reply) {
                    let (expected, reply) = (lines[index..end].join(" "), reply.escape_ascii());
                    failures.push(format!("{index}: {rest}\n  expected {expected}\n  got      {reply}"));
                }
                (requests, index) = (requests + 1, end);
            }
            _ => assert!(word.is_empty() || matches!(word, "#" | "@since" | "@before" | "@own"), "{line}"),
        }
    }
    (requests, failures)
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let entries = std::fs::read_dir(directory).expect("the transcripts are part of the crate");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "resp"));
    files.sort();
    files
}

fn replay_all(core_count: u16) {
    let mut report = String::new();
    for path in files() {
        let mut mesh = Mesh::new(core_count, MEMORY_BYTES);
        let client = mesh.connect(usize::from(core_count) - 1);
        let text = std::fs::read_to_string(&path).expect("a transcript is text");
        let (requests, failures) = replay(&text, &mut mesh, client);
        assert!(requests > 0, "{} holds no request", path.display());
        for failure in failures {
            report.push_str(&format!("{}:{failure}\n", path.file_name().unwrap_or_default().display()));
        }
    }
    assert!(report.is_empty(), "{core_count} cores:\n{report}");
}

#[test]
fn one_core_replies_as_redis_does() {
    replay_all(1);
}

#[test]
fn two_cores_reply_as_redis_does() {
    replay_all(2);
}

#[test]
fn five_cores_reply_as_redis_does() {
    replay_all(5);
}
