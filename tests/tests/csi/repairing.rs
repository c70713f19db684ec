//! Filesystems that were not left in order, and copies of others.

use std::fs;
use std::path::PathBuf;

use cks_tests::csi::{Disk, Kind};
use tonic::Code;

use crate::scene::{SMALL, Scene};

/// A copy of a disk as it is at this moment, mounted and perhaps just written to: as after a power cut, or of a snapshot.
fn copy(scene: &Scene, disk: &Disk) -> (PathBuf, Disk) {
    let file = scene.bed.directory_for_all().join(format!("copy-of-{}", disk.name()));
    scene.bed.sh(&format!("cp --sparse=always {} {}", disk.file.display(), file.display())).unwrap();
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let copied = scene.bed.disk_on(&file, id.trim()).unwrap();
    (file, copied)
}

/// Makes files that are in the journal and not yet in their place.
fn write_much(scene: &Scene, at: &str) {
    scene
        .bed
        .sh(&format!("cd {at}; for i in $(seq 200); do echo $i > $i; done; sync -f .; echo kept > file; sync file"))
        .unwrap();
}

#[test]
fn a_journal_is_replayed_and_nothing_is_lost() {
    for kind in ["ext4", "xfs", "ext3"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.staged();
        write_much(&scene, &scene.bed.staging(&disk).unwrap());
        let (_, unclean) = copy(&scene, &disk);
        let unclean_yet = if kind == "xfs" {
            "xfs_logprint -t $d 2>&1 | grep -c '<DIRTY>'"
        } else {
            "dumpe2fs -h $d 2>/dev/null | grep -c needs_recovery"
        };
        assert_ne!(scene.on(&unclean, unclean_yet), "0\n");
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        scene.client.stage(scene.bed.stage(&unclean).unwrap()).unwrap();
        let staging = scene.bed.staging(&unclean).unwrap();
        assert_eq!(scene.read(&staging), "kept", "{kind}");
        assert_eq!(scene.bed.sh(&format!("cat {staging}/200")).unwrap(), "200\n");
        scene.client.unstage(scene.bed.unstage(&unclean).unwrap()).unwrap();
        let check = if kind == "xfs" { "xfs_repair -n $d 2>&1" } else { "e2fsck -fn $d 2>&1" };
        scene.on(&unclean, check);
    }
}

#[test]
fn a_copy_is_mounted_beside_its_source_though_it_has_the_same_uuid() {
    for kind in ["xfs", "ext4"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.staged();
        scene.write(&scene.bed.staging(&disk).unwrap(), "both");
        scene.bed.sh(&format!("sync -f {}", scene.bed.staging(&disk).unwrap())).unwrap();
        let (_, copied) = copy(&scene, &disk);
        for _ in 0..2 {
            scene.client.stage(scene.bed.stage(&copied).unwrap()).unwrap();
        }
        scene.write(&scene.bed.staging(&copied).unwrap(), "copy");
        assert_eq!(scene.read(&scene.bed.staging(&disk).unwrap()), "both");
        assert_eq!((scene.targets(&disk).len(), scene.targets(&copied).len()), (1, 1));
    }
}

#[test]
fn a_filesystem_that_says_that_it_has_errors_is_checked_and_staged() {
    let scene = Scene::new();
    let disk = scene.staged();
    scene.write(&scene.bed.staging(&disk).unwrap(), "kept");
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    let state = || scene.on(&disk, "dumpe2fs -h $d 2>/dev/null | sed -n 's/Filesystem state: *//p'");
    scene.on(&disk, "debugfs -w -R 'set_super_value state 2' $d 2>/dev/null");
    assert!(state().contains("errors"), "{}", state());
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    assert_eq!(scene.read(&scene.bed.staging(&disk).unwrap()), "kept");
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    assert_eq!(state().trim(), "clean");
}

#[test]
fn what_the_check_can_mend_by_itself_is_mended() {
    let scene = Scene::new();
    let disk = scene.staged();
    scene.write(&scene.bed.staging(&disk).unwrap(), "kept");
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    // A wrong count of free blocks.
    scene.on(
        &disk,
        "debugfs -w -R 'set_super_value free_blocks_count 7' $d; debugfs -w -R 'set_super_value state 2' $d",
    );
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    scene.on(&disk, "e2fsck -fn $d");
}

/// A volume whose root directory is no directory any more.
fn damaged(scene: &Scene) -> Disk {
    let disk = scene.staged();
    scene.bed.sh(&format!("mkdir {}/below", scene.bed.staging(&disk).unwrap())).unwrap();
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    scene.on(&disk, "debugfs -w -R 'clri <2>' $d; debugfs -w -R 'set_super_value state 2' $d");
    disk
}

#[test]
fn what_the_check_can_not_mend_by_itself_is_told_and_not_mounted() {
    let scene = Scene::new();
    let disk = damaged(&scene);
    let staging = scene.bed.stage(&disk).unwrap();
    for _ in 0..2 {
        let answer = scene.client.stage(staging.clone());
        let why = crate::scene::refused(answer, Code::FailedPrecondition, "FILESYSTEM_DAMAGED");
        assert!(why.contains("e2fsck -p") && why.contains("snapshot"), "{why}");
        assert!(scene.targets(&disk).is_empty());
    }
    // Somebody mends it by hand.
    scene.on(&disk, "e2fsck -fy $d >/dev/null || [ $? -le 2 ]");
    scene.client.stage(staging).unwrap();
}

#[test]
fn what_the_check_refuses_to_mend_stays_as_it_was() {
    let scene = Scene::new();
    let disk = damaged(&scene);
    // The first refusal may replay the journal, and notes that it was checked.
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap_err();
    let kept = |bytes: &[u8]| bytes[4096..].to_vec();
    let before = kept(&scene.bytes(&disk));
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap_err();
    assert!(kept(&scene.bytes(&disk)) == before);
}

#[test]
fn a_filesystem_without_a_journal_that_was_not_unmounted_is_checked() {
    let scene = Scene::new();
    let disk = scene.blank();
    scene.on(&disk, "mkfs.ext4 -q -O ^has_journal $d && mkdir /run/x && mount $d /run/x && echo kept > /run/x/file && sync -f /run/x");
    let (_, unclean) = copy(&scene, &disk);
    scene.bed.sh("umount /run/x").unwrap();
    scene.client.stage(scene.bed.stage(&unclean).unwrap()).unwrap();
    assert_eq!(scene.read(&scene.bed.staging(&unclean).unwrap()), "kept");
    scene.client.unstage(scene.bed.unstage(&unclean).unwrap()).unwrap();
    scene.on(&unclean, "e2fsck -fn $d");
}

#[test]
fn a_disk_that_ends_before_its_filesystem_is_not_mounted() {
    let scene = Scene::new();
    let mut disk = scene.staged();
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    disk.resize(SMALL / 2).unwrap();
    let before = scene.bytes(&disk);
    let answer = scene.client.stage(scene.bed.stage(&disk).unwrap());
    let why = crate::scene::refused(answer, Code::Unavailable, "DEVICE_TOO_SMALL");
    assert!(why.contains(&SMALL.to_string()) && why.contains(&(SMALL / 2).to_string()), "{why}");
    assert!(scene.targets(&disk).is_empty() && scene.bytes(&disk) == before);
}
