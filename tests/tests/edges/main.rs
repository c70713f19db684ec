//! What lies at the edge of the allowed: odd but right content, hostile manifests, roots that somebody
//! prepared, servers that are poor or die, runs that were killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::process::{Command, Output};
use cks_tests::tarball::save;
use cks_tests::{programs, small};
use tempfile::TempDir;

mod breaks;
mod content;
mod machine;
mod manifest;

const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";

/// The content of a small CKS ISO in the stock layout.
struct Stock {
    directory: PathBuf,
    components: cks_tests::components::Components,
    work: TempDir,
}

impl Stock {
    fn new() -> Self {
        let work = cks_tests::scratch("edges").unwrap();
        let directory = work.path().join("components");
        let components = small::components(&directory, Arch::parse(std::env::consts::ARCH).unwrap()).unwrap();
        Self { directory, components, work }
    }

    /// With a manifest, as `cks-iso build` packs it.
    fn built(&self) -> PathBuf {
        small::build(&self.components, "edges").unwrap()
    }

    /// Without one, and with this file in it.
    fn with(&self, path: &str, bytes: &[u8]) -> String {
        let copy = tempfile::Builder::new().tempdir_in(self.work.path()).unwrap().keep();
        Command::new("cp").args(["-al", "-T"]).arg(&self.directory).arg(&copy).ok().unwrap();
        let file = copy.join(path);
        if file.exists() {
            fs::remove_file(&file).unwrap();
        }
        save(&file, bytes).unwrap();
        small::stock_iso(&copy, "CDROM").unwrap().to_string_lossy().into_owned()
    }
}

fn stock_containerd() -> Containerd {
    Containerd::start(&programs::containerd(None).unwrap(), None).unwrap()
}

/// The run was refused with this code, named its object in one line without anything that a terminal would
/// obey, and brought nothing into force.
fn assert_refused(node: &Node, output: &Output, (code, exit): (&str, i32), says: &str) {
    assert_eq!((node::code(output), output.code), (code, exit), "{output:?}");
    let error = output.stderr.lines().find(|line| line.starts_with("error[")).unwrap();
    assert!(error.contains(says), "{error}");
    assert_plain(&output.stderr);
    assert_plain(&node.agent("status").unwrap().output().unwrap().stdout);
    assert_eq!(node.in_force().unwrap(), [""; 0]);
}

fn assert_plain(text: &str) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

/// Content of a file on a virtual router.
fn served(docroot: &Path, path: &str) -> PathBuf {
    docroot.join("cks-iso").join(path)
}
