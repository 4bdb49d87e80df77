//! The real binary as its users meet it: how it starts, how it does not, how it ends.

mod exit_codes;
mod start_stop;
mod support;
