//! Random machines: disks that are the volume's, or not, and hold this or that.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use bootstrap::digest::Digest;
use cks_tests::csi::{Bed, Disk, Kind, serial_of};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use crate::decoys::{self, Content};
use crate::swaps::Swap;

/// A disk of a machine.
pub(crate) struct Placed {
    pub(crate) disk: Disk,
    pub(crate) content: Content,
    /// Whether it says that it is the volume's.
    pub(crate) ours: bool,
    before: Digest,
}

/// A machine: its disks, and the volume that is asked for.
pub(crate) struct Machine {
    /// Never attached: it stands for the volume in requests.
    pub(crate) asked: Disk,
    pub(crate) disks: Vec<Placed>,
    pub(crate) swap: Option<Swap>,
}

impl Machine {
    /// Makes one.
    pub(crate) fn random(bed: &Bed, chance: &mut StdRng) -> Result<Self> {
        let mut asked = bed.detached_disk(4096)?;
        asked.volume_id = uuid(chance);
        let kind = *["ext4", "ext4", "ext4", "ext3", "xfs", "btrfs", "block"].choose(chance).context("A kind")?;
        asked.kind = if kind == "block" { Kind::Block } else { Kind::filesystem(kind) };
        let swap = [Swap::Disks, Swap::Nodes, Swap::Serials].choose(chance).copied();
        let swap = swap.filter(|_| kind != "block" && chance.random_bool(0.3));
        let ours = if swap.is_some() { 1 } else { *[0, 1, 1, 1, 1, 1, 2].choose(chance).context("A number")? };
        let decoys = chance.random_range(3..=8);
        let mut roles: Vec<bool> = (0..ours + decoys).map(|number| number < ours).collect();
        roles.shuffle(chance);
        let mut machine = Self { asked, disks: Vec::new(), swap };
        for ours in roles {
            let placed = machine.place(bed, chance, ours)?;
            machine.disks.push(placed);
        }
        Ok(machine)
    }

    fn place(&self, bed: &Bed, chance: &mut StdRng, ours: bool) -> Result<Placed> {
        let content = self.content(chance, ours)?;
        let kind = if ours { kind_name(&self.asked.kind) } else { "" };
        let mut disk = bed.detached_disk(decoys::size(chance, content, kind))?;
        let serial = if ours { Some(self.serial()) } else { decoy_serial(chance, &self.asked.volume_id) };
        disk.set_serial(serial.as_deref())?;
        decoys::fill(&disk.file, content)?;
        disk.attach()?;
        decoys::spoil(&disk.file, content)?;
        let before = decoys::digest(&disk.file)?;
        Ok(Placed { disk, content, ours, before })
    }

    fn content(&self, chance: &mut StdRng, ours: bool) -> Result<Content> {
        let any = *decoys::ALL.choose(chance).context("A content")?;
        Ok(match any {
            _ if ours && (self.swap.is_some() || chance.random_bool(0.6)) => Content::Blank,
            // That would be formatted, which is the rule.
            Content::Middle if ours => Content::Blank,
            // For a moment a decoy says that it is the volume's: then it would rightly be formatted or mounted.
            Content::Blank | Content::Middle | Content::Ext4 | Content::Xfs | Content::Btrfs
                if self.swap == Some(Swap::Serials) =>
            {
                Content::End
            }
            // The kernel gives the name of a disk that is held to no other, and mount(2) takes a name: between a look at
            // the node and the mount nothing helps against somebody who makes nodes by himself.
            Content::Ext4 | Content::Xfs | Content::Btrfs | Content::MirroredExt4 if self.swap == Some(Swap::Nodes) => {
                Content::Blank
            }
            _ if chance.random_bool(0.2) && self.swap != Some(Swap::Serials) => Content::Blank,
            any => any,
        })
    }

    /// The serial of the volume's disk.
    pub(crate) fn serial(&self) -> String {
        serial_of(&self.asked.volume_id)
    }

    /// The class that a stage has to be refused with; none where it has to succeed.
    pub(crate) fn expected(&self) -> Option<&'static str> {
        let ours: Vec<&Placed> = self.disks.iter().filter(|placed| placed.ours).collect();
        match (ours.as_slice(), &self.asked.kind) {
            ([], _) => Some("VOLUME_NOT_ATTACHED"),
            ([_], Kind::Block) => None,
            ([placed], kind) => decoys::refusal(placed.content, kind_name(kind)),
            _ => Some("VOLUME_AMBIGUOUS"),
        }
    }

    /// The volume's disk.
    pub(crate) fn ours(&mut self) -> Result<&mut Placed> {
        self.disks.iter_mut().find(|placed| placed.ours).context("A machine with the volume's disk")
    }

    /// The volume's disk, and any other.
    pub(crate) fn pair(&mut self, chance: &mut StdRng) -> Result<[&mut Disk; 2]> {
        let (mut ours, mut others): (Vec<_>, Vec<_>) = self.disks.iter_mut().partition(|placed| placed.ours);
        let other = chance.random_range(0..others.len());
        let ours = ours.pop().context("A machine with the volume's disk")?;
        Ok([&mut ours.disk, &mut others.swap_remove(other).disk])
    }

    /// That no disk has changed but the volume's own, and that one only if it was staged. All are detached.
    pub(crate) fn look(&self, staged: bool) -> Result<()> {
        for placed in &self.disks {
            let same = decoys::digest(&placed.disk.file)? == placed.before;
            let may_change = placed.ours && staged;
            ensure!(same || may_change, "{placed} has changed");
            let formatted = may_change && placed.content == Content::Blank && self.asked.kind != Kind::Block;
            ensure!(!(same && formatted), "{placed} was to be formatted, and is blank");
        }
        Ok(())
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, serial) = (if self.ours { "ours" } else { "decoy" }, self.disk.serial().unwrap_or("-"));
        write!(f, "{whose} {:?} {serial} {}", self.content, self.disk.file.display())
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {} as {:?}, swap {:?}", self.asked.volume_id, self.asked.kind, self.swap)?;
        self.disks.iter().try_for_each(|placed| write!(f, "\n  {placed}"))
    }
}

/// `ext4`; empty for a block volume.
pub(crate) fn kind_name(kind: &Kind) -> &str {
    match kind {
        Kind::Filesystem(kind) => kind,
        Kind::Block => "",
    }
}

fn uuid(chance: &mut StdRng) -> String {
    let digits = format!("{:032x}", chance.random::<u128>());
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default()).join("-")
}

/// What a disk says that is not the volume's: nothing, or another serial, however alike.
fn decoy_serial(chance: &mut StdRng, volume_id: &str) -> Option<String> {
    let ours = serial_of(volume_id);
    let (most, last) = ours.split_at(19);
    match chance.random_range(0..7) {
        0 => None,
        1 => Some(format!("{most}{}", if last == "0" { 1 } else { 0 })),
        2 => Some(format!("{ours}a4b5")),
        3 => Some(most.to_owned()),
        4 => Some(volume_id.to_owned()),
        5 => Some(format!("x{most}")),
        _ => Some(serial_of(&uuid(chance))),
    }
}
