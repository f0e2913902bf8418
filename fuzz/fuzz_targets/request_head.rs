//! Fuzzes request heads; the properties are in `net/tests/checks/request_head.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nabu_fuzz::net_checks::check_request_head(input));
