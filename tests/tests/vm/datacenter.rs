//! A cloud whose control plane lives in namespaces, and whose workers boot.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cks_tests::netns::Netns;
use cks_tests::process::Command;
use cks_tests::programs;
use cks_tests::server::hardware::Hardware;
use cks_tests::server::{Candidate, Cloud, Vm};
use cks_tests::vm::instance::BOOT;
use cks_tests::vm::{Instance, Router, Template};

/// When a disc comes: so long after a machine was switched on.
const DISC: Duration = Duration::from_secs(30);

/// A machine that boots, and when it was switched on.
struct Booted {
    instance: Instance,
    since: Instant,
}

/// The cloud. What a worker is told is kept: a test may tell it to another one.
pub(crate) struct Datacenter {
    pub(crate) hardware: Hardware,
    pub(crate) told: String,
    booted: Vec<Booted>,
    router: Router,
    pub(crate) template: Template,
}

impl Datacenter {
    /// None yet; with the disc of Kubernetes 1.35.
    pub(crate) fn new() -> Result<Self> {
        let begun = Instant::now();
        let hardware = Hardware::new(&["1.35"], &crate::containerd())?;
        let router = Router::start(&hardware.bed)?;
        let template = Template::make(with_builder)?;
        eprintln!("{}\n{:7.1} s  the template is sealed", template.said, begun.elapsed().as_secs_f64());
        Ok(Self { hardware, told: String::new(), booted: Vec::new(), router, template })
    }

    /// The machine of that name.
    pub(crate) fn instance(&mut self, name: &str) -> Result<&mut Instance> {
        self.find(name).map(|booted| &mut booted.instance)
    }

    fn find(&mut self, name: &str) -> Result<&mut Booted> {
        let found = self.booted.iter_mut().find(|booted| booted.instance.name == name);
        found.with_context(|| format!("{name} does not boot"))
    }

    /// Whether a machine of that name boots, and is no machine in namespaces.
    fn boots(&self, name: &str) -> bool {
        self.booted.iter().any(|booted| booted.instance.name == name)
    }

    /// A new machine that is switched off. The router has no disc for it, until it serves one to all.
    pub(crate) fn new_instance(&mut self, name: &str) -> Result<&mut Instance> {
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("Reading a random UUID")?;
        let bed = &mut self.hardware.bed;
        let instance = Instance::new(bed, &self.router, &self.template, name, id.trim())?;
        self.booted.push(Booted { instance, since: Instant::now() });
        self.hide(true)?;
        self.instance(name)
    }

    /// A machine of the user's, booted, that nobody asks to be a node.
    pub(crate) fn candidate(&mut self, name: &str) -> Result<Candidate> {
        let key = self.public_key().trim().to_owned();
        self.new_instance(name)?;
        let user_data = format!(
            "#cloud-config\nusers:\n  - name: cloud\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    shell: /bin/bash\n    \
             ssh_authorized_keys:\n      - \"{key}\"\nruncmd:\n  - touch /root/mine\n"
        );
        self.tell(name, &user_data)?;
        self.boot(name)?;
        let instance = &self.find(name)?.instance;
        instance.guest.wait("its first boot", BOOT, "test -e /root/mine")?;
        let (address, uuid) = (instance.address.clone(), instance.id.clone());
        Ok(Candidate { name: name.to_owned(), address, uuid, manual: false })
    }

    /// Switches a machine on, and waits until it is up.
    pub(crate) fn boot(&mut self, name: &str) -> Result<()> {
        let netns = &self.hardware.bed.vr.netns;
        let booted = self.booted.iter_mut().find(|booted| booted.instance.name == name).context("no machine")?;
        booted.since = Instant::now();
        booted.instance.boot(netns)
    }

    /// Has a machine that boots boot again.
    pub(crate) fn boot_again(&mut self, name: &str) -> Result<()> {
        let netns = &self.hardware.bed.vr.netns;
        let booted = self.booted.iter_mut().find(|booted| booted.instance.name == name).context("no machine")?;
        booted.instance.reboot(netns)
    }

    /// Changes what the router tells a machine.
    pub(crate) fn tell(&mut self, name: &str, user_data: &str) -> Result<()> {
        let key = self.public_key().trim().to_owned();
        let booted = self.booted.iter().find(|booted| booted.instance.name == name).context("no machine")?;
        booted.instance.told(&self.hardware.bed, &key, user_data)
    }

    /// Takes a machine away.
    pub(crate) fn remove(&mut self, name: &str) {
        self.booted.retain(|booted| booted.instance.name != name);
    }

    /// The router serves a disc for control plane nodes, whose kernel reads none. To a machine with a drive it says that it
    /// has none.
    fn hide(&self, hide: bool) -> Result<()> {
        let mut rules = "Options +Indexes\nRewriteEngine On\n".to_owned();
        for booted in self.booted.iter().filter(|_| hide) {
            let address = booted.instance.address.replace('.', "\\.");
            rules += &format!("RewriteCond %{{REMOTE_ADDR}} ^{address}$\nRewriteRule ^cks-iso - [R=404,L]\n");
        }
        fs::write(self.hardware.bed.vr.docroot.join(".htaccess"), rules).context("Writing the router's rules")
    }

    /// What all machines say of themselves.
    pub(crate) fn how_they_are(&self) -> String {
        let script = "cks-agent status 2>&1 || true; journalctl -b --no-pager -o short-monotonic -n 60 \
            -u cks-bootstrap -u cloud-final -u kubelet -u containerd | cut -c1-300";
        let mut said = self.hardware.how_they_are();
        for Booted { instance, .. } in &self.booted {
            let told =
                instance.guest.sh(script).unwrap_or_else(|error| format!("{error:#}\n{}", instance.console_end()));
            said += &format!("=== {}\n{told}\n", instance.name);
        }
        said
    }
}

/// The builder is no part of a node; here it reads a disc's every byte.
fn with_builder(root: &Path) -> Result<()> {
    let strip = Command::new("strip").arg("-o").arg(root.join("usr/bin/cks-iso")).arg(programs::built("cks-iso")?);
    strip.ok().map(drop)
}

impl Cloud for Datacenter {
    fn network(&self) -> &Netns {
        self.hardware.network()
    }

    fn key(&self) -> &Path {
        self.hardware.key()
    }

    fn public_key(&self) -> &str {
        self.hardware.public_key()
    }

    fn public_address(&self) -> &str {
        self.hardware.public_address()
    }

    fn acquire(&mut self, name: &str) -> Result<String> {
        match name.contains("-node-") {
            true => self.new_instance(name).map(|instance| instance.address.clone()),
            false => self.hardware.acquire(name),
        }
    }

    fn deploy(&mut self, vm: &Vm, user_data: &str) -> Result<()> {
        if !self.boots(&vm.name) {
            return self.hardware.deploy(vm, user_data);
        }
        self.find(&vm.name)?.instance.id.clone_from(&vm.uuid);
        self.update(vm, user_data)?;
        let netns = &self.hardware.bed.vr.netns;
        let booted = self.booted.iter_mut().find(|booted| booted.instance.name == vm.name);
        let booted = booted.ok_or_else(|| anyhow!("{} is gone", vm.name))?;
        booted.since = Instant::now();
        booted.instance.power_on(netns)
    }

    fn forward(&mut self, port: u16, vm: &Vm, to: u16) -> Result<()> {
        self.hardware.forward(port, vm, to)
    }

    fn unforward(&mut self, port: u16) -> Result<()> {
        self.hardware.unforward(port)
    }

    fn attach(&mut self, vm: &Vm, version: &str) -> Result<()> {
        if !self.boots(&vm.name) {
            return self.hardware.attach(vm, version);
        }
        let disc = self.hardware.release(version)?.iso.clone();
        let booted = self.find(&vm.name)?;
        // Nothing is waited for but the disc's time.
        thread::sleep(DISC.saturating_sub(booted.since.elapsed()));
        booted.instance.insert(&disc)
    }

    fn detach(&mut self, vm: &Vm) -> Result<()> {
        match self.boots(&vm.name) {
            true => self.instance(&vm.name)?.take_out(),
            false => self.hardware.detach(vm),
        }
    }

    fn serve(&mut self, version: Option<&str>) -> Result<()> {
        self.hide(version.is_none())?;
        self.hardware.serve(version)
    }

    fn update(&mut self, vm: &Vm, user_data: &str) -> Result<()> {
        if !self.boots(&vm.name) {
            return self.hardware.update(vm, user_data);
        }
        let decoded = STANDARD.decode(user_data).context("Decoding user data")?;
        self.told = String::from_utf8(decoded).context("Reading user data")?;
        let told = self.told.clone();
        self.tell(&vm.name, &told)
    }

    fn reboot(&mut self, vm: &Vm) -> Result<()> {
        match self.boots(&vm.name) {
            true => self.boot_again(&vm.name),
            false => self.hardware.reboot(vm),
        }
    }

    fn destroy(&mut self, vm: &Vm) -> Result<()> {
        if !self.boots(&vm.name) {
            return self.hardware.destroy(vm);
        }
        self.remove(&vm.name);
        Ok(())
    }
}
