//! RESP2 and RESP3, as Redis 7.2 speaks them: the request decoder and the reply encoders.
//!
//! Requests are arrays of bulk strings or inline lines; nothing else is a request. The decoder
//! finds arguments in place and copies nothing, except for inline lines that hold escapes. The
//! encoders append to a vector and know nothing of connections. Which replies a command gives is
//! `core`'s business.
//!
//! The dialect, deviations from Redis included, is written down in `docs/protocol.md`.

mod decoder;
mod double;
mod encode;
mod error;
mod inline;
mod repeat;

pub use decoder::{Decoded, RespDecoder, RespLimits};
pub use encode::{
    Version, array, big_number, boolean, bulk, bulk_header, crlf, double, error, integer, map, null,
    null_array, push, set, simple, verbatim,
};
pub use error::RespError;
pub use repeat::Beginning;

#[cfg(test)]
mod tests;
