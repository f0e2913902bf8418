//! Fuzzes the decoders of the disk format; the properties are in `engine/tests/checks`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nabu_fuzz::engine_checks::check_record(input));
