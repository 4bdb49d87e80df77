//! Runs the fuzz entries over the seed corpus and over seeded mutations of it.

mod fuzz_entry;

use std::path::Path;

use pinnace_types::Prng;

const MUTATIONS: u32 = 100_000;
const INPUT_BYTES_MAX: usize = 4096;

#[test]
fn resp_decoder_holds_on_corpus_and_mutations() {
    smoke("resp", fuzz_entry::resp_entry);
}

#[test]
fn native_decoder_holds_on_corpus_and_mutations() {
    smoke("native", fuzz_entry::native_entry);
}

fn smoke(target: &str, entry: fn(&[u8])) {
    let seeds = corpus(target);
    let dictionary = dictionary(target);
    seeds.iter().for_each(|seed| entry(seed));
    let mut prng = Prng::new(0x5eed);
    let mut input = Vec::new();
    for _ in 0..MUTATIONS {
        input.clear();
        input.extend_from_slice(&seeds[prng.below(seeds.len() as u64) as usize]);
        for _ in 0..=prng.below(4) {
            mutate(&mut input, &mut prng, &seeds, &dictionary);
        }
        input.truncate(INPUT_BYTES_MAX);
        entry(&input);
    }
}

fn mutate(input: &mut Vec<u8>, prng: &mut Prng, seeds: &[Vec<u8>], dictionary: &[Vec<u8>]) {
    let at = prng.below(input.len() as u64 + 1) as usize;
    let some = |prng: &mut Prng, len: usize| prng.below(len as u64) as usize;
    match prng.below(7) {
        0 if at < input.len() => input[at] = prng.next_u64() as u8,
        1 if at < input.len() => input[at] ^= 1 << prng.below(8),
        2 => input.truncate(at),
        3 => drop(input.drain(at..at + some(prng, input.len() - at + 1))),
        4 => drop(input.splice(at..at, dictionary[some(prng, dictionary.len())].iter().copied())),
        5 => {
            let other = &seeds[some(prng, seeds.len())];
            let from = some(prng, other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let copy = input[at..at + some(prng, input.len() - at + 1)].to_vec();
            input.splice(at..at, copy);
        }
    }
}

fn fuzz_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = fuzz_dir().join("corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// The words of a libFuzzer dictionary: lines of `name="text"` with `\xHH`, `\\` and `\"`.
fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(fuzz_dir().join(format!("{target}.dict"))).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let (open, close) = (line.find('"').unwrap(), line.rfind('"').unwrap());
            unescape(&line[open + 1..close])
        })
        .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next().unwrap() {
                b'x' => {
                    let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                    out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                }
                other => out.push(other),
            },
            _ => out.push(byte),
        }
    }
    out
}
