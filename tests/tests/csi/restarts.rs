//! Daemons that are killed or stopped in the midst of it, and those that come after them.

use std::time::Duration;

use cks_tests::csi::{Bed, Kind};
use cks_tests::process::Command;
use tonic::Code;

use crate::scene::{Gate, PATIENCE, Scene, eventually, refused};

#[test]
fn every_call_is_a_success_again_after_the_daemon_was_killed() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("xfs"), Kind::filesystem("btrfs"), Kind::Block] {
        let scene = Scene::of(kind.clone());
        let Scene { bed, client } = &scene;
        let disk = scene.blank();
        let again = |call: &dyn Fn()| {
            for _ in 0..2 {
                call();
                bed.restart().unwrap();
                call();
            }
        };
        again(&|| client.stage(bed.stage(&disk).unwrap()).map(drop).unwrap());
        again(&|| client.publish(bed.publish(&disk, 1).unwrap()).map(drop).unwrap());
        let target = bed.target(&disk, 1).unwrap();
        if kind != Kind::Block {
            scene.write(&target, "kept");
        }
        again(&|| client.stats(bed.stats(&disk, 1).unwrap()).map(drop).unwrap());
        again(&|| client.expand(bed.expand(&disk, 1, 1).unwrap()).map(drop).unwrap());
        assert_eq!(scene.targets(&disk).len(), if kind == Kind::Block { 1 } else { 2 });
        if kind != Kind::Block {
            assert_eq!(scene.read(&target), "kept");
        }
        again(&|| client.unpublish(bed.unpublish(&disk, 1).unwrap()).map(drop).unwrap());
        again(&|| client.unstage(bed.unstage(&disk).unwrap()).map(drop).unwrap());
        assert!(scene.targets(&disk).is_empty());
    }
}

#[test]
fn a_pod_goes_on_while_the_daemon_is_killed_and_started_anew() {
    let scene = Scene::new();
    let disk = scene.published();
    let target = scene.bed.target(&disk, 1).unwrap();
    let writer =
        format!("cd {target}; i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i >> log || touch /run/failed; done");
    scene.bed.sh(&format!("({writer}) >/dev/null 2>&1 &")).unwrap();
    for _ in 0..3 {
        scene.bed.restart().unwrap();
    }
    assert_eq!(scene.bed.stop().unwrap(), Some(0));
    scene.bed.restart().unwrap();
    scene.bed.sh(&format!("cd {target} && touch stop && test -s log && test ! -e /run/failed")).unwrap();
    assert_eq!(scene.targets(&disk).len(), 2);
}

/// Kills the daemon, and then its mkfs, when that has written something.
fn broken_off(scene: &Scene, disk: &cks_tests::csi::Disk) {
    // What a real one leaves varies: of some it is a whole superblock already, of others the last block alone.
    let gate =
        Gate::before_mkfs(&scene.bed, "dd if=/dev/urandom of=$d bs=4k count=40 seek=1 conv=notrunc,fsync status=none");
    let request = scene.bed.stage(disk).unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| scene.client.within(PATIENCE).stage(request));
        gate.reached();
        scene.bed.kill().unwrap();
        call.join().unwrap().unwrap_err();
    });
    gate.kill();
    assert!(scene.bytes(disk)[4096..8192].iter().any(|byte| *byte != 0));
}

#[test]
fn a_filesystem_whose_making_was_broken_off_is_made_anew() {
    for times in [1, 2] {
        let scene = Scene::new();
        let disk = scene.blank();
        for _ in 0..times {
            broken_off(&scene, &disk);
            scene.bed.restart().unwrap();
        }
        scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
        scene.write(&scene.bed.staging(&disk).unwrap(), "kept");
        scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
        scene.on(&disk, "e2fsck -fn $d");
        // What was noted is crossed out: from now on nothing is made anew.
        assert_eq!(scene.bed.sh("find /var/lib/cks-agent/volumes -type f | wc -l").unwrap(), "0\n");
    }
}

#[test]
fn a_disk_that_was_away_since_its_making_was_broken_off_is_refused() {
    let scene = Scene::new();
    let mut disk = scene.blank();
    broken_off(&scene, &disk);
    disk.detach().unwrap();
    disk.attach().unwrap();
    scene.bed.restart().unwrap();
    scene.refuses_to_stage(&disk, Code::FailedPrecondition, "DISK_NOT_BLANK");
}

#[test]
fn what_was_noted_of_one_disk_is_not_believed_of_another() {
    let scene = Scene::new();
    let (disk, mut other) = (scene.blank(), scene.blank());
    broken_off(&scene, &disk);
    // Another disk says that it is the volume's, and the right one has gone.
    scene.put(&other, 8192, b"money");
    other.set_serial(disk.serial()).unwrap();
    let id = disk.volume_id.clone();
    drop(disk);
    other.volume_id = id;
    scene.bed.restart().unwrap();
    scene.refuses_to_stage(&other, Code::FailedPrecondition, "DISK_NOT_BLANK");
}

#[test]
fn a_mkfs_that_outlives_its_daemon_is_waited_out() {
    let scene = Scene::new();
    let disk = scene.blank();
    let gate = Gate::before_mkfs(&scene.bed, "exec 9<$d");
    let request = scene.bed.stage(&disk).unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| scene.client.within(PATIENCE).stage(request.clone()));
        gate.reached();
        scene.bed.restart().unwrap();
        call.join().unwrap().unwrap_err();
    });
    gate.open();
    eventually("the volume is staged", || scene.client.stage(request.clone()).is_ok());
    scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
    scene.on(&disk, "e2fsck -fn $d");
}

#[test]
fn a_client_that_gives_up_during_mkfs_leaves_one_that_goes_on_and_no_second_one() {
    let scene = Scene::new();
    let disk = scene.blank();
    let gate = Gate::before_mkfs(&scene.bed, "");
    let request = scene.bed.stage(&disk).unwrap();
    for _ in 0..5 {
        let status = scene.client.within(Duration::from_millis(200)).stage(request.clone()).unwrap_err();
        assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded | Code::Aborted), "{status:?}");
    }
    gate.reached();
    gate.open();
    eventually("the volume is staged", || scene.client.stage(request.clone()).is_ok());
    assert_eq!((gate.came(), scene.targets(&disk).len()), (1, 1));
}

#[test]
fn a_stop_waits_until_what_is_at_work_is_whole() {
    let scene = Scene::new();
    let disk = scene.blank();
    let gate = Gate::before_mkfs(&scene.bed, "");
    let request = scene.bed.stage(&disk).unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| scene.client.stage(request));
        gate.reached();
        let stopped = scope.spawn(|| scene.bed.stop());
        let socket = scene.bed.path(Bed::socket());
        eventually("the daemon is about to stop", || std::os::unix::net::UnixStream::connect(&socket).is_err());
        gate.open();
        assert_eq!(stopped.join().unwrap().unwrap(), Some(0), "{}", scene.bed.log());
        call.join().unwrap().unwrap();
    });
    assert_eq!(scene.targets(&disk), [scene.bed.staging(&disk).unwrap()]);
}

#[test]
fn a_second_daemon_does_not_take_the_socket_of_one_that_serves() {
    let scene = Scene::new();
    let disk = scene.blank();
    let second = scene.bed.enter(
        Command::new(cks_tests::programs::built("cks-agent").unwrap()).arg("serve").limit(Duration::from_secs(3)),
    );
    let said = second.output().unwrap();
    assert_ne!(said.code, 0, "{}", said.stderr);
    scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
    assert!(scene.bed.path(Bed::socket()).exists());
}

#[test]
fn a_socket_that_another_driver_answers_on_is_left_to_it_until_it_goes() {
    let bed = Bed::still(&cks_tests::csi::Options::default()).unwrap();
    let directory = bed.path(Bed::socket()).parent().unwrap().to_owned();
    std::fs::create_dir_all(&directory).unwrap();
    let other = std::os::unix::net::UnixListener::bind(directory.join("csi.sock")).unwrap();
    bed.launch().unwrap();
    eventually("the daemon says so", || bed.log().contains("volumes are not served"));
    other.set_nonblocking(true).unwrap();
    drop(other);
    // A socket on which nobody answers any more.
    bed.restart().unwrap();
    let client = bed.client().unwrap();
    let disk = bed.disk(crate::scene::SMALL).unwrap();
    client.stage(bed.stage(&disk).unwrap()).unwrap();
}

#[test]
fn nothing_half_made_stays_after_a_kill_in_the_workshop() {
    let scene = Scene::new();
    let disk = scene.staged();
    let mut reading = scene.bed.publish(&disk, 1).unwrap();
    reading.readonly = true;
    scene.client.publish(reading).unwrap();
    // As a daemon leaves it that is killed between two mounts.
    let staging = scene.bed.staging(&disk).unwrap();
    scene.bed.sh(&format!("mkdir /run/cks-agent/mounts/x && mount --bind {staging} /run/cks-agent/mounts/x")).unwrap();
    scene.bed.restart().unwrap();
    assert_eq!(scene.targets(&disk).len(), 2);
    assert_eq!(scene.bed.sh("ls /run/cks-agent/mounts | wc -l").unwrap(), "0\n");
    refused(scene.client.publish(scene.bed.publish(&disk, 1).unwrap()), Code::AlreadyExists, "VOLUME_INCOMPATIBLE");
}

/// A mkfs is killed by the kernel when memory is short; what it leaves depends on the moment.
#[test]
fn a_mkfs_that_is_killed_at_any_moment_is_begun_anew() {
    for (kind, check) in
        [("ext4", "e2fsck -fn $d 2>&1"), ("xfs", "xfs_repair -n $d 2>&1"), ("btrfs", "btrfs check $d 2>&1")]
    {
        let scene = Scene::of(Kind::filesystem(kind));
        let at = scene.bed.directory_for_all().join("short").to_string_lossy().into_owned();
        let program = format!("$(readlink -f /usr/sbin/mkfs.{kind})");
        scene.bed.sh(&format!("mkdir {at} && cp {program} {at}/mkfs.{kind}")).unwrap();
        for moment in ["0.001", "0.002", "0.003", "0.005", "0.008", "0.013"] {
            let disk = scene.blank();
            let short = format!("#!/bin/sh\nexec timeout -s KILL {moment} {at}/mkfs.{kind} \"$@\"\n");
            std::fs::write(format!("{at}/short"), short).unwrap();
            scene.bed.sh(&format!("chmod 755 {at}/short && mount --bind {at}/short {program}")).unwrap();
            let answer = scene.client.stage(scene.bed.stage(&disk).unwrap());
            scene.bed.sh(&format!("umount {program}")).unwrap();
            if answer.is_err() {
                refused(answer, Code::Internal, "MKFS_FAILED");
                scene.client.stage(scene.bed.stage(&disk).unwrap()).unwrap();
            }
            scene.client.unstage(scene.bed.unstage(&disk).unwrap()).unwrap();
            scene.on(&disk, check);
        }
    }
}
