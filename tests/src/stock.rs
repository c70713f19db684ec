//! A node that installs as CloudStack's own scripts do (`tests/fixtures/setup-stock-node`): nothing of ours
//! runs on it. Its directories lie over this machine's in a private mount namespace.
//!
//! The kernels that tests run on often can't mount ISO 9660. There the disc is found by its label as on a node,
//! and then its content lies at the mount point, extracted by another reader.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::containerd::Containerd;
use crate::netns::{ADDRESS, Netns};
use crate::process::{Command, Output};
use crate::programs::fixture;
use crate::scratch_below;
use crate::vr::Vr;

/// What lies over this machine's directories, and what overlayfs works in.
const OWN: [&str; 5] = ["opt", "mnt", "tmp", "etc/containerd", "etc.work"];

/// Attaches the ISO `$2` as a disc, lays the directories below `$1` over this machine's and runs `$3`.
const INSIDE: &str = r#"
root=$1 iso=$2 script=$3
if [ -n "$iso" ]; then
    DEVICE=$(losetup --find --read-only --show "$iso")
    trap 'umount /mnt/k8sdisk; losetup --detach "$DEVICE"' EXIT
fi
export DEVICE
cp "$script" "$root/script"
for name in opt mnt tmp; do
    mount --bind "$root/$name" /$name
done
mount -t overlay -o "lowerdir=/etc,upperdir=$root/etc,workdir=$root/etc.work" overlay /etc
bash -e "$root/script"
"#;

/// A node.
#[derive(Debug)]
pub struct StockNode {
    /// Holds `opt`, `tmp` and `mnt` of the node, and of `etc` what differs from this machine's.
    pub root: PathBuf,
    _directory: TempDir,
}

impl StockNode {
    /// One that nothing is installed on.
    ///
    /// # Errors
    /// When its directories can't be made.
    pub fn new() -> Result<Self> {
        Self::below("/var/tmp".as_ref())
    }

    /// As [`Self::new`], in the directory `within`.
    ///
    /// # Errors
    /// When its directories can't be made.
    pub fn below(within: &Path) -> Result<Self> {
        let directory = scratch_below(within, "stock-node")?;
        let root = directory.path().to_owned();
        for name in OWN {
            fs::create_dir_all(root.join(name)).with_context(|| format!("Making {name} of a node"))?;
        }
        let config = "    sandbox_image = \"registry.k8s.io/pause:3.6\"\n";
        fs::write(root.join("etc/containerd/config.toml"), config).context("Writing a node's configuration")?;
        Ok(Self { root, _directory: directory })
    }

    /// Installs a `control` or `worker` node from a disc into `containerd`; an `etcd` node wants none. The
    /// kernel may lack the disc's filesystem: `content` is the same as a directory.
    ///
    /// # Errors
    /// When it can't be run; what the scripts say is in the output.
    pub fn install(&self, role: &str, iso: &Path, content: &Path, containerd: Option<&Containerd>) -> Result<Output> {
        ensure!(!fs::metadata(iso)?.file_type().is_block_device(), "{} is a device already", iso.display());
        let iso = iso.to_string_lossy();
        self.script(role, &iso, containerd).env("CONTENT", content).output()
    }

    /// Installs a worker over the virtual router.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn install_over(&self, vr: &Vr, containerd: &Containerd) -> Result<Output> {
        self.installing("worker", &vr.netns, Some(containerd)).output()
    }

    /// The installation of a `control`, `worker` or `etcd` node over the virtual router at the other end of
    /// `network`, ready to be run.
    #[must_use]
    pub fn installing(&self, role: &str, network: &Netns, containerd: Option<&Containerd>) -> Command {
        network.enter(self.script(role, "", containerd).env("ROUTER_IP", ADDRESS))
    }

    /// The names in a directory of the node, sorted; none where there is no such directory.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn names(&self, directory: &str) -> Result<Vec<String>> {
        let path = self.root.join(directory);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&path).with_context(|| format!("Reading {}", path.display()))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn script(&self, role: &str, iso: &str, containerd: Option<&Containerd>) -> Command {
        let (root, script) = (self.root.to_string_lossy(), fixture("setup-stock-node"));
        let inside = Command::new("bash").args(["-e", "-c", INSIDE, "inside", &root, iso]).arg(&script);
        let inside = inside.under("unshare", ["--mount", "--propagation", "private"]).env("ROLE", role);
        match containerd {
            None => inside,
            Some(containerd) => {
                let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", containerd.programs.display());
                inside.env("PATH", path).env("CONTAINERD_ADDRESS", &containerd.socket)
            }
        }
    }
}
