//! The rules of `verify`, in the order of `docs/verifying.md`.

use super::Finding;
use crate::finding::Rule;

const REPLACE: &str = "replace the ISO by the original: it was damaged or changed after the build";

/// Every rule. Ids never change.
pub const RULES: &[Rule] = &[
    Rule::error("volume-id", "build the ISO with cks-iso, or with genisoimage -V CDROM: nodes look for that label"),
    Rule::error("volume-size", "replace the ISO by the original: it was cut, or bytes were appended to it"),
    Rule::warning(
        "volume-layout",
        "compare its checksum with what its builder tells: another version of cks-iso made it, or somebody changed it",
    ),
    Rule::error("manifest", "build the ISO with cks-iso build; a stock ISO has no manifest to verify against"),
    Rule::error("manifest-digest", "replace the ISO: its manifest is not the one that was built"),
    Rule::error("signature-missing", "sign the ISO with cks-iso sign, or get the signed one from who built it"),
    Rule::error(
        "signature",
        "do not use this ISO before it is known who signed it; name that key with --key to trust it",
    ),
    Rule::error("entry-missing", REPLACE),
    Rule::error("entry-size", REPLACE),
    Rule::error("entry-digest", REPLACE),
    Rule::error("entry-role", "rebuild the ISO with cks-iso: its manifest gives a file to the wrong nodes"),
    Rule::error("file-mode", "rebuild the ISO from files that everybody may read, or with cks-iso"),
    Rule::error("file-unlisted", "build the ISO with cks-iso build: files must not be added to a finished ISO"),
    Rule::error("member", REPLACE),
    Rule::error("member-missing", "rebuild the ISO with upstream's tarball, or the programs themselves"),
    Rule::error("blob", REPLACE),
    Rule::error("image-list", REPLACE),
    Rule::error("image-archive", "keep nothing but image archives in docker/: nodes import every file there"),
    Rule::error("image-arch", "rebuild the ISO with images for its architecture"),
    Rule::error("elf-arch", "rebuild the ISO with programs for its architecture"),
    Rule::error("manifest-yaml", "replace the file by one that kubectl apply takes; a chart has to be rendered first"),
    Rule::error("image-missing", "add the image to [[images]], under exactly this name: nodes can't download it"),
    Rule::warning("image-unclear", "look at the place, and add the image that it means to [[images]]"),
    Rule::error(
        "pull-policy",
        "write IfNotPresent and a fixed tag, or a node asks the registry for an image that it has",
    ),
    Rule::error(
        "top-level-first",
        "rebuild the ISO with cks-iso: the virtual router's wget needs a file before all directories",
    ),
    Rule::error("one-match", "keep one file per glob: nodes hand all matches to one tar command"),
    Rule::error("name-length", "shorten the name: Joliet cuts it"),
    Rule::error(
        "etcd-name",
        "name the tarball etcd/etcd-linux-amd64.tar.gz: etcd nodes extract no other, on arm64 too",
    ),
    Rule::error("csi-pair", "add manifest.yaml, or leave snapshot-crds.yaml out: control planes copy both or stop"),
    Rule::error(
        "unit",
        "take kubelet.service and 10-kubeadm.conf from upstream: nodes run /usr/bin/kubelet as /opt/bin/kubelet",
    ),
    Rule::warning("stock-lacks", "add it, unless only cks-agent installs from this ISO"),
    Rule::warning("dashboard", "add dashboard.yaml (to 4.22) and headlamp.yaml (4.23): CloudStack waits for its pod"),
    Rule::warning("kubeadm-images", "add the image: kubeadm init wants it, and an offline node can't download it"),
    Rule::warning("sandbox-image", "leave the other pause images out: stock nodes sort their names as text"),
    Rule::warning(
        "name-characters",
        "use letters, digits, '.', '-', '_' and '+': Joliet and shells change or split others",
    ),
    Rule::warning("name-hidden", "rename the file: a web server's index does not list it, so workers don't get it"),
    Rule::error(
        "checksum-file",
        "copy the ISO again together with the files beside it; if they still differ, ask who built it",
    ),
];

/// A finding of `rule`.
#[must_use]
pub fn finding(rule: &'static str, what: impl Into<String>) -> Finding {
    let found = RULES.iter().find(|known| known.id == rule).copied();
    found.unwrap_or(Rule::error(rule, REPLACE)).finding(what)
}
