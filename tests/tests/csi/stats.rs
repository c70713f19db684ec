//! How full a volume is, and whether it is well.

use cks_tests::csi::Kind;
use cks_tests::csi::proto::volume_usage::Unit;
use cks_tests::csi::proto::{NodeGetVolumeStatsResponse, VolumeUsage};
use tonic::Code;

use crate::scene::{SMALL, Scene, refused};

fn of(told: &NodeGetVolumeStatsResponse, unit: Unit) -> Option<VolumeUsage> {
    told.usage.iter().find(|usage| usage.unit == i32::from(unit)).copied()
}

/// What `df` says: total, used, available.
fn df(scene: &Scene, options: &str, at: &str) -> [i64; 3] {
    let said = scene.bed.sh(&format!("df {options} {at} | tail -n 1")).unwrap();
    let numbers: Vec<i64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn a_filesystem_is_as_full_as_df_says() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.published();
        let target = scene.bed.target(&disk, 1).unwrap();
        scene.bed.sh(&format!("head -c 4M /dev/urandom > {target}/data && sync -f {target}")).unwrap();
        let told = scene.client.stats(scene.bed.stats(&disk, 1).unwrap()).unwrap();
        let bytes = of(&told, Unit::Bytes).unwrap();
        assert_eq!(
            [bytes.total, bytes.used, bytes.available],
            df(&scene, "-B1 --output=size,used,avail", &target),
            "{kind}"
        );
        assert!(bytes.used >= 4 << 20 || kind == "btrfs", "{told:?}");
        match of(&told, Unit::Inodes) {
            Some(inodes) => {
                let df = df(&scene, "--output=itotal,iused,iavail", &target);
                assert_eq!([inodes.total, inodes.used, inodes.available], df, "{kind}");
            }
            // It makes them as it needs them.
            None => assert_eq!(kind, "btrfs"),
        }
        let condition = told.volume_condition.unwrap();
        assert!(!condition.abnormal && !condition.message.is_empty(), "{condition:?}");
    }
}

#[test]
fn a_block_volume_tells_its_size() {
    let scene = Scene::of(Kind::Block);
    let disk = scene.published();
    let told = scene.client.stats(scene.bed.stats(&disk, 1).unwrap()).unwrap();
    let bytes = of(&told, Unit::Bytes).unwrap();
    assert_eq!((told.usage.len(), u64::try_from(bytes.total).unwrap()), (1, SMALL));
    assert!(!told.volume_condition.unwrap().abnormal);
}

#[test]
fn a_volume_can_be_asked_where_it_is_staged() {
    let scene = Scene::new();
    let disk = scene.staged();
    let mut request = scene.bed.stats(&disk, 1).unwrap();
    request.volume_path = scene.bed.staging(&disk).unwrap();
    assert!(of(&scene.client.stats(request).unwrap(), Unit::Bytes).unwrap().total > 0);
}

#[test]
fn a_place_where_the_volume_is_not_is_not_found() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("btrfs"), Kind::Block] {
        let scene = Scene::of(kind);
        let (disk, other) = (scene.published(), scene.published_in(2));
        let request = scene.bed.stats(&disk, 1).unwrap();
        let target = request.volume_path.clone();
        let elsewhere = scene.bed.target(&other, 2).unwrap();
        for path in ["/run", "/run/missing", "/etc/hostname", "/", "some/path", &format!("{target}/below"), &elsewhere]
        {
            let mut request = request.clone();
            path.clone_into(&mut request.volume_path);
            let status = scene.client.stats(request).unwrap_err();
            let root = path == "/" && status.code() == Code::InvalidArgument;
            assert!(root || status.code() == Code::NotFound, "{path}: {status:?}");
        }
        scene.client.stats(request).unwrap();
    }
}

#[test]
fn a_link_to_a_volume_is_not_the_volume() {
    let scene = Scene::new();
    let disk = scene.published();
    let mut request = scene.bed.stats(&disk, 1).unwrap();
    scene.bed.sh(&format!("ln -s {} /run/link", request.volume_path)).unwrap();
    "/run/link".clone_into(&mut request.volume_path);
    refused(scene.client.stats(request), Code::NotFound, "VOLUME_NOT_FOUND");
}

#[test]
fn a_disk_that_goes_while_it_is_mounted_makes_a_volume_abnormal_and_it_can_be_taken_away() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("xfs")] {
        let scene = Scene::of(kind);
        let mut disk = scene.published();
        let number = disk.number().to_owned();
        disk.detach().unwrap();
        let told = scene.client.stats(scene.bed.stats(&disk, 1).unwrap()).unwrap();
        let condition = told.volume_condition.unwrap();
        assert!(condition.abnormal && condition.message.contains("disk"), "{condition:?}");
        for _ in 0..2 {
            scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
        }
        for _ in 0..2 {
            scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        }
        assert!(scene.bed.mounts().unwrap().iter().all(|mount| mount.device != number));
        // As it comes back, perhaps under another name.
        disk.attach().unwrap();
        scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    }
}

/// btrfs tells its disk by the path of a node, and that is gone.
#[test]
fn a_btrfs_whose_disk_goes_can_be_taken_away() {
    let scene = Scene::of(Kind::filesystem("btrfs"));
    let mut disk = scene.published();
    disk.detach().unwrap();
    let unstage = scene.bed.unstage(&disk).unwrap();
    refused(scene.client.unstage(unstage.clone()), Code::FailedPrecondition, "VOLUME_IN_USE");
    for _ in 0..2 {
        scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
    }
    for _ in 0..2 {
        scene.client.unstage(unstage.clone()).unwrap();
    }
    let staging = scene.bed.staging(&disk).unwrap();
    assert!(scene.bed.mounts().unwrap().iter().all(|mount| mount.target != staging));
}

#[test]
fn a_block_volume_whose_disk_goes_can_be_taken_away() {
    let scene = Scene::of(Kind::Block);
    let mut disk = scene.published();
    let target = scene.bed.target(&disk, 1).unwrap();
    disk.detach().unwrap();
    let told = scene.client.stats(scene.bed.stats(&disk, 1).unwrap()).unwrap();
    assert!(told.volume_condition.unwrap().abnormal);
    scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    assert!(!scene.bed.path(target).exists());
}

#[test]
fn errors_that_the_kernel_counts_make_a_volume_abnormal() {
    let scene = Scene::new();
    let disk = scene.published();
    // The kernel counts it a moment later, on a thread of its own (`flush_stashed_error_work`).
    let trigger = "cd /sys/fs/ext4/$0; echo x >trigger_fs_error; until grep -qx 1 errors_count; do sleep 0.01; done";
    scene.bed.sh(&trigger.replace("$0", disk.name())).unwrap();
    let told = scene.client.stats(scene.bed.stats(&disk, 1).unwrap()).unwrap();
    let condition = told.volume_condition.clone().unwrap();
    assert!(condition.abnormal && condition.message.contains("1 error"), "{condition:?}");
    assert!(of(&told, Unit::Bytes).unwrap().total > 0);
}

#[test]
fn the_size_that_a_superblock_tells_is_the_filesystems() {
    use bootstrap::volume::superblock::{Content, content};
    let scene = Scene::new();
    for (make, kind, ends) in [
        ("mkfs.ext4 -q -b 1024 $d", "ext4", 0),
        ("mkfs.ext4 -q -b 4096 $d", "ext4", 0),
        ("mkfs.ext4 -q -b 4096 -O ^64bit $d 100M", "ext4", 220 << 20),
        ("mkfs.ext4 -q -O bigalloc,^has_journal $d", "ext4", 0),
        ("mkfs.ext3 -q $d", "ext3", 0),
        ("mkfs.xfs -q $d", "xfs", 0),
        ("mkfs.xfs -q -b size=1024 -m crc=0 $d", "xfs", 0),
        ("mkfs.btrfs -q $d", "btrfs", 0),
    ] {
        let disk = scene.bed.disk(320 << 20).unwrap();
        scene.on(&disk, make);
        let Content::Filesystem(found) = content(&scene.bytes(&disk)[..128 << 10]) else { panic!("{make}") };
        assert_eq!((found.kind.name(), found.size, found.needs_check), (kind, (320 << 20) - ends, false), "{make}");
    }
}

#[test]
fn a_disk_that_came_back_as_another_device_is_staged_when_its_dead_mount_is_gone() {
    let scene = Scene::new();
    let mut disk = scene.staged();
    scene.write(&scene.bed.staging(&disk).unwrap(), "kept");
    scene.bed.sh(&format!("sync -f {}", scene.bed.staging(&disk).unwrap())).unwrap();
    disk.detach().unwrap();
    disk.attach().unwrap();
    let why = refused(scene.client.stage(scene.bed.stage(&disk).unwrap()), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
    assert!(why.contains(disk.name()), "{why}");
    refused(scene.client.publish(scene.bed.publish(&disk, 1).unwrap()), Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    assert_eq!(scene.read(&scene.bed.staging(&disk).unwrap()), "kept");
}
