//! What is installed at a boot of a machine that an earlier run made a node of: a dry run tells.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::adopt::UserDataRecord;
use agent::cluster::record;
use agent::host::Host;
use agent::metadata::Found;
use bootstrap::bundle::Arch;
use bootstrap::cluster::{Record, Stage};
use bootstrap::user_data::Metadata;
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::process::Output;
use cks_tests::{programs, small};
use serde_json::Value;
use tempfile::TempDir;

use crate::put;

/// Longer than any look at what is there.
const NOT_WAITED: Duration = Duration::from_secs(60);

/// A worker that was installed from the ISO `first`.
pub(crate) struct Made {
    pub(crate) node: Node,
    pub(crate) first: PathBuf,
    /// The bundle that is installed.
    pub(crate) bundle: String,
    user_data: PathBuf,
    containerd: Containerd,
    work: TempDir,
}

impl Made {
    pub(crate) fn new() -> Self {
        let work = cks_tests::scratch("again").unwrap();
        let first = iso(work.path(), "v1.34.0");
        let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
        let node = Node::new("worker").unwrap().using(&containerd);
        let output = node.run(&[&first.to_string_lossy()]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        let bundle = node.status().unwrap()["bundle"]["id"].as_str().unwrap().to_owned();
        for (name, text) in [("local-hostname", "c1-node-1"), ("local-ipv4", "10.1.1.21")] {
            fs::create_dir_all(work.path().join("metadata")).unwrap();
            fs::write(work.path().join("metadata").join(name), text).unwrap();
        }
        let user_data = programs::workspace().join("bootstrap/tests/user_data/01-worker-4.22/user-data");
        Self { node, first, bundle, user_data, containerd, work }
    }

    /// Another ISO, of this version.
    pub(crate) fn iso(&self, version: &str) -> PathBuf {
        iso(self.work.path(), version)
    }

    /// It has become a member, as far as `stage`.
    pub(crate) fn is_member(&self, stage: Stage) {
        let host = Host::new(&self.node.root).unwrap();
        let text = fs::read(&self.user_data).unwrap();
        let (membership, authority, applied) = ("a worker".to_owned(), Vec::new(), BTreeMap::new());
        record::write(&host, &Record { membership, authority, stage, applied }).unwrap();
        put(&self.node.root, "/etc/kubernetes/kubelet.conf", "");
        let found = Found { metadata: Metadata::default(), user_data: text, source: "a test".to_owned() };
        UserDataRecord::end(&host, &found).unwrap();
    }

    /// It has left.
    pub(crate) fn is_no_member(&self) {
        fs::remove_file(self.node.root.join("etc/kubernetes/kubelet.conf")).unwrap();
        fs::remove_file(self.node.root.join("var/lib/cks-agent/cluster.json")).unwrap();
    }

    /// What a boot would install, where `source` alone is looked at, and what it says; nobody waits long for it.
    pub(crate) fn boots(&self, source: &Path) -> (Value, String) {
        let (told, planned) = (self.would_boot(source, &["--wait", "1h"]), self.would_boot(source, &["--json"]));
        assert_eq!((told.code, planned.code), (0, 0), "{told:?} {planned:?}");
        assert!(told.elapsed < NOT_WAITED, "{told:?}");
        (serde_json::from_str(&planned.stdout).unwrap(), told.stderr)
    }

    fn would_boot(&self, source: &Path, more: &[&str]) -> Output {
        let agent = self.node.agent("bootstrap").unwrap().arg("--dry-run").args(more);
        let agent =
            agent.arg("--user-data").arg(&self.user_data).arg("--metadata").arg(self.work.path().join("metadata"));
        agent.arg("--containerd").arg(&self.containerd.socket).arg("--source").arg(source).output().unwrap()
    }
}

fn iso(work: &Path, version: &str) -> PathBuf {
    let arch = Arch::parse(std::env::consts::ARCH).unwrap();
    let mut components = small::components(&work.join(version), arch).unwrap();
    components.kubernetes = Some(version.to_owned());
    small::build(&components, version).unwrap()
}

/// Whether a plan is of that bundle and has so many steps.
pub(crate) fn fits(planned: &Value, bundle: &str, steps: usize) -> bool {
    planned["bundle"] == bundle && planned["steps"].as_array().unwrap().len() == steps
}

#[test]
fn a_member_stays_what_it_is_whatever_is_attached() {
    let made = Made::new();
    let another = made.iso("v1.35.0");
    let nowhere = Path::new("/nowhere.iso");
    made.is_member(Stage::Ready);
    for source in [another.as_path(), nowhere] {
        let (planned, said) = made.boots(source);
        assert!(fits(&planned, &made.bundle, 0), "{planned}");
        assert!(!said.contains("not mended"), "{said}");
    }
    // A text is known without a source.
    let settings = made.node.root.join("etc/sysctl.d/90-cks.conf");
    let text = fs::read(&settings).unwrap();
    fs::write(&settings, "changed").unwrap();
    assert!(fits(&made.boots(nowhere).0, &made.bundle, 1));
    fs::write(&settings, text).unwrap();
    // A program comes from its own ISO, or not at all.
    fs::write(made.node.root.join("opt/bin/kubelet"), "changed").unwrap();
    assert!(fits(&made.boots(&made.first).0, &made.bundle, 1));
    for source in [another.as_path(), nowhere] {
        let (planned, said) = made.boots(source);
        assert!(fits(&planned, &made.bundle, 0), "{planned}");
        let told = ["warning[MEDIA_NOT_FOUND]: ", "not mended: ", "bin/kubelet"];
        assert!(told.iter().all(|word| said.contains(word)), "{said}");
    }
    // A look in vain has not made it another node.
    let looked = made.node.agent("reconcile").unwrap().args(["--wait", "1s"]);
    fs::rename(&made.first, made.first.with_extension("gone")).unwrap();
    let output = looked.output().unwrap();
    assert_eq!((node::code(&output), output.code), ("MEDIA_NOT_FOUND", 75), "{output:?}");
    let status = made.node.status().unwrap();
    assert_eq!((&status["phase"], &status["failure"]), (&"ready".into(), &Value::Null), "{status}");
    assert!(status["warnings"].to_string().contains("MEDIA_NOT_FOUND: "), "{status}");
    fs::rename(made.first.with_extension("gone"), &made.first).unwrap();
    let output = made.node.agent("reconcile").unwrap().output().unwrap();
    assert_eq!((output.code, made.node.status().unwrap()["phase"].as_str()), (0, Some("ready")), "{output:?}");
}

#[test]
fn before_a_machine_has_joined_the_iso_that_is_attached_counts() {
    let made = Made::new();
    let nowhere = Path::new("/nowhere.iso");
    for version in ["v1.35.0", "v1.33.0"] {
        let another = made.iso(version);
        let planned = made.boots(&another).0;
        assert!(planned["bundle"] != made.bundle && !planned["steps"].as_array().unwrap().is_empty(), "{planned}");
        assert!(planned["directory"].as_str().unwrap().contains(version), "{planned}");
    }
    // Its own again, or none: what is installed is enough.
    for source in [made.first.as_path(), nowhere] {
        assert!(fits(&made.boots(source).0, &made.bundle, 0), "{source:?}");
    }
    // A try that broke off counts as none.
    made.is_member(Stage::Begun);
    assert!(fits(&made.boots(nowhere).0, &made.bundle, 0));
    // What is not whole is made so.
    fs::remove_file(made.node.root.join("opt/bin/kubelet").canonicalize().unwrap()).unwrap();
    assert!(fits(&made.boots(&made.first).0, &made.bundle, 1));
}
