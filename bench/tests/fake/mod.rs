//! A small server for tests: enough RESP and native frames for a load generator, and ways to misbehave.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pinnace_protocol::native::{self, Features, HelloReply, NativeLimits, Opcode, Status};

/// How the server misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Values come back with a bit flipped.
    WrongValues,
    /// Wants a password that nobody knows.
    Locked,
    /// Answers in HTTP.
    Http,
    /// Closes every connection after so many requests.
    DiesAfter(usize),
    /// Takes this long for each request.
    Slow(Duration),
    /// Is silent for so long, once, after so many requests.
    StallsAfter(usize, Duration),
    /// Owns all slots of a cluster and is handing the odd ones over to this node.
    Migrates(SocketAddr),
    /// Is being given slots by this node: answers about them only after ASKING.
    Imports(SocketAddr),
}

/// What the server knows.
#[derive(Debug, Default)]
pub struct Shared {
    items: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    /// The keys read over each connection, in order.
    pub reads: Mutex<Vec<Vec<Vec<u8>>>>,
}

/// Starts a server of this process; it lives as long as the process.
pub fn start(fault: Fault) -> (SocketAddr, Arc<Shared>) {
    start_at(TcpListener::bind("127.0.0.1:0").unwrap(), fault)
}

/// The same at a place that is known beforehand.
pub fn start_at(listener: TcpListener, fault: Fault) -> (SocketAddr, Arc<Shared>) {
    let address = listener.local_addr().unwrap();
    let shared = Arc::new(Shared::default());
    let served = Arc::clone(&shared);
    thread::spawn(move || serve(&listener, fault, &served));
    (address, shared)
}

/// Serves for ever.
pub fn serve(listener: &TcpListener, fault: Fault, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        let shared = Arc::clone(shared);
        thread::spawn(move || Connection::new(stream, fault, shared).run());
    }
}

struct Connection {
    stream: TcpStream,
    fault: Fault,
    shared: Arc<Shared>,
    index: usize,
    requests: usize,
    asked: bool,
    out: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream, fault: Fault, shared: Arc<Shared>) -> Self {
        stream.set_nodelay(true).unwrap();
        let mut reads = shared.reads.lock().unwrap();
        reads.push(Vec::new());
        let index = reads.len() - 1;
        drop(reads);
        Self { stream, fault, shared, index, requests: 0, asked: false, out: Vec::new() }
    }

    fn run(&mut self) {
        let mut pending = Vec::new();
        let mut piece = [0; 1 << 16];
        while let Ok(len @ 1..) = self.stream.read(&mut piece) {
            pending.extend_from_slice(&piece[..len]);
            let mut at = 0;
            while let Some(consumed) = self.answer(&pending[at..]) {
                at += consumed;
                if !self.goes_on() {
                    return;
                }
            }
            pending.drain(..at);
            if self.stream.write_all(&self.out).is_err() {
                return;
            }
            self.out.clear();
        }
    }

    /// Misbehaves if it is time to; `false` ends the connection.
    fn goes_on(&mut self) -> bool {
        self.requests += 1;
        match self.fault {
            Fault::DiesAfter(requests) => self.requests < requests,
            Fault::Slow(time) => {
                thread::sleep(time);
                true
            }
            Fault::StallsAfter(requests, time) => {
                if self.requests == requests {
                    thread::sleep(time);
                }
                true
            }
            _ => true,
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Option<usize> {
        match bytes.first()? {
            _ if self.fault == Fault::Http => {
                self.out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                Some(bytes.len())
            }
            &native::MAGIC => self.answer_native(bytes),
            _ => self.answer_resp(bytes),
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut reads = self.shared.reads.lock().unwrap();
        if reads[self.index].len() < 1000 {
            reads[self.index].push(key.to_vec());
        }
        drop(reads);
        let mut value = self.shared.items.lock().unwrap().get(key).cloned()?;
        if self.fault == Fault::WrongValues {
            value[0] ^= 1;
        }
        Some(value)
    }

    fn answer_resp(&mut self, bytes: &[u8]) -> Option<usize> {
        let (words, consumed) = resp_words(bytes)?;
        let name = words[0].to_ascii_uppercase();
        if self.fault == Fault::Locked {
            self.out.extend_from_slice(b"-NOAUTH Authentication required.\r\n");
            return Some(consumed);
        }
        if let Some(elsewhere) = self.elsewhere(&name, words.get(1)) {
            self.out.extend_from_slice(elsewhere.as_bytes());
            return Some(consumed);
        }
        match name.as_slice() {
            b"CLUSTER" => self.cluster(&words[1]),
            b"PING" => self.out.extend_from_slice(b"+PONG\r\n"),
            b"INFO" => self.bulk(Some(b"redis_version:0.0.1\r\n".to_vec())),
            b"GET" => {
                let value = self.get(&words[1]);
                self.bulk(value);
            }
            b"MGET" => {
                self.out.extend_from_slice(format!("*{}\r\n", words.len() - 1).as_bytes());
                for key in &words[1..] {
                    let value = self.get(key);
                    self.bulk(value);
                }
            }
            b"SET" => {
                self.shared.items.lock().unwrap().insert(words[1].clone(), words[2].clone());
                self.out.extend_from_slice(b"+OK\r\n");
            }
            b"DEL" => {
                let was = self.shared.items.lock().unwrap().remove(&words[1]).is_some();
                self.out.extend_from_slice(format!(":{}\r\n", u8::from(was)).as_bytes());
            }
            b"INCR" => self.out.extend_from_slice(b":1\r\n"),
            _ => self.out.extend_from_slice(b"-ERR unknown command\r\n"),
        }
        Some(consumed)
    }

    /// The redirection, if a node of a cluster answers with one.
    fn elsewhere(&mut self, name: &[u8], key: Option<&Vec<u8>>) -> Option<String> {
        if name == b"ASKING" {
            self.asked = true;
            return Some("+OK\r\n".to_owned());
        }
        if !matches!(name, b"GET" | b"SET") {
            return None;
        }
        let slot = pinnace_types::key_slot(key?).0;
        let asked = std::mem::take(&mut self.asked);
        match self.fault {
            Fault::Migrates(other) if slot % 2 == 1 => Some(format!("-ASK {slot} {other}\r\n")),
            Fault::Imports(other) if !asked => Some(format!("-MOVED {slot} {other}\r\n")),
            _ => None,
        }
    }

    fn cluster(&mut self, what: &[u8]) {
        let Fault::Migrates(other) = self.fault else { return self.out.extend_from_slice(b"-ERR no\r\n") };
        let me = self.stream.local_addr().unwrap();
        if what == b"SLOTS" {
            let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n", me.port());
            return self.out.extend_from_slice(slots.as_bytes());
        }
        let nodes = format!(
            "a {me}@1 myself,master - 0 0 1 connected 0-16383\nb {other}@1 master - 0 0 2 connected\n"
        );
        self.bulk(Some(nodes.into_bytes()));
    }

    fn bulk(&mut self, value: Option<Vec<u8>>) {
        match value {
            None => self.out.extend_from_slice(b"$-1\r\n"),
            Some(value) => {
                self.out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                self.out.extend_from_slice(&value);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn answer_native(&mut self, bytes: &[u8]) -> Option<usize> {
        let (frame, consumed) = native::decode(bytes, &NativeLimits::FORMAT).unwrap()?;
        match frame.opcode {
            Opcode::HELLO => hello().encode(&mut self.out, frame.request_id),
            Opcode::GET => match self.get(frame.key) {
                Some(value) => native::encode_get_reply(&mut self.out, frame.request_id, &value, 0, Some(7)),
                None => self.status(frame.opcode, frame.request_id, Status::NOT_FOUND),
            },
            Opcode::SET | Opcode::CAS => {
                self.shared.items.lock().unwrap().insert(frame.key.to_vec(), frame.value.to_vec());
                let right = frame.opcode == Opcode::SET || frame.version == Some(7);
                let status = if right { Status::OK } else { Status::VERSION_MISMATCH };
                self.status(frame.opcode, frame.request_id, status);
            }
            opcode => self.status(opcode, frame.request_id, Status::UNKNOWN_OPCODE),
        }
        Some(consumed)
    }

    fn status(&mut self, opcode: Opcode, request_id: u32, status: Status) {
        native::encode_status(&mut self.out, opcode, request_id, status, None);
    }
}

fn hello() -> HelloReply {
    HelloReply {
        features: Features::VERSIONS,
        value_bytes_max: 1 << 20,
        key_bytes_max: 512,
        this_core: 0,
        in_flight_max: 1 << 16,
        node_id: 0,
        epoch: 0,
        core_ports: Vec::new(),
        // Two cores behind one port: a client has a connection to each.
        shard_cores: vec![0, 1, 0, 1],
        server: "fake 0".to_owned(),
    }
}

/// The words of one RESP command, and the bytes it takes.
fn resp_words(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let line = |at: &mut usize| -> Option<usize> {
        let end = bytes[*at..].iter().position(|&byte| byte == b'\n')? + *at;
        let number = std::str::from_utf8(&bytes[*at + 1..end - 1]).unwrap().parse().unwrap();
        *at = end + 1;
        Some(number)
    };
    let count = line(&mut at)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let len = line(&mut at)?;
        words.push(bytes.get(at..at + len)?.to_vec());
        at += len + 2;
    }
    (at <= bytes.len()).then_some((words, at))
}
