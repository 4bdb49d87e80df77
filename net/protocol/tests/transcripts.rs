//! Plays `testdata/*.resp` against the decoder: whole, cut at every point, and byte by byte.
//!
//! A transcript is a list of cases, apart by empty lines. `#` starts a comment, `limits` (for the
//! rest of the file) and `send` tell the input, everything else what the decoder makes of it.
//! `REWRITE_TRANSCRIPTS=1 cargo test` writes down what it makes of it now; read the diff.

mod fuzz_entry;

use std::fmt::Write;
use std::path::Path;

use fuzz_entry::{Outcome, resp_outcomes};
use pinnace_protocol::resp::RespLimits;

#[test]
fn decoder_does_as_the_transcripts_say_however_the_stream_is_cut() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "resp"))
        .collect();
    files.sort();
    assert!(files.len() >= 3, "transcripts are missing: {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let played = play(&text);
        if std::env::var_os("REWRITE_TRANSCRIPTS").is_some() {
            std::fs::write(&file, played).unwrap();
        } else {
            assert_eq!(text, played, "{}", file.display());
        }
    }
}

/// The transcript with the expectations that hold.
fn play(text: &str) -> String {
    let mut limits = RespLimits::new(&pinnace_types::Limits::DEFAULT);
    let mut out = String::new();
    for case in text.trim_end().split("\n\n") {
        let mut stream = Vec::new();
        for line in case.lines() {
            if let Some(bytes) = line.strip_prefix("send ") {
                stream.extend(unescape(bytes));
            } else if let Some(words) = line.strip_prefix("limits ") {
                words.split(' ').for_each(|word| set_limit(&mut limits, word));
            } else if !line.starts_with('#') {
                continue;
            }
            writeln!(out, "{line}").unwrap();
        }
        if !stream.is_empty() {
            for outcome in play_case(&stream, &limits) {
                writeln!(out, "{}", print(&outcome)).unwrap();
            }
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn play_case(stream: &[u8], limits: &RespLimits) -> Vec<Outcome> {
    let whole = resp_outcomes(stream, &[], limits);
    let every: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(whole, resp_outcomes(stream, &every, limits), "{}", quote(stream));
    for &cut in &every {
        assert_eq!(whole, resp_outcomes(stream, &[cut], limits), "{} cut at {cut}", quote(stream));
    }
    whole
}

fn set_limit(limits: &mut RespLimits, word: &str) {
    let (name, value) = word.split_once('=').unwrap();
    let value: u64 = value.parse().unwrap();
    match name {
        "args" => limits.args_max = value as u32,
        "bulk" => limits.bulk_bytes_max = value,
        "line" => limits.line_bytes_max = value as u32,
        "request" => limits.request_bytes_max = value,
        _ => panic!("no limit is called {name}"),
    }
}

fn print(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Command(args) => {
            let args: Vec<String> = args.iter().map(|arg| format!("\"{}\"", quote(arg))).collect();
            format!("  command {}", args.join(" "))
        }
        Outcome::Nothing => "  nothing".to_owned(),
        Outcome::Incomplete(bytes) => format!("  incomplete, {bytes} bytes wait"),
        Outcome::Error(error) => {
            let mut reply = Vec::new();
            error.encode(&mut reply);
            format!("  error {}", quote(&reply))
        }
    }
}

fn quote(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().flat_map(|&byte| byte.escape_ascii()).map(char::from).collect();
    escaped.replace("\\'", "'")
}

/// `\r`, `\n`, `\t`, `\\`, `\"`, `\'`, `\xHH`, and `\{text}*count` for long input.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend(c.to_string().bytes());
            continue;
        }
        let kind = rest.chars().next().unwrap();
        rest = &rest[1..];
        match kind {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'x' => {
                out.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            '{' => {
                let (body, after) = rest.split_once("}*").unwrap();
                let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                out.extend(unescape(body).repeat(after[..digits].parse().unwrap()));
                rest = &after[digits..];
            }
            other => out.extend(other.to_string().bytes()),
        }
    }
    out
}
