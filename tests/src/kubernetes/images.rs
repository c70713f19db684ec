//! The images of a release, as single-layer archives around the pinned programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::images::{self, Format, Image};
use crate::process::Command;
use crate::programs;
use crate::tarball::Tarball;

/// busybox under a name that no registry has: what the bed's own pods run.
pub const TOOLS: &str = "registry.example.org/bed/tools:1.0";

/// What kube-proxy starts.
const PACKET_FILTERS: [&str; 2] = ["/usr/sbin/xtables-nft-multi", "/usr/sbin/nft"];
/// What iptables loads as it needs it.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";

/// Writes the archive of each of the images that kubeadm wants, and of [`TOOLS`], into `to`. Gives their references.
pub(super) fn write(kubernetes: &Path, version: &str, to: &Path) -> Result<Vec<String>> {
    let listed =
        Command::new(kubernetes.join("kubeadm")).args(["config", "images", "list", "--kubernetes-version", version]);
    let mut references: Vec<String> = listed.ok()?.lines().map(str::to_owned).collect();
    references.push(TOOLS.to_owned());
    for reference in &references {
        let image = image(kubernetes, reference).with_context(|| format!("Making the image {reference}"))?;
        image.archive(Format::DockerSave, to)?;
    }
    Ok(references)
}

fn image(kubernetes: &Path, reference: &str) -> Result<Image> {
    let name = reference.rsplit('/').next().and_then(|last| last.split(':').next()).unwrap_or_default();
    let layers = match name {
        "pause" => return images::pause(reference),
        "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" => vec![bin(&[kubernetes.join(name)])?],
        "kube-proxy" => vec![busybox()?, packet_filters()?, proxy(&kubernetes.join(name))?],
        "etcd" => {
            let etcd = programs::pinned_built("etcd", None)?;
            vec![bin(&["etcd", "etcdctl", "etcdutl"].map(|program| etcd.join(program)))?]
        }
        "coredns" => {
            let program = programs::pinned_built("coredns", None)?.join("coredns");
            vec![Tarball::default().program("coredns", &program)?.finish()?]
        }
        "tools" => vec![busybox()?],
        other => bail!("the bed has no program for {other}"),
    };
    let entrypoint = if name == "coredns" { "/coredns" } else { name };
    Ok(Image::new(reference, &[entrypoint], layers.into_iter().map(Arc::new).collect()))
}

fn bin(programs: &[PathBuf]) -> Result<Vec<u8>> {
    let tar = Tarball::default().directory("usr/").directory("usr/local/").directory("usr/local/bin/");
    let tar = programs.iter().try_fold(tar, |tar, program| {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        tar.program(&format!("usr/local/bin/{name}"), program)
    });
    tar?.finish()
}

/// kube-proxy sets the size of the kernel's table of connections, which no network namespace but the first may. It
/// is told not to, in its configuration: flags don't count beside one.
const PROXY: &str = r#"#!/bin/sh
for word in "$@"; do
    case $word in --config=*) sed 's/maxPerCore: .*/maxPerCore: 0/' "${word#*=}" >/tmp/config.conf ;; esac
done
exec /usr/local/bin/kube-proxy.real "$@" --config=/tmp/config.conf
"#;

fn proxy(program: &Path) -> Result<Vec<u8>> {
    let tar = Tarball::default().directory("usr/").directory("usr/local/").directory("usr/local/bin/");
    tar.program("usr/local/bin/kube-proxy.real", program)?.file("usr/local/bin/kube-proxy", 0o755, PROXY).finish()
}

/// iptables and nft of the distribution, with what they load.
fn packet_filters() -> Result<Vec<u8>> {
    let mut files: Vec<PathBuf> = PACKET_FILTERS.iter().map(PathBuf::from).collect();
    for entry in std::fs::read_dir(EXTENSIONS).with_context(|| format!("Reading {EXTENSIONS}"))? {
        files.push(entry.context("Reading iptables' extensions")?.path());
    }
    for file in files.clone() {
        files.extend(images::libraries(&file)?);
    }
    files.sort();
    files.dedup();
    let tar = files.iter().try_fold(Tarball::default(), |tar, file| {
        let inside = file.strip_prefix("/").unwrap_or(file).to_string_lossy();
        tar.program(&inside, file)
    });
    let names = ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];
    let tar = tar?.directory("usr/bin/").symlink("usr/bin/nft", "/usr/sbin/nft");
    let tar = tar.directory("tmp/").directory("run/");
    names.iter().fold(tar, |tar, name| tar.symlink(&format!("usr/bin/{name}"), "/usr/sbin/xtables-nft-multi")).finish()
}

fn busybox() -> Result<Vec<u8>> {
    let tar = Tarball::default().directory("bin/").program("bin/busybox", Path::new("/bin/busybox"))?;
    let applets = Command::new("/bin/busybox").arg("--list").ok()?;
    let applets = applets.lines().filter(|applet| *applet != "busybox");
    let tar = applets.fold(tar, |tar, applet| tar.symlink(&format!("bin/{applet}"), "busybox"));
    tar.directory("tmp/").finish()
}
