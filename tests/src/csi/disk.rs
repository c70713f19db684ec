//! A disk of a bed: a loop device on a sparse file, with a serial.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::place::Place;
use super::request::Kind;
use crate::leash::POLL;
use crate::process::Command;

/// How long beds that start together may get in each other's way at `/dev/loop-control`.
const CROWDED: Duration = Duration::from_secs(20);

/// The serial that CloudStack gives the disk of a volume: the first 20 digits of its UUID.
#[must_use]
pub fn serial_of(volume_id: &str) -> String {
    volume_id.to_lowercase().chars().filter(|&c| c != '-').take(20).collect()
}

/// A disk; detached when dropped, and its file is gone (but not with [`super::Bed::disk_on`]).
#[derive(Debug)]
pub struct Disk {
    /// The volume it belongs to: a UUID, unless told.
    pub volume_id: String,
    /// How the volume is asked for.
    pub kind: Kind,
    /// The file that holds its bytes.
    pub file: PathBuf,
    /// Whether the file goes with it.
    owned: bool,
    serial: Option<String>,
    attached: Option<Attached>,
    place: Arc<dyn Place>,
}

#[derive(Debug)]
struct Attached {
    /// `loop3`.
    name: String,
    /// `7:3`.
    number: String,
}

impl Disk {
    /// An attached disk of `size` bytes, all zero.
    pub(crate) fn new<P: Place + 'static>(place: &Arc<P>, volume_id: &str, kind: Kind, size: u64) -> Result<Self> {
        let mut disk = Self::detached(place, volume_id, kind, size)?;
        disk.attach()?;
        Ok(disk)
    }

    /// One that has still to be attached.
    pub(super) fn detached<P: Place + 'static>(place: &Arc<P>, volume_id: &str, kind: Kind, size: u64) -> Result<Self> {
        let place: Arc<dyn Place> = Arc::<P>::clone(place);
        let file = place.directory().join(format!("disk-{}", uuid()?));
        let made = File::create_new(&file).and_then(|made| made.set_len(size));
        made.with_context(|| format!("Making {}", file.display()))?;
        let serial = Some(serial_of(volume_id));
        Ok(Self { volume_id: volume_id.to_owned(), kind, file, owned: true, serial, attached: None, place })
    }

    /// One on somebody else's file.
    pub(super) fn on<P: Place + 'static>(place: &Arc<P>, volume_id: &str, kind: Kind, file: &Path) -> Result<Self> {
        let serial = Some(serial_of(volume_id));
        let place: Arc<dyn Place> = Arc::<P>::clone(place);
        let (volume_id, file) = (volume_id.to_owned(), file.to_owned());
        let mut disk = Self { volume_id, kind, file, owned: false, serial, attached: None, place };
        disk.attach()?;
        Ok(disk)
    }

    /// The name of its device: `loop3`; empty while it is detached.
    #[must_use]
    pub fn name(&self) -> &str {
        self.attached.as_ref().map_or("", |attached| &attached.name)
    }

    /// Its device: `/dev/loop3`.
    #[must_use]
    pub fn device(&self) -> String {
        format!("/dev/{}", self.name())
    }

    /// `MAJOR:MINOR` of its device; empty while it is detached.
    #[must_use]
    pub fn number(&self) -> &str {
        self.attached.as_ref().map_or("", |attached| &attached.number)
    }

    /// The serial that it shows, if it shows one.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// Plugs it in, as whichever device is free. Does nothing when it is.
    ///
    /// # Errors
    /// When there is no loop device to be had.
    pub fn attach(&mut self) -> Result<()> {
        if self.attached.is_some() {
            return Ok(());
        }
        let device = occupy(&self.file)?;
        let name = device.trim_start_matches("/dev/").to_owned();
        let number = fs::read_to_string(real(&name).join("dev")).with_context(|| format!("Reading {name}'s number"))?;
        let attached = self.attached.insert(Attached { name, number: number.trim().to_owned() });
        show(&*self.place, attached)?;
        self.show_serial()
    }

    /// Unplugs it. What is mounted of it stays usable until it is unmounted: loop devices don't break.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach(&mut self) -> Result<()> {
        let Some(attached) = self.attached.take() else { return Ok(()) };
        let hidden = hide(&*self.place, &attached);
        Command::new("losetup").arg("--detach").arg(format!("/dev/{}", attached.name)).ok()?;
        hidden
    }

    /// Makes it `size` bytes large.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&mut self, size: u64) -> Result<()> {
        let file = File::options().write(true).open(&self.file);
        let resized = file.and_then(|file| file.set_len(size));
        resized.with_context(|| format!("Changing the size of {}", self.file.display()))?;
        if self.attached.is_some() {
            Command::new("losetup").arg("--set-capacity").arg(self.device()).ok()?;
        }
        Ok(())
    }

    /// Gives it another serial, or none.
    ///
    /// # Errors
    /// When the file that shows it can't be changed.
    pub fn set_serial(&mut self, serial: Option<&str>) -> Result<()> {
        self.serial = serial.map(str::to_owned);
        self.show_serial()
    }

    /// Has the kernel tell of a change to it, as udev would hear.
    ///
    /// # Errors
    /// When it is detached.
    pub fn event(&self) -> Result<()> {
        let event = real(self.name()).join("uevent");
        fs::write(&event, "change").with_context(|| format!("Writing {}", event.display()))
    }

    fn show_serial(&self) -> Result<()> {
        if self.attached.is_none() {
            return Ok(());
        }
        let directory = self.place.path("/sys/block").join(self.name());
        let (shown, new) = (directory.join("serial"), directory.join(".serial"));
        match &self.serial {
            // In one step: nobody reads half a serial.
            Some(serial) => fs::write(&new, format!("{serial}\n")).and_then(|()| fs::rename(&new, &shown)),
            None if shown.exists() => fs::remove_file(&shown),
            None => Ok(()),
        }
        .with_context(|| format!("Changing {}", shown.display()))?;
        self.event()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace frees what is left.
        drop(self.detach());
        if self.owned {
            drop(fs::remove_file(&self.file));
        }
    }
}

/// Where the kernel shows a loop device, inside as outside.
fn real(name: &str) -> PathBuf {
    Path::new("/sys/devices/virtual/block").join(name)
}

/// Puts a loop device on the file and gives its path.
fn occupy(file: &Path) -> Result<String> {
    let deadline = Instant::now() + CROWDED;
    loop {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output()?;
        if output.code == 0 {
            return Ok(output.stdout.trim().to_owned());
        }
        if Instant::now() > deadline {
            bail!("Getting a loop device for {}: {}", file.display(), output.stderr.trim());
        }
        std::thread::sleep(POLL);
    }
}

/// Makes its node, and what sysfs says of it.
fn show(place: &dyn Place, disk: &Attached) -> Result<()> {
    let Attached { name, number } = disk;
    node(place, name, number)?;
    let (shown, numbered) = shown_at(place, name, number);
    let link = || -> std::io::Result<()> {
        if place.shows_others() {
            fs::remove_file(&shown)?;
            fs::remove_file(&numbered)?;
        }
        fs::create_dir(&shown)?;
        for entry in fs::read_dir(real(name))? {
            let entry = entry?;
            symlink(entry.path(), shown.join(entry.file_name()))?;
        }
        symlink(format!("../../block/{name}"), numbered)
    };
    link().with_context(|| format!("Showing {name} in sysfs"))
}

fn hide(place: &dyn Place, disk: &Attached) -> Result<()> {
    let Attached { name, number } = disk;
    let (shown, numbered) = shown_at(place, name, number);
    let remove = || -> std::io::Result<()> {
        fs::remove_file(numbered)?;
        for entry in fs::read_dir(&shown)? {
            fs::remove_file(entry?.path())?;
        }
        fs::remove_dir(&shown)?;
        if place.shows_others() { Ok(()) } else { fs::remove_file(place.path("/dev").join(name)) }
    };
    remove().with_context(|| format!("Hiding {name}"))?;
    if place.shows_others() { as_it_is(place, name, number) } else { Ok(()) }
}

/// Shows a loop device as the kernel does.
pub(crate) fn as_it_is(place: &dyn Place, name: &str, number: &str) -> Result<()> {
    node(place, name, number)?;
    let (shown, numbered) = shown_at(place, name, number);
    let link = symlink(real(name), shown).and_then(|()| symlink(format!("../../block/{name}"), numbered));
    link.with_context(|| format!("Showing {name} in sysfs"))
}

/// What speaks of a disk: by its name, by its number.
fn shown_at(place: &dyn Place, name: &str, number: &str) -> (PathBuf, PathBuf) {
    (place.path("/sys/block").join(name), place.path("/sys/dev/block").join(number))
}

fn node(place: &dyn Place, name: &str, number: &str) -> Result<()> {
    let (major, minor) = number.split_once(':').context("A device has a major and a minor number")?;
    let device = makedev(major.parse()?, minor.parse()?);
    match mknod(&place.path("/dev").join(name), SFlag::S_IFBLK, Mode::from_bits_truncate(0o660), device) {
        Err(Errno::EEXIST) if place.shows_others() => Ok(()),
        made => made.with_context(|| format!("Making the node of {name}")),
    }
}

/// A random UUID.
pub(crate) fn uuid() -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("Asking the kernel for a UUID")?;
    Ok(uuid.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::namespace::Namespace;
    use super::*;

    const SIZE: u64 = 8 << 20;

    fn disk(namespace: &Arc<Namespace>) -> Disk {
        Disk::new(namespace, "0A1B2C3D-4e5f-6071-8293-a4b5c6d7e8f9", Kind::filesystem("ext4"), SIZE).unwrap()
    }

    fn taken(namespace: &Namespace) -> String {
        let loops = Command::new("losetup").args(["--list", "--noheadings", "--output", "BACK-FILE"]).ok().unwrap();
        loops.lines().filter(|file| file.contains(&*namespace.directory().to_string_lossy())).collect()
    }

    #[test]
    fn a_disk_is_seen_as_the_kernel_shows_it_with_its_serial() {
        let namespace = Arc::new(Namespace::new().unwrap());
        let mut disk = disk(&namespace);
        let look =
            "cd /sys/block && ls && cat */serial */size */queue/logical_block_size && cat /sys/dev/block/*/serial
            lsblk --noheadings --output NAME,SIZE /dev/loop[0-9]* && mkfs.ext4 -q /dev/loop[0-9]* && echo made";
        let name = disk.name().to_owned();
        let serial = "0a1b2c3d4e5f60718293";
        let seen = namespace.sh(look).unwrap();
        let words: Vec<_> = seen.split_whitespace().collect();
        assert_eq!(words, [&*name, serial, "16384", "512", serial, &*name, "8M", "made"]);
        disk.resize(2 * SIZE).unwrap();
        assert_eq!(namespace.sh("cat /sys/block/*/size").unwrap(), "32768\n");
        disk.set_serial(None).unwrap();
        assert_eq!(namespace.sh("ls /sys/block/*/ | grep -c serial || true").unwrap(), "0\n");
        disk.detach().unwrap();
        assert_eq!(
            namespace.sh("ls /sys/block /sys/dev/block /dev | grep -c '^7:\\|^loop[0-9]' || true").unwrap(),
            "0\n"
        );
        assert_eq!(taken(&namespace), "");
        disk.attach().unwrap();
        assert_eq!(namespace.sh("blkid -o value -s TYPE /dev/loop[0-9]*").unwrap(), "ext4\n");
    }

    #[test]
    fn a_file_that_was_there_stays() {
        let namespace = Arc::new(Namespace::new().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE).unwrap();
        let disk = Disk::on(&namespace, "not-a-uuid", Kind::Block, file.path()).unwrap();
        assert_eq!(namespace.sh("cat /sys/block/*/serial /sys/block/*/size").unwrap(), "notauuid\n16384\n");
        drop(disk);
        assert!(file.path().exists());
    }

    #[test]
    fn twenty_disks_of_beds_side_by_side_are_all_free_again() {
        let beds: Vec<_> = (0..2).map(|_| Arc::new(Namespace::new().unwrap())).collect();
        std::thread::scope(|scope| {
            for namespace in beds.iter().cycle().take(4) {
                scope.spawn(move || {
                    let disks: Vec<_> = (0..5).map(|_| disk(namespace)).collect();
                    let mount = format!("mkfs.ext4 -q {0} && mount {0} /mnt", disks[0].device());
                    namespace.sh(&mount).unwrap();
                });
            }
        });
        let files: Vec<_> = beds.iter().map(|namespace| namespace.directory().to_owned()).collect();
        drop(beds);
        let loops = Command::new("losetup").args(["--list", "--noheadings", "--output", "BACK-FILE"]).ok().unwrap();
        assert!(files.iter().all(|bed| !loops.contains(&*bed.to_string_lossy())), "{loops}");
    }
}
