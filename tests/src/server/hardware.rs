//! Hypervisors and a virtual router for real: machines in namespaces that the router tells what they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rules::{PUBLIC, Rules};
use super::{Candidate, Cloud, Vm, cloud_init};
use crate::kubernetes::{self, Bed, Machine, SETTINGS};
use crate::leash::Running;
use crate::netns::Netns;
use crate::process::Command;

/// What differs here from a machine with systemd on a kernel of a distribution, for the kubeadm that the server's script
/// runs by arguments of its own: on this cgroup v1 it refuses, and kubelet has to be told where its cgroups are.
const AS_HERE: &str = r#"
mv /srv/disc/k8s/kubeadm /srv/kubeadm
cat >/srv/disc/k8s/kubeadm <<'EOF'
#!/bin/sh
case " $* " in
*' upgrade '*) exec /srv/kubeadm "$@" --ignore-preflight-errors=SystemVerification --patches=/etc/cks-agent/patches ;;
esac
exec /srv/kubeadm "$@"
EOF
chmod 755 /srv/disc/k8s/kubeadm
"#;

/// An instance.
#[derive(Debug)]
struct Instance {
    /// What its boot has set going; it ends before the machine.
    boot: Option<Running>,
    machine: Machine,
    /// Its user data, decoded.
    user_data: String,
    id: String,
}

/// Machines at a virtual router. The kernel has no iso9660: in the place of a drive the router serves the disc, for as
/// long as it is attached to a machine that is to be installed. On one that is a node already it is mounted where
/// the server's script for upgrades finds it.
#[derive(Debug)]
pub struct Hardware {
    instances: Vec<Instance>,
    rules: Rules,
    releases: Vec<kubernetes::Release>,
    /// Who has the disc of the first release.
    served: BTreeSet<String>,
    key: PathBuf,
    public_key: String,
    /// Their network, with the router.
    pub bed: Bed,
}

impl Hardware {
    /// None yet; with the discs of these minors, and the containerd in that directory.
    ///
    /// # Errors
    /// When a disc can't be made, or the bed.
    pub fn new(minors: &[&str], containerd: &Path) -> Result<Self> {
        let releases = minors.iter().map(|minor| kubernetes::Release::get(minor)).collect::<Result<Vec<_>>>()?;
        let first = releases.first().context("no minor")?;
        let bed = Bed::new(&first.content, Some(containerd))?;
        let rules = Rules::new(&bed.vr.netns)?;
        let key = bed.key();
        let public_key = fs::read_to_string(key.with_extension("pub")).context("Reading a key")?;
        let hardware = Self { instances: Vec::new(), rules, releases, served: BTreeSet::new(), key, public_key, bed };
        let (served, away) = hardware.places();
        fs::rename(&served, &away).context("Taking the disc away")?;
        Ok(hardware)
    }

    /// Of Kubernetes, on the first disc.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.releases[0].version
    }

    /// The disc of a version of Kubernetes, without `v`.
    ///
    /// # Errors
    /// When there is none.
    pub fn release(&self, version: &str) -> Result<&kubernetes::Release> {
        let release = self.releases.iter().find(|release| release.version.trim_start_matches('v') == version);
        release.with_context(|| format!("there is no disc of {version}"))
    }

    /// Of Kubernetes, on the disc of this number, which there is.
    #[must_use]
    pub fn version_of(&self, disc: usize) -> String {
        self.releases[disc].version.clone()
    }

    /// The machine of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine(&self, vm: &Vm) -> Result<&Machine> {
        self.at(&vm.name).map(|at| &self.instances[at].machine)
    }

    fn at(&self, name: &str) -> Result<usize> {
        let at = self.instances.iter().position(|instance| instance.machine.name == name);
        at.with_context(|| format!("{name} is no machine"))
    }

    /// A machine of the user's, booted, with the packages that the server looks for.
    ///
    /// # Errors
    /// When it doesn't boot.
    pub fn candidate(&mut self, name: &str, packages: &str) -> Result<Candidate> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("Reading a random UUID")?;
        let uuid = uuid.trim().to_owned();
        let address = self.acquire(name)?;
        let at = self.at(name)?;
        self.instances[at].id.clone_from(&uuid);
        self.instances[at].user_data = format!(
            "#cloud-config\nusers:\n  - name: cloud\n    ssh_authorized_keys:\n      - \"{}\"\nruncmd:\n  - touch /root/mine\n",
            self.public_key.trim()
        );
        self.start(at)?;
        let stanza = |package: &str| {
            let status = "Status: install ok installed\nMaintainer: a <a@example.org>\nArchitecture: all\nVersion: 1";
            format!("Package: {package}\n{status}\nDescription: a\n\n")
        };
        let status: String = packages.split_whitespace().map(stanza).collect();
        let machine = &self.instances[at].machine;
        machine.sh("mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/info")?;
        machine.write("/var/lib/dpkg/status", &status)?;
        machine.wait("its first boot", cloud_init::LOGIN, || Ok(machine.path("/root/mine")?.exists()))?;
        Ok(Candidate { name: name.to_owned(), address, uuid, manual: false })
    }

    /// Boots a machine; what cloud-init and the agent do then goes on by itself.
    fn start(&mut self, at: usize) -> Result<()> {
        let instance = &mut self.instances[at];
        drop(instance.boot.take());
        if instance.machine.is_on() {
            self.bed.reboot(&mut instance.machine)?;
        } else {
            self.bed.boot(&mut instance.machine)?;
        }
        let machine = &instance.machine;
        machine.write("/etc/cks-agent/config.toml", SETTINGS)?;
        self.bed.instance(machine, &instance.id, &instance.user_data)?;
        instance.boot = Some(cloud_init::boot(machine, &instance.id, &instance.user_data)?);
        Ok(())
    }

    /// Where the router has the disc, and where it is when it does not.
    fn places(&self) -> (PathBuf, PathBuf) {
        let docroot = &self.bed.vr.docroot;
        (docroot.join("cks-iso"), docroot.with_file_name("disc"))
    }

    /// The disc is served for as long as somebody has it.
    fn lend(&mut self, to: &str, lend: bool) -> Result<()> {
        let before = self.served.is_empty();
        if lend {
            self.served.insert(to.to_owned())
        } else {
            self.served.remove(to)
        };
        let (served, away) = self.places();
        match (before, self.served.is_empty()) {
            (true, false) => fs::rename(away, served).context("Serving the disc"),
            (false, true) => fs::rename(served, away).context("Serving the disc no more"),
            _ => Ok(()),
        }
    }

    fn first_disc(&self, version: &str) -> Result<()> {
        ensure!(self.version().trim_start_matches('v') == version, "the router has no disc of {version}");
        Ok(())
    }

    /// What all machines say of themselves.
    #[must_use]
    pub fn how_they_are(&self) -> String {
        let said = |machine: &Machine| {
            let script = "cks-agent status 2>&1 || true
                for log in cks-bootstrap cloud-init-output deploy-kube-system kubelet; do
                    echo \"-- $log\"; tail -n 25 /var/log/bed/$log.log 2>/dev/null || true
                done";
            format!("=== {}\n{}\n", machine.name, machine.sh(script).unwrap_or_else(|error| format!("{error:#}")))
        };
        self.instances.iter().map(|instance| said(&instance.machine)).collect()
    }
}

impl Cloud for Hardware {
    fn network(&self) -> &Netns {
        &self.bed.vr.netns
    }

    fn key(&self) -> &Path {
        &self.key
    }

    fn public_key(&self) -> &str {
        &self.public_key
    }

    fn public_address(&self) -> &str {
        PUBLIC
    }

    fn acquire(&mut self, name: &str) -> Result<String> {
        let machine = self.bed.machine_off(name)?;
        let address = machine.address.clone();
        self.instances.push(Instance { boot: None, machine, user_data: String::new(), id: String::new() });
        Ok(address)
    }

    fn deploy(&mut self, vm: &Vm, user_data: &str) -> Result<()> {
        self.update(vm, user_data)?;
        self.start(self.at(&vm.name)?)
    }

    fn forward(&mut self, port: u16, vm: &Vm, to: u16) -> Result<()> {
        self.rules.forward(port, &vm.address, to)
    }

    fn unforward(&mut self, port: u16) -> Result<()> {
        self.rules.unforward(port)
    }

    fn attach(&mut self, vm: &Vm, version: &str) -> Result<()> {
        let machine = self.machine(vm)?;
        if !machine.path("/etc/kubernetes/kubelet.conf")?.exists() {
            self.first_disc(version)?;
            return self.lend(&vm.name, true);
        }
        let release = self.release(version)?;
        machine.sh("mkdir -p /srv/disc /mnt/k8sdisk")?;
        Command::new("cp").arg("-a").arg(release.content.join(".")).arg(machine.path("/srv/disc")?).ok()?;
        machine.sh(AS_HERE)?;
        machine.sh("mount --bind /srv/disc /mnt/k8sdisk").map(drop)
    }

    fn detach(&mut self, vm: &Vm) -> Result<()> {
        self.lend(&vm.name, false)?;
        // Where the script has not done so.
        let take = "umount /mnt/k8sdisk 2>/dev/null && rmdir /mnt/k8sdisk || true; rm -rf /srv/disc";
        self.machine(vm)?.sh(take).map(drop)
    }

    fn serve(&mut self, version: Option<&str>) -> Result<()> {
        version.map_or(Ok(()), |version| self.first_disc(version))?;
        self.lend("the router", version.is_some())
    }

    fn update(&mut self, vm: &Vm, user_data: &str) -> Result<()> {
        let decoded = STANDARD.decode(user_data).context("Decoding user data")?;
        let at = self.at(&vm.name)?;
        let instance = &mut self.instances[at];
        instance.user_data = String::from_utf8(decoded).context("Reading user data")?;
        instance.id.clone_from(&vm.uuid);
        Ok(())
    }

    fn reboot(&mut self, vm: &Vm) -> Result<()> {
        self.start(self.at(&vm.name)?)
    }

    fn destroy(&mut self, vm: &Vm) -> Result<()> {
        self.lend(&vm.name, false)?;
        let at = self.at(&vm.name)?;
        drop(self.instances.remove(at));
        Ok(())
    }
}
