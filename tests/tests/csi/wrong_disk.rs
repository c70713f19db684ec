//! Random machines with a volume's disk among others: no byte of another disk changes, whatever these hold and say.
//!
//! `CKS_SETUPS=500` makes so many machines.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cks_tests::csi::proto::NodeStageVolumeRequest;
use cks_tests::csi::{Bed, Client, Options};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chance::{chance, variable};
use crate::machines::{Machine, Placed};
use crate::swaps::{Swap, exchange};
use crate::uses;

/// How long a disk that is there may take to be staged once nobody disturbs it any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a swap goes on at most.
const UNREST: Duration = Duration::from_millis(400);
/// What may be told of a disk that is being exchanged.
const WHILE_EXCHANGED: [&str; 4] = ["VOLUME_NOT_ATTACHED", "DISK_CHANGED", "DISK_UNREADABLE", "MOUNT_FAILED"];
/// The same when another disk, which holds data, says that it is the volume's: before this one's serial is read, or after.
const WHILE_RENAMED: [&str; 2] = ["DISK_NOT_BLANK", "VOLUME_AMBIGUOUS"];

/// The class of a refusal stands before its colon.
fn class(status: &tonic::Status) -> &str {
    status.message().split([':', ' ']).next().unwrap_or_default()
}

fn passes_by(swap: Swap, status: &tonic::Status) -> bool {
    let told = class(status);
    WHILE_EXCHANGED.contains(&told) || (swap == Swap::Serials && WHILE_RENAMED.contains(&told))
}

/// Stages while a disk is exchanged; tells whether it became staged.
fn stage_in_unrest(
    client: &Client,
    bed: &Bed,
    machine: &mut Machine,
    swap: Swap,
    request: &NodeStageVolumeRequest,
    chance: &mut StdRng,
) -> Result<bool> {
    let stop = AtomicBool::new(false);
    let mut thread_chance = rand::SeedableRng::seed_from_u64(chance.random());
    let pair = machine.pair(chance)?;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| exchange(bed, swap, pair, &mut thread_chance, &stop));
        let until = Instant::now() + UNREST;
        let staged = loop {
            match client.stage(request.clone()) {
                Ok(_) => break Ok(true),
                Err(status) if !passes_by(swap, &status) => break Err(status),
                Err(_) if Instant::now() > until => break Ok(false),
                Err(_) => {}
            }
        };
        stop.store(true, Ordering::Relaxed);
        let swapped = swapping.join().map_err(|_| anyhow::anyhow!("the exchange panicked"))?;
        ensure!(swapped? > 0 || matches!(staged, Ok(true)), "nothing was exchanged");
        staged.with_context(|| format!("while {swap:?} were exchanged"))
    })
}

/// Asks for the volume until it is told what is to be told; gives the class, or `OK`.
fn ask(client: &Client, bed: &Bed, machine: &mut Machine, chance: &mut StdRng) -> Result<String> {
    let request = bed.stage(&machine.asked)?;
    if let Some(swap) = machine.swap
        && stage_in_unrest(client, bed, machine, swap, &request, chance)?
    {
        return Ok("OK".to_owned());
    }
    let expected = machine.expected().unwrap_or("OK");
    let until = Instant::now() + PATIENCE;
    loop {
        let told = match client.stage(request.clone()) {
            Ok(_) => "OK".to_owned(),
            Err(status) if machine.swap.is_some() && Instant::now() < until => {
                ensure!(WHILE_EXCHANGED.contains(&class(&status)), "after an exchange: {status}");
                continue;
            }
            Err(status) => class(&status).to_owned(),
        };
        ensure!(told == expected, "{expected} was to be told, and it was {told}");
        return Ok(told);
    }
}

/// One machine, from its making to the look at its disks.
fn machine(bed: &Bed, client: &Client, chance: &mut StdRng) -> Result<String> {
    let mut machine = Machine::random(bed, chance)?;
    let shown = machine.to_string();
    let told = live(bed, client, &mut machine, chance).with_context(|| shown.clone())?;
    machine.look(told == "OK").with_context(|| shown)?;
    Ok(match machine.swap {
        Some(swap) => format!("{told} with {swap:?} exchanged"),
        None => told,
    })
}

fn live(bed: &Bed, client: &Client, machine: &mut Machine, chance: &mut StdRng) -> Result<String> {
    let before = bed.mounts()?;
    let link = bed.path(format!("/dev/disk/by-id/virtio-{}", machine.serial()));
    if chance.random_bool(0.5) {
        let decoys: Vec<&Placed> = machine.disks.iter().filter(|placed| !placed.ours).collect();
        let decoy = decoys.choose(chance).context("Every machine has decoys")?;
        symlink(format!("../../{}", decoy.disk.name()), &link)?;
    }
    let told = ask(client, bed, machine, chance)?;
    let done = if told == "OK" { uses::all(client, bed, machine, chance) } else { uses::none(client, bed, machine) };
    let done = done.with_context(|| format!("after {told}"));
    let _ = fs::remove_file(&link);
    done?;
    ensure!(bed.mounts()? == before, "mounts are left: {:#?}", bed.mounts()?);
    for placed in &mut machine.disks {
        placed.disk.detach()?;
    }
    Ok(told)
}

#[test]
fn no_other_disk_is_touched() {
    let mut chance = chance("wrong disks");
    let machines = variable("CKS_SETUPS").unwrap_or(40);
    let options = Options { config: "attach-wait = \"200ms\"\n".to_owned(), ..Options::default() };
    let bed = Bed::start(&options).unwrap();
    let client = bed.client().unwrap().within(PATIENCE);
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let began = Instant::now();
    for number in 1..=machines {
        match machine(&bed, &client, &mut chance) {
            Ok(outcome) => *told.entry(outcome).or_default() += 1,
            Err(e) => panic!("machine {number}: {e:#}\n{}", last(&bed.log())),
        }
    }
    println!("{machines} machines in {:.0?}: {told:#?}", began.elapsed());
    assert!(told.contains_key("OK") && told.len() >= 5, "{told:?}");
}

/// The end of a log.
fn last(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
}
