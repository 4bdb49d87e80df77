//! Commands that concern connections and the node, on nodes of several cores.

mod mesh;

use mesh::{Client, Mesh};

const MEMORY_BYTES: u64 = 16 << 20;

fn two_cores() -> (Mesh, Client, Client) {
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let (here, there) = (mesh.connect(0), mesh.connect(1));
    (mesh, here, there)
}

/// Sends a request as words.
fn ask(mesh: &mut Mesh, client: Client, words: &str) -> String {
    let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    text(mesh.request(client, &args))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("replies of these tests are text")
}

fn taken(mesh: &mut Mesh, client: Client) -> String {
    text(mesh.take(client))
}

/// The value of a field of INFO.
fn info(mesh: &mut Mesh, client: Client, section: &str, field: &str) -> String {
    let reply = ask(mesh, client, &format!("INFO {section}"));
    let line = reply.lines().find(|line| line.starts_with(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("{section} has no {field}: {reply}"))[field.len() + 1..].to_owned()
}

#[test]
fn a_message_reaches_subscribers_of_every_core_and_they_are_counted() {
    let (mut mesh, here, there) = two_cores();
    let publisher = mesh.connect(1);
    ask(&mut mesh, here, "SUBSCRIBE news");
    ask(&mut mesh, there, "HELLO 3");
    ask(&mut mesh, there, "PSUBSCRIBE n*");
    assert_eq!(ask(&mut mesh, publisher, "PUBLISH news hi"), ":2\r\n");
    assert_eq!(taken(&mut mesh, here), "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    assert_eq!(taken(&mut mesh, there), ">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    assert_eq!(ask(&mut mesh, publisher, "PUBLISH other hi"), ":0\r\n");
    assert_eq!(ask(&mut mesh, publisher, "SPUBLISH news hi"), ":0\r\n");
}

#[test]
fn a_publishers_messages_arrive_in_their_order_on_every_core() {
    let mut mesh = Mesh::new(3, MEMORY_BYTES);
    let subscribers: Vec<Client> = (0..3).map(|core| mesh.connect(core)).collect();
    for subscriber in &subscribers {
        ask(&mut mesh, *subscriber, "SUBSCRIBE c");
    }
    let publisher = mesh.connect(2);
    let pipeline: Vec<u8> =
        (0..100).flat_map(|n: u32| mesh::encode(&[b"PUBLISH", b"c", n.to_string().as_bytes()])).collect();
    assert_eq!(text(mesh.call(publisher, &pipeline)), ":3\r\n".repeat(100));
    let expected: String = (0..100)
        .map(|n: u32| format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{n}\r\n", n.to_string().len()))
        .collect();
    for subscriber in subscribers {
        assert_eq!(taken(&mut mesh, subscriber), expected);
    }
}

#[test]
fn pubsub_tells_of_all_cores_and_forgets_who_leaves() {
    let (mut mesh, here, there) = two_cores();
    let other = mesh.connect(0);
    for client in [here, there] {
        ask(&mut mesh, client, "HELLO 3");
        ask(&mut mesh, client, "SUBSCRIBE same");
        ask(&mut mesh, client, "PSUBSCRIBE p*");
    }
    ask(&mut mesh, there, "SUBSCRIBE only");
    assert_eq!(ask(&mut mesh, other, "PUBSUB CHANNELS"), "*2\r\n$4\r\nonly\r\n$4\r\nsame\r\n");
    assert_eq!(ask(&mut mesh, other, "PUBSUB CHANNELS o*"), "*1\r\n$4\r\nonly\r\n");
    assert_eq!(
        ask(&mut mesh, other, "PUBSUB NUMSUB same only"),
        "*4\r\n$4\r\nsame\r\n:2\r\n$4\r\nonly\r\n:1\r\n"
    );
    assert_eq!(ask(&mut mesh, other, "PUBSUB NUMPAT"), ":1\r\n");
    assert_eq!(info(&mut mesh, other, "stats", "pubsub_channels"), "2");
    assert_eq!(info(&mut mesh, other, "clients", "pubsub_clients"), "2");
    mesh.disconnect(there);
    ask(&mut mesh, here, "RESET");
    assert_eq!(ask(&mut mesh, other, "PUBSUB CHANNELS"), "*0\r\n");
    assert_eq!(ask(&mut mesh, other, "PUBSUB NUMPAT"), ":0\r\n");
    assert_eq!(ask(&mut mesh, other, "PUBLISH same x"), ":0\r\n");
}

#[test]
fn a_subscriber_of_resp2_may_do_little_else() {
    let (mut mesh, here, _) = two_cores();
    ask(&mut mesh, here, "SUBSCRIBE a");
    assert!(ask(&mut mesh, here, "GET k").starts_with("-ERR Can't execute 'get': only (P|S)SUBSCRIBE"));
    assert_eq!(ask(&mut mesh, here, "PING"), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    ask(&mut mesh, here, "UNSUBSCRIBE");
    assert_eq!(ask(&mut mesh, here, "GET k"), "$-1\r\n");
}

/// The lines of CLIENT LIST.
fn client_list(mesh: &mut Mesh, client: Client, options: &str) -> Vec<String> {
    let reply = ask(mesh, client, &format!("CLIENT LIST{options}"));
    reply.lines().filter(|line| line.starts_with("id=")).map(str::to_owned).collect()
}

fn field(line: &str, name: &str) -> String {
    let found = line.split(' ').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    found.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
}

#[test]
fn clients_of_every_core_are_listed_and_killed() {
    let (mut mesh, here, there) = two_cores();
    ask(&mut mesh, there, "CLIENT SETNAME far");
    ask(&mut mesh, there, "CLIENT SETINFO LIB-NAME lib");
    let lines = client_list(&mut mesh, here, "");
    assert_eq!(lines.len(), 2);
    let far =
        lines.iter().find(|line| line.contains(" name=far ")).expect("the other core's client is listed");
    assert_eq!(
        (field(far, "core"), field(far, "lib-name"), field(far, "cmd")),
        ("1".into(), "lib".into(), "client|setinfo".into())
    );
    let id = field(far, "id");
    assert_eq!(client_list(&mut mesh, here, &format!(" ID {id} 999")).len(), 1);
    assert_eq!(ask(&mut mesh, here, &format!("CLIENT KILL ID {id}")), ":1\r\n");
    assert!(!mesh.is_open(there) && mesh.is_open(here));
    mesh.disconnect(there);
    assert_eq!(client_list(&mut mesh, here, "").len(), 1);
    assert_eq!(ask(&mut mesh, here, &format!("CLIENT KILL ID {id}")), ":0\r\n");
}

#[test]
fn ids_differ_between_cores_and_kill_by_type_spares_the_caller() {
    let (mut mesh, here, there) = two_cores();
    let subscriber = mesh.connect(1);
    assert_ne!(ask(&mut mesh, here, "CLIENT ID"), ask(&mut mesh, there, "CLIENT ID"));
    ask(&mut mesh, subscriber, "SUBSCRIBE a");
    assert_eq!(client_list(&mut mesh, here, " TYPE pubsub").len(), 1);
    assert_eq!(ask(&mut mesh, here, "CLIENT KILL TYPE pubsub"), ":1\r\n");
    assert!(!mesh.is_open(subscriber));
    assert_eq!(ask(&mut mesh, here, "CLIENT KILL TYPE normal"), ":1\r\n");
    assert!(!mesh.is_open(there) && mesh.is_open(here));
    assert_eq!(ask(&mut mesh, here, "CLIENT KILL TYPE normal SKIPME no"), ":1\r\n");
}

#[test]
fn a_pause_holds_the_other_core_too_until_it_ends() {
    let (mut mesh, here, there) = two_cores();
    assert_eq!(ask(&mut mesh, here, "CLIENT PAUSE 100 WRITE"), "+OK\r\n");
    assert_eq!(ask(&mut mesh, there, "GET k"), "$-1\r\n");
    assert_eq!(ask(&mut mesh, there, "SET k v"), "");
    mesh.wait(101);
    assert_eq!(taken(&mut mesh, there), "+OK\r\n");
    ask(&mut mesh, here, "CLIENT PAUSE 100000 WRITE");
    assert_eq!(ask(&mut mesh, there, "SET k w"), "");
    assert_eq!(ask(&mut mesh, here, "CLIENT UNPAUSE"), "+OK\r\n");
    mesh.wait(1);
    assert_eq!(taken(&mut mesh, there), "+OK\r\n");
}

#[test]
fn replies_can_be_switched_off() {
    let (mut mesh, here, _) = two_cores();
    assert_eq!(ask(&mut mesh, here, "CLIENT REPLY SKIP"), "");
    assert_eq!(ask(&mut mesh, here, "PING"), "");
    assert_eq!(ask(&mut mesh, here, "PING"), "+PONG\r\n");
    assert_eq!(ask(&mut mesh, here, "CLIENT REPLY OFF"), "");
    assert_eq!(ask(&mut mesh, here, "PING"), "");
    assert_eq!(ask(&mut mesh, here, "CLIENT REPLY SKIP"), "");
    assert_eq!(ask(&mut mesh, here, "CLIENT REPLY ON"), "+OK\r\n");
    assert_eq!(ask(&mut mesh, here, "PING"), "+PONG\r\n");
}

#[test]
fn monitor_sees_the_commands_of_all_cores_but_no_passwords() {
    let (mut mesh, here, there) = two_cores();
    assert_eq!(ask(&mut mesh, here, "MONITOR"), "+OK\r\n");
    ask(&mut mesh, there, "SET k v");
    ask(&mut mesh, there, "AUTH default secret");
    ask(&mut mesh, there, "CONFIG SET timeout 0");
    let seen = taken(&mut mesh, here);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 2, "{seen}");
    assert!(lines[0].starts_with("+1700000000.") && lines[0].ends_with(r#"] "SET" "k" "v""#), "{seen}");
    assert!(lines[1].ends_with(r#"] "AUTH" "(redacted)" "(redacted)""#), "{seen}");
    assert_eq!(ask(&mut mesh, here, "RESET"), "+RESET\r\n");
    ask(&mut mesh, there, "SET k v");
    assert_eq!(taken(&mut mesh, here), "");
}

#[test]
fn settings_change_on_every_core_before_ok() {
    let (mut mesh, here, there) = two_cores();
    assert_eq!(ask(&mut mesh, here, "CONFIG SET slowlog-max-len 3 maxmemory-policy noeviction"), "+OK\r\n");
    assert_eq!(
        ask(&mut mesh, there, "CONFIG GET slowlog-max-len"),
        "*2\r\n$15\r\nslowlog-max-len\r\n$1\r\n3\r\n"
    );
    assert_eq!(info(&mut mesh, there, "memory", "maxmemory_policy"), "noeviction");
    let refused = ask(&mut mesh, here, "CONFIG SET slowlog-max-len 5 maxclients 7");
    assert!(refused.contains("argument 'maxclients') - can't set immutable config"), "{refused}");
    assert_eq!(
        ask(&mut mesh, there, "CONFIG GET slowlog-max-len"),
        "*2\r\n$15\r\nslowlog-max-len\r\n$1\r\n3\r\n"
    );
    assert_eq!(ask(&mut mesh, here, "CONFIG SET maxmemory 32mb"), "+OK\r\n", "it is 32 MiB already");
}

#[test]
fn the_slow_log_is_that_of_all_cores() {
    let (mut mesh, here, there) = two_cores();
    ask(&mut mesh, here, "CONFIG SET slowlog-log-slower-than 0");
    ask(&mut mesh, there, "CLIENT SETNAME far");
    let reply = ask(&mut mesh, here, "SLOWLOG GET 100");
    assert!(
        reply
            .contains("$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$3\r\nfar\r\n$14\r\n127.0.0.1:7700\r\n$3\r\nfar\r\n"),
        "{reply}"
    );
    assert!(reply.contains("$23\r\nslowlog-log-slower-than\r\n"), "{reply}");
    let long = "x".repeat(200);
    ask(&mut mesh, there, &format!("CLIENT SETNAME {long}"));
    ask(&mut mesh, there, &format!("MGET{}", " k".repeat(100)));
    let reply = ask(&mut mesh, here, "SLOWLOG GET");
    assert!(reply.contains(&format!("{}... (72 more bytes)\r\n", "x".repeat(128))), "{reply}");
    ask(&mut mesh, here, "CONFIG SET slowlog-log-slower-than -1");
    assert_eq!(ask(&mut mesh, there, "SLOWLOG RESET"), "+OK\r\n");
    assert_eq!(ask(&mut mesh, here, "SLOWLOG LEN"), ":0\r\n");
}

#[test]
fn info_adds_up_the_cores() {
    let (mut mesh, here, there) = two_cores();
    for index in 0..50 {
        assert_eq!(ask(&mut mesh, here, &format!("SET key{index} value EX 100")), "+OK\r\n");
        ask(&mut mesh, there, &format!("GET key{index}"));
    }
    ask(&mut mesh, there, "GET");
    assert_eq!(info(&mut mesh, there, "keyspace", "db0"), "keys=50,expires=50");
    assert_eq!(info(&mut mesh, here, "clients", "connected_clients"), "2");
    assert_eq!(info(&mut mesh, here, "stats", "keyspace_hits"), "50");
    assert_eq!(info(&mut mesh, here, "errorstats", "errorstat_ERR"), "count=1");
    let get = info(&mut mesh, here, "commandstats", "cmdstat_get");
    assert!(get.starts_with("calls=50,") && get.ends_with(",rejected_calls=1,failed_calls=0"), "{get}");
    let reply = ask(&mut mesh, here, "LATENCY HISTOGRAM get");
    assert!(reply.starts_with("*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:50\r\n"), "{reply}");
    assert_eq!(ask(&mut mesh, here, "CONFIG RESETSTAT"), "+OK\r\n");
    assert_eq!(info(&mut mesh, there, "stats", "keyspace_hits"), "0");
    assert_eq!(info(&mut mesh, there, "keyspace", "db0"), "keys=50,expires=50");
}

#[test]
fn info_shows_the_sections_that_are_asked_for() {
    let (mut mesh, here, _) = two_cores();
    let titles = |reply: &str| -> Vec<String> {
        reply.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect()
    };
    let default = titles(&ask(&mut mesh, here, "INFO"));
    assert!(default.contains(&"Server".to_owned()) && !default.contains(&"Commandstats".to_owned()));
    assert_eq!(default, titles(&ask(&mut mesh, here, "INFO default")));
    assert_eq!(titles(&ask(&mut mesh, here, "INFO cpu COMMANDSTATS nosuch")), ["CPU", "Commandstats"]);
    let all = titles(&ask(&mut mesh, here, "INFO everything"));
    assert!(all.len() == default.len() + 2 && all.contains(&"Latencystats".to_owned()));
    let every = ask(&mut mesh, here, "INFO all");
    let names: Vec<&str> =
        every.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len(), "a field stands twice");
}

#[test]
fn a_transaction_runs_commands_that_are_not_keyed() {
    let mut mesh = Mesh::new(1, MEMORY_BYTES);
    let (here, there) = (mesh.connect(0), mesh.connect(0));
    ask(&mut mesh, there, "SUBSCRIBE c");
    for words in ["MULTI", "SET k v", "PUBLISH c m", "PING"] {
        ask(&mut mesh, here, words);
    }
    assert_eq!(ask(&mut mesh, here, "EXEC"), "*3\r\n+OK\r\n:1\r\n+PONG\r\n");
    assert_eq!(taken(&mut mesh, there), "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
}

#[test]
fn subscriptions_of_one_connection_are_bounded_and_debug_is_refused() {
    let (mut mesh, here, _) = two_cores();
    ask(&mut mesh, here, "HELLO 3");
    assert!(ask(&mut mesh, here, "DEBUG SLEEP 1").starts_with("-ERR DEBUG command not allowed."));
    let max = pinnace_types::Limits::DEFAULT.subscriptions_max;
    let names: Vec<Vec<u8>> = (0..=max).map(|n| n.to_string().into_bytes()).collect();
    let args: Vec<&[u8]> =
        std::iter::once(&b"SUBSCRIBE"[..]).chain(names.iter().map(Vec::as_slice)).collect();
    let reply = text(mesh.request(here, &args));
    assert!(reply.ends_with("-ERR too many subscriptions of one connection\r\n"));
    assert!(reply.contains(&format!(":{max}\r\n")) && !reply.contains(&format!(":{}\r\n", max + 1)));
}

#[test]
fn docs_and_descriptions_come_from_the_table() {
    let (mut mesh, here, _) = two_cores();
    ask(&mut mesh, here, "HELLO 3");
    let docs = ask(&mut mesh, here, "COMMAND DOCS ping client");
    assert!(docs.starts_with("%2\r\n$4\r\nping\r\n%4\r\n$7\r\nsummary\r\n"), "{docs}");
    assert!(docs.contains("$11\r\nsubcommands\r\n%") && docs.contains("$11\r\nclient|list\r\n%4\r\n"));
    let count = ask(&mut mesh, here, "COMMAND COUNT");
    let all = ask(&mut mesh, here, "COMMAND");
    assert_eq!(
        all.lines().next().map(|line| line.replace('*', ":")),
        count.lines().next().map(str::to_owned)
    );
    let list = ask(&mut mesh, here, "COMMAND LIST");
    assert!(list.contains("\r\nclient|kill\r\n") && !list.contains("\r\n_"), "parts are not commands");
    let scripting = ask(&mut mesh, here, "COMMAND LIST FILTERBY ACLCAT transaction");
    assert!(scripting.starts_with("*5\r\n"), "{scripting}");
}

/// Words that commands look for, and values at their bounds.
const WORDS: [&[u8]; 64] = [
    b"",
    b"0",
    b"-1",
    b"1",
    b"2",
    b"3",
    b"100",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e400",
    b"nan",
    b"a",
    b"b",
    b"*",
    b"k?[a",
    b"\\",
    b"\xff\x00\r\n",
    b"get",
    b"set",
    b"list",
    b"info",
    b"id",
    b"type",
    b"normal",
    b"pubsub",
    b"kill",
    b"skipme",
    b"no",
    b"yes",
    b"addr",
    b"127.0.0.1:7700",
    b"maxage",
    b"user",
    b"default",
    b"pause",
    b"write",
    b"all",
    b"on",
    b"off",
    b"skip",
    b"setname",
    b"lib-name",
    b"auth",
    b"count",
    b"filterby",
    b"aclcat",
    b"pattern",
    b"ping",
    b"mset",
    b"bitop",
    b"save",
    b"slowlog-max-len",
    b"timeout",
    b"maxmemory",
    b"latency-tracking-info-percentiles",
    b"50 99",
    b"reset",
    b"histogram",
    b"one",
    b"nosave",
    b"sleep",
    b"everything",
    b"commandstats",
    b"stats",
];

/// Every command of the table with arguments that make no sense: each is answered, and nothing panics.
#[test]
fn nonsense_is_answered() {
    const LEFT_OUT: [&str; 5] = ["shutdown", "quit", "monitor", "client", "reset"];
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let lister = mesh.connect(0);
    let list = ask(&mut mesh, lister, "COMMAND LIST");
    let names: Vec<&str> = list.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    let mut prng = pinnace_types::Prng::new(1);
    for round in 0..200 {
        let client = mesh.connect(round % 2);
        let version: &[u8] = if round % 4 < 2 { b"2" } else { b"3" };
        mesh.request(client, &[b"HELLO", version]);
        for name in names.iter().filter(|name| !LEFT_OUT.contains(*name)) {
            if ["client|pause", "client|reply", "client|kill"].contains(name) && round % 10 != 0 {
                continue;
            }
            let mut args: Vec<&[u8]> = name.split('|').map(str::as_bytes).collect();
            (0..prng.below(6)).for_each(|_| args.push(WORDS[prng.below(WORDS.len() as u64) as usize]));
            mesh.call(client, &mesh::encode(&args));
            if !mesh.is_open(client) {
                break;
            }
        }
        mesh.request(lister, &[b"CLIENT", b"UNPAUSE"]);
        mesh.wait(1);
        if mesh.is_open(client) {
            mesh.disconnect(client);
        }
    }
    assert_eq!(ask(&mut mesh, lister, "PING"), "+PONG\r\n");
}

#[test]
fn what_a_connection_can_make_the_node_keep_is_bounded() {
    let (mut mesh, here, there) = two_cores();
    let long = "x".repeat(5000);
    let refused = ask(&mut mesh, here, &format!("CLIENT SETNAME {long}"));
    assert_eq!(refused, "-ERR Client names are limited to 4096 bytes\r\n");
    let refused = ask(&mut mesh, here, &format!("CLIENT SETINFO LIB-VER {long}"));
    assert_eq!(refused, "-ERR lib-ver is limited to 4096 bytes\r\n");
    let huge = vec![b'c'; (16 << 20) + 1];
    let refused = text(mesh.request(here, &[b"SUBSCRIBE", &huge]));
    assert_eq!(refused, "-ERR too many subscriptions of one connection\r\n");
    ask(&mut mesh, here, "MONITOR");
    mesh.request(there, &[b"SET", b"k", &vec![0u8; 1 << 20]]);
    let line = taken(&mut mesh, here);
    assert!(line.len() < 512 << 10 && line.ends_with("... (983040 more bytes)\r\n"), "{}", line.len());
}
