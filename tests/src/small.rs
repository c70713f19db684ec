//! The content of a small CKS ISO: every program is `pause`, so that a test of a hundred installations
//! takes seconds. What is installed from it is never run.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bootstrap::bundle::Arch;

use crate::components::{Components, KUBERNETES};
use crate::images::{self, Format, Image};
use crate::process::Command;
use crate::tarball::{Tarball, gzip, save};
use crate::{programs, spec};

/// Where `e_machine` lies in an ELF file.
const E_MACHINE: usize = 18;

/// References of the images: of every node, and of control planes alone.
pub const SANDBOX: &str = "registry.k8s.io/pause:3.10";
/// An image that workers run, too.
pub const APPLICATION: &str = "quay.io/example/app:v1.2";
/// An image that only control planes run.
pub const CONTROL_PLANE: &str = "registry.k8s.io/kube-apiserver:v1.34.0";

/// Fills `directory` in the stock layout for machines of `arch`; the images are always for this one, and
/// left out for another.
///
/// # Errors
/// Without a C compiler.
pub fn components(directory: &Path, arch: Arch) -> Result<Components> {
    let sandbox = images::pause(SANDBOX)?;
    let program = |name: &str| program_for(&sandbox, arch, name);
    let put = |path: &str, bytes: Vec<u8>| save(&directory.join(path), &bytes);
    let top = format!("etcd-v3.5.21-linux-{arch}");
    let etcd = Tarball::default()
        .directory(&format!("{top}/"))
        .file(&format!("{top}/README.md"), 0o644, "# etcd")
        .file(&format!("{top}/etcd"), 0o755, program("etcd")?)
        .file(&format!("{top}/etcdctl"), 0o755, program("etcdctl")?);
    put("etcd/etcd-linux-amd64.tar.gz", gzip(&etcd.finish()?)?)?;
    let plugins = Tarball::default().directory("./");
    let plugins = plugins.file("./bridge", 0o755, program("bridge")?).file("./loopback", 0o755, program("loopback")?);
    put(&format!("cni/cni-plugins-{arch}.tgz"), gzip(&plugins.finish()?)?)?;
    let crictl = Tarball::default().file("crictl", 0o755, program("crictl")?);
    put(&format!("cri-tools/crictl-linux-{arch}.tar.gz"), gzip(&crictl.finish()?)?)?;
    for name in KUBERNETES {
        put(&format!("k8s/{name}"), program(name)?)?;
    }
    for name in ["kubelet.service", "10-kubeadm.conf", "network.yaml", "dashboard.yaml"] {
        put(name, fs::read(programs::fixture(name)).with_context(|| format!("Reading the fixture {name}"))?)?;
    }
    let own = Arch::parse(std::env::consts::ARCH) == Some(arch);
    let images = [
        (sandbox, Format::DockerSave),
        (images::incompressible(APPLICATION, 1 << 20, 1)?, Format::CtrExport),
        (images::incompressible(CONTROL_PLANE, 3 << 20, 2)?, Format::CtrExport),
    ];
    let mut archives = Vec::new();
    for (image, format) in images.iter().filter(|_| own) {
        image.archive(*format, &directory.join("docker"))?;
        archives.push(format!("docker/{}", image.file_name()));
    }
    Ok(Components {
        directory: directory.to_owned(),
        arch,
        kubernetes: Some("v1.34.0".to_owned()),
        etcd: "3.5.21".to_owned(),
        cni_plugins: "1.6.2".to_owned(),
        cri_tools: "1.34.0".to_owned(),
        archives,
    })
}

/// `pause` with `name` behind it, so that no two programs are the same, and the machine of `arch`.
pub(crate) fn program_for(pause: &Image, arch: Arch, name: &str) -> Result<Vec<u8>> {
    let layer = pause.layers.first().context("pause has no layer")?;
    let mut archive = tar::Archive::new(layer.as_slice());
    let mut entry = archive.entries()?.next().context("pause has an empty layer")??;
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).context("Reading pause")?;
    bytes
        .get_mut(E_MACHINE..E_MACHINE + 2)
        .context("pause is no program")?
        .copy_from_slice(&arch.elf_machine().to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    Ok(bytes)
}

/// `cks-iso build` of components; gives the ISO, which lies beside their directory.
///
/// # Errors
/// When it refuses them.
pub fn build(components: &Components, name: &str) -> Result<PathBuf> {
    let iso = components.directory.with_extension("iso");
    let spec = spec::write(components, name)?;
    Command::new(programs::built("cks-iso")?).arg("build").arg(&spec).arg("-o").arg(&iso).ok()?;
    fs::remove_file(&spec).with_context(|| format!("Removing {}", spec.display()))?;
    Ok(iso)
}

/// The ISO of a directory as `create-kubernetes-binaries-iso.sh` makes it: no manifest, and the label
/// `label` (`CDROM`, as mkisofs gives without one).
///
/// # Errors
/// When genisoimage refuses it.
pub fn stock_iso(directory: &Path, label: &str) -> Result<PathBuf> {
    let iso = directory.with_extension("stock.iso");
    let genisoimage = Command::new("genisoimage").args(["-quiet", "-J", "-R", "-l", "-V", label, "-o"]);
    genisoimage.arg(&iso).arg(directory).ok()?;
    Ok(iso)
}
