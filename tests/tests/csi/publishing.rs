//! Publish and unpublish.

use cks_tests::csi::proto::volume_capability::access_mode::Mode;
use cks_tests::csi::{Kind, capability};
use tonic::Code;

use crate::scene::{Asks as _, Scene, refused};

#[test]
fn a_volume_that_is_published_again_is_a_success() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("xfs"), Kind::filesystem("btrfs"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.published();
        let before = scene.bed.mounts().unwrap();
        for _ in 0..3 {
            scene.client.publish(scene.bed.publish(&disk, 1).unwrap()).unwrap();
            assert_eq!(scene.bed.mounts().unwrap(), before);
        }
    }
}

#[test]
fn a_volume_that_is_unpublished_again_is_a_success_and_its_target_is_gone() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.published();
        let target = scene.bed.path(scene.bed.target(&disk, 1).unwrap());
        assert!(target.exists());
        for _ in 0..3 {
            scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
            assert!(!target.exists());
        }
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        assert!(scene.targets(&disk).is_empty());
    }
}

#[test]
fn a_volume_that_is_published_otherwise_is_incompatible() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.staged();
        for readonly in [false, true] {
            let mut request = scene.bed.publish(&disk, 1).unwrap();
            request.readonly = readonly;
            scene.client.publish(request.clone()).unwrap();
            let before = scene.bed.mounts().unwrap();
            request.readonly = !readonly;
            refused(scene.client.publish(request), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
            assert_eq!(scene.bed.mounts().unwrap(), before);
            scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
        }
    }
}

#[test]
fn another_volume_is_not_published_where_one_is_and_that_one_stays() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let (disk, other) = (scene.published(), scene.staged());
        let before = scene.bed.mounts().unwrap();
        let mut request = scene.bed.publish(&other, 1).unwrap();
        request.target_path = scene.bed.target(&disk, 1).unwrap();
        let why = refused(scene.client.publish(request), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
        assert!(why.contains("another volume"), "{why}");
        assert_eq!(scene.bed.mounts().unwrap(), before);
    }
}

#[test]
fn nothing_is_published_that_is_not_staged_and_no_directory_is_left() {
    let scene = Scene::new();
    let disk = scene.blank();
    let target = scene.bed.path(scene.bed.target(&disk, 1).unwrap());
    let request = || scene.bed.publish(&disk, 1).unwrap();
    refused(scene.client.publish(request()), Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    for staging in ["", "/var/lib/kubelet/missing", "/run"] {
        let mut request = request();
        staging.clone_into(&mut request.staging_target_path);
        refused(scene.client.publish(request), Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    }
    assert!(!target.exists() && scene.targets(&disk).is_empty());
}

#[test]
fn nothing_is_published_from_where_another_volume_is_staged() {
    let scene = Scene::new();
    let (disk, other) = (scene.staged(), scene.staged());
    let mut request = scene.bed.publish(&disk, 1).unwrap();
    request.staging_target_path = scene.bed.staging(&other).unwrap();
    let why = refused(scene.client.publish(request), Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    assert!(why.contains(other.serial().unwrap()), "{why}");
    assert!(!scene.bed.path(scene.bed.target(&disk, 1).unwrap()).exists());
    assert_eq!((scene.targets(&disk).len(), scene.targets(&other).len()), (1, 1));
}

#[test]
fn a_block_volume_without_its_disk_is_not_published_and_no_file_is_left() {
    let scene = Scene::of(Kind::Block);
    let mut disk = scene.staged();
    disk.detach().unwrap();
    refused(scene.client.publish(scene.bed.publish(&disk, 1).unwrap()), Code::Unavailable, "VOLUME_NOT_ATTACHED");
    assert!(!scene.bed.path(scene.bed.target(&disk, 1).unwrap()).exists());
}

#[test]
fn many_publishes_of_one_target_at_once_make_one_mount() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.staged();
        let request = scene.bed.publish(&disk, 1).unwrap();
        let target = scene.bed.target(&disk, 1).unwrap();
        for _ in 0..5 {
            let answers: Vec<_> = std::thread::scope(|scope| {
                let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| scene.client.publish(request.clone()))).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            assert!(answers.iter().any(Result::is_ok), "{answers:?}");
            for answer in answers.into_iter().filter(Result::is_err) {
                refused(answer, Code::Aborted, "VOLUME_BUSY");
            }
            assert_eq!(scene.targets(&disk).iter().filter(|there| **there == target).count(), 1);
            scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_single_writer_has_one_target() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("btrfs"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.staged();
        let request = |pod| scene.bed.publish(&disk, pod).unwrap().mode(Mode::SingleNodeSingleWriter);
        scene.client.publish(request(1)).unwrap();
        scene.client.publish(request(1)).unwrap();
        let why = refused(scene.client.publish(request(2)), Code::FailedPrecondition, "VOLUME_IN_USE");
        assert!(why.contains(&scene.bed.target(&disk, 1).unwrap()), "{why}");
        assert!(!scene.bed.path(scene.bed.target(&disk, 2).unwrap()).exists());
        scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
        scene.client.publish(request(2)).unwrap();
    }
}

#[test]
fn other_writers_of_one_node_have_as_many_targets_as_they_like_and_see_the_same_files() {
    for mode in [Mode::SingleNodeWriter, Mode::SingleNodeMultiWriter] {
        let scene = Scene::new();
        let disk = scene.blank();
        scene.client.stage(scene.bed.stage(&disk).unwrap().mode(mode)).unwrap();
        for pod in 1..=3 {
            scene.client.publish(scene.bed.publish(&disk, pod).unwrap().mode(mode)).unwrap();
        }
        scene.write(&scene.bed.target(&disk, 1).unwrap(), "seen");
        assert_eq!(scene.read(&scene.bed.target(&disk, 3).unwrap()), "seen");
        assert_eq!(scene.targets(&disk).len(), 4);
    }
}

#[test]
fn a_pod_that_may_only_read_does_not_write_and_another_one_does() {
    let scene = Scene::new();
    let disk = scene.published();
    let mut request = scene.bed.publish(&disk, 2).unwrap();
    request.readonly = true;
    scene.client.publish(request).unwrap();
    let (writer, reader) = (scene.bed.target(&disk, 1).unwrap(), scene.bed.target(&disk, 2).unwrap());
    scene.write(&writer, "read");
    assert_eq!(scene.read(&reader), "read");
    let why = scene.bed.sh(&format!("touch {reader}/x")).unwrap_err().to_string();
    assert!(why.contains("Read-only file system"), "{why}");
}

#[test]
fn a_pods_own_mount_options_reach_the_kernel() {
    let scene = Scene::new();
    let disk = scene.staged();
    let options = ["noexec", "nosuid"];
    for _ in 0..2 {
        scene.client.publish(scene.bed.publish(&disk, 1).unwrap().options(&options)).unwrap();
    }
    let mounts = scene.bed.mounts_of(&disk).unwrap();
    let of = |target: &str| mounts.iter().find(|mount| mount.target == target).unwrap();
    let (staged, published) = (scene.bed.staging(&disk).unwrap(), scene.bed.target(&disk, 1).unwrap());
    for option in options {
        assert!(of(&published).has(option) && !of(&staged).has(option), "{mounts:?}");
    }
    refused(scene.client.publish(scene.bed.publish(&disk, 1).unwrap()), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
}

#[test]
fn a_volume_with_a_filesystem_is_seen_by_pods_with_the_mounts_that_kubelet_shares() {
    let scene = Scene::new();
    let disk = scene.published();
    let mut reading = scene.bed.publish(&disk, 2).unwrap();
    reading.readonly = true;
    scene.client.publish(reading).unwrap();
    for mount in scene.bed.mounts_of(&disk).unwrap() {
        assert!(mount.shared, "{mount:?}");
    }
}

#[test]
fn a_target_that_is_something_else_is_refused_and_stays() {
    let scene = Scene::new();
    let disk = scene.staged();
    scene
        .bed
        .sh("mkdir -p /run/t/full /run/t/other; cd /run/t; touch file full/kept; ln -s other link; mkfifo fifo")
        .unwrap();
    let before = scene.bed.mounts().unwrap();
    for target in ["file", "link", "fifo", "full"] {
        let mut request = scene.bed.publish(&disk, 1).unwrap();
        request.target_path = format!("/run/t/{target}");
        let why = refused(scene.client.publish(request), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
        assert!(why.contains(target), "{why}");
        assert_eq!(scene.bed.mounts().unwrap(), before);
    }
    assert_eq!(
        scene.bed.sh("cd /run/t; find . ! -name . | sort | xargs").unwrap(),
        "./fifo ./file ./full ./full/kept ./link ./other\n"
    );
}

#[test]
fn an_empty_target_that_somebody_made_will_do() {
    for (kind, make) in [(Kind::filesystem("ext4"), "mkdir"), (Kind::Block, "touch")] {
        let scene = Scene::of(kind);
        let disk = scene.staged();
        scene.bed.sh(&format!("{make} {}", scene.bed.target(&disk, 1).unwrap())).unwrap();
        scene.client.publish(scene.bed.publish(&disk, 1).unwrap()).unwrap();
        assert!(scene.targets(&disk).contains(&scene.bed.target(&disk, 1).unwrap()));
    }
}

#[test]
fn a_target_within_the_staging_path_or_around_it_is_refused() {
    let scene = Scene::new();
    let disk = scene.staged();
    let staging = scene.bed.staging(&disk).unwrap();
    for target in [format!("{staging}/below"), staging.clone(), "/var/lib/kubelet".to_owned()] {
        let mut request = scene.bed.publish(&disk, 1).unwrap();
        request.target_path = target;
        refused(scene.client.publish(request), Code::InvalidArgument, "REQUEST_INVALID");
    }
    assert_eq!(scene.bed.sh(&format!("ls {staging}")).unwrap(), "lost+found\n");
}

#[test]
fn unpublish_removes_no_data_that_lies_at_the_target() {
    let scene = Scene::new();
    let disk = scene.staged();
    let target = scene.bed.target(&disk, 1).unwrap();
    scene.bed.sh(&format!("mkdir {target} && touch {target}/kept")).unwrap();
    refused(scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()), Code::Internal, "IO");
    assert_eq!(scene.bed.sh(&format!("rm {target}/kept && echo was there")).unwrap(), "was there\n");
    scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
}

#[test]
fn a_busy_target_is_not_unpublished_and_the_process_is_named() {
    let scene = Scene::new();
    let disk = scene.published();
    let target = scene.bed.target(&disk, 1).unwrap();
    let process = scene.bed.sh(&format!("exec 9>{target}/open; sleep 300 >/dev/null 2>&1 & echo $!")).unwrap();
    let process = process.trim();
    let answer = scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap());
    let why = refused(answer, Code::FailedPrecondition, "VOLUME_IN_USE");
    assert!(why.contains(&format!("process {process} (sleep)")), "{why}");
    assert!(scene.targets(&disk).contains(&target));
    scene.bed.sh(&format!("kill -9 {process}; while kill -0 {process} 2>/dev/null; do sleep 0.01; done")).unwrap();
    scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
}

#[test]
fn mounts_that_another_driver_stacked_on_a_target_are_all_taken_away() {
    let scene = Scene::new();
    let disk = scene.published();
    let target = scene.bed.target(&disk, 1).unwrap();
    scene.bed.sh(&format!("mount --bind {} {target}", scene.bed.staging(&disk).unwrap())).unwrap();
    scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
    assert_eq!(scene.targets(&disk), [scene.bed.staging(&disk).unwrap()]);
    assert!(!scene.bed.path(target).exists());
}

#[test]
fn a_published_device_is_the_disk_itself() {
    let scene = Scene::of(Kind::Block);
    let disk = scene.published();
    let target = scene.bed.target(&disk, 1).unwrap();
    scene.bed.sh(&format!("printf written | dd of={target} bs=4096 conv=notrunc,fsync status=none")).unwrap();
    assert!(scene.bytes(&disk).starts_with(b"written"));
    let mut reading = scene.bed.publish(&disk, 2).unwrap();
    reading.readonly = true;
    scene.client.publish(reading).unwrap();
    let mounts = scene.bed.mounts_of(&disk).unwrap();
    let told = |pod| mounts.iter().find(|mount| mount.target == scene.bed.target(&disk, pod).unwrap()).unwrap();
    assert!(told(2).options.split(',').any(|option| option == "ro"), "{mounts:?}");
    assert!(told(1).options.split(',').any(|option| option == "rw"), "{mounts:?}");
}

#[test]
fn a_volume_that_is_staged_with_a_filesystem_is_not_published_on_a_file_of_a_device() {
    let scene = Scene::of(Kind::Block);
    let disk = scene.published();
    let mut request = scene.bed.publish(&disk, 1).unwrap();
    request.volume_capability = Some(capability(&Kind::filesystem("ext4")));
    let before = scene.bed.mounts().unwrap();
    refused(scene.client.publish(request), Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    assert_eq!(scene.bed.mounts().unwrap(), before);
}

#[test]
fn what_is_mounted_at_a_target_and_is_no_volume_is_neither_covered_nor_taken_away() {
    let scene = Scene::new();
    let disk = scene.staged();
    let target = scene.bed.target(&disk, 1).unwrap();
    scene.bed.sh(&format!("mkdir {target} && mount -t tmpfs other {target}")).unwrap();
    let before = scene.bed.mounts().unwrap();
    refused(scene.client.publish(scene.bed.publish(&disk, 1).unwrap()), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
    refused(scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
    assert_eq!(scene.bed.mounts().unwrap(), before);
}

#[test]
fn what_is_staged_read_only_is_not_published_for_writing() {
    let scene = Scene::new();
    let disk = scene.blank();
    scene.on(&disk, "mkfs.ext4 -q $d");
    scene.client.stage(scene.bed.stage(&disk).unwrap().options(&["ro"])).unwrap();
    for _ in 0..2 {
        let answer = scene.client.publish(scene.bed.publish(&disk, 1).unwrap());
        let why = refused(answer, Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
        assert!(why.contains("read-only"), "{why}");
        assert!(!scene.bed.path(scene.bed.target(&disk, 1).unwrap()).exists());
    }
    for _ in 0..2 {
        scene.client.publish(scene.bed.publish(&disk, 1).unwrap().options(&["ro"])).unwrap();
    }
}
