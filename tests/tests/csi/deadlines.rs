//! Clients that give up while a filesystem is being made, and daemons that are told to end, or killed: one mkfs, no orphan,
//! and the next try succeeds.
//!
//! `CKS_DEADLINES=60` tries so many deadlines between 1 ms and 500 ms.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bootstrap::volume::VolumeId;
use cks_tests::csi::proto::node_client::NodeClient;
use cks_tests::csi::{Bed, Client, Disk, Options};
use tonic::{Code, Status};

use crate::chance::variable;
use crate::crash::children;

const SIZE: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// Says when it begins, takes its time, and makes the filesystem.
const SLOW: &str = "#!/bin/sh
echo \"$@\" >>/run/mkfs.begun
sleep $(cat /run/mkfs.seconds)
exec /usr/sbin/mke2fs -t ext4 \"$@\"
";

/// A bed whose mkfs.ext4 takes so many seconds longer.
fn bed(seconds: &str) -> Bed {
    let bed = Bed::still(&Options::default()).unwrap();
    let memory = bed.directory_for_all().join("memory");
    let shown = memory.display();
    bed.sh(&format!(
        "mkdir {shown}/sbin {shown}/work/sbin
        mount -t overlay -o lowerdir=/usr/sbin,upperdir={shown}/sbin,workdir={shown}/work/sbin bed /usr/sbin
        rm /usr/sbin/mkfs.ext4
        : >/run/mkfs.begun
        echo {seconds} >/run/mkfs.seconds"
    ))
    .unwrap();
    let program = bed.path("/usr/sbin/mkfs.ext4");
    fs::write(&program, SLOW).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    bed.restart().unwrap();
    bed
}

/// How often a filesystem was begun on the disk.
fn begun(bed: &Bed, disk: &Disk) -> usize {
    let uuid = VolumeId::parse(&disk.volume_id).unwrap().filesystem_uuid();
    let told = fs::read_to_string(bed.path("/run/mkfs.begun")).unwrap();
    told.lines().filter(|line| line.contains(&uuid)).count()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
}

/// Stages until it succeeds; meanwhile nothing is said but what `may` be.
fn stage(bed: &Bed, client: &Client, disk: &Disk, may: &[Code]) {
    let request = bed.stage(disk).unwrap();
    let until = Instant::now() + PATIENCE;
    while let Err(status) = client.stage(request.clone()) {
        assert!(may.contains(&status.code()) && Instant::now() < until, "{status}\n{}", bed.log());
        std::thread::sleep(PAUSE);
    }
}

/// The volume is used as any other, and taken away; a hasty call may still be under way, and is waited for.
fn use_it(bed: &Bed, client: &Client, disk: &Disk) {
    wait_until("the volume is published", || {
        client.stage(bed.stage(disk).unwrap()).is_ok()
            && client.publish(bed.publish(disk, 1).unwrap()).is_ok()
            && bed.mounts_of(disk).unwrap().len() == 2
    });
    let file = bed.path(bed.target(disk, 1).unwrap()).join("file");
    fs::write(&file, &disk.volume_id).unwrap();
    client.unpublish(bed.unpublish(disk, 1).unwrap()).unwrap();
    client.unstage(bed.unstage(disk).unwrap()).unwrap();
    assert!(bed.mounts_of(disk).unwrap().is_empty());
}

fn no_orphans(bed: &Bed) {
    let pid = bed.pid().unwrap();
    wait_until("no program is left", || {
        let names = bed.sh("cat /proc/[0-9]*/comm 2>/dev/null || true").unwrap();
        children(pid).is_empty() && !names.lines().any(|name| name.starts_with("mkfs") || name.starts_with("mke2fs"))
    });
}

/// All calls for a volume but the one for its state.
fn all(bed: &Bed, client: &Client, disk: &Disk) -> [Result<(), Status>; 5] {
    [
        client.stage(bed.stage(disk).unwrap()).map(drop),
        client.publish(bed.publish(disk, 1).unwrap()).map(drop),
        client.expand(bed.expand(disk, 1, SIZE).unwrap()).map(drop),
        client.unpublish(bed.unpublish(disk, 1).unwrap()).map(drop),
        client.unstage(bed.unstage(disk).unwrap()).map(drop),
    ]
}

fn gives_up_after(bed: &Bed, client: &Client, deadline: Duration) {
    let disk = bed.disk(SIZE).unwrap();
    let hasty = client.within(deadline);
    let request = bed.stage(&disk).unwrap();
    // Within a millisecond it may not even have been heard.
    wait_until("mkfs is begun", || {
        let staged = hasty.stage(request.clone());
        assert!(staged.is_err(), "within {deadline:?}, while mkfs takes longer");
        begun(bed, &disk) > 0
    });
    for (number, answer) in all(bed, &hasty, &disk).into_iter().enumerate() {
        let code = answer.map_err(|status| status.code());
        let gave_up = [Code::Aborted, Code::Cancelled, Code::DeadlineExceeded].map(Err);
        assert!(gave_up.contains(&code), "call {number} within {deadline:?}: {code:?}");
    }
    // Its state can be asked for at any time, and it has none.
    let state = client.stats(bed.stats(&disk, 1).unwrap()).unwrap_err();
    assert_eq!(state.code(), Code::NotFound, "{state}");
    stage(bed, client, &disk, &[Code::Aborted]);
    assert_eq!(begun(bed, &disk), 1, "{deadline:?}");
    // Staged, everything is answered at once, or after the client has gone.
    let _ = all(bed, &hasty, &disk);
    use_it(bed, client, &disk);
    assert_eq!(begun(bed, &disk), 1, "{deadline:?}");
}

#[test]
fn a_client_that_gives_up_changes_nothing() {
    let count = variable("CKS_DEADLINES").unwrap_or(9).max(2);
    let bed = bed("1.5");
    let client = bed.client().unwrap().within(PATIENCE);
    let part = |number: u64| number as f64 / (count - 1) as f64;
    let deadlines: Vec<Duration> =
        (0..count).map(|number| Duration::from_secs_f64(0.001 * 500_f64.powf(part(number)))).collect();
    for together in deadlines.chunks(12) {
        std::thread::scope(|scope| {
            for deadline in together {
                let (bed, client) = (&bed, &client);
                scope.spawn(move || gives_up_after(bed, client, *deadline));
            }
        });
    }
    no_orphans(&bed);
    println!("{count} deadlines from {:?} to {:?}", deadlines.first(), deadlines.last());
}

#[test]
fn while_a_filesystem_is_made_every_other_call_is_aborted() {
    let bed = bed("3");
    let client = bed.client().unwrap().within(PATIENCE);
    let disk = bed.disk(SIZE).unwrap();
    std::thread::scope(|scope| {
        let staging = scope.spawn(|| client.stage(bed.stage(&disk).unwrap()));
        wait_until("mkfs is begun", || begun(&bed, &disk) > 0);
        for (number, answer) in all(&bed, &client, &disk).into_iter().enumerate() {
            assert_eq!(answer.map_err(|status| status.code()), Err(Code::Aborted), "call {number}");
        }
        // Other volumes don't wait.
        let other = bed.disk(SIZE).unwrap();
        client.unstage(bed.unstage(&other).unwrap()).unwrap();
        assert!(!staging.is_finished());
        staging.join().unwrap().unwrap();
    });
    assert_eq!(begun(&bed, &disk), 1);
    use_it(&bed, &client, &disk);
}

#[test]
fn a_client_that_goes_away_changes_nothing() {
    let bed = bed("1");
    let client = bed.client().unwrap().within(PATIENCE);
    let disk = bed.disk(SIZE).unwrap();
    let gone = bed.client().unwrap();
    let request = bed.stage(&disk).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut node = NodeClient::new(gone.channel());
        let call = node.node_stage_volume(request);
        let seen = async {
            while begun(&bed, &disk) == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            answer = call => panic!("{answer:?} before mkfs was begun"),
            () = seen => {}
        }
    });
    // Its connection ends with its threads.
    drop((runtime, gone));
    stage(&bed, &client, &disk, &[Code::Aborted]);
    assert_eq!(begun(&bed, &disk), 1);
    use_it(&bed, &client, &disk);
    no_orphans(&bed);
}

#[test]
fn a_daemon_that_is_told_to_end_ends_what_it_began_first() {
    let bed = bed("1");
    let client = bed.client().unwrap().within(PATIENCE);
    let disk = bed.disk(SIZE).unwrap();
    std::thread::scope(|scope| {
        let staging = scope.spawn(|| client.stage(bed.stage(&disk).unwrap()));
        wait_until("mkfs is begun", || begun(&bed, &disk) > 0);
        assert_eq!(bed.stop().unwrap(), Some(0), "{}", bed.log());
        staging.join().unwrap().unwrap();
    });
    assert_eq!(bed.mounts_of(&disk).unwrap().len(), 1);
    bed.restart().unwrap();
    let client = bed.client().unwrap().within(PATIENCE);
    stage(&bed, &client, &disk, &[]);
    assert_eq!(begun(&bed, &disk), 1);
    use_it(&bed, &client, &disk);
    no_orphans(&bed);
}

/// Outside a control group mkfs outlives the daemon.
#[test]
fn the_mkfs_of_a_killed_daemon_harms_no_volume_in_use() {
    let bed = bed("2");
    let client = bed.client().unwrap().within(Duration::from_millis(100));
    let disk = bed.disk(SIZE).unwrap();
    let request = bed.stage(&disk).unwrap();
    wait_until("mkfs is begun", || client.stage(request.clone()).is_err() && begun(&bed, &disk) > 0);
    bed.kill().unwrap();
    fs::write(bed.path("/run/mkfs.seconds"), "0").unwrap();
    bed.restart().unwrap();
    let client = bed.client().unwrap().within(PATIENCE);
    stage(&bed, &client, &disk, &[Code::Aborted, Code::FailedPrecondition, Code::Internal]);
    client.publish(bed.publish(&disk, 1).unwrap()).unwrap();
    let file = bed.path(bed.target(&disk, 1).unwrap()).join("file");
    fs::write(&file, "kept").unwrap();
    no_orphans(&bed);
    client.unpublish(bed.unpublish(&disk, 1).unwrap()).unwrap();
    client.unstage(bed.unstage(&disk).unwrap()).unwrap();
    stage(&bed, &client, &disk, &[]);
    client.publish(bed.publish(&disk, 1).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}
