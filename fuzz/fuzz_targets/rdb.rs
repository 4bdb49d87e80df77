//! Fuzz target: `rdb_entry` of `net/rdb/tests/fuzz_entry`, which says what is checked.
#![no_main]

#[path = "../../net/rdb/tests/fuzz_entry/mod.rs"]
mod fuzz_entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::rdb_entry(data));
