//! Real Kubernetes in namespaces: machines at one bridge with the virtual router, made for one test and gone with
//! it.

mod agent;
mod cluster;
mod disk;
mod images;
mod machine;
mod network;
mod release;
mod slots;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

pub use self::agent::{SETTINGS, bootstrap};
pub use self::cluster::Cluster;
use self::disk::Template;
pub use self::images::TOOLS;
pub use self::machine::{Machine, wait};
pub use self::network::Outside;
pub use self::release::Release;
pub use self::slots::Slots;
use crate::leash::Heir;
use crate::netns::ADDRESS;
use crate::process::Command;
use crate::scratch;
use crate::vr::Vr;

/// The virtual router's address.
pub const ROUTER: &str = ADDRESS;

/// Who logs in to a machine, by key and with all rights through sudo.
pub const LOGIN: &str = "cloud";

/// The first machine's address; each one after it has the next.
const FIRST: u8 = 10;

/// A network with a virtual router, to which machines are added.
#[derive(Debug)]
pub struct Bed {
    /// The router.
    pub vr: Vr,
    /// What tells it from other beds: `/bed/NAME` is the cgroup of its machines.
    pub name: String,
    template: Template,
    next: u8,
    _heir: Heir,
    directory: TempDir,
}

/// Clears up, also after a test that was killed: what a bed has on the disk, once its machines are gone.
const HEIR: &str = r#"
cat >/dev/null
for try in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf --one-file-system "$@" && exit
    sleep 0.3
done
"#;

impl Bed {
    /// A bed whose router serves `content`, and whose machines have the containerd of `containerd` (see
    /// [`crate::programs::containerd_built`]), or the distribution's.
    ///
    /// # Errors
    /// Without root; when a program is missing.
    pub fn new(content: &Path, containerd: Option<&Path>) -> Result<Self> {
        static BEDS: AtomicU32 = AtomicU32::new(0);
        let vr = Vr::start(content)?;
        network::bridge(&vr.netns, ROUTER)?;
        let directory = scratch("bed")?;
        let routers = vr.docroot.parent().unwrap_or(directory.path());
        let heir = Command::new("sh").args(["-c", HEIR, "heir"]).arg(directory.path()).arg(routers).heir()?;
        let key = directory.path().join("id");
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "bed", "-f"]).arg(&key).ok()?;
        let public_key = std::fs::read_to_string(key.with_extension("pub")).context("Reading a key")?;
        let name = format!("{}-{}", std::process::id(), BEDS.fetch_add(1, Ordering::Relaxed));
        let template = Template { containerd: containerd.map(Path::to_owned), public_key };
        Ok(Self { vr, name, template, next: FIRST, _heir: heir, directory })
    }

    /// The private key for [`LOGIN`].
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("id")
    }

    /// Has the router serve user data to a machine, with the metadata of a CloudStack instance.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn user_data(&self, machine: &Machine, user_data: &str) -> Result<()> {
        self.instance(machine, &format!("5b1e0c1e-5b0f-4a76-9a1f-{:012x}", machine.number()), user_data)
    }

    /// As [`Self::user_data`], to the instance of this id.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn instance(&self, machine: &Machine, id: &str, user_data: &str) -> Result<()> {
        self.tell([machine.address.as_str(), machine.name.as_str(), id], &self.template.public_key, user_data)
    }

    /// Has the router serve user data and metadata to whoever has an address, a name and an id.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn tell(&self, [address, name, id]: [&str; 3], public_keys: &str, user_data: &str) -> Result<()> {
        let metadata = [
            ("service-offering", "Small Instance"),
            ("availability-zone", "zone-1"),
            ("local-ipv4", address),
            ("local-hostname", name),
            ("public-ipv4", ROUTER),
            ("public-hostname", ROUTER),
            ("instance-id", id),
            ("vm-id", id),
            ("public-keys", public_keys),
            ("cloud-identifier", "CloudStack-{7c0f2a52-0d5a-4b7e-9a65-0c5c1b0b7a11}"),
            ("hypervisor-host-name", "host-1"),
        ];
        self.vr.guest(address, user_data.as_bytes(), &metadata)
    }

    /// A new machine, switched on.
    ///
    /// # Errors
    /// When it doesn't boot.
    pub fn machine(&mut self, name: &str) -> Result<Machine> {
        let mut machine = self.machine_off(name)?;
        machine.boot(&self.vr.netns)?;
        Ok(machine)
    }

    /// A new machine, switched off.
    ///
    /// # Errors
    /// When its disk can't be made.
    pub fn machine_off(&mut self, name: &str) -> Result<Machine> {
        let machine = Machine::new(&self.name, self.directory.path(), name, self.next, &self.template)?;
        self.next += 1;
        Ok(machine)
    }

    /// The last part of an address that no machine of the bed has, or will have: for one that others make.
    pub fn reserve(&mut self) -> u8 {
        self.next += 1;
        self.next - 1
    }

    /// Switches a machine on, on the disk that it has.
    ///
    /// # Errors
    /// When it doesn't boot.
    pub fn boot(&self, machine: &mut Machine) -> Result<()> {
        machine.boot(&self.vr.netns)
    }

    /// Cuts a machine's power and switches it on again.
    ///
    /// # Errors
    /// When it doesn't boot.
    pub fn reboot(&self, machine: &mut Machine) -> Result<()> {
        machine.power_off();
        machine.boot(&self.vr.netns)
    }

    /// Pulls a machine's cable out.
    ///
    /// # Errors
    /// When the machine is switched off.
    pub fn unplug(&self, machine: &Machine) -> Result<()> {
        network::carry(&self.vr.netns, machine.cable(), false)
    }

    /// Puts a machine's cable back.
    ///
    /// # Errors
    /// When the machine is switched off.
    pub fn plug(&self, machine: &Machine) -> Result<()> {
        network::carry(&self.vr.netns, machine.cable(), true)
    }

    /// What wanted to leave the bed so far.
    ///
    /// # Errors
    /// When nft doesn't tell.
    pub fn outside(&self) -> Result<Outside> {
        network::outside(&self.vr.netns)
    }

    /// Proves that nothing wanted to leave the bed.
    ///
    /// # Errors
    /// With what did.
    pub fn nothing_outside(&self) -> Result<()> {
        let outside = self.outside()?;
        ensure!(outside.packets == 0, "{} packets wanted to leave the bed: {:?}", outside.packets, outside.wanted);
        Ok(())
    }

    /// A command over SSH as [`LOGIN`], from the router's network.
    #[must_use]
    pub fn ssh(&self, machine: &Machine, command: &str) -> Command {
        let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
        let ssh = Command::new("ssh").arg("-F").arg("/dev/null").args(options).arg("-i").arg(self.key());
        self.vr.netns.enter(ssh.arg(format!("{LOGIN}@{}", machine.address)).arg(command))
    }
}
