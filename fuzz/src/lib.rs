//! What must hold for every input of the parsers. libFuzzer calls these functions (`fuzz_targets/`), and
//! so does the plain test `iso-builder/tests/corpora.rs`.

pub mod properties;
