//! What nobody would write: mutations of the scenarios, the same ones in each run. `just fuzz user_data` looks further.

use bootstrap::failure::Code;
use bootstrap::user_data::{look, outline};

use crate::scenarios::scenarios;

/// Mutations of each scenario.
const ROUNDS: usize = 20;

/// Bytes that a mutation may add up to.
const LONGEST: usize = 256 << 10;

/// Long enough for work that grows with the square of the length.
const LONGEST_TEXT: usize = 256 << 10;

/// Pieces that change what a text means.
const PIECES: [&str; 16] = [
    "\n",
    "  ",
    "\t",
    "- ",
    ": ",
    "'",
    "\"",
    "|\n",
    "{{ ",
    " }}",
    "{% if x %}",
    "{#",
    "#cloud-config\n",
    "---\n",
    "&a ",
    "*a ",
];

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let from = self.below(bytes.len() + 1);
        let longest = if self.below(6) == 0 { bytes.len() } else { 24 };
        let to = (from + self.below(longest + 1)).min(bytes.len());
        match self.below(6) {
            0 => bytes.iter_mut().skip(from).take(1).for_each(|byte| *byte = self.below(256) as u8),
            1 => drop(bytes.drain(from..to)),
            2 => {
                let again = bytes[from..to].to_vec();
                bytes.splice(from..from, again);
            }
            3 => {
                let start = self.below(other.len() + 1);
                let end = (start + self.below(4096)).min(other.len());
                bytes.splice(from..to, other[start..end].iter().copied());
            }
            4 => bytes.truncate(from),
            _ => {
                let piece = PIECES[self.below(PIECES.len())];
                bytes.splice(from..from, piece.bytes());
            }
        }
        bytes.truncate(LONGEST);
    }
}

#[test]
fn no_mutation_breaks_the_reader() {
    let scenarios = scenarios();
    for (index, scenario) in scenarios.iter().enumerate() {
        for round in 0..ROUNDS {
            let mut dice = Dice(((index * ROUNDS + round + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut bytes = scenario.user_data.clone();
            for _ in 0..=dice.below(5) {
                let other = &scenarios[dice.below(scenarios.len())].user_data;
                dice.mutate(&mut bytes, other);
            }
            let told = std::panic::catch_unwind(|| look(&bytes, &scenario.metadata));
            let told = told.unwrap_or_else(|_| panic!("round {round} of {}; see above", scenario.path.display()));
            match told {
                Ok(reading) => assert!(reading.spec.as_ref().is_none_or(|spec| !outline(spec).is_empty())),
                Err(failure) => assert_eq!(failure.code, Code::UserDataInvalid, "{failure:?}"),
            }
        }
    }
}

/// One piece, as often as it fits into a long text, behind what each kind of text begins with: work that grows
/// with the square of the length would not end.
#[test]
fn long_texts_come_to_an_end() {
    let scenarios = scenarios();
    let server = |name: &str| {
        let found = scenarios.iter().find(|scenario| scenario.path.to_string_lossy().ends_with(name));
        String::from_utf8(found.unwrap().user_data.clone()).unwrap()
    };
    let (control, worker) = (server("-cni-announced-and-missing"), server("-worker-4.22"));
    let begins = [
        "#cloud-config\n".to_owned(),
        "## template: jinja\n#cloud-config\ncks:\n  labels:\n".to_owned(),
        format!("{control}\n\n"),
        worker,
    ];
    let pieces = [
        "- a\n",
        "  - a\n",
        "a: b\n",
        "    a: b\n",
        "{{ ",
        "{{ a }}\n",
        "{% ",
        "{#",
        "---\n",
        "- path: /a\n",
        "a\\\n",
        "'",
        "[",
        "&a ",
    ];
    for begin in &begins {
        for piece in pieces {
            let mut text = begin.clone();
            text.extend(std::iter::repeat_n(piece, (LONGEST_TEXT - begin.len()) / piece.len()));
            // What it says is told elsewhere.
            let _ = look(text.as_bytes(), &scenarios[0].metadata);
        }
    }
}
