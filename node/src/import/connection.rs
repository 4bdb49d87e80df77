//! A blocking RESP2 client connection: requests are collected, replies read one by one.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use pinnace_protocol::resp;

use super::endpoint::Endpoint;

/// A server that says nothing for so long is taken for gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests are sent when so much of them has been collected; a larger argument is not copied.
const COLLECT_BYTES: usize = 256 << 10;
/// Longer than any value of a Redis, which is 512 MiB.
const BULK_BYTES_MAX: u64 = 1 << 30;
/// More than SCAN ever returns at a time.
const ITEMS_MAX: u64 = 1 << 20;
/// Arrays in arrays: SCAN's reply needs two.
const DEPTH_MAX: u8 = 4;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

/// A connection to one server.
pub(crate) struct Connection {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
    requests: Vec<u8>,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text.into())
}

impl Connection {
    /// Connects, authenticates and selects the endpoint's database.
    pub(crate) fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let mut connection = Self::reach(endpoint)?;
        if let Some(password) = &endpoint.password {
            let user = endpoint.user.as_deref();
            let arguments: Vec<&[u8]> =
                [Some("AUTH"), user, Some(password)].into_iter().flatten().map(str::as_bytes).collect();
            connection.expect_ok(&arguments)?;
        }
        // A server that wants a password and got none says so here.
        match connection.ask(&[b"PING"])? {
            Reply::Error(text) => return Err(io::Error::other(text)),
            Reply::Simple(_) => {}
            other => return Err(invalid(format!("PING was answered by {other:?}: not a RESP server?"))),
        }
        if endpoint.database > 0 {
            connection.expect_ok(&[b"SELECT", endpoint.database.to_string().as_bytes()])?;
        }
        Ok(connection)
    }

    fn reach(endpoint: &Endpoint) -> io::Result<Self> {
        let mut last = io::Error::new(ErrorKind::NotFound, "this host has no address");
        for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    let replies = BufReader::with_capacity(64 << 10, stream.try_clone()?);
                    return Ok(Self { stream, replies, requests: Vec::new() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Collects a request; it leaves with [`Self::send`], or when many have been collected.
    pub(crate) fn request(&mut self, arguments: &[&[u8]]) -> io::Result<()> {
        resp::array(&mut self.requests, arguments.len());
        for argument in arguments {
            if argument.len() < COLLECT_BYTES {
                resp::bulk(&mut self.requests, argument);
            } else {
                resp::bulk_header(&mut self.requests, argument.len());
                self.send()?;
                self.stream.write_all(argument)?;
                resp::crlf(&mut self.requests);
            }
        }
        if self.requests.len() >= COLLECT_BYTES { self.send() } else { Ok(()) }
    }

    /// Sends what was collected.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.requests)?;
        self.requests.clear();
        Ok(())
    }

    /// One request and its reply, with nothing else on the way.
    pub(crate) fn ask(&mut self, arguments: &[&[u8]]) -> io::Result<Reply> {
        self.request(arguments)?;
        self.send()?;
        self.reply()
    }

    fn expect_ok(&mut self, arguments: &[&[u8]]) -> io::Result<()> {
        match self.ask(arguments)? {
            Reply::Error(text) => Err(io::Error::other(text)),
            _ => Ok(()),
        }
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        self.reply_at(0)
    }

    fn reply_at(&mut self, depth: u8) -> io::Result<Reply> {
        let mut line = Vec::new();
        (&mut self.replies).take(COLLECT_BYTES as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let Some((&kind, text)) = line.strip_suffix(b"\r\n").and_then(|line| line.split_first()) else {
            return Err(invalid("a reply is no RESP"));
        };
        let text = String::from_utf8_lossy(text).into_owned();
        let number = || text.parse::<i64>().map_err(|_| invalid(format!("'{text}' is no number in a reply")));
        match kind {
            b'+' => Ok(Reply::Simple(text)),
            b'-' => Ok(Reply::Error(text)),
            b':' => Ok(Reply::Integer(number()?)),
            b'$' => match u64::try_from(number()?) {
                Ok(len) if len <= BULK_BYTES_MAX => self.bulk(len).map(Some).map(Reply::Bulk),
                Ok(_) => Err(invalid("a reply is too long")),
                Err(_) => Ok(Reply::Bulk(None)),
            },
            b'*' if depth < DEPTH_MAX => {
                let count = u64::try_from(number()?).unwrap_or(0);
                if count > ITEMS_MAX {
                    return Err(invalid("a reply has too many items"));
                }
                (0..count).map(|_| self.reply_at(depth + 1)).collect::<io::Result<_>>().map(Reply::Array)
            }
            _ => Err(invalid(format!("a reply begins with {:?}: not a RESP server?", char::from(kind)))),
        }
    }

    /// Grows with what comes, whatever length was told.
    fn bulk(&mut self, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.replies).take(len + 2).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len + 2 || !bytes.ends_with(b"\r\n") {
            return Err(invalid("a reply is cut short"));
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }
}
