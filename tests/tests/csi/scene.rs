//! A bed with its client, and what is asked of answers and disks.

use std::fmt::Debug;
use std::fs;
use std::time::{Duration, Instant};

use cks_tests::csi::proto::volume_capability::access_mode::Mode;
use cks_tests::csi::proto::volume_capability::{AccessMode, AccessType};
use cks_tests::csi::proto::{NodePublishVolumeRequest, NodeStageVolumeRequest, VolumeCapability};
use cks_tests::csi::{Bed, Client, Disk, Kind, Options};
use tonic::{Code, Status};

pub(crate) const MIB: u64 = 1 << 20;
/// Of the kinds that need not be large.
pub(crate) const SMALL: u64 = 32 * MIB;
/// mkfs.xfs makes nothing smaller.
pub(crate) const LARGE: u64 = 320 * MIB;
/// How long something may take that has been asked for, on a machine with much to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A bed and a client of it.
pub(crate) struct Scene {
    pub(crate) bed: Bed,
    pub(crate) client: Client,
}

impl Scene {
    /// Volumes with ext4.
    pub(crate) fn new() -> Self {
        Self::of(Kind::filesystem("ext4"))
    }

    /// Volumes of this kind.
    pub(crate) fn of(kind: Kind) -> Self {
        Self::with(&Options { kind, ..Options::default() })
    }

    pub(crate) fn with(options: &Options) -> Self {
        let bed = Bed::start(options).unwrap();
        let client = bed.client().unwrap();
        Self { bed, client }
    }

    /// A blank disk.
    pub(crate) fn blank(&self) -> Disk {
        let large =
            matches!(&self.bed.options().kind, Kind::Filesystem(kind) if ["xfs", "btrfs"].contains(&kind.as_str()));
        self.bed.disk(if large { LARGE } else { SMALL }).unwrap()
    }

    /// A volume that is staged.
    pub(crate) fn staged(&self) -> Disk {
        let disk = self.blank();
        self.client.stage(self.bed.stage(&disk).unwrap()).unwrap();
        disk
    }

    /// A volume that is staged, and published in pod 1.
    pub(crate) fn published(&self) -> Disk {
        self.published_in(1)
    }

    /// The same, in pod number `pod`.
    pub(crate) fn published_in(&self, pod: u32) -> Disk {
        let disk = self.staged();
        self.client.publish(self.bed.publish(&disk, pod).unwrap()).unwrap();
        disk
    }

    /// Where something of the disk is mounted.
    pub(crate) fn targets(&self, disk: &Disk) -> Vec<String> {
        self.bed.mounts_of(disk).unwrap().into_iter().map(|mount| mount.target).collect()
    }

    /// Writes to a volume, and to its disk.
    pub(crate) fn write(&self, at: &str, text: &str) {
        self.bed.sh(&format!("echo {text} > {at}/file && sync {at}/file")).unwrap();
    }

    pub(crate) fn read(&self, at: &str) -> String {
        self.bed.sh(&format!("cat {at}/file")).unwrap().trim().to_owned()
    }

    /// All bytes of a disk, as the device gives them.
    pub(crate) fn bytes(&self, disk: &Disk) -> Vec<u8> {
        fs::read(self.bed.path(disk.device())).unwrap()
    }

    /// Puts bytes on a disk.
    pub(crate) fn put(&self, disk: &Disk, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt as _;
        let device = fs::File::options().write(true).open(self.bed.path(disk.device())).unwrap();
        device.write_all_at(bytes, at).unwrap();
        device.sync_all().unwrap();
    }

    /// Runs a script inside, in which `$d` is the disk's device.
    pub(crate) fn on(&self, disk: &Disk, script: &str) -> String {
        self.bed.sh(&format!("d={}\n{script}", disk.device())).unwrap()
    }

    /// Waits until the daemon listens to what the kernel tells of devices.
    #[track_caller]
    pub(crate) fn listens(&self) {
        const OF_DEVICES: &str = "15";
        let daemon = format!("/proc/{}/fd", self.bed.pid().unwrap());
        eventually("the daemon listens", || {
            let table = fs::read_to_string("/proc/self/net/netlink").unwrap();
            let listening = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let sockets: Vec<_> = listening
                .filter(|columns| columns.get(1) == Some(&OF_DEVICES))
                .filter_map(|columns| Some(format!("socket:[{}]", columns.last()?)))
                .collect();
            let open = fs::read_dir(&daemon).unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
            open.into_iter().any(|at| sockets.iter().any(|socket| at.as_os_str() == socket.as_str()))
        });
    }

    /// Waits until the daemons' log has `text`.
    #[track_caller]
    pub(crate) fn logged(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.bed.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text} in\n{}", self.bed.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// That staging is refused so, and changes neither the disk nor the mounts.
    #[track_caller]
    pub(crate) fn refuses_to_stage(&self, disk: &Disk, code: Code, class: &str) -> String {
        let (bytes, mounts) = (self.bytes(disk), self.bed.mounts().unwrap());
        let request = self.bed.stage(disk).unwrap();
        let why = refused(self.client.stage(request), code, class);
        assert!(self.bytes(disk) == bytes, "the disk was changed: {why}");
        assert_eq!(self.bed.mounts().unwrap(), mounts);
        why
    }
}

/// That a call was refused with this code, and with this class in front of the reason, which is given.
#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Result<T, Status>, code: Code, class: &str) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().starts_with(&format!("{class}: ")), "{status:?}");
    status.message().to_owned()
}

/// Waits until it holds.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Requests that say how a volume is to be used.
pub(crate) trait Asks: Sized {
    fn asks(&mut self) -> &mut VolumeCapability;

    /// With another filesystem.
    fn filesystem(mut self, kind: &str) -> Self {
        if let Some(AccessType::Mount(mount)) = &mut self.asks().access_type {
            kind.clone_into(&mut mount.fs_type);
        }
        self
    }

    /// With these mount options.
    fn options(mut self, options: &[&str]) -> Self {
        if let Some(AccessType::Mount(mount)) = &mut self.asks().access_type {
            mount.mount_flags = options.iter().map(|&option| option.to_owned()).collect();
        }
        self
    }

    /// With this access mode.
    fn mode(mut self, mode: Mode) -> Self {
        self.asks().access_mode = Some(AccessMode { mode: mode.into() });
        self
    }
}

impl Asks for NodeStageVolumeRequest {
    fn asks(&mut self) -> &mut VolumeCapability {
        self.volume_capability.as_mut().unwrap()
    }
}

impl Asks for NodePublishVolumeRequest {
    fn asks(&mut self) -> &mut VolumeCapability {
        self.volume_capability.as_mut().unwrap()
    }
}

/// A gate before the `mke2fs` of the bed: the daemon's next one stands before it until [`Gate::open`].
pub(crate) struct Gate<'a> {
    bed: &'a Bed,
    at: String,
}

impl<'a> Gate<'a> {
    /// Puts it there. What stands before it has done `first` to the disk, `$d`.
    pub(crate) fn before_mkfs(bed: &'a Bed, first: &str) -> Self {
        let at = bed.directory_for_all().join("gate").to_string_lossy().into_owned();
        bed.sh(&format!(
            "mkdir -p {at}/real && cp /usr/sbin/mke2fs {at}/real/mkfs.ext4
            cat > {at}/mkfs <<'END'
#!/bin/sh
for d; do :; done
{first}
echo $$ >> {at}/waiting
while [ ! -e {at}/open ]; do sleep 0.02; done
exec {at}/real/mkfs.ext4 \"$@\"
END
            chmod 755 {at}/mkfs && mount --bind {at}/mkfs /usr/sbin/mke2fs"
        ))
        .unwrap();
        Self { bed, at }
    }

    /// How many came to it.
    pub(crate) fn came(&self) -> usize {
        fs::read_to_string(format!("{}/waiting", self.at)).unwrap_or_default().lines().count()
    }

    /// Waits until one stands before it.
    #[track_caller]
    pub(crate) fn reached(&self) {
        eventually("a mkfs at the gate", || self.came() > 0);
    }

    /// Lets all through.
    pub(crate) fn open(&self) {
        fs::write(format!("{}/open", self.at), "").unwrap();
    }

    /// `kill -9` of what stands before it, and takes it away.
    pub(crate) fn kill(self) {
        self.bed.sh(&format!("kill -9 $(cat {0}/waiting); rm {0}/waiting; until umount /usr/sbin/mke2fs 2>/dev/null; do sleep 0.02; done", self.at)).unwrap();
    }
}
