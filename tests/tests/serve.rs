//! `cks-iso serve` in the place of the virtual router: the stock download and `cks-agent` install from it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bootstrap::bundle::Arch;
use cks_tests::containerd::Containerd;
use cks_tests::leash::Daemon;
use cks_tests::netns::{ADDRESS, Netns};
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::tree::Tree;
use cks_tests::{programs, small};

/// Serves `path` at the address and port of the virtual router, as the log in `work` tells.
fn serve(netns: &Netns, path: &Path, work: &Path) -> Daemon {
    let log = work.join("serve.log");
    let serve = Command::new(programs::built("cks-iso").unwrap()).arg("serve").arg(path);
    let serve = serve.args(["--listen", &format!("{ADDRESS}:80")]);
    let mut daemon = netns.enter(serve).daemon(&log).unwrap();
    let announced = || fs::read_to_string(&log).is_ok_and(|said| said.contains("on a node: cks-agent bootstrap"));
    daemon.ready(Duration::from_secs(20), announced).unwrap();
    daemon
}

#[test]
fn nodes_install_from_it_as_from_the_router() {
    let work = cks_tests::scratch("serve").unwrap();
    let directory = work.path().join("components");
    let components = small::components(&directory, Arch::parse(std::env::consts::ARCH).unwrap()).unwrap();
    let iso = small::build(&components, "serve").unwrap();
    let stock = small::stock_iso(&directory, "CDROM").unwrap();
    let imported = work.path().join("imported.iso");
    let import = Command::new(programs::built("cks-iso").unwrap()).arg("import").arg(&stock).arg("-o").arg(&imported);
    import.ok().unwrap();
    let url = format!("http://{ADDRESS}/cks-iso/");
    for (served, trust) in [(&iso, "manifest"), (&imported, "manifest"), (&directory, "legacy")] {
        let netns = Netns::new().unwrap();
        let _serving = serve(&netns, served, work.path());
        let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
        let worker = Node::new("worker").unwrap().using(&containerd).inside(&netns);
        let etcd = Node::new("etcd").unwrap().inside(&netns);
        for node in [&worker, &etcd] {
            let output = node.run(&[&url]).unwrap();
            assert_eq!(output.code, 0, "{}: {output:?}", served.display());
            let state = node.status().unwrap();
            assert_eq!((&state["phase"], &state["bundle"]["trust"]), (&"installed".into(), &trust.into()));
            let again = node.run(&[&url]).unwrap();
            assert!(again.stdout.contains("nothing to do"), "{again:?}");
        }
        assert_eq!(containerd.images().unwrap(), [small::APPLICATION, small::SANDBOX], "{}", served.display());

        // The stock step of a worker (CloudStack 4.21, `setup-kube-system`).
        let download = work.path().join("aux-dwnld");
        let wget = format!(r#"rm -rf aux-dwnld; wget -q -r -R "index.html*" {ADDRESS}/cks-iso -P aux-dwnld"#);
        netns.enter(Command::new("bash").args(["-ec", &wget]).directory(work.path())).ok().unwrap();
        let got = Tree::read(&download, &[]).unwrap().lines;
        assert!(got.iter().all(|line| line.starts_with("d ") || line.contains(&format!(" {ADDRESS}/cks-iso/"))));
        let content = |root: &Path| -> Vec<String> {
            let lines = Tree::read(root, &[]).unwrap().lines.into_iter();
            lines.filter_map(|line| line.strip_prefix("f ")?.split_once(' ').map(|(_, rest)| rest.to_owned())).collect()
        };
        let want = if served == &directory { directory.clone() } else { extracted(served) };
        assert_eq!(content(&download.join(ADDRESS).join("cks-iso")), content(&want), "{}", served.display());
    }
}

/// The content of an ISO, beside it.
fn extracted(iso: &Path) -> std::path::PathBuf {
    let to = iso.with_extension("content");
    Command::new("xorriso").args(["-osirrox", "on", "-indev"]).arg(iso).args(["-extract", "/"]).arg(&to).ok().unwrap();
    to
}
