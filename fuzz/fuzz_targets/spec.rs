#![no_main]
#![doc = "See `properties::spec`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::spec(data));
