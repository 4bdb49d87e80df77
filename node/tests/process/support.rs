//! A real `pinnace` process and what the tests do with it.
//!
//! Readiness is the banner's line on stdout; every wait ends at a deadline far beyond what it takes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Longer than anything takes on a loaded machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, with no setting from the environment and little memory.
pub fn pinnace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinnace"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PINNACE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).env("PINNACE_MEMORY", "128mb").env("PINNACE_MAX_CONNECTIONS", "200");
    command
}

/// The binary under `prlimit` from util-linux, which sets limits before it starts it.
pub fn pinnace_under_prlimit(limit: &str) -> Command {
    let plain = pinnace();
    let mut command = Command::new("prlimit");
    command.arg(limit).arg(plain.get_program()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// `count` ports that nobody listens on.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let sockets = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

/// Runs a command that is expected to end on its own.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A serving node; killed when dropped.
pub struct Node {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    /// Everything up to and including the line that tells how to try it.
    pub banner: String,
}

impl Node {
    /// Starts a node on a free port and waits for its banner.
    pub fn start(arguments: &[&str]) -> Self {
        let [port, peer_port, http_port] = free_ports();
        let mut command = pinnace();
        command.args(["--port", &port.to_string(), "--peer-port", &peer_port.to_string()]);
        command.args(["--http-port", &http_port.to_string()]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut node =
            Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), banner: String::new() };
        while !node.banner.contains("redis-cli") {
            match receiver.recv_timeout(PATIENCE) {
                Ok(line) => node.banner.push_str(&format!("{line}\n")),
                Err(_) => panic!("no banner, but: {}", node.kill()),
            }
        }
        node
    }

    /// A connection that gives up instead of waiting for ever.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends an inline command and returns one line of reply.
    pub fn ask(&self, command: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        reply
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; returns the status and what was written to stderr.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut log = String::new();
            let _ = stderr.read_to_string(&mut log);
            let _ = sender.send(log);
        });
        let log = receiver.recv_timeout(PATIENCE).expect("the node ends and closes its stderr");
        (self.child.wait().unwrap(), log)
    }

    fn kill(&mut self) -> String {
        let _ = self.child.kill();
        let mut log = String::new();
        let _ = self.child.stderr.take().unwrap().read_to_string(&mut log);
        log
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
