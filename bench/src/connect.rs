//! Connecting and greeting, before anything is measured: blocking sockets with short timeouts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use pinnace_protocol::native::{self, ANY_CORE, HelloReply, HelloRequest, NativeLimits, Opcode, Status};
use pinnace_types::{SLOT_COUNT, ShardMap, Slot};

use crate::codec::FEATURES;
use crate::error::BenchError;
use crate::resp_value::{Reading, RespValue};
use crate::target::{Protocol, Target};
use crate::worker::Topology;

/// Nobody waits longer for a greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
const GREETING_BYTES_MAX: usize = 4 << 20;

/// One address of a target that connections are made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    /// The core to ask for, where one address serves many.
    core: u16,
}

/// A target that has answered.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    target: Target,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) topology: Topology,
    /// The server's own name and version.
    pub(crate) server: String,
}

impl Service {
    /// Connects once, greets, and learns who owns what.
    pub(crate) fn discover(target: &Target) -> Result<Self, BenchError> {
        let address = target.address()?;
        let any = Endpoint { address, core: ANY_CORE };
        let mut greeter = Greeter::connect(target, &any)?;
        let server = greeter.greet(&any)?;
        let (endpoints, topology) = match target.protocol {
            Protocol::Native => greeter.cores(address)?,
            Protocol::RespCluster => greeter.cluster()?,
            _ => (vec![any], Topology::single(address.to_string())),
        };
        Ok(Self { target: target.clone(), endpoints, topology, server })
    }

    /// Where its endpoints listen.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address)
    }

    /// A greeted connection to one endpoint.
    pub(crate) fn open(&self, endpoint: &Endpoint) -> Result<TcpStream, BenchError> {
        let mut greeter = Greeter::connect(&self.target, endpoint)?;
        greeter.greet(endpoint)?;
        greeter.finish()
    }

    /// What the server says of its own latency, if it has a word for that.
    pub(crate) fn reported_latency(&self) -> Option<String> {
        // A native node speaks RESP at the same port.
        let protocol = match self.target.protocol {
            Protocol::Native => Protocol::Resp,
            resp @ (Protocol::Resp | Protocol::RespCluster) => resp,
            Protocol::MemcacheText | Protocol::MemcacheMeta => return None,
        };
        let (target, endpoint) = (Target { protocol, ..self.target.clone() }, self.endpoints.first()?);
        let mut greeter = Greeter::connect(&target, endpoint).ok()?;
        greeter.greet(endpoint).ok()?;
        let RespValue::Bulk(text) = greeter.command(&[b"INFO", b"latencystats"]).ok()? else { return None };
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("latency_percentiles")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// A blocking conversation.
struct Greeter<'t> {
    target: &'t Target,
    stream: TcpStream,
    received: Vec<u8>,
    hello: Option<HelloReply>,
}

impl<'t> Greeter<'t> {
    fn connect(target: &'t Target, endpoint: &Endpoint) -> Result<Self, BenchError> {
        let unreachable = |source| BenchError::Unreachable { target: target.to_string(), source };
        let stream = TcpStream::connect_timeout(&endpoint.address, GREETING_TIMEOUT).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_read_timeout(Some(GREETING_TIMEOUT)).map_err(unreachable)?;
        stream.set_write_timeout(Some(GREETING_TIMEOUT)).map_err(unreachable)?;
        Ok(Self { target, stream, received: Vec::new(), hello: None })
    }

    /// Ready for the generator: no timeouts, nothing unread.
    fn finish(self) -> Result<TcpStream, BenchError> {
        if !self.received.is_empty() {
            return Err(self.wrong("more answers than questions"));
        }
        let settle = |source| BenchError::system("preparing a connection", source);
        self.stream.set_read_timeout(None).map_err(settle)?;
        self.stream.set_write_timeout(None).map_err(settle)?;
        Ok(self.stream)
    }

    fn wrong(&self, problem: impl Into<String>) -> BenchError {
        BenchError::Protocol { target: self.target.to_string(), problem: problem.into() }
    }

    fn refused(&self, problem: impl Into<String>) -> BenchError {
        BenchError::Access { target: self.target.to_string(), problem: problem.into() }
    }

    /// Shows that the target is what its URL says; returns its name.
    fn greet(&mut self, endpoint: &Endpoint) -> Result<String, BenchError> {
        match self.target.protocol {
            Protocol::Native => self.greet_native(endpoint.core),
            Protocol::Resp | Protocol::RespCluster => self.greet_resp(),
            Protocol::MemcacheText | Protocol::MemcacheMeta => self.greet_memcache(),
        }
    }

    fn exchange(&mut self, request: &[u8]) -> Result<(), BenchError> {
        let written = self.stream.write_all(request);
        written.map_err(|error| self.wrong(format!("it closed the connection ({error})")))?;
        self.receive()
    }

    fn receive(&mut self) -> Result<(), BenchError> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(self.wrong("it closed the connection without an answer")),
            Ok(len) if self.received.len() + len <= GREETING_BYTES_MAX => {
                self.received.extend_from_slice(&piece[..len]);
                Ok(())
            }
            Ok(_) => Err(self.wrong("its answer does not end")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(self.wrong(format!("no answer within {} s", GREETING_TIMEOUT.as_secs())))
            }
            Err(error) => Err(self.wrong(error.to_string())),
        }
    }

    fn command(&mut self, words: &[&[u8]]) -> Result<RespValue, BenchError> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.exchange(&request)?;
        loop {
            match RespValue::read(&self.received) {
                Reading::Whole(value, consumed) => {
                    self.received.drain(..consumed);
                    return Ok(value);
                }
                Reading::Incomplete => self.receive()?,
                Reading::Malformed => return Err(self.wrong(shown(&self.received))),
            }
        }
    }

    fn greet_resp(&mut self) -> Result<String, BenchError> {
        if !self.target.password.is_empty() {
            let (user, password) = (self.target.user.as_bytes(), self.target.password.as_bytes());
            let reply = if user.is_empty() {
                self.command(&[b"AUTH", password])?
            } else {
                self.command(&[b"AUTH", user, password])?
            };
            if let RespValue::Error(problem) = reply {
                return Err(self.refused(problem));
            }
        }
        match self.command(&[b"PING"])? {
            RespValue::Simple(pong) if pong == "PONG" => (),
            RespValue::Error(problem) if problem.starts_with("NOAUTH") => return Err(self.refused(problem)),
            other => return Err(self.wrong(format!("PING is answered with {other:?}"))),
        }
        Ok(match self.command(&[b"INFO", b"server"])? {
            RespValue::Bulk(text) => server_name(&String::from_utf8_lossy(&text)),
            _ => "a RESP server".to_owned(),
        })
    }

    fn greet_memcache(&mut self) -> Result<String, BenchError> {
        if !self.target.password.is_empty() {
            let credentials = format!("{} {}", self.target.user, self.target.password);
            self.exchange(format!("set auth 0 0 {}\r\n{credentials}\r\n", credentials.len()).as_bytes())?;
            let answer = self.line()?;
            if answer != "STORED" {
                return Err(self.refused(answer));
            }
        }
        self.exchange(b"version\r\n")?;
        let answer = self.line()?;
        match answer.strip_prefix("VERSION ") {
            Some(version) => Ok(format!("memcached protocol, version {version}")),
            None if answer.contains("unauthenticated") => Err(self.refused(answer)),
            None => Err(self.wrong(format!("`version` is answered with `{answer}`"))),
        }
    }

    fn line(&mut self) -> Result<String, BenchError> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.receive()?;
        }
    }

    fn greet_native(&mut self, core: u16) -> Result<String, BenchError> {
        let credentials = match (self.target.user.as_str(), self.target.password.as_str()) {
            ("", "") => String::new(),
            (user, password) => format!("{user}:{password}"),
        };
        let hello = HelloRequest {
            features: FEATURES,
            wanted_core: core,
            auth: credentials.as_bytes(),
            client_name: b"pinnace-bench",
        };
        let mut request = Vec::new();
        hello.encode(&mut request, 0);
        self.exchange(&request)?;
        loop {
            let (status, value, consumed) = match native::decode(&self.received, &NativeLimits::FORMAT) {
                Err(_) => return Err(self.wrong(shown(&self.received))),
                Ok(None) => {
                    self.receive()?;
                    continue;
                }
                Ok(Some((frame, _)))
                    if frame.opcode != Opcode::HELLO.reply() && frame.status == Status::OK =>
                {
                    return Err(self.wrong("the greeting is answered with something else"));
                }
                Ok(Some((frame, consumed))) => (frame.status, frame.value.to_vec(), consumed),
            };
            self.received.drain(..consumed);
            return self.on_hello(status, &value);
        }
    }

    fn on_hello(&mut self, status: Status, value: &[u8]) -> Result<String, BenchError> {
        match status {
            Status::OK => (),
            Status::UNAUTHENTICATED | Status::FORBIDDEN => {
                return Err(self.refused(String::from_utf8_lossy(value).into_owned()));
            }
            _ => {
                return Err(
                    self.wrong(format!("the greeting is refused: {}", String::from_utf8_lossy(value)))
                );
            }
        }
        let hello = HelloReply::decode(value).ok_or_else(|| self.wrong("its greeting is malformed"))?;
        let name = hello.server.clone();
        self.hello = Some(hello);
        Ok(name)
    }

    /// The cores of a node and the slots that each owns.
    fn cores(&self, address: SocketAddr) -> Result<(Vec<Endpoint>, Topology), BenchError> {
        let hello = self.hello.as_ref().ok_or_else(|| self.wrong("no greeting"))?;
        let shard_count = u16::try_from(hello.shard_cores.len()).unwrap_or(0);
        let core_count = hello.shard_cores.iter().max().map_or(1, |core| core + 1);
        let endpoints: Vec<Endpoint> = (0..core_count)
            .map(|core| match hello.core_ports.get(usize::from(core)) {
                Some(&port) if port != 0 => Endpoint { address: SocketAddr::new(address.ip(), port), core },
                _ => Endpoint { address, core },
            })
            .collect();
        let names = (0..core_count).map(|core| format!("{address} core {core}")).collect();
        if shard_count == 0 {
            return Ok((endpoints, Topology::single(address.to_string())));
        }
        let shards = ShardMap::new(shard_count, core_count);
        let owners = (0..SLOT_COUNT)
            .map(|slot| hello.shard_cores[usize::from(shards.shard_of(Slot(slot)).0)])
            .collect();
        Ok((endpoints, Topology::sharded(names, owners)))
    }

    /// The masters of a cluster and their slots.
    fn cluster(&mut self) -> Result<(Vec<Endpoint>, Topology), BenchError> {
        let reply = self.command(&[b"CLUSTER", b"SLOTS"])?;
        let RespValue::Array(ranges) = reply else {
            return Err(self.wrong(format!("CLUSTER SLOTS is answered with {reply:?}")));
        };
        let mut names: Vec<String> = Vec::new();
        let mut owners = vec![None; usize::from(SLOT_COUNT)];
        for range in &ranges {
            let (first, last, name) = slot_range(range, &self.target.host)
                .ok_or_else(|| self.wrong("CLUSTER SLOTS is malformed"))?;
            let owner = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            owners.get_mut(first..=last).into_iter().flatten().for_each(|slot| *slot = Some(owner as u16));
        }
        // A master without slots can be asked about keys that are on their way to it.
        if let RespValue::Bulk(nodes) = self.command(&[b"CLUSTER", b"NODES"])? {
            for name in masters(&String::from_utf8_lossy(&nodes), &self.target.host) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let Some(owners) = owners.into_iter().collect::<Option<Vec<u16>>>() else {
            return Err(self.wrong("some slots of the cluster have no owner"));
        };
        let endpoints = names.iter().map(|name| {
            let address = name.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
            let address = address.ok_or_else(|| self.wrong(format!("node `{name}` has no address")))?;
            Ok(Endpoint { address, core: ANY_CORE })
        });
        Ok((endpoints.collect::<Result<_, BenchError>>()?, Topology::sharded(names, owners)))
    }
}

/// First and last slot of a range, and its master as `HOST:PORT`.
fn slot_range(range: &RespValue, own_host: &str) -> Option<(usize, usize, String)> {
    let RespValue::Array(fields) = range else { return None };
    let [RespValue::Integer(first), RespValue::Integer(last), RespValue::Array(master), ..] = &fields[..]
    else {
        return None;
    };
    let [host, RespValue::Integer(port), ..] = &master[..] else { return None };
    let host = match host {
        RespValue::Bulk(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
        // "The address you used": for nodes that do not know their own.
        _ => own_host,
    };
    Some((usize::try_from(*first).ok()?, usize::try_from(*last).ok()?, format!("{host}:{port}")))
}

/// The masters in a reply to CLUSTER NODES that are up, as `HOST:PORT`.
fn masters(nodes: &str, own_host: &str) -> Vec<String> {
    let master = |line: &str| -> Option<String> {
        let mut words = line.split(' ').skip(1);
        let (place, flags) = (words.next()?, words.next()?);
        let is = |flag| flags.split(',').any(|word| word == flag);
        let down = ["fail", "fail?", "handshake", "noaddr"].into_iter().any(is);
        let (host, port) = place.split(['@', ',']).next()?.rsplit_once(':')?;
        let host = if host.is_empty() { own_host } else { host };
        (is("master") && !down).then(|| format!("{host}:{port}"))
    };
    nodes.lines().filter_map(master).collect()
}

/// The name in an INFO reply; forks tell the version they are compatible with as well.
fn server_name(info: &str) -> String {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    for name in ["pinnace", "valkey", "redis"] {
        if let Some(version) = field(&format!("{name}_version")) {
            return format!("{name} {}", version.trim());
        }
    }
    "a RESP server".to_owned()
}

fn shown(bytes: &[u8]) -> String {
    format!("it answers `{}`", bytes[..bytes.len().min(60)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::masters;

    #[test]
    fn masters_with_and_without_slots_are_found() {
        let nodes = "a 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383\n\
                     b 127.0.0.1:7001@17001,name master - 0 1 2 connected\n\
                     c 127.0.0.1:7002@17002 slave a 0 1 1 connected\n\
                     d 127.0.0.1:7003@17003 master,fail - 0 1 3 disconnected\n\
                     e :7004@17004 master - 0 1 4 connected\n";
        assert_eq!(masters(nodes, "h"), ["127.0.0.1:7000", "127.0.0.1:7001", "h:7004"]);
    }
}
