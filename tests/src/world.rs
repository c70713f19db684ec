//! Everything that `cks-iso` reaches out for, in one private network: the sites of a Kubernetes release, the
//! manifests of its add-ons, and a registry with all their images for two architectures.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use tempfile::TempDir;

use crate::components::KUBERNETES;
use crate::netns::Netns;
use crate::programs::fixture;
use crate::published::{ARCHES, Layout};
use crate::registry::Registry;
use crate::tarball::{Tarball, gzip};
use crate::upstream::Upstream;
use crate::{images, scratch, small};

/// The version of Kubernetes that is published.
pub const VERSION: &str = "1.33.1";

/// The images that kubeadm of that version wants, by the source of its constants.
pub const KUBERNETES_IMAGES: [&str; 7] = [
    "registry.k8s.io/coredns/coredns:v1.12.0",
    "registry.k8s.io/etcd:3.5.21-0",
    "registry.k8s.io/kube-apiserver:v1.33.1",
    "registry.k8s.io/kube-controller-manager:v1.33.1",
    "registry.k8s.io/kube-proxy:v1.33.1",
    "registry.k8s.io/kube-scheduler:v1.33.1",
    "registry.k8s.io/pause:3.10",
];

/// The images that the network's manifest wants by their tags.
pub const NETWORK_IMAGES: [&str; 2] = ["docker.io/calico/cni:v3.30.3", "docker.io/calico/node:v3.30.3"];
/// One that it names in an environment variable, by tag and digest: [`World::digest_of`] has the latter.
pub const PROXY: &str = "quay.io/example/proxy:v1.2.3";
/// One that it names by its digest alone; the registry has it under this tag.
pub const FLOW: &str = "quay.io/example/flow:untold";
/// The image of the dashboard's manifest.
pub const DASHBOARD: &str = "docker.io/kubernetesui/dashboard:v2.7.0";
/// The image of Headlamp's manifest.
pub const HEADLAMP: &str = "ghcr.io/headlamp-k8s/headlamp:v0.40.1";
/// The images of the CSI driver's manifest.
pub const CSI_IMAGES: [&str; 2] =
    ["ghcr.io/cloudstack/cloudstack-csi-driver:3.0.0", "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.9.0"];

/// What a program of the release weighs, so that a transfer can break in its middle.
const PROGRAM_BYTES: usize = 400 << 10;
const IMAGE_BYTES: usize = 100 << 10;
/// The largest image's layer, one above the buffers of a connection.
const LARGE_BYTES: usize = 3 << 20;
/// The largest image.
pub const LARGE: &str = KUBERNETES_IMAGES[2];

/// The versions of what a release of Kubernetes needs beside itself, without `v`.
pub const CNI_PLUGINS: &str = "1.6.2";
/// crictl's.
pub const CRI_TOOLS: &str = "1.33.0";
/// That of etcd for nodes of its own.
pub const ETCD: &str = "3.5.24";

/// The web sites' names, all of them served by [`World::upstream`].
pub const SITES: [&str; 3] = ["dl.k8s.io", "github.com", "raw.githubusercontent.com"];
/// The registries' names, all of them served by [`World::registry`].
pub const REGISTRIES: [&str; 5] = ["registry.k8s.io", "docker.io", "quay.io", "ghcr.io", "registry.example.org"];

/// The servers.
#[derive(Debug)]
pub struct World {
    /// The web sites.
    pub upstream: Upstream,
    /// The registry.
    pub registry: Registry,
    /// What it holds.
    pub layout: Layout,
    /// Where all of them are.
    pub netns: Netns,
    _directory: TempDir,
}

impl World {
    /// Publishes [`VERSION`] and all that belongs to it. The registry wants TLS and tokens when `guarded`.
    ///
    /// # Errors
    /// When a bed can't be made.
    pub fn new(guarded: bool) -> Result<Self> {
        let (directory, netns) = (scratch("world")?, Netns::new()?);
        let mut layout = Layout::new(&directory.path().join("layout"))?;
        let others = [PROXY, FLOW, DASHBOARD, HEADLAMP];
        let all = KUBERNETES_IMAGES.iter().chain(&NETWORK_IMAGES).chain(&others).chain(&CSI_IMAGES);
        for reference in all {
            layout.add(reference, if *reference == LARGE { LARGE_BYTES } else { IMAGE_BYTES })?;
        }
        let registry = if guarded { Registry::guarded(&netns)? } else { Registry::plain(&netns)? };
        registry.fill(&layout)?;
        let world = Self { upstream: Upstream::start(&netns)?, registry, layout, netns, _directory: directory };
        ARCHES.into_iter().try_for_each(|arch| world.publish(arch))?;
        world.publish_texts()?;
        Ok(world)
    }

    /// What a registry calls the index of an image.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn digest_of(&self, reference: &str) -> Result<Digest> {
        let image = self.layout.images().get(reference);
        image.map(|image| image.index).with_context(|| format!("There is no {reference}"))
    }

    /// A machine's configuration that leads everything here: all sites to [`World::upstream`] and all
    /// registries to the registry at `url`, whose CA is the file `ca`.
    #[must_use]
    pub fn config(&self, url: &str) -> String {
        let mut text = "[mirrors]\n".to_owned();
        for site in SITES {
            text += &format!("\"https://{site}/\" = \"{}/\"\n", Upstream::mirror(site));
        }
        let ca = self.registry.authority.as_ref();
        for host in REGISTRIES {
            text += &format!("\n[registries.\"{host}\"]\nmirror = \"{url}/{host}\"\nfallback = false\n");
            text += &ca.map(|ca| format!("ca = \"{}\"\n", ca.certificate.display())).unwrap_or_default();
        }
        text
    }

    fn publish(&self, arch: Arch) -> Result<()> {
        let pause = images::pause("pause:1")?;
        let program = |name: &str| -> Result<Vec<u8>> {
            let mut bytes = small::program_for(&pause, arch, name)?;
            let seed = u64::from_str_radix(&Digest::of(format!("{name} {arch}").as_bytes()).hex()[..16], 16)?;
            bytes.extend(images::noise(PROGRAM_BYTES, seed));
            Ok(bytes)
        };
        for name in KUBERNETES {
            let path = format!("dl.k8s.io/release/v{VERSION}/bin/linux/{arch}/{name}");
            self.upstream.put_with_digest(&path, program(name)?);
        }
        let plugins = ["bridge", "loopback", "host-local"]
            .iter()
            .try_fold(Tarball::default().directory("./"), |tar, name| -> Result<_> {
                Ok(tar.file(&format!("./{name}"), 0o755, program(name)?))
            })?;
        let path = format!(
            "github.com/containernetworking/plugins/releases/download/v{CNI_PLUGINS}/cni-plugins-linux-{arch}-v{CNI_PLUGINS}.tgz"
        );
        self.upstream.put_with_sum(&path, gzip(&plugins.finish()?)?);
        let crictl = Tarball::default().file("crictl", 0o755, program("crictl")?).finish()?;
        let path = format!(
            "github.com/kubernetes-sigs/cri-tools/releases/download/v{CRI_TOOLS}/crictl-v{CRI_TOOLS}-linux-{arch}.tar.gz"
        );
        self.upstream.put_with_digest(&path, gzip(&crictl)?);
        let top = format!("etcd-v{ETCD}-linux-{arch}");
        let tar = Tarball::default().directory(&format!("{top}/")).file(&format!("{top}/README.md"), 0o644, "# etcd");
        let tar = tar.file(&format!("{top}/etcd"), 0o755, program("etcd")?);
        let tar = tar.file(&format!("{top}/etcdctl"), 0o755, program("etcdctl")?).finish()?;
        let releases = format!("github.com/etcd-io/etcd/releases/download/v{ETCD}");
        let tar = gzip(&tar)?;
        // One file for all of a release's tarballs.
        let sums = self.upstream.file(&format!("{releases}/SHA256SUMS")).unwrap_or_default();
        let sums = format!("{}{}  {top}.tar.gz\n", String::from_utf8_lossy(&sums), Digest::of(&tar).hex());
        self.upstream.put(&format!("{releases}/SHA256SUMS"), sums);
        self.upstream.put(&format!("{releases}/{top}.tar.gz"), tar);
        Ok(())
    }

    fn publish_texts(&self) -> Result<()> {
        let raw = "raw.githubusercontent.com";
        let csi = "github.com/cloudstack/cloudstack-csi-driver/releases/download/v3.0.0";
        let texts = [
            ("constants.go", format!("{raw}/kubernetes/kubernetes/v{VERSION}/cmd/kubeadm/app/constants/constants.go")),
            ("calico.yaml", format!("{raw}/projectcalico/calico/v3.30.3/manifests/calico.yaml")),
            ("recommended.yaml", format!("{raw}/kubernetes/dashboard/v2.7.0/aio/deploy/recommended.yaml")),
            ("kubernetes-headlamp.yaml", format!("{raw}/kubernetes-sigs/headlamp/v0.40.1/kubernetes-headlamp.yaml")),
            ("snapshot-crds.yaml", format!("{csi}/snapshot-crds.yaml")),
            ("manifest.yaml", format!("{csi}/manifest.yaml")),
        ];
        for (name, path) in texts {
            let text = text(&fixture("upstream").join(name))?;
            let text = text.replace("{PROXY}", &self.digest_of(PROXY)?.to_string());
            self.upstream.put(&path, text.replace("{FLOW}", &self.digest_of(FLOW)?.to_string()));
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("Reading {}", path.display()))
}
