//! The node that is imported into: SETs in a pipeline, each told apart when its reply comes.

use std::collections::VecDeque;
use std::io;

use super::connection::{Connection, Reply};
use super::endpoint::Endpoint;
use super::report::Report;
use crate::failure::Failure;

/// SETs on the way: enough to fill a network's delay, few enough for their replies to fit into
/// sockets' buffers while nobody reads them.
const IN_FLIGHT_MAX: usize = 1024;

/// When a key shall expire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiry {
    Never,
    /// At this time, as a dump tells it.
    AtMs(i64),
    /// So long from now, as a live server tells it: that needs no equal clocks.
    InMs(i64),
}

struct Sent {
    key: Vec<u8>,
    has_deadline: bool,
}

/// A node that takes keys.
pub(super) struct Target {
    connection: Connection,
    name: String,
    /// Keys that the node has stay as they are.
    keep: bool,
    /// The longest argument that the node reads; a longer one would end the connection.
    argument_bytes_max: u64,
    in_flight: VecDeque<Sent>,
}

impl Target {
    pub(super) fn open(endpoint: &Endpoint, keep: bool) -> Result<Self, Failure> {
        let name = endpoint.to_string();
        let opened = Connection::open(endpoint).and_then(|mut connection| {
            let argument_bytes_max = argument_bytes_max(&mut connection)?;
            Ok((connection, argument_bytes_max))
        });
        let (connection, argument_bytes_max) = opened.map_err(|error| {
            Failure::Import(format!(
                "the node at {name} cannot be reached: {error} (--to HOST:PORT names another)"
            ))
        })?;
        Ok(Self { connection, name, keep, argument_bytes_max, in_flight: VecDeque::new() })
    }

    fn lost(&self, error: &io::Error) -> Failure {
        Failure::Import(format!(
            "the connection to the node at {} broke: {error}; {} keys were on their way",
            self.name,
            self.in_flight.len()
        ))
    }

    /// Sends a key; its reply is counted now or later.
    pub(super) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let longest = key.len().max(value.len()) as u64;
        if longest > self.argument_bytes_max {
            report.refused(
                key,
                &format!("{longest} bytes are more than it takes, {}", self.argument_bytes_max),
            );
            return Ok(());
        }
        let (word, number) = match expiry {
            Expiry::Never => (&b""[..], 0),
            Expiry::AtMs(at_ms) => (&b"PXAT"[..], at_ms),
            Expiry::InMs(in_ms) => (&b"PX"[..], in_ms),
        };
        let number = number.to_string();
        let mut arguments: Vec<&[u8]> = vec![b"SET", key, value];
        if !word.is_empty() {
            arguments.extend([word, number.as_bytes()]);
        }
        if self.keep {
            arguments.push(b"NX");
        }
        self.connection.request(&arguments).map_err(|error| self.lost(&error))?;
        self.in_flight.push_back(Sent { key: key.to_vec(), has_deadline: !word.is_empty() });
        // Half of them stay on the way, so that the node is never without work.
        if self.in_flight.len() >= IN_FLIGHT_MAX { self.settle(IN_FLIGHT_MAX / 2, report) } else { Ok(()) }
    }

    /// Waits until everything that was sent is answered.
    pub(super) fn flush(&mut self, report: &mut Report) -> Result<(), Failure> {
        self.settle(0, report)
    }

    fn settle(&mut self, in_flight: usize, report: &mut Report) -> Result<(), Failure> {
        self.connection.send().map_err(|error| self.lost(&error))?;
        while self.in_flight.len() > in_flight {
            let reply = self.connection.reply().map_err(|error| self.lost(&error))?;
            let Some(sent) = self.in_flight.pop_front() else { break };
            match reply {
                Reply::Error(text) => report.refused(&sent.key, &text),
                Reply::Bulk(None) => report.kept += 1,
                _ => report.imported(sent.has_deadline),
            }
        }
        Ok(())
    }
}

/// What the node says of it; if it does not, any length is tried.
fn argument_bytes_max(connection: &mut Connection) -> io::Result<u64> {
    let reply = connection.ask(&[b"CONFIG", b"GET", b"proto-max-bulk-len"])?;
    if let Reply::Array(pair) = reply
        && let [_, Reply::Bulk(Some(number))] = pair.as_slice()
        && let Some(number) = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok())
    {
        return Ok(number);
    }
    Ok(u64::MAX)
}
