//! What staging does with a disk, encrypted or not: the one table that says when a LUKS header is made, when nothing is behind
//! one yet, and when it is opened and used.

use super::VolumeId;
use super::luks::{DONE, Header, NEW, State};
use super::refusal::{Class, Refusal};
use super::superblock::Content;

/// The StorageClass' parameter.
pub const PARAMETER: &str = "csi.cloudstack.apache.org/encryption";
/// What it asks for.
pub const LUKS2: &str = "luks2";

/// What is asked for, and what is there.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The volume.
    pub id: &'a VolumeId,
    /// The kernel's name of its disk.
    pub disk: &'a str,
    /// Whether it is to be encrypted.
    pub asked: bool,
    /// Whether it is used as a device: then it may hold anything.
    pub block: bool,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// What is on the disk.
    pub found: &'a Content,
    /// Whether we ourselves began to make something on this very attachment of it, and have not ended.
    pub begun: bool,
    /// Whether it is open: a mapping, proven to be the volume's.
    pub open: bool,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// As always, without encryption.
    Plain,
    /// A header is made, once the disk is proven blank; before, what we began ourselves is cleared.
    Format {
        /// Whether it is.
        clear: bool,
    },
    /// The header is opened. Nothing was ever stored behind it: both ends are zeroed, and a filesystem is made.
    Fill,
    /// The header is opened, and what is behind it is the volume.
    Use,
}

/// What is done with a disk.
///
/// # Errors
/// `DISK_NOT_BLANK`, `VOLUME_INCOMPATIBLE`, with what is there and what is missing.
pub fn decide(situation: &Situation<'_>) -> Result<Step, Refusal> {
    if situation.asked { encrypted(situation) } else { plain(situation) }
}

fn plain(situation: &Situation<'_>) -> Result<Step, Refusal> {
    let Situation { id, disk, block, found, open, .. } = *situation;
    if open {
        let what = format!("{disk} is open as {}: {}", id.mapping_name(), lacking());
        return Err(Refusal::new(Class::VolumeIncompatible, what));
    }
    match found {
        // A pod may have a LUKS container of its own in a device.
        Content::Luks(header) if !block || header.uuid == id.luks_uuid() || [NEW, DONE].contains(&&*header.label) => {
            Err(Refusal::new(Class::DiskNotBlank, format!("{disk} holds {header}: {}", lacking())))
        }
        _ => Ok(Step::Plain),
    }
}

fn encrypted(situation: &Situation<'_>) -> Result<Step, Refusal> {
    let Situation { id, disk, read_only, found, begun, open, .. } = *situation;
    let not = |why: &str| Err(Refusal::new(Class::DiskNotBlank, format!("{disk} holds {found}{why}")));
    let step = match found {
        Content::Luks(header) => match of_header(id, header, begun, open) {
            Ok(step) => step,
            Err(why) => return not(&why),
        },
        _ if open => return not(&format!(", and is open as {}: its LUKS header is gone", id.mapping_name())),
        // Our own, broken off half-way: see `format::ensure`.
        Content::Zeroes | Content::Data | Content::Unfinished(_) if begun => Step::Format { clear: true },
        Content::Zeroes => Step::Format { clear: false },
        _ => return not(&format!(", and {PARAMETER}={LUKS2} is asked for: what is there is not encrypted afterwards")),
    };
    if read_only && step != Step::Use {
        return not(", nothing was ever stored in it, and it may only be read");
    }
    Ok(step)
}

fn of_header(id: &VolumeId, header: &Header, begun: bool, open: bool) -> Result<Step, String> {
    if header.version != 2 {
        return Err(format!(", and {LUKS2} is asked for"));
    }
    let is_own = header.uuid == id.luks_uuid();
    match (header.label.as_str(), header.state) {
        // Made by us a moment ago, perhaps half; if it is open, it is whole.
        (NEW, _) if is_own && begun && !open => Ok(Step::Format { clear: true }),
        (NEW, State::Whole) if is_own => Ok(Step::Fill),
        (NEW, _) if !is_own => {
            Err(format!(", a copy of a volume that was never filled; this one's UUID is {}", id.luks_uuid()))
        }
        // A volume that was made of a snapshot has the header of its source, and is opened by the same passphrase.
        (DONE, State::Whole | State::Second) => Ok(Step::Use),
        // The damaged copy may have said that the volume is in use.
        (NEW, State::Second) => Err(", and its first copy is damaged: see cryptsetup repair".to_owned()),
        (_, State::Damaged) => Err(": see cryptsetup repair".to_owned()),
        _ => Err(format!(", and the label of a volume's is {DONE} or {NEW}")),
    }
}

fn lacking() -> String {
    format!("the volume is encrypted, and its StorageClass' parameter {PARAMETER}: {LUKS2} is missing")
}

#[cfg(test)]
mod tests;
