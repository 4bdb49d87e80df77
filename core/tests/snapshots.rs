//! Snapshots: with a disk that is a vector, while everything goes on that goes on in a node.

mod mesh;

use std::collections::BTreeMap;

use mesh::{Client, Mesh};
use pinnace_core::{Durability, SnapshotEffect, SnapshotSetup};
use pinnace_engine::Keyspace;
use pinnace_protocol::native::{self, NativeLimits, Opcode};
use pinnace_types::{CommitNumber, Deadline, LogIndex, LogPosition, Prng, ShardId, UnixMillis};
use pinnace_wal::snapshot::{SnapshotEvent, SnapshotReader, Trailer, read_footer};
use pinnace_wal::{CommitHeader, RecordHeader};

const MIB: u64 = 1 << 20;

/// Value and deadline of every key of a shard.
type State = BTreeMap<Vec<u8>, (Vec<u8>, Deadline)>;

fn setup() -> SnapshotSetup {
    SnapshotSetup {
        node_id: 5,
        run_number: 1,
        nonce: 77,
        first_number: 3,
        interval_ms: 0,
        log_bytes: 0,
        covered: LogPosition(0),
    }
}

/// The files of one core.
#[derive(Default)]
struct Disk {
    open: Option<Vec<u8>>,
    complete: Vec<Vec<u8>>,
    unwritten: Vec<Vec<u8>>,
    is_stuck: bool,
    /// The commit that had to be synced before the last file counted.
    after: Option<CommitNumber>,
    abandoned: usize,
}

impl Disk {
    /// Does what a core has asked for, and writes if it may. Returns whether there was something.
    fn step(&mut self, mesh: &mut Mesh, core: usize, write: bool) -> bool {
        let mut any = false;
        while let Some(effect) = mesh.core(core).take_snapshot_effect() {
            any = true;
            match effect {
                SnapshotEffect::Begin(info) => {
                    assert_eq!((info.core, info.node_id), (core as u16, 5));
                    assert!(self.open.replace(Vec::new()).is_none(), "one file at a time");
                }
                SnapshotEffect::Write(bytes) => {
                    assert_eq!(bytes.len() % 4096, 0);
                    self.open.as_mut().expect("a file was begun").extend_from_slice(&bytes);
                    self.unwritten.push(bytes);
                }
                SnapshotEffect::End { after } => {
                    self.after = after;
                    self.complete.push(self.open.take().expect("a file was begun"));
                    mesh.core(core).on_snapshot_synced();
                }
                SnapshotEffect::Abandon => {
                    self.open = None;
                    self.abandoned += 1;
                }
            }
        }
        if write && !self.is_stuck {
            self.unwritten.drain(..).for_each(|bytes| mesh.core(core).on_snapshot_written(bytes));
        }
        any
    }
}

fn start(core_count: u16, memory_bytes: u64) -> (Mesh, Vec<Disk>) {
    let mut mesh = Mesh::new(core_count, memory_bytes);
    (0..usize::from(core_count)).for_each(|core| mesh.core(core).enable_snapshots(setup()));
    (mesh, (0..core_count).map(|_| Disk::default()).collect())
}

/// Turns of all cores, mail and disk until all is quiet.
fn settle(mesh: &mut Mesh, disks: &mut [Disk]) {
    for _ in 0..10_000 {
        let mut busy = mesh.deliver();
        for (core, disk) in disks.iter_mut().enumerate() {
            busy |= disk.step(mesh, core, true) || disk.open.is_some();
        }
        if !busy {
            return;
        }
    }
    panic!("the snapshots do not end");
}

/// Applies a file to the keyspaces of another node; `now` of every shard is as the file tells it.
fn restore(file: &[u8], from_core: u16, from_cores: u16, into: &mut Mesh) -> Vec<ShardId> {
    Trailer::decode(file).expect("the file is complete");
    let mut reader = SnapshotReader::new();
    let mut shards = Vec::new();
    let from = pinnace_types::ShardMap::new(64, from_cores);
    let to = pinnace_types::ShardMap::new(64, into.core_count() as u16);
    while !reader.is_done() {
        let rest = &file[reader.offset() as usize..];
        let (event, _) = reader.read(rest).expect("the file is sound").expect("the file is whole");
        match event {
            SnapshotEvent::SectionBegin(shard) => {
                assert_eq!(from.core_of(shard).0, from_core, "a shard of another core");
                shards.push(shard);
            }
            SnapshotEvent::Frames(shard, frames) => {
                apply(&mut into.core(to.core_of(shard).index()).ks, shard, frames);
            }
            _ => {}
        }
    }
    shards
}

fn apply(ks: &mut Keyspace, shard: ShardId, mut frames: &[u8]) {
    while !frames.is_empty() {
        let (frame, bytes) = native::decode(frames, &NativeLimits::FORMAT).unwrap().expect("whole frames");
        frames = &frames[bytes..];
        let deadline = Deadline::from_raw(frame.deadline);
        if frame.opcode == Opcode::CLOCK {
            ks.set_now(UnixMillis(frame.deadline));
            continue;
        }
        if frame.opcode == Opcode::CLEAR {
            ks.clear_shard(shard);
            continue;
        }
        let key = ks.key(frame.key);
        assert_eq!(key.shard(), shard, "a key of another shard");
        match frame.opcode {
            Opcode::SET => ks.set(&key, frame.value, deadline).unwrap(),
            Opcode::TOUCH => drop(ks.set_deadline(&key, deadline).unwrap()),
            Opcode::DELETE => drop(ks.delete(&key)),
            other => panic!("{other:?} is no effect"),
        }
    }
}

/// What a shard holds at an instant.
fn dump(ks: &mut Keyspace, shard: ShardId, now: UnixMillis) -> State {
    ks.set_now(now);
    let mut state = State::new();
    let mut position = Some(0);
    while let Some(at) = position {
        position = ks.scan_shard(shard, at, 64, &mut |key, entry| {
            let mut value = Vec::new();
            entry.value.copy_to(&mut value);
            assert!(state.insert(key.to_vec(), (value, entry.deadline)).is_none(), "visited twice");
            true
        });
    }
    state
}

fn live(state: &State, now: UnixMillis) -> State {
    state
        .iter()
        .filter(|(_, (_, deadline))| !deadline.is_past(now))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Random effects on one core, and on a model of it that never evicts.
fn disturb(mesh: &mut Mesh, core: usize, models: &mut BTreeMap<ShardId, State>, prng: &mut Prng) {
    let now = mesh.now();
    let ks = &mut mesh.core(core).ks;
    ks.set_now(now);
    for _ in 0..prng.below(40) {
        let key_bytes = format!("key:{}", prng.below(6_000)).into_bytes();
        let key = ks.key(&key_bytes);
        if ks.shards().core_of(key.shard()).index() != core {
            continue;
        }
        let deadline = match prng.below(3) {
            0 => Deadline::from_raw(now.0 + prng.below(400) + 1),
            _ => Deadline::NEVER,
        };
        let model = models.entry(key.shard()).or_default();
        match prng.below(200) {
            0..140 => {
                let len = [10, 100, 3000, 40_000, 300_000]
                    [(prng.below(200) + 1).ilog2().saturating_sub(3) as usize % 5];
                let value = vec![prng.next_u64() as u8; prng.below(len) as usize];
                if ks.set(&key, &value, deadline).is_ok() {
                    model.insert(key_bytes, (value, deadline));
                }
            }
            140..170 => {
                ks.delete(&key);
                model.remove(&key_bytes);
            }
            170..199 => {
                let is_there = ks.set_deadline(&key, deadline).unwrap();
                if is_there {
                    model.get_mut(&key_bytes).expect("the model never evicts").1 = deadline;
                }
            }
            _ if prng.below(20) == 0 => {
                ks.clear();
                models.retain(|&shard, _| ks.shards().core_of(shard).index() != core);
            }
            _ => {}
        }
    }
}

/// What must be in a section: at least what the shard had, at most what was written to it last.
struct Wanted {
    least: State,
    most: State,
    now: UnixMillis,
}

fn check(seed: u64, cores: u16, memory_bytes: u64, into_cores: u16) -> u64 {
    let mut prng = Prng::new(seed);
    let (mut mesh, mut disks) = start(cores, memory_bytes);
    let mut models = BTreeMap::new();
    let mut wanted: BTreeMap<ShardId, Wanted> = BTreeMap::new();
    for _ in 0..400 {
        (0..usize::from(cores)).for_each(|core| disturb(&mut mesh, core, &mut models, &mut prng));
        mesh.pass_time(prng.below(3));
    }
    (0..usize::from(cores)).for_each(|core| mesh.core(core).begin_snapshot());
    for _ in 0..100_000 {
        mesh.pass_time(prng.below(3));
        for (core, disk) in disks.iter_mut().enumerate() {
            let now = mesh.now();
            let before = mesh.core(core).snapshot_shard().map(|shard| {
                let most = models.get(&shard).map(|model| live(model, now)).unwrap_or_default();
                (shard, Wanted { least: dump(&mut mesh.core(core).ks, shard, now), most, now })
            });
            mesh.step(core);
            if let Some((shard, state)) = before
                && mesh.core(core).snapshot_shard() != Some(shard)
            {
                wanted.insert(shard, state);
            }
            disturb(&mut mesh, core, &mut models, &mut prng);
            disk.step(&mut mesh, core, prng.below(3) == 0);
        }
        if disks.iter().all(|disk| !disk.complete.is_empty()) {
            break;
        }
    }
    assert_eq!(wanted.len(), 64, "every shard has a section");
    let evicted: u64 = (0..usize::from(cores)).map(|core| mesh.core(core).ks.stats().evicted).sum();

    let mut other = Mesh::new(into_cores, 512 * MIB);
    let mut shards = Vec::new();
    for (core, disk) in disks.iter().enumerate() {
        shards.extend(restore(&disk.complete[0], core as u16, cores, &mut other));
    }
    shards.sort_unstable();
    assert_eq!(shards, (0..64).map(ShardId).collect::<Vec<_>>(), "every shard once");
    let map = pinnace_types::ShardMap::new(64, into_cores);
    for (shard, wanted) in wanted {
        let found = dump(&mut other.core(map.core_of(shard).index()).ks, shard, wanted.now);
        for (key, item) in &wanted.least {
            assert!(found.get(key) == Some(item), "seed {seed}: {shard:?} lacks {}", key.escape_ascii());
        }
        for (key, item) in &found {
            assert!(wanted.most.get(key) == Some(item), "seed {seed}: {shard:?} has {}", key.escape_ascii());
        }
    }
    evicted
}

#[test]
fn a_snapshot_is_every_shard_at_one_moment_whatever_goes_on() {
    for seed in 0..3 {
        check(seed, 2, 64 * MIB, 3);
    }
    check(10, 1, 64 * MIB, 2);
    check(11, 3, 64 * MIB, 1);
    // Evictions all the time.
    assert!(check(12, 2, 8 * MIB, 2) > 1000);
}

/// Applies the entries of a core's log that a snapshot does not cover.
fn replay(mesh: &Mesh, core: usize, file: &[u8], into: &mut Mesh) -> usize {
    let trailer = Trailer::decode(file).unwrap();
    let sections = read_footer(&file[trailer.footer_offset as usize..], &trailer).unwrap();
    let covered: BTreeMap<ShardId, LogIndex> =
        sections.iter().map(|section| (section.shard(), section.last().1)).collect();
    let map = pinnace_types::ShardMap::new(64, into.core_count() as u16);
    let mut replayed = 0;
    for commit in &mesh.disks[core].commits {
        // The header of a segment stands in front of its first commit.
        let decoded = CommitHeader::decode(commit).or_else(|_| CommitHeader::decode(&commit[4096..]));
        let (header, mut records) = decoded.unwrap();
        for _ in 0..header.record_count {
            let (record, payload, behind) = RecordHeader::decode(records).unwrap();
            records = behind;
            if record.index > covered[&record.group] {
                replayed += 1;
                apply(&mut into.core(map.core_of(record.group).index()).ks, record.group, payload);
            }
        }
    }
    replayed
}

#[test]
fn a_snapshot_and_the_log_behind_it_are_what_the_node_has() {
    let mut prng = Prng::new(21);
    let mut mesh = Mesh::durable(2, 128 * MIB, Durability::Async);
    for core in 0..2 {
        mesh.core(core).enable_snapshots(setup());
        mesh.disks[core].keeps = true;
    }
    let mut disks = [Disk::default(), Disk::default()];
    let mut models = BTreeMap::new();
    let mut begun = false;
    let mut left = 2000;
    while left > 0 {
        left -= 1;
        mesh.pass_time(prng.below(3));
        for (core, disk) in disks.iter_mut().enumerate() {
            disturb(&mut mesh, core, &mut models, &mut prng);
            mesh.step(core);
            disk.step(&mut mesh, core, prng.below(2) == 0);
        }
        if !begun && left < 1900 {
            begun = true;
            (0..2).for_each(|core| mesh.core(core).begin_snapshot());
        }
        if begun && left > 50 && disks.iter().all(|disk| !disk.complete.is_empty()) {
            left = 50;
        }
    }
    let mut other = Mesh::new(3, 512 * MIB);
    for (core, disk) in disks.iter().enumerate() {
        assert!(disk.after > Some(CommitNumber(1)), "the log must be synced first");
        restore(&disk.complete[0], core as u16, 2, &mut other);
        assert!(replay(&mesh, core, &disk.complete[0], &mut other) > 50);
    }
    let now = mesh.now();
    let (from, to) = (pinnace_types::ShardMap::new(64, 2), pinnace_types::ShardMap::new(64, 3));
    for shard in (0..64).map(ShardId) {
        let wanted = dump(&mut mesh.core(from.core_of(shard).index()).ks, shard, now);
        let found = dump(&mut other.core(to.core_of(shard).index()).ks, shard, now);
        assert!(found == wanted, "{shard:?}");
    }
}

#[test]
fn a_disk_that_does_not_write_ends_the_snapshot_before_it_takes_memory() {
    let (mut mesh, mut disks) = start(1, 256 * MIB);
    disks[0].is_stuck = true;
    let value = vec![7; 100_000];
    let set = |mesh: &mut Mesh, number: u64| {
        let name = format!("key:{number}").into_bytes();
        let ks = &mut mesh.core(0).ks;
        ks.set(&ks.key(&name), &value, Deadline::NEVER).unwrap();
    };
    (0..1000).for_each(|number| set(&mut mesh, number));
    mesh.core(0).begin_snapshot();
    let mut most = 0;
    // The walk waits, and memory with it.
    for _ in 0..1000 {
        mesh.step(0);
        disks[0].step(&mut mesh, 0, true);
        most = most.max(mesh.core(0).snapshot_buffer_bytes());
    }
    assert!((1 << 20..3 * MIB).contains(&most), "{most}");
    // Only what is written to the walked shard comes on top, up to the bound.
    let shard = mesh.core(0).snapshot_shard().unwrap();
    let mut number = 0;
    while disks[0].abandoned == 0 {
        number += 1;
        let name = format!("key:{number}").into_bytes();
        if mesh.core(0).ks.key(&name).shard() == shard {
            set(&mut mesh, number);
        }
        mesh.step(0);
        disks[0].step(&mut mesh, 0, true);
        most = most.max(mesh.core(0).snapshot_buffer_bytes());
        assert!(number < 100_000 && most < 68 * MIB, "{most}");
    }
    assert_eq!(mesh.core(0).snapshot_buffer_bytes(), 0);
    let client = mesh.connect(0);
    let info = String::from_utf8(mesh.request(client, &[b"INFO", b"persistence"])).unwrap();
    assert!(info.contains("rdb_last_bgsave_status:err\r\n"), "{info}");
    // The next one is good again.
    disks[0] = Disk::default();
    assert_eq!(mesh.request(client, &[b"BGSAVE"]), b"+Background saving started\r\n");
    settle(&mut mesh, &mut disks);
    assert_eq!(disks[0].complete.len(), 1);
}

/// Mail, and no disk: a snapshot under way stays so.
fn deliver(mesh: &mut Mesh) {
    for _ in 0..8 {
        mesh.deliver();
    }
}

fn info(mesh: &mut Mesh, client: Client, field: &str) -> String {
    mesh.send(client, &mesh::encode(&[b"INFO", b"persistence"]));
    deliver(mesh);
    let text = String::from_utf8(mesh.take(client)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

#[test]
fn save_and_its_kin_speak_as_redis_does() {
    let (mut mesh, mut disks) = start(2, 32 * MIB);
    let (one, two) = (mesh.connect(0), mesh.connect(1));
    for number in 0..100 {
        let key = format!("key:{number}");
        mesh.request(one, &[b"SET", key.as_bytes(), b"value"]);
    }
    assert_eq!(info(&mut mesh, two, "rdb_changes_since_last_save"), "100");
    mesh.request(one, &[b"CONFIG", b"RESETSTAT"]);
    assert_eq!(info(&mut mesh, two, "rdb_changes_since_last_save"), "100");
    let start = mesh.request(one, &[b"LASTSAVE"]);
    assert_eq!(mesh.request(one, &[b"BGSAVE", b"NOW"]), b"-ERR syntax error\r\n");
    assert_eq!(
        mesh.request(one, &[b"SAVE", b"NOW"]),
        b"-ERR wrong number of arguments for 'save' command\r\n"
    );

    mesh.pass_time(5000);
    mesh.send(one, &mesh::encode(&[b"SAVE"]));
    mesh.send(one, &mesh::encode(&[b"PING"]));
    deliver(&mut mesh);
    assert_eq!(mesh.take(one), b"", "SAVE is answered when it is done");
    mesh.send(two, &mesh::encode(&[b"BGSAVE", b"SCHEDULE"]));
    mesh.send(two, &mesh::encode(&[b"SAVE"]));
    deliver(&mut mesh);
    let text = b"-ERR Background save already in progress\r\n";
    assert_eq!(mesh.take(two), [&text[..], &text[..]].concat());
    assert_eq!(info(&mut mesh, two, "rdb_bgsave_in_progress"), "1");
    mesh.pass_time(2000);
    settle(&mut mesh, &mut disks);
    assert_eq!(mesh.take(one), b"+OK\r\n+PONG\r\n");
    assert!(disks.iter().all(|disk| disk.complete.len() == 1));
    for (field, value) in [
        ("rdb_bgsave_in_progress", "0"),
        ("rdb_changes_since_last_save", "0"),
        ("rdb_last_bgsave_status", "ok"),
        ("rdb_last_bgsave_time_sec", "2"),
        ("rdb_current_bgsave_time_sec", "-1"),
        ("rdb_saves", "1"),
    ] {
        assert_eq!(info(&mut mesh, two, field), value, "{field}");
    }
    assert_ne!(mesh.request(two, &[b"LASTSAVE"]), start);

    // One core's disk fails: the whole is no success.
    mesh.send(two, &mesh::encode(&[b"SAVE"]));
    deliver(&mut mesh);
    mesh.core(0).on_snapshot_failed();
    settle(&mut mesh, &mut disks);
    assert!(mesh.take(two).starts_with(b"-ERR the snapshot could not be written"));
    assert_eq!(info(&mut mesh, two, "rdb_last_bgsave_status"), "err");
    assert_eq!(info(&mut mesh, two, "rdb_saves"), "1");
    assert_eq!(mesh.request(one, &[b"BGSAVE"]), b"+Background saving started\r\n");
    settle(&mut mesh, &mut disks);
    assert_eq!(info(&mut mesh, two, "rdb_last_bgsave_status"), "ok");
}

#[test]
fn without_a_data_directory_there_is_nothing_to_save() {
    let mut mesh = Mesh::new(2, 32 * MIB);
    let client = mesh.connect(1);
    for command in [&b"SAVE"[..], b"BGSAVE"] {
        assert!(mesh.request(client, &[command]).starts_with(b"-ERR this node makes no snapshots"));
    }
}

#[test]
fn what_is_asked_for_during_a_snapshot_has_one_of_its_own() {
    let (mut mesh, mut disks) = start(2, 32 * MIB);
    let client = mesh.connect(0);
    // Core 1 has begun one by itself, and core 0 does not know yet.
    mesh.core(1).begin_snapshot();
    mesh.send(client, &mesh::encode(&[b"SAVE"]));
    settle(&mut mesh, &mut disks);
    assert_eq!(mesh.take(client), b"+OK\r\n");
    assert_eq!(disks.iter().map(|disk| disk.complete.len()).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_snapshot_is_made_when_its_time_has_come_and_something_was_written() {
    let mut mesh = Mesh::new(1, 32 * MIB);
    mesh.core(0).enable_snapshots(SnapshotSetup { interval_ms: 60_000, ..setup() });
    let mut disks = [Disk::default()];
    let client = mesh.connect(0);
    let saves = |mesh: &mut Mesh, disks: &mut [Disk], ms: u64| {
        mesh.pass_time(ms);
        settle(mesh, disks);
        disks[0].complete.len()
    };
    assert_eq!(mesh.request(client, &[b"CONFIG", b"GET", b"save"]), b"*2\r\n$4\r\nsave\r\n$4\r\n60 1\r\n");
    assert_eq!(saves(&mut mesh, &mut disks, 100_000), 0, "nothing was written");
    mesh.request(client, &[b"SET", b"key", b"value"]);
    assert_eq!(saves(&mut mesh, &mut disks, 200), 1);
    assert_eq!(saves(&mut mesh, &mut disks, 100_000), 1);
    mesh.request(client, &[b"SET", b"key", b"value"]);
    assert_eq!(saves(&mut mesh, &mut disks, 1000), 2);
    mesh.request(client, &[b"DEL", b"key"]);
    assert_eq!(saves(&mut mesh, &mut disks, 1000), 2, "too soon");
    assert_eq!(saves(&mut mesh, &mut disks, 60_000), 3);
}
