//! Fuzzes the decoder of control messages; the properties are in `cluster/tests/checks`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nabu_fuzz::cluster_checks::check_control_message(input));
