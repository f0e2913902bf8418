//! Fuzzes frames and sessions between nodes; the properties are in `net/tests/checks/peer_frame.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nabu_fuzz::net_checks::check_peer_frame(input));
