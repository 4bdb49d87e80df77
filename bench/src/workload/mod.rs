//! What is asked: operations, keys, values, lives, and in which mix.
//!
//! Pure: everything is drawn from seeded generators, one per client.

pub(crate) mod keys;
mod mix;
mod overlay;
mod popularity;
pub(crate) mod presets;
mod sequence;
pub(crate) mod sizes;
mod spec;
pub(crate) mod trace;
pub(crate) mod ttl;
mod values;

pub(crate) use mix::{Mix, OP_COUNT, Op};

pub(crate) use sequence::{Inserts, Sequence};
pub(crate) use spec::{Workload, WorkloadSpec};
pub(crate) use values::Values;
