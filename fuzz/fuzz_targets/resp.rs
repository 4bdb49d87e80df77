//! Fuzz target: `resp_entry` of `net/protocol/tests/fuzz_entry`, which says what is checked.
#![no_main]

#[path = "../../net/protocol/tests/fuzz_entry/mod.rs"]
mod fuzz_entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::resp_entry(data));
