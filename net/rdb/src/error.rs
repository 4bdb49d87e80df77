//! What can be wrong with a dump file, and where.

use std::io;

use thiserror::Error;

/// Why reading ended, with the place in the file.
#[derive(Debug, Error)]
#[error("at byte {offset}: {fault}")]
pub struct RdbError {
    /// Bytes of the file that were read before.
    pub offset: u64,
    /// What was met there.
    pub fault: RdbFault,
}

/// What was met.
#[derive(Debug, Error)]
pub enum RdbFault {
    /// The file does not begin as a dump does.
    #[error("this is not a Redis dump: it does not begin with REDIS and a version")]
    NotADump,
    /// A version that this reader does not know.
    #[error("dumps of version {0} are not known, only 1 to 12 (Redis 7.4)")]
    VersionUnknown(u32),
    /// The file ends where more must come.
    #[error("the file ends in the middle")]
    Truncated,
    /// The source of the bytes failed.
    #[error("{0}")]
    Io(io::Error),
    /// A type or opcode that no known version has.
    #[error("{0} is no known type or opcode")]
    TypeUnknown(u8),
    /// Something that known versions of Redis can write, and only they can read.
    #[error("{0} cannot be read or walked over")]
    Unreadable(&'static str),
    /// A field that cannot be what it is.
    #[error("{0} is wrong")]
    Damaged(&'static str),
    /// A string longer than Redis allows.
    #[error("a string of {bytes} bytes is longer than the most, {max}")]
    StringTooLong {
        /// What the file says.
        bytes: u64,
        /// What is allowed.
        max: u64,
    },
    /// The file was changed after it was written.
    #[error("the file's checksum is {stored:016x}, its content has {found:016x}")]
    Checksum {
        /// What the file says.
        stored: u64,
        /// What its bytes give.
        found: u64,
    },
    /// Something follows the end.
    #[error("bytes follow the end of the dump (an append-only file with a preamble is not a dump)")]
    Trailing,
}
