//! A machine: power, drives for discs, disks that come and go.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::guest::Guest;
use super::monitor::Monitor;
use super::{ConfigDrive, Router, Template};
use crate::kubernetes::Bed;
use crate::leash::Daemon;
use crate::netns::Netns;
use crate::process::Command;

/// What each machine has: one core (with two QEMU aborts once in 35 boots, and takes a quarter more), no instructions that
/// translation makes slower than doing without, CloudStack's name in its firmware, a drive for discs.
const HARDWARE: [&str; 22] = [
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-machine",
    "pc,accel=tcg",
    "-cpu",
    "Nehalem",
    "-smp",
    "1",
    "-m",
    "2048",
    "-smbios",
    "type=1,manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor",
    "-device",
    "virtio-rng-pci",
    "-device",
    "virtio-serial-pci",
    "-device",
    "virtio-scsi-pci,id=scsi",
    "-device",
    "ide-cd,id=cdrom,bus=ide.1,unit=0",
];

/// The kernel's command line. Checks and delays of the kernel that only cost time where every instruction is translated.
pub const KERNEL: &str = "rw console=ttyS0 loglevel=4 mitigations=off nokaslr audit=0 apparmor=0 selinux=0 tsc=reliable no_timer_check \
    cryptomgr.notests rcupdate.rcu_expedited=1 8250.nr_uarts=1";

/// How long a boot may take when four programs share two cores.
pub const BOOT: Duration = Duration::from_secs(300);

/// A virtual machine with a disk of its own. It is gone when this value is dropped.
#[derive(Debug)]
pub struct Instance {
    /// Its name, and its node's.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its UUID.
    pub id: String,
    /// Commands in it.
    pub guest: Guest,
    mac: String,
    tap: String,
    /// The disc in its drive, and the one that tells it about itself.
    disc: Option<PathBuf>,
    config_drive: Option<PathBuf>,
    power: Option<Daemon>,
    directory: TempDir,
}

/// A disk that is plugged in while a machine runs.
#[derive(Debug, Clone)]
pub struct Disk {
    /// `virtio` or `scsi`.
    pub bus: &'static str,
    /// As CloudStack gives it: the first 20 digits of the volume's UUID. None is a disk without one.
    pub serial: Option<String>,
    /// Its file, raw.
    pub file: PathBuf,
    /// What QEMU calls it.
    pub name: String,
}

impl Instance {
    /// One that is switched off, at the next address of the bed.
    ///
    /// # Errors
    /// When its disk can't be made.
    pub fn new(bed: &mut Bed, router: &Router, template: &Template, name: &str, id: &str) -> Result<Self> {
        let number = bed.reserve();
        let directory = crate::scratch_below(template.directory(), name)?;
        let (mac, address) = (format!("02:00:0a:01:01:{number:02x}"), format!("10.1.1.{number}"));
        template.overlay(&directory.path().join("root"))?;
        for kind in ["vmlinux", "initramfs"] {
            let from = if kind == "vmlinux" { &template.kit.kernel } else { &template.kit.initramfs };
            fs::hard_link(from, directory.path().join(kind)).with_context(|| format!("Linking {}", from.display()))?;
        }
        router.knows(&mac, &address, name)?;
        let tap = format!("tap{number}");
        bed.vr.netns.enter(Command::new("ip").args(["tuntap", "add", &tap, "mode", "tap"])).ok()?;
        bed.vr.netns.enter(Command::new("ip").args(["link", "set", &tap, "master", "br0", "up"])).ok()?;
        let guest = Guest::new(&directory.path().join("guest"), name);
        let (name, id) = (name.to_owned(), id.to_owned());
        Ok(Self { name, address, id, guest, mac, tap, disc: None, config_drive: None, power: None, directory })
    }

    /// Tells it about itself by a disc, from its next boot on.
    ///
    /// # Errors
    /// When the disc can't be made.
    pub fn with_config_drive(&mut self, public_key: &str, user_data: &str) -> Result<()> {
        let drive = ConfigDrive { id: &self.id, name: &self.name, public_key, user_data };
        self.config_drive = Some(drive.make(self.directory.path())?);
        Ok(())
    }

    /// Switches it on. It boots by itself.
    ///
    /// # Errors
    /// When QEMU doesn't start.
    pub fn power_on(&mut self, netns: &Netns) -> Result<()> {
        ensure!(self.power.is_none(), "{} is switched on already", self.name);
        let path = |name: &str| self.directory.path().join(name);
        let socket = |name: &str| format!("{},server=on,wait=off", path(name).display());
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(HARDWARE)
            .arg("-kernel")
            .arg(path("vmlinux"))
            .arg("-initrd")
            .arg(path("initramfs"))
            .args(["-append", KERNEL])
            // Only what the guest has flushed survives a cut; QEMU's own records of the disk do, too.
            .arg("-drive")
            .arg(format!("if=none,id=root,format=qcow2,cache=writeback,file={}", path("root").display()))
            .args(["-device", "virtio-blk-pci,drive=root,serial=root,bootindex=1"])
            .arg("-netdev")
            .arg(format!("tap,id=net,ifname={},script=no,downscript=no", self.tap))
            .args(["-device", &format!("virtio-net-pci,netdev=net,mac={}", self.mac)])
            .args(["-chardev", &format!("socket,id=guest,path={}", socket("guest"))])
            .args(["-device", "virtserialport,chardev=guest,name=org.qemu.guest_agent.0"])
            .args(["-chardev", &format!("file,id=console,append=on,path={}", path("console").display())])
            .args(["-serial", "chardev:console", "-qmp", &format!("unix:{}", socket("monitor"))]);
        if let Some(drive) = &self.config_drive {
            let drive = format!("if=none,id=config,media=cdrom,readonly=on,file={}", drive.display());
            qemu = qemu.args(["-drive", &drive, "-device", "ide-cd,drive=config,bus=ide.1,unit=1"]);
        }
        drop(fs::remove_file(path("monitor")));
        let mut power = netns.enter(qemu).daemon(&path("qemu.log"))?;
        let answers = || Monitor::of_qemu(&path("monitor")).is_ok();
        power.ready(Duration::from_secs(30), answers).with_context(|| format!("Switching {} on", self.name))?;
        self.power = Some(power);
        match self.disc.clone() {
            Some(disc) => self.insert(&disc),
            None => Ok(()),
        }
    }

    /// Switches it on and waits until its guest agent answers.
    ///
    /// # Errors
    /// As [`Self::power_on`]; when it doesn't boot: with the end of its console.
    pub fn boot(&mut self, netns: &Netns) -> Result<()> {
        self.power_on(netns)?;
        self.guest.up(BOOT).with_context(|| self.console_end())
    }

    /// Cuts its power: what its kernel had not written is lost.
    ///
    /// # Errors
    /// When QEMU can't be killed.
    pub fn cut(&mut self) -> Result<()> {
        self.power.take().map_or(Ok(()), |mut power| power.kill())
    }

    /// Shuts it down and boots it again, as CloudStack's `rebootVirtualMachine` does.
    ///
    /// # Errors
    /// When it doesn't go down, or doesn't come up.
    pub fn reboot(&mut self, netns: &Netns) -> Result<()> {
        self.shut_down()?;
        self.boot(netns)
    }

    /// Has its system end in order.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn shut_down(&mut self) -> Result<()> {
        let Some(mut power) = self.power.take() else { return Ok(()) };
        // Its answer may be on the way when the agent ends.
        drop(self.guest.run("systemctl poweroff", &[], Duration::from_secs(20)));
        let socket = self.directory.path().join("monitor");
        let off = || std::os::unix::net::UnixStream::connect(&socket).is_err();
        let ended = power.ready(Duration::from_secs(180), off);
        // The leash ends with it, which to a daemon is an error.
        if off() { Ok(()) } else { ended.with_context(|| format!("Shutting {} down", self.name)) }
    }

    /// Puts a disc into its drive (`attachIso`). It is there after a reboot, too.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn insert(&mut self, disc: &Path) -> Result<()> {
        self.disc = Some(disc.to_owned());
        if self.power.is_none() {
            return Ok(());
        }
        let medium = json!({ "id": "cdrom", "filename": disc, "format": "raw", "read-only-mode": "read-only" });
        self.monitor()?.ask("blockdev-change-medium", &medium).map(drop)
    }

    /// Takes the disc out, whoever has it mounted (`detachIso`).
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn take_out(&mut self) -> Result<()> {
        self.disc = None;
        if self.power.is_some() {
            self.monitor()?.ask("eject", &json!({ "id": "cdrom", "force": true }))?;
        }
        Ok(())
    }

    /// Whether there is a disc in the drive: a guest may eject it by itself.
    ///
    /// # Errors
    /// When QEMU doesn't tell.
    pub fn has_disc(&self) -> Result<bool> {
        let drives = self.monitor()?.ask("query-block", &json!({}))?;
        let drive = drives.as_array().into_iter().flatten().find(|drive| drive["qdev"] == "cdrom");
        let drive = drive.context("QEMU tells of no drive")?;
        Ok(drive.get("inserted").is_some() && drive["tray_open"] != true)
    }

    /// Plugs a disk in.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn plug(&self, disk: &Disk) -> Result<()> {
        let mut monitor = self.monitor()?;
        let (node, Disk { bus, serial, file, name }) = (format!("node-{}", disk.name), disk);
        let backend = json!({ "driver": "raw", "node-name": node, "file": { "driver": "file", "filename": file } });
        monitor.ask("blockdev-add", &backend)?;
        let mut device = match *bus {
            "scsi" => json!({ "driver": "scsi-hd", "bus": "scsi.0" }),
            _ => json!({ "driver": "virtio-blk-pci" }),
        };
        device["id"] = name.as_str().into();
        device["drive"] = node.into();
        if let Some(serial) = serial {
            device["serial"] = serial.as_str().into();
        }
        monitor.ask("device_add", &device).map(drop)
    }

    /// Unplugs a disk, and waits until the guest has let it go.
    ///
    /// # Errors
    /// When QEMU refuses, or the guest doesn't let go within a minute.
    pub fn unplug(&self, disk: &Disk) -> Result<()> {
        let mut monitor = self.monitor()?;
        monitor.ask("device_del", &json!({ "id": disk.name }))?;
        monitor.event("DEVICE_DELETED", &disk.name)?;
        monitor.ask("blockdev-del", &json!({ "node-name": format!("node-{}", disk.name) })).map(drop)
    }

    /// Makes a plugged disk larger (`resizeVolume`).
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn resize(&self, disk: &Disk, bytes: u64) -> Result<()> {
        let resize = json!({ "node-name": format!("node-{}", disk.name), "size": bytes });
        self.monitor()?.ask("block_resize", &resize).map(drop)
    }

    /// The last lines of its serial console.
    #[must_use]
    pub fn console_end(&self) -> String {
        let console = fs::read(self.directory.path().join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        format!("the console of {}:\n{}", self.name, lines[lines.len().saturating_sub(25)..].join("\n"))
    }

    /// Has the router tell it about itself.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn told(&self, bed: &Bed, public_key: &str, user_data: &str) -> Result<()> {
        bed.tell([&self.address, &self.name, &self.id], public_key, user_data)
    }

    fn monitor(&self) -> Result<Monitor> {
        Monitor::of_qemu(&self.directory.path().join("monitor"))
    }
}
