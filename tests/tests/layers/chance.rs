//! Random tars from a few names, so that entries meet each other in ways nobody thought of.

use crate::cases::{Case, Expect};
use crate::making::{Entry, dir, entry, file, hard, soft, tar};

/// How many there are.
pub(crate) const SEEDS: u64 = 100;

const TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Steele and others' splitmix64: few lines, and the same numbers everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Directories and what lies in them mostly have names of their own, or nearly every tar would end early by an
    /// entry below a file.
    fn path(&mut self, dots: bool, directory: bool) -> String {
        let parts = self.below(4);
        let any = dots || self.below(12) == 0;
        let part = |chance: &mut Self, names: &[&str]| names[chance.below(names.len() as u64) as usize].to_owned();
        let mut path: Vec<String> = (0..parts).map(|_| part(self, &["qa", "qb"])).collect();
        path.push(part(self, if directory { &["qa", "qb"] } else { &["qc", "qd", "qe", "qf"] }));
        if any {
            let at = self.below(path.len() as u64) as usize;
            path[at] = part(self, if dots { &[".", "..", "", "qc"] } else { &["qa", "qb", "qc", "qd"] });
        }
        path.join("/")
    }

    fn entry(&mut self) -> Entry {
        // Most paths have no dots: a tar that leads out ends at once.
        let dots = self.below(40) == 0;
        let kind = self.below(24);
        let name = self.path(dots, kind < 7 || kind == 23);
        let made = match kind {
            0..=6 => dir(name),
            7..=12 => file(name, "x".repeat(self.below(2000) as usize)),
            13..=16 => {
                let (absolute, dots, directory) = (self.below(3) == 0, self.below(2) == 0, self.below(2) == 0);
                let target = self.path(dots, directory);
                soft(name, if absolute { format!("/{target}") } else { target })
            }
            17 => hard(name, self.path(dots, false)),
            18 => entry(b'6', name),
            19 => entry(b'3', name).device(1, self.below(9) as u32),
            20..=22 => file(hidden(&name, ""), "").owner(self.below(3), 0),
            _ => file(hidden(&name, ".wh..opq"), ""),
        };
        let made =
            made.mode(self.below(0o10000)).owner(self.below(4), self.below(4)).mtime(1_000_000 + self.below(1000));
        if self.below(8) == 0 { made.xattr("user.x", self.below(100).to_string()) } else { made }
    }
}

/// The whiteout of `path`, or of all in it.
fn hidden(path: &str, of: &str) -> String {
    match (path.rsplit_once('/'), of) {
        (_, ".wh..opq") => format!("{path}/.wh..wh..opq"),
        (Some((directory, name)), _) => format!("{directory}/.wh.{name}"),
        (None, _) => format!(".wh.{path}"),
    }
}

fn layers(seed: u64) -> Vec<Vec<Entry>> {
    let mut chance = Chance(seed);
    let count = 1 + chance.below(3);
    (0..count)
        .map(|_| {
            let entries = 1 + chance.below(8);
            (0..entries).map(|_| chance.entry()).collect()
        })
        .collect()
}

/// The tars of `seed`.
pub(crate) fn case(seed: u64) -> Case {
    let layers = layers(seed).iter().map(|entries| (TYPE, tar(entries))).collect();
    Case { name: format!("seed {seed}"), layers, expect: Expect::Same }
}

/// Whether a name of `seed` has `..`, so that it may be refused as hostile.
pub(crate) fn leads_out(seed: u64) -> bool {
    let out = |path: &[u8]| path.split(|&byte| byte == b'/').any(|part| part == b"..");
    layers(seed).iter().flatten().any(|entry| out(&entry.name) || entry.kind == b'1' && out(&entry.link))
}
