//! What is on a disk, and a filesystem for one that is proven blank.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use bootstrap::volume::filesystem::{Kind, mkfs};
use bootstrap::volume::refusal::{Class, Refusal};
use bootstrap::volume::superblock::{Content, Filesystem, blank, content, in_array};
use bootstrap::volume::{Serial, VolumeId};

use super::devices::Disk;
use super::intent::Intent;
use crate::host::Host;
use crate::tool::{Call, Said, Tool};

/// So much at both ends of a disk is read before anything is written to it.
const ENDS: u64 = 1 << 20;
/// Every superblock that is understood lies before this: btrfs' is the last, at 64 KiB.
const HEAD: usize = 128 << 10;
/// The superblock of an md array lies at most this much before the disk's end.
const TAIL: usize = 128 << 10;
/// A filesystem of some TiB on a slow disk takes minutes; kubelet asks again meanwhile, and is told that it is at work.
const MKFS: Duration = Duration::from_secs(3600);
/// The same for a check; that of a large filesystem without its journal reads all of it.
const FSCK: Duration = Duration::from_secs(6 * 3600);
const LOOK: Duration = Duration::from_secs(30);

/// What a filesystem is to be.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    /// Whose it is; its UUID is derived from this.
    pub(super) id: &'a VolumeId,
    /// The disk that was proven to be it.
    pub(super) serial: &'a Serial,
    /// Its kind.
    pub(super) kind: Kind,
    /// Further arguments of its mkfs, checked.
    pub(super) options: &'a [String],
    /// Nothing may be written.
    pub(super) read_only: bool,
}

/// What is on the disk, as far as its first bytes tell; and its last ones, of which a filesystem may be a part of something
/// larger.
///
/// # Errors
/// `DISK_UNREADABLE`; `VOLUME_NOT_ATTACHED` when it is gone.
pub(super) fn content_of(host: &Host, disk: &Disk) -> Result<Content, Refusal> {
    let found = content(&disk.read(0, HEAD)?);
    let Content::Filesystem(filesystem) = &found else { return Ok(found) };
    let size = disk.size(host)?;
    let last = disk.read(size.saturating_sub(TAIL as u64), TAIL)?;
    Ok(if in_array(&last, size, filesystem.size) { Content::Other("a member of an md array") } else { found })
}

/// The filesystem on `disk`, which holds `found`; a new one where the disk is proven blank.
///
/// # Errors
/// `DISK_NOT_BLANK`, `DISK_UNREADABLE`, `FILESYSTEM_MISMATCH`, `MKFS_FAILED`, `VOLUME_IN_USE`, `DISK_CHANGED`.
pub(super) fn ensure(host: &Host, disk: &Disk, found: Content, wanted: &Wanted<'_>) -> Result<Filesystem, Refusal> {
    let intent = Intent::of(host, wanted.serial);
    let ours = intent.is_of(host, disk)?;
    if ours {
        // The mkfs of an agent that was killed may still be at work; what it has made is whole when it has ended.
        let busy = |refusal: Refusal| match refusal.class {
            Class::VolumeInUse => {
                Refusal::new(Class::VolumeBusy, format!("a filesystem is being made on {}", disk.name))
            }
            _ => refusal,
        };
        drop(disk.exclusively(false).map_err(busy)?);
    }
    // Looked at again, for it may have ended just now.
    let found = if ours { content_of(host, disk)? } else { found };
    match found {
        Content::Filesystem(found) if found.kind == wanted.kind => {
            // Made whole, and killed before it was crossed out.
            intent.end()?;
            Ok(found)
        }
        Content::Filesystem(found) => {
            let what = format!("{} holds {}, and {} is asked for", disk.name, found.kind, wanted.kind);
            Err(Refusal::new(Class::FilesystemMismatch, what))
        }
        _ if wanted.read_only => {
            let what = format!("{} holds no filesystem, and may only be read", disk.name);
            Err(Refusal::new(Class::DiskNotBlank, what))
        }
        // Our own, broken off half-way. None of our filesystems looks like something else meanwhile: what does, somebody
        // else has put there since.
        other @ (Content::Zeroes | Content::Data | Content::Unfinished(_)) if ours => {
            tracing::warn!(
                volume_id = wanted.id.as_str(),
                "making a filesystem on {} was broken off ({other}); it is begun anew",
                disk.name
            );
            clear(host, disk)?;
            make(host, disk, wanted, &intent)
        }
        Content::Zeroes => make(host, disk, wanted, &intent),
        other => Err(Refusal::new(Class::DiskNotBlank, format!("{} holds {other}, and no filesystem", disk.name))),
    }
}

/// Makes the filesystem, after all that can be looked at has been looked at.
fn make(host: &Host, disk: &Disk, wanted: &Wanted<'_>, intent: &Intent) -> Result<Filesystem, Refusal> {
    prove_blank(host, disk)?;
    intent.begin(host, disk)?;
    match build(host, disk, wanted) {
        Ok(made) => {
            intent.end()?;
            Ok(made)
        }
        Err(refusal) => {
            // It may have refused before it wrote anything: then nothing is to be begun anew.
            if prove_blank(host, disk).is_ok() {
                intent.end()?;
            }
            Err(refusal)
        }
    }
}

/// Runs mkfs on a device that is proven blank.
///
/// # Errors
/// `MKFS_FAILED` with what it said.
pub(super) fn build(host: &Host, disk: &Disk, wanted: &Wanted<'_>) -> Result<Filesystem, Refusal> {
    let arguments = mkfs(wanted.kind, &disk.held().to_string_lossy(), &wanted.id.filesystem_uuid(), wanted.options);
    let tool = match wanted.kind {
        Kind::Ext3 => Tool::MkfsExt3,
        Kind::Ext4 => Tool::MkfsExt4,
        Kind::Xfs => Tool::MkfsXfs,
        Kind::Btrfs => Tool::MkfsBtrfs,
    };
    let call = tool.call(host).args(&arguments).patience(MKFS);
    let shown = call.shown();
    tracing::info!(volume_id = wanted.id.as_str(), "making a filesystem on {}: {shown}", disk.name);
    let said = run(call, Class::MkfsFailed)?;
    if said.code != Some(0) {
        return Err(Refusal::new(Class::MkfsFailed, said.failure(&shown, bootstrap::failure::Code::Io).what));
    }
    match content_of(host, disk)? {
        Content::Filesystem(made) if made.kind == wanted.kind => Ok(made),
        other => Err(Refusal::new(Class::MkfsFailed, format!("{shown} ended well, and {} holds {other}", disk.name))),
    }
}

/// That nothing is on the disk: both ends are read whole and zero, its size is certain, nobody holds it, and libblkid knows
/// no signature on it.
///
/// # Errors
/// `DISK_NOT_BLANK`, `DISK_UNREADABLE`, `DISK_CHANGED`, `VOLUME_IN_USE`.
pub(super) fn prove_blank(host: &Host, disk: &Disk) -> Result<(), Refusal> {
    // mkfs opens it so itself, and for as long as it writes.
    drop(disk.exclusively(false)?);
    let size = disk.size(host)?;
    let length = usize::try_from(ENDS.min(size)).unwrap_or_default();
    let (first, last) = (disk.read(0, length)?, disk.read(size.saturating_sub(ENDS), length)?);
    if first.len() < length || last.len() < length || length == 0 {
        let what = format!("{} is said to have {size} bytes, and ends earlier", disk.name);
        return Err(Refusal::new(Class::DiskUnreadable, what));
    }
    blank(&first, &last, size).map_err(|why| Refusal::new(Class::DiskNotBlank, format!("{}: {why}", disk.name)))?;
    if disk.size(host)? != size {
        return Err(Refusal::new(Class::DiskChanged, format!("{} changes its size at this moment", disk.name)));
    }
    // blkid reads it by itself, at every place where any signature may be.
    let said =
        run(Tool::Blkid.call(host).args(["-p", "-o", "full"]).arg(disk.held()).patience(LOOK), Class::DiskUnreadable)?;
    match (said.code, said.stdout.trim(), said.stderr.trim()) {
        // It found nothing, and has nothing to complain about; an unreadable disk has the same code.
        (Some(2), "", "") => Ok(()),
        (Some(0) | Some(8), found, _) if !found.is_empty() => {
            Err(Refusal::new(Class::DiskNotBlank, format!("{} holds {found}", disk.name)))
        }
        (code, found, complaint) => {
            let what = format!("blkid can't say that {} is blank: {code:?} {found} {complaint}", disk.name);
            Err(Refusal::new(Class::DiskUnreadable, what))
        }
    }
}

/// Zeroes both ends of a disk that a filesystem of ours was being made on, or of a new mapping.
///
/// # Errors
/// `VOLUME_IN_USE`, `MKFS_FAILED`.
pub(super) fn clear(host: &Host, disk: &Disk) -> Result<(), Refusal> {
    let alone = disk.exclusively(true)?;
    let file = &alone.file;
    let size = disk.size(host)?;
    let zeroes = vec![0; usize::try_from(ENDS.min(size)).unwrap_or_default()];
    let failed = |e| Refusal::new(Class::MkfsFailed, format!("clearing {}", disk.name)).with_source(e);
    file.write_all_at(&zeroes, 0).map_err(failed)?;
    file.write_all_at(&zeroes, size.saturating_sub(zeroes.len() as u64)).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// Repairs what the kernel would not: a filesystem that says of itself that it has errors, or that was not unmounted and has
/// no journal. A journal the kernel replays by itself.
///
/// # Errors
/// `FILESYSTEM_DAMAGED` with what the check said.
pub(super) fn repair(host: &Host, disk: &Disk, found: &Filesystem) -> Result<(), Refusal> {
    if !found.needs_check {
        return Ok(());
    }
    let call = Tool::E2fsck.call(host).arg("-p").arg(disk.held()).patience(FSCK);
    let shown = call.shown();
    let said = run(call, Class::FilesystemDamaged)?;
    match said.code {
        // Nothing was wrong; repaired (2: a reboot is asked for, which matters to a mounted root alone).
        Some(0..=3) => Ok(()),
        _ => Err(Refusal::new(Class::FilesystemDamaged, said.failure(&shown, bootstrap::failure::Code::Io).what)),
    }
}

/// Runs a program from a thread that may block.
pub(super) fn run(call: Call, class: Class) -> Result<Said, Refusal> {
    let shown = call.shown();
    let runtime = tokio::runtime::Handle::try_current();
    let runtime = runtime.map_err(|e| Refusal::new(Class::Io, format!("running {shown}")).with_source(e))?;
    runtime.block_on(call.output()).map_err(|failure| Refusal::new(class, shown).with_source(failure))
}
