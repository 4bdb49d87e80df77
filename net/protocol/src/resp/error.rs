//! What a client can do wrong in RESP, with the words Redis 7.2 has for it.

use super::encode::error as encode_error;

/// Why a request cannot be read. The connection is answered with [`RespError::encode`] and closed:
/// after any of these it is unknown where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// An inline line is longer than a line may be.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline line ends within quotes, or a closing quote is followed by more of the word.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The line behind `*` does not end.
    #[error("Protocol error: too big mbulk count string")]
    ArrayLineTooLong,
    /// What follows `*` is not a number, or more arguments than allowed.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// The line behind `$` does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooLong,
    /// What follows `$` is not a number, negative, or more than an argument may have.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// An argument does not start with `$`.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    BulkExpected(u8),
    /// All arguments together are more than a request may have. Redis closes without a word here.
    #[error("Protocol error: too big request")]
    RequestTooLarge,
}

impl RespError {
    /// Appends the error reply, byte for byte as Redis sends it.
    pub fn encode(self, out: &mut Vec<u8>) {
        match self {
            // Not through Display: the offending byte is echoed as it came, not as a character.
            Self::BulkExpected(byte) => {
                encode_error(
                    out,
                    [b"ERR Protocol error: expected '$', got '".as_slice(), &[byte, b'\'']].concat(),
                );
            }
            other => encode_error(out, format!("ERR {other}")),
        }
    }
}
