//! With a log, nobody is told of what is not synced.

mod mesh;

use mesh::{Client, Mesh, encode};
use pinnace_core::Durability;
use pinnace_protocol::native::{self, Flags, Header, NativeLimits, Opcode, Status};
use pinnace_types::{Limits, SegmentNumber};
use pinnace_wal::LogLimits;

const MEMORY_BYTES: u64 = 16 << 20;

/// What each write command is called with: `{a}` and `{b}` are keys, `{a}` is there with the value 5.
const WRITES: &[&str] = &[
    "APPEND {a} x",
    "BITFIELD {a} SET u8 0 7",
    "BITOP AND {b} {a}",
    "COPY {a} {b}",
    "DECR {a}",
    "DECRBY {a} 2",
    "DEL {a}",
    "EXPIRE {a} 100",
    "EXPIREAT {a} 9999999999",
    "FLUSHALL",
    "FLUSHDB",
    "GETDEL {a}",
    "GETEX {a} EX 100",
    "GETSET {a} 1",
    "INCR {a}",
    "INCRBY {a} 2",
    "INCRBYFLOAT {a} 0.5",
    "MSET {a} 1 {b} 2",
    "MSETNX {b} 2",
    "PERSIST {a}",
    "PEXPIRE {a} 100000",
    "PEXPIREAT {a} 9999999999999",
    "PSETEX {a} 100000 x",
    "RENAME {a} {b}",
    "RENAMENX {a} {b}",
    "SET {a} x",
    "SETBIT {a} 0 1",
    "SETEX {a} 100 x",
    "SETNX {b} x",
    "SETRANGE {a} 1 x",
    "UNLINK {a}",
];

fn fill(example: &str, a: &[u8], b: &[u8]) -> Vec<Vec<u8>> {
    let word = |word: &str| match word {
        "{a}" => a.to_vec(),
        "{b}" => b.to_vec(),
        word => word.as_bytes().to_vec(),
    };
    example.split(' ').map(word).collect()
}

fn request(args: &[Vec<u8>]) -> Vec<u8> {
    encode(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// A node whose clients' writes so far are synced, with `{a}` on one core and `{b}` on another.
fn prepared(
    durability: Durability,
    cores: u16,
    a_core: usize,
    b_core: usize,
) -> (Mesh, Client, [Vec<u8>; 2]) {
    let mut mesh = Mesh::durable(cores, MEMORY_BYTES, durability);
    let client = mesh.connect(0);
    let keys = [mesh.key_on(a_core, 0), mesh.key_on(b_core, 1)];
    mesh.send(client, &encode(&[b"SET", &keys[0], b"5", b"EX", b"1000"]));
    mesh.settle_synced();
    assert_eq!(mesh.take(client), b"+OK\r\n");
    (mesh, client, keys)
}

fn places(cores: u16) -> Vec<(usize, usize)> {
    let all = 0..usize::from(cores);
    all.clone().flat_map(|a| all.clone().map(move |b| (a, b))).collect()
}

#[test]
fn there_is_an_example_of_every_write_command() {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let client = mesh.connect(0);
    let list = mesh.request(client, &[b"COMMAND", b"LIST"]);
    let names = list.split(|&b| b == b'\n').filter(|line| line.first().is_some_and(u8::is_ascii_lowercase));
    let mut writes = 0;
    for name in names.map(|line| String::from_utf8_lossy(line).trim().to_owned()) {
        let info = mesh.request(client, &[b"COMMAND", b"INFO", name.as_bytes()]);
        if String::from_utf8_lossy(&info).contains("+write\r\n") {
            writes += 1;
            let is_example = |example: &str| example.split(' ').next().unwrap().eq_ignore_ascii_case(&name);
            assert!(WRITES.iter().any(|example| is_example(example)), "{name} has no example");
        }
    }
    assert!(writes >= 25);
}

#[test]
fn no_write_is_acknowledged_before_it_is_synced() {
    for cores in [1, 2] {
        for (a, b) in places(cores) {
            for example in WRITES {
                for in_multi in [false, true] {
                    let (mut mesh, client, [key, other]) = prepared(Durability::Sync, cores, a, b);
                    let mut bytes = request(&fill(example, &key, &other));
                    if in_multi {
                        bytes = [encode(&[b"MULTI"]), bytes, encode(&[b"EXEC"])].concat();
                    }
                    mesh.send(client, &bytes);
                    mesh.settle();
                    let early = mesh.take(client);
                    let early = String::from_utf8_lossy(&early);
                    let told = early.replace("+OK\r\n+QUEUED\r\n", "");
                    if told.contains("CROSSSLOT") || told.contains("EXECABORT") {
                        continue;
                    }
                    assert_eq!(told, "", "{example} on {cores} cores, {a} {b}");
                    mesh.settle_synced();
                    let reply = mesh.take(client);
                    assert!(
                        !reply.is_empty() && reply[0] != b'-',
                        "{example}: {}",
                        String::from_utf8_lossy(&reply)
                    );
                    assert!(mesh.disks.iter().any(|disk| disk.synced.0 > 0));
                }
            }
        }
    }
}

#[test]
fn asynchronous_and_missing_logs_hold_nothing_back() {
    for durability in [Durability::None, Durability::Async] {
        for (a, b) in places(2) {
            for example in WRITES {
                let mut mesh = match durability {
                    Durability::None => Mesh::new(2, MEMORY_BYTES),
                    _ => Mesh::durable(2, MEMORY_BYTES, durability),
                };
                let client = mesh.connect(0);
                let (key, other) = (mesh.key_on(a, 0), mesh.key_on(b, 1));
                assert_eq!(mesh.request(client, &[b"SET", &key, b"5", b"EX", b"1000"]), b"+OK\r\n");
                let reply = mesh.call(client, &request(&fill(example, &key, &other)));
                assert!(!reply.is_empty() && reply[0] != b'-', "{example}");
            }
        }
    }
}

#[test]
fn a_reader_of_an_unsynced_key_waits_and_no_other() {
    const READS: [&str; 6] =
        ["GET {a}", "STRLEN {a}", "TTL {a}", "EXISTS {a}", "GETRANGE {a} 0 1", "MGET {a} {b}"];
    for (cores, key_core) in [(1, 0), (2, 0), (2, 1)] {
        for read in READS {
            let (mut mesh, client, [key, other]) = prepared(Durability::Sync, cores, key_core, key_core);
            let reader = mesh.connect(usize::from(cores) - 1);
            mesh.send(client, &encode(&[b"SET", &key, b"unsynced"]));
            mesh.settle();
            mesh.send(reader, &request(&fill(read, &key, &other)));
            mesh.settle();
            assert_eq!(mesh.take(reader), b"", "{read}");
            let third = mesh.connect(0);
            let elsewhere = mesh.key_on(key_core, 5);
            assert_eq!(mesh.request(third, &[b"GET", &elsewhere]), b"$-1\r\n", "{read}");
            assert_eq!(mesh.request(third, &[b"PING"]), b"+PONG\r\n");
            mesh.settle_synced();
            assert!(!mesh.take(reader).is_empty());
            assert_eq!(mesh.take(client), b"+OK\r\n");
            // Synced: nobody waits any more.
            assert!(!mesh.call(reader, &request(&fill(read, &key, &other))).is_empty());
        }
    }
}

#[test]
fn a_reader_waits_for_deletes_and_for_clearing() {
    for gone in ["DEL {a}", "FLUSHALL", "PEXPIREAT {a} 1"] {
        let (mut mesh, client, [key, other]) = prepared(Durability::Sync, 2, 1, 1);
        mesh.send(client, &request(&fill(gone, &key, &other)));
        mesh.settle();
        let reader = mesh.connect(1);
        assert_eq!(mesh.request(reader, &[b"GET", &key]), b"", "{gone}");
        mesh.settle_synced();
        assert_eq!(mesh.take(reader), b"$-1\r\n");
    }
}

#[test]
fn replies_keep_their_order() {
    for cores in [1, 2] {
        let mut mesh = Mesh::durable(cores, MEMORY_BYTES, Durability::Sync);
        let client = mesh.connect(0);
        let mut expected = String::new();
        let mut bytes = Vec::new();
        for number in 0..100 {
            let key = format!("k{number}").into_bytes();
            bytes.extend(encode(&[b"SET", &key, b"v"]));
            bytes.extend(encode(&[b"ECHO", &key]));
            bytes.extend(encode(&[b"GET", &key]));
            expected.push_str(&format!("+OK\r\n${0}\r\nk{number}\r\n$1\r\nv\r\n", key.len()));
        }
        let mut got = Vec::new();
        for part in bytes.chunks(700) {
            mesh.send(client, part);
            mesh.deliver();
            mesh.sync(0, 1);
            got.extend(mesh.take(client));
        }
        mesh.settle_synced();
        got.extend(mesh.take(client));
        assert_eq!(String::from_utf8_lossy(&got), expected, "{cores} cores");
    }
}

#[test]
fn commits_are_released_one_by_one() {
    let mut mesh = Mesh::durable(1, MEMORY_BYTES, Durability::Sync);
    let client = mesh.connect(0);
    for _ in 0..3 {
        mesh.send(client, &encode(&[b"INCR", b"n"]));
    }
    for number in 1..=3 {
        assert_eq!(mesh.take(client), b"");
        assert!(mesh.sync(0, 1));
        assert_eq!(mesh.take(client), format!(":{number}\r\n").into_bytes());
    }
    assert!(!mesh.sync(0, 1));
}

#[test]
fn a_client_that_leaves_takes_its_held_replies_with_it() {
    for cores in [1, 2] {
        let mut mesh = Mesh::durable(cores, MEMORY_BYTES, Durability::Sync);
        for round in 0..3u32 {
            let client = mesh.connect(0);
            for number in 0..20 {
                mesh.send(client, &encode(&[b"SET", format!("{round}:{number}").as_bytes(), b"v"]));
            }
            mesh.send(client, &encode(&[b"WAITAOF", b"1", b"0", b"0"]));
            mesh.disconnect(client);
        }
        mesh.settle_synced();
        let client = mesh.connect(0);
        mesh.send(client, &encode(&[b"DBSIZE"]));
        mesh.settle_synced();
        assert!(mesh.take(client).starts_with(b":"));
        assert_eq!(mesh.held_bytes(), 0);
    }
}

#[test]
fn quit_is_answered_behind_what_is_held() {
    let mut mesh = Mesh::durable(1, MEMORY_BYTES, Durability::Sync);
    let client = mesh.connect(0);
    mesh.send(
        client,
        &[encode(&[b"SET", b"k", b"v"]), encode(&[b"QUIT"]), encode(&[b"SET", b"k", b"w"])].concat(),
    );
    assert_eq!(mesh.take(client), b"");
    assert!(mesh.owes_reply(client));
    mesh.settle_synced();
    assert_eq!(mesh.take(client), b"+OK\r\n+OK\r\n");
    assert!(!mesh.owes_reply(client));
}

#[test]
fn a_client_without_replies_is_not_held_and_its_next_reply_is() {
    let mut mesh = Mesh::durable(2, MEMORY_BYTES, Durability::Sync);
    let client = mesh.connect(0);
    let key = mesh.key_on(0, 0);
    mesh.send(client, &[encode(&[b"CLIENT", b"REPLY", b"OFF"]), encode(&[b"SET", &key, b"v"])].concat());
    mesh.settle();
    assert_eq!(mesh.take(client), b"");
    mesh.send(client, &encode(&[b"CLIENT", b"REPLY", b"ON"]));
    mesh.settle();
    assert_eq!(mesh.take(client), b"");
    mesh.settle_synced();
    assert_eq!(mesh.take(client), b"+OK\r\n");
}

#[test]
fn a_client_whose_held_replies_are_too_many_is_not_read() {
    let mut mesh = Mesh::durable(1, MEMORY_BYTES, Durability::Sync);
    let client = mesh.connect(0);
    let value = vec![b'v'; 100_000];
    let mut pipeline = encode(&[b"SET", b"k", &value]);
    (0..100).for_each(|_| pipeline.extend(encode(&[b"GET", b"k"])));
    let requests = 20;
    for _ in 0..requests {
        mesh.send(client, &pipeline);
        mesh.settle();
        let held = mesh.held_bytes();
        assert!(held < 3 * Limits::DEFAULT.held_pause_bytes, "{held} bytes are held");
    }
    let mut got = 0;
    for _ in 0..10_000 {
        mesh.settle_synced();
        let bytes = mesh.take(client).len();
        got += bytes;
        if bytes == 0 {
            break;
        }
    }
    assert_eq!(got, requests * (5 + 100 * (9 + value.len() + 2)), "nothing was lost");
}

// WAITAOF.

#[test]
fn waitaof_waits_for_the_writes_on_all_cores() {
    for durability in [Durability::Async, Durability::Sync] {
        let mut mesh = Mesh::durable(2, MEMORY_BYTES, durability);
        let client = mesh.connect(0);
        let (here, there) = (mesh.key_on(0, 0), mesh.key_on(1, 0));
        mesh.send(client, &encode(&[b"CLIENT", b"REPLY", b"OFF"]));
        mesh.send(client, &[encode(&[b"SET", &here, b"v"]), encode(&[b"SET", &there, b"v"])].concat());
        mesh.send(client, &encode(&[b"CLIENT", b"REPLY", b"ON"]));
        mesh.settle();
        mesh.take(client);
        mesh.send(client, &[encode(&[b"WAITAOF", b"1", b"0", b"0"]), encode(&[b"PING"])].concat());
        mesh.settle();
        assert_eq!(mesh.take(client), b"");
        assert!(mesh.core(1).take_sync_wanted() || durability == Durability::Sync);
        mesh.sync(0, 10);
        mesh.settle();
        let early = mesh.take(client);
        assert!(!early.contains(&b'*'), "the other core has not synced");
        mesh.settle_synced();
        let rest = mesh.take(client);
        assert!([early, rest].concat().ends_with(b"*2\r\n:1\r\n:0\r\n+PONG\r\n"));
    }
}

#[test]
fn waitaof_ends_with_its_timeout() {
    let mut mesh = Mesh::durable(2, MEMORY_BYTES, Durability::Async);
    let client = mesh.connect(0);
    let there = mesh.key_on(1, 0);
    assert_eq!(mesh.request(client, &[b"SET", &there, b"v"]), b"+OK\r\n");
    assert_eq!(mesh.request(client, &[b"WAITAOF", b"1", b"0", b"50"]), b"");
    mesh.wait(49);
    assert_eq!(mesh.take(client), b"");
    mesh.wait(2);
    assert_eq!(mesh.take(client), b"*2\r\n:0\r\n:0\r\n");
    mesh.settle_synced();
    assert_eq!(mesh.take(client), b"", "an answer that comes too late changes nothing");
    assert_eq!(mesh.request(client, &[b"WAITAOF", b"1", b"0", b"50"]), b"*2\r\n:1\r\n:0\r\n");
}

#[test]
fn waitaof_says_what_redis_says() {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let client = mesh.connect(0);
    let off = b"-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n";
    assert_eq!(mesh.request(client, &[b"WAITAOF", b"1", b"0", b"0"]), off);
    assert_eq!(mesh.request(client, &[b"WAITAOF", b"0", b"0", b"0"]), b"*2\r\n:0\r\n:0\r\n");
    let mut mesh = Mesh::durable(1, MEMORY_BYTES, Durability::Async);
    let client = mesh.connect(0);
    let range = b"-ERR value is out of range, value must between 0 and 1\r\n";
    assert_eq!(mesh.request(client, &[b"WAITAOF", b"2", b"0", b"0"]), range);
    assert_eq!(mesh.request(client, &[b"WAITAOF", b"1", b"0", b"-1"]), b"-ERR timeout is negative\r\n");
}

#[test]
fn config_and_info_tell_what_is_durable() {
    for (durability, on, sync) in
        [(Durability::Async, "yes", "everysec"), (Durability::Sync, "yes", "always")]
    {
        let mut mesh = Mesh::durable(1, MEMORY_BYTES, durability);
        let client = mesh.connect(0);
        let reply = mesh.request(client, &[b"CONFIG", b"GET", b"append*"]);
        let reply = String::from_utf8_lossy(&reply).into_owned();
        assert!(reply.contains(on) && reply.contains(sync), "{reply}");
        let info = mesh.request(client, &[b"INFO", b"persistence"]);
        let info = String::from_utf8_lossy(&info).into_owned();
        assert!(
            info.contains("aof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_last_write_status:ok\r\n"),
            "{info}"
        );
    }
}

// Native frames.

fn frame(opcode: Opcode, id: u32, flags: Flags, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    native::encode(&mut out, &Header::request(opcode, id).with_flags(flags), key, value);
    out
}

/// Ids and statuses of replies.
fn replies(mut bytes: &[u8]) -> Vec<(u32, Status)> {
    let mut found = Vec::new();
    while let Some((frame, len)) = native::decode(bytes, &NativeLimits::FORMAT).unwrap() {
        found.push((frame.request_id, frame.status));
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty());
    found
}

#[test]
fn native_writes_wait_quiet_ones_hold_the_noop() {
    for (cores, key_core) in [(1, 0), (2, 0), (2, 1)] {
        let mut mesh = Mesh::durable(cores, MEMORY_BYTES, Durability::Sync);
        let client = mesh.connect(0);
        let key = mesh.key_on(key_core, 0);
        let bytes =
            [frame(Opcode::SET, 1, Flags::QUIET, &key, b"v"), frame(Opcode::NOOP, 2, Flags::NONE, b"", b"")];
        mesh.send(client, &bytes.concat());
        mesh.settle();
        assert_eq!(mesh.take(client), b"", "{cores} {key_core}");
        mesh.settle_synced();
        assert_eq!(replies(&mesh.take(client)), [(2, Status::OK)]);
        mesh.send(client, &frame(Opcode::DELETE, 3, Flags::NONE, &key, b""));
        mesh.settle();
        mesh.send(client, &frame(Opcode::GET, 4, Flags::NONE, &key, b""));
        mesh.settle();
        assert_eq!(mesh.take(client), b"");
        mesh.settle_synced();
        assert_eq!(replies(&mesh.take(client)), [(3, Status::OK), (4, Status::NOT_FOUND)]);
    }
}

#[test]
fn a_native_client_may_ask_an_asynchronous_node_for_more() {
    for (cores, key_core) in [(1, 0), (2, 0), (2, 1)] {
        let mut mesh = Mesh::durable(cores, MEMORY_BYTES, Durability::Async);
        let (client, other) = (mesh.connect(0), mesh.connect(0));
        let key = mesh.key_on(key_core, 0);
        let set = |id, flags| frame(Opcode::SET, id, flags, &key, b"v");
        let all =
            [Flags::NONE, Flags::DURABILITY_APPLIED, Flags::DURABILITY_COMMITTED, Flags::DURABILITY_SYNCED];
        let bytes: Vec<Vec<u8>> = all.iter().zip(1..).map(|(&flags, id)| set(id, flags)).collect();
        mesh.send(client, &bytes.concat());
        // Somebody else's request travels in the same hand-over, and does not wait.
        mesh.send(other, &encode(&[b"GET", &key]));
        mesh.settle();
        assert_eq!(replies(&mesh.take(client)), [1, 2, 3].map(|id| (id, Status::OK)));
        assert_eq!(mesh.take(other), b"$1\r\nv\r\n");
        assert!(mesh.core(key_core).take_sync_wanted());
        mesh.settle_synced();
        assert_eq!(replies(&mesh.take(client)), [(4, Status::OK)]);
        // Quiet, and nothing but the NOOP tells.
        mesh.send(client, &set(5, Flags::DURABILITY_SYNCED.with(Flags::QUIET)));
        mesh.send(client, &frame(Opcode::NOOP, 6, Flags::NONE, b"", b""));
        mesh.settle();
        assert_eq!(mesh.take(client), b"");
        mesh.settle_synced();
        assert_eq!(replies(&mesh.take(client)), [(6, Status::OK)]);
        // A write that changes nothing waits for nothing that would never come.
        let absent = mesh.key_on(key_core, 3);
        mesh.send(client, &frame(Opcode::TOUCH, 7, Flags::DURABILITY_SYNCED, &absent, b""));
        mesh.settle_synced();
        assert_eq!(replies(&mesh.take(client)), [(7, Status::NOT_FOUND)]);
    }
}

#[test]
fn a_node_without_a_log_refuses_to_sync() {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let client = mesh.connect(0);
    let bytes = [
        frame(Opcode::SET, 1, Flags::DURABILITY_SYNCED, b"k", b"v"),
        frame(Opcode::SET, 2, Flags::DURABILITY_COMMITTED, b"k", b"w"),
        frame(Opcode::GET, 3, Flags::DURABILITY_SYNCED, b"k", b""),
    ];
    let reply = mesh.call(client, &bytes.concat());
    assert_eq!(replies(&reply), [(1, Status::UNSUPPORTED), (2, Status::OK), (3, Status::OK)]);
}

// No room in the log.

#[test]
fn writes_are_refused_while_the_log_is_full_and_reads_go_on() {
    for (cores, key_core) in [(1, 0), (2, 1)] {
        let (mut mesh, client, [key, other]) = full(cores, key_core, false);
        let native_client = mesh.connect(0);
        for example in WRITES {
            let reply = mesh.call(client, &request(&fill(example, &key, &other)));
            assert!(reply.starts_with(b"-MISCONF "), "{example}: {}", String::from_utf8_lossy(&reply));
        }
        assert_eq!(mesh.request(client, &[b"GET", &key]), b"$1\r\n5\r\n");
        for (opcode, value) in [(Opcode::SET, &b"v"[..]), (Opcode::DELETE, b""), (Opcode::TOUCH, b"")] {
            let reply = mesh.call(native_client, &frame(opcode, 1, Flags::QUIET, &key, value));
            assert_eq!(replies(&reply), [(1, Status::LOG_FULL)]);
        }
        let watched = [encode(&[b"MULTI"]), encode(&[b"SET", &key, b"6"]), encode(&[b"EXEC"])].concat();
        let reply = String::from_utf8_lossy(&mesh.call(client, &watched)).into_owned();
        assert!(reply.contains("-EXECABORT"), "{reply}");
        let info = mesh.request(client, &[b"INFO", b"persistence"]);
        assert!(String::from_utf8_lossy(&info).contains("aof_last_write_status:err"));
        mesh.set_log_disks(SegmentNumber(u64::MAX), false);
        mesh.send(client, &encode(&[b"SET", &key, b"7"]));
        mesh.settle_synced();
        assert_eq!(mesh.take(client), b"+OK\r\n");
    }
}

#[test]
fn a_transaction_that_was_queued_in_time_is_refused_as_a_whole() {
    for (cores, key_core) in [(1, 0), (2, 1)] {
        let (mut mesh, client, [key, _]) = full(cores, key_core, true);
        let reply = String::from_utf8_lossy(&mesh.request(client, &[b"EXEC"])).into_owned();
        assert!(reply.starts_with("-EXECABORT Transaction discarded because of: MISCONF "), "{reply}");
        assert_eq!(mesh.request(client, &[b"GET", &key]), b"$1\r\n5\r\n");
    }
}

/// As [`prepared`], with a single small segment, which is full then.
fn full(cores: u16, key_core: usize, queued: bool) -> (Mesh, Client, [Vec<u8>; 2]) {
    let limits = LogLimits { segment_bytes: 1 << 20, commit_bytes_max: 256 << 10, kept_bytes_max: 64 << 10 };
    let mut mesh = Mesh::logged(cores, MEMORY_BYTES, Durability::Sync, limits);
    mesh.set_log_disks(SegmentNumber(1), true);
    let client = mesh.connect(0);
    let keys = [mesh.key_on(key_core, 0), mesh.key_on(key_core, 1)];
    mesh.send(client, &encode(&[b"SET", &keys[0], b"5", b"EX", b"1000"]));
    mesh.settle_synced();
    assert_eq!(mesh.take(client), b"+OK\r\n");
    if queued {
        let queued =
            [encode(&[b"MULTI"]), encode(&[b"SET", &keys[0], b"6"]), encode(&[b"GET", &keys[0]])].concat();
        assert_eq!(mesh.call(client, &queued), b"+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    }
    let filler = mesh.connect(0);
    for core in 0..usize::from(cores) {
        let key = mesh.key_on(core, 7);
        for round in 0.. {
            assert!(round < 1000, "the log does not fill");
            mesh.send(filler, &encode(&[b"SET", &key, &vec![b'x'; 5000]]));
            mesh.settle_synced();
            if mesh.take(filler).starts_with(b"-MISCONF") {
                break;
            }
        }
    }
    (mesh, client, keys)
}

// The next segment of a log is late.

const LATE_LIMITS: LogLimits =
    LogLimits { segment_bytes: 1 << 20, commit_bytes_max: 256 << 10, kept_bytes_max: 64 << 10 };

/// A node whose log on `key_core` has used up its only segment, though its disk has room; `{a}` and `{b}` are there, `{a}` with 5.
fn late(durability: Durability, cores: u16, key_core: usize) -> (Mesh, [Vec<u8>; 2]) {
    let mut mesh = Mesh::logged(cores, 4 * MEMORY_BYTES, durability, LATE_LIMITS);
    mesh.set_log_disks(SegmentNumber(1), false);
    let filler = mesh.connect(key_core);
    let keys = [mesh.key_on(key_core, 0), mesh.key_on(key_core, 1)];
    mesh.send(filler, &encode(&[b"SET", &keys[0], b"5", b"EX", b"1000"]));
    let fill = mesh.key_on(key_core, 7);
    for _ in 0..1000 {
        mesh.settle_synced();
        let reply = mesh.take(filler);
        if reply.is_empty() {
            return (mesh, keys);
        }
        assert_eq!(reply, b"+OK\r\n");
        mesh.send(filler, &encode(&[b"SET", &fill, &vec![b'x'; 5000]]));
    }
    panic!("the log does not fill");
}

#[test]
fn writes_wait_for_a_late_segment_and_other_clients_read() {
    for durability in [Durability::Sync, Durability::Async] {
        for (cores, key_core) in [(1, 0), (2, 0), (2, 1)] {
            for example in WRITES {
                let (mut mesh, [key, other]) = late(durability, cores, key_core);
                let (writer, reader) = (mesh.connect(0), mesh.connect(0));
                // What stands behind a write in a connection waits with it.
                let bytes = [request(&fill(example, &key, &other)), encode(&[b"PING"])].concat();
                mesh.send(writer, &bytes);
                mesh.settle_synced();
                assert_eq!(mesh.take(writer), b"", "{example} on {cores} cores, {durability:?}");
                assert!(mesh.owes_reply(writer), "{example}: a client that has sent all is not closed");
                mesh.send(reader, &encode(&[b"GET", &key]));
                mesh.settle_synced();
                assert_eq!(mesh.take(reader), b"$1\r\n5\r\n", "{example}");
                mesh.set_log_disks(SegmentNumber(2), false);
                mesh.settle_synced();
                let reply = mesh.take(writer);
                let text = String::from_utf8_lossy(&reply);
                assert!(reply.ends_with(b"+PONG\r\n") && !text.starts_with('-'), "{example}: {text}");
            }
        }
    }
}

#[test]
fn native_writes_and_transactions_wait_for_a_late_segment() {
    for (cores, key_core) in [(1, 0), (2, 1)] {
        let (mut mesh, [key, _]) = late(Durability::Sync, cores, key_core);
        let (native_client, client) = (mesh.connect(0), mesh.connect(0));
        let none = Flags(0);
        let bytes = [
            frame(Opcode::GET, 1, none, &key, b""),
            frame(Opcode::SET, 2, none, &key, b"6"),
            frame(Opcode::GET, 3, none, &key, b""),
        ];
        mesh.send(native_client, &bytes.concat());
        let queued = [encode(&[b"MULTI"]), encode(&[b"INCR", &key]), encode(&[b"EXEC"])].concat();
        mesh.send(client, &queued);
        mesh.settle_synced();
        assert_eq!(replies(&mesh.take(native_client)), [(1, Status::OK)]);
        assert_eq!(mesh.take(client), b"+OK\r\n+QUEUED\r\n");
        mesh.set_log_disks(SegmentNumber(2), false);
        mesh.settle_synced();
        assert_eq!(replies(&mesh.take(native_client)), [(2, Status::OK), (3, Status::OK)]);
        assert_eq!(mesh.take(client), b"*1\r\n:7\r\n");
    }
}

#[test]
fn who_waits_for_a_segment_is_refused_when_its_disk_turns_out_to_be_full() {
    for (cores, key_core) in [(1, 0), (2, 1)] {
        let (mut mesh, [key, _]) = late(Durability::Sync, cores, key_core);
        let client = mesh.connect(0);
        mesh.send(client, &encode(&[b"SET", &key, b"6"]));
        mesh.settle_synced();
        assert_eq!(mesh.take(client), b"");
        mesh.set_log_disks(SegmentNumber(1), true);
        mesh.settle_synced();
        assert!(mesh.take(client).starts_with(b"-MISCONF "));
        assert_eq!(mesh.request(client, &[b"GET", &key]), b"$1\r\n5\r\n");
    }
}

#[test]
fn a_value_larger_than_what_is_left_of_the_segment_is_taken_and_told_when_it_is_written() {
    let mut mesh = Mesh::logged(1, 4 * MEMORY_BYTES, Durability::Sync, LATE_LIMITS);
    mesh.set_log_disks(SegmentNumber(1), false);
    let client = mesh.connect(0);
    let value = vec![b'x'; 600 << 10];
    mesh.send(client, &encode(&[b"SET", b"a", &value]));
    mesh.settle_synced();
    assert_eq!(mesh.take(client), b"+OK\r\n");
    mesh.send(client, &[encode(&[b"COPY", b"a", b"b"]), encode(&[b"SET", b"c", b"1"])].concat());
    mesh.settle();
    mesh.set_log_disks(SegmentNumber(2), false);
    mesh.settle_synced();
    assert_eq!(mesh.take(client), b":1\r\n+OK\r\n");
}
