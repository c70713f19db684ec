//! HTTP as the way of a bundle: servers that fail, lie, refuse or change their mind; proxies and authorities;
//! and what a node asks of a server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bootstrap::bundle::Arch;
use cks_tests::faults::Faults;
use cks_tests::netns::ADDRESS;
use cks_tests::node::Node;
use cks_tests::small;
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

/// A URL of it, and the end of the path that an etcd node's bytes come from.
struct Form {
    url: String,
    path: &'static str,
    /// Requests before the first of them, at most.
    opening: usize,
}

impl Bed {
    fn new() -> Self {
        let work = cks_tests::scratch("http").unwrap();
        let arch = Arch::parse(std::env::consts::ARCH).unwrap();
        let components = small::components(&work.path().join("components"), arch).unwrap();
        let iso = small::build(&components, "http").unwrap();
        let vr = Vr::start(&iso).unwrap();
        let beside = vr.docroot.join("isos");
        fs::create_dir(&beside).unwrap();
        fs::copy(&iso, beside.join("small.iso")).unwrap();
        fs::set_permissions(beside.join("small.iso"), fs::Permissions::from_mode(0o644)).unwrap();
        Self { vr, iso, _work: work }
    }

    /// The two forms in which a web server may have it.
    fn forms(&self) -> [Form; 2] {
        let iso = format!("http://{ADDRESS}/isos/small.iso");
        [Form { url: self.vr.url.clone(), path: ETCD, opening: 1 }, Form { url: iso, path: "small.iso", opening: 4 }]
    }

    fn faults(&self, url: &str) -> Faults {
        Faults::between(&self.vr.netns, url).unwrap()
    }

    fn node(&self) -> Node {
        Node::new("etcd").unwrap().inside(&self.vr.netns).with(&["--wait", "40s"])
    }

    /// What the node is without any fault.
    fn whole(&self) -> Tree {
        let node = Node::new("etcd").unwrap();
        let output = node.run(&[&self.iso.to_string_lossy()]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        node.tree().unwrap()
    }

    fn etcd_bytes(&self) -> u64 {
        fs::metadata(self.vr.docroot.join("cks-iso").join(ETCD)).unwrap().len()
    }
}
