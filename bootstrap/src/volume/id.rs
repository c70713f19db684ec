//! A volume's id, and the serial that its disk has.

use std::fmt;

use crate::digest::Digest;

/// No id is longer (CSI 1.12: strings have at most 128 bytes).
const LONGEST: usize = 128;
/// So many digits of the volume's UUID are the disk's serial (CloudStack's `KVMStorageProcessor.diskUuidToSerial`): a
/// virtio disk's serial has no room for more.
const SERIAL: usize = 20;
/// What the UUIDs of filesystems are derived from, with the volume's id.
const FILESYSTEMS: &str = "csi.cloudstack.apache.org/filesystem/";
/// The same for LUKS headers.
const HEADERS: &str = "csi.cloudstack.apache.org/luks/";
/// What the names of mappings begin with.
const MAPPING: &str = "cks-";

/// A volume's id, as the controller gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(String);

impl VolumeId {
    /// Reads an id. One that is no UUID is an id, too: of a volume that no CloudStack has.
    ///
    /// # Errors
    /// In words, to stand behind the field's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is missing".to_owned()),
            _ if text.len() > LONGEST => Err(format!("is longer than {LONGEST} bytes")),
            _ if text.contains(char::is_control) => Err("has a control character".to_owned()),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// As it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The serial of its disk; none where the id is no UUID.
    #[must_use]
    pub fn serial(&self) -> Option<Serial> {
        let groups: Vec<&str> = self.0.split('-').collect();
        let lengths = groups.iter().map(|group| group.len());
        let hex = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
        (hex && lengths.eq([8, 4, 4, 4, 12])).then(|| {
            let mut digits = groups.concat().to_ascii_lowercase();
            digits.truncate(SERIAL);
            Serial(digits)
        })
    }

    /// The UUID of its filesystem (RFC 9562, version 8): the same whoever makes it, and whenever.
    #[must_use]
    pub fn filesystem_uuid(&self) -> String {
        self.uuid_of(FILESYSTEMS)
    }

    /// The UUID of its LUKS header, made in the same way.
    #[must_use]
    pub fn luks_uuid(&self) -> String {
        self.uuid_of(HEADERS)
    }

    /// The name of what its disk is decrypted as.
    #[must_use]
    pub fn mapping_name(&self) -> String {
        format!("{MAPPING}{}", self.0.to_ascii_lowercase())
    }

    /// The volume whose mapping has this name.
    #[must_use]
    pub fn of_mapping(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix(MAPPING)?).ok().filter(|id| id.serial().is_some() && id.mapping_name() == name)
    }

    fn uuid_of(&self, namespace: &str) -> String {
        let digest = Digest::of(format!("{namespace}{}", self.0.to_ascii_lowercase()).as_bytes()).hex();
        let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
        // The variant's digit is one of 8, 9, a, b.
        format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::plain(&self.0))
    }
}

/// What a volume's disk says that it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(String);

impl Serial {
    /// Its twenty digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a disk that says `told` is it. One that says more is another one: every bus here tells exactly what the
    /// hypervisor set, and that was cut to twenty digits.
    #[must_use]
    pub fn is(&self, told: &str) -> bool {
        told.trim_matches(|c: char| c.is_whitespace() || c == '\0').eq_ignore_ascii_case(&self.0)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0A1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

    #[test]
    fn the_serial_is_the_first_twenty_digits() {
        let serial = VolumeId::parse(ID).unwrap().serial().unwrap();
        assert_eq!(serial.as_str(), "0a1b2c3d4e5f60718293");
        for (told, is) in [
            ("0a1b2c3d4e5f60718293", true),
            ("0A1B2C3D4E5F60718293\n", true),
            ("  0a1b2c3d4e5f60718293\0\0", true),
            ("0a1b2c3d4e5f60718293a4b5", false),
            ("0a1b2c3d4e5f6071829", false),
            ("x0a1b2c3d4e5f60718293", false),
            ("", false),
        ] {
            assert_eq!(serial.is(told), is, "{told:?}");
        }
    }

    #[test]
    fn an_id_that_is_no_uuid_has_no_serial() {
        for id in
            ["fake-vol-id-abcdef", "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "ga1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", "é", "-"]
        {
            assert_eq!(VolumeId::parse(id).unwrap().serial(), None, "{id}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (id, why) in [("", "missing"), ("a\nb", "control"), ("a\0", "control"), (&"x".repeat(129), "128")] {
            assert!(VolumeId::parse(id).unwrap_err().contains(why), "{id:?}");
        }
        assert!(VolumeId::parse(&"x".repeat(128)).is_ok());
    }

    #[test]
    fn a_filesystems_uuid_depends_on_the_id_alone() {
        let uuid = |id: &str| VolumeId::parse(id).unwrap().filesystem_uuid();
        assert_eq!(uuid(ID), uuid(&ID.to_ascii_lowercase()));
        assert_ne!(uuid(ID), uuid("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f0"));
        let lengths: Vec<usize> = uuid(ID).split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(uuid(ID).as_bytes().get(14), Some(&b'8'));
        let id = VolumeId::parse(ID).unwrap();
        assert_ne!(id.luks_uuid(), id.filesystem_uuid());
        // Disks have them in their headers: what is derived stays so.
        assert_eq!(id.luks_uuid(), "23f0c3ed-4706-8f2a-8ce7-610d3973b2e6");
    }

    #[test]
    fn a_mappings_name_leads_back_to_its_volume() {
        let id = VolumeId::parse(ID).unwrap();
        assert_eq!(id.mapping_name(), format!("cks-{}", ID.to_ascii_lowercase()));
        let back = VolumeId::of_mapping(&id.mapping_name()).unwrap();
        assert_eq!((back.as_str(), back.serial()), (&*ID.to_ascii_lowercase(), id.serial()));
        for name in ["", "cks-", "cks-x", ID, &format!("cks-{ID}"), &format!("luks-{}", ID.to_ascii_lowercase())] {
            assert_eq!(VolumeId::of_mapping(name), None, "{name}");
        }
    }
}
