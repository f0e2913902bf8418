//! Fuzzes the handshake between nodes; the properties are in `net/tests/checks/peer_handshake.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nabu_fuzz::net_checks::check_peer_handshake(input));
