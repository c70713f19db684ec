//! What is sealed is nobody yet, and lacks nothing.

use std::collections::BTreeSet;
use std::fs;

use super::{edits, findings, prepared};

/// What a machine gathers while it is set up.
const USED: &str = "
systemd-machine-id-setup >/dev/null 2>&1
echo worker-7 >/etc/hostname
mkdir -p /var/lib/cloud/seed/nocloud; touch /var/lib/cloud/seed/nocloud/user-data
mkdir -p /var/lib/cloud/instances/i-1 /var/log/journal/x /var/lib/dhcp /var/lib/systemd
echo x >/var/lib/cloud/instances/i-1/user-data.txt
ln -s /var/lib/cloud/instances/i-1 /var/lib/cloud/instance
echo x | tee /var/log/journal/x/system.journal /var/log/syslog /var/log/syslog.1 /var/log/dpkg.log.2.gz >/dev/null
echo x | tee /var/lib/dhcp/dhclient.leases /var/lib/systemd/random-seed /root/.bash_history /home/cloud/.bash_history >/dev/null
echo true >/home/cloud/success
mkdir -p /root/.ssh /var/lib/cks-agent
echo 'ssh-ed25519 AAAA builder' | tee /root/.ssh/authorized_keys >>/home/cloud/.ssh/authorized_keys
echo x >/var/lib/cks-agent/status
mkdir -p /tmp/packer; touch /tmp/packer/script
";

#[test]
fn a_sealed_root_is_nobody_yet_and_lacks_nothing() {
    let root = prepared();
    root.sh(USED).unwrap();
    let key = root.path().join("tmp/management.pub");
    fs::write(&key, "ssh-rsa BBBB management\n").unwrap();
    let document = root.document("prepare", &["--authorized-keys", key.to_str().unwrap()]).unwrap();
    assert_eq!(edits(&document), ["cloud-authorized-keys", "cloud-authorized-keys", "success-marker"]);
    root.sh("echo true >/home/cloud/success").unwrap();
    let dry = root.document("seal", &["--dry-run"]).unwrap();
    assert!(root.path().join("home/cloud/success").exists(), "a dry run changes nothing");
    let sealed = root.document("seal", &[]).unwrap();
    assert_eq!(dry["steps"], sealed["steps"]);
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    let gone = [
        "home/cloud/success",
        "var/lib/cloud/instance",
        "var/lib/cloud/instances/i-1",
        "var/log/syslog.1",
        "var/log/dpkg.log.2.gz",
        "var/log/journal/x",
        "var/lib/dhcp/dhclient.leases",
        "var/lib/systemd/random-seed",
        "root/.bash_history",
        "home/cloud/.bash_history",
        "var/lib/cks-agent/status",
        "tmp/packer",
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
    ];
    for path in gone {
        assert!(root.path().join(path).symlink_metadata().is_err(), "{path} is still there");
    }
    assert_eq!(
        (read("etc/machine-id").as_str(), read("etc/hostname").as_str(), read("var/log/syslog").as_str()),
        ("", "localhost\n", "")
    );
    assert!(root.path().join("var/lib/cloud/seed/nocloud/user-data").exists(), "a seed is the operator's");
    assert_eq!(read("root/.ssh/authorized_keys"), "");
    assert_eq!(
        read("home/cloud/.ssh/authorized_keys"),
        "ssh-rsa BBBB management\n",
        "the management server's key stays"
    );
    assert_eq!(findings(&root), BTreeSet::new(), "a sealed root lacks nothing");
    let again = root.document("seal", &[]).unwrap();
    assert_eq!(again["steps"].as_array().unwrap().len(), 0, "a second run has nothing to do: {again:#}");
    // Packages can be installed in it, and sshd gets its keys, as at its first boot.
    root.sh("ssh-keygen -A >/dev/null; mkdir -p /run/sshd; sshd -t").unwrap();
}

#[test]
fn a_node_of_a_cluster_is_not_sealed() {
    let root = prepared();
    for sign in ["/etc/kubernetes/kubelet.conf", "/etc/kubernetes/admin.conf", "/var/lib/etcd/member"] {
        root.sh(&format!("mkdir -p {sign}")).unwrap();
        let output = root.agent("seal", &[]).unwrap();
        assert!(output.code == 78 && output.stderr.contains("error[ALREADY_MEMBER]"), "{sign}: {}", output.stderr);
        assert!(output.stderr.contains(sign), "{sign}: {}", output.stderr);
        assert!(root.path().join("etc/ssh/ssh_host_rsa_key").exists());
        root.sh(&format!("rmdir {sign}")).unwrap();
    }
}
