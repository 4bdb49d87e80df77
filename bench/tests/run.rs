//! The whole program against a small server: what it measures, what it says, how it ends.

mod fake;

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fake::{Fault, Shared};
use serde_json::Value;

/// A file of this test run that nobody else writes.
fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinnace-bench"));
    command.args(words.split_ascii_whitespace());
    command
}

fn bench(words: &str) -> Output {
    command(words).output().unwrap()
}

/// Runs with a JSON result; returns exit code and result.
fn measured(name: &str, words: &str) -> (i32, Value) {
    let path = scratch(name);
    let output = bench(&format!("{words} --json {}", path.display()));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap())
}

fn count(result: &Value, name: &str) -> u64 {
    result["counts"][name].as_u64().unwrap()
}

/// Answers of a result that took at least `ms`, told from its histogram over time.
fn slower_than(result: &Value, ms: u64) -> u64 {
    let class_start = |class: u64| (8 + (class & 7)) << ((class >> 3) + 8 - 3);
    let rows = result["series"]["rows"].as_array().unwrap();
    let classes = rows.iter().flat_map(|row| row["classes"].as_array().unwrap());
    classes
        .filter(|pair| class_start(pair[0].as_u64().unwrap()) >= ms * 1_000_000)
        .map(|pair| pair[1].as_u64().unwrap())
        .sum()
}

#[test]
fn resp_values_are_preloaded_read_and_verified() {
    let (address, _) = fake::start(Fault::None);
    let words =
        "--preload --keys 2000 --value-size 0-300 -c 4 -p 8 -d 500ms --warm-up 100ms --verify-every 1";
    let mix = "--mix get=70,set=10,delete=5,incr=5,mget=10 --multi-get 5";
    let (code, result) = measured("resp.json", &format!("run redis://{address} {words} {mix}"));
    assert_eq!(code, 0, "{}", result["warnings"]);
    assert!(count(&result, "hits") > 100 && count(&result, "wrong") == 0 && count(&result, "errors") == 0);
    assert!(count(&result, "verified") > count(&result, "hits") / 2);
    assert_eq!(result["operations"].as_array().unwrap().len(), 5);
    assert_eq!(result["complete"], true);
}

#[test]
fn native_keys_go_to_the_connection_of_their_core() {
    let (address, shared) = fake::start(Fault::None);
    let words = "--preload --keys 2000 -c 3 -p 8 -n 3000 --verify-every 1 --mix get=80,cas=10,rmw=10";
    let (code, result) = measured("native.json", &format!("run pinnace://{address} {words}"));
    assert_eq!(code, 0, "{} {}", result["warnings"], result["failures"]);
    assert_eq!((count(&result, "answered"), count(&result, "misses")), (3000, 0));
    let reads = shared.reads.lock().unwrap();
    let used: Vec<HashSet<&Vec<u8>>> =
        reads.iter().map(|keys| keys.iter().collect()).filter(|keys: &HashSet<_>| !keys.is_empty()).collect();
    assert_eq!(used.len(), 6, "three clients with a connection to each of two cores");
    assert!(used[0].is_disjoint(&used[1]), "a key has one owner");
}

#[test]
fn every_connection_asks_for_keys_of_its_own() {
    let (address, shared) = fake::start(Fault::None);
    let (code, _) = measured("own.json", &format!("run redis://{address} -c 8 -p 4 -n 4000 --warm-up 0"));
    assert_eq!(code, 0);
    let reads = shared.reads.lock().unwrap();
    let mine: Vec<&Vec<Vec<u8>>> = reads.iter().filter(|keys| keys.len() > 100).collect();
    assert_eq!(mine.len(), 8);
    for (index, keys) in mine.iter().enumerate() {
        for other in &mine[..index] {
            let same = keys.iter().zip(*other).filter(|(a, b)| a == b).count();
            assert!(same < 3, "{same} equal keys at equal places of two connections");
        }
    }
}

#[test]
fn keys_on_their_way_to_another_node_are_asked_for_there() {
    let importing = TcpListener::bind("127.0.0.1:0").unwrap();
    let (owner, kept) = fake::start(Fault::Migrates(importing.local_addr().unwrap()));
    let (_, imported) = fake::start_at(importing, Fault::Imports(owner));
    let words =
        "--preload --keys 2000 -c 3 -p 8 -n 5000 --warm-up 0 --verify-every 1 --mix get=80,set=10,rmw=10";
    let (code, result) = measured("ask.json", &format!("run redis-cluster://{owner} {words}"));
    assert_eq!(code, 0, "{} {}", result["warnings"], result["failures"]);
    assert_eq!((count(&result, "answered"), count(&result, "misses")), (5000, 0));
    for (shared, odd) in [(kept, 0), (imported, 1)] {
        let reads = shared.reads.lock().unwrap();
        let keys: Vec<&Vec<u8>> = reads.iter().flatten().collect();
        assert!(keys.len() > 500 && keys.iter().all(|key| pinnace_types::key_slot(key).0 % 2 == odd));
    }
}

#[test]
fn a_cluster_that_sends_a_request_around_is_an_error_not_a_loop() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (owner, _) = fake::start(Fault::Migrates(other.local_addr().unwrap()));
    fake::start_at(other, Fault::Migrates(owner));
    let (code, result) = measured("loop.json", &format!("run redis-cluster://{owner} -c 2 -n 1000"));
    assert_eq!(code, 4, "{}", result["warnings"]);
    assert!((300..700).contains(&count(&result, "errors")), "{}", result["counts"]);
    assert!(result["failures"].to_string().contains("sends back"), "{}", result["failures"]);
}

#[test]
fn the_same_seed_asks_for_the_same_keys() {
    let first_keys = |seed: u64| {
        let (address, shared) = fake::start(Fault::None);
        measured("seed.json", &format!("run redis://{address} -c 1 -n 200 --warm-up 0 --seed {seed}"));
        let reads = shared.reads.lock().unwrap();
        reads.iter().find(|keys| keys.len() == 200).unwrap().clone()
    };
    assert_eq!(first_keys(5), first_keys(5));
    assert_ne!(first_keys(5), first_keys(6));
}

#[test]
fn cache_aside_fills_what_was_missed_and_traces_are_replayed() {
    let (address, _) = fake::start(Fault::None);
    let path = scratch("trace.bin");
    let keys = (0..3000u64).map(|n| n % 100);
    let records: Vec<u8> =
        keys.flat_map(|key| [key.to_le_bytes(), [0x40, 0, 0, 0, 0, 0, 0, 0]].concat()).collect();
    std::fs::write(&path, records).unwrap();
    let words = format!("run redis://{address} -c 1 -p 1 --trace {} --verify-every 1", path.display());
    let (code, result) = measured("traced.json", &words);
    assert_eq!(code, 0, "{}", result["warnings"]);
    assert_eq!(result["load"]["duration_s"], Value::Null, "a trace is replayed to its end");
    assert_eq!((count(&result, "misses"), count(&result, "hits")), (100, 2900));
    assert_eq!(count(&result, "verified"), 2900);

    let words = format!("{words} --trace-overlay sizes,ttls --trace-day 1h --seed 2 --key-prefix o:");
    let (code, result) = measured("overlaid.json", &words);
    assert_eq!((code, count(&result, "misses"), count(&result, "verified")), (0, 100, 2900));
    // The overlay's mean is about 1.7 KB; the trace's own 64 bytes go before it.
    let sent = count(&result, "bytes_sent");
    assert!(sent < 3000 * 100, "{sent}");
}

#[test]
fn traces_without_sizes_can_be_given_some() {
    let (address, _) = fake::start(Fault::None);
    let path = scratch("bare.bin");
    std::fs::write(&path, (0..1000u64).flat_map(|n| [n.to_le_bytes(), [0; 8]].concat()).collect::<Vec<u8>>())
        .unwrap();
    let words = format!("run redis://{address} -c 1 --trace {} --trace-overlay sizes,ttls", path.display());
    let (code, result) = measured("overlay.json", &words);
    assert_eq!((code, count(&result, "misses")), (0, 1000), "{}", result["failures"]);
    let mean = count(&result, "bytes_sent") / 1000;
    assert!((1000..3000).contains(&mean), "values of about 1.7 KB: {mean}");
}

/// Not a test of its own: the body of the server process that the stop test starts and stops.
#[test]
fn server_process() {
    let Ok(port) = std::env::var("BENCH_FAKE_PORT") else { return };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    fake::serve(&listener, Fault::None, &Arc::new(Shared::default()));
}

#[test]
fn an_open_loop_tells_of_a_stopped_server_and_a_closed_one_does_not() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server_process", "--nocapture"])
        .env("BENCH_FAKE_PORT", port.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "the server does not start");
        thread::sleep(Duration::from_millis(10));
    }
    let pid = server.id();
    // The numbers of docs/bench.md: 100 ms of 10 s at 10 000 requests a second, so 1 % of them meet the stop.
    let stop_during = |name: &str, words: &str| {
        let running = thread::spawn({
            let (name, words) = (name.to_owned(), format!("run redis://127.0.0.1:{port} {words}"));
            move || measured(&name, &words)
        });
        thread::sleep(Duration::from_millis(1500));
        signal("STOP", pid);
        thread::sleep(Duration::from_millis(100));
        signal("CONT", pid);
        running.join().unwrap().1
    };
    let common = "-c 10 --warm-up 200ms --keys 1000";
    let open = stop_during("open.json", &format!("{common} -d 10s --rate 10k --constant"));
    let closed = stop_during("closed.json", &format!("{common} -d 3s -p 1"));
    server.kill().unwrap();
    server.wait().unwrap();

    // 100 ms at 10 k a second: 1000 requests met the stop, 500 of them waited for 50 ms or longer.
    // A busy machine has stops of its own, so there may be more of them, but not fewer.
    let slow = slower_than(&open, 50);
    assert!((250..30_000).contains(&slow), "{slow} of the open loop's requests took 50 ms");
    // 0 to 100 ms, evenly, for 1 %: the slowest tenth of those waited for 90 ms or longer.
    let total = &open["total"];
    let p999 = total["p999_ns"].as_u64().unwrap();
    assert!((70_000_000..2_000_000_000).contains(&p999), "p99.9 {p999}");
    let max = total["max_ns"].as_u64().unwrap();
    assert!((80_000_000..3_000_000_000).contains(&max), "max {max}");
    let due = count(&open, "answered") + count(&open, "unsent");
    assert!((99_000..=101_000).contains(&due), "every request that was due is told of: {due}");
    let slow = slower_than(&closed, 50);
    assert!(slow < 250, "a closed loop of 10 connections cannot meet a stop {slow} times");
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn wrong_values_are_found_and_end_with_code_5() {
    let (address, _) = fake::start(Fault::WrongValues);
    let words =
        format!("run redis://{address} --preload --keys 500 -c 2 -n 500 --verify-every 1 --warm-up 0");
    let (code, result) = measured("wrong.json", &words);
    assert_eq!(code, 5);
    assert_eq!((count(&result, "wrong"), count(&result, "answered")), (500, 500));
}

#[test]
fn targets_that_cannot_be_used_end_with_code_3_and_a_reason() {
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (http, _) = fake::start(Fault::Http);
    let (locked, _) = fake::start(Fault::Locked);
    for (target, reason) in [
        (format!("redis://127.0.0.1:{closed_port}"), "cannot reach"),
        (format!("redis://{http}"), "HTTP/1.1"),
        (format!("pinnace://{http}"), "HTTP/1.1"),
        (format!("memcache://{http}"), "HTTP/1.1"),
        (format!("redis://{locked}"), "NOAUTH"),
        (format!("redis://wrong@{locked}"), "NOAUTH"),
    ] {
        let output = bench(&format!("run {target} -d 1s"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{target}: {told}");
        assert!(told.contains(reason), "{target}: {told}");
    }
}

#[test]
fn what_cannot_be_meant_ends_with_code_2() {
    let (address, _) = fake::start(Fault::None);
    let noise = scratch("noise.bin.zst");
    std::fs::write(&noise, [7; 100]).unwrap();
    for words in [
        format!("run redis://{address} --trace {}", noise.display()),
        format!("run redis://{address} --trace /no/such/file"),
        format!("run redis://{address} --workload /no/such/file"),
        format!("run redis://{address} --mix cas"),
        format!("run redis://{address} --mix fetch"),
        format!("run redis://{address} --preset ycsb-z"),
        format!("run redis://{address} --trace-overlay sizes"),
        format!("run redis://{address} --key-size 5"),
        format!("run redis://{address} --cores 4000"),
        format!("run redis://{address} --rate 1k --pipeline 4"),
        format!("run redis://{address} --constant"),
        format!("run redis://{address} --window 4"),
        format!("saturate redis://{address} --rate 1k"),
        format!("sweep redis://{address} --pipeline 4"),
        format!("run redis://{address} memcache://{address}"),
        "run http://127.0.0.1".to_owned(),
        "report /no/such/result.json".to_owned(),
    ] {
        assert_eq!(bench(&words).status.code(), Some(2), "{words}");
    }
}

#[test]
fn a_server_that_dies_leaves_a_partial_result() {
    let (address, _) = fake::start(Fault::DiesAfter(500));
    let (code, result) = measured("dies.json", &format!("run redis://{address} -c 2 -p 4 -d 5s --warm-up 0"));
    assert_eq!((code, &result["complete"]), (4, &Value::Bool(false)));
    assert!(count(&result, "answered") > 500 && count(&result, "lost") > 0, "{}", result["counts"]);
    assert!(result["elapsed_s"].as_f64().unwrap() < 4.0, "it ends when every connection is gone");
    assert!(result["failures"].to_string().contains("connection"), "{}", result["failures"]);
}

#[test]
fn a_rate_that_cannot_be_offered_is_said_so() {
    let (address, _) = fake::start(Fault::Slow(Duration::from_millis(2)));
    let words = format!("run redis://{address} -c 1 --window 4 --rate 20k -d 500ms --warm-up 0");
    let (code, result) = measured("rate.json", &words);
    assert_eq!(code, 4);
    assert!(count(&result, "unsent") > 1000, "{}", result["counts"]);
    assert!(result["total"]["p99_ns"].as_u64().unwrap() > 300_000_000, "what was not sent has waited");
}

#[test]
fn an_answer_that_does_not_come_is_a_timeout() {
    let (address, _) = fake::start(Fault::StallsAfter(300, Duration::from_secs(5)));
    let words = format!("run redis://{address} -c 1 -p 2 -d 3s --warm-up 0 --timeout 300ms");
    let (code, result) = measured("timeout.json", &words);
    assert_eq!((code, count(&result, "timeouts")), (4, 2), "{}", result["counts"]);
}

#[test]
fn an_interrupt_ends_a_run_early_with_a_valid_report() {
    let (address, _) = fake::start(Fault::None);
    let path = scratch("interrupted.json");
    let words = format!("run redis://{address} -c 2 -d 60s --json {}", path.display());
    let mut child = command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_millis(2500));
    signal("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let result: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(count(&result, "answered") > 0 && result["complete"] == false);
    let elapsed = result["elapsed_s"].as_f64().unwrap();
    assert!((0.2..20.0).contains(&elapsed), "{elapsed}");
}

#[test]
fn results_become_reports_and_comparisons() {
    let (address, _) = fake::start(Fault::None);
    let (_, result) =
        measured("a.json", &format!("run redis://{address} -c 2 -d 600ms --warm-up 0 --rate 2k"));
    measured("b.json", &format!("run redis://{address} -c 2 -d 600ms --warm-up 0 --rate 2k --seed 3"));
    let (a, b, folder) = (scratch("a.json"), scratch("b.json"), scratch("reports"));
    let output = bench(&format!("report {} --output {}", a.display(), folder.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("p99.999") && told.contains("kernel") && told.contains("omission"), "{told}");
    for suffix in
        ["html", "get.hgrm", "total.hgrm", "percentiles.csv", "series.csv", "heat-map.svg", "percentiles.png"]
    {
        let len = std::fs::metadata(folder.join(format!("a.{suffix}"))).unwrap().len();
        assert!(len > 300, "{suffix}: {len}");
    }
    let page = std::fs::read_to_string(folder.join("a.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org/").count()
    );
    assert!(page.contains(result["environment"]["kernel"].as_str().unwrap()));

    let output = bench(&format!("compare {} {}", a.display(), b.display()));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && told.contains("2 run(s)") && told.contains("answers a second"),
        "{told}"
    );
}

#[test]
fn a_sweep_finds_the_knee_and_saturate_the_limit() {
    let (address, _) = fake::start(Fault::Slow(Duration::from_micros(500)));
    let folder = scratch("sweep");
    let words = "-c 2 -d 400ms --warm-up 100ms --from 200 --to 100k --factor 3 --p99-limit 100ms --window 64";
    let json = scratch("sweep.json");
    let outputs = format!("--output {} --json {}", folder.display(), json.display());
    let output = bench(&format!("sweep redis://{address} {words} {outputs}"));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("knee: "), "{told}");
    assert!(std::fs::metadata(folder.join("sweep.png")).unwrap().len() > 300);

    let again = scratch("sweep-again");
    let output = bench(&format!("report {} --output {}", json.display(), again.display()));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("knee: "), "{told}");
    for name in ["sweep.svg", "sweep.csv", "best.html"] {
        assert!(std::fs::metadata(again.join(name)).unwrap().len() > 100, "{name}");
    }

    let limit = scratch("saturate");
    let words = format!("-c 2 -d 300ms --warm-up 100ms --output {}", limit.display());
    let output = bench(&format!("saturate redis://{address} {words}"));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("highest throughput: "), "{told}");
    for name in ["saturate.svg", "best.html"] {
        assert!(std::fs::metadata(limit.join(name)).unwrap().len() > 100, "{name}");
    }
}

#[test]
fn a_time_bounds_a_trace_and_a_count_as_well() {
    let (address, _) = fake::start(Fault::Slow(Duration::from_millis(2)));
    let path = scratch("long.bin");
    std::fs::write(&path, vec![0; 16 * 100_000]).unwrap();
    for (name, words) in [
        ("trace-time.json", format!("--trace {}", path.display())),
        ("count-time.json", "-n 100000 --warm-up 50ms".to_owned()),
    ] {
        let (code, result) = measured(name, &format!("run redis://{address} -c 1 -d 300ms {words}"));
        assert_eq!((code, &result["complete"]), (0, &Value::Bool(true)), "{words}: {}", result["warnings"]);
        let elapsed = result["elapsed_s"].as_f64().unwrap();
        assert!((0.29..0.31).contains(&elapsed) && count(&result, "answered") < 1000, "{words}: {elapsed}");
    }
}

#[test]
fn a_search_whose_target_dies_keeps_the_steps_before() {
    for words in ["sweep --from 500 --to 8k --factor 2 --p99-limit 60s", "saturate"] {
        let (address, _) = fake::start(Fault::DiesAfter(700));
        let (kind, more) = words.split_once(' ').unwrap_or((words, ""));
        let path = scratch(&format!("{kind}-dies.json"));
        let common = format!("-c 2 -d 600ms --warm-up 0 --mix get --json {}", path.display());
        let output = bench(&format!("{kind} redis://{address} {more} {common}"));
        assert_eq!(output.status.code(), Some(4), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        let steps: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(steps["complete"] == false && steps["ended"].as_str().unwrap().contains("lost"), "{steps}");
        assert!(!steps["runs"].as_array().unwrap().is_empty());
    }
}

#[test]
fn presets_name_their_sources() {
    let told = String::from_utf8_lossy(&bench("presets").stdout).into_owned();
    for word in
        ["ycsb-a", "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-f", "twitter", "meta-etc", "SoCC 2010", "OSDI 2020"]
    {
        assert!(told.contains(word), "{word}");
    }
    let (address, _) = fake::start(Fault::None);
    for preset in ["ycsb-d", "ycsb-f", "twitter-read", "meta-etc"] {
        let words = format!("run redis://{address} --preset {preset} --keys 1000 --preload -c 2 -n 1000");
        let (code, result) = measured("preset.json", &words);
        assert_eq!((code, count(&result, "wrong")), (0, 0), "{preset}: {}", result["failures"]);
    }
}
