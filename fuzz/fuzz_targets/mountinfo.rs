#![no_main]
#![doc = "See `properties::mountinfo`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::mountinfo(data));
