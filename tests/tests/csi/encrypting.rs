//! Encrypted volumes on a machine whose kernel has no device-mapper: what is refused, and that it leaves every byte as it was.
//! What is opened, only a machine that boots shows (`vm/encrypted.rs`).

use std::fs;

use bootstrap::volume::VolumeId;
use bootstrap::volume::luks::{self, Header, State};
use cks_tests::csi::proto::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use cks_tests::csi::{Disk, Kind};
use tonic::Code;

use crate::scene::{Scene, eventually, refused};

const PARAMETER: &str = "csi.cloudstack.apache.org/encryption";
const SECRET: &str = "c0rrect-h0rse";

/// A request that asks for encryption.
fn encrypted(scene: &Scene, disk: &Disk) -> NodeStageVolumeRequest {
    let mut request = scene.bed.stage(disk).unwrap();
    request.volume_context.insert(PARAMETER.to_owned(), "luks2".to_owned());
    request.secrets.insert("passphrase".to_owned(), SECRET.to_owned());
    request
}

fn publishing(scene: &Scene, disk: &Disk) -> NodePublishVolumeRequest {
    let mut request = scene.bed.publish(disk, 1).unwrap();
    request.volume_context.insert(PARAMETER.to_owned(), "luks2".to_owned());
    request
}

/// That a request is refused so, and changes neither the disk nor the mounts; its secret is nowhere to be read.
#[track_caller]
fn refuses(scene: &Scene, disk: &Disk, request: NodeStageVolumeRequest, code: Code, class: &str) -> String {
    let (bytes, mounts) = (scene.bytes(disk), scene.bed.mounts().unwrap());
    let why = refused(scene.client.stage(request), code, class);
    assert!(scene.bytes(disk) == bytes, "the disk was changed: {why}");
    assert_eq!(scene.bed.mounts().unwrap(), mounts);
    scene.logged(class);
    assert!(!why.contains(SECRET) && !scene.bed.log().contains(SECRET), "{why}\n{}", scene.bed.log());
    why
}

fn luks_uuid(disk: &Disk) -> String {
    VolumeId::parse(&disk.volume_id).unwrap().luks_uuid()
}

/// Makes a LUKS header by hand.
fn make(scene: &Scene, disk: &Disk, kind: &str, uuid: &str, label: &str) {
    let label = if label.is_empty() { String::new() } else { format!("--label {label}") };
    scene.on(
        disk,
        &format!(
            "printf {SECRET} | cryptsetup luksFormat --type {kind} --batch-mode --uuid {uuid} {label} \
             --pbkdf-force-iterations 1000 --pbkdf pbkdf2 --key-file - $d"
        ),
    );
}

fn header(scene: &Scene, disk: &Disk) -> Option<Header> {
    luks::header(&scene.bytes(disk)[..128 << 10])
}

#[test]
fn without_device_mapper_a_blank_disk_stays_blank() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.blank();
        let why = refuses(&scene, &disk, encrypted(&scene, &disk), Code::FailedPrecondition, "ENCRYPTION_UNAVAILABLE");
        assert!(why.contains("/dev/mapper/control") && why.contains("modprobe dm_crypt"), "{why}");
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        // The volume is not spoilt for who wants it as it is.
        scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    }
}

#[test]
fn a_node_without_cryptsetup_is_told_to_have_it_installed() {
    let scene = Scene::new();
    let disk = scene.blank();
    scene.bed.sh("mkdir /run/sbin && mount --bind /run/sbin /usr/sbin").unwrap();
    let why = refuses(&scene, &disk, encrypted(&scene, &disk), Code::FailedPrecondition, "ENCRYPTION_UNAVAILABLE");
    assert!(why.contains("cryptsetup-bin"), "{why}");
}

#[test]
fn a_passphrase_that_is_none_is_named_by_its_field() {
    let scene = Scene::new();
    let disk = scene.blank();
    let long = SECRET.repeat(400);
    for (passphrase, why) in [(None, "missing"), (Some(""), "empty"), (Some(long.as_str()), "longer")] {
        let mut request = encrypted(&scene, &disk);
        request.secrets = passphrase.map(|text| ("passphrase".to_owned(), text.to_owned())).into_iter().collect();
        let said = refuses(&scene, &disk, request, Code::InvalidArgument, "REQUEST_INVALID");
        assert!(said.contains("secrets.passphrase") && said.contains(why), "{said}");
    }
    let mut request = encrypted(&scene, &disk);
    request.volume_context.insert(PARAMETER.to_owned(), "plain".to_owned());
    let said = refuses(&scene, &disk, request, Code::FailedPrecondition, "CAPABILITY_UNSUPPORTED");
    assert!(said.contains("luks2"), "{said}");
}

#[test]
fn what_is_there_in_the_clear_is_never_encrypted() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let (filesystem, data) = (scene.blank(), scene.blank());
        scene.on(&filesystem, "mkfs.ext4 -q $d");
        scene.put(&data, 7 << 9, b"a database");
        for (disk, named) in [(&filesystem, "ext4"), (&data, "data")] {
            let request = encrypted(&scene, disk);
            let why = refuses(&scene, disk, request, Code::FailedPrecondition, "DISK_NOT_BLANK");
            assert!(why.contains(named) && why.contains(PARAMETER), "{why}");
        }
    }
}

#[test]
fn a_container_that_is_not_the_volumes_is_refused_and_named() {
    let scene = Scene::new();
    let other = "11111111-2222-4333-8444-555555555555";
    let disks = [scene.blank(), scene.blank(), scene.blank(), scene.blank()];
    make(&scene, &disks[0], "luks2", other, "cks-new");
    make(&scene, &disks[1], "luks1", &luks_uuid(&disks[1]), "");
    make(&scene, &disks[2], "luks2", &luks_uuid(&disks[2]), "mine");
    make(&scene, &disks[3], "luks2", &luks_uuid(&disks[3]), "cks");
    // Both of its headers.
    scene.put(&disks[3], 200, b"x");
    scene.put(&disks[3], (16 << 10) + 200, b"x");
    for (disk, named) in disks.iter().zip([other, "LUKS1", "mine", "damaged"]) {
        let request = encrypted(&scene, disk);
        let why = refuses(&scene, disk, request, Code::FailedPrecondition, "DISK_NOT_BLANK");
        assert!(why.contains(named), "{named}: {why}");
    }
}

#[test]
fn an_encrypted_volume_is_not_staged_as_one_that_is_not() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        let disk = scene.blank();
        make(&scene, &disk, "luks2", &luks_uuid(&disk), "cks");
        let request = scene.bed.stage(&disk).unwrap();
        let why = refuses(&scene, &disk, request, Code::FailedPrecondition, "DISK_NOT_BLANK");
        assert!(why.contains(&format!("{PARAMETER}: luks2 is missing")), "{why}");
        // With the parameter it is the machine that lacks something.
        refuses(&scene, &disk, encrypted(&scene, &disk), Code::FailedPrecondition, "ENCRYPTION_UNAVAILABLE");
        // So it is with a copy, which has the header of its source.
        let copy = scene.blank();
        make(&scene, &copy, "luks2", "11111111-2222-4333-8444-555555555555", "cks");
        let plain = scene.bed.stage(&copy).unwrap();
        refuses(&scene, &copy, plain, Code::FailedPrecondition, "DISK_NOT_BLANK");
        refuses(&scene, &copy, encrypted(&scene, &copy), Code::FailedPrecondition, "ENCRYPTION_UNAVAILABLE");
    }
}

#[test]
fn a_pod_never_gets_the_disk_below_an_encrypted_volume() {
    let scene = Scene::of(Kind::Block);
    let (blank, disk) = (scene.blank(), scene.blank());
    make(&scene, &disk, "luks2", &luks_uuid(&disk), "cks");
    let mounts = scene.bed.mounts().unwrap();
    for disk in [&blank, &disk] {
        let answer = scene.client.publish(publishing(&scene, disk));
        refused(answer, Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    }
    let answer = scene.client.publish(scene.bed.publish(&disk, 1).unwrap());
    refused(answer, Code::FailedPrecondition, "DISK_NOT_BLANK");
    assert_eq!(scene.bed.mounts().unwrap(), mounts);
    // A container of a pod's own is the pod's.
    let own = scene.blank();
    make(&scene, &own, "luks2", "11111111-2222-4333-8444-555555555555", "");
    scene.client.stage(scene.bed.stage(&own).unwrap()).unwrap();
    scene.client.publish(scene.bed.publish(&own, 1).unwrap()).unwrap();
}

#[test]
fn a_staged_volume_that_is_not_encrypted_is_not_published_as_one_that_is() {
    let scene = Scene::new();
    let disk = scene.staged();
    refused(scene.client.publish(publishing(&scene, &disk)), Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    refused(scene.client.stage(encrypted(&scene, &disk)), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
    scene.client.publish(scene.bed.publish(&disk, 1).unwrap()).unwrap();
}

#[test]
fn who_may_only_read_makes_no_header() {
    use crate::scene::Asks as _;
    use cks_tests::csi::proto::volume_capability::access_mode::Mode;
    let scene = Scene::new();
    let (blank, new) = (scene.blank(), scene.blank());
    make(&scene, &new, "luks2", &luks_uuid(&new), "cks-new");
    for disk in [&blank, &new] {
        let request = encrypted(&scene, disk).mode(Mode::SingleNodeReaderOnly);
        let why = refuses(&scene, disk, request, Code::FailedPrecondition, "DISK_NOT_BLANK");
        assert!(why.contains("only be read"), "{why}");
    }
}

/// The node of device-mapper is there, and the kernel does not answer behind it: cryptsetup makes a header, and can't open it.
fn broken_device_mapper(scene: &Scene) {
    // A mount, for cryptsetup puts a node in the place of what is none.
    let control = "mount -t tmpfs bed /dev/mapper; touch /run/control /dev/mapper/control";
    scene.bed.sh(&format!("{control}; mount --bind /run/control /dev/mapper/control")).unwrap();
}

#[test]
fn a_header_that_could_not_be_opened_says_that_nothing_was_stored() {
    for kind in [Kind::filesystem("ext4"), Kind::Block] {
        let scene = Scene::of(kind);
        broken_device_mapper(&scene);
        let disk = scene.blank();
        for _ in 0..2 {
            let why = refused(scene.client.stage(encrypted(&scene, &disk)), Code::Internal, "ENCRYPTION_FAILED");
            assert!(why.contains("device-mapper") && !why.contains(SECRET), "{why}");
            let (uuid, label) = (luks_uuid(&disk), luks::NEW.to_owned());
            assert_eq!(header(&scene, &disk), Some(Header { version: 2, uuid, label, state: State::Whole }));
            scene.on(&disk, &format!("printf {SECRET} | cryptsetup open --test-passphrase --key-file - $d"));
        }
        assert!(!scene.bed.log().contains(SECRET));
        assert!(!scene.bytes(&disk).windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()));
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        let answer = scene.client.publish(publishing(&scene, &disk));
        refused(answer, Code::FailedPrecondition, "VOLUME_NOT_STAGED");
    }
}

#[test]
fn a_header_of_a_killed_agent_is_waited_for_and_begun_anew() {
    let scene = Scene::new();
    broken_device_mapper(&scene);
    let disk = scene.blank();
    let at = scene.bed.directory_for_all().join("gate").to_string_lossy().into_owned();
    scene
        .bed
        .sh(&format!(
            "mkdir -p {at}/real && cp /usr/sbin/cryptsetup {at}/real/cryptsetup
            cat > {at}/cryptsetup <<'END'
#!/bin/sh
echo $$ >> {at}/waiting
while [ ! -e {at}/open ]; do sleep 0.02; done
exec {at}/real/cryptsetup \"$@\"
END
            chmod 755 {at}/cryptsetup && mount --bind {at}/cryptsetup /usr/sbin/cryptsetup"
        ))
        .unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.client.stage(encrypted(&scene, &disk)));
        eventually("a cryptsetup at the gate", || fs::metadata(format!("{at}/waiting")).is_ok());
        scene.bed.kill().unwrap();
        first.join().unwrap().unwrap_err();
    });
    scene.bed.restart().unwrap();
    refuses(&scene, &disk, encrypted(&scene, &disk), Code::Aborted, "VOLUME_BUSY");
    // As far as a header can come before it is killed, too.
    scene.bed.sh(&format!("kill -9 $(cat {at}/waiting); umount -l /usr/sbin/cryptsetup")).unwrap();
    for half in [&b"LUKS\xba\xbe\0\x02"[..], b"random bytes of key slots"] {
        scene.put(&disk, 0, &[0; 1 << 15]);
        scene.put(&disk, if half.starts_with(b"LUKS") { 0 } else { 40_000 }, half);
        let answer = scene.client.stage(encrypted(&scene, &disk));
        if half.starts_with(b"LUKS") {
            // It does not say whose it is.
            refused(answer, Code::FailedPrecondition, "DISK_NOT_BLANK");
        } else {
            refused(answer, Code::Internal, "ENCRYPTION_FAILED");
            assert_eq!(header(&scene, &disk).map(|header| header.label).as_deref(), Some(luks::NEW));
        }
    }
    // The same on another attachment: nothing is concluded.
    scene.bed.sh("rm -f /var/lib/cks-agent/volumes/*.making").unwrap();
    scene.put(&disk, 0, &[0; 1 << 15]);
    refuses(&scene, &disk, encrypted(&scene, &disk), Code::FailedPrecondition, "DISK_NOT_BLANK");
}
