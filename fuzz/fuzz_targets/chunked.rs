//! Fuzzes chunked bodies; the properties are in `net/tests/checks/chunked.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nabu_fuzz::net_checks::check_chunked(input));
