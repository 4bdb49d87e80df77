//! Reads Redis dump files (RDB) up to version 12, which Redis 7.4 writes.
//!
//! Gives strings with their deadlines. Values of every other type are walked over, so that a caller
//! learns their type and key, but not decoded. Pure: the bytes come from a [`std::io::Read`].
//! Never panics on bad input, and never holds more memory than a string that is really there needs.
#![forbid(unsafe_code)]

mod error;
mod input;
mod kind;
mod lzf;
mod reader;
mod skip;
#[cfg(test)]
mod tests;

pub use error::{RdbError, RdbFault};
pub use kind::{Kind, ModuleName};
pub use reader::{Checksum, Reader, Record};
