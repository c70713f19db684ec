//! The disk of a machine: what a template of the distribution has on it, and what the bed puts there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{LOGIN, ROUTER};
use crate::process::Command;
use crate::{programs, scratch_below};

/// Directories that a fresh machine has, beside those of `/usr` and `/etc`.
const DIRECTORIES: [&str; 21] = [
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "home/cloud/.ssh",
    "opt",
    "mnt",
    "media",
    "srv",
    "boot",
    "usr",
    "etc",
    "var/lib/sudo/lectured",
    "var/log/bed",
    "var/tmp",
    "var/cache",
    "var/spool",
    "var/mail",
    "var/lib/misc",
];

/// What of this machine's `/etc` is its own business.
const NOT_TAKEN: [&str; 7] = ["systemd/system", "containerd", "kubernetes", "cni", "cks-agent", "crictl.yaml", "cloud"];

/// The kernel's parts that a node asks `modprobe` for, where they are built in and no file says so.
const BUILT_IN: &str = "kernel/fs/overlayfs/overlay.ko
kernel/net/bridge/bridge.ko
kernel/net/bridge/br_netfilter.ko
kernel/net/netfilter/nf_conntrack.ko
kernel/net/netfilter/nf_tables.ko
kernel/net/netfilter/x_tables.ko
kernel/drivers/net/veth.ko
kernel/drivers/net/vxlan/vxlan.ko
kernel/fs/isofs/isofs.ko
kernel/drivers/block/loop.ko
";

/// kubeadm's patch of kubelet's configuration. The bed is one machine: what its disk or memory lacks is no reason
/// to evict a pod.
const KUBELET: &str = "cgroupDriver: cgroupfs
cgroupRoot: CGROUP
failCgroupV1: false
oomScoreAdj: 0
enforceNodeAllocatable: [none]
evictionHard: {memory.available: \"0%\", nodefs.available: \"0%\", nodefs.inodesFree: \"0%\", imagefs.available: \"0%\"}
imageGCHighThresholdPercent: 100
";

/// What distinguishes one template from another.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// The directory of containerd's programs, where they aren't the distribution's.
    pub(super) containerd: Option<PathBuf>,
    /// Whose key may log in.
    pub(super) public_key: String,
}

/// Makes the disk of a machine called `name`, in the directory `within`.
pub(super) fn make(within: &Path, name: &str, cgroup: &str, template: &Template) -> Result<TempDir> {
    let disk = scratch_below(within, "machine")?;
    let root = disk.path().join("root");
    for directory in DIRECTORIES {
        make_directory(&root.join(directory))?;
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        link_to(target, &root.join(link))?;
    }
    link_to("/run", &root.join("var/run"))?;
    for mode in ["root", "home/cloud/.ssh"] {
        set_mode(&root.join(mode), 0o700)?;
    }
    settings(&root.join("etc"), name)?;
    runtime(&root.join("etc"), template, cgroup)?;
    programs(disk.path(), template)?;
    keys(&root, template)?;
    Ok(disk)
}

fn settings(etc: &Path, name: &str) -> Result<()> {
    Command::new("cp").args(["-a", "--no-target-directory", "/etc"]).arg(etc).ok()?;
    for path in NOT_TAKEN {
        Command::new("rm").args(["-rf", "--one-file-system"]).arg(etc.join(path)).ok()?;
    }
    let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n{ROUTER} data-server\n");
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").context("Reading a random number")?;
    let texts = [
        ("hostname", format!("{name}\n")),
        ("hosts", hosts),
        ("resolv.conf", format!("nameserver {ROUTER}\n")),
        ("machine-id", random.replace('-', "")),
        ("sudoers.d/90-cloud", format!("{LOGIN} ALL=(ALL) NOPASSWD:ALL\n")),
        ("environment", String::new()),
        // As the packages of a template enable them.
        ("systemd/system/.keep", String::new()),
    ];
    for (path, text) in texts {
        write(&etc.join(path), &text)?;
    }
    set_mode(&etc.join("sudoers.d/90-cloud"), 0o440)?;
    for unit in ["containerd", "ssh"] {
        let wants = etc.join("systemd/system/multi-user.target.wants");
        make_directory(&wants)?;
        let unit = format!("{unit}.service");
        link_to(&format!("/lib/systemd/system/{unit}"), &wants.join(&unit))?;
    }
    users(etc)
}

/// What containerd and kubelet have to know about a machine without systemd and without a cgroup namespace.
fn runtime(etc: &Path, template: &Template, cgroup: &str) -> Result<()> {
    let kubelet = KUBELET.replace("CGROUP", cgroup);
    write(&etc.join("cks-agent/patches/kubeletconfiguration+merge.yaml"), &kubelet)?;
    match &template.containerd {
        // The package's own.
        None => write(&etc.join("containerd/config.toml"), &read("/etc/containerd/config.toml")?),
        Some(_) => Ok(()),
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("Reading {path}"))
}

/// [`LOGIN`] in the place of the people of this machine.
fn users(etc: &Path) -> Result<()> {
    let user = format!("{LOGIN}:x:1000:1000::/home/{LOGIN}:/bin/bash");
    let lines = [("passwd", user), ("group", format!("{LOGIN}:x:1000:")), ("shadow", format!("{LOGIN}:*:20000::::::"))];
    for (file, line) in lines {
        let path = etc.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
        let of_a_person = |line: &&str| {
            let number = line.split(':').nth(2).and_then(|field| field.parse::<u32>().ok());
            let numbered = file != "shadow" && number.is_some_and(|number| (1000..60000).contains(&number));
            numbered || line.starts_with(&format!("{LOGIN}:"))
        };
        let lines: Vec<&str> = text.lines().filter(|line| !of_a_person(line)).chain([line.as_str()]).collect();
        fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("Writing {}", path.display()))?;
    }
    Ok(())
}

fn programs(disk: &Path, template: &Template) -> Result<()> {
    let upper = disk.join("usr/upper");
    for directory in ["bin", "sbin", "libexec/bed"] {
        make_directory(&upper.join(directory))?;
    }
    make_directory(&disk.join("usr/work"))?;
    write(&upper.join("libexec/bed/bed-machine"), "")?;
    share(&programs::built("bed-machine")?, &disk.join("bed-machine"))?;
    share(&programs::built("cks-agent")?, &upper.join("bin/cks-agent"))?;
    let runc = fs::canonicalize("/usr/sbin/runc").context("Finding runc")?;
    share(&runc, &upper.join("libexec/bed/runc"))?;
    for stand_in in ["bin/systemctl", "sbin/runc"] {
        link_to("/usr/libexec/bed/bed-machine", &upper.join(stand_in))?;
    }
    for program in template.containerd.iter().flat_map(|_| ["containerd", "containerd-shim-runc-v2", "ctr"]) {
        let from = template.containerd.as_deref().unwrap_or(Path::new("")).join(program);
        share(&from, &upper.join("bin").join(program))?;
    }
    // What somebody installed there on this machine is no part of a template.
    for hidden in ["local", "bin/kubeadm", "bin/kubectl", "bin/kubelet"] {
        Command::new("mknod").arg(upper.join(hidden)).args(["c", "0", "0"]).ok()?;
    }
    let release = Command::new("uname").arg("-r").ok()?;
    let modules = upper.join("lib/modules").join(release.trim());
    write(&modules.join("modules.builtin"), BUILT_IN)?;
    write(&modules.join("modules.order"), "")?;
    Command::new("depmod").arg("-b").arg(&upper).arg(release.trim()).ok().map(drop)
}

fn keys(root: &Path, template: &Template) -> Result<()> {
    let home = root.join("home").join(LOGIN);
    write(&home.join(".ssh/authorized_keys"), &template.public_key)?;
    set_mode(&home.join(".ssh/authorized_keys"), 0o600)?;
    Command::new("chown").args(["-R", "1000:1000"]).arg(&home).ok()?;
    Command::new("sh").args(["-c", "rm -f \"$0\"/ssh_host_*"]).arg(root.join("etc/ssh")).ok()?;
    let key = root.join("etc/ssh/ssh_host_ed25519_key");
    Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(key).ok().map(drop)
}

/// A file of this machine on that disk, without a copy where they share a filesystem.
fn share(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("Copying {}", from.display()))?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("Making {}", path.display()))
}

fn link_to(target: &str, link: &Path) -> Result<()> {
    symlink(target, link).with_context(|| format!("Linking {}", link.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).with_context(|| format!("Setting the mode of {}", path.display()))
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    make_directory(path.parent().unwrap_or(Path::new("/")))?;
    fs::write(path, text).with_context(|| format!("Writing {}", path.display()))
}
