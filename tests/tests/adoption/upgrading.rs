//! The management server's own upgrade, as it changes a node that the agent installed.

use std::fs;

use bootstrap::bundle::Arch;
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::{programs, small};

#[test]
fn what_the_server_upgraded_is_not_put_back() {
    let work = cks_tests::scratch("upgrading").unwrap();
    let components = small::components(&work.path().join("components"), Arch::parse(std::env::consts::ARCH).unwrap());
    let iso = small::build(&components.unwrap(), "upgrading").unwrap();
    let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
    let node = Node::new("worker").unwrap().using(&containerd);
    let output = node.run(&[&iso.to_string_lossy()]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");

    // `cp -a` onto the link writes into the version, as upgrade-kubernetes.sh does.
    let kubeadm = node.root.join("opt/bin/kubeadm");
    let reconcile = || node.agent("reconcile").unwrap().output().unwrap();
    for (says, code) in [("v1.35.0", "DRIFT"), ("v1.34.0", ""), ("nonsense", "")] {
        let program = format!("#!/bin/sh\necho {says}\n");
        fs::write(&kubeadm, &program).unwrap();
        let before = node.status().unwrap();
        let output = reconcile();
        assert_eq!(node::code(&output), code, "{says}: {output:?}");
        let kept = fs::read(&kubeadm).unwrap() == program.as_bytes();
        assert_eq!(kept, code == "DRIFT", "{says}");
        if kept {
            assert!(
                output.code == 78 && output.stderr.contains("v1.35.0") && output.stderr.contains("v1.34.0"),
                "{output:?}"
            );
            assert_eq!(node.status().unwrap(), before, "the node has not failed");
        }
    }
}
