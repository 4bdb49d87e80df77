//! Fuzz target: `log_entry` of `replication/wal/tests/fuzz_entry`, which says what is checked.
#![no_main]

#[path = "../../replication/wal/tests/fuzz_entry/mod.rs"]
mod fuzz_entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::log_entry(data));
