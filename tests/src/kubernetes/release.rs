//! A release of Kubernetes for the bed: an ISO that `cks-iso` built from the pinned programs, and its content as the
//! virtual router serves it. Kept in the cache, by what it is made from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bootstrap::digest::Hasher;
use nix::fcntl::{Flock, FlockArg};

use super::images;
use crate::process::Command;
use crate::programs::{self, fixture};

/// The manifests at the root of the ISO.
const MANIFESTS: [&str; 7] = [
    "network.yaml",
    "dashboard.yaml",
    "headlamp.yaml",
    "provider.yaml",
    "autoscaler.yaml",
    "snapshot-crds.yaml",
    "manifest.yaml",
];

/// A release, ready to be served.
#[derive(Debug, Clone)]
pub struct Release {
    /// `v1.35.4`.
    pub version: String,
    /// The ISO.
    pub iso: PathBuf,
    /// What is on it.
    pub content: PathBuf,
    /// The references of the images on it.
    pub images: Vec<String>,
}

impl Release {
    /// The pinned release of a minor: `1.35`. Made from what has been built before (`tests/tools/build`); some seconds
    /// the first time.
    ///
    /// # Errors
    /// When a tool has not been built; when `cks-iso` refuses the content.
    pub fn get(minor: &str) -> Result<Self> {
        let kubernetes = programs::pinned_built("kubernetes", Some(minor))?;
        let name = kubernetes.file_name().unwrap_or_default().to_string_lossy();
        let version =
            name.strip_prefix("kubernetes-").context("The directory of Kubernetes has no version")?.to_owned();
        let cache = programs::cache()?.join("bed");
        fs::create_dir_all(&cache).with_context(|| format!("Making {}", cache.display()))?;
        let parts =
            kept(&cache, &format!("parts-{version}"), &parts_key()?, |to| make_parts(&kubernetes, &version, to))?;
        let iso_key = key(&[parts.to_string_lossy().as_bytes(), &read(&programs::built("cks-iso")?)?]);
        let made = kept(&cache, &format!("iso-{version}"), &iso_key, |to| make_iso(&parts, &version, to))?;
        let images = fs::read_to_string(parts.join("images")).context("Reading the list of images")?;
        let images = images.lines().map(str::to_owned).collect();
        Ok(Self { version, iso: made.join("k8s.iso"), content: made.join("content"), images })
    }
}

/// What goes into the parts, beside the programs of Kubernetes: these are told by their version.
fn parts_key() -> Result<String> {
    let tools = ["etcd", "coredns", "crictl"].map(|tool| programs::pinned_built(tool, None));
    let tools = tools.into_iter().map(|tool| Ok(tool?.to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    let packages = ["busybox-static", "containernetworking-plugins", "iptables", "nftables", "libc6"];
    let packages = Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}\n"]).args(packages).ok()?;
    let mut texts = vec![tools.join(" ").into_bytes(), packages.into_bytes(), read(&fixture("pause.c"))?];
    texts.extend([include_str!("images.rs"), include_str!("release.rs")].map(|text| text.as_bytes().to_vec()));
    for name in ["kubelet.service", "10-kubeadm.conf"] {
        texts.push(read(&fixture(name))?);
    }
    for name in MANIFESTS {
        texts.push(read(&fixture("kubernetes").join(name))?);
    }
    Ok(key(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

fn key(parts: &[&[u8]]) -> String {
    let mut hasher = Hasher::default();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finish().hex()[..16].to_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("Reading {}", path.display()))
}

/// The directory `NAME-KEY` of the cache, filled by `make` where it isn't there. Older ones of the name go.
fn kept(cache: &Path, name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let finished = cache.join(format!("{name}-{key}"));
    let lock = cache.join(format!(".{name}.lock"));
    let lock = File::create(&lock).with_context(|| format!("Creating {}", lock.display()))?;
    let _held =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("Waiting for another bed")?;
    if finished.is_dir() {
        return Ok(finished);
    }
    let staging = cache.join(format!(".{name}.partial"));
    remove(&staging)?;
    fs::create_dir(&staging).with_context(|| format!("Making {}", staging.display()))?;
    make(&staging)?;
    fs::rename(&staging, &finished).with_context(|| format!("Renaming {}", staging.display()))?;
    let mut others: Vec<PathBuf> = fs::read_dir(cache)?.flatten().map(|entry| entry.path()).collect();
    let mine =
        |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}-")));
    others.retain(|path| mine(path) && path.is_dir());
    others.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).and_then(|meta| meta.modified()).ok()));
    // Another worktree may have its own; two of each do for two of them.
    others.iter().skip(KEPT).try_for_each(|path| remove(path))?;
    Ok(finished)
}

/// How many of a kind stay in the cache.
const KEPT: usize = 3;

fn remove(path: &Path) -> Result<()> {
    Command::new("rm").args(["-rf", "--one-file-system"]).arg(path).ok().map(drop)
}

fn make_parts(kubernetes: &Path, version: &str, to: &Path) -> Result<()> {
    let images = to.join("docker");
    fs::create_dir(&images).with_context(|| format!("Making {}", images.display()))?;
    let references = images::write(kubernetes, version, &images)?;
    fs::write(to.join("images"), references.join("\n")).context("Writing the list of images")?;
    for name in ["kubelet.service", "10-kubeadm.conf"] {
        fs::copy(fixture(name), to.join(name)).with_context(|| format!("Copying {name}"))?;
    }
    for name in MANIFESTS {
        fs::copy(fixture("kubernetes").join(name), to.join(name)).with_context(|| format!("Copying {name}"))?;
    }
    let etcd = programs::pinned_built("etcd", None)?;
    let crictl = programs::pinned_built("crictl", None)?;
    let number = |tool: &Path| {
        let name = tool.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.rsplit("-v").next().unwrap_or_default().to_owned()
    };
    let mut spec = format!("name = \"bed-{version}\"\narch = \"amd64\"\n\n[kubernetes]\nversion = \"{version}\"\n");
    for program in ["kubeadm", "kubelet", "kubectl"] {
        spec += &format!("{program} = {{ file = \"{}\" }}\n", kubernetes.join(program).display());
    }
    let files = |tool: &Path, names: &[&str]| {
        let paths: Vec<String> = names.iter().map(|name| format!("\"{}\"", tool.join(name).display())).collect();
        paths.join(", ")
    };
    spec += &format!(
        "\n[etcd]\nversion = \"{}\"\nfiles = [{}]\n",
        number(&etcd),
        files(&etcd, &["etcd", "etcdctl", "etcdutl"])
    );
    spec += "\n[cni-plugins]\nversion = \"1.1.1\"\ndirectory = \"/usr/lib/cni\"\n";
    spec += &format!("\n[cri-tools]\nversion = \"{}\"\nfiles = [{}]\n", number(&crictl), files(&crictl, &["crictl"]));
    spec += "\n[kubelet]\nunit = { file = \"kubelet.service\" }\ndrop-in = { file = \"10-kubeadm.conf\" }\n";
    for reference in &references {
        let name = reference.rsplit('/').next().unwrap_or_default();
        spec += &format!("\n[[images]]\nfile = \"docker/{name}.tar\"\n");
    }
    spec += "\n[manifests]\n";
    for name in MANIFESTS {
        spec += &format!("\"{name}\" = {{ file = \"{name}\" }}\n");
    }
    fs::write(to.join("spec.toml"), spec).context("Writing a spec")
}

fn make_iso(parts: &Path, version: &str, to: &Path) -> Result<()> {
    let (spec, iso) = (parts.join("spec.toml"), to.join("k8s.iso"));
    let build = Command::new(programs::built("cks-iso")?).arg("build").arg(spec).arg("-o").arg(&iso);
    build.ok().with_context(|| format!("Building the ISO of {version}"))?;
    let content = to.join("content");
    let extract = Command::new("xorriso").args(["-osirrox", "on", "-indev"]).arg(&iso).args(["-extract", "/"]);
    extract.arg(&content).ok().with_context(|| format!("Extracting {}", iso.display()))?;
    Command::new("chmod").args(["-R", "a+rX,u+w"]).arg(&content).ok().map(drop)
}
