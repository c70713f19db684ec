//! Versions side by side: the switch from one to the next, the way back, what is kept and what goes; what stock
//! scripts left; room; labels; and `cks-agent reconcile`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::small;
use cks_tests::tarball::{Tarball, gzip, save};
use cks_tests::tree::digest_of;
use tempfile::TempDir;

mod leftovers;
mod machine;
mod reconcile;
mod switch;

const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";

/// ISOs that differ in their etcd.
struct Isos {
    work: TempDir,
    program: Vec<u8>,
}

impl Isos {
    fn new() -> Self {
        let work = cks_tests::scratch("versions").unwrap();
        let components = work.path().join("first");
        small::components(&components, Arch::parse(std::env::consts::ARCH).unwrap()).unwrap();
        let unpacked = work.path().join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        let tar = Command::new("tar").arg("-xzf").arg(components.join(ETCD)).arg("-C").arg(&unpacked);
        tar.args(["--strip-components=1"]).ok().unwrap();
        Self { program: fs::read(unpacked.join("etcd")).unwrap(), work }
    }

    /// One whose programs say `mark`: etcd, etcdctl and `more`.
    fn with(&self, mark: &str, more: &[&str]) -> PathBuf {
        let directory = self.work.path().join(mark);
        let components = small::components(&directory, Arch::parse(std::env::consts::ARCH).unwrap()).unwrap();
        let program = |name: &str| [self.program.as_slice(), name.as_bytes(), mark.as_bytes()].concat();
        let top = format!("etcd-v3.5.21-linux-{}", components.arch);
        let mut tarball = Tarball::default().directory(&format!("{top}/"));
        for name in ["etcd", "etcdctl"].iter().chain(more) {
            tarball = tarball.file(&format!("{top}/{name}"), 0o755, program(name));
        }
        save(&directory.join(ETCD), &gzip(&tarball.finish().unwrap()).unwrap()).unwrap();
        small::build(&components, mark).unwrap()
    }
}

/// What the programs of a node say they are of: the mark behind their names.
fn mark(root: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(root.join("opt/bin").join(name)).ok()?;
    let at = bytes.windows(name.len()).rposition(|window| window == name.as_bytes())?;
    String::from_utf8(bytes[at + name.len()..].to_vec()).ok()
}

fn current(root: &Path) -> String {
    fs::read_link(root.join("opt/cks/current")).unwrap().to_string_lossy().into_owned()
}

/// The names of a directory, sorted, without hidden ones.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn installed(node: &Node, iso: &Path) -> String {
    let output = node.run(&[&iso.to_string_lossy()]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    output.stderr
}

fn digest(path: &Path) -> String {
    digest_of(path).unwrap().to_string()
}
