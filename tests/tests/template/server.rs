//! What the management server makes of a prepared root.

use std::fs;

use cks_tests::programs;

use super::{findings, prepared};

#[test]
fn the_server_s_own_check_passes_and_tells_what_check_tells() {
    let root = prepared();
    let script = root.path().join("opt/bin/validate-cks-node");
    fs::copy(programs::fixture("validate-cks-node"), &script).unwrap();
    let validate =
        || root.chroot(&["/usr/sbin/runuser", "-u", "cloud", "--", "/opt/bin/validate-cks-node"]).output().unwrap();
    let output = validate();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
    root.sh("dpkg --force-depends --purge gnupg-agent python3-json-pointer").unwrap();
    let output = validate();
    assert_eq!((output.code, output.stdout.trim()), (1, "missing packages: gnupg-agent python3-json-pointer"));
    let named: Vec<String> = findings(&root).into_iter().collect();
    assert_eq!(named, ["package-gnupg-agent", "package-python3-json-pointer"]);
}

/// sshd reads the drop-in, containerd its settings, systemd the unit; and sudo asks nothing and says nothing.
#[test]
fn programs_of_the_root_understand_what_was_written() {
    let root = prepared();
    root.sh(
        "mkdir -p /run/sshd; sshd -t; visudo -c -q; containerd --config /etc/containerd/cks.toml config dump >/dump",
    )
    .unwrap();
    root.sh("containerd config default >/etc/containerd/config.toml").unwrap();
    root.sh("containerd --config /etc/containerd/cks.toml config dump | grep -q 'SystemdCgroup = true'").unwrap();
    let sudo = root.chroot(&["/usr/sbin/runuser", "-u", "cloud", "--", "sudo", "-n", "id", "-u"]).output().unwrap();
    assert_eq!((sudo.code, sudo.stdout.as_str(), sudo.stderr.as_str()), (0, "0\n", ""));
    let verify = root.sh("systemd-analyze verify /etc/systemd/system/cks-ssh-host-keys.service 2>&1").unwrap();
    assert_eq!(verify, "");
    let asked = root.sh("DI_LOG=stderr /usr/lib/cloud-init/ds-identify --force 2>&1").unwrap();
    assert!(asked.contains("\nDSLIST=ConfigDrive CloudStack NoCloud\nMODE=enabled\n"), "{asked}");
}
