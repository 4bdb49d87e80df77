//! Segment memory, index tables and large blocks: the engine's only unsafe code.
#![allow(unsafe_code, reason = "raw memory is this crate's purpose; every block states its invariant")]

mod large;

pub use large::LargeValue;
