#![no_main]
#![doc = "See `properties::lock`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::lock(data));
