//! LCS: the longest common subsequence of two strings.

use pinnace_engine::value::lcs::{self, Common};
use pinnace_protocol::{Args, resp};

use super::argument::integer;
use super::refusal::{Refusal, SYNTAX};
use super::value::string;
use super::{READ, docs, keyed, spec};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[spec(
    "lcs",
    -3,
    READ,
    KeySpec::TWO,
    Run::Keyed(keyed!(run)),
    docs(
        "string",
        "7.0.0",
        "O(N*M) with N and M the lengths",
        "Finds the longest common subsequence of two strings.",
    ),
)];

const BOTH_LENGTH_AND_INDEX: &str = "ERR If you want both the length and indexes, please just use IDX.";
const TOO_MUCH_MEMORY: &str = "ERR Insufficient memory, failed allocating transient memory for LCS";

/// Largest table: it lies outside of the memory budget, and filling it stalls the core for some ms.
/// Two strings of 2 KiB fit; Redis takes what the system gives.
const TABLE_BYTES_MAX: u64 = 32 << 20;

#[derive(Default)]
struct Options {
    wants_length: bool,
    wants_matches: bool,
    with_match_length: bool,
    match_length_min: i64,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Self, Refusal> {
        let mut options = Self::default();
        let mut index = 3;
        while let Some(option) = args.get(index) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"idx") {
                options.wants_matches = true;
            } else if is(b"len") {
                options.wants_length = true;
            } else if is(b"withmatchlen") {
                options.with_match_length = true;
            } else if is(b"minmatchlen")
                && let Some(min) = args.get(index + 1)
            {
                options.match_length_min = integer(min)?.max(0);
                index += 1;
            } else {
                return Err(SYNTAX.into());
            }
            index += 1;
        }
        Ok(options)
    }
}

fn run(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let mut strings = [Vec::new(), Vec::new()];
    for (bytes, string_at) in strings.iter_mut().zip(1..) {
        let key = exec.ks.key(args.at(string_at));
        if let Some(entry) = exec.ks.get(&key) {
            string(&entry)?.copy_to(bytes);
        }
    }
    let options = Options::parse(args)?;
    if options.wants_length && options.wants_matches {
        return Err(BOTH_LENGTH_AND_INDEX.into());
    }
    let [a, b] = strings;
    if lcs::table_bytes(a.len(), b.len()) > TABLE_BYTES_MAX {
        return Err(TOO_MUCH_MEMORY.into());
    }
    let common = lcs::common(&a, &b);
    if options.wants_matches {
        reply_matches(exec, &common, &options);
    } else if options.wants_length {
        exec.integer(common.bytes.len() as i64);
    } else {
        exec.bulk(&common.bytes);
    }
    Ok(())
}

fn reply_matches(exec: &mut Exec<'_>, common: &Common, options: &Options) {
    let is_long_enough = |run: &&lcs::Match| run.len() as i64 >= options.match_length_min;
    let matches: Vec<_> = common.matches.iter().filter(is_long_enough).collect();
    resp::map(exec.out.bytes(), exec.resp, 2);
    exec.bulk(b"matches");
    resp::array(exec.out.bytes(), matches.len());
    for run in matches {
        resp::array(exec.out.bytes(), if options.with_match_length { 3 } else { 2 });
        for (first, last) in [run.a, run.b] {
            resp::array(exec.out.bytes(), 2);
            exec.integer(first as i64);
            exec.integer(last as i64);
        }
        if options.with_match_length {
            exec.integer(run.len() as i64);
        }
    }
    exec.bulk(b"len");
    exec.integer(common.bytes.len() as i64);
}
