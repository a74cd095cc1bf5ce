#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| grimace_fuzz::packed(data));
