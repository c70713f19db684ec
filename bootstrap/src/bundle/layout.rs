//! The stock layout of a CKS ISO: which path is what, and who takes it (CloudStack 4.14 … 4.23,
//! `setup-kube-system`, `upgrade-kubernetes.sh`, `setup-etcd-node`).

use std::collections::BTreeSet;

use super::reference::is_domain_place;
use super::{Arch, Kind, Role};

/// What the file at `path` is for.
#[must_use]
pub fn kind_of(path: &str) -> Kind {
    match path.split_once('/') {
        None if path == "kubelet.service" => Kind::KubeletUnit,
        None if path == "10-kubeadm.conf" => Kind::KubeletDropIn,
        None if path.ends_with(".yaml") => Kind::ClusterManifest,
        Some(("k8s", "kubeadm" | "kubelet" | "kubectl")) => Kind::Kubernetes,
        Some(("cni", name)) if name.starts_with("cni-plugins-") && name.ends_with("64.tgz") => Kind::CniPlugins,
        Some(("cri-tools", name)) if name.starts_with("crictl-linux-") && name.ends_with("64.tar.gz") => Kind::CriTools,
        Some(("etcd", name)) if name.starts_with("etcd-linux-") && name.ends_with(".tar.gz") => Kind::Etcd,
        Some(("docker", name)) if !name.contains('/') => Kind::ImageArchive,
        _ => Kind::Other,
    }
}

/// The roles that take a file of this kind. An image archive is taken by every role that imports one
/// of its images; which images those are is told per image.
#[must_use]
pub fn roles_of(kind: Kind) -> BTreeSet<Role> {
    let roles: &[Role] = match kind {
        Kind::Kubernetes
        | Kind::CniPlugins
        | Kind::CriTools
        | Kind::ImageArchive
        | Kind::KubeletUnit
        | Kind::KubeletDropIn => &[Role::ControlPlane, Role::Worker],
        Kind::Etcd => &[Role::Etcd],
        Kind::ClusterManifest => &[Role::ControlPlane],
        Kind::Other => &[],
    };
    roles.iter().copied().collect()
}

/// The roles that import the image `reference`: the static pods of a control plane run nowhere else.
#[must_use]
pub fn roles_of_image(reference: &str) -> BTreeSet<Role> {
    let control_plane_only =
        matches!(repository_name(reference), "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" | "etcd");
    let roles: &[Role] = if control_plane_only { &[Role::ControlPlane] } else { &[Role::ControlPlane, Role::Worker] };
    roles.iter().copied().collect()
}

/// Whether a node waits for this image before it joins its cluster and is ready: the sandbox, what kubeadm
/// starts on every node, and the agents of the network plugins, by the names of upstream.
#[must_use]
pub fn is_critical(reference: &str) -> bool {
    match repository_name(reference) {
        "pause" | "kube-proxy" | "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" | "etcd" => true,
        "node" | "cni" | "pod2daemon-flexvol" => reference.contains("/calico/"),
        "cilium" | "cilium-envoy" => reference.contains("/cilium/"),
        "flannel" | "flannel-cni-plugin" | "weave-kube" | "weave-npc" | "kube-router" | "antrea-agent-ubuntu" => true,
        _ => false,
    }
}

/// The last path component of a reference, without tag and digest: `pause` of `registry.k8s.io/pause:3.10`.
#[must_use]
pub fn repository_name(reference: &str) -> &str {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let name = name.split('@').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name)
}

/// The tag of a reference: `3.10` of `registry.k8s.io/pause:3.10`; none where there is only a digest.
#[must_use]
pub fn tag(reference: &str) -> Option<&str> {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let name = name.split('@').next().unwrap_or(name);
    name.split_once(':').map(|(_, tag)| tag)
}

/// The sandbox image among `references`: the `pause` with the highest version, compared by numbers
/// (the stock script sorts as text and takes 3.9 over 3.10).
#[must_use]
pub fn sandbox_image<'a>(references: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let version = |reference: &&str| -> Vec<u64> {
        let tag = tag(reference).unwrap_or_default().trim_start_matches('v');
        tag.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    references.into_iter().filter(|reference| repository_name(reference) == "pause").max_by_key(version)
}

/// A reference as Docker normalises it: `busybox` → `docker.io/library/busybox:latest`.
#[must_use]
pub fn normalise_reference(reference: &str) -> String {
    let (host, rest) = match reference.split_once('/') {
        Some((first, rest)) if is_domain_place(first) => (first, rest),
        _ => ("docker.io", reference),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let library = if host == "docker.io" && !rest.contains('/') { "library/" } else { "" };
    let named = tag(rest).is_some() || rest.contains('@');
    format!("{host}/{library}{rest}{}", if named { "" } else { ":latest" })
}

/// The architecture that the names of the stock layout tell: `cni-plugins-linux-arm64.tgz`. The etcd
/// tarball does not count: it has the amd64 name on every ISO.
#[must_use]
pub fn arch_of_path(path: &str) -> Option<Arch> {
    match kind_of(path) {
        Kind::CniPlugins | Kind::CriTools => {
            [Arch::Amd64, Arch::Arm64].into_iter().find(|arch| path.contains(&format!("-{arch}.")))
        }
        _ => None,
    }
}

/// Accepts a relative path that stays where it is put; the error says what is wrong with another.
///
/// # Errors
/// The reason, to be put behind the path: `is absolute`.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.contains(|c: char| c.is_control() || c == '\\') {
        return Err("has a character that no file name here may have");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("leads out of its directory");
    }
    if path.split('/').any(|part| part.is_empty() || part == ".") {
        return Err("is not in its shortest form");
    }
    Ok(())
}

/// Accepts an image reference that can be written into any configuration file as it is.
///
/// # Errors
/// The reason, to be put behind the reference.
pub fn check_reference(reference: &str) -> Result<(), &'static str> {
    if reference.is_empty() || reference.len() > 512 {
        return Err("is empty or longer than 512 bytes");
    }
    if !reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte)) {
        return Err("has a character that no image reference may have");
    }
    Ok(())
}

/// Whether a link at `path` of an archive stays inside it. A symbolic link's target is seen from the
/// link's directory, a hard link's from the top: give `path` as empty for one.
#[must_use]
pub fn link_stays_inside(path: &str, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') {
        return false;
    }
    let mut depth = path.split('/').filter(|part| !part.is_empty()).count().saturating_sub(1);
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_waits_for_its_sandbox_its_proxy_and_its_network() {
        for (reference, critical) in [
            ("registry.k8s.io/pause:3.10", true),
            ("registry.k8s.io/kube-proxy:v1.33.1", true),
            ("docker.io/calico/node:v3.28.0", true),
            ("docker.io/calico/kube-controllers:v3.28.0", false),
            ("docker.io/example/node:20", false),
            ("quay.io/cilium/cilium:v1.17.4", true),
            ("registry.k8s.io/coredns/coredns:v1.12.0", false),
        ] {
            assert_eq!(is_critical(reference), critical, "{reference}");
        }
    }

    #[test]
    fn stock_paths_have_their_kind() {
        for (path, kind) in [
            ("k8s/kubelet", Kind::Kubernetes),
            ("k8s/LICENSE", Kind::Other),
            ("cni/cni-plugins-amd64.tgz", Kind::CniPlugins),
            ("cni/cni-plugins-linux-arm64.tgz", Kind::CniPlugins),
            ("cri-tools/crictl-linux-amd64.tar.gz", Kind::CriTools),
            ("etcd/etcd-linux-amd64.tar.gz", Kind::Etcd),
            ("docker/pause:3.10.tar", Kind::ImageArchive),
            ("docker/a/b", Kind::Other),
            ("kubelet.service", Kind::KubeletUnit),
            ("10-kubeadm.conf", Kind::KubeletDropIn),
            ("network.yaml", Kind::ClusterManifest),
            ("cks-bundle.json", Kind::Other),
        ] {
            assert_eq!(kind_of(path), kind, "{path}");
        }
    }

    #[test]
    fn a_worker_leaves_control_plane_images_out() {
        for (reference, worker) in [
            ("registry.k8s.io/kube-apiserver:v1.33.1", false),
            ("registry.k8s.io/etcd:3.5.21-0", false),
            ("registry.k8s.io/kube-proxy:v1.33.1", true),
            ("localhost:5000/kube-scheduler:v1@sha256:00", false),
        ] {
            assert_eq!(roles_of_image(reference).contains(&Role::Worker), worker, "{reference}");
        }
    }

    #[test]
    fn the_sandbox_image_is_the_highest_version_by_numbers() {
        let all = ["registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.10", "quay.io/calico/node:v3.28.0"];
        assert_eq!(sandbox_image(all), Some("registry.k8s.io/pause:3.10"));
        assert_eq!(sandbox_image(["a/pauses:1"]), None);
    }

    #[test]
    fn references_are_normalised_as_docker_does() {
        for (given, want) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("calico/node:v3", "docker.io/calico/node:v3"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("quay.io/a/b@sha256:00", "quay.io/a/b@sha256:00"),
            ("index.docker.io/library/a:1", "docker.io/library/a:1"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox:1", "docker.io/library/busybox:1"),
            ("docker.io/calico/node", "docker.io/calico/node:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("busybox@sha256:00", "docker.io/library/busybox@sha256:00"),
            ("a/b:t@sha256:00", "docker.io/a/b:t@sha256:00"),
            ("HOST/x:1", "HOST/x:1"),
        ] {
            assert_eq!(normalise_reference(given), want);
        }
    }

    #[test]
    fn paths_that_leave_their_directory_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\0b", "a\x1b[31mb", "a\\b"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert_eq!(check_path("docker/pause:3.10.tar"), Ok(()));
    }

    #[test]
    fn references_can_be_written_into_toml() {
        for reference in ["", "a\"\nroot = \"/", "a b", "a\x1b"] {
            assert!(check_reference(reference).is_err(), "{reference:?}");
        }
        assert_eq!(check_reference("localhost:5000/a_b/c:v1.2+3@sha256:00"), Ok(()));
    }

    #[test]
    fn links_may_not_leave_their_archive() {
        for (path, target, want) in [
            ("etcdctl", "etcd", true),
            ("a/b/c", "../../d", true),
            ("a/b/c", "../../../d", false),
            ("bridge", "..", false),
            ("a/b", "/etc/passwd", false),
            ("a/b", "c/../../..", false),
            ("", "etc/passwd", true),
            ("", "../etc/passwd", false),
            ("a", "", false),
        ] {
            assert_eq!(link_stays_inside(path, target), want, "{path} → {target}");
        }
    }
}
