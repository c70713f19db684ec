//! The inputs that fuzzing starts from, and what it once found, in every test run: each as it is, and with
//! a fixed number of mutations that are the same in each run. `just fuzz` looks further.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[cfg(test)]
use properties::TARGETS;

#[cfg(test)]
#[path = "../../fuzz/src/properties.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets are other crates")]
mod properties;

/// Bytes that a mutation may add up to.
const LONGEST: usize = 128 << 10;

/// Numbers at which lengths and offsets go wrong.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

#[expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]
fn corpus(target: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    /// A range of `bytes`, mostly a short one.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let longest = if self.below(8) == 0 { bytes.len() } else { 16 };
        let from = self.below(bytes.len() + 1);
        from..(from + self.below(longest + 1)).min(bytes.len())
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let range = self.range(bytes);
        match self.below(7) {
            0 => bytes.iter_mut().skip(range.start).take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
            1 => bytes.iter_mut().skip(range.start).take(1).for_each(|byte| *byte = self.below(256) as u8),
            2 => drop(bytes.drain(range)),
            3 => {
                let again = bytes[range.clone()].to_vec();
                bytes.splice(range.start..range.start, again);
            }
            4 => drop(bytes.splice(range, other[self.range(other)].iter().copied())),
            5 => {
                let edge = EDGES[self.below(EDGES.len())];
                let wide = [edge.to_le_bytes(), edge.to_be_bytes()][self.below(2)];
                let count = [1, 2, 4, 8][self.below(4)];
                let value = if self.below(2) == 0 { &wide[..count] } else { &wide[8 - count..] };
                bytes.iter_mut().skip(range.start).zip(value).for_each(|(byte, new)| *byte = *new);
            }
            _ => {
                let digits = EDGES[self.below(EDGES.len())].to_string();
                bytes.splice(range, digits.into_bytes());
            }
        }
        bytes.truncate(LONGEST);
    }
}

/// Checks the corpus of one target, and mutations of it.
fn try_all(target: &str, check: fn(&[u8]), rounds: usize) {
    let corpus = corpus(target);
    let inputs: Vec<_> = corpus.values().collect();
    assert!(!inputs.is_empty(), "{target} has no corpus");
    for (path, bytes) in &corpus {
        println!("{}", path.display());
        check(bytes);
    }
    for (index, (path, bytes)) in corpus.iter().enumerate() {
        for round in 0..rounds {
            let mut dice = Dice(((index * rounds + round + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut bytes = (*bytes).clone();
            for _ in 0..=dice.below(6) {
                let other = inputs[dice.below(inputs.len())];
                dice.mutate(&mut bytes, other);
            }
            let told = std::panic::catch_unwind(|| check(&bytes));
            assert!(told.is_ok(), "{target}: round {round} of {} fails; see above", path.display());
        }
    }
}

#[test]
fn every_target_holds_for_its_corpus_and_for_mutations_of_it() {
    std::thread::scope(|scope| {
        for (target, check, rounds) in TARGETS {
            scope.spawn(move || try_all(target, *check, *rounds));
        }
    });
}

/// A target that no test knows would be forgotten.
#[test]
fn the_targets_of_libfuzzer_are_the_ones_here() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let mut there: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    there.sort();
    let here: Vec<_> = TARGETS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(here, there);
}
