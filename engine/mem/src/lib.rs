//! Segment memory, index tables and large blocks: the engine's only unsafe code.
//!
//! Everything public is safe: [`Memory`] hands out segments and reads and writes items in them,
//! [`Index`] finds items by hash, [`Pages`] are arrays in the same memory, [`LargeValue`] pins a value
//! while a reply borrows it. Policy (what to keep, when to expire) is `pinnace-engine`'s.
#![allow(unsafe_code, reason = "raw memory is this crate's purpose; every block states its invariant")]

mod index;
mod item;
mod large;
mod layout;
mod map;
mod memory;
mod page;
mod pool;
mod table;
mod units;

pub use index::{Found, Index, Spot};
pub use item::{DEADLINE_BYTES, HEADER_BYTES, Header, Item, LOG_VALUE_BYTES_MAX, Traits, VERSION_BYTES};
pub use large::LargeValue;
pub use layout::{FREQUENCY_MAX, Layout};
pub use memory::Memory;
pub use page::{PAGE_BYTES, Pages, Words};
pub use pool::SegmentId;
