#![no_main]
#![doc = "See `properties::autoindex`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::autoindex(data));
