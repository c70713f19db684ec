#![no_main]
#![doc = "See `properties::user_data`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::user_data(data));
