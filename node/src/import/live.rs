//! From a live server: SCAN over its keys, GET and PTTL for each, TYPE for those that are no strings.
//!
//! What SCAN promises holds for the copy: keys that are there from its start to its end are copied,
//! others may be. The state file holds SCAN's cursor as of the last keys that the node has taken, so
//! that an interrupted copy goes on from there; some keys are copied twice then.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ImportArgs;
use super::connection::{Connection, Reply};
use super::endpoint::Endpoint;
use super::progress::{Unit, bar};
use super::report::Report;
use super::target::{Expiry, Target};
use crate::failure::Failure;

/// Keys that SCAN is asked for at a time.
const SCAN_COUNT: &[u8] = b"1000";
/// Keys whose values are on the way at a time: at most, and while they are large.
const CHUNK_KEYS_MAX: usize = 256;
/// What a chunk's values should not exceed: the server holds them until we read them.
const CHUNK_BYTES: usize = 8 << 20;
/// The state is written at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The state file's format.
const STATE_FORMAT: u32 = 1;

/// How far a copy is.
#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    source: String,
    target: String,
    /// The server process: another one has another order of keys, in which a cursor means nothing.
    run_id: String,
    /// Decimal: a cursor has 64 bits, more than some readers of JSON keep.
    cursor: String,
    seen: u64,
    report: Report,
}

pub(super) fn copy(source: &Endpoint, to: &Endpoint, arguments: &ImportArgs) -> Result<Report, Failure> {
    let mut server = Connection::open(source)
        .map_err(|error| Failure::Import(format!("{source} cannot be reached: {error}")))?;
    let trouble = |error: io::Error| broken(source, arguments.resume.as_deref(), &error);
    let fresh = State {
        format: STATE_FORMAT,
        source: source.to_string(),
        target: to.to_string(),
        run_id: run_id(&mut server).map_err(trouble)?,
        cursor: "0".to_owned(),
        seen: 0,
        report: Report::default(),
    };
    let state = match arguments.resume.as_deref() {
        Some(path) => resumed(path, fresh)?,
        None => fresh,
    };
    let total = match server.ask(&[b"DBSIZE"]).map_err(trouble)? {
        Reply::Integer(keys) => u64::try_from(keys).unwrap_or(0),
        _ => 0,
    };
    let target = Target::open(to, arguments.keeps())?;
    let mut copy = Copy { server, target, state, chunk_keys: CHUNK_KEYS_MAX };
    let bar = bar("copying", total, Unit::Keys);
    let mut saved = Instant::now();
    loop {
        let is_last = copy.step(&trouble)?;
        bar.set_position(copy.state.seen.min(total));
        if let Some(path) = arguments.resume.as_deref()
            && !is_last
            && saved.elapsed() >= SAVE_EVERY
        {
            copy.target.flush(&mut copy.state.report)?;
            save(path, &copy.state)?;
            saved = Instant::now();
        }
        if is_last {
            break;
        }
    }
    copy.target.flush(&mut copy.state.report)?;
    bar.finish_and_clear();
    if let Some(path) = arguments.resume.as_deref() {
        // There is nothing left to resume. That there was no file yet is as good.
        let _ = fs::remove_file(path);
    }
    Ok(copy.state.report)
}

fn broken(source: &Endpoint, resume: Option<&Path>, error: &io::Error) -> Failure {
    let advice = match resume {
        Some(path) => format!("run it again with --resume {} to go on", path.display()),
        None => "with --resume FILE a copy can go on after this".to_owned(),
    };
    Failure::Import(format!("copying from {source} broke off: {error}; {advice}"))
}

struct Copy {
    server: Connection,
    target: Target,
    state: State,
    chunk_keys: usize,
}

impl Copy {
    /// Copies the keys of one SCAN; true if it was the last.
    fn step(&mut self, trouble: &impl Fn(io::Error) -> Failure) -> Result<bool, Failure> {
        let cursor = self.state.cursor.clone();
        let reply = self.server.ask(&[b"SCAN", cursor.as_bytes(), b"COUNT", SCAN_COUNT]).map_err(trouble)?;
        let (cursor, keys) = scanned(reply).map_err(trouble)?;
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(self.chunk_keys.min(rest.len()));
            self.chunk(chunk, trouble)?;
            rest = later;
        }
        self.state.seen += keys.len() as u64;
        self.state.cursor = cursor;
        Ok(self.state.cursor == "0")
    }

    fn chunk(&mut self, keys: &[Vec<u8>], trouble: &impl Fn(io::Error) -> Failure) -> Result<(), Failure> {
        let mut others = Vec::new();
        let mut bytes = 0;
        // Times count from before the server looked: a key may expire a moment early, never late.
        let asked = Instant::now();
        for key in keys {
            self.server.request(&[b"GET", key]).map_err(trouble)?;
            self.server.request(&[b"PTTL", key]).map_err(trouble)?;
        }
        self.server.send().map_err(trouble)?;
        for key in keys {
            let value = self.server.reply().map_err(trouble)?;
            let ttl = self.server.reply().map_err(trouble)?;
            match value {
                Reply::Bulk(Some(value)) => {
                    bytes += value.len();
                    self.string(key, &value, &ttl, asked)?;
                }
                Reply::Bulk(None) => self.state.report.vanished += 1,
                Reply::Error(text) if text.starts_with("WRONGTYPE") => others.push(key),
                other => return Err(trouble(unexpected("GET", &other))),
            }
        }
        for key in &others {
            self.server.request(&[b"TYPE", key]).map_err(trouble)?;
        }
        self.server.send().map_err(trouble)?;
        for key in others {
            match self.server.reply().map_err(trouble)? {
                Reply::Simple(name) if name == "none" => self.state.report.vanished += 1,
                Reply::Simple(name) => self.state.report.leave_out(name_of(&name), key),
                other => return Err(trouble(unexpected("TYPE", &other))),
            }
        }
        self.chunk_keys =
            if bytes > CHUNK_BYTES { (self.chunk_keys / 2).max(1) } else { self.chunk_keys * 2 }
                .min(CHUNK_KEYS_MAX);
        Ok(())
    }

    fn string(&mut self, key: &[u8], value: &[u8], ttl: &Reply, asked: Instant) -> Result<(), Failure> {
        let expiry = match *ttl {
            // Gone since the GET.
            Reply::Integer(-2) => {
                self.state.report.expired += 1;
                return Ok(());
            }
            Reply::Integer(ttl_ms) if ttl_ms >= 0 => {
                let elapsed_ms = i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX);
                let left_ms = ttl_ms.saturating_sub(elapsed_ms);
                if left_ms <= 0 {
                    self.state.report.expired += 1;
                    return Ok(());
                }
                Expiry::InMs(left_ms)
            }
            _ => Expiry::Never,
        };
        self.target.set(key, value, expiry, &mut self.state.report)
    }
}

/// The same names as for dumps.
fn name_of(kind: &str) -> &str {
    if kind == "zset" { "sorted set" } else { kind }
}

fn unexpected(command: &str, reply: &Reply) -> io::Error {
    match reply {
        Reply::Error(text) => io::Error::other(format!("{command}: {text}")),
        other => io::Error::other(format!("{command} was answered by {other:?}")),
    }
}

fn scanned(reply: Reply) -> io::Result<(String, Vec<Vec<u8>>)> {
    if let Reply::Array(parts) = &reply
        && let [Reply::Bulk(Some(cursor)), Reply::Array(keys)] = parts.as_slice()
    {
        let key = |reply: &Reply| match reply {
            Reply::Bulk(Some(key)) => Ok(key.clone()),
            other => Err(unexpected("SCAN", other)),
        };
        let keys = keys.iter().map(key).collect::<io::Result<_>>()?;
        return Ok((String::from_utf8_lossy(cursor).into_owned(), keys));
    }
    Err(unexpected("SCAN", &reply))
}

/// Tells one process of a server from the next; empty if the server does not say.
fn run_id(server: &mut Connection) -> io::Result<String> {
    let Reply::Bulk(Some(text)) = server.ask(&[b"INFO", b"server"])? else { return Ok(String::new()) };
    let text = String::from_utf8_lossy(&text);
    let fields: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once(':')).collect();
    Ok(fields.get("run_id").map(|id| id.trim().to_owned()).unwrap_or_default())
}

/// The state in the file if there is one and it is of this copy.
fn resumed(path: &Path, fresh: State) -> Result<State, Failure> {
    let refuse = |why: String| {
        let advice = "delete it to copy everything again, which overwrites what was copied";
        Err(Failure::Import(format!("--resume {}: {why}; {advice}", path.display())))
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Tried now: it would be too late when the copy has begun.
            save(path, &fresh)?;
            return Ok(fresh);
        }
        Err(error) => return refuse(format!("it cannot be read ({error})")),
    };
    let state: State = match serde_json::from_str(&text) {
        Ok(state) => state,
        Err(error) => return refuse(format!("it is not the state of a copy ({error})")),
    };
    if state.format != STATE_FORMAT {
        return refuse(format!("its format {} is not known to this version", state.format));
    }
    if (&state.source, &state.target) != (&fresh.source, &fresh.target) {
        return refuse(format!("it belongs to a copy from {} to {}", state.source, state.target));
    }
    if state.run_id != fresh.run_id {
        return refuse(format!("{} was started again since, so that its cursor means nothing", state.source));
    }
    Ok(state)
}

/// Writes the state so that there is always a whole one.
fn save(path: &Path, state: &State) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        let text = serde_json::to_vec_pretty(state)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        fs::write(&beside, text)?;
        fs::rename(&beside, path)
    };
    written()
        .map_err(|error| Failure::Import(format!("--resume {} cannot be written: {error}", path.display())))
}
