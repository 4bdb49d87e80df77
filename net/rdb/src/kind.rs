//! The types of values as their users know them.

use std::fmt;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A string, the only type that is read.
    String,
    /// A list in any encoding.
    List,
    /// A set in any encoding.
    Set,
    /// A sorted set in any encoding.
    SortedSet,
    /// A hash in any encoding, with or without deadlines of fields.
    Hash,
    /// A stream.
    Stream,
    /// A value of a module's own type.
    Module(ModuleName),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::List => f.write_str("list"),
            Self::Set => f.write_str("set"),
            Self::SortedSet => f.write_str("sorted set"),
            Self::Hash => f.write_str("hash"),
            Self::Stream => f.write_str("stream"),
            Self::Module(name) => write!(f, "module type {name}"),
        }
    }
}

/// The nine characters by which a module names its type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModuleName([u8; 9]);

impl ModuleName {
    /// Unpacks a type's id: nine characters of six bits, then ten bits of an encoding's version.
    pub(crate) fn from_id(id: u64) -> Self {
        const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let character = |place: usize| CHARACTERS[(id >> (58 - 6 * place)) as usize & 63];
        Self(std::array::from_fn(character))
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| write!(f, "{}", char::from(byte)))
    }
}

impl fmt::Debug for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
