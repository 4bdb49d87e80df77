//! The socket ring of one core: an `io_uring` of its own inside a glommio executor, for listeners,
//! connections and wake-ups.
//!
//! The driver implements [`pinnace_protocol::wire::Wire`] and drives a
//! [`pinnace_protocol::wire::Service`]: completions become events, the service's replies become
//! batched sends, one `io_uring_enter` per turn of the loop. It knows nothing of protocols, keys or
//! shards, and it keeps no request state.
//!
//! Everything here belongs to one core, except [`Waker`], [`ConnectionBudget`] and the mailboxes of
//! [`mesh`], which are how cores reach each other. How the loop, parking, buffers and moves work and
//! why: `docs/internals/driver.md`.
#![allow(unsafe_code, reason = "the kernel is handed memory and file descriptors here")]

mod accept;
mod budget;
mod buffers;
pub mod client;
mod clock;
mod close;
mod config;
mod driver;
mod error;
mod eventfd;
mod gather;
mod listen;
mod mesh;
mod outgoing;
mod park;
mod probe;
mod receive;
mod slab;
mod sockets;
mod spin;
mod stats;
mod token;
mod transmit;
mod uring;

pub use budget::ConnectionBudget;
pub use config::{DriverConfig, DriverSettings, DriverTuning, OtherWork};
pub use driver::Driver;
pub use error::DriverError;
pub use listen::{Listener, bind_group};
pub use mesh::{MeshEnd, Waker, mesh};
pub use probe::{check_memlock, check_uring, raise_file_limit};
pub use stats::{DriverStats, DriverStatsSnapshot};
