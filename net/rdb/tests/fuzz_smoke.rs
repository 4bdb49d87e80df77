//! Runs the fuzz entry over the seed corpus, over every prefix of it and over seeded mutations.

mod fuzz_entry;

use std::path::Path;

use pinnace_types::Prng;

const MUTATIONS: u32 = 50_000;

fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/rdb");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus is there");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn reader_holds_on_corpus_prefixes_and_mutations() {
    let seeds = corpus();
    for seed in &seeds {
        fuzz_entry::rdb_entry(seed);
        (0..seed.len()).step_by(seed.len() / 500 + 1).for_each(|len| fuzz_entry::rdb_entry(&seed[..len]));
    }
    let mut prng = Prng::new(0x5eed);
    for _ in 0..MUTATIONS {
        let mut input = seeds[prng.below(seeds.len() as u64) as usize].clone();
        for _ in 0..=prng.below(4) {
            let at = prng.below(input.len() as u64) as usize;
            let len = prng.below((input.len() - at) as u64).min(16) as usize;
            match prng.below(4) {
                0 => input[at] = prng.next_u64() as u8,
                1 => input[at] ^= 1 << prng.below(8),
                2 => drop(input.drain(at..at + len)),
                _ => {
                    let copy = input[at..at + len].to_vec();
                    input.splice(at..at, copy);
                }
            }
            if input.is_empty() {
                break;
            }
        }
        fuzz_entry::rdb_entry(&input);
    }
}
