//! Requests that can't be met, whatever the node's state is.

use cks_tests::csi::proto::volume_capability::AccessType;
use cks_tests::csi::proto::volume_capability::access_mode::Mode;
use cks_tests::csi::{Disk, Kind};
use tonic::{Code, Status};

use crate::scene::{Asks as _, Scene, refused};

/// The calls with a volume's id, each with `id` and what is whole otherwise, on a volume that is published in pod 1.
fn each_call<'a>(scene: &'a Scene, disk: &'a Disk, id: &'a str) -> Vec<(&'static str, Result<(), Status>)> {
    let Scene { bed, client } = scene;
    macro_rules! call {
        ($name:ident, $request:expr) => {{
            let mut request = $request.unwrap();
            id.clone_into(&mut request.volume_id);
            (stringify!($name), client.$name(request).map(drop))
        }};
    }
    vec![
        call!(stage, bed.stage(disk)),
        call!(publish, bed.publish(disk, 2)),
        call!(stats, bed.stats(disk, 1)),
        call!(expand, bed.expand(disk, 1, 1)),
    ]
}

#[test]
fn an_id_that_no_cloudstack_gives_is_not_found() {
    let scene = Scene::new();
    let disk = scene.published();
    let before = scene.bed.mounts().unwrap();
    let bare = disk.volume_id.replace('-', "");
    for id in ["fake-vol-id-abcdef", "pvc-1", "../../etc", "é", &bare, disk.serial().unwrap()] {
        for (call, answer) in each_call(&scene, &disk, id) {
            let why = refused(answer, Code::NotFound, "VOLUME_NOT_FOUND");
            assert!(why.contains("UUID"), "{call}: {why}");
        }
    }
    assert_eq!(scene.bed.mounts().unwrap(), before);
}

#[test]
fn an_id_that_is_none_is_invalid() {
    let scene = Scene::new();
    let disk = scene.published();
    let long = "x".repeat(129);
    for (id, named) in [("", "missing"), ("a\nb", "control"), (&*long, "128 bytes")] {
        for (call, answer) in each_call(&scene, &disk, id) {
            let why = refused(answer, Code::InvalidArgument, "REQUEST_INVALID");
            assert!(why.contains("volume_id") && why.contains(named) && !why.contains('\n'), "{call}: {why}");
        }
    }
}

#[test]
fn a_volume_that_is_not_attached_is_no_reason_against_taking_it_away() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let mut disk = scene.blank();
        disk.detach().unwrap();
        for id in [disk.volume_id.clone(), "fake-vol-id".to_owned()] {
            let (mut unpublish, mut unstage) =
                (scene.bed.unpublish(&disk, 1).unwrap(), scene.bed.unstage(&disk).unwrap());
            (unpublish.volume_id, unstage.volume_id) = (id.clone(), id);
            scene.client.unpublish(unpublish).unwrap();
            scene.client.unstage(unstage).unwrap();
        }
    }
}

#[test]
fn what_is_wrong_is_told_in_the_order_id_target_capability_staging_path() {
    let scene = Scene::new();
    let disk = scene.staged();
    let request = || scene.bed.publish(&disk, 1).unwrap();
    let told = |request| scene.client.publish(request).unwrap_err();
    let mut wrong = request();
    wrong.staging_target_path.clear();
    let status = told(wrong.clone());
    assert!(
        status.code() == Code::FailedPrecondition && status.message().contains("staging_target_path"),
        "{status:?}"
    );
    wrong.volume_capability = None;
    let status = told(wrong.clone());
    assert!(status.code() == Code::InvalidArgument && status.message().contains("volume_capability"), "{status:?}");
    wrong.target_path.clear();
    let status = told(wrong.clone());
    assert!(
        status.code() == Code::InvalidArgument && status.message().contains("target_path is missing"),
        "{status:?}"
    );
    wrong.volume_id.clear();
    let status = told(wrong);
    assert!(status.code() == Code::InvalidArgument && status.message().contains("volume_id"), "{status:?}");
}

#[test]
fn a_capability_without_access_type_or_mode_is_invalid_and_nothing_is_mounted() {
    let scene = Scene::new();
    let disk = scene.blank();
    let bytes = scene.bytes(&disk);
    for (without, named) in
        [("type", "neither block nor mount"), ("mode", "access_mode"), ("unknown", "access_mode 77")]
    {
        let (mut stage, mut publish) = (scene.bed.stage(&disk).unwrap(), scene.bed.publish(&disk, 1).unwrap());
        for asked in [stage.asks(), publish.asks()] {
            match without {
                "type" => asked.access_type = None,
                "mode" => asked.access_mode = None,
                _ => asked.access_mode.as_mut().unwrap().mode = 77,
            }
        }
        for why in [
            refused(scene.client.stage(stage), Code::InvalidArgument, "REQUEST_INVALID"),
            refused(scene.client.publish(publish), Code::InvalidArgument, "REQUEST_INVALID"),
        ] {
            assert!(why.contains(named), "{why}");
        }
    }
    assert!(scene.targets(&disk).is_empty() && scene.bytes(&disk) == bytes);
}

#[test]
fn writers_of_several_nodes_are_refused_for_a_disk_is_attached_to_one() {
    let scene = Scene::new();
    let disk = scene.blank();
    for mode in [Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
        let request = scene.bed.stage(&disk).unwrap().mode(mode);
        let why = refused(scene.client.stage(request), Code::FailedPrecondition, "CAPABILITY_UNSUPPORTED");
        assert!(why.contains(mode.as_str_name()), "{why}");
    }
    assert!(scene.targets(&disk).is_empty());
}

#[test]
fn a_filesystem_that_there_is_not_is_refused_with_those_that_there_are() {
    let scene = Scene::new();
    let disk = scene.blank();
    for kind in ["EXT4", "ext2", "ntfs", "ext4 ", "../../../run/x", "ext4\n", "auto", "tmpfs"] {
        let request = scene.bed.stage(&disk).unwrap().filesystem(kind);
        let why = refused(scene.client.stage(request), Code::InvalidArgument, "FILESYSTEM_UNSUPPORTED");
        assert!(why.contains("ext3, ext4, xfs, btrfs"), "{why}");
    }
    assert!(scene.bytes(&disk).iter().all(|byte| *byte == 0));
}

#[test]
fn a_path_that_leads_elsewhere_is_invalid() {
    let scene = Scene::new();
    let disk = scene.staged();
    let long = format!("/{}", "x/".repeat(2048));
    for (path, named) in [
        ("/var/lib/kubelet/../../../etc/x", ".."),
        ("relative/path", "absolute"),
        ("/", "root"),
        ("//", "root"),
        ("/a\nb", "control"),
        (&*long, "4095"),
    ] {
        let mut stage = scene.bed.stage(&disk).unwrap();
        path.clone_into(&mut stage.staging_target_path);
        let mut publish = scene.bed.publish(&disk, 1).unwrap();
        path.clone_into(&mut publish.target_path);
        let mut unpublish = scene.bed.unpublish(&disk, 1).unwrap();
        path.clone_into(&mut unpublish.target_path);
        let mut unstage = scene.bed.unstage(&disk).unwrap();
        path.clone_into(&mut unstage.staging_target_path);
        for why in [
            refused(scene.client.stage(stage), Code::InvalidArgument, "REQUEST_INVALID"),
            refused(scene.client.publish(publish), Code::InvalidArgument, "REQUEST_INVALID"),
            refused(scene.client.unpublish(unpublish), Code::InvalidArgument, "REQUEST_INVALID"),
            refused(scene.client.unstage(unstage), Code::InvalidArgument, "REQUEST_INVALID"),
        ] {
            assert!(why.contains(named), "{path}: {why}");
        }
    }
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn a_path_may_have_spaces_and_other_letters() {
    let scene = Scene::new();
    let disk = scene.staged();
    let target = "/var/lib/kubelet/pods/a b\\c\"ü";
    let mut publish = scene.bed.publish(&disk, 1).unwrap();
    target.clone_into(&mut publish.target_path);
    for _ in 0..2 {
        scene.client.publish(publish.clone()).unwrap();
    }
    assert_eq!(scene.targets(&disk).len(), 2);
    let mut unpublish = scene.bed.unpublish(&disk, 1).unwrap();
    target.clone_into(&mut unpublish.target_path);
    scene.client.unpublish(unpublish).unwrap();
    assert!(!scene.bed.path(target).exists());
}

#[test]
fn what_a_storage_class_says_reaches_mkfs() {
    const OPTIONS: &str = "csi.cloudstack.apache.org/mkfs-options";
    for (kind, options, shown) in [
        (
            "ext4",
            "-b 1024 -I 512",
            "blkid -p -o value -s BLOCK_SIZE $d; dumpe2fs -h $d 2>/dev/null | grep -o 'Inode size.*512$'",
        ),
        ("xfs", "-b size=1024", "xfs_db -r -c 'sb 0' -c 'p blocksize' $d | grep -o 1024"),
    ] {
        let scene = Scene::of(Kind::filesystem(kind));
        let disk = scene.blank();
        let mut request = scene.bed.stage(&disk).unwrap();
        request.volume_context.insert(OPTIONS.to_owned(), options.to_owned());
        scene.client.stage(request).unwrap();
        assert!(scene.on(&disk, shown).starts_with("1024\n"), "{kind}");
    }
}

#[test]
fn what_a_storage_class_may_not_say_is_refused_and_the_disk_stays_blank() {
    const OPTIONS: &str = "csi.cloudstack.apache.org/mkfs-options";
    let scene = Scene::new();
    let disk = scene.blank();
    for options in
        ["-F", "-F -F", "-b", "-b 4096 -F", "-U clear", "-J device=/dev/vda", "-b 4096;reboot", "/dev/vda -b"]
    {
        let mut request = scene.bed.stage(&disk).unwrap();
        request.volume_context.insert(OPTIONS.to_owned(), options.to_owned());
        let why = refused(scene.client.stage(request), Code::InvalidArgument, "REQUEST_INVALID");
        assert!(why.contains("mkfs-options"), "{why}");
    }
    assert!(scene.bytes(&disk).iter().all(|byte| *byte == 0));
}

#[test]
fn what_mkfs_refuses_is_told_and_nothing_is_mounted() {
    let scene = Scene::new();
    let disk = scene.blank();
    let mut request = scene.bed.stage(&disk).unwrap();
    request.volume_context.insert("csi.cloudstack.apache.org/mkfs-options".to_owned(), "-I 7".to_owned());
    let why = refused(scene.client.stage(request), Code::Internal, "MKFS_FAILED");
    assert!(why.contains("inode size"), "{why}");
    assert!(scene.targets(&disk).is_empty());
    // The next one, with the StorageClass corrected.
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn a_group_for_the_mount_is_refused_for_it_was_not_offered() {
    let scene = Scene::new();
    let disk = scene.blank();
    let mut request = scene.bed.stage(&disk).unwrap();
    if let Some(AccessType::Mount(mount)) = &mut request.asks().access_type {
        mount.volume_mount_group = "1000".to_owned();
    }
    let why = refused(scene.client.stage(request), Code::InvalidArgument, "REQUEST_INVALID");
    assert!(why.contains("volume_mount_group"), "{why}");
}

#[test]
fn a_message_beyond_all_bounds_is_refused_and_the_next_one_served() {
    let scene = Scene::new();
    let disk = scene.blank();
    let mut request = scene.bed.stage(&disk).unwrap();
    request.volume_context.insert("x".to_owned(), "x".repeat(8 << 20));
    let status = scene.client.stage(request).unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn secrets_are_in_no_line_of_the_log_and_in_no_answer() {
    const SECRET: &str = "c0rrect-h0rse";
    let scene = Scene::new();
    let disk = scene.blank();
    let secrets = || [("passphrase".to_owned(), SECRET.to_owned())].into();
    let mut request = scene.bed.stage(&disk).unwrap();
    request.secrets = secrets();
    for wrong in [true, false] {
        let request = request.clone();
        let answer = scene.client.stage(if wrong { request.filesystem("ntfs") } else { request });
        assert!(!format!("{answer:?}").contains(SECRET));
    }
    let mut request = scene.bed.publish(&disk, 1).unwrap();
    request.secrets = secrets();
    scene.client.publish(request).unwrap();
    let mut request = scene.bed.expand(&disk, 1, 1 << 50).unwrap();
    request.secrets = secrets();
    request.capacity_range.as_mut().unwrap().limit_bytes = 1;
    refused(scene.client.expand(request), Code::InvalidArgument, "REQUEST_INVALID");
    scene.logged("NodeExpandVolume");
    assert!(!scene.bed.log().contains(SECRET) && !scene.bed.log().contains("passphrase"), "{}", scene.bed.log());
}
