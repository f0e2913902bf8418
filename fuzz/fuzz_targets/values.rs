//! Fuzzes ranges, conditions, dates and percent escapes; the properties are in
//! `net/tests/checks/values.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nabu_fuzz::net_checks::check_values(input));
