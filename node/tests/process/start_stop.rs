//! A node from its banner to its end.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::support::{Node, free_ports, pinnace, pinnace_under_prlimit};

#[test]
fn the_banner_says_how_to_try_it_and_that_works() {
    let node = Node::start(&[]);
    assert!(node.banner.lines().all(|line| line.chars().count() <= 100), "{}", node.banner);
    assert!(node.banner.contains(&format!("redis-cli -p {}", node.address.port())));
    assert_eq!(node.ask("SET greeting hello"), "+OK\r\n");
    assert_eq!(node.ask("GET greeting"), "$5\r\n");
}

#[test]
fn every_core_serves_the_port_from_the_banner_on() {
    // More connections than cores: some land on each. Every one sees every key, wherever it lives.
    let node = Node::start(&[]);
    for key in 0..32 {
        assert_eq!(node.ask(&format!("SET key:{key} {key}")), "+OK\r\n");
    }
    for key in 0..32 {
        assert_eq!(node.ask(&format!("STRLEN key:{key}")), format!(":{}\r\n", key.to_string().len()));
    }
}

#[test]
fn both_stop_signals_end_it_cleanly_with_open_connections() {
    for signal in ["TERM", "INT"] {
        let node = Node::start(&[]);
        let mut idle = node.connect();
        idle.write_all(b"PING\r\n").unwrap();
        let mut pong = [0; 7];
        idle.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"+PONG\r\n");
        node.signal(signal);
        let (status, log) = node.wait();
        assert!(status.success(), "{status}: {log}");
        assert!(log.contains(&format!("SIG{signal}")) && log.contains("stopped"), "{log}");
        assert_eq!(idle.read(&mut pong).unwrap_or(0), 0);
    }
}

#[test]
fn a_hang_up_is_logged_and_survived() {
    let node = Node::start(&[]);
    node.signal("HUP");
    assert_eq!(node.ask("PING"), "+PONG\r\n");
    node.signal("TERM");
    let (status, log) = node.wait();
    assert!(status.success() && log.contains("SIGHUP"), "{status}: {log}");
}

#[test]
fn a_stopped_node_starts_again_on_its_port_at_once() {
    let [port] = free_ports();
    for _ in 0..3 {
        // The last of two equal flags counts.
        let mut node = Node::start(&["--port", &port.to_string()]);
        node.address.set_port(port);
        let _open = node.connect();
        assert_eq!(node.ask("PING"), "+PONG\r\n");
        node.signal("TERM");
        assert!(node.wait().0.success());
    }
}

#[test]
fn a_killed_node_starts_again_on_its_port_at_once() {
    // The kernel frees the port of a killed node only some time after its end.
    let [port] = free_ports();
    for _ in 0..3 {
        let mut node = Node::start(&["--port", &port.to_string()]);
        node.address.set_port(port);
        let _open = node.connect();
        assert_eq!(node.ask("PING"), "+PONG\r\n");
        node.signal("KILL");
        assert!(!node.wait().0.success());
    }
}

#[test]
fn json_logs_come_without_a_banner() {
    let [port, peer_port, http_port] = free_ports::<3>().map(|port| port.to_string());
    let mut child = pinnace()
        .args(["--port", &port, "--peer-port", &peer_port, "--http-port", &http_port, "--log-format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    let mut stderr = child.stderr.take().unwrap();
    let mut chunk = [0; 4096];
    while !log.contains("\"message\":\"ready\"") {
        let len = stderr.read(&mut chunk).unwrap();
        assert!(len > 0, "it ended: {log}");
        log.push_str(&String::from_utf8_lossy(&chunk[..len]));
    }
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
    std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success());
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "");
}

#[test]
fn each_core_can_have_a_port_of_its_own() {
    let [base] = free_ports();
    let mut node = Node::start(&["--cores", "1", "--core-ports", &base.to_string()]);
    assert_eq!(node.ask("PING"), "+PONG\r\n");
    node.address.set_port(base);
    assert_eq!(node.ask("PING"), "+PONG\r\n");
}

#[test]
fn a_node_runs_on_the_default_memlock_limit() {
    let [port, peer_port, http_port] = free_ports::<3>().map(|port| port.to_string());
    let mut command = pinnace_under_prlimit("--memlock=8388608:8388608");
    command.args(["--port", &port, "--peer-port", &peer_port, "--http-port", &http_port]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut banner = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut banner).unwrap();
    assert!(banner.starts_with(b"Pinnace "));
    child.kill().unwrap();
    child.wait().unwrap();
}
