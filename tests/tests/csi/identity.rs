//! Which disk is a volume's, and what may be on one that gets a filesystem.

use cks_tests::csi::{Disk, Kind};
use tonic::Code;

use crate::scene::{LARGE, MIB, SMALL, Scene, refused};

#[test]
fn data_without_a_signature_is_refused_wherever_it_is_looked_for() {
    let scene = Scene::new();
    for at in [0, 511, 4096, 100 * 1024, MIB - 5, SMALL - MIB, SMALL - 5] {
        let disk = scene.blank();
        scene.put(&disk, at, b"money");
        scene.refuses_to_stage(&disk, Code::FailedPrecondition, "DISK_NOT_BLANK");
    }
}

#[test]
fn a_partition_table_is_refused() {
    let scene = Scene::new();
    let mbr = scene.blank();
    scene.put(&mbr, 446, b"\x80\x20\x21\x00\x83\x3a\x1c\x08\x00\x08\x00\x00\x00\xf8\x01\x00");
    scene.put(&mbr, 510, b"\x55\xaa");
    let gpt = scene.blank();
    scene.put(&gpt, 512, b"EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00");
    // The second copy alone: the first one was overwritten.
    let backup = scene.blank();
    scene.put(&backup, SMALL - 512, b"EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00");
    for disk in [mbr, gpt, backup] {
        scene.refuses_to_stage(&disk, Code::FailedPrecondition, "DISK_NOT_BLANK");
    }
}

#[test]
fn what_uses_whole_disks_is_refused_and_named() {
    let scene = Scene::new();
    let bytes: [(&str, u64, &[u8]); 5] = [
        ("LVM", 512, b"LABELONE\x01\x00\x00\x00\x00\x00\x00\x00"),
        ("LUKS", 0, b"LUKS\xba\xbe\x00\x02"),
        ("md array", 4096, b"\xfc\x4e\x2b\xa9\x01\x00\x00\x00"),
        ("bcache", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
        ("DRBD", 4096, b"\x83\x74\x02\x6b"),
    ];
    for (name, at, bytes) in bytes {
        let disk = scene.blank();
        scene.put(&disk, at, bytes);
        let why = scene.refuses_to_stage(&disk, Code::FailedPrecondition, "DISK_NOT_BLANK");
        assert!(why.contains(name), "{name}: {why}");
    }
}

#[test]
fn what_real_programs_make_of_a_disk_is_refused() {
    let scene = Scene::new();
    for (name, make) in [
        ("swap", "mkswap -q $d"),
        ("ext2", "mkfs.ext2 -q $d"),
        ("journal", "mke2fs -q -O journal_dev $d"),
        ("swap", "dd if=/dev/zero of=$d bs=1M count=1 conv=notrunc status=none; mkswap -q -p 4096 $d"),
    ] {
        let disk = scene.blank();
        scene.on(&disk, make);
        let why = scene.refuses_to_stage(&disk, Code::FailedPrecondition, "DISK_NOT_BLANK");
        assert!(why.contains(name), "{name}: {why}");
    }
}

/// The superblock of an md array, as version 1.0 and 0.90 have it at the end of each member.
fn md(version: &str, size: u64) -> (u64, Vec<u8>) {
    let mut bytes = vec![0; 256];
    let mut set = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    set(0, b"\xfc\x4e\x2b\xa9");
    if version == "0.90" {
        set(8, &90_u32.to_le_bytes());
        return ((size & !0xffff) - 0x1_0000, bytes);
    }
    let at = (size - 8192) & !4095;
    set(4, &1_u32.to_le_bytes());
    set(128, &(at / 512).to_le_bytes());
    (at, bytes)
}

#[test]
fn a_member_of_an_array_is_refused_though_a_filesystem_begins_on_it() {
    for (version, kind) in [("1.0", "ext4"), ("0.90", "ext4"), ("1.0", "xfs")] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.blank();
        let size = if kind == "xfs" { LARGE } else { SMALL };
        let made = size - 256 * 1024;
        scene.on(
            &disk,
            &match kind {
                "xfs" => format!("mkfs.xfs -q -d size={made} $d"),
                _ => format!("mkfs.ext4 -q $d {}k", made / 1024),
            },
        );
        let (at, bytes) = md(version, size);
        scene.put(&disk, at, &bytes);
        let why = scene.refuses_to_stage(&disk, Code::FailedPrecondition, "DISK_NOT_BLANK");
        assert!(why.contains("md array"), "{version}: {why}");
    }
}

#[test]
fn a_file_that_looks_like_an_array_is_a_file_of_the_volume() {
    let scene = Scene::new();
    let disk = scene.blank();
    // This filesystem goes on to the disk's end: what lies there is its own.
    scene.on(&disk, "mkfs.ext4 -q $d");
    let (at, bytes) = md("1.0", SMALL);
    scene.put(&disk, at, &bytes);
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn of_two_disks_with_one_serial_none_is_taken() {
    let scene = Scene::new();
    let disk = scene.blank();
    let mut other = scene.blank();
    other.set_serial(disk.serial()).unwrap();
    let why = scene.refuses_to_stage(&disk, Code::FailedPrecondition, "VOLUME_AMBIGUOUS");
    assert!(why.contains(disk.name()) && why.contains(other.name()), "{why}");
    assert!(scene.bytes(&other).iter().all(|byte| *byte == 0));
    other.set_serial(None).unwrap();
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn a_disk_whose_serial_only_begins_so_is_another_one() {
    let scene = Scene::new();
    let mut disk = scene.blank();
    let serial = disk.serial().unwrap().to_owned();
    for told in [&serial[..19], &format!("{serial}0"), &format!("x{serial}"), "", "QM00001"] {
        disk.set_serial(Some(told)).unwrap();
        let mut client = scene.client.clone();
        client = client.within(std::time::Duration::from_secs(1));
        refused(client.stage(scene.bed.stage(&disk).unwrap()), Code::Unavailable, "VOLUME_NOT_ATTACHED");
    }
    assert!(scene.bytes(&disk).iter().all(|byte| *byte == 0));
    // How it is written does not matter.
    disk.set_serial(Some(&format!("  {} ", serial.to_uppercase()))).unwrap();
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn a_stale_link_below_by_id_is_not_followed() {
    let scene = Scene::new();
    let (disk, decoy) = (scene.blank(), scene.bed.disk(SMALL).unwrap());
    let link = |name: &str, at: &Disk| {
        scene.bed.sh(&format!("ln -sf ../../{} /dev/disk/by-id/{name}{}", at.name(), disk.serial().unwrap())).unwrap();
    };
    link("virtio-", &decoy);
    link("scsi-0QEMU_QEMU_HARDDISK_", &decoy);
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    assert!(scene.targets(&decoy).is_empty() && scene.bytes(&decoy).iter().all(|byte| *byte == 0));
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn a_disk_that_has_become_another_one_is_neither_staged_again_nor_published() {
    let scene = Scene::new();
    let mut disk = scene.staged();
    let before = scene.bed.mounts().unwrap();
    let serial = disk.serial().unwrap().to_owned();
    disk.set_serial(Some("ffffffffffffffffffff")).unwrap();
    let client = scene.client.within(std::time::Duration::from_secs(1));
    refused(client.stage(scene.bed.stage(&disk).unwrap()), Code::Unavailable, "VOLUME_NOT_ATTACHED");
    let why =
        refused(client.publish(scene.bed.publish(&disk, 1).unwrap()), Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    assert!(why.contains("ffffffffffffffffffff") && why.contains(&serial), "{why}");
    refused(client.stats(scene.bed.stats(&disk, 1).unwrap()), Code::NotFound, "VOLUME_NOT_FOUND");
    refused(client.expand(scene.bed.expand(&disk, 1, 1).unwrap()), Code::NotFound, "VOLUME_NOT_FOUND");
    assert_eq!(scene.bed.mounts().unwrap(), before);
    // It can still be taken away.
    client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    assert!(scene.targets(&disk).is_empty());
}

#[test]
fn the_volumes_own_disk_is_not_mounted_over_another_ones_mount() {
    let scene = Scene::new();
    let (disk, other) = (scene.blank(), scene.blank());
    let staging = scene.bed.staging(&disk).unwrap();
    scene.on(&other, &format!("mkfs.ext4 -q $d && mount $d {staging}"));
    let why = scene.refuses_to_stage(&disk, Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
    assert!(why.contains(other.name()) && why.contains(disk.name()), "{why}");
}

#[test]
fn the_uuid_of_a_filesystem_is_derived_from_the_volumes_id() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.staged();
        let uuid = scene.on(&disk, "blkid -p -o value -s UUID $d");
        let derived = bootstrap::volume::VolumeId::parse(&disk.volume_id).unwrap().filesystem_uuid();
        assert_eq!(uuid.trim(), derived, "{kind}");
    }
}

#[test]
fn a_disk_that_somebody_else_has_mounted_or_holds_is_refused() {
    let scene = Scene::new();
    let disk = scene.blank();
    scene.on(&disk, "mkfs.ext4 -q $d && mkdir /run/mine && mount $d /run/mine");
    let why = refused(scene.client.stage(scene.bed.stage(&disk).unwrap()), Code::FailedPrecondition, "VOLUME_IN_USE");
    assert!(why.contains("/run/mine"), "{why}");
    scene.bed.sh("umount /run/mine").unwrap();
    // Swap holds a disk, and is in no mount table.
    let swap = scene.blank();
    scene.on(&swap, "mkswap -q $d");
    scene.refuses_to_stage(&swap, Code::FailedPrecondition, "DISK_NOT_BLANK");
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn a_disk_that_a_program_holds_alone_gets_no_filesystem() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let scene = Scene::new();
    let disk = scene.blank();
    let exclusive = nix::libc::O_EXCL;
    let held = std::fs::File::options().read(true).custom_flags(exclusive).open(scene.bed.path(disk.device())).unwrap();
    let answer = scene.client.stage(scene.bed.stage(&disk).unwrap());
    let why = refused(answer, Code::FailedPrecondition, "VOLUME_IN_USE");
    assert!(why.contains(disk.name()), "{why}");
    drop(held);
    assert!(scene.bytes(&disk).iter().all(|byte| *byte == 0));
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn an_id_in_capitals_is_the_same_volume() {
    let scene = Scene::new();
    let disk = scene.bed.disk_of("0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9", SMALL).unwrap();
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    let mut publish = scene.bed.publish(&disk, 1).unwrap();
    publish.volume_id = publish.volume_id.to_lowercase();
    scene.client.publish(publish).unwrap();
    assert_eq!(scene.targets(&disk).len(), 2);
}
