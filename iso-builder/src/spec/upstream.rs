//! Where upstream publishes what a spec names by its version alone.

use bootstrap::bundle::Arch;

use super::source::Input;

/// Where Kubernetes' images come from, unless the spec says otherwise.
pub const IMAGE_REGISTRY: &str = "registry.k8s.io";

const KUBERNETES: &str = "https://dl.k8s.io/release";
const CNI_PLUGINS: &str = "https://github.com/containernetworking/plugins/releases/download";
const CRI_TOOLS: &str = "https://github.com/kubernetes-sigs/cri-tools/releases/download";
const ETCD: &str = "https://github.com/etcd-io/etcd/releases/download";
const SOURCE: &str = "https://raw.githubusercontent.com/kubernetes/kubernetes";

/// A program of Kubernetes: `name` is `kubeadm`, `kubelet` or `kubectl`.
#[must_use]
pub fn kubernetes(name: &str, version: &str, arch: Arch) -> Input {
    let url = format!("{KUBERNETES}/v{}/bin/linux/{arch}/{name}", bare(version));
    let checksum = format!("{url}.sha256");
    Input::published(url, checksum)
}

/// The tarball of the component `key` (`cni-plugins`, `cri-tools`, `etcd`).
#[must_use]
pub fn tarball(key: &str, version: &str, arch: Arch) -> Input {
    let v = bare(version);
    let url = match key {
        "cni-plugins" => format!("{CNI_PLUGINS}/v{v}/cni-plugins-linux-{arch}-v{v}.tgz"),
        "cri-tools" => format!("{CRI_TOOLS}/v{v}/crictl-v{v}-linux-{arch}.tar.gz"),
        _ => format!("{ETCD}/v{v}/etcd-v{v}-linux-{arch}.tar.gz"),
    };
    let checksum = match key {
        "cni-plugins" | "cri-tools" => format!("{url}.sha256"),
        _ => format!("{ETCD}/v{v}/SHA256SUMS"),
    };
    Input::published(url, checksum)
}

/// The source of kubeadm that names the images it wants.
#[must_use]
pub fn constants(version: &str) -> Input {
    let url = format!("{SOURCE}/v{}/cmd/kubeadm/app/constants/constants.go", bare(version));
    Input { url: Some(url), ..Input::default() }
}

/// A version without its `v`.
#[must_use]
pub fn bare(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}
