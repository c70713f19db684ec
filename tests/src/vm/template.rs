//! The template: a Debian root that `cks-agent` has prepared, checked and sealed, as a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::kit::Kit;
use crate::process::Command;
use crate::programs;

/// A root of Debian 12 that has a kernel, systemd, cloud-init and containerd.
const ROOT: &str = "bookworm-node";

/// What an instance of the bed has to have beside what a node needs. Units that do nothing for a node and cost seconds under
/// translation are switched off; the network is asked for by DHCP, as CloudStack's images do.
const DRESS: &str = r#"
root=$1
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/80-dhcp.network"
printf 'network: {config: disabled}\nlocale: C.UTF-8\n' >"$root/etc/cloud/cloud.cfg.d/80_bed.cfg"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer getty@tty1.service logrotate.timer; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
systemctl --root="$root" --quiet enable systemd-networkd systemd-resolved
ln -sfn /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
printf '/dev/vda / ext4 defaults 0 0\n' >"$root/etc/fstab"
# The cluster's control plane lives on a kernel without systemd, and its kubelets' settings are the whole cluster's.
mkdir -p "$root/etc/cks-agent/patches"
printf 'cgroupDriver: systemd\n' >"$root/etc/cks-agent/patches/kubeletconfiguration+merge.yaml"
"#;

/// A disk that instances start from, and the kernel for it.
#[derive(Debug)]
pub struct Template {
    /// The disk, raw, without a partition table.
    pub disk: PathBuf,
    /// What `cks-agent` said of it: prepare, check, seal.
    pub said: String,
    pub(super) kit: Kit,
    directory: TempDir,
}

impl Template {
    /// Makes one of the agent that has been built. `dress` may change the prepared tree before it is sealed.
    ///
    /// # Errors
    /// When the root can't be made; when the agent refuses, or finds something missing.
    pub fn make(dress: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let mut template = Self::unpacked()?;
        let root = template.root();
        install(&root)?;
        for job in ["prepare", "check"] {
            template.said += &agent(job, &root)?;
        }
        dress(&root)?;
        template.said += &agent("seal", &root)?;
        template.packed()
    }

    /// As a distribution publishes it: nobody has prepared it, and no agent is in it.
    ///
    /// # Errors
    /// When the root can't be made.
    pub fn cloud_image() -> Result<Self> {
        Self::unpacked()?.packed()
    }

    /// A tree that boots.
    fn unpacked() -> Result<Self> {
        let directory = crate::scratch("template")?;
        let root = directory.path().join("root");
        fs::create_dir(&root).with_context(|| format!("Making {}", root.display()))?;
        let archive = programs::root(ROOT)?;
        let unpack = Command::new("tar").args(["-x", "--xattrs", "--numeric-owner", "-f"]).arg(archive).arg("-C");
        unpack.arg(&root).ok().context("Unpacking a root")?;
        Command::new("sh").args(["-e", "-c", DRESS, "dress"]).arg(&root).ok().context("Making a tree bootable")?;
        let kit = Kit::of(&root, directory.path())?;
        Ok(Self { disk: directory.path().join("disk"), said: String::new(), kit, directory })
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// The tree as a disk.
    fn packed(self) -> Result<Self> {
        let make = Command::new("mke2fs").args(["-q", "-t", "ext4", "-L", "root", "-E", "lazy_itable_init=1", "-d"]);
        make.arg(self.root()).arg(&self.disk).arg("8G").ok().context("Making a disk")?;
        Command::new("rm").args(["-rf", "--one-file-system"]).arg(self.root()).ok()?;
        Ok(self)
    }

    /// The kernel, and the initramfs for it.
    #[must_use]
    pub fn kernel(&self) -> [&Path; 2] {
        [&self.kit.kernel, &self.kit.initramfs]
    }

    /// A new disk on top of it, for an instance: `qcow2`.
    pub(super) fn overlay(&self, to: &Path) -> Result<()> {
        let create = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        create.arg(&self.disk).arg(to).ok().context("Making an instance's disk").map(drop)
    }

    /// Where instances may have their files.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// What `cks-agent` says when it does a job on a tree.
fn agent(job: &str, root: &Path) -> Result<String> {
    let agent = Command::new(programs::built("cks-agent")?).arg(job).arg("--root").arg(root);
    agent.limit(Duration::from_secs(900)).ok().with_context(|| format!("cks-agent {job}"))
}

/// The agent as its package installs it.
fn install(root: &Path) -> Result<()> {
    let program = programs::built("cks-agent")?;
    let strip = Command::new("strip").arg("-o").arg(root.join("usr/bin/cks-agent")).arg(program);
    strip.ok().context("Installing the agent")?;
    let units = programs::workspace().join("systemd");
    for unit in fs::read_dir(&units).with_context(|| format!("Reading {}", units.display()))? {
        let unit = unit.context("Reading the units")?;
        let to = root.join("usr/lib/systemd/system").join(unit.file_name());
        fs::copy(unit.path(), &to).with_context(|| format!("Installing {}", to.display()))?;
    }
    Ok(())
}
