//! Volumes that grow.

use std::time::Duration;

use cks_tests::csi::Kind;
use cks_tests::csi::proto::NodeExpandVolumeRequest;
use tonic::{Code, Status};

use crate::scene::{Asks as _, LARGE, MIB, SMALL, Scene, refused};

/// The size of the filesystem, as its superblock or the kernel tells.
fn size(scene: &Scene, at: &str) -> u64 {
    scene.bed.sh(&format!("df -B1 --output=size {at} | tail -n 1")).unwrap().trim().parse().unwrap()
}

/// Whether a filesystem of this kind can grow while it is mounted: the kernel asks for `CAP_SYS_RESOURCE` to grow ext4, which
/// some containers lack.
fn may_grow(kind: &str) -> bool {
    const SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    kind != "ext4" || u64::from_str_radix(effective.trim(), 16).unwrap() >> SYS_RESOURCE & 1 == 1
}

/// What is answered where [`may_grow`] says no.
#[track_caller]
fn is_told_why_not<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let why = refused(answer, Code::Internal, "GROW_FAILED");
    assert!(why.contains("resize2fs") && why.contains("Permission denied"), "{why}");
}

/// That the volume grows in pod 1; or that it is told why not, and goes on in its old size.
#[track_caller]
fn grows(scene: &Scene, kind: &str, request: NodeExpandVolumeRequest) {
    let target = request.volume_path.clone();
    let (before, asked) = (size(scene, &target), request.capacity_range.unwrap().required_bytes);
    let answer = scene.client.expand(request);
    if may_grow(kind) {
        assert_eq!(answer.unwrap().capacity_bytes, asked);
        assert!(size(scene, &target) > before + SMALL / 2, "{kind}");
    } else {
        is_told_why_not(answer);
        assert_eq!(size(scene, &target), before);
    }
}

#[test]
fn a_volume_grows_while_a_pod_writes_to_it() {
    for (kind, from) in [("ext4", SMALL), ("xfs", LARGE), ("btrfs", LARGE)] {
        let scene = Scene::of(Kind::filesystem(kind));
        let mut disk = scene.published();
        let target = scene.bed.target(&disk, 1).unwrap();
        scene
            .bed
            .sh(&format!("head -c 8M /dev/urandom > {target}/data && sha256sum {target}/data > {target}/sum"))
            .unwrap();
        let writer =
            format!("cd {target}; i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i >> log || touch failed; done");
        scene.bed.sh(&format!("({writer}) >/dev/null 2>&1 &")).unwrap();
        disk.resize(2 * from).unwrap();
        grows(&scene, kind, scene.bed.expand(&disk, 1, 2 * from).unwrap());
        scene
            .bed
            .sh(&format!("cd {target} && touch stop && sha256sum --status -c sum && test ! -e failed && test -s log"))
            .unwrap();
        let wait = format!("while fuser -s -m {target}; do sleep 0.02; done");
        scene.bed.sh(&wait).unwrap();
        scene.client.unpublish(scene.bed.unpublish(&disk, 1).unwrap()).unwrap();
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    }
}

#[test]
fn a_volume_that_is_large_enough_is_a_success_each_time() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("xfs"), Kind::filesystem("btrfs"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.published();
        for required in [0, 1, SMALL] {
            let told = scene.client.expand(scene.bed.expand(&disk, 1, required).unwrap()).unwrap();
            assert!(u64::try_from(told.capacity_bytes).unwrap() >= SMALL);
        }
    }
}

#[test]
fn a_disk_that_is_too_small_yet_is_told_and_grows_later() {
    for kind in [Kind::filesystem("xfs"), Kind::Block] {
        let scene = Scene::of(kind);
        let mut disk = scene.published();
        let from = std::fs::metadata(&disk.file).unwrap().len();
        let client = scene.client.within(Duration::from_secs(1));
        let request = scene.bed.expand(&disk, 1, 2 * LARGE).unwrap();
        let why = refused(client.expand(request.clone()), Code::Unavailable, "DEVICE_TOO_SMALL");
        assert!(why.contains(&from.to_string()) && why.contains(&(2 * LARGE).to_string()), "{why}");
        disk.resize(2 * LARGE).unwrap();
        assert_eq!(u64::try_from(scene.client.expand(request).unwrap().capacity_bytes).unwrap(), 2 * LARGE);
    }
}

#[test]
fn a_disk_that_grows_during_the_call_is_waited_for() {
    let scene = Scene::of(Kind::filesystem("xfs"));
    let mut disk = scene.published();
    let request = scene.bed.expand(&disk, 1, 2 * LARGE).unwrap();
    let told = std::thread::scope(|scope| {
        let call = scope.spawn(|| scene.client.expand(request));
        disk.resize(2 * LARGE).unwrap();
        call.join().unwrap().unwrap()
    });
    assert_eq!(u64::try_from(told.capacity_bytes).unwrap(), 2 * LARGE);
}

#[test]
fn a_plain_directory_does_not_grow() {
    let scene = Scene::new();
    let disk = scene.staged();
    let mut request = scene.bed.expand(&disk, 1, 1).unwrap();
    for path in [request.volume_path.clone(), "/run".to_owned(), "/etc/hostname".to_owned(), "some/path".to_owned()] {
        request.volume_path = path;
        refused(scene.client.expand(request.clone()), Code::NotFound, "VOLUME_NOT_FOUND");
    }
}

#[test]
fn where_another_volume_is_nothing_grows() {
    let scene = Scene::new();
    let (disk, mut other) = (scene.published(), scene.published_in(2));
    other.resize(2 * SMALL).unwrap();
    let before = size(&scene, &scene.bed.target(&other, 2).unwrap());
    let mut request = scene.bed.expand(&disk, 1, 1).unwrap();
    request.volume_path = scene.bed.target(&other, 2).unwrap();
    let why = refused(scene.client.expand(request), Code::NotFound, "VOLUME_NOT_FOUND");
    assert!(why.contains(other.serial().unwrap()), "{why}");
    assert_eq!(size(&scene, &scene.bed.target(&other, 2).unwrap()), before);
}

#[test]
fn a_volume_that_one_pod_only_reads_grows_by_its_staging() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let mut disk = scene.staged();
        let mut request = scene.bed.publish(&disk, 1).unwrap();
        request.readonly = true;
        scene.client.publish(request).unwrap();
        disk.resize(2 * LARGE).unwrap();
        grows(&scene, kind, scene.bed.expand(&disk, 1, 2 * LARGE).unwrap());
    }
}

#[test]
fn a_volume_that_is_read_only_everywhere_does_not_grow_and_says_so() {
    let scene = Scene::new();
    let mut disk = scene.blank();
    scene.on(&disk, "mkfs.ext4 -q $d");
    scene.client.stage(scene.bed.stage(&disk).unwrap().options(&["ro"])).unwrap();
    disk.resize(2 * SMALL).unwrap();
    let mut request = scene.bed.expand(&disk, 1, 2 * SMALL).unwrap();
    request.volume_path = scene.bed.staging(&disk).unwrap();
    let why = refused(scene.client.expand(request), Code::FailedPrecondition, "VOLUME_IN_USE");
    assert!(why.contains("read-only"), "{why}");
}

#[test]
fn a_volume_that_was_expanded_while_it_was_away_grows_when_it_is_staged() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let scene = Scene::of(Kind::filesystem(kind));
        let mut disk = scene.staged();
        let staging = scene.bed.staging(&disk).unwrap();
        scene.write(&staging, "kept");
        let before = size(&scene, &staging);
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        disk.resize(2 * LARGE).unwrap();
        let answer = scene.client.stage(scene.bed.stage(&disk).unwrap());
        if !may_grow(kind) {
            is_told_why_not(answer);
            assert!(scene.targets(&disk).is_empty());
            continue;
        }
        answer.unwrap();
        assert!(size(&scene, &staging) > before + LARGE / 2, "{kind}");
        assert_eq!(scene.read(&staging), "kept");
    }
}

#[test]
fn who_knows_the_path_alone_may_ask_for_growth() {
    let scene = Scene::of(Kind::filesystem("xfs"));
    let mut disk = scene.published();
    disk.resize(LARGE + 17 * MIB).unwrap();
    let mut request = scene.bed.expand(&disk, 1, 0).unwrap();
    (request.volume_capability, request.capacity_range) = (None, None);
    request.staging_target_path.clear();
    let told = scene.client.expand(request).unwrap();
    assert_eq!(u64::try_from(told.capacity_bytes).unwrap(), LARGE + 17 * MIB);
}

#[test]
fn a_range_that_contradicts_itself_is_invalid() {
    let scene = Scene::new();
    let disk = scene.published();
    for (required_bytes, limit_bytes) in [(-1, 0), (0, -1), (10, 9)] {
        let mut request = scene.bed.expand(&disk, 1, 0).unwrap();
        request.capacity_range = Some(cks_tests::csi::proto::CapacityRange { required_bytes, limit_bytes });
        refused(scene.client.expand(request), Code::InvalidArgument, "REQUEST_INVALID");
    }
}
