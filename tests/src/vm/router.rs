//! What the virtual router does beside HTTP: addresses by DHCP, the name `data-server`, the password server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::kubernetes::{Bed, ROUTER};
use crate::leash::Daemon;
use crate::netns::Netns;
use crate::process::Command;

const PASSWORDS: &str = include_str!("password-server.py");

/// The services. They are gone when this value is dropped.
#[derive(Debug)]
pub struct Router {
    hosts: PathBuf,
    _dnsmasq: Daemon,
    _passwords: Daemon,
    _directory: TempDir,
}

impl Router {
    /// Starts them at a bed's bridge.
    ///
    /// # Errors
    /// Without dnsmasq or python3.
    pub fn start(bed: &Bed) -> Result<Self> {
        let directory = crate::scratch("router")?;
        let path = |name: &str| directory.path().join(name);
        let hosts = path("hosts");
        fs::create_dir(&hosts).with_context(|| format!("Making {}", hosts.display()))?;
        let netns = &bed.vr.netns;
        let dnsmasq = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-"])
            .args(["--interface=br0", "--bind-interfaces", "--no-resolv", "--no-hosts", "--dhcp-authoritative"])
            .args(["--dhcp-range=10.1.1.0,static,255.255.255.0,infinite", &format!("--address=/data-server/{ROUTER}")])
            .args(["--domain=cs1cloud.internal", &format!("--address=/data-server.cs1cloud.internal/{ROUTER}")])
            .arg(format!("--dhcp-option=option:router,{ROUTER}"))
            .arg(format!("--dhcp-hostsdir={}", hosts.display()))
            .arg(format!("--dhcp-leasefile={}", path("leases").display()));
        let mut dnsmasq = netns.enter(dnsmasq).daemon(&path("dnsmasq.log"))?;
        dnsmasq.ready(Duration::from_secs(10), || listens(netns, "-lun", ":67")).context("Starting dnsmasq")?;
        fs::write(path("passwords.py"), PASSWORDS).context("Writing the password server")?;
        let passwords = Command::new("python3").arg(path("passwords.py")).arg(ROUTER);
        let mut passwords = netns.enter(passwords).daemon(&path("passwords.log"))?;
        passwords.ready(Duration::from_secs(20), || listens(netns, "-ltn", ":8080")).context("Serving passwords")?;
        Ok(Self { hosts, _dnsmasq: dnsmasq, _passwords: passwords, _directory: directory })
    }

    /// Has an address and a name for the machine with that MAC address.
    pub(super) fn knows(&self, mac: &str, address: &str, name: &str) -> Result<()> {
        let line = format!("{mac},{address},{name},infinite\n");
        fs::write(self.hosts.join(mac.replace(':', "-")), line).context("Telling dnsmasq about a machine")
    }
}

fn listens(netns: &Netns, kind: &str, port: &str) -> bool {
    let told = netns.enter(Command::new("ss").args(["-H", kind])).ok().unwrap_or_default();
    told.lines().any(|line| line.split_whitespace().any(|word| word.ends_with(port)))
}
