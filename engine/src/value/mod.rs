//! Pure arithmetic on values: what commands compute, apart from where the bytes are kept.
//!
//! Nothing here knows a keyspace, a protocol or a clock. Every function agrees with Redis 7.2 bit
//! for bit, odd corners included; tests compare with straightforward models.

pub mod bitfield;
pub mod bits;
pub mod extended;
pub mod glob;
pub mod integer;
pub mod lcs;
pub mod range;
