//! Which disk a volume is: exactly one that says so itself, or none.

use std::fmt;

use super::Serial;
use super::refusal::{Class, Refusal};
use crate::mountinfo::Device;
use crate::text::plain;

/// So many disks are named in a refusal.
const NAMED: usize = 8;

/// What a disk says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The kernel's name of it.
    pub name: String,
    /// Its number.
    pub device: Device,
    /// Serials, and where each was read.
    pub serials: Vec<(&'static str, String)>,
}

impl Evidence {
    /// Whether it says that it is the disk of `serial`, and nothing that speaks against it: another serial of the same shape.
    #[must_use]
    pub fn is(&self, serial: &Serial) -> bool {
        let of_a_volume = |told: &str| {
            let told = told.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            told.len() == serial.as_str().len() && told.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let mut told = self.serials.iter().filter(|(_, told)| of_a_volume(told)).peekable();
        told.peek().is_some() && told.all(|(_, told)| serial.is(told))
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(&self.name))?;
        match self.serials.as_slice() {
            [] => f.write_str(" (without serial)"),
            serials => {
                let serials: Vec<String> =
                    serials.iter().map(|(at, told)| format!("{at} {}", plain(told.trim()))).collect();
                write!(f, " ({})", serials.join(", "))
            }
        }
    }
}

/// The disk of `serial` among those that were `seen`: its place in the list.
///
/// # Errors
/// `VOLUME_NOT_ATTACHED`, `VOLUME_AMBIGUOUS`, with the disks that there are.
pub fn find(serial: &Serial, seen: &[Evidence]) -> Result<usize, Refusal> {
    let found: Vec<usize> = (0..seen.len()).filter(|at| seen.get(*at).is_some_and(|disk| disk.is(serial))).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => {
            let hint = match seen.iter().all(|disk| disk.serials.is_empty()) && !seen.is_empty() {
                true => {
                    ". No disk has a serial: on VMware set disk.EnableUUID = TRUE; XenServer gives none, see docs/csi.md"
                }
                false => "",
            };
            let what = format!("no disk says that it is {serial}; there are {}{hint}", named(seen.iter()));
            Err(Refusal::new(Class::VolumeNotAttached, what))
        }
        several => {
            let disks = named(several.iter().filter_map(|at| seen.get(*at)));
            Err(Refusal::new(
                Class::VolumeAmbiguous,
                format!("{} disks say that they are {serial}: {disks}", several.len()),
            ))
        }
    }
}

fn named<'a>(disks: impl Iterator<Item = &'a Evidence>) -> String {
    let mut names: Vec<String> = disks.map(Evidence::to_string).collect();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (_, 0) => names.join(", "),
        (_, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::VolumeId;

    const OURS: &str = "0a1b2c3d4e5f60718293";
    const OTHER: &str = "0a1b2c3d4e5f60718294";

    fn serial() -> Serial {
        VolumeId::parse("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9").unwrap().serial().unwrap()
    }

    fn disk(name: &str, serials: &[(&'static str, &str)]) -> Evidence {
        let serials = serials.iter().map(|(at, told)| (*at, (*told).to_owned())).collect();
        Evidence { name: name.to_owned(), device: Device { major: 254, minor: 0 }, serials }
    }

    #[test]
    fn exactly_one_disk_says_so() {
        let (a, b) = (disk("vda", &[]), disk("vdb", &[("serial", OURS)]));
        let others = [disk("vdc", &[("serial", OTHER)]), disk("vdd", &[("serial", "QM00001")])];
        let seen = [a, b, others[0].clone(), others[1].clone()];
        assert_eq!(find(&serial(), &seen), Ok(1));
        let refusal = find(&serial(), &others).unwrap_err();
        assert!(refusal.class == Class::VolumeNotAttached && refusal.what.contains("vdc"), "{refusal}");
        let twice = [seen[1].clone(), disk("sdc", &[("vpd 0x80", OURS)])];
        let refusal = find(&serial(), &twice).unwrap_err();
        assert!(refusal.class == Class::VolumeAmbiguous && refusal.what.contains("sdc"), "{refusal}");
    }

    #[test]
    fn a_disk_that_contradicts_itself_is_none() {
        assert!(!disk("sdb", &[("vpd 0x80", OURS), ("vpd 0x83", OTHER)]).is(&serial()));
        // A world-wide name beside it says nothing against it.
        assert!(disk("sdb", &[("vpd 0x83", "naa.5000c500a1b2c3d4"), ("vpd 0x80", OURS)]).is(&serial()));
        assert!(!disk("sdb", &[("vpd 0x83", "naa.5000c500a1b2c3d4")]).is(&serial()));
        assert!(!disk("sdb", &[]).is(&serial()));
        assert!(!disk("sdb", &[("serial", "0a1b2c3d4e5f60718293a4b5")]).is(&serial()));
    }

    #[test]
    fn where_no_disk_has_a_serial_it_is_said_what_to_set() {
        let refusal = find(&serial(), &[disk("sda", &[]), disk("sdb", &[])]).unwrap_err();
        assert!(refusal.what.contains("disk.EnableUUID"), "{refusal}");
        assert!(find(&serial(), &[]).unwrap_err().what.contains("none"));
        let many: Vec<Evidence> = (0..20).map(|number| disk(&format!("sd{number}"), &[("serial", OTHER)])).collect();
        assert!(find(&serial(), &many).unwrap_err().what.contains("and 12 more"));
    }
}
