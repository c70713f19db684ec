//! A tree of the shape that CKS ISOs have: the programs, the tarballs and eighteen images of Kubernetes
//! 1.33 with Calico and CSI, whose layers share what such images share and shrink as theirs do. The bytes
//! are made up, the same in each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bootstrap::bundle::Arch;
use cks_tests::components::{Components, KUBERNETES};
use cks_tests::images::{Format, Image, noise};
use cks_tests::programs::fixture;
use cks_tests::tarball::{Tarball, gzip, save};

/// MB of the ISO that the sizes below make.
const UNSCALED: u64 = 800;

/// What images stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    None,
    Distroless,
    DistrolessWithRunner,
    Tables,
    Ubi,
    Alpine,
}

/// Reference, base, and sizes of the image's own layers in KB: as in the real ones.
const IMAGES: [(&str, Base, &[usize]); 18] = [
    ("registry.k8s.io/kube-apiserver:v1.33.1", Base::DistrolessWithRunner, &[91_000]),
    ("registry.k8s.io/kube-controller-manager:v1.33.1", Base::DistrolessWithRunner, &[86_000]),
    ("registry.k8s.io/kube-scheduler:v1.33.1", Base::DistrolessWithRunner, &[64_000]),
    ("registry.k8s.io/kube-proxy:v1.33.1", Base::Tables, &[2_000, 67_000]),
    ("registry.k8s.io/etcd:3.5.21-0", Base::Distroless, &[46_000, 60_000, 36_000, 4_000]),
    ("registry.k8s.io/coredns/coredns:v1.12.0", Base::Distroless, &[66_000]),
    ("registry.k8s.io/pause:3.10", Base::None, &[700]),
    ("docker.io/calico/node:v3.28.0", Base::Ubi, &[128_000, 90_000]),
    ("docker.io/calico/cni:v3.28.0", Base::None, &[20_000, 140_000, 45_000]),
    ("docker.io/calico/kube-controllers:v3.28.0", Base::None, &[5_000, 78_000]),
    ("ghcr.io/headlamp-k8s/headlamp:v0.30.0", Base::Alpine, &[40_000, 60_000, 45_000]),
    ("docker.io/apache/cloudstack-kubernetes-provider:v1.1.0", Base::Distroless, &[50_000]),
    ("docker.io/apache/cloudstack-csi-driver:0.6.0", Base::Alpine, &[7_000, 40_000]),
    ("registry.k8s.io/sig-storage/csi-provisioner:v5.2.0", Base::Distroless, &[58_000]),
    ("registry.k8s.io/sig-storage/csi-attacher:v4.8.0", Base::Distroless, &[56_000]),
    ("registry.k8s.io/sig-storage/csi-resizer:v1.13.1", Base::Distroless, &[57_000]),
    ("registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.13.0", Base::Distroless, &[27_000]),
    ("registry.k8s.io/sig-storage/livenessprobe:v2.15.0", Base::Distroless, &[28_000]),
];

/// The inputs of `cks-iso`, and what the stock script would put on its ISO.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The inputs: images as `ctr image export` writes them, one archive each.
    pub(crate) components: Components,
    /// The stock ISO's files: images as `docker save` writes them. The archives have their size, but no
    /// content: nothing reads it.
    pub(crate) stock: PathBuf,
    /// Bytes of the image archives: as `docker save` writes them, and as `ctr image export` does.
    pub(crate) archives: (u64, u64),
}

impl Tree {
    /// Makes both, for an ISO of about `size` MB.
    ///
    /// # Errors
    /// When the disk is full.
    pub(crate) fn make(inputs: &Path, stock: &Path, size: u64) -> Result<Self> {
        let mut maker = Maker { scale: size as f64 / UNSCALED as f64, next: 1 };
        let arch = Arch::parse(std::env::consts::ARCH).context("This architecture has no Kubernetes release")?;
        let mut components = Components {
            directory: inputs.to_owned(),
            arch,
            kubernetes: Some("v1.33.1".to_owned()),
            etcd: "3.5.21".to_owned(),
            cni_plugins: "1.7.1".to_owned(),
            cri_tools: "1.33.0".to_owned(),
            archives: Vec::new(),
        };
        maker.files(inputs, arch)?;
        copy(inputs, stock)?;
        let mut archives = (0, 0);
        let bases = Bases::make(&mut maker)?;
        for (reference, base, sizes) in IMAGES {
            let mut layers = bases.of(base);
            for kilobytes in sizes {
                layers.push(maker.layer(*kilobytes)?);
            }
            let image = Image::new(reference, &["/program"], layers);
            let exported = image.archive(Format::CtrExport, &inputs.join("docker"))?;
            archives.1 += length(&exported)?;
            components.archives.push(format!("docker/{}", image.file_name()));
            let saved = image.archive(Format::DockerSave, &stock.join("docker"))?;
            archives.0 += length(&saved)?;
            hollow(&saved)?;
        }
        Ok(Self { components, stock: stock.to_owned(), archives })
    }
}

/// Makes up content.
struct Maker {
    scale: f64,
    next: u64,
}

impl Maker {
    /// A program of `kilobytes` before scaling: a third of each kilobyte is noise, so it shrinks by gzip as
    /// Go's programs do.
    fn program(&mut self, kilobytes: usize, arch: Arch) -> Vec<u8> {
        const PIECE: usize = 1000;
        const NOISE: usize = 320;
        let pieces = ((kilobytes as f64 * self.scale) as usize).max(1);
        let noise = noise(pieces * NOISE, self.next);
        self.next += 1;
        let mut bytes = Vec::with_capacity(pieces * PIECE);
        for piece in noise.chunks_exact(NOISE) {
            bytes.extend_from_slice(piece);
            let text = b"runtime.gopanic\0sync.(*Mutex).Lock\0reflect.Value.call\0".iter().cycle();
            bytes.extend(text.take(PIECE - NOISE));
        }
        bytes[..18].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0");
        bytes[18..20].copy_from_slice(&arch.elf_machine().to_le_bytes());
        bytes
    }

    fn layer(&mut self, kilobytes: usize) -> Result<Arc<Vec<u8>>> {
        let program = self.program(kilobytes, Arch::Amd64);
        Ok(Arc::new(Tarball::default().file("program", 0o755, program).finish()?))
    }

    /// Everything but the images.
    fn files(&mut self, directory: &Path, arch: Arch) -> Result<()> {
        let put = |path: &str, bytes: Vec<u8>| save(&directory.join(path), &bytes);
        for (name, kilobytes) in KUBERNETES.into_iter().zip([70_000, 77_000, 56_000]) {
            put(&format!("k8s/{name}"), self.program(kilobytes, arch))?;
        }
        let mut plugins = Tarball::default();
        for name in ["bridge", "loopback"].map(str::to_owned).into_iter().chain((0..17).map(|n| format!("plugin{n}"))) {
            plugins = plugins.file(&format!("./{name}"), 0o755, self.program(4_000, arch));
        }
        put(&format!("cni/cni-plugins-{arch}.tgz"), gzip(&plugins.finish()?)?)?;
        let crictl = Tarball::default().file("crictl", 0o755, self.program(58_000, arch));
        put(&format!("cri-tools/crictl-linux-{arch}.tar.gz"), gzip(&crictl.finish()?)?)?;
        let top = format!("etcd-v3.5.21-linux-{arch}");
        let mut etcd = Tarball::default();
        for (name, kilobytes) in [("etcd", 24_000), ("etcdctl", 18_000), ("etcdutl", 16_000)] {
            etcd = etcd.file(&format!("{top}/{name}"), 0o755, self.program(kilobytes, arch));
        }
        put("etcd/etcd-linux-amd64.tar.gz", gzip(&etcd.finish()?)?)?;
        for name in ["kubelet.service", "10-kubeadm.conf", "network.yaml", "dashboard.yaml"] {
            put(name, fs::read(fixture(name)).with_context(|| format!("Reading the fixture {name}"))?)?;
        }
        Ok(())
    }
}

/// The layers that several images have.
struct Bases {
    distroless: Vec<Arc<Vec<u8>>>,
    runner: Arc<Vec<u8>>,
    tables: Arc<Vec<u8>>,
    ubi: Arc<Vec<u8>>,
    alpine: Arc<Vec<u8>>,
}

impl Bases {
    fn make(maker: &mut Maker) -> Result<Self> {
        let distroless = [300, 40, 2_500, 60, 1, 1, 1, 1, 1, 220, 3].into_iter().map(|size| maker.layer(size));
        Ok(Self {
            distroless: distroless.collect::<Result<_>>()?,
            runner: maker.layer(2_000)?,
            tables: maker.layer(25_000)?,
            ubi: maker.layer(110_000)?,
            alpine: maker.layer(17_000)?,
        })
    }

    fn of(&self, base: Base) -> Vec<Arc<Vec<u8>>> {
        match base {
            Base::None => Vec::new(),
            Base::Distroless => self.distroless.clone(),
            Base::DistrolessWithRunner => self.distroless.iter().chain([&self.runner]).cloned().collect(),
            Base::Tables => vec![Arc::clone(&self.tables), Arc::clone(&self.runner)],
            Base::Ubi => vec![Arc::clone(&self.ubi)],
            Base::Alpine => vec![Arc::clone(&self.alpine)],
        }
    }
}

fn length(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("Reading {}", path.display()))?.len())
}

/// Takes the content out of a file and leaves its size.
fn hollow(path: &Path) -> Result<()> {
    let size = length(path)?;
    let file = fs::File::create(path).and_then(|file| file.set_len(size));
    file.with_context(|| format!("Writing {}", path.display()))
}

/// The files below `from` again below `to`, by links.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("Making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("Reading {}", from.display()))? {
        let entry = entry.with_context(|| format!("Reading {}", from.display()))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::hard_link(&path, &to).with_context(|| format!("Linking {}", to.display()))?;
        }
    }
    Ok(())
}
