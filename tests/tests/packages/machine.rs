//! A machine that runs: docs/bare-metal.md from its first line to a member of a cluster, and upgrades under it. What stands in
//! for systemd there is the bed's; a real one is `just bed-vm`'s.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cks_tests::components::Components;
use cks_tests::kubernetes::{Bed, Machine};
use cks_tests::small;

use crate::places::{Packages, made, older};

const LIMIT: Duration = Duration::from_secs(60);

/// A second network, which the default route leads to.
const SECOND: &str = "ip link add eth1 type veth peer name storage && ip link set eth1 up && ip link set storage up
ip address add 192.168.77.10/24 dev eth1 && ip route replace default via 192.168.77.1 dev eth1";

/// The program of another version: no byte of it does anything.
const ANOTHER: &str =
    "cp /usr/bin/cks-agent /root/another && echo >>/root/another && mv /root/another /usr/bin/cks-agent";

/// As docs/bare-metal.md has it.
const SETTINGS: &str = "\
sources = [\"http://10.1.1.1/cks-iso/\"]
[metadata]
user-data = \"/etc/cks-agent/user-data\"
";

/// An ISO of the distribution's etcd, unpacked.
fn content() -> Result<tempfile::TempDir> {
    let place = cks_tests::scratch("content")?;
    let components = Components::with_images(&place.path().join("iso"), None, &[])?;
    let iso = small::build(&components, "v1.34.0-bare")?;
    fs::rename(iso, place.path().join("v1.34.0-bare.iso")).context("Moving the ISO")?;
    Ok(place)
}

/// A machine that has nothing of ours yet.
fn bare(bed: &mut Bed) -> Result<Machine> {
    let machine = bed.machine("rack1-a")?;
    machine.sh("rm -f /usr/bin/cks-agent /usr/sbin/policy-rc.d && mkdir -p /run/systemd/system")?;
    Ok(machine)
}

fn hand_over(machine: &Machine, from: &Path, to: &str) -> Result<()> {
    fs::copy(from, machine.path(to)?).with_context(|| format!("Copying {}", from.display())).map(drop)
}

fn tarball(packages: &Packages) -> String {
    format!("cks-agent-{}-x86_64-linux", packages.version)
}

fn install(machine: &Machine, packages: &Packages) -> Result<String> {
    let name = tarball(packages);
    let file = format!("{name}.tar.gz");
    hand_over(machine, &packages.directory.join(&file), &format!("/root/{file}"))?;
    machine.sh(&format!("cd /root && tar xzf {file} && {name}/install.sh"))
}

fn shows(machine: &Machine, unit: &str, property: &str) -> Result<String> {
    Ok(machine.sh(&format!("systemctl show -p {property} --value {unit}"))?.trim().to_owned())
}

#[test]
fn a_bare_machine_becomes_a_member_as_the_guide_says() {
    let content = content().unwrap();
    let mut bed = Bed::new(&content.path().join("v1.34.0-bare.iso"), None).unwrap();
    let machine = bare(&mut bed).unwrap();
    machine.sh(SECOND).unwrap();
    // Nothing of a cloud: no cloud-init, no user data anywhere but in the file, and no name or address from elsewhere.
    assert!(!machine.path("/var/lib/cloud").unwrap().exists());

    let said = install(&machine, older()).unwrap();
    assert!(said.contains("is installed") && said.contains("systemctl start cks-bootstrap"), "{said}");
    assert_eq!(
        shows(&machine, "cks-bootstrap", "ActiveState").unwrap(),
        "inactive",
        "the machine is made a node unasked"
    );
    machine.wait("the agent", LIMIT, || Ok(shows(&machine, "cks-agent", "ActiveState")? == "active")).unwrap();

    let address = &machine.address;
    machine.write("/etc/cks-agent/config.toml", SETTINGS).unwrap();
    let member =
        format!("role: etcd\n  node-ip: {address}\n  etcd: {{members: {{rack1-a: \"http://{address}:2380\"}}}}");
    machine.write("/etc/cks-agent/user-data", &format!("#cloud-config\ncks:\n  {member}\n")).unwrap();
    machine.sh("systemctl start cks-bootstrap").unwrap();
    let ready = || Ok(machine.sh("cks-agent status --json")?.contains("\"phase\":\"ready\""));
    if let Err(error) = machine.wait("a member", LIMIT, ready) {
        panic!("{error:#}\n{}\n{}", machine.log_of("cks-bootstrap").unwrap(), machine.sh("cks-agent status").unwrap());
    }
    let members = machine.sh(&format!("ETCDCTL_API=3 etcdctl --endpoints http://{address}:2379 member list")).unwrap();
    assert!(members.contains(&format!("http://{address}:2380")), "{members}");
    bed.nothing_outside().unwrap();

    // A new version comes under what runs.
    machine.sh("mkdir -p /var/lib/kubelet/pods/a && mount -t tmpfs pod /var/lib/kubelet/pods/a").unwrap();
    let mounts = machine.read("/proc/1/mountinfo").unwrap();
    let etcd = shows(&machine, "etcd", "MainPID").unwrap();
    let agent = shows(&machine, "cks-agent", "MainPID").unwrap();
    let bootstrap = ["ActiveState", "MainPID"].map(|property| shows(&machine, "cks-bootstrap", property).unwrap());
    machine.sh(ANOTHER).unwrap();
    install(&machine, made()).unwrap();
    machine.wait("the agent again", LIMIT, || Ok(shows(&machine, "cks-agent", "ActiveState")? == "active")).unwrap();
    assert_ne!(shows(&machine, "cks-agent", "MainPID").unwrap(), agent);
    assert_eq!(shows(&machine, "etcd", "MainPID").unwrap(), etcd);
    assert_eq!(["ActiveState", "MainPID"].map(|p| shows(&machine, "cks-bootstrap", p).unwrap()), bootstrap);
    assert_eq!(machine.read("/proc/1/mountinfo").unwrap(), mounts);
    assert!(ready().unwrap());

    let name = tarball(made());
    machine.sh(&format!("/root/{name}/install.sh --uninstall")).unwrap();
    assert_eq!(shows(&machine, "cks-agent", "ActiveState").unwrap(), "inactive");
    assert_eq!(shows(&machine, "etcd", "MainPID").unwrap(), etcd, "the node is no part of the package");
    assert_eq!(machine.read("/etc/cks-agent/config.toml").unwrap(), SETTINGS);
}

#[test]
fn a_debian_package_is_upgraded_under_a_running_agent() {
    let content = cks_tests::scratch("content").unwrap();
    fs::write(content.path().join("file"), "content").unwrap();
    let mut bed = Bed::new(content.path(), None).unwrap();
    let machine = bare(&mut bed).unwrap();
    // A database of packages of its own: what is required is there by the machine's /usr, and no package of it.
    machine.sh("mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates && touch /var/lib/dpkg/status").unwrap();
    let dpkg = |packages: &Packages| {
        hand_over(&machine, &packages.deb("cks-agent"), "/root/cks-agent.deb")?;
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --force-depends -i /root/cks-agent.deb")
    };
    dpkg(older()).unwrap();
    machine.wait("the agent", LIMIT, || Ok(shows(&machine, "cks-agent", "ActiveState")? == "active")).unwrap();
    assert_eq!(shows(&machine, "cks-bootstrap", "ActiveState").unwrap(), "inactive");
    // One that waits for its user data, as at a boot.
    machine.sh("systemctl start --no-block cks-bootstrap").unwrap();
    machine.wait("a bootstrap", LIMIT, || Ok(shows(&machine, "cks-bootstrap", "MainPID")? != "0")).unwrap();
    machine.sh("mkdir -p /var/lib/kubelet/pods/a && mount -t tmpfs pod /var/lib/kubelet/pods/a").unwrap();
    let mounts = machine.read("/proc/1/mountinfo").unwrap();
    let before = ["cks-agent", "cks-bootstrap"].map(|unit| shows(&machine, unit, "MainPID").unwrap());

    dpkg(made()).unwrap();
    machine.wait("the agent again", LIMIT, || Ok(shows(&machine, "cks-agent", "ActiveState")? == "active")).unwrap();
    let after = ["cks-agent", "cks-bootstrap"].map(|unit| shows(&machine, unit, "MainPID").unwrap());
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
    assert_eq!(machine.read("/proc/1/mountinfo").unwrap(), mounts);

    machine.sh("dpkg --force-depends --purge cks-agent").unwrap();
    // A bootstrap that is stopped in the middle has not done what was asked: its unit may say that it failed.
    for unit in ["cks-agent", "cks-bootstrap"] {
        assert_eq!(shows(&machine, unit, "MainPID").unwrap(), "0", "{unit}");
    }
    assert_eq!(machine.read("/proc/1/mountinfo").unwrap(), mounts);
}
