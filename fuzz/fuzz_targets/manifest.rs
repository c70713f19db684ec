#![no_main]
#![doc = "See `properties::manifest`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::manifest(data));
