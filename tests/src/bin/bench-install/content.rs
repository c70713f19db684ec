//! What is installed: the tree of a stock ISO, made of distribution packages, and our ISOs of the same parts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bootstrap::bundle::{Kind, Manifest, Role};
use cks_tests::process::Command;
use cks_tests::programs;
use clap::ValueEnum;

/// How our ISO holds the images' layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layers {
    /// Upstream's bytes: gzip.
    Upstream,
    /// Recompressed by cks-iso.
    Zstd,
}

impl Layers {
    /// As it is written in a spec.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Zstd => "zstd",
        }
    }
}

/// A tree of ours.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) layers: Layers,
    /// What the ISO holds.
    pub(crate) tree: PathBuf,
    manifest: Manifest,
}

/// Everything that is served.
#[derive(Debug)]
pub(crate) struct Content {
    /// The tree of the stock ISO; it stays in the cache.
    pub(crate) stock: PathBuf,
    /// Ours, those of `wanted` that cks-iso can build.
    pub(crate) ours: Vec<Ours>,
}

impl Content {
    /// Makes the trees; ours below `work`.
    pub(crate) fn make(work: &Path, wanted: &[Layers]) -> Result<Self> {
        eprintln!("bench-install: the tree of a stock ISO, from packages (minutes the first time)");
        let made = Command::new(programs::workspace().join("tests/perf/make")).limit(Duration::from_secs(3600)).ok()?;
        let stock = PathBuf::from(made.trim()).join("stock");
        ensure!(stock.is_dir(), "tests/perf/make names {}, which is no directory", stock.display());
        let mut ours = Vec::new();
        for &layers in wanted {
            match Ours::make(work, &stock, layers) {
                Ok(one) => ours.push(one),
                Err(error) if layers != Layers::Upstream => {
                    let why = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
                    eprintln!("bench-install: NOT CHECKED: layers = {:?}: {why:.300}", layers.as_str());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { stock, ours })
    }
}

impl Ours {
    fn make(work: &Path, stock: &Path, layers: Layers) -> Result<Self> {
        let name = layers.as_str();
        eprintln!("bench-install: our ISO with layers = {name:?}");
        let (spec, iso, tree) =
            (work.join("spec.toml"), work.join(format!("{name}.iso")), work.join(format!("tree-{name}")));
        fs::write(&spec, render(stock, layers)?).context("Writing a spec")?;
        let build = Command::new(programs::built("cks-iso")?).arg("build").arg(&spec).arg("-o").arg(&iso);
        build.limit(Duration::from_secs(1800)).ok()?;
        let extract = Command::new("xorriso").args(["-osirrox", "on", "-indev"]).arg(&iso);
        extract.args(["-extract", "/"]).arg(&tree).ok()?;
        fs::remove_file(&iso).with_context(|| format!("Removing {}", iso.display()))?;
        // Readable by Apache, so that it is linked and not copied for each server.
        Command::new("chmod").args(["-R", "a+rX,u+w"]).arg(&tree).ok()?;
        let manifest = fs::read(tree.join("cks-bundle.json")).context("Reading the manifest of our ISO")?;
        let manifest = Manifest::parse(&manifest).context("Reading the manifest of our ISO")?;
        Ok(Self { layers, tree, manifest })
    }

    /// The bytes of the files and blobs that a role takes, each once.
    pub(crate) fn bytes_of(&self, role: Role) -> u64 {
        let files = self.manifest.entries.iter();
        let files = files.filter(|entry| entry.kind != Kind::ImageArchive && entry.roles.contains(&role));
        let images = self.manifest.images.iter().filter(|image| image.roles.contains(&role));
        let wanted: BTreeSet<_> =
            images.flat_map(|image| [&image.digest, &image.config].into_iter().chain(&image.layers)).collect();
        let blobs = self.manifest.blobs.iter().filter(|blob| wanted.contains(&blob.digest));
        files.map(|entry| entry.size).sum::<u64>() + blobs.map(|blob| blob.size).sum::<u64>()
    }
}

/// The spec of an ISO with the parts of a stock one.
fn render(stock: &Path, layers: Layers) -> Result<String> {
    let place = stock.display();
    let mut text = String::from("name = \"bench\"\narch = \"amd64\"\n");
    // Upstream's bytes are the default, which a builder without this key has too.
    if layers != Layers::Upstream {
        writeln!(text, "layers = \"{}\"", layers.as_str())?;
    }
    writeln!(text, "[kubernetes]\nversion = \"v1.33.1\"")?;
    for program in ["kubeadm", "kubelet", "kubectl"] {
        writeln!(text, "{program} = {{ file = \"{place}/k8s/{program}\" }}")?;
    }
    let tarballs = [
        ("cni-plugins", "v1.7.1", "cni/cni-plugins-linux-amd64.tgz"),
        ("cri-tools", "v1.33.0", "cri-tools/crictl-linux-amd64.tar.gz"),
        ("etcd", "3.5.21", "etcd/etcd-linux-amd64.tar.gz"),
    ];
    for (key, version, path) in tarballs {
        writeln!(text, "[{key}]\nversion = \"{version}\"\nfile = \"{place}/{path}\"")?;
    }
    writeln!(text, "[kubelet]\nunit = {{ file = \"{place}/kubelet.service\" }}")?;
    writeln!(text, "drop-in = {{ file = \"{place}/10-kubeadm.conf\" }}")?;
    for archive in names(&stock.join("docker"))? {
        writeln!(text, "[[images]]\nfile = \"{place}/docker/{archive}\"")?;
    }
    writeln!(text, "[manifests]")?;
    for name in names(stock)?.iter().filter(|name| name.ends_with(".yaml")) {
        writeln!(text, "\"{name}\" = {{ file = \"{place}/{name}\" }}")?;
    }
    Ok(text)
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("Reading {}", directory.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Reads every file below `directory`, so that the server need not wait for its disk.
pub(crate) fn warm(directory: &Path) -> Result<()> {
    for name in names(directory)? {
        let path = directory.join(name);
        if path.is_dir() {
            warm(&path)?;
        } else {
            let mut file = File::open(&path).with_context(|| format!("Opening {}", path.display()))?;
            std::io::copy(&mut file, &mut std::io::sink()).with_context(|| format!("Reading {}", path.display()))?;
        }
    }
    Ok(())
}
