//! Replays public cache traces and compares the misses with published reference numbers.
//!
//! `PINNACE_TRACES=<directory of NAME.bin.zst> cargo run --release -p pinnace-engine --example traces`
//!
//! Prints one table for each bar and ends with status 1 if one is not met. A trace is an array of
//! 16-byte little-endian records: key u64, size u32, ttl u32. Sizes and TTLs are a synthetic overlay.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use pinnace_engine::{EngineConfig, GhostKind, Keyspace, ScanCursor, ValueRef};
use pinnace_types::{CoreId, Deadline, HashSeed, ShardMap, UnixMillis};

/// Name, capacities of 1 % and 10 % of the unique keys, and the misses of S3-FIFO there: with a small
/// queue of 10 % and threshold 2, and with 15 % and threshold 1.
const REFERENCE: [(&str, [Reference; 2]); 6] = [
    ("orm_busy", [(763, 1_218_103, 1_148_215), (7_634, 555_338, 569_213)]),
    ("scarab_recs", [(2_583, 712_887, 722_035), (25_836, 462_920, 463_020)]),
    ("oltp", [(1_868, 489_386, 490_989), (18_688, 294_563, 291_907)]),
    ("p3", [(7_625, 3_754_640, 3_756_426), (76_254, 2_585_484, 2_609_833)]),
    ("cphy_io", [(489, 94_559, 94_299), (4_897, 85_691, 85_057)]),
    ("mooncake_conv", [(1_827, 266_878, 266_706), (18_279, 217_651, 216_148)]),
];

/// Capacity, misses at 10 %/2, misses at 15 %/1.
type Reference = (u64, u64, u64);

struct Trace {
    name: &'static str,
    keys: Vec<u64>,
    unique: u64,
}

fn load(directory: &Path, name: &'static str) -> Result<Trace, Box<dyn std::error::Error>> {
    let file = std::fs::File::open(directory.join(format!("{name}.bin.zst")))?;
    let raw = zstd::decode_all(file)?;
    let keys: Vec<u64> = raw.as_chunks::<16>().0.iter().map(key_of).collect();
    let unique = keys.iter().collect::<BTreeSet<_>>().len() as u64;
    Ok(Trace { name, keys, unique })
}

fn key_of(record: &[u8; 16]) -> u64 {
    u64::from_le_bytes(*record.first_chunk().expect("a record has 16 bytes"))
}

/// The step of splitmix64 that the overlays are made with.
fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn overlay_size(key: u64) -> usize {
    let h = mix(key ^ 0x5249_4e47_4c41_4e45);
    let (q, r) = (h >> 48, h & 0xffff_ffff);
    let classes = [(16_384, 48, 96), (32_768, 96, 280), (49_152, 280, 640), (58_982, 640, 2400)];
    let last = [(64_226, 2400, 10_240), (65_536, 10_240, 65_536)];
    let fits = |&&(bound, _, _): &&(u64, u64, u64)| q < bound;
    let (_, lo, hi) = *classes.iter().chain(&last).find(fits).expect("q has 16 bits");
    (lo + (((hi - lo) * r) >> 32)) as usize
}

fn overlay_ttl_ms(key: u64) -> u64 {
    [60, 600, 3600, 86_400][(mix(key ^ 77) & 3) as usize] * 1000
}

fn config(memory_bytes: u64, shards: u16) -> EngineConfig {
    let mut config =
        EngineConfig::new(memory_bytes, ShardMap::new(shards, 1), CoreId(0), HashSeed::new(0x5eed));
    config.key_bytes_max = 512;
    config
}

fn by_count(capacity: u64, shards: u16, ghost: GhostKind) -> EngineConfig {
    let mut config = config(64 << 20, shards);
    (config.capacity_items, config.ghost) = (Some(capacity), ghost);
    config
}

fn build(config: EngineConfig) -> Keyspace {
    Keyspace::new(config).expect("the harness' settings are valid")
}

/// One cache-aside request; true if it was a miss.
fn request(ks: &mut Keyspace, key: u64, value: &[u8], deadline: Deadline) -> bool {
    let bytes = key.to_le_bytes();
    let key = ks.key(&bytes);
    let is_miss = ks.get(&key).is_none();
    if is_miss {
        ks.set(&key, value, deadline).expect("an evicting keyspace has room");
    }
    is_miss
}

fn replay(trace: &Trace, mut ks: Keyspace) -> u64 {
    trace.keys.iter().map(|&key| u64::from(request(&mut ks, key, b"", Deadline::NEVER))).sum()
}

/// The bars that were not met.
#[derive(Default)]
struct Verdict(Vec<String>);

impl Verdict {
    fn expect(&mut self, is_met: bool, what: impl Into<String>) {
        if !is_met {
            self.0.push(what.into());
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}

fn by_reference(trace: &Trace, references: &[Reference; 2], verdict: &mut Verdict) {
    for &(capacity, misses_10_2, misses_15_1) in references {
        let name = format!("{} @ {capacity}", trace.name);
        let exact = replay(trace, build(by_count(capacity, 1, GhostKind::Exact)));
        let mut config = by_count(capacity, 1, GhostKind::Exact);
        (config.small_share_percent, config.promote_threshold) = (15, 1);
        let exact_15 = replay(trace, build(config));
        let fingerprint = replay(trace, build(by_count(capacity, 1, GhostKind::Fingerprint)));
        let relative = 100.0 * (fingerprint as f64 / misses_10_2 as f64 - 1.0);
        println!(
            "{name:24} {exact:>10} {misses_10_2:>10} {exact_15:>10} {misses_15_1:>10} {fingerprint:>11} {relative:>+7.2}%"
        );
        verdict.expect(exact == misses_10_2, format!("{name}: S3-FIFO 10/2 exact"));
        verdict.expect(exact_15 == misses_15_1, format!("{name}: S3-FIFO 15/1 exact"));
        verdict.expect(relative.abs() <= 1.0, format!("{name}: fingerprint ghost within 1 %"));
    }
}

fn by_shards(trace: &Trace, capacity: u64, verdict: &mut Verdict) {
    let requests = trace.keys.len() as u64;
    let ratio =
        |shards| percent(replay(trace, build(by_count(capacity, shards, GhostKind::Fingerprint))), requests);
    let (one, sixteen) = (ratio(1), ratio(16));
    println!("{:24} {one:>9.3}% {sixteen:>9.3}% {:>+9.3}", trace.name, sixteen - one);
    verdict.expect((one - sixteen).abs() < 0.3, format!("{}: 16 shards within 0.3 points", trace.name));
}

/// Base misses with and without 20 scans, each as long as the cache.
fn by_scans(trace: &Trace, capacity: u64, verdict: &mut Verdict) {
    let base = replay(trace, build(by_count(capacity, 1, GhostKind::Fingerprint)));
    let mut ks = build(by_count(capacity, 1, GhostKind::Fingerprint));
    let every = trace.keys.len() / 20;
    let (mut misses, mut scanned) = (0, u64::MAX / 2);
    for (index, &key) in trace.keys.iter().enumerate() {
        if index % every == every / 2 {
            for _ in 0..capacity {
                scanned += 1;
                request(&mut ks, scanned, b"", Deadline::NEVER);
            }
        }
        misses += u64::from(request(&mut ks, key, b"", Deadline::NEVER));
    }
    let more = 100.0 * (misses as f64 / base as f64 - 1.0);
    println!("{:24} {base:>10} {misses:>10} {more:>+9.2}%", trace.name);
    verdict.expect(more <= 8.0, format!("{}: scans cost at most 8 %", trace.name));
}

/// Live bytes of a full budget while items of mixed sizes come, and are overwritten with new sizes.
fn by_sizes(trace: &Trace, share: u64, verdict: &mut Verdict) {
    let unique: BTreeSet<u64> = trace.keys.iter().copied().collect();
    let working_set: u64 = unique.iter().map(|&key| overlay_size(key) as u64).sum();
    let budget = working_set * share / 100;
    let mut ks = build(config(budget, 16));
    let value = vec![7u8; 65_536];
    let (mut misses, mut least, mut least_fresh) = (0, f64::MAX, f64::MAX);
    for (index, &key) in trace.keys.iter().enumerate() {
        misses += u64::from(request(&mut ks, key, &value[..overlay_size(key)], Deadline::NEVER));
        if ks.stats().evicted > 0 && index % 5000 == 0 {
            least = least.min(percent(ks.memory().live, budget));
        }
    }
    // Now every write has a new size, and keys are the trace's.
    for (index, &key) in trace.keys.iter().enumerate().take(600_000) {
        let size = overlay_size(key ^ ((index as u64) << 40));
        let bytes = key.to_le_bytes();
        ks.set(&ks.key(&bytes), &value[..size], Deadline::NEVER).expect("there is room");
        if index % 5000 == 0 && index > 100_000 {
            least_fresh = least_fresh.min(percent(ks.memory().live, budget));
        }
    }
    let copied = ks.stats().cleaned_bytes as f64 / (1 << 20) as f64;
    println!(
        "{:24} {:>7.1} MB {:>9.2}% {least:>9.1}% {least_fresh:>9.1}% {copied:>9.0} MB",
        trace.name,
        budget as f64 / 1e6,
        percent(misses, trace.keys.len() as u64)
    );
    verdict.expect(least >= 90.0, format!("{}: live bytes 90 % of {budget}", trace.name));
    // Bookkeeping that does not shrink with the budget takes 2 % more of the smallest one.
    let bar = if budget < 16 << 20 { 87.0 } else { 90.0 };
    verdict.expect(least_fresh >= bar, format!("{}: live bytes {bar} % of {budget}, new sizes", trace.name));
}

/// Bytes of the items that a scan visits: those that have not expired.
fn unexpired_bytes(ks: &mut Keyspace) -> u64 {
    let (mut bytes, mut cursor) = (0, Some(ScanCursor::START));
    while let Some(at) = cursor {
        cursor = ks.scan(at, 1000, &mut |key, entry| {
            // Header and deadline; a large value's number stands in the log.
            let number = if matches!(entry.value, ValueRef::Large(_)) { 4 } else { 0 };
            bytes += (12 + key.len() + entry.value.len() + number) as u64;
        });
    }
    bytes
}

fn by_ttl(trace: &Trace, capacity: u64, eager_percent: f64, verdict: &mut Verdict) {
    let requests = trace.keys.len() as u64;
    let clock = |index: usize| UnixMillis(1_000_000_000 + index as u64 * 86_400_000 / requests);
    let run = |mut ks: Keyspace, value: &[u8], sized: bool, budget: Option<u64>| {
        let (mut misses, mut worst) = (0, 0f64);
        for (index, &key) in trace.keys.iter().enumerate() {
            ks.set_now(clock(index));
            let deadline = Deadline::at(UnixMillis(clock(index).0 + overlay_ttl_ms(key)));
            let len = if sized { overlay_size(key) } else { 0 };
            misses += u64::from(request(&mut ks, key, &value[..len], deadline));
            ks.maintain(32);
            if index % 20_011 == 0 {
                let resident = ks.memory().live;
                let expired = resident - unexpired_bytes(&mut ks);
                worst = worst.max(percent(expired, budget.unwrap_or(resident.max(capacity * 20))));
            }
        }
        (misses, worst)
    };
    let value = vec![7u8; 65_536];
    let mut counted = by_count(capacity, 1, GhostKind::Fingerprint);
    (counted.memory_bytes, counted.segment_bytes) = ((capacity * 64).max(2 << 20), Some(8 << 10));
    let (misses, worst_count) = run(build(counted), &value, false, None);
    let unique: BTreeSet<u64> = trace.keys.iter().copied().collect();
    let budget = unique.iter().map(|&key| overlay_size(key) as u64).sum::<u64>() / 10;
    let (sized_misses, worst_bytes) = run(build(config(budget, 16)), &value, true, Some(budget));
    let ratio = percent(misses, requests);
    println!(
        "{:24} {ratio:>9.2}% {eager_percent:>9.1}% {worst_count:>9.2}% {:>9.2}% {worst_bytes:>9.2}%",
        trace.name,
        percent(sized_misses, requests)
    );
    verdict.expect(ratio <= eager_percent + 0.5, format!("{}: misses of eager expiry", trace.name));
    verdict.expect(worst_count <= 5.0, format!("{}: expired items at most 5 %, counted", trace.name));
    verdict.expect(worst_bytes <= 5.0, format!("{}: expired items at most 5 %, bytes", trace.name));
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let directory =
        std::env::var("PINNACE_TRACES").map_err(|_| "set PINNACE_TRACES to the traces' directory")?;
    let mut traces = Vec::new();
    for (name, _) in REFERENCE {
        traces.push(load(Path::new(&directory), name)?);
    }
    let mut verdict = Verdict::default();
    println!("trace @ objects            10/2 exact  reference 15/1 exact  reference fingerprint");
    for (trace, (_, references)) in traces.iter().zip(&REFERENCE) {
        by_reference(trace, references, &mut verdict);
    }
    println!("\nmisses at 10 %              1 shard  16 shards    points");
    for (trace, (_, references)) in traces.iter().zip(&REFERENCE) {
        by_shards(trace, references[1].0, &mut verdict);
    }
    println!("\n20 scans, cache 10 %          base  with scans      more");
    for trace in traces.iter().filter(|t| ["scarab_recs", "oltp"].contains(&t.name)) {
        by_scans(trace, trace.unique / 10, &mut verdict);
    }
    println!("\nsizes, budget 10 %         budget     misses  live, min  new sizes    cleaned");
    for trace in traces.iter().filter(|t| ["orm_busy", "scarab_recs", "oltp"].contains(&t.name)) {
        by_sizes(trace, 10, &mut verdict);
    }
    println!("\nTTLs, cache 10 %           misses  eager sim  expired, max  sized misses  expired, max");
    for (trace, eager) in traces.iter().zip([14.7, 53.1, 50.3]) {
        by_ttl(trace, trace.unique / 10, eager, &mut verdict);
    }
    for missed in &verdict.0 {
        println!("NOT MET: {missed}");
    }
    Ok(if verdict.0.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
