//! Every way in which a node does not start: its exit code, and a message that helps.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use crate::support::{Node, free_ports, pinnace, pinnace_under_prlimit, run};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

/// Runs it; checks the code, that the message is one paragraph, and that it says what it must.
fn expect_failure(command: &mut Command, code: i32, parts: &[&str]) {
    let (status, stdout, stderr) = run(command);
    assert_eq!(status, code, "stdout: {stdout}\nstderr: {stderr}");
    assert!(stdout.is_empty(), "{stdout}");
    for part in parts {
        assert!(stderr.contains(part), "'{part}' is not in: {stderr}");
    }
}

fn expect_refusal(arguments: &[&str], code: i32, parts: &[&str]) {
    expect_failure(pinnace().args(arguments), code, parts);
}

/// Runs `command` in a thread (and so a process) where io_uring_setup fails with `errno`.
fn with_io_uring_failing(errno: u32, command: &mut Command, code: i32, parts: &[&str]) {
    const IO_URING_SETUP: i64 = 425;
    let filter = SeccompFilter::new(
        BTreeMap::from([(IO_URING_SETUP, Vec::<SeccompRule>::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            seccompiler::apply_filter(&program).unwrap();
            expect_failure(command, code, parts);
        });
    });
}

#[test]
fn wrong_flags_keys_and_values_are_named() {
    expect_refusal(&["--prot", "1"], 2, &["--prot", "--port"]);
    expect_refusal(&["--port", "abc"], 2, &["abc", "--port"]);
    expect_refusal(&["--shards", "0"], 2, &["--shards", "1 to 16384"]);
    expect_refusal(&["--wal-replay"], 2, &["--wal-replay", "--durability", "--data-dir"]);
    expect_refusal(&["--http-port", "7700"], 2, &["--http-port", "7700"]);
    expect_refusal(&["--log-level", "=,="], 2, &["log_level", "=,="]);
    expect_refusal(&["--config", "/nonexistent.toml"], 2, &["/nonexistent.toml"]);
    expect_failure(
        pinnace().env("PINNACE_MEMROY", "1gb"),
        2,
        &["PINNACE_MEMROY", "did you mean PINNACE_MEMORY?"],
    );
    expect_failure(pinnace().env("PINNACE_PORT", "abc"), 2, &["PINNACE_PORT", "abc"]);
}

#[test]
fn blocked_io_uring_is_told_from_missing_io_uring() {
    const EPERM: u32 = 1;
    const EINVAL: u32 = 22;
    const ENOSYS: u32 = 38;
    with_io_uring_failing(EPERM, &mut pinnace(), 10, &["io_uring", "seccomp"]);
    with_io_uring_failing(EINVAL, &mut pinnace(), 10, &["6.1"]);
    with_io_uring_failing(ENOSYS, &mut pinnace(), 10, &["no io_uring", "6.1"]);
}

#[test]
fn a_small_memlock_limit_is_told_with_the_numbers() {
    expect_failure(
        &mut pinnace_under_prlimit("--memlock=65536:65536"),
        11,
        &["65536", "524288", "LimitMEMLOCK"],
    );
}

#[test]
fn a_taken_port_is_told_with_its_owner() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let own_pid = format!("pid {}", std::process::id());
    expect_refusal(&["--port", &port], 12, &[&port, &own_pid, "--port"]);

    // Another node's listeners could be shared, since both set SO_REUSEPORT; they must not be.
    let node = Node::start(&[]);
    let port = node.address.port().to_string();
    expect_refusal(&["--port", &port], 12, &[&port, "pinnace (pid "]);
}

#[test]
fn an_address_of_another_machine_cannot_be_bound() {
    expect_refusal(&["--bind", "192.0.2.1"], 12, &["192.0.2.1", "--bind"]);
}

#[test]
fn memory_that_is_not_there_is_told_with_the_numbers() {
    expect_refusal(&["--memory", "900tb"], 13, &["900 TiB", "64 MiB", "--memory"]);
    expect_refusal(&["--memory", "1mb"], 13, &["1 MiB", "16 MiB"]);
}

#[test]
fn cores_that_may_not_be_used_are_told() {
    expect_refusal(&["--cores", "4000"], 14, &["4000", "may use"]);
    expect_refusal(&["--cores", "4000,"], 14, &["CPU 4000", "taskset"]);
}

#[test]
fn an_unusable_data_directory_is_told() {
    expect_refusal(&["--data-dir", "/proc/version"], 15, &["/proc/version", "--data-dir"]);
}

#[test]
fn too_many_connections_for_the_open_file_limit_are_told() {
    // fs.nr_open bounds what even a privileged process can raise its limit to.
    expect_refusal(&["--max-connections", "10000000"], 16, &["10000", "LimitNOFILE"]);
}

#[test]
fn config_check_reports_by_code_and_starts_nothing() {
    let [port] = free_ports();
    let (status, stdout, stderr) = run(pinnace().args(["config", "check", "--port", &port.to_string()]));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains(&format!("redis-cli -p {port}")), "{stdout}");
    expect_refusal(&["config", "check", "--memory", "900tb"], 13, &["900 TiB"]);
    let (status, stdout, _) = run(pinnace().args(["config", "print", "--shards", "64"]));
    assert!(status == 0 && stdout.contains("shards = 64"), "{stdout}");
}
