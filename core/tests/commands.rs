//! Commands whose keys lie on several cores, values too large for the log, and walks over all keys.

mod mesh;

use std::collections::BTreeSet;

use mesh::{Client, Mesh, encode};
use proptest::prelude::*;

const MEMORY_BYTES: u64 = 64 << 20;

fn ask(mesh: &mut Mesh, client: Client, line: &str) -> String {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8(mesh.request(client, &args)).expect("these tests read text")
}

fn bulk(value: &[u8]) -> Vec<u8> {
    let mut reply = format!("${}\r\n", value.len()).into_bytes();
    reply.extend_from_slice(value);
    reply.extend_from_slice(b"\r\n");
    reply
}

/// The bulk strings of an array reply of nothing else.
fn elements(reply: &str) -> Vec<String> {
    let lines = reply.split_terminator("\r\n").skip(1);
    lines.filter(|line| !line.starts_with('$')).map(str::to_owned).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("keys of the mesh are text")
}

#[test]
fn msetnx_over_cores_is_refused_and_an_odd_mset_writes_nothing() {
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let client = mesh.connect(0);
    let (a, b) = (text(&mesh.key_on(0, 0)), text(&mesh.key_on(1, 0)));
    let reply = ask(&mut mesh, client, &format!("MSETNX {a} 1 {b} 2"));
    assert_eq!(reply, "-CROSSSLOT Keys in request don't hash to the same slot\r\n");
    let arity = |name| format!("-ERR wrong number of arguments for '{name}' command\r\n");
    assert_eq!(ask(&mut mesh, client, &format!("MSETNX {a} 1 {b}")), arity("msetnx"));
    assert_eq!(ask(&mut mesh, client, &format!("MSET {a} 1 {b}")), arity("mset"));
    assert_eq!(ask(&mut mesh, client, &format!("EXISTS {a} {b}")), ":0\r\n");
}

#[test]
fn internal_commands_are_unknown_to_clients() {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let client = mesh.connect(0);
    for name in ["_fetch", "_STORE", "_drop", "object|encoding"] {
        let reply = ask(&mut mesh, client, &format!("{name} k v"));
        assert!(reply.starts_with("-ERR unknown command"), "{name}: {reply}");
    }
}

/// Large values lie in blocks and are never copied whole; every command has to see them as one
/// string all the same.
#[test]
fn large_values_are_strings_like_any_other() {
    let mut model: Vec<u8> = (0..900_000u32).map(|n| (n % 251) as u8).collect();
    for core_count in [1, 3] {
        let mut mesh = Mesh::new(core_count, MEMORY_BYTES);
        let client = mesh.connect(0);
        assert_eq!(mesh.request(client, &[b"SET", b"k", &model]), b"+OK\r\n");
        assert_eq!(mesh.request(client, &[b"GET", b"k"]), bulk(&model));
        assert_eq!(mesh.request(client, &[b"STRLEN", b"k"]), b":900000\r\n");
        assert_eq!(
            mesh.request(client, &[b"GETRANGE", b"k", b"250000", b"790000"]),
            bulk(&model[250_000..=790_000])
        );
        let ones: u32 = model[1..899_999].iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(
            mesh.request(client, &[b"BITCOUNT", b"k", b"1", b"-2"]),
            format!(":{ones}\r\n").as_bytes()
        );
        let bit = u8::from(model[800_000] & 0x20 != 0);
        assert_eq!(mesh.request(client, &[b"GETBIT", b"k", b"6400002"]), format!(":{bit}\r\n").as_bytes());
        assert_eq!(ask(&mut mesh, client, "INCR k"), "-ERR value is not an integer or out of range\r\n");
        assert_eq!(ask(&mut mesh, client, "INCRBYFLOAT k 1"), "-ERR value is not a valid float\r\n");
        let field = u32::from_be_bytes(model[700_000..700_004].try_into().expect("four bytes"));
        let reply = ask(&mut mesh, client, "BITFIELD k GET u32 #175000 GET u8 7200000");
        assert_eq!(reply, format!("*2\r\n:{field}\r\n:0\r\n"));
        assert_eq!(ask(&mut mesh, client, "OBJECT ENCODING k"), "$3\r\nraw\r\n");

        assert_eq!(mesh.request(client, &[b"APPEND", b"k", b"end"]), b":900003\r\n");
        model.extend_from_slice(b"end");
        assert_eq!(mesh.request(client, &[b"SETRANGE", b"k", b"500000", b"patch"]), b":900003\r\n");
        model[500_000..500_005].copy_from_slice(b"patch");
        for (command, other) in [("COPY", "c"), ("RENAME", "r"), ("RENAME", "k"), ("COPY", "x")] {
            let from = if other == "k" { "r" } else { "k" };
            assert!(ask(&mut mesh, client, &format!("{command} {from} {other}")).starts_with([':', '+']));
            assert_eq!(mesh.request(client, &[b"GET", other.as_bytes()]), bulk(&model), "{command}");
        }
        assert_eq!(mesh.request(client, &[b"MGET", b"k", b"c"])[4..], [bulk(&model), bulk(&model)].concat());
        assert_eq!(mesh.request(client, &[b"BITOP", b"XOR", b"z", b"k", b"c"]), b":900003\r\n");
        assert_eq!(ask(&mut mesh, client, "BITPOS z 1"), ":-1\r\n");
        assert_eq!(mesh.request(client, &[b"GETSET", b"c", b"small"]), bulk(&model));
        assert_eq!(mesh.request(client, &[b"SET", b"k", b"small", b"GET"]), bulk(&model));
        assert_eq!(mesh.request(client, &[b"GETDEL", b"x"]), bulk(&model));
        assert_eq!(ask(&mut mesh, client, "MGET k c x"), "*3\r\n$5\r\nsmall\r\n$5\r\nsmall\r\n$-1\r\n");
        model.truncate(900_000);
        model[500_000..500_005].copy_from_slice(&[8, 9, 10, 11, 12]);
        (500_000..500_005).for_each(|n| model[n] = (n % 251) as u8);
    }
}

#[test]
fn a_value_that_memory_cannot_hold_is_refused_before_it_is_built() {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let client = mesh.connect(0);
    for request in ["SETRANGE k 500000000 x", "SETBIT k 4000000000 1", "BITFIELD k SET u8 4000000000 1"] {
        let reply = ask(&mut mesh, client, request);
        assert_eq!(reply, "-OOM command not allowed when used memory > 'maxmemory'.\r\n", "{request}");
    }
    assert_eq!(ask(&mut mesh, client, "EXISTS k"), ":0\r\n");
}

/// Two keys on two cores, a client to move one to the other and a client to write to the source.
struct Race {
    mesh: Mesh,
    mover: Client,
    writer: Client,
    from: String,
    to: String,
}

impl Race {
    fn new() -> Self {
        let mut mesh = Mesh::new(2, MEMORY_BYTES);
        let (mover, writer) = (mesh.connect(1), mesh.connect(0));
        let (from, to) = (text(&mesh.key_on(0, 0)), text(&mesh.key_on(1, 0)));
        ask(&mut mesh, writer, &format!("SET {from} 0"));
        Self { mesh, mover, writer, from, to }
    }

    /// Moves while the source is written to before each of the first `writes` rounds of mail.
    fn run(&mut self, command: &str, writes: usize) -> String {
        let Self { mesh, mover, writer, from, to } = self;
        mesh.send(*mover, &encode(&[command.as_bytes(), from.as_bytes(), to.as_bytes()]));
        for round in 1..=writes {
            mesh.send(*writer, &encode(&[b"SET", from.as_bytes(), round.to_string().as_bytes()]));
            mesh.deliver();
        }
        mesh.settle();
        text(&mesh.take(*mover))
    }

    fn both(&mut self) -> String {
        let line = format!("MGET {} {}", self.from, self.to);
        self.mesh.take(self.writer);
        ask(&mut self.mesh, self.writer, &line)
    }
}

#[test]
fn a_rename_across_cores_loses_no_write_to_its_source() {
    for command in ["RENAME", "RENAMENX"] {
        for writes in 0..12 {
            let mut race = Race::new();
            let reply = race.run(command, writes);
            assert!(reply == "+OK\r\n" || reply == ":1\r\n", "{command} {writes}: {reply}");
            let newest = writes.to_string();
            let moved = format!("*2\r\n$-1\r\n${}\r\n{newest}\r\n", newest.len());
            let written_after = format!("*2\r\n${}\r\n{newest}\r\n", newest.len());
            let both = race.both();
            assert!(both == moved || both.starts_with(&written_after), "{command} {writes}: {both}");
        }
    }
}

#[test]
fn a_rename_across_cores_gives_up_on_a_source_that_never_rests() {
    let mut race = Race::new();
    let reply = race.run("RENAME", 190);
    assert!(reply.starts_with("-TRYAGAIN "), "{reply}");
    assert!(race.both().starts_with("*2\r\n$3\r\n190\r\n"));
}

#[test]
fn flushall_is_over_everywhere_before_the_next_command() {
    let mut mesh = Mesh::new(3, MEMORY_BYTES);
    let client = mesh.connect(0);
    let keys: Vec<Vec<u8>> = (0..3).map(|core| mesh.key_on(core, 0)).collect();
    let mut pipeline = Vec::new();
    keys.iter().for_each(|key| pipeline.extend(encode(&[b"SET", key, b"1"])));
    pipeline.extend(encode(&[b"FLUSHALL"]));
    keys.iter().for_each(|key| pipeline.extend(encode(&[b"EXISTS", key])));
    pipeline.extend(encode(&[b"DBSIZE"]));
    let reply = mesh.call(client, &pipeline);
    assert_eq!(text(&reply), format!("{}{}", "+OK\r\n".repeat(4), ":0\r\n".repeat(4)));
}

#[test]
fn random_keys_come_from_every_core() {
    let mut mesh = Mesh::new(3, MEMORY_BYTES);
    let client = mesh.connect(0);
    let keys: BTreeSet<Vec<u8>> =
        (0..3).flat_map(|core| [mesh.key_on(core, 0), mesh.key_on(core, 1)]).collect();
    keys.iter().for_each(|key| drop(mesh.request(client, &[b"SET", key, b"1"])));
    let seen: BTreeSet<Vec<u8>> = (0..400).map(|_| mesh.request(client, &[b"RANDOMKEY"])).collect();
    assert_eq!(seen, keys.iter().map(|key| bulk(key)).collect());
}

/// Walks with SCAN and gives the keys in the order they came; `between` runs between two steps.
fn walk(mesh: &mut Mesh, client: Client, options: &str, mut between: impl FnMut(&mut Mesh)) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let reply = ask(mesh, client, &format!("SCAN {cursor}{options}"));
        let mut lines = elements(&reply);
        cursor = lines.remove(0);
        found.extend(lines.into_iter().filter(|line| !line.starts_with('*')));
        if cursor == "0" {
            return found;
        }
        between(mesh);
    }
}

#[test]
fn scan_gives_every_key_that_stays_exactly_once_while_others_come_and_go() {
    for core_count in [1, 3] {
        let mut mesh = Mesh::new(core_count, MEMORY_BYTES);
        let client = mesh.connect(0);
        let stays: BTreeSet<String> = (0..500).map(|n| format!("stays:{n}")).collect();
        stays.iter().for_each(|key| drop(ask(&mut mesh, client, &format!("SET {key} v"))));
        let mut next = 0;
        let found = walk(&mut mesh, client, " COUNT 7", |mesh| {
            for _ in 0..40 {
                ask(mesh, client, &format!("SET comes:{next} v"));
                ask(mesh, client, &format!("DEL comes:{}", next / 2));
                next += 1;
            }
        });
        let staying: Vec<&String> = found.iter().filter(|key| key.starts_with("stays:")).collect();
        assert_eq!(staying.len(), stays.len(), "each once");
        assert_eq!(staying.into_iter().cloned().collect::<BTreeSet<_>>(), stays);
    }
}

#[test]
fn scan_filters_and_any_cursor_is_safe() {
    let mut mesh = Mesh::new(3, MEMORY_BYTES);
    let client = mesh.connect(0);
    (0..100).for_each(|n| drop(ask(&mut mesh, client, &format!("SET k:{n} v"))));
    assert_eq!(walk(&mut mesh, client, " MATCH k:?5", |_| {}).len(), 9);
    assert_eq!(walk(&mut mesh, client, " COUNT 1 TYPE string", |_| {}).len(), 100);
    assert!(walk(&mut mesh, client, " TYPE hash", |_| {}).is_empty());
    assert_eq!(walk(&mut mesh, client, " COUNT 9223372036854775807", |_| {}).len(), 100);
    for cursor in ["18446744073709551615", "-1", "9223372036854775807", "12345", "1", "2", "3"] {
        assert!(ask(&mut mesh, client, &format!("SCAN {cursor}")).starts_with("*2\r\n$"), "{cursor}");
    }
    assert_eq!(elements(&ask(&mut mesh, client, "SCAN 18446744073709551614")), ["0", "*0"]);
}

/// A command over a few keys, so that they meet often, with replies that depend on no clock and no
/// order of keys.
fn command() -> impl Strategy<Value = String> {
    let key = || (0..8u8).prop_map(|n| format!("k{n}"));
    let value = || prop_oneof!["[a-c]{1,4}", (-5..100i32).prop_map(|n| n.to_string())];
    prop_oneof![
        (key(), value()).prop_map(|(k, v)| format!("SET {k} {v}")),
        (key(), value()).prop_map(|(k, v)| format!("APPEND {k} {v}")),
        (key(), 0..9i32, value()).prop_map(|(k, at, v)| format!("SETRANGE {k} {at} {v}")),
        key().prop_map(|k| format!("GET {k}")),
        key().prop_map(|k| format!("INCR {k}")),
        (key(), 0..40u8).prop_map(|(k, bit)| format!("SETBIT {k} {bit} 1")),
        key().prop_map(|k| format!("EXPIREAT {k} 33177117420")),
        key().prop_map(|k| format!("EXPIRETIME {k}")),
        (key(), key(), key()).prop_map(|(a, b, c)| format!("MGET {a} {b} {c}")),
        (key(), value(), key(), value()).prop_map(|(a, v, b, w)| format!("MSET {a} {v} {b} {w}")),
        (key(), key(), key()).prop_map(|(a, b, c)| format!("DEL {a} {b} {c}")),
        (key(), key(), key()).prop_map(|(a, b, c)| format!("EXISTS {a} {b} {c}")),
        (key(), key()).prop_map(|(a, b)| format!("RENAME {a} {b}")),
        (key(), key()).prop_map(|(a, b)| format!("RENAMENX {a} {b}")),
        (key(), key()).prop_map(|(a, b)| format!("COPY {a} {b}")),
        (key(), key()).prop_map(|(a, b)| format!("COPY {a} {b} REPLACE")),
        (key(), key(), key()).prop_map(|(a, b, c)| format!("BITOP XOR {a} {b} {c}")),
        Just("DBSIZE".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// How many cores there are is no business of the client: one after the other or in one
    /// pipeline, the replies are those of a single core.
    #[test]
    fn replies_do_not_depend_on_the_number_of_cores(commands in proptest::collection::vec(command(), 1..120)) {
        let requests: Vec<Vec<u8>> = commands
            .iter()
            .map(|line| encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()))
            .collect();
        let replies = |core_count, at_once: bool| {
            let mut mesh = Mesh::new(core_count, MEMORY_BYTES);
            let client = mesh.connect(usize::from(core_count) - 1);
            if at_once {
                return mesh.call(client, &requests.concat());
            }
            requests.iter().flat_map(|request| mesh.call(client, request)).collect()
        };
        let expected = replies(1, false).escape_ascii().to_string();
        prop_assert_eq!(replies(3, false).escape_ascii().to_string(), expected.clone());
        prop_assert_eq!(replies(1, true).escape_ascii().to_string(), expected.clone());
        prop_assert_eq!(replies(3, true).escape_ascii().to_string(), expected);
    }
}
