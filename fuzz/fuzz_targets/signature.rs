#![no_main]
#![doc = "See `properties::signature`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::signature(data));
