//! From a dump file: once over all of it for its form and checksum, then its strings into the node. A
//! damaged file is told before the first key is sent.

use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use pinnace_rdb::{Checksum, Kind, RdbError, Reader, Record};

use super::ImportArgs;
use super::endpoint::Endpoint;
use super::progress::{Unit, bar};
use super::report::Report;
use super::target::{Expiry, Target};
use crate::failure::Failure;

/// The longest string of a Redis with its default settings.
const STRING_BYTES_MAX: u64 = 512 << 20;
/// A bar is told after so many records.
const PROGRESS_EVERY: u64 = 1024;

pub(super) fn load(path: &str, to: &Endpoint, arguments: &ImportArgs) -> Result<Report, Failure> {
    let open =
        || File::open(path).map_err(|error| Failure::Import(format!("{path} cannot be read: {error}")));
    let file = open()?;
    let metadata = file.metadata().map_err(|error| Failure::Import(format!("{path}: {error}")))?;
    if metadata.is_dir() {
        return Err(Failure::Import(format!("{path} is a directory: name the dump file in it")));
    }
    let mut loader = Loader { path, ..Loader::new(arguments) };
    // A pipe can be read only once: its damage, if any, is found when keys have been sent.
    if metadata.is_file() {
        let bar = bar("checking", metadata.len(), Unit::Bytes);
        check(file, &bar).map_err(|error| {
            Failure::Import(format!("{path} is damaged or unknown, nothing was imported: {error}"))
        })?;
        bar.finish_and_clear();
        loader.run(open()?, metadata.len(), to)?;
    } else {
        loader.run(file, 0, to)?;
    }
    Ok(loader.report)
}

/// Walks over everything.
fn check(source: impl Read, bar: &ProgressBar) -> Result<(), RdbError> {
    let mut reader = Reader::new(source, STRING_BYTES_MAX)?;
    for count in 0u64.. {
        if matches!(reader.next_record()?, Record::End(_)) {
            break;
        }
        if count.is_multiple_of(PROGRESS_EVERY) {
            bar.set_position(reader.offset());
        }
    }
    Ok(())
}

struct Loader<'a> {
    path: &'a str,
    keep: bool,
    wanted: u64,
    /// Whether the user has chosen the database: the others are not missed then.
    is_chosen: bool,
    /// The database of the records that come.
    database: u64,
    others: u64,
    report: Report,
}

impl<'a> Loader<'a> {
    fn new(arguments: &ImportArgs) -> Self {
        Self {
            path: "",
            keep: arguments.keeps(),
            wanted: arguments.db.unwrap_or(0),
            is_chosen: arguments.db.is_some(),
            database: 0,
            others: 0,
            report: Report::default(),
        }
    }

    fn run(&mut self, source: impl Read, bytes: u64, to: &Endpoint) -> Result<(), Failure> {
        let path = self.path;
        let fail = |error: RdbError| {
            Failure::Import(format!("{path} is damaged, a part of its keys was imported: {error}"))
        };
        let mut target = Target::open(to, self.keep)?;
        let bar = bar("importing", bytes, Unit::Bytes);
        let mut reader = Reader::new(source, STRING_BYTES_MAX).map_err(fail)?;
        for count in 0u64.. {
            match reader.next_record().map_err(fail)? {
                Record::End(checksum) => {
                    if checksum == Checksum::None {
                        self.report.notes.push(format!("{path} has no checksum: damage would not be seen"));
                    }
                    break;
                }
                Record::Database(database) => self.database = database,
                Record::Library => self.report.leave_out("library of functions", b"(without a key)"),
                Record::ModuleAux(name) => {
                    self.report.notes.push(format!("what module {name} keeps beside keys is not imported"));
                }
                Record::Aux => {}
                Record::Key { kind, deadline_ms } => {
                    self.key(&mut reader, kind, deadline_ms, &mut target).map_err(|error| match error {
                        Trouble::Dump(error) => fail(error),
                        Trouble::Node(failure) => failure,
                    })?;
                }
            }
            if count.is_multiple_of(PROGRESS_EVERY) {
                bar.set_position(reader.offset());
            }
        }
        target.flush(&mut self.report)?;
        bar.finish_and_clear();
        if self.others > 0 {
            let note =
                format!("{} keys of other databases than {} were not asked for", self.others, self.wanted);
            self.report.notes.push(note);
        }
        Ok(())
    }

    fn key(
        &mut self,
        reader: &mut Reader<impl Read>,
        kind: Kind,
        deadline_ms: Option<i64>,
        target: &mut Target,
    ) -> Result<(), Trouble> {
        if self.database != self.wanted {
            if self.is_chosen {
                self.others += 1;
            } else {
                let what = format!("database {} (--db {})", self.database, self.database);
                self.report.leave_out(&what, reader.key());
            }
            return Ok(());
        }
        if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms()) {
            self.report.expired += 1;
            return Ok(());
        }
        if kind != Kind::String {
            self.report.leave_out(&kind.to_string(), reader.key());
            return Ok(());
        }
        reader.read_value().map_err(Trouble::Dump)?;
        let expiry = deadline_ms.map_or(Expiry::Never, Expiry::AtMs);
        target.set(reader.key(), reader.value(), expiry, &mut self.report).map_err(Trouble::Node)
    }
}

enum Trouble {
    Dump(RdbError),
    Node(Failure),
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
