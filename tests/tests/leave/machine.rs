//! A machine of one's own: a root, a network and processes in private namespaces, where a cluster has left what
//! clusters leave.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cks_tests::leash::Daemon;
use cks_tests::process::{Command, Output};
use cks_tests::{programs, scratch};
use tempfile::TempDir;

/// An overlay over this machine's own root: what is done in it is done to nobody else.
const SETUP: &str = r#"
set -e
mount -t tmpfs tmpfs "$1" && mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t tmpfs tmpfs "$1/root/run" && mount -t tmpfs tmpfs "$1/root/tmp"
mount -t proc proc "$1/root/proc" && mount -t sysfs sysfs "$1/root/sys"
mount --rbind /dev "$1/root/dev"
cd "$1/root"
rm -rf etc/kubernetes etc/cni var/lib/kubelet var/lib/cni var/lib/etcd var/lib/cks-agent home/cloud opt/cni opt/bin opt/cks
mkdir -p home/cloud etc/cni/net.d var/lib/cni opt/bin
# Without kubectl nobody waits for an API server that there is none of.
rm -f usr/bin/kubectl usr/local/bin/kubectl
echo 1 >proc/sys/net/ipv6/conf/all/disable_ipv6 && echo 1 >proc/sys/net/ipv6/conf/default/disable_ipv6
mkdir run/mount && ip link set lo up
# eth0 and what a machine has besides: a bridge of its own, rules of other programs.
ip link add eth0 type veth peer name uplink && ip address add 10.1.1.20/24 dev eth0
ip link set eth0 up && ip link set uplink up && ip route add default via 10.1.1.1
ip link add br-lan type bridge && ip link add tap-lan type veth peer name tap-peer && ip link set tap-lan master br-lan
iptables-nft -t nat -N DOCKER && iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -A INPUT -p tcp --dport 22 -m comment --comment "not -j KUBE-FIREWALL" -j ACCEPT
iptables-legacy -A FORWARD -i br-lan -j ACCEPT
nft add table inet mine && nft add chain inet mine input '{ type filter hook input priority 5; }'
ipset create blocklist hash:net
echo '{"cniVersion":"0.4.0","name":"podman","plugins":[{"type":"bridge","bridge":"cni-podman0"}]}' >etc/cni/net.d/87-podman-bridge.conflist
touch -d '2020-01-01' etc/cni/net.d/*
echo ready
exec chroot . sleep infinity
"#;

/// What a worker with flannel and a CSI volume has of its cluster, for real as far as this kernel can.
const JOIN: &str = include_str!("join.sh");

/// The machine, gone when dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    holder: Daemon,
    root: PathBuf,
    directory: TempDir,
}

impl Machine {
    /// One that never was in a cluster.
    ///
    /// # Errors
    /// Without root.
    pub(crate) fn new() -> Result<Self> {
        let directory = scratch("leave")?;
        let place = directory.path().join("place");
        fs::create_dir(&place)?;
        let log = directory.path().join("log");
        let setup = Command::new("sh").args(["-c", SETUP, "setup"]).arg(&place);
        let mut holder = setup.daemon_with_network(&log)?;
        let up = || fs::read_to_string(&log).is_ok_and(|said| said.contains("ready"));
        holder.ready(Duration::from_secs(20), up).context("Making a machine")?;
        let root = PathBuf::from(format!("/proc/{}/root{}/root", holder.pid(), place.display()));
        let agent = programs::built("cks-agent")?;
        fs::copy(&agent, root.join("usr/local/bin/cks-agent")).context("Copying cks-agent")?;
        Ok(Self { holder, root, directory })
    }

    /// One that is a worker of a cluster.
    ///
    /// # Errors
    /// Without root.
    pub(crate) fn joined() -> Result<Self> {
        let machine = Self::new()?;
        machine.join()?;
        Ok(machine)
    }

    /// Makes it a worker of a cluster.
    ///
    /// # Errors
    /// When a part can't be made.
    pub(crate) fn join(&self) -> Result<()> {
        self.sh(JOIN).map(drop)
    }

    /// A command on the machine.
    pub(crate) fn run(&self, command: Command) -> Command {
        let pid = self.holder.pid();
        let place = self.root.to_string_lossy();
        let place = place.split_once("/root/").map_or("/", |(_, place)| place);
        let namespaces = [
            format!("--mount=/proc/{pid}/ns/mnt"),
            format!("--net=/proc/{pid}/ns/net"),
            format!("--pid=/proc/{pid}/ns/pid_for_children"),
        ];
        let inside = command.under("chroot", [format!("/{place}")]);
        inside.under("nsenter", namespaces.iter().map(String::as_str).chain(["--"]))
    }

    /// Where a daemon of the machine writes what it says; outside of it.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A shell script on the machine, ended by its first failure.
    ///
    /// # Errors
    /// With what it said.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        self.run(Command::new("sh").args(["-ec", script])).ok()
    }

    /// `cks-agent leave` with more arguments.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn leave(&self, arguments: &[&str]) -> Result<Output> {
        self.leaving(arguments).output()
    }

    /// The same, to be started.
    pub(crate) fn leaving(&self, arguments: &[&str]) -> Command {
        self.run(Command::new("/usr/local/bin/cks-agent").arg("leave").args(arguments))
    }

    /// Where a file of the machine is to be seen from here; mounts of the machine are, too.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether something is there, a link that leads nowhere included.
    pub(crate) fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// Links with their addresses, routes, rules, sets, tables, mounts, and files of `/etc`, `/var/lib`, `/home`, `/root`,
    /// `/run`: what has to be the same before and after, line by line.
    ///
    /// # Errors
    /// When a part can't be read.
    pub(crate) fn picture(&self) -> Result<Vec<String>> {
        let said = self.sh(PICTURE)?;
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }
}

/// Empty tables of iptables come when somebody looks, and counters count: they are left out.
const PICTURE: &str = r#"
ip -o address | awk '{ print "address", $2, $3, $4 }'
ip -o link | awk '{ print "link", $2 }'
ip route show table all | sed 's/ linkdown//; s/ *$//; s/^/route /'
for save in iptables-nft-save iptables-legacy-save ip6tables-nft-save ip6tables-legacy-save; do
    $save 2>/dev/null | grep '^-A\|^:.* - ' | sed "s/\[.*\]//; s/^/$save /"
done
nft list tables | grep -v ' \(filter\|nat\|mangle\|raw\|security\)$' | sed 's/^/nft /'
ipset list -n | sed 's/^/ipset /'
awk '{ print "mount", $5 }' /proc/self/mountinfo
ls /run/netns 2>/dev/null | sed 's/^/netns /'
find /etc /var/lib/kubelet /var/lib/cni /var/lib/etcd /var/lib/calico /var/lib/cks-agent /home/cloud /root/.kube /run /tmp -xdev -path /run/cks-agent -prune -o \
    -path /var/lib/cks-agent/lock -prune -o -path /var/lib/cks-agent -prune -o -path /run/xtables.lock -prune -o -print 2>/dev/null |
    sed 's/^/file /'
"#;

/// What `after` has or lacks, beside what `before` had.
pub(crate) fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let sets = [before, after].map(|lines| lines.iter().collect::<BTreeSet<_>>());
    let more = sets[1].difference(&sets[0]).map(|line| format!("+ {line}"));
    more.chain(sets[0].difference(&sets[1]).map(|line| format!("- {line}"))).collect()
}

/// The program's own words about a failure: `LEAVE_INCOMPLETE`.
pub(crate) fn code(output: &Output) -> &str {
    let line = output.stderr.lines().find(|line| line.starts_with("error["));
    line.and_then(|line| line.split(['[', ']']).nth(1)).unwrap_or_default()
}

/// A place outside of the machine's own directories that must never lose anything.
pub(crate) const DATA: &str = "/srv/data";

/// Whether the data is whole.
pub(crate) fn data_is_whole(path: &Path) -> bool {
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
    read("precious") == "precious\n" && read("deep/er/too") == "too\n"
}
