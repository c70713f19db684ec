//! LUKS2 as encrypted volumes have it: what a header says (LUKS2 On-Disk Format Specification 1.1, 2.1), and what a mapping of
//! the kernel's is.

use std::fmt;

use super::identity::Evidence;
use super::{Serial, VolumeId};
use crate::digest::Digest;
use crate::text::plain;

/// The label of a header that nothing was ever stored behind.
pub const NEW: &str = "cks-new";
/// The label of one whose volume was handed out.
pub const DONE: &str = "cks";

/// What a header begins with, and its second copy.
const FIRST: &[u8] = b"LUKS\xba\xbe";
const SECOND: &[u8] = b"SKUL\xba\xbe";
/// Where second copies are that lie before 128 KiB: right behind the first one, which has one of these sizes.
const SECONDS: [usize; 3] = [16 << 10, 32 << 10, 64 << 10];
/// The largest header.
const LARGEST: u64 = 4 << 20;
/// What a mapping's UUID begins with at device-mapper (cryptsetup's `dm_prepare_uuid`); header and name follow.
const TYPE: &str = "CRYPT-LUKS2-";
/// The part before the JSON.
const BINARY: usize = 4096;
const CHECKSUM: std::ops::Range<usize> = 448..512;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u16,
    /// Whose it is.
    pub uuid: String,
    /// Its label; LUKS1 has none.
    pub label: String,
    /// How well it is.
    pub state: State,
}

/// How well a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The checksum is right; or too large to be looked at, and cryptsetup looks at it itself.
    Whole,
    /// Only the second copy is right.
    Second,
    /// None is.
    Damaged,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.state == State::Damaged {
            return write!(f, "a damaged LUKS header (UUID {})", plain(&self.uuid));
        }
        write!(f, "a LUKS{} container (UUID {}", self.version, plain(&self.uuid))?;
        match self.label.as_str() {
            "" => f.write_str(")"),
            label => write!(f, ", label {})", plain(label)),
        }
    }
}

/// Whether a header stands at the beginning.
#[must_use]
pub fn begins(head: &[u8]) -> bool {
    head.starts_with(FIRST)
}

/// The header in the first bytes of a disk: the first copy, or the second one alone, as cryptsetup takes them.
#[must_use]
pub fn header(head: &[u8]) -> Option<Header> {
    let second = || SECONDS.into_iter().filter_map(|at| Twin::read(head, at, SECOND)).find(|copy| copy.is_right);
    let told = |copy: Twin, state: State| Header { version: 2, uuid: copy.uuid, label: copy.label, state };
    if !begins(head) {
        return second().map(|copy| told(copy, State::Second));
    }
    let version = be(head, 6, 2).and_then(|version| u16::try_from(version).ok()).unwrap_or_default();
    // LUKS1 has its UUID in the same place.
    let raw = |state: State| {
        let (uuid, label) = (text(head, 168, 40), if version == 2 { text(head, 24, 48) } else { String::new() });
        Header { version, uuid, label, state }
    };
    if version != 2 {
        return Some(raw(if version == 1 { State::Whole } else { State::Damaged }));
    }
    let first = Twin::read(head, 0, FIRST).filter(|copy| copy.is_right);
    Some(match (first, second()) {
        // Written after the first one, or before it by a write that was broken off: the later one holds.
        (Some(first), Some(second)) if second.uuid == first.uuid && second.sequence > first.sequence => {
            told(second, State::Whole)
        }
        (Some(first), _) => told(first, State::Whole),
        (None, Some(second)) => told(second, State::Second),
        (None, None) => raw(State::Damaged),
    })
}

/// One copy of a LUKS2 header.
struct Twin {
    sequence: u64,
    uuid: String,
    label: String,
    is_right: bool,
}

impl Twin {
    fn read(head: &[u8], at: usize, magic: &[u8]) -> Option<Self> {
        let there = head.get(at..)?;
        let binary = there.get(..BINARY).filter(|binary| binary.starts_with(magic) && be(binary, 6, 2) == Some(2))?;
        let (size, offset) = (be(binary, 8, 8)?, be(binary, 256, 8)?);
        let is_right = offset == at as u64 && is_summed(there, binary, size);
        let (uuid, label) = (text(binary, 168, 40), text(binary, 24, 48));
        Some(Self { sequence: be(binary, 16, 8)?, uuid, label, is_right })
    }
}

/// Whether the checksum of the binary part and the JSON is the one that stands there.
fn is_summed(there: &[u8], binary: &[u8], size: u64) -> bool {
    let possible = size.is_power_of_two() && (4 * BINARY as u64..=LARGEST).contains(&size);
    if !possible || text(binary, 72, 32) != "sha256" {
        return false;
    }
    let Some(whole) = usize::try_from(size).ok().and_then(|size| there.get(..size)) else { return true };
    let mut whole = whole.to_vec();
    let Some(sum) = whole.get_mut(CHECKSUM) else { return false };
    let told: String = sum.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    sum.fill(0);
    Digest::of(&whole).hex() == told
}

/// A mapping, as the kernel tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its name, as device-mapper has it.
    pub name: String,
    /// Its UUID there: what cryptsetup gave it.
    pub uuid: String,
    /// What it lies on; none for a disk that is gone.
    pub disks: Vec<Option<Evidence>>,
}

impl Mapping {
    /// The volume that it is of: by its name, which cryptsetup has written into the UUID, too. The header's UUID, which stands
    /// there, is the volume's own, or of the volume that it was copied from.
    #[must_use]
    pub fn volume(&self) -> Option<VolumeId> {
        let header = self.uuid.strip_prefix(TYPE)?.strip_suffix(&self.name)?.strip_suffix('-')?;
        let is_uuid = header.len() == 32 && header.bytes().all(|byte| byte.is_ascii_hexdigit());
        VolumeId::of_mapping(&self.name).filter(|_| is_uuid)
    }

    /// Whether it is a volume's whose disk has this serial, and lies on that disk alone.
    #[must_use]
    pub fn is_on(&self, serial: &Serial) -> bool {
        let named = self.volume().and_then(|id| id.serial()).is_some_and(|of| of == *serial);
        named && self.disk().is_some_and(|disk| disk.is(serial))
    }

    /// The one disk that it lies on.
    #[must_use]
    pub fn disk(&self) -> Option<&Evidence> {
        match self.disks.as_slice() {
            [Some(only)] => Some(only),
            _ => None,
        }
    }

    /// Whether the disk below it was taken away.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.disks.iter().all(Option::is_none)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disks: Vec<String> = self
            .disks
            .iter()
            .map(|disk| disk.as_ref().map_or_else(|| "a disk that is gone".to_owned(), Evidence::to_string))
            .collect();
        write!(f, "{} ({}) on {}", plain(&self.name), plain(&self.uuid), disks.join(", "))
    }
}

fn be(from: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = from.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A text that ends with its first zero, or with its field.
fn text(from: &[u8], at: usize, length: usize) -> String {
    let field = from.get(at..).unwrap_or_default();
    let field = field.get(..length.min(field.len())).unwrap_or_default();
    let field = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(field).into_owned()
}

#[cfg(test)]
mod tests;
