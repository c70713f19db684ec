//! Disks that come later than the call that needs them, or never.

use std::thread;
use std::time::{Duration, Instant};

use cks_tests::csi::Options;
use tonic::Code;

use crate::scene::{SMALL, Scene, refused};

#[test]
fn a_disk_that_comes_while_it_is_waited_for_is_staged() {
    let scene = Scene::new();
    let mut disk = scene.bed.detached_disk(SMALL).unwrap();
    let request = scene.bed.stage(&disk).unwrap();
    thread::scope(|scope| {
        let staged = scope.spawn(|| scene.client.stage(request));
        scene.listens();
        disk.attach().unwrap();
        staged.join().unwrap().unwrap();
    });
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn a_disk_that_is_there_before_its_serial_is_waited_for() {
    let scene = Scene::new();
    let mut disk = scene.bed.detached_disk(SMALL).unwrap();
    let request = scene.bed.stage(&disk).unwrap();
    let serial = disk.serial().unwrap().to_owned();
    disk.set_serial(None).unwrap();
    disk.attach().unwrap();
    thread::scope(|scope| {
        let staged = scope.spawn(|| scene.client.stage(request));
        scene.listens();
        disk.set_serial(Some(&serial)).unwrap();
        staged.join().unwrap().unwrap();
    });
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn a_disk_that_never_comes_is_told_before_the_client_gives_up_with_those_that_there_are() {
    let scene = Scene::new();
    let (other, absent) = (scene.blank(), scene.bed.detached_disk(SMALL).unwrap());
    let before = scene.bed.mounts().unwrap();
    let client = scene.client.within(Duration::from_secs(2));
    let why = refused(client.stage(scene.bed.stage(&absent).unwrap()), Code::Unavailable, "VOLUME_NOT_ATTACHED");
    for named in [absent.serial().unwrap(), other.name(), other.serial().unwrap()] {
        assert!(why.contains(named), "{named}: {why}");
    }
    assert_eq!(scene.bed.mounts().unwrap(), before);
}

#[test]
fn a_client_that_is_patient_is_told_when_the_configured_wait_is_over() {
    let scene = Scene::with(&Options { config: "attach-wait = \"1s\"\n".to_owned(), ..Options::default() });
    let absent = scene.bed.detached_disk(SMALL).unwrap();
    let began = Instant::now();
    refused(scene.client.stage(scene.bed.stage(&absent).unwrap()), Code::Unavailable, "VOLUME_NOT_ATTACHED");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_volume_that_is_waited_for_is_busy_and_another_one_is_not() {
    let scene = Scene::new();
    let (mut absent, present) = (scene.bed.detached_disk(SMALL).unwrap(), scene.blank());
    let request = scene.bed.stage(&absent).unwrap();
    thread::scope(|scope| {
        let staged = scope.spawn(|| scene.client.stage(request.clone()));
        scene.listens();
        refused(scene.client.stage(request.clone()), Code::Aborted, "VOLUME_BUSY");
        scene.client.stage(scene.bed.stage(&present).unwrap()).unwrap();
        absent.attach().unwrap();
        staged.join().unwrap().unwrap();
    });
}

#[test]
fn volumes_are_taken_away_while_more_are_waited_for_than_there_are_places() {
    let scene = Scene::new();
    let staged = scene.staged();
    scene.client.publish(scene.bed.publish(&staged, 1).unwrap()).unwrap();
    let absent: Vec<_> = (0..65).map(|_| scene.bed.detached_disk(SMALL).unwrap()).collect();
    let client = scene.client.within(Duration::from_secs(20));
    let overloaded = thread::scope(|scope| {
        let requests = absent.iter().map(|disk| scene.bed.stage(disk).unwrap());
        let waiting: Vec<_> = requests.map(|request| scope.spawn(|| client.stage(request))).collect();
        let deadline = Instant::now() + Duration::from_secs(15);
        // One of them has found no place.
        while !waiting.iter().any(thread::ScopedJoinHandle::is_finished) {
            assert!(Instant::now() < deadline, "all 65 have a place");
            thread::sleep(Duration::from_millis(20));
        }
        scene.client.unpublish(scene.bed.unpublish(&staged, 1).unwrap()).unwrap();
        scene.client.unstage(scene.bed.unstage(&staged).unwrap()).unwrap();
        let ended = waiting.into_iter().map(|waiting| waiting.join().unwrap().unwrap_err());
        ended.filter(|status| status.code() == Code::ResourceExhausted).count()
    });
    assert_eq!(overloaded, 1);
    assert!(scene.targets(&staged).is_empty());
}

#[test]
fn a_client_that_gave_up_finds_its_volume_staged_the_next_time() {
    let scene = Scene::new();
    let mut disk = scene.bed.detached_disk(SMALL).unwrap();
    let request = scene.bed.stage(&disk).unwrap();
    let client = scene.client.within(Duration::from_millis(700));
    let status = client.stage(request.clone()).unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded), "{status:?}");
    disk.attach().unwrap();
    scene.client.stage(request).unwrap();
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn a_disk_of_which_no_event_tells_is_found_all_the_same() {
    let scene = Scene::new();
    let mut disk = scene.bed.detached_disk(SMALL).unwrap();
    let (request, serial) = (scene.bed.stage(&disk).unwrap(), disk.serial().unwrap().to_owned());
    disk.set_serial(None).unwrap();
    disk.attach().unwrap();
    thread::scope(|scope| {
        let staged = scope.spawn(|| scene.client.stage(request));
        scene.listens();
        std::fs::write(scene.bed.path(format!("/sys/block/{}/serial", disk.name())), serial).unwrap();
        staged.join().unwrap().unwrap();
    });
    assert_eq!(scene.targets(&disk).len(), 1);
}

#[test]
fn calls_beyond_what_can_be_at_work_are_told_to_come_again() {
    const CALLS: u128 = 80;
    let scene = Scene::new();
    let absent = scene.bed.detached_disk(SMALL).unwrap();
    let client = scene.client.within(Duration::from_secs(4));
    let number = u128::from_str_radix(&absent.volume_id.replace('-', ""), 16).unwrap() & !(0xff << 48);
    let request = |call: u128| {
        let mut request = scene.bed.stage(&absent).unwrap();
        let digits = format!("{:032x}", number + (call << 48));
        request.volume_id = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-");
        request.staging_target_path = format!("/run/staging/{call}");
        scene.bed.directory(&request.staging_target_path).unwrap();
        request
    };
    let requests: Vec<_> = (0..CALLS).map(request).collect();
    let answers: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = requests.into_iter().map(|request| scope.spawn(|| client.stage(request))).collect();
        calls.into_iter().map(|call| call.join().unwrap().unwrap_err()).collect()
    });
    let of = |code: Code| answers.iter().filter(|status| status.code() == code).count();
    assert!(of(Code::ResourceExhausted) > 0 && of(Code::Unavailable) >= 32, "{answers:?}");
    let here = scene.blank();
    scene.client.stage(scene.bed.stage(&here).unwrap()).unwrap();
}
