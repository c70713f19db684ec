//! What is done with a volume that is staged, and what can't be done with one that is not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use cks_tests::csi::{Bed, Client, Kind};
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::decoys::Content;
use crate::machines::Machine;

const MARK: &[u8; 16] = b"of this volume!\n";
/// What a disk grows by.
const MORE: u64 = 64 << 20;

/// Uses a staged volume once or twice, and takes it away.
pub(crate) fn all(client: &Client, bed: &Bed, machine: &mut Machine, chance: &mut StdRng) -> Result<()> {
    let stays = machine.ours()?.disk.number().to_owned();
    let there = machine.asked.kind == Kind::Block || bed.mounts()?.iter().any(|mount| mount.device == stays);
    let btrfs = machine.asked.kind == Kind::filesystem("btrfs");
    // What was unplugged while it was being mounted is mounted still, and the disk has another number now.
    let rounds = if there || btrfs && machine.swap.is_none() { chance.random_range(1..=2) } else { 0 };
    for round in 0..rounds {
        if round > 0 {
            client.stage(bed.stage(&machine.asked)?).context("staging again")?;
        }
        once(client, bed, machine, round).with_context(|| format!("round {round}"))?;
        client.unstage(bed.unstage(&machine.asked)?).context("unstaging")?;
    }
    client.unstage(bed.unstage(&machine.asked)?).context("unstaging what is not staged any more")?;
    Ok(())
}

fn once(client: &Client, bed: &Bed, machine: &mut Machine, round: u32) -> Result<()> {
    client.stage(bed.stage(&machine.asked)?).context("staging what is staged")?;
    for pod in 1..=2 {
        client.publish(bed.publish(&machine.asked, pod)?).context("publishing")?;
    }
    mark(bed, machine, round)?;
    client.stats(bed.stats(&machine.asked, 1)?).context("asking for its state")?;
    expand(client, bed, machine)?;
    for pod in 1..=2 {
        client.unpublish(bed.unpublish(&machine.asked, pod)?).context("unpublishing")?;
    }
    Ok(())
}

/// What one pod writes, another one sees, and the next round.
fn mark(bed: &Bed, machine: &mut Machine, round: u32) -> Result<()> {
    let [first, second] = [1, 2].map(|pod| bed.target(&machine.asked, pod).map(|target| bed.path(target)));
    let (first, second) = (first?, second?);
    if machine.asked.kind != Kind::Block {
        let (written, seen) = (first.join("mark"), second.join("mark"));
        ensure!(
            written.exists() == (round > 0) || machine.ours()?.content != Content::Blank,
            "the mark of round {round}"
        );
        fs::write(written, MARK)?;
        ensure!(fs::read(seen)? == MARK, "the second pod sees something else");
        return Ok(());
    }
    if matches!(machine.ours()?.content, Content::Unreadable | Content::HalfUnreadable) {
        return Ok(());
    }
    let device = File::options().write(true).open(&first)?;
    device.write_all_at(MARK, 4096)?;
    device.sync_all()?;
    let mut seen = *MARK;
    File::open(&machine.ours()?.disk.file)?.read_exact_at(&mut seen, 4096)?;
    ensure!(&seen == MARK, "the mark is on another disk");
    Ok(())
}

fn expand(client: &Client, bed: &Bed, machine: &mut Machine) -> Result<()> {
    let kind = machine.asked.kind.clone();
    let ours = machine.ours()?;
    let mut size = fs::metadata(&ours.disk.file)?.len();
    if matches!(ours.content, Content::Unreadable | Content::HalfUnreadable) {
        return Ok(());
    }
    // ext4 grows online only where there is CAP_SYS_RESOURCE, and a container may lack it: it is asked for the size it has.
    if [Kind::Block, Kind::filesystem("xfs"), Kind::filesystem("btrfs")].contains(&kind) {
        size += MORE;
        ours.disk.resize(size)?;
    }
    let asked = bed.expand(&machine.asked, 1, size)?;
    let answer = client.expand(asked).context("expanding")?;
    ensure!(u64::try_from(answer.capacity_bytes)? == size, "{} bytes instead of {size}", answer.capacity_bytes);
    Ok(())
}

/// That a volume that could not be staged can't be published, expanded or looked at, and can be taken away.
pub(crate) fn none(client: &Client, bed: &Bed, machine: &Machine) -> Result<()> {
    let asked = &machine.asked;
    let refused = [
        client.publish(bed.publish(asked, 1)?).err(),
        client.expand(bed.expand(asked, 1, 1 << 20)?).err(),
        client.stats(bed.stats(asked, 1)?).err(),
    ];
    ensure!(refused.iter().all(Option::is_some), "one was done: {refused:?}");
    client.unpublish(bed.unpublish(asked, 1)?).context("unpublishing")?;
    client.unstage(bed.unstage(asked)?).context("unstaging")?;
    Ok(())
}
