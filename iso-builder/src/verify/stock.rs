//! What the stock scripts of CloudStack 4.14 … 4.23 need of an ISO beyond `bundle::broken_rules`: the
//! names they look for, the names that get lost on the way, the images that kubeadm starts from.

use std::collections::BTreeSet;

use bootstrap::bundle::{Kind, Manifest, layout};
use bootstrap::failure::Failure;

use super::{Finding, finding};
use crate::opened::Opened;
use crate::text;

/// The one etcd tarball that etcd nodes extract (4.21 and later).
const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";

/// A unit file larger than this is none.
const MAX_UNIT: u64 = 1 << 20;

/// What `paths`, all files of a bundle, break.
pub(super) fn paths(paths: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has = |path: &str| paths.contains(&path);
    if !has(ETCD) && paths.iter().any(|path| path.starts_with("etcd/")) {
        findings.push(finding("etcd-name", format!("{ETCD} is not there, though etcd/ is")));
    }
    if has("snapshot-crds.yaml") && !has("manifest.yaml") {
        findings.push(finding("csi-pair", "snapshot-crds.yaml is there without manifest.yaml"));
    }
    for path in paths {
        if let Some(c) = path.chars().find(|c| !is_plain(*c)) {
            findings.push(finding("name-characters", format!("{path} has the character {c:?} in its name")));
        }
        if path.split('/').any(is_hidden) {
            findings.push(finding("name-hidden", format!("{path} is left out of directory listings")));
        }
    }
    findings.extend(lacks(paths));
    findings
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "./-_+@=,~#".contains(c)
}

/// Names that Apache's index leaves out (Debian's `IndexIgnore`), that hide the index, or that the stock
/// `wget -R "index.html*"` throws away.
fn is_hidden(name: &str) -> bool {
    let ends = ["~", "#", ",v", ",t"].into_iter().any(|end| name.ends_with(end));
    ends || name.starts_with('.') || name.starts_with("index.html") || matches!(name, "RCS" | "CVS")
}

/// What nodes with Kubernetes need and `paths` lack; nothing where there is no Kubernetes.
pub(crate) fn lacks(paths: &[&str]) -> Vec<Finding> {
    let kind = |kind| paths.iter().any(|path| layout::kind_of(path) == kind);
    if !kind(Kind::Kubernetes) {
        return Vec::new();
    }
    let has = |path: &str| paths.contains(&path);
    let needed = [
        (has("k8s/kubeadm"), "k8s/kubeadm: nodes can't join without it"),
        (has("k8s/kubelet"), "k8s/kubelet: nothing runs without it"),
        (has("k8s/kubectl"), "k8s/kubectl: CloudStack asks nodes by it"),
        (kind(Kind::CniPlugins), "cni/cni-plugins-*64.tgz: without it no pod gets a network"),
        (kind(Kind::CriTools), "cri-tools/crictl-linux-*64.tar.gz: their scripts unpack it"),
        (kind(Kind::ImageArchive), "docker/: without image archives nodes download what they run"),
        (has("kubelet.service"), "kubelet.service: without it the kubelet does not start"),
        (has("10-kubeadm.conf"), "10-kubeadm.conf: without it the kubelet does not start"),
        (has("network.yaml"), "network.yaml: without it the cluster has no pod network"),
    ];
    let lacking = needed.into_iter().filter(|(there, _)| !there);
    let mut findings: Vec<_> =
        lacking.map(|(_, what)| finding("stock-lacks", format!("stock nodes need {what}"))).collect();
    if !has("dashboard.yaml") && !has("headlamp.yaml") {
        let what = "neither dashboard.yaml nor headlamp.yaml is there: CloudStack waits for a dashboard in vain";
        findings.push(finding("dashboard", what));
    }
    findings
}

/// The kubelet's unit files: texts, and they start what nodes install. Stock nodes write `/opt/bin` for
/// each `/usr/bin` in them.
pub(super) fn units(bundle: &Opened) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for path in ["kubelet.service", "10-kubeadm.conf"] {
        let Some(file) = bundle.file(path) else { continue };
        if file.content.length() > MAX_UNIT {
            findings.push(finding("unit", format!("{path} has {} bytes: no unit file", file.content.length())));
            continue;
        }
        let bytes = file.content.small(MAX_UNIT)?;
        if let Err(failure) = text::check_text(path, &bytes) {
            findings.push(finding("unit", failure.what));
            continue;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        findings.extend(elsewhere(&text).map(|(line, program)| {
            finding("unit", format!("starts {program}, where nodes have no kubelet")).at(path, Some(line))
        }));
    }
    Ok(findings)
}

/// The `ExecStart=` of `text` that starts another program than the kubelet that nodes install.
fn elsewhere(text: &str) -> Option<(usize, String)> {
    let starts = text.lines().enumerate().filter_map(|(at, line)| {
        let program = line.trim().strip_prefix("ExecStart=")?.split_whitespace().next()?;
        Some((at + 1, program.trim_start_matches(['-', '@', ':', '+', '!']).to_owned()))
    });
    starts.into_iter().find(|(_, program)| !matches!(program.as_str(), "/usr/bin/kubelet" | "/opt/bin/kubelet"))
}

/// Whether kubeadm and containerd find their images among `references`, as stock nodes look for them.
pub(super) fn images(paths: &[&str], manifest: Option<&Manifest>, references: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Without any image the ISO was made so; it is told above.
    if !paths.iter().any(|path| layout::kind_of(path) == Kind::Kubernetes) || references.is_empty() {
        return findings;
    }
    let version = manifest.and_then(|manifest| manifest.kubernetes.as_deref());
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        let found = |reference: &String| match version {
            Some(version) => *reference == format!("registry.k8s.io/{name}:{version}"),
            None => layout::repository_name(reference) == name,
        };
        if !references.iter().any(found) {
            let version = version.map(|version| format!(":{version}")).unwrap_or_default();
            findings.push(finding(
                "kubeadm-images",
                format!("no archive in docker/ names registry.k8s.io/{name}{version}"),
            ));
        }
    }
    for name in ["coredns/coredns", "etcd", "pause"] {
        let prefix = format!("registry.k8s.io/{name}:");
        if !references.iter().any(|reference| reference.starts_with(&prefix)) {
            findings.push(finding(
                "kubeadm-images",
                format!("no archive in docker/ names a version of registry.k8s.io/{name}"),
            ));
        }
    }
    let ours = match manifest {
        Some(manifest) => manifest.sandbox_image.as_deref(),
        None => layout::sandbox_image(references.iter().map(String::as_str)),
    };
    // `ctr images ls -q | grep pause | sort | tail -1`: a BTreeSet is sorted as text.
    let stock = references.iter().rfind(|reference| reference.contains("pause")).map(String::as_str);
    if let (Some(ours), Some(stock)) = (ours, stock)
        && ours != stock
    {
        findings.push(finding("sandbox-image", format!("stock nodes take {stock} as sandbox image, not {ours}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_get_lost_are_told() {
        for (path, rule) in [
            ("docker/images.tar", None),
            ("docker/pause:3.10.tar", Some("name-characters")),
            ("docker/a b.tar", Some("name-characters")),
            ("docker/größe", Some("name-characters")),
            (".hidden", Some("name-hidden")),
            ("docker/index.html", Some("name-hidden")),
            ("network.yaml~", Some("name-hidden")),
        ] {
            assert_eq!(paths(&[path]).first().map(|finding| finding.rule), rule, "{path}");
        }
    }

    #[test]
    fn another_kubelet_is_told() {
        for (text, want) in [
            ("[Service]\nExecStart=\nExecStart=/usr/bin/kubelet $ARGS\n", None),
            ("ExecStart=-/opt/bin/kubelet", None),
            ("[Service]\nExecStart=/usr/local/bin/kubelet", Some((2, "/usr/local/bin/kubelet".to_owned()))),
        ] {
            assert_eq!(elsewhere(text), want);
        }
    }

    #[test]
    fn kubeadms_images_are_looked_for() {
        let all = ["kube-apiserver:v1", "kube-controller-manager:v1", "kube-scheduler:v1", "kube-proxy:v1"];
        let more = ["coredns/coredns:v1.12.0", "etcd:3.5.21-0", "pause:3.10"];
        let names: BTreeSet<_> = all.iter().chain(&more).map(|name| format!("registry.k8s.io/{name}")).collect();
        let rules = |names: &BTreeSet<String>| -> Vec<_> {
            images(&["k8s/kubelet"], None, names).into_iter().map(|finding| finding.rule).collect()
        };
        assert_eq!(rules(&names), [""; 0]);
        for name in &names {
            let without = names.iter().filter(|other| *other != name).cloned().collect();
            assert_eq!(rules(&without), ["kubeadm-images"], "{name}");
        }
        let two = names.iter().cloned().chain(["registry.k8s.io/pause:3.9".to_owned()]).collect();
        assert_eq!(rules(&two), ["sandbox-image"]);
    }
}
