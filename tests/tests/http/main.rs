//! HTTP as the way of a bundle: servers that fail, lie, refuse or change their mind; proxies and authorities;
//! and what a node asks of a server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use cks_tests::faults::Faults;
use cks_tests::netns::ADDRESS;
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::small;
use cks_tests::throttle::small_sockets;
use cks_tests::tree::Tree;
use cks_tests::vr::Vr;
use tempfile::TempDir;

mod changes;
mod faults;
mod polite;
mod ways;

const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";

/// A small bundle, served as a directory and as an .iso file.
struct Bed {
    vr: Vr,
    iso: PathBuf,
    _work: TempDir,
}

/// A URL of it, and the end of the path that the bytes of etcd come from.
struct Form {
    url: String,
    path: &'static str,
}

/// Apache vouches for no file that changed within the last second.
fn aged(path: &Path) {
    Command::new("touch").args(["-d", "2019-01-01"]).arg(path).ok().unwrap();
}

impl Bed {
    fn new() -> Self {
        let work = cks_tests::scratch("http").unwrap();
        let arch = Arch::parse(std::env::consts::ARCH).unwrap();
        let components = small::components(&work.path().join("components"), arch).unwrap();
        let iso = small::build(&components, "http").unwrap();
        let vr = Vr::start(&iso).unwrap();
        // What is under way when a connection breaks is known then.
        small_sockets(&vr.netns).unwrap();
        let beside = vr.docroot.join("isos");
        fs::create_dir(&beside).unwrap();
        fs::copy(&iso, beside.join("small.iso")).unwrap();
        fs::set_permissions(beside.join("small.iso"), fs::Permissions::from_mode(0o644)).unwrap();
        aged(&vr.docroot.join("cks-iso").join(ETCD));
        aged(&beside.join("small.iso"));
        Self { vr, iso, _work: work }
    }

    /// The two forms in which a web server may have it.
    fn forms(&self) -> [Form; 2] {
        let iso = format!("http://{ADDRESS}/isos/small.iso");
        [Form { url: self.vr.url.clone(), path: ETCD }, Form { url: iso, path: "small.iso" }]
    }

    fn faults(&self, url: &str) -> Faults {
        Faults::between(&self.vr.netns, url).unwrap()
    }

    fn node(&self) -> Node {
        Node::new("etcd").unwrap().inside(&self.vr.netns)
    }

    /// What the node is without any fault.
    fn whole(&self) -> Tree {
        self.whole_by(&self.iso.to_string_lossy()).0
    }

    /// And how many bytes came from that source for it.
    fn whole_by(&self, source: &str) -> (Tree, u64) {
        let node = self.node();
        let output = node.run(&[source]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        (node.tree().unwrap(), fetched(&node))
    }

    fn etcd_bytes(&self) -> u64 {
        fs::metadata(self.vr.docroot.join("cks-iso").join(ETCD)).unwrap().len()
    }
}

/// Bytes that a node took from its source.
fn fetched(node: &Node) -> u64 {
    node.status().unwrap()["sources"][0]["bytes"].as_u64().unwrap()
}
