//! Damaged manifests: whatever a text is, it is read to an end or refused, and a rewrite that is made
//! changes policies alone.

use std::path::Path;

use super::super::{check_applyable, objects, survey};
use super::assert_rewrite;

/// xorshift64: the same damage in every run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// Pieces that mean something to YAML.
const PIECES: [&str; 28] = [
    "\n",
    "\r\n",
    "\t",
    " ",
    "  ",
    "- ",
    ": ",
    "? ",
    "#",
    " # ",
    "'",
    "\"",
    "|",
    ">-\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "<<: *base",
    "---\n",
    "...\n",
    "!!str ",
    "\u{feff}",
    "é€",
    "imagePullPolicy: ",
];

fn damage(text: &str, seeded: &mut Seeded) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=seeded.below(3) {
        let at = seeded.below(bytes.len());
        match seeded.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << seeded.below(8),
            2 => drop(bytes.drain(at..(at + seeded.below(40)).min(bytes.len()))),
            3 => drop(bytes.splice(at..at, PIECES[seeded.below(PIECES.len())].bytes())),
            4 => {
                let copied = bytes[at..(at + seeded.below(200)).min(bytes.len())].to_vec();
                let to = seeded.below(bytes.len());
                bytes.splice(to..to, copied);
            }
            _ => drop(bytes.splice(at..(at + 1).min(bytes.len()), PIECES[seeded.below(PIECES.len())].bytes())),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_manifests_are_read_or_refused() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    paths.sort();
    let texts: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let (mut seeded, mut read, mut rewritten) = (Seeded(0x5eed_0c15), 0, 0);
    let rounds = 150;
    for _ in 0..rounds {
        for text in &texts {
            let damaged = damage(text, &mut seeded);
            read += usize::from(survey(&damaged).is_ok());
            let _ = objects(&damaged);
            let _ = check_applyable("damaged.yaml", &damaged);
            rewritten += usize::from(assert_rewrite(&damaged).is_some());
        }
    }
    // Neither all nor none: else nothing was tried.
    let all = rounds * texts.len();
    assert!(read > all / 10 && read < all * 9 / 10, "{read} of {all}");
    assert!(rewritten > all / 10 && rewritten < all, "{rewritten} of {all}");
}

#[test]
fn manifests_cut_anywhere_are_read_or_refused() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    for name in ["anchors.yaml", "crlf.yaml", "embedded.yaml"] {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = survey(&text[..end]);
            assert_rewrite(&text[..end]);
        }
    }
}
