#![no_main]
#![doc = "See `properties::vpd`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::vpd(data));
