#![no_main]
#![doc = "See `properties::archive`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::archive(data));
