//! The management server's own upgrade, as it changes a node that the agent installed.

use std::fs;

use bootstrap::cluster::Stage;
use cks_tests::node;

use crate::again::{Made, fits};

#[test]
fn what_the_server_upgraded_is_not_put_back() {
    let made = Made::new();
    let newer = made.iso("v1.36.0");
    made.is_member(Stage::Ready);

    // `cp -a` onto the link writes into the version, as upgrade-kubernetes.sh does.
    let kubeadm = made.node.root.join("opt/bin/kubeadm");
    for (says, code) in [("v1.35.0", "DRIFT"), ("v1.34.0", ""), ("nonsense", "")] {
        let program = format!("#!/bin/sh\necho {says}\n");
        fs::write(&kubeadm, &program).unwrap();
        let before = made.node.status().unwrap();
        let output = made.node.agent("reconcile").unwrap().output().unwrap();
        assert_eq!(node::code(&output), code, "{says}: {output:?}");
        let kept = fs::read(&kubeadm).unwrap() == program.as_bytes();
        assert_eq!(kept, code == "DRIFT", "{says}");
        if !kept {
            assert_eq!(made.node.status().unwrap()["phase"], "ready", "{says}: it is the member that it was");
            continue;
        }
        let both = |text: &str| text.contains("kubeadm is v1.35.0") && text.contains("v1.34.0");
        assert!(output.code == 78 && both(&output.stderr), "{output:?}");
        assert_eq!(made.node.status().unwrap(), before, "the node has not failed");

        // Nor by a run that shall install just this, or by a boot, whatever is attached.
        let output = made.node.run(&[&made.first.to_string_lossy()]).unwrap();
        assert!(node::code(&output) == "DRIFT" && both(&output.stderr), "{output:?}");
        assert_eq!(fs::read(&kubeadm).unwrap(), program.as_bytes());
        for source in [made.first.as_path(), newer.as_path(), "/nowhere.iso".as_ref()] {
            let (planned, said) = made.boots(source);
            assert!(fits(&planned, &made.bundle, 0), "{source:?}: {planned}");
            assert!(said.contains("warning[DRIFT]: ") && both(&said), "{source:?}: {said}");
        }
        // The ISO of a version that is no older one is the way on.
        let output = made.node.bootstrap(&[&newer.to_string_lossy()]).unwrap().arg("--dry-run").output().unwrap();
        assert_eq!(output.code, 0, "{output:?}");
    }

    // What left its cluster goes to an older one.
    fs::write(&kubeadm, "#!/bin/sh\necho v1.35.0\n").unwrap();
    made.is_no_member();
    let output = made.node.run(&[&made.first.to_string_lossy()]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
}
