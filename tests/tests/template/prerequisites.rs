//! Each prerequisite is taken away from a good root: `check` names it and nothing else, `prepare` mends it and nothing else.

use std::collections::BTreeSet;
use std::fs;

use cks_tests::root::Root;

use super::{edits, findings, prepared};

/// What is taken away, by lines of a shell in the root; and the items that depend on it.
const TAKEN: &[(&str, &[&str])] = &[
    ("dpkg --force-depends --remove software-properties-common", &["package-software-properties-common"]),
    ("dpkg --remove containerd.io", &["package-containerd-io"]),
    ("dpkg --force-depends --remove lsb-release", &["package-lsb-release"]),
    ("dpkg --force-depends --remove python3-jinja2", &["package-python3-jinja2"]),
    ("dpkg --force-depends --remove conntrack", &["package-conntrack", "program-conntrack"]),
    ("rm /usr/bin/scp", &["program-scp"]),
    ("rm /usr/bin/socat", &["program-socat"]),
    ("chmod 644 /usr/bin/wget", &["program-wget"]),
    ("rm /usr/sbin/qemu-ga", &["program-qemu-ga"]),
    ("rm /usr/bin/curl", &["program-curl"]),
    ("userdel cloud", &["cloud-user", "cloud-home", "cloud-ssh", "cloud-authorized-keys"]),
    ("usermod --shell /usr/sbin/nologin cloud", &["cloud-user"]),
    ("chown root /home/cloud", &["cloud-home"]),
    ("rm -r /home/cloud", &["cloud-home", "cloud-ssh", "cloud-authorized-keys"]),
    ("chmod 755 /home/cloud/.ssh", &["cloud-ssh"]),
    ("rm /home/cloud/.ssh/authorized_keys", &["cloud-authorized-keys"]),
    ("chmod 644 /home/cloud/.ssh/authorized_keys", &["cloud-authorized-keys"]),
    ("rm /etc/sudoers.d/90-cks-cloud", &["cloud-sudo"]),
    ("chmod 644 /etc/sudoers.d/90-cks-cloud", &["cloud-sudo"]),
    ("sed -i /includedir/d /etc/sudoers", &["sudoers"]),
    ("echo true >/home/cloud/success", &["success-marker"]),
    ("rmdir /opt/bin", &["opt-bin"]),
    ("rmdir /var/cache/cloud", &["var-cache-cloud"]),
    ("rmdir /etc/cks-agent/keys", &["trusted-keys"]),
    ("sed -i /localhost/d /etc/hosts", &["hosts"]),
    ("rm /etc/containerd/cks.toml", &["containerd-config"]),
    ("rm /etc/containerd/config.toml", &["containerd-config"]),
    (
        "sed -i 's/SystemdCgroup = true/SystemdCgroup = false/' /etc/containerd/conf.d/50-cks.toml",
        &["containerd-settings"],
    ),
    ("rm /etc/systemd/system/containerd.service.d/50-cks.conf", &["containerd-service"]),
    ("systemctl mask containerd", &["containerd-unit"]),
    ("rm /etc/cloud/cloud.cfg.d/99-cks.cfg", &["cloud-init-datasources"]),
    ("printf 'datasource_list:\\n  - Ec2\\nx: 1\\n' >/etc/cloud/cloud.cfg.d/99-site.cfg", &["cloud-init-datasources"]),
    ("rm /etc/cloud/ds-identify.cfg", &["cloud-init-policy"]),
    ("touch /etc/cloud/cloud-init.disabled", &["cloud-init-not-disabled"]),
    ("systemctl disable cloud-final", &["cloud-init-units"]),
    ("rm /etc/modules-load.d/cks.conf", &["modules-load"]),
    ("sed -i s/ip_vs_rr/#ip_vs_rr/ /etc/modules-load.d/cks-proxy.conf", &["modules-load-proxy"]),
    ("rm /etc/sysctl.d/90-cks.conf", &["sysctl"]),
    ("echo net.ipv4.ip_forward=0 >>/etc/sysctl.conf", &["sysctl"]),
    ("rm /etc/sysctl.conf", &["sysctl-conf"]),
    ("echo '/swap.img none swap sw 0 0' >>/etc/fstab", &["fstab-swap"]),
    ("rm /etc/ssh/sshd_config.d/00-cks.conf", &["ssh-algorithms"]),
    ("sed -i /Include/d /etc/ssh/sshd_config", &["ssh-algorithms"]),
    ("rm /etc/systemd/system/cks-ssh-host-keys.service", &["ssh-host-keys"]),
    ("systemctl disable ssh", &["ssh-unit"]),
    ("systemctl mask qemu-guest-agent", &["guest-agent-unit"]),
    ("mkdir -p /etc/sysconfig; echo 'BLACKLIST_RPC=guest-exec' >/etc/sysconfig/qemu-ga", &["guest-agent-commands"]),
    ("systemctl disable chrony", &["time-service"]),
    ("systemctl disable cks-bootstrap", &["agent-units"]),
    ("sed -i 's/myhostname//;s/resolve//' /etc/nsswitch.conf", &["name-service"]),
];

#[test]
fn what_is_taken_away_is_named_and_mended() {
    let root = prepared();
    assert_eq!(findings(&root), BTreeSet::new(), "a prepared root lacks nothing");
    assert!(edits(&root.document("prepare", &[]).unwrap()).is_empty(), "a second run has nothing to do");
    for (taken, names) in TAKEN {
        root.sh(taken).unwrap();
        let named: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(findings(&root), named, "check, after {taken}");
        let document = root.document("prepare", &[]).unwrap();
        let edited: BTreeSet<String> = edits(&document).into_iter().map(str::to_owned).collect();
        assert!(!edited.is_empty() && edited.is_subset(&named), "prepare after {taken}: {document:#}");
        assert_eq!(findings(&root), BTreeSet::new(), "check again, after {taken}: {document:#}");
    }
}

#[test]
fn what_an_operator_wrote_is_kept_beside_it() {
    let root = prepared();
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    root.sh("printf '# mine\\nUUID=1 / ext4 defaults 0 1\\n/s none swap sw 0 0\\n' >/etc/fstab; echo mine >/etc/cloud/ds-identify.cfg")
        .unwrap();
    let before = read("etc/fstab");
    let dry = root.agent("prepare", &["--dry-run"]).unwrap();
    assert_eq!(dry.code, 0);
    assert!(
        dry.stdout.contains("-/s none swap sw 0 0\n") && dry.stdout.contains("+# left out by cks-agent: /s none"),
        "{}",
        dry.stdout
    );
    assert_eq!(read("etc/fstab"), before, "a dry run changes nothing");
    let document = root.document("prepare", &["--skip", "cloud-init-policy"]).unwrap();
    assert_eq!(edits(&document), ["fstab-swap"]);
    assert_eq!(read("etc/fstab.cks-before"), before);
    assert_eq!(read("etc/fstab"), "# mine\nUUID=1 / ext4 defaults 0 1\n# left out by cks-agent: /s none swap sw 0 0\n");
    assert_eq!(read("etc/cloud/ds-identify.cfg"), "mine\n", "left out as told");
    let refused = root.agent("check", &["--only", "no-such-item"]).unwrap();
    assert!(refused.code == 78 && refused.stderr.contains("CONFIG_INVALID") && refused.stderr.contains("fstab-swap"));
    let one = root.document("check", &["--only", "cloud-init-policy"]).unwrap();
    assert_eq!(one["failed"], 1);
}

#[test]
fn a_killed_prepare_is_gone_on_with() {
    let root = Root::new("bookworm-node").unwrap();
    root.install_agent().unwrap();
    root.sh("dpkg --force-depends --remove socat ethtool conntrack").unwrap();
    for moment in ["0.2", "0.6", "1.5", "2.5"] {
        root.killed("prepare", moment).unwrap();
    }
    let output = root.agent("prepare", &[]).unwrap();
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    assert_eq!(findings(&root), BTreeSet::new());
    let left = ["usr/sbin/policy-rc.d", "var/cache/cks-agent/packages", "etc/fstab.cks-before"];
    assert!(left.iter().all(|path| !root.path().join(path).exists()), "nothing is left of the killed runs");
    assert!(root.path().join("etc/resolv.conf").is_symlink());
}
