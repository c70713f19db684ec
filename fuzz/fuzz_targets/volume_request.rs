#![no_main]
#![doc = "See `properties::volume_request`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::volume_request(data));
