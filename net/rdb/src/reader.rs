//! The records of a dump, one after the other.

use std::io::Read;

use crate::error::{RdbError, RdbFault};
use crate::input::Input;
use crate::kind::{Kind, ModuleName};
use crate::skip::{self, Form};

/// The newest version that is known: Redis 7.4.
const VERSION_MAX: u32 = 12;
/// The first version with a checksum.
const VERSION_WITH_CHECKSUM: u32 = 5;

/// What comes next in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Something about the dump: its name is [`Reader::key`], its text [`Reader::value`].
    Aux,
    /// The keys behind it belong to this database.
    Database(u64),
    /// A library of functions.
    Library,
    /// What a module keeps beside keys.
    ModuleAux(ModuleName),
    /// A key, which is [`Reader::key`]; [`Reader::read_value`] reads a string's value.
    Key {
        /// What it holds.
        kind: Kind,
        /// When it expires, in milliseconds since 1970.
        deadline_ms: Option<i64>,
    },
    /// The end. Whatever was read before is what was written.
    End(Checksum),
}

/// What the end of a dump says of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum is right.
    Right,
    /// There is none: an old version, or `rdbchecksum no`.
    None,
}

/// Reads a dump. After an error or the end there is nothing more to ask of it.
pub struct Reader<R> {
    input: Input<R>,
    version: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    /// The value of the last key, as long as nobody has taken it.
    pending: Option<(Kind, Form)>,
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("version", &self.version).finish_non_exhaustive()
    }
}

impl<R: Read> Reader<R> {
    /// Reads the head of a dump; strings longer than `string_bytes_max` are an error.
    ///
    /// # Errors
    /// If it is no dump, or one of a version that is not known.
    pub fn new(source: R, string_bytes_max: u64) -> Result<Self, RdbError> {
        let mut input = Input::new(source, string_bytes_max);
        let head: [u8; 9] = match input.array() {
            Err(RdbError { fault: RdbFault::Truncated, offset }) => {
                return Err(RdbError { offset, fault: RdbFault::NotADump });
            }
            head => head?,
        };
        let digits = head.strip_prefix(b"REDIS").filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let Some(digits) = digits else { return Err(RdbError { offset: 0, fault: RdbFault::NotADump }) };
        let version = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        if !(1..=VERSION_MAX).contains(&version) {
            return Err(input.error(RdbFault::VersionUnknown(version)));
        }
        Ok(Self { input, version, key: Vec::new(), value: Vec::new(), pending: None })
    }

    /// The version of the format.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes of the file that were read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// The key of the last record.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// What [`Self::read_value`] has read.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Reads the value of the last record, which was a string's key, into [`Self::value`].
    ///
    /// # Errors
    /// As [`Self::next_record`]. Also if there is no such value, or it has been read.
    pub fn read_value(&mut self) -> Result<(), RdbError> {
        match self.pending.take() {
            Some((Kind::String, _)) => self.input.string(&mut self.value),
            _ => Err(self.input.error(RdbFault::Unreadable("this value"))),
        }
    }

    /// Goes to the next record, over the value of the last one if nobody has read it.
    ///
    /// # Errors
    /// If the file is damaged, incomplete or holds what cannot even be walked over.
    pub fn next_record(&mut self) -> Result<Record, RdbError> {
        if let Some((_, form)) = self.pending.take() {
            skip::value(&mut self.input, form)?;
        }
        let mut deadline_ms = None;
        loop {
            match self.input.byte()? {
                // Sizes of a cluster's slot and of a database: hints.
                244 => (0..3).try_for_each(|_| self.input.number().map(drop))?,
                251 => (0..2).try_for_each(|_| self.input.number().map(drop))?,
                245 => {
                    self.input.skip_string()?;
                    return Ok(Record::Library);
                }
                246 => return Err(self.unreadable("a function of a release candidate of Redis 7.0")),
                247 => return self.module_aux(),
                // How long a key was not used, or how often it was.
                248 => drop(self.input.number()?),
                249 => self.input.skip(1)?,
                250 => {
                    self.input.string(&mut self.key)?;
                    self.input.string(&mut self.value)?;
                    return Ok(Record::Aux);
                }
                252 => deadline_ms = Some(i64::from_le_bytes(self.input.array()?)),
                253 => deadline_ms = Some(i64::from(i32::from_le_bytes(self.input.array()?)) * 1000),
                254 => return Ok(Record::Database(self.input.number()?)),
                255 => return self.end().map(Record::End),
                byte => return self.key_record(byte, deadline_ms),
            }
        }
    }

    fn unreadable(&self, what: &'static str) -> RdbError {
        self.input.error(RdbFault::Unreadable(what))
    }

    fn key_record(&mut self, byte: u8, deadline_ms: Option<i64>) -> Result<Record, RdbError> {
        if byte == 6 {
            return Err(self.unreadable("a module's value of a release candidate of Redis 4.0"));
        }
        let Some((mut kind, form)) = skip::of(byte) else {
            return Err(self.input.error(RdbFault::TypeUnknown(byte)));
        };
        self.input.string(&mut self.key)?;
        if form == Form::Module {
            kind = Kind::Module(ModuleName::from_id(self.input.number()?));
        }
        self.pending = Some((kind, form));
        Ok(Record::Key { kind, deadline_ms })
    }

    fn module_aux(&mut self) -> Result<Record, RdbError> {
        let name = ModuleName::from_id(self.input.number()?);
        // A tag and whether it was written before or behind the keys.
        self.input.number()?;
        self.input.number()?;
        skip::module(&mut self.input)?;
        Ok(Record::ModuleAux(name))
    }

    fn end(&mut self) -> Result<Checksum, RdbError> {
        let mut checksum = Checksum::None;
        if self.version >= VERSION_WITH_CHECKSUM {
            let found = self.input.checksum();
            let stored = u64::from_le_bytes(self.input.array()?);
            if stored != 0 && stored != found {
                return Err(self.input.error(RdbFault::Checksum { stored, found }));
            }
            checksum = if stored == 0 { Checksum::None } else { Checksum::Right };
        }
        if self.input.is_at_end()? { Ok(checksum) } else { Err(self.input.error(RdbFault::Trailing)) }
    }
}
