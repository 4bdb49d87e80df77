//! One CPU core's whole behaviour: sessions, routing, commands, mail between cores.
//!
//! Pure: driven through [`pinnace_protocol::wire::Service`] by the node's io_uring driver and by the
//! simulator alike.
#![forbid(unsafe_code)]

mod answer;
mod batch;
mod command;
mod commands;
mod config;
mod core;
mod deferred;
mod dispatch;
mod durability;
mod effects;
mod exec;
mod forward;
mod gather;
mod gathering;
mod mail;
mod moving;
mod native;
mod plain;
mod replies;
mod server;
mod session;
mod snapshot;
mod stats;
mod tx;

pub use command::{CommandId, CommandSpec, CommandTable, Flags, KeySpec};
pub use config::{CoreConfig, DriverCounters, NodeInfo};
pub use core::Core;
pub use durability::{Durability, ReplayError, logged_value_bytes_max};
pub use mail::Mail;
pub use server::HostSample;
pub use snapshot::{SnapshotEffect, SnapshotSetup};
pub use stats::CoreStats;
