//! Stage and unstage.

use cks_tests::csi::proto::volume_capability::access_mode::Mode;
use cks_tests::csi::{Kind, Options};
use tonic::Code;

use crate::scene::{Asks as _, Gate, SMALL, Scene, refused};

#[test]
fn a_volume_that_is_staged_again_is_a_success() {
    for kind in ["ext4", "ext3", "xfs", "btrfs"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.staged();
        let staging = scene.bed.staging(&disk).unwrap();
        scene.write(&staging, "kept");
        for _ in 0..3 {
            scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
        }
        let mounts = scene.bed.mounts_of(&disk).unwrap();
        assert_eq!((mounts.len(), &*mounts[0].filesystem, &*mounts[0].target), (1, kind, &*staging));
        assert_eq!(scene.read(&staging), "kept");
    }
}

#[test]
fn a_volume_that_is_unstaged_again_is_a_success_and_its_directory_stays() {
    let scene = Scene::new();
    let disk = scene.staged();
    for _ in 0..3 {
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        assert!(scene.targets(&disk).is_empty());
        assert!(scene.bed.path(scene.bed.staging(&disk).unwrap()).is_dir());
    }
}

#[test]
fn a_volume_keeps_its_files_from_one_staging_to_the_next() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.staged();
        let staging = scene.bed.staging(&disk).unwrap();
        scene.write(&staging, "kept");
        for _ in 0..2 {
            scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
            scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
            assert_eq!(scene.read(&staging), "kept", "{kind}");
        }
    }
}

#[test]
fn a_volume_that_is_staged_otherwise_is_incompatible() {
    let scene = Scene::new();
    let disk = scene.staged();
    let before = scene.bed.mounts().unwrap();
    let request = || scene.bed.stage(&disk).unwrap();
    for (named, request) in [
        ("xfs", request().filesystem("xfs")),
        ("read-only", request().options(&["ro"])),
        ("noexec", request().options(&["noexec"])),
        ("read-only", request().mode(Mode::SingleNodeReaderOnly)),
    ] {
        let why = refused(scene.client.stage(request), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
        assert!(why.contains(named), "{named}: {why}");
        assert_eq!(scene.bed.mounts().unwrap(), before);
    }
    scene.client.stage(request()).unwrap();
}

#[test]
fn another_volume_is_not_staged_where_one_is_staged() {
    let scene = Scene::new();
    let (disk, other) = (scene.staged(), scene.blank());
    let mut request = scene.bed.stage(&other).unwrap();
    request.staging_target_path = scene.bed.staging(&disk).unwrap();
    refused(scene.client.stage(request), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
    assert!(scene.targets(&other).is_empty() && scene.bytes(&other).iter().all(|byte| *byte == 0));
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn a_staged_volume_is_not_staged_at_a_second_place() {
    let scene = Scene::new();
    let disk = scene.staged();
    let mut request = scene.bed.stage(&disk).unwrap();
    request.staging_target_path = "/var/lib/kubelet/plugins/second".to_owned();
    scene.bed.directory(&request.staging_target_path).unwrap();
    let why = refused(scene.client.stage(request), Code::FailedPrecondition, "VOLUME_IN_USE");
    assert!(why.contains(&scene.bed.staging(&disk).unwrap()), "{why}");
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn a_staging_path_that_is_no_directory_is_refused_and_the_disk_stays_blank() {
    let scene = Scene::new();
    let disk = scene.blank();
    scene.bed.sh("mkdir /run/real && ln -s /run/real /run/link && touch /run/file").unwrap();
    for path in ["/run/link", "/run/file", "/run/missing", "/run/missing/below", "/run/file/below"] {
        let mut request = scene.bed.stage(&disk).unwrap();
        path.clone_into(&mut request.staging_target_path);
        let status = scene.client.stage(request).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{path}: {status:?}");
        assert!(status.message().contains(path), "{status:?}");
    }
    assert!(scene.bytes(&disk).iter().all(|byte| *byte == 0) && scene.targets(&disk).is_empty());
    assert!(!scene.bed.path("/run/missing").exists());
}

#[test]
fn unstaging_a_published_volume_is_refused_and_names_where_it_is() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("btrfs"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.published();
        let before = scene.bed.mounts().unwrap();
        let answer = scene.client.unstage(scene.bed.unstage(&disk).unwrap());
        let why = refused(answer, Code::FailedPrecondition, "VOLUME_IN_USE");
        assert!(why.contains(&scene.bed.target(&disk, 1).unwrap()), "{why}");
        assert_eq!(scene.bed.mounts().unwrap(), before);
    }
}

#[test]
fn a_busy_volume_is_not_unstaged_and_the_process_is_named() {
    let scene = Scene::new();
    let disk = scene.staged();
    let staging = scene.bed.staging(&disk).unwrap();
    let process = scene.bed.sh(&format!("cd {staging}; sleep 300 >/dev/null 2>&1 & echo $!")).unwrap();
    let process = process.trim();
    let answer = scene.client.unstage(scene.bed.unstage(&disk).unwrap());
    let why = refused(answer, Code::FailedPrecondition, "VOLUME_IN_USE");
    assert!(why.contains(&format!("process {process} (sleep)")), "{why}");
    assert_eq!(scene.targets(&disk), [&*staging]);
    scene.bed.sh(&format!("kill -9 {process}; while kill -0 {process} 2>/dev/null; do sleep 0.01; done")).unwrap();
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    assert!(scene.targets(&disk).is_empty());
}

#[test]
fn of_many_stagings_at_once_one_makes_the_filesystem() {
    let scene = Scene::new();
    let disk = scene.blank();
    let gate = Gate::before_mkfs(&scene.bed, "");
    let request = scene.bed.stage(&disk).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.client.stage(request.clone()));
        gate.reached();
        for _ in 0..8 {
            refused(scene.client.stage(request.clone()), Code::Aborted, "VOLUME_BUSY");
        }
        refused(scene.client.unstage(scene.bed.unstage(&disk).unwrap()), Code::Aborted, "VOLUME_BUSY");
        // The same volume, and another place.
        let mut other = request.clone();
        other.volume_id = other.volume_id.to_uppercase();
        other.staging_target_path.push_str("/other");
        refused(scene.client.stage(other), Code::Aborted, "VOLUME_BUSY");
        gate.open();
        first.join().unwrap().unwrap();
    });
    scene.client.stage(request).unwrap();
    assert_eq!((gate.came(), scene.targets(&disk).len()), (1, 1));
}

#[test]
fn a_volume_that_is_being_made_keeps_no_other_waiting() {
    let scene = Scene::new();
    let (slow, other) = (scene.blank(), scene.bed.disk(SMALL).unwrap());
    scene.on(&other, "mkfs.ext4 -q $d");
    let gate = Gate::before_mkfs(&scene.bed, "");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.client.stage(scene.bed.stage(&slow).unwrap()));
        gate.reached();
        scene.client.stage(scene.bed.stage(&other).unwrap()).unwrap();
        scene.client.publish(scene.bed.publish(&other, 1).unwrap()).unwrap();
        scene.client.stats(scene.bed.stats(&other, 1).unwrap()).unwrap();
        gate.open();
        first.join().unwrap().unwrap();
    });
}

#[test]
fn mount_options_reach_the_kernel() {
    let scene = Scene::new();
    let disk = scene.blank();
    let asked = ["noatime", "nosuid,nodev", "discard", "commit=7", "defaults", "_netdev"];
    let request = scene.bed.stage(&disk).unwrap().options(&asked);
    scene.client.stage(request.clone()).unwrap();
    let mounts = scene.bed.mounts_of(&disk).unwrap();
    for option in ["noatime", "nosuid", "nodev", "discard", "commit=7"] {
        assert!(mounts[0].has(option), "{option}: {mounts:?}");
    }
    scene.client.stage(request.clone()).unwrap();
    let why = scene.client.stage(request.options(&["noatime,nosuid,nodev,discard,commit=8"]));
    assert!(refused(why, Code::AlreadyExists, "VOLUME_INCOMPATIBLE").contains("commit=8"));
}

#[test]
fn an_option_that_the_filesystem_does_not_know_is_named_and_nothing_is_mounted() {
    let scene = Scene::new();
    let disk = scene.blank();
    let request = scene.bed.stage(&disk).unwrap();
    let why = refused(scene.client.stage(request.clone().options(&["logbsize=64k"])), Code::Internal, "MOUNT_FAILED");
    assert!(why.contains("logbsize=64k") && why.contains("option"), "{why}");
    assert!(scene.targets(&disk).is_empty());
    scene.client.stage(request).unwrap();
}

#[test]
fn options_that_make_something_else_of_a_mount_are_refused_and_the_disk_stays_blank() {
    let scene = Scene::new();
    let disk = scene.blank();
    for option in ["bind", "remount", "loop", "rshared", "move", "journal_path=/dev/vda", "offset=4096", "sb=8193"] {
        let request = scene.bed.stage(&disk).unwrap().options(&["noatime", option]);
        let why = refused(scene.client.stage(request), Code::InvalidArgument, "REQUEST_INVALID");
        assert!(why.contains(option), "{why}");
    }
    assert!(scene.bytes(&disk).iter().all(|byte| *byte == 0));
}

#[test]
fn who_may_only_read_mounts_read_only_and_makes_no_filesystem() {
    for mode in [Mode::SingleNodeReaderOnly, Mode::MultiNodeReaderOnly] {
        let scene = Scene::new();
        let disk = scene.blank();
        let request = scene.bed.stage(&disk).unwrap().mode(mode);
        refused(scene.client.stage(request.clone()), Code::FailedPrecondition, "DISK_NOT_BLANK");
        assert!(scene.bytes(&disk).iter().all(|byte| *byte == 0));
        scene.on(&disk, "mkfs.ext4 -q $d");
        scene.client.stage(request).unwrap();
        scene.client.publish(scene.bed.publish(&disk, 1).unwrap().mode(mode)).unwrap();
        let mounts = scene.bed.mounts_of(&disk).unwrap();
        assert!(mounts.len() == 2 && mounts.iter().all(|mount| mount.has("ro")), "{mounts:?}");
        assert!(scene.bed.sh(&format!("touch {}/x", scene.bed.target(&disk, 1).unwrap())).is_err());
    }
}

#[test]
fn a_filesystem_that_nobody_names_is_the_one_that_is_there_or_the_configured_one() {
    let scene = Scene::with(&Options { kind: Kind::filesystem("ext3"), ..Options::default() });
    let (blank, other) = (scene.blank(), scene.blank());
    scene.on(&other, "mkfs.ext4 -q $d");
    for (disk, kind) in [(&blank, "ext3"), (&other, "ext4")] {
        for _ in 0..2 {
            scene.client.stage(scene.bed.stage(disk).unwrap().filesystem("")).unwrap();
        }
        assert_eq!(scene.bed.mounts_of(disk).unwrap()[0].filesystem, kind);
    }
}

#[test]
fn a_block_volume_is_staged_without_a_mount_and_its_disk_stays_as_it_is() {
    let scene = Scene::of(Kind::Block);
    let disk = scene.blank();
    scene.put(&disk, 0, b"a database of its own");
    let bytes = scene.bytes(&disk);
    let before = scene.bed.mounts().unwrap();
    for _ in 0..3 {
        scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    }
    assert_eq!(scene.bed.mounts().unwrap(), before);
    for _ in 0..3 {
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    }
    assert!(scene.bytes(&disk) == bytes);
}

#[test]
fn a_volume_with_a_filesystem_is_not_staged_as_another_kind() {
    let scene = Scene::of(Kind::filesystem("xfs"));
    let disk = scene.blank();
    scene.on(&disk, "mkfs.ext4 -q $d");
    let why = scene.refuses_to_stage(&disk, Code::FailedPrecondition, "FILESYSTEM_MISMATCH");
    assert!(why.contains("ext4") && why.contains("xfs"), "{why}");
}

#[test]
fn a_volume_whose_staging_was_unmounted_by_hand_is_not_unstaged_while_a_pod_has_it() {
    let scene = Scene::new();
    let disk = scene.published();
    scene.bed.sh(&format!("umount {}", scene.bed.staging(&disk).unwrap())).unwrap();
    let answer = scene.client.unstage(scene.bed.unstage(&disk).unwrap());
    let why = refused(answer, Code::FailedPrecondition, "VOLUME_IN_USE");
    assert!(why.contains(&scene.bed.target(&disk, 1).unwrap()), "{why}");
    scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
}

#[test]
fn a_way_with_links_leads_to_the_same_staging_and_target() {
    let scene = Scene::new();
    let disk = scene.blank();
    scene.bed.sh("mkdir -p /run/real/staging && ln -s /run/real /run/link").unwrap();
    let (staging, target) = ("/run/link/staging".to_owned(), "/run/link/target".to_owned());
    let mut stage = scene.bed.stage(&disk).unwrap();
    stage.staging_target_path.clone_from(&staging);
    let mut publish = scene.bed.publish(&disk, 1).unwrap();
    (publish.staging_target_path, publish.target_path) = (staging.clone(), target.clone());
    for _ in 0..2 {
        scene.client.stage(stage.clone()).unwrap();
    }
    for _ in 0..2 {
        scene.client.publish(publish.clone()).unwrap();
    }
    assert_eq!(scene.targets(&disk), ["/run/real/staging", "/run/real/target"]);
    let mut unpublish = scene.bed.unpublish(&disk, 1).unwrap();
    unpublish.target_path = target;
    let mut unstage = scene.bed.unstage(&disk).unwrap();
    unstage.staging_target_path = staging;
    refused(scene.client.unstage(unstage.clone()), Code::FailedPrecondition, "VOLUME_IN_USE");
    scene.client.unpublish(unpublish).unwrap();
    scene.client.unstage(unstage).unwrap();
    assert!(scene.targets(&disk).is_empty());
}
