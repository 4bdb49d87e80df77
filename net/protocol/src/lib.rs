//! Native frames and RESP2/3, and the seam between a socket driver and a core.
//!
//! Pure: bytes in, bytes out. Nothing here opens a socket, reads a clock or starts a thread.
#![forbid(unsafe_code)]

mod args;
pub mod native;
mod out;
pub mod resp;
pub mod wire;

pub use args::{ArgRange, Args};
pub use out::{OutBuf, OutPart, Slices};
