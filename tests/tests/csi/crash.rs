//! `kill -9` at random moments while eight clients use 32 volumes as kubelet does: nothing is lost, nothing is left.
//!
//! `CKS_KILL_TIMES=200` kills so often.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cks_tests::csi::{Bed, Client, Disk, Kind, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::chance::{chance, variable};

const WORKERS: usize = 8;
const VOLUMES: usize = 32;
const MIB: u64 = 1 << 20;
/// What a volume's disk grows by in each of its lives, at most so often.
const STEP: u64 = 16 * MIB;
const STEPS: u64 = 8;
/// How long one call may be refused, while the daemon is killed again and again.
const PATIENCE: Duration = Duration::from_secs(60);
/// After so many kills the daemon is left alone for a while: some mkfs takes longer than it lives else.
const ROW: u64 = 10;
const CALM: Duration = Duration::from_secs(2);
/// As kubelet, which has pauses of half a second and more.
const PAUSE: Duration = Duration::from_millis(20);

/// What all workers see.
struct World<'a> {
    bed: &'a Bed,
    client: Client,
    stop: AtomicBool,
    lives: AtomicU64,
    calls: AtomicU64,
    again: AtomicU64,
    longest: AtomicU64,
}

/// A volume, and what was written to it.
struct Volume {
    number: usize,
    disk: Disk,
    lives: u64,
    size: u64,
}

impl World<'_> {
    /// Calls until it succeeds, always with the same arguments.
    fn call<T>(&self, what: &str, mut call: impl FnMut(&Client) -> Result<T, tonic::Status>) -> Result<T> {
        let began = Instant::now();
        self.calls.fetch_add(1, Ordering::Relaxed);
        loop {
            match call(&self.client) {
                Ok(answer) => {
                    let took = u64::try_from(began.elapsed().as_millis())?;
                    self.longest.fetch_max(took, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(status) if began.elapsed() > PATIENCE => bail!("{what} for {PATIENCE:?}: {status}"),
                Err(_) => {
                    self.again.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// One life of a volume on the node: staged, published, read, written, grown, taken away.
    fn live(&self, volume: &mut Volume, chance: &mut StdRng) -> Result<()> {
        let bed = self.bed;
        let (stage, unstage) = (bed.stage(&volume.disk)?, bed.unstage(&volume.disk)?);
        let mut publish = bed.publish(&volume.disk, 1)?;
        let unpublish = bed.unpublish(&volume.disk, 1)?;
        self.call("staging", |client| client.stage(stage.clone()))?;
        // A read-only mount is made in two steps.
        let second = chance.random_bool(0.5);
        self.call("publishing", |client| client.publish(publish.clone()))?;
        if second {
            publish = bed.publish(&volume.disk, 2)?;
            publish.readonly = true;
            self.call("publishing to read", |client| client.publish(publish.clone()))?;
        }
        self.use_it(volume, second)?;
        let stats = bed.stats(&volume.disk, 1)?;
        self.call("asking", |client| client.stats(stats.clone()))?;
        self.grow(volume)?;
        if second {
            let unpublish = bed.unpublish(&volume.disk, 2)?;
            self.call("unpublishing", |client| client.unpublish(unpublish.clone()))?;
        }
        self.call("unpublishing", |client| client.unpublish(unpublish.clone()))?;
        self.call("unstaging", |client| client.unstage(unstage.clone()))?;
        volume.lives += 1;
        Ok(())
    }

    /// Reads what all earlier lives have written, and writes one file more.
    fn use_it(&self, volume: &Volume, second: bool) -> Result<()> {
        let at = |pod| self.bed.target(&volume.disk, pod).map(|target| self.bed.path(target));
        let directory = at(1)?;
        let text = |life: u64| format!("life {life} of {}\n", volume.disk.volume_id);
        for life in 0..volume.lives {
            let read = fs::read_to_string(directory.join(life.to_string()));
            ensure!(read.with_context(|| format!("Reading what life {life} wrote"))? == text(life), "life {life}");
        }
        let name = volume.lives.to_string();
        let written = directory.join(&name);
        ensure!(!written.exists(), "somebody else wrote {}", written.display());
        fs::write(&written, text(volume.lives))?;
        if second {
            let read_only = at(2)?;
            ensure!(
                fs::read_to_string(read_only.join(&name))? == text(volume.lives),
                "the second pod sees another disk"
            );
            ensure!(fs::write(read_only.join("no"), "").is_err(), "a read-only volume was written to");
        }
        Ok(())
    }

    fn grow(&self, volume: &mut Volume) -> Result<()> {
        // ext4 grows online only where there is CAP_SYS_RESOURCE, and a container may lack it.
        if volume.disk.kind != Kind::filesystem("ext4") && volume.lives < STEPS {
            volume.size += STEP;
            volume.disk.resize(volume.size)?;
        }
        let expand = self.bed.expand(&volume.disk, 1, volume.size)?;
        let answer = self.call("expanding", |client| client.expand(expand.clone()))?;
        ensure!(u64::try_from(answer.capacity_bytes)? == volume.size, "the size after growing");
        Ok(())
    }

    /// What the daemons have said of a volume last.
    fn told_of(&self, volume: &Volume) -> String {
        let log = self.bed.log();
        let told: Vec<&str> = log.lines().filter(|line| line.contains(&volume.disk.volume_id)).collect();
        let last = told.get(told.len().saturating_sub(20)..).unwrap_or_default().join("\n");
        format!("{last}\nvolume {} as {:?} in life {}", volume.disk.volume_id, volume.disk.kind, volume.lives)
    }

    /// A worker: takes its volumes in turn until it is to stop.
    fn work(&self, volumes: &mut [Volume], seed: u64) -> Result<()> {
        let mut chance = StdRng::seed_from_u64(seed);
        while !self.stop.load(Ordering::Relaxed) {
            for volume in &mut *volumes {
                let lived = self.live(volume, &mut chance);
                lived.with_context(|| self.told_of(volume))?;
                self.lives.fetch_add(1, Ordering::Relaxed);
                // So that filesystems are made all the time.
                if volume.lives > 2 && chance.random_bool(0.3) {
                    *volume = self::volume(self.bed, volume.number)?;
                }
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Kills the daemon, and, as systemd does, all that it has started, if `all`; gives how many of these there were.
fn end(bed: &Bed, all: bool) -> Result<usize> {
    let children = bed.pid().map(children).unwrap_or_default();
    bed.kill()?;
    for pid in children.iter().filter(|_| all) {
        // It may have ended.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    Ok(children.len())
}

/// The processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let told = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    told.flat_map(|told| told.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

fn volume(bed: &Bed, number: usize) -> Result<Volume> {
    let (kind, size) = match number % 8 {
        0 => ("xfs", 304 * MIB),
        1 => ("btrfs", 272 * MIB),
        _ => ("ext4", 16 * MIB),
    };
    let mut disk = bed.disk(size)?;
    disk.kind = Kind::filesystem(kind);
    Ok(Volume { number, disk, lives: 0, size })
}

/// That nothing is left but the disks.
fn nothing_is_left(bed: &Bed, before: &[cks_tests::csi::Mount]) -> Result<()> {
    let workshop = "/run/cks-agent/mounts";
    let mounts = bed.mounts()?;
    ensure!(mounts == before, "mounts are left: {mounts:#?}");
    for (directory, end) in [(workshop, ""), ("/var/lib/cks-agent/volumes", ".making")] {
        let names = fs::read_dir(bed.path(directory)).into_iter().flatten().flatten();
        let left: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        ensure!(!left.iter().any(|name| name.ends_with(end)), "{directory} holds {left:?}");
    }
    Ok(())
}

#[test]
fn kills_lose_nothing_and_leave_nothing() {
    let mut chance = chance("kills");
    let kills = variable("CKS_KILL_TIMES").unwrap_or(20);
    let bed = Bed::start(&Options::default()).unwrap();
    let before = bed.mounts().unwrap();
    let mut volumes: Vec<Volume> = (0..VOLUMES).map(|number| volume(&bed, number).unwrap()).collect();
    let client = bed.client().unwrap().within(Duration::from_secs(20));
    let [lives, calls, again, longest] = [0; 4].map(AtomicU64::new);
    let world = World { bed: &bed, client, stop: AtomicBool::new(false), lives, calls, again, longest };
    let (began, working) = (Instant::now(), AtomicUsize::new(WORKERS));
    std::thread::scope(|scope| {
        // Stops the workers however this ends.
        let stop = Stop(&world.stop);
        let workers: Vec<_> = volumes
            .chunks_mut(VOLUMES / WORKERS)
            .map(|volumes| {
                let (world, seed, working) = (&world, chance.random(), &working);
                scope.spawn(move || {
                    let _at_work = Working(working);
                    world.work(volumes, seed)
                })
            })
            .collect();
        let mut helpers = 0;
        for number in 0..kills {
            std::thread::sleep(Duration::from_micros(chance.random_range(0..400_000)));
            if working.load(Ordering::Relaxed) < WORKERS {
                println!("a worker has given up before kill {number}");
                break;
            }
            helpers += end(&bed, number % 2 == 0).unwrap();
            bed.restart().unwrap();
            if number % ROW == ROW - 1 {
                std::thread::sleep(CALM);
            }
        }
        drop(stop);
        for worker in workers {
            worker.join().unwrap().unwrap();
        }
        println!("{kills} kills in {:.0?}, at which {helpers} programs were at work", began.elapsed());
    });
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let lives = of(&world.lives);
    println!(
        "{lives} lives, {} calls, {} tried again, the longest took {} ms",
        of(&world.calls),
        of(&world.again),
        of(&world.longest)
    );
    // Once more, undisturbed: every file of every life is there.
    for volume in &mut volumes {
        world.live(volume, &mut chance).unwrap();
    }
    nothing_is_left(&bed, &before).unwrap();
    assert!(lives >= kills, "{lives}");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Working<'a>(&'a AtomicUsize);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
