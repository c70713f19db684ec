#![no_main]
#![doc = "See `properties::superblock`."]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cks_fuzz::properties::superblock(data));
