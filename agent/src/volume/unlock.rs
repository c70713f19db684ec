//! An encrypted volume, from its disk to the mapping that is mounted or handed out. What each step leaves behind when it is the
//! last one, the next call finds in the header's label (`bootstrap::volume::encryption`).

use bootstrap::secret::Secret;
use bootstrap::volume::encryption::{Situation, Step, decide};
use bootstrap::volume::filesystem::Kind;
use bootstrap::volume::luks::{NEW, State};
use bootstrap::volume::refusal::{Class, Refusal};
use bootstrap::volume::superblock::{Content, Filesystem};
use bootstrap::volume::{Serial, VolumeId};

use super::devices::Disk;
use super::format::{self, Wanted};
use super::intent::Intent;
use super::{crypt, mapping};
use crate::host::Host;

/// What is to be unlocked, and how.
#[derive(Debug, Clone)]
pub(super) struct Locked<'a> {
    pub(super) id: &'a VolumeId,
    pub(super) serial: &'a Serial,
    /// The disk that was proven to be it.
    pub(super) disk: &'a Disk,
    pub(super) passphrase: &'a Secret,
    /// Nothing may be written.
    pub(super) read_only: bool,
    /// None for a device.
    pub(super) filesystem: Option<Inside<'a>>,
}

/// The filesystem that it is to have.
#[derive(Debug, Clone)]
pub(super) struct Inside<'a> {
    /// Its kind, where somebody says one.
    pub(super) kind: Option<Kind>,
    /// That of a new one otherwise.
    pub(super) default: Kind,
    /// Further arguments of its mkfs, checked.
    pub(super) options: &'a [String],
}

/// A volume that is open.
#[derive(Debug)]
pub(super) struct Unlocked {
    pub(super) mapping: Disk,
    /// Its filesystem; none of a device.
    pub(super) filesystem: Option<Filesystem>,
    /// Whether it was opened just now, and is to be closed again when what follows fails.
    pub(super) opened: bool,
}

impl Locked<'_> {
    /// Opens the volume, which is open already if there is a mapping; makes header and filesystem on a disk that is proven
    /// blank. Refused, it is closed as it was.
    ///
    /// # Errors
    /// Those of [`decide`], [`crypt`] and [`format`].
    pub(super) fn unlock(&self, host: &Host, open: Option<Disk>) -> Result<Unlocked, Refusal> {
        let Self { id, disk, passphrase, read_only, .. } = *self;
        let intent = Intent::of(host, self.serial);
        let found = format::content_of(host, disk)?;
        let situation = Situation {
            id,
            disk: &disk.name,
            asked: true,
            block: self.filesystem.is_none(),
            read_only,
            found: &found,
            begun: intent.is_of(host, disk)?,
            open: open.is_some(),
        };
        let step = decide(&situation)?;
        // Before the first byte is written.
        crypt::ready(host)?;
        if let Step::Format { clear } = step {
            self.format(host, &intent, clear)?;
        }
        let open = match open {
            // Opened to be read alone, by somebody who has gone since.
            Some(mapping) if !read_only && mapping::is_read_only(host, &mapping) => {
                drop(mapping);
                crypt::close(host, id)?;
                None
            }
            open => open,
        };
        let opened = open.is_none();
        let mapping = match open {
            Some(mapping) => crypt::test(host, disk, passphrase).map(|()| mapping)?,
            None => {
                crypt::open(host, id, disk, passphrase, read_only)?;
                let opened = mapping::held(host, id, disk);
                let what = || format!("cryptsetup ended well, and there is no {}", id.mapping_name());
                opened
                    .and_then(|opened| opened.ok_or_else(|| Refusal::new(Class::EncryptionFailed, what())))
                    .inspect_err(|_| undo(host, id))?
            }
        };
        match self.inside(host, &mapping, step, &intent, opened) {
            Ok(filesystem) => Ok(Unlocked { mapping, filesystem, opened }),
            Err(refusal) => {
                // It is busy for as long as it is held.
                drop(mapping);
                if opened {
                    undo(host, id);
                }
                Err(refusal)
            }
        }
    }

    /// A header on a disk that is proven blank, or was, before we began.
    fn format(&self, host: &Host, intent: &Intent, clear: bool) -> Result<(), Refusal> {
        let Self { id, disk, .. } = *self;
        if clear {
            tracing::warn!(volume_id = id.as_str(), "a LUKS header on {} was broken off; it is begun anew", disk.name);
            format::clear(host, disk)?;
        }
        format::prove_blank(host, disk)?;
        intent.begin(host, disk)?;
        if let Err(refusal) = crypt::format(host, id, disk, self.passphrase) {
            // It may have refused before it wrote anything: then nothing is to be begun anew.
            if format::prove_blank(host, disk).is_ok() {
                intent.end()?;
            }
            return Err(refusal);
        }
        match format::content_of(host, disk)? {
            Content::Luks(made) if made.uuid == id.luks_uuid() && made.label == NEW && made.state == State::Whole => {
                Ok(())
            }
            other => {
                let what = format!("cryptsetup ended well, and {} holds {other}", disk.name);
                Err(Refusal::new(Class::EncryptionFailed, what))
            }
        }
    }

    /// What is inside of the open volume: its filesystem, a new one where nothing was ever stored.
    fn inside(
        &self,
        host: &Host,
        mapping: &Disk,
        step: Step,
        intent: &Intent,
        opened: bool,
    ) -> Result<Option<Filesystem>, Refusal> {
        if step == Step::Use {
            // Settled, and killed before it was crossed out.
            intent.end()?;
            if !(opened || self.read_only) {
                crypt::resize(host, self.id)?;
            }
            return self.filesystem.as_ref().map(|inside| used(host, mapping, inside)).transpose();
        }
        // Random bytes, which nobody has to take for a signature.
        format::clear(host, mapping)?;
        let made = self.filesystem.as_ref().map(|inside| self.fill(host, mapping, inside)).transpose()?;
        crypt::flush(mapping)?;
        crypt::settle(host, self.disk)?;
        intent.end()?;
        Ok(made)
    }

    fn fill(&self, host: &Host, mapping: &Disk, inside: &Inside<'_>) -> Result<Filesystem, Refusal> {
        let Self { id, serial, read_only, .. } = *self;
        let kind = inside.kind.unwrap_or(inside.default);
        format::prove_blank(host, mapping)?;
        format::build(host, mapping, &Wanted { id, serial, kind, options: inside.options, read_only })
    }
}

/// The filesystem that is there. None is ever made here: there may have been another one.
fn used(host: &Host, mapping: &Disk, inside: &Inside<'_>) -> Result<Filesystem, Refusal> {
    match (format::content_of(host, mapping)?, inside.kind) {
        (Content::Filesystem(found), Some(kind)) if found.kind != kind => {
            let what = format!("the encrypted {} holds {}, and {kind} is asked for", mapping.name, found.kind);
            Err(Refusal::new(Class::FilesystemMismatch, what))
        }
        (Content::Filesystem(found), _) => Ok(found),
        (other, _) => {
            let what = format!("the encrypted {} was in use, and holds {other}, and no filesystem", mapping.name);
            Err(Refusal::new(Class::DiskNotBlank, what))
        }
    }
}

/// A refusal says that nothing was done. What can't be undone is found by the unstage that follows.
pub(super) fn undo(host: &Host, id: &VolumeId) {
    if let Err(refusal) = crypt::close(host, id) {
        tracing::warn!(volume_id = id.as_str(), "{refusal}");
    }
}
