//! What the management server's scripts say, in all releases from 4.14 on.

use super::script::{Statement, statements};
use super::shown;

/// A script of the server has some ten thousand characters.
const MAX_BYTES: usize = 128 << 10;

/// Commands that do nothing by themselves, or nothing that lasts.
const HARMLESS: [&str; 24] = [
    "[", "[[", "((", ":", "base64", "blkid", "break", "cd", "continue", "eject", "exit", "false", "for", "id", "ls",
    "read", "rmdir", "set", "sleep", "sort", "tail", "tr", "true", "umount",
];

/// Commands that the server's scripts use, each with what its line has to contain: one of these.
const KNOWN: [(&str, &[&str]); 24] = [
    ("sysctl", &["arp_announce=0", "arp_ignore=0", "net.bridge.bridge-nf-call-iptables=1"]),
    (
        "sed",
        &[
            "net.ipv4.conf.",
            "s:/usr/bin:/opt/bin:g",
            "sandbox_image = ",
            "SystemdCgroup = ",
            "io.containerd.grpc.v1.cri\".registry",
            "registry.mirrors",
            "registry.configs",
        ],
    ),
    (
        "export",
        &["PATH=$PATH:/opt/bin", "KUBECONFIG=/etc/kubernetes/admin.conf", "registryConfig=", "registryCredentials="],
    ),
    (
        "mkdir",
        &[
            "ISO_MOUNT_DIR",
            "K8S_CONFIG_SCRIPTS_COPY_DIR",
            "/opt/",
            "/etc/systemd/system/kubelet.service.d",
            "/root/.kube",
            "aux-dwnld",
            "AUX",
        ],
    ),
    ("mount", &["-o ro"]),
    ("tar", &["cni-plugins-", "crictl-linux-", "etcd-linux-", "-C /opt/cni/bin -xz", "-C /opt/bin -xz"]),
    ("cp", &["BINARIES_DIR", "/etc/kubernetes/admin.conf /root/.kube/config"]),
    ("chmod", &["+x {kubeadm,kubelet,kubectl}"]),
    ("chown", &["root:root /opt/cni/bin", "/root/.kube/config"]),
    ("ctr", &["image"]),
    ("docker", &["load"]),
    ("grep", &["pause"]),
    (
        "systemctl",
        &["daemon-reload", "restart containerd", "enable kubelet", "start kubelet", "is-active setup-kube-system"],
    ),
    ("modprobe", &["overlay", "br_netfilter", "ip_vs", "nf_conntrack"]),
    (
        "curl",
        &[
            "https://github.com/",
            "https://storage.googleapis.com/kubernetes-release/",
            "https://dl.k8s.io/",
            "https://raw.githubusercontent.com/kubernetes/",
        ],
    ),
    ("wget", &["/cks-iso"]),
    ("mv", &["/cks-iso/", "aux-dwnld", "AUX", "/opt/bin/etcd*/etcd*"]),
    ("rm", &["K8S_CONFIG_SCRIPTS_COPY_DIR", "aux-dwnld", "AUX", "/opt/bin/etcd-*"]),
    ("kubeadm", &["init", "join", "config images pull"]),
    (
        "kubectl",
        &[
            "network.yaml",
            "dashboard.yaml",
            "headlamp.yaml",
            "https://cloud.weave.works/",
            "kubernetes/dashboard/",
            "--user=admin",
            "kubernetes-dashboard-ui",
            "headlamp",
            "version",
        ],
    ),
    ("touch", &["/home/cloud/success", "/home/core/success"]),
    ("containerd", &["config default > /etc/containerd/config.toml"]),
    ("echo", &[""]),
    ("cat", &["/home/cloud/success"]),
];

/// What the server's scripts write by `echo`.
const WRITTEN: [&str; 4] = [
    "echo KUBELET_EXTRA_ARGS=--cgroup-driver=systemd > /etc/default/kubelet",
    "echo export PATH=$PATH:/opt/bin >> /root/.bashrc",
    "echo true > /home/cloud/success",
    "echo true > /home/core/success",
];

/// What kubeadm is told by the server, or by templates that say more of what the agent does, too.
const FLAGS: [&str; 15] = [
    "--apiserver-cert-extra-sans",
    "--certificate-key",
    "--config",
    "--control-plane",
    "--control-plane-endpoint",
    "--cri-socket",
    "--discovery-token-ca-cert-hash",
    "--discovery-token-unsafe-skip-ca-verification",
    "--kubernetes-version",
    "--pod-network-cidr",
    "--service-cidr",
    "--skip-phases",
    "--token",
    "--token-ttl",
    "--upload-certs",
];

/// The lines of the server's unit.
const UNIT: [&str; 12] = [
    "[Unit]",
    "[Service]",
    "Requires=containerd.service",
    "After=containerd.service",
    "After=setup-kube-system.service",
    "Requires=docker.service",
    "After=docker.service",
    "Type=simple",
    "StartLimitInterval=0",
    "Restart=on-failure",
    "ExecStart=/opt/bin/deploy-kube-system",
    "",
];

/// Refuses a script that says anything else than the server's; in words, with the line.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes, more than any script of the management server", text.len()));
    }
    let statements = statements(text)?;
    let Some(first) = statements.first() else { return Err("says nothing".to_owned()) };
    if !text.starts_with("#!") || first.line == 1 {
        return Err("is no script of the management server".to_owned());
    }
    match statements.iter().find(|statement| !is_known(statement)) {
        None => Ok(()),
        // The rest of the line may be secret.
        Some(Statement { line, words }) => {
            let word = words.first().map_or("", String::as_str);
            Err(format!("line {line}: {:?} is not what the management server's script says there", shown(word)))
        }
    }
}

/// Whether the unit is the server's.
pub(super) fn is_unit(text: &str) -> bool {
    let known = |line: &str| {
        let line = line.trim();
        let asks = line.strip_prefix("ExecStartPre=/usr/bin/curl -k https://");
        UNIT.contains(&line) || asks.is_some_and(|rest| rest.ends_with("/version") && !rest.contains(' '))
    };
    text.lines().all(known) && text.contains("ExecStart=/opt/bin/deploy-kube-system")
}

fn is_known(statement: &Statement) -> bool {
    let words = &statement.words;
    let word = words.first().map_or("", String::as_str);
    let word = word.strip_prefix("/opt/bin/").unwrap_or(word);
    let text = statement.text();
    let writes = words.iter().any(|word| word.starts_with('>') || word.starts_with("1>"));
    if HARMLESS.contains(&word) {
        // In a test this compares.
        return !writes || word == "((" || word == "[[";
    }
    let Some((_, needles)) = KNOWN.iter().find(|(known, _)| *known == word) else { return false };
    match word {
        "echo" if writes => WRITTEN.contains(&text.as_str()),
        "kubeadm" => needles.iter().any(|needle| text.contains(needle)) && words.iter().all(|word| is_flag(word)),
        _ => needles.iter().any(|needle| text.contains(needle)),
    }
}

/// Whether kubeadm is told nothing else by this word than the server tells it.
fn is_flag(word: &str) -> bool {
    !word.starts_with('-') || FLAGS.contains(&word.split('=').next().unwrap_or(word))
}
