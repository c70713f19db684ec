//! What a node takes and what it refuses: signatures, old bundles, changed bytes; and what it says when
//! something is changed afterwards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod drift;
mod flips;
mod signatures;
mod versions;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use bootstrap::disc;
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::{programs, small};

/// Where trusted keys lie on a node.
const KEYS: &str = "etc/cks-agent/keys";

/// A small ISO of this Kubernetes version.
fn iso(directory: &Path, kubernetes: &str) -> PathBuf {
    let arch = Arch::parse(std::env::consts::ARCH).unwrap();
    let mut components = small::components(&directory.join(kubernetes), arch).unwrap();
    components.kubernetes = Some(kubernetes.to_owned());
    small::build(&components, kubernetes).unwrap()
}

fn cks_iso(arguments: &[&str]) -> Command {
    Command::new(programs::built("cks-iso").unwrap()).args(arguments)
}

/// A pair of keys: `NAME.key` and `NAME.pub`.
#[derive(Debug)]
struct Key {
    base: PathBuf,
}

impl Key {
    fn make(directory: &Path, name: &str) -> Self {
        let base = directory.join(name);
        cks_iso(&["keygen", &base.to_string_lossy(), "--no-password"]).ok().unwrap();
        Self { base }
    }

    fn public(&self) -> PathBuf {
        self.base.with_extension("pub")
    }

    /// The id, as the comment of the public key tells it.
    fn id(&self) -> String {
        let text = fs::read_to_string(self.public()).unwrap();
        text.lines().next().unwrap().split_whitespace().last().unwrap().to_owned()
    }

    /// `iso` with the signature of this key, as `to`; beside those that it has with `add`.
    fn sign(&self, iso: &Path, to: &Path, add: bool) -> PathBuf {
        let key = self.base.with_extension("key");
        let sign = cks_iso(&["sign", &iso.to_string_lossy(), "--key", &key.to_string_lossy()]);
        let sign = sign.args(["-o", &to.to_string_lossy()]);
        if add { sign.arg("--add") } else { sign }.ok().unwrap();
        to.to_owned()
    }

    /// Makes `node` trust it.
    fn trusted_by(&self, node: &Node) {
        let directory = node.root.join(KEYS);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(self.public(), directory.join(self.public().file_name().unwrap())).unwrap();
    }
}

fn settle(node: &Node, settings: &str) {
    let path = node.root.join("etc/cks-agent/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, settings).unwrap();
}

/// The range of the image `iso` that byte `offset` of the file `path` lies at.
fn place(iso: &Path, path: &str, offset: u64) -> u64 {
    let disc = disc::read(fs::File::open(iso).unwrap()).unwrap();
    disc.file(path).unwrap_or_else(|| panic!("{path} is not on the disc")).ranges(offset, 1).unwrap()[0].offset
}

/// Changes one bit of a file; twice is not at all.
fn flip(file: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&byte, offset).unwrap();
}

/// What of an installation is in force, without the settings that the test made.
fn in_force(node: &Node) -> Vec<String> {
    let lines = node.in_force().unwrap();
    lines.into_iter().filter(|line| !line.contains("etc/cks-agent/")).collect()
}
