#![no_main]
#![doc = "See `properties::yaml_images`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::yaml_images(data));
