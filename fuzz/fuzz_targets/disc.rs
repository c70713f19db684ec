#![no_main]
#![doc = "See `properties::disc`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::disc(data));
