//! The content of a CKS ISO, in the stock layout (`create-kubernetes-binaries-iso.sh`, CloudStack 4.21):
//! real programs of the distribution, packed and named as upstream's releases are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bootstrap::bundle::Arch;

use crate::images::{self, Format, Image};
use crate::process::Command;
use crate::programs;
use crate::tarball::{Tarball, gzip, save};

/// Where Debian's containernetworking-plugins lie.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// The Kubernetes programs that a CKS ISO carries.
pub const KUBERNETES: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];

/// A directory in the stock layout.
#[derive(Debug, Clone)]
pub struct Components {
    /// The directory.
    pub directory: PathBuf,
    /// The machine architecture of everything in it: this machine's.
    pub arch: Arch,
    /// Version of Kubernetes with its `v`, where its programs are there.
    pub kubernetes: Option<String>,
    /// Version of etcd, as upstream writes it.
    pub etcd: String,
    /// Version of the CNI plugins.
    pub cni_plugins: String,
    /// Version of crictl.
    pub cri_tools: String,
    /// The image archives, as paths below the directory.
    pub archives: Vec<String>,
}

impl Components {
    /// Fills `directory`: etcd, CNI plugins and three images of the distribution, the pinned crictl, and
    /// kubeadm, kubelet and kubectl out of the directory `kubernetes` where one is given.
    ///
    /// # Errors
    /// When a package is missing or a file can't be written.
    pub fn make(directory: &Path, kubernetes: Option<&Path>) -> Result<Self> {
        let etcd_version = package_version("etcd-server")?;
        let images = [
            (images::pause("registry.k8s.io/pause:3.10")?, Format::DockerSave),
            (images::etcd(&format!("registry.k8s.io/etcd:{etcd_version}-0"))?, Format::CtrExport),
            (images::busybox("docker.io/library/busybox:1.35.0")?, Format::CtrExport),
        ];
        Self::with_images(directory, kubernetes, &images)
    }

    /// As [`Components::make`], with these images.
    ///
    /// # Errors
    /// When a package is missing or a file can't be written.
    pub fn with_images(directory: &Path, kubernetes: Option<&Path>, images: &[(Image, Format)]) -> Result<Self> {
        let arch = Arch::parse(std::env::consts::ARCH).context("This architecture has no Kubernetes release")?;
        let etcd = package_version("etcd-server")?;
        let cni_plugins = package_version("containernetworking-plugins")?;
        let crictl = programs::tool("crictl", None)?.join("crictl");
        let cri_tools = last_word(&Command::new(&crictl).arg("--version").ok()?);

        let put = |path: String, bytes: Vec<u8>| save(&directory.join(path), &bytes);
        // The etcd tarball has the amd64 name on every ISO: setup-etcd-node looks for no other.
        put("etcd/etcd-linux-amd64.tar.gz".to_owned(), gzip(&etcd_tarball(&etcd, arch)?)?)?;
        put(format!("cni/cni-plugins-{arch}.tgz"), gzip(&cni_tarball()?)?)?;
        let tools = Tarball::default().program("crictl", &crictl)?.finish()?;
        put(format!("cri-tools/crictl-linux-{arch}.tar.gz"), gzip(&tools)?)?;
        for name in ["kubelet.service", "10-kubeadm.conf", "network.yaml", "dashboard.yaml"] {
            let text = fs::read(programs::fixture(name)).with_context(|| format!("Reading the fixture {name}"))?;
            put(name.to_owned(), text)?;
        }
        let mut archives = Vec::new();
        for (image, format) in images {
            image.archive(*format, &directory.join("docker"))?;
            archives.push(format!("docker/{}", image.file_name()));
        }
        let kubernetes = kubernetes.map(|from| take_kubernetes(from, &directory.join("k8s"))).transpose()?;
        Ok(Self { directory: directory.to_owned(), arch, kubernetes, etcd, cni_plugins, cri_tools, archives })
    }
}

fn etcd_tarball(version: &str, arch: Arch) -> Result<Vec<u8>> {
    let top = format!("etcd-v{version}-linux-{arch}");
    Tarball::default()
        .directory(&format!("{top}/"))
        .program(&format!("{top}/etcd"), Path::new("/usr/bin/etcd"))?
        .program(&format!("{top}/etcdctl"), Path::new("/usr/bin/etcdctl"))?
        .finish()
}

fn cni_tarball() -> Result<Vec<u8>> {
    let entries = fs::read_dir(CNI_PLUGINS).with_context(|| format!("Reading {CNI_PLUGINS}"))?;
    let mut plugins = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    plugins.sort();
    let tar = plugins.iter().try_fold(Tarball::default().directory("./"), |tar, plugin| {
        let name = plugin.file_name().unwrap_or_default().to_string_lossy();
        tar.program(&format!("./{name}"), plugin)
    })?;
    tar.finish()
}

fn take_kubernetes(from: &Path, to: &Path) -> Result<String> {
    fs::create_dir_all(to).with_context(|| format!("Making {}", to.display()))?;
    for name in KUBERNETES {
        fs::copy(from.join(name), to.join(name)).with_context(|| format!("Copying {}", from.join(name).display()))?;
    }
    Ok(Command::new(from.join("kubeadm")).args(["version", "-o", "short"]).ok()?.trim().to_owned())
}

/// The upstream part of a package's version: `3.4.23` of `3.4.23-4+b4`, `1.1.1` of `1.1.1+ds1-3`.
fn package_version(package: &str) -> Result<String> {
    let told = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).ok()?;
    Ok(told.split(['-', '+', '~']).next().unwrap_or_default().to_owned())
}

fn last_word(text: &str) -> String {
    text.split_whitespace().last().unwrap_or_default().to_owned()
}
