//! Why a command is refused, as the client reads it.

use std::borrow::Cow;

use pinnace_engine::WriteError;

use crate::exec::Exec;

/// The value at the key has another type than the command works on.
pub(super) const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub(super) const SYNTAX: &str = "ERR syntax error";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const NO_SUCH_KEY: &str = "ERR no such key";
pub(super) const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// An error reply on its way out of a command that has written nothing yet.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A fixed text.
    Text(&'static str),
    /// A text that names what was sent.
    Composed(String),
    /// The keyspace did not take the write.
    Write(WriteError),
}

impl Refusal {
    /// Writes the error reply.
    #[cold]
    pub(super) fn reply(self, exec: &mut Exec<'_>) {
        exec.error(&self.text());
    }

    /// The error as the client reads it.
    pub(super) fn text(self) -> Cow<'static, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Composed(text) => text.into(),
            Self::Write(error) => write_error_text(&error).into(),
        }
    }

    /// The expiry given to `command` is not a time that can be.
    #[cold]
    pub(super) fn expiry(command: &str) -> Self {
        Self::Composed(format!("ERR invalid expire time in '{command}' command"))
    }

    /// `command` was called with a number of arguments that its arity does not tell to be wrong.
    #[cold]
    pub(super) fn arity(command: &str) -> Self {
        Self::Composed(format!("ERR wrong number of arguments for '{command}' command"))
    }
}

impl From<&'static str> for Refusal {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Why the keyspace did not take a write, as the client reads it.
pub(super) fn write_error_text(error: &WriteError) -> &'static str {
    match error {
        WriteError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        WriteError::LogFull => {
            "MISCONF Errors writing to the log: no space left on its disk. Writes are refused until there is, reads go on."
        }
        WriteError::KeyTooLong { .. } => "ERR key exceeds the key size limit (max_key_size)",
        WriteError::ValueTooLarge { .. } => TOO_LONG,
    }
}
