use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::volume::devices::{is_gone, is_serial};

const ID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const MAPPING: Device = Device { major: 253, minor: 0 };
const DISK: Device = Device { major: 254, minor: 16 };

fn id() -> VolumeId {
    VolumeId::parse(ID).unwrap()
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A machine with a disk of this serial, and a mapping on it, as Linux 6.1 shows them.
fn machine(serial: &str, name: &str, uuid: &str) -> (TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    put(at, "sys/devices/virtual/block/dm-0/dm/name", &format!("{name}\n"));
    put(at, "sys/devices/virtual/block/dm-0/dm/uuid", &format!("{uuid}\n"));
    put(at, "sys/devices/virtual/block/dm-0/dev", "253:0\n");
    put(at, "sys/devices/virtual/block/dm-0/uevent", "MAJOR=253\nMINOR=0\nDEVNAME=dm-0\n");
    put(at, "sys/devices/pci/block/vdb/serial", serial);
    put(at, "sys/devices/pci/block/vdb/dev", "254:16\n");
    for directory in ["sys/dev/block", "sys/block", "sys/devices/virtual/block/dm-0/slaves"] {
        fs::create_dir_all(at.join(directory)).unwrap();
    }
    let (mapping, disk) = (at.join("sys/devices/virtual/block/dm-0"), at.join("sys/devices/pci/block/vdb"));
    for (device, link) in [
        (&mapping, "sys/dev/block/253:0"),
        (&mapping, "sys/block/dm-0"),
        (&disk, "sys/dev/block/254:16"),
        (&disk, "sys/block/vdb"),
        (&disk, "sys/devices/virtual/block/dm-0/slaves/vdb"),
    ] {
        symlink(device, at.join(link)).unwrap();
    }
    let host = Host::new(at).unwrap();
    (root, host)
}

fn uuid() -> String {
    format!("CRYPT-LUKS2-{}-{}", id().luks_uuid().replace('-', ""), id().mapping_name())
}

#[test]
fn a_mapping_on_the_volumes_disk_is_the_volume() {
    let serial = id().serial().unwrap();
    let (root, host) = machine(serial.as_str(), &id().mapping_name(), &uuid());
    assert!(is_serial(&host, MAPPING, &serial) && is_serial(&host, DISK, &serial) && !is_gone(&host, MAPPING));
    let (device, mapping) = of_volume(&host, &id()).unwrap().unwrap();
    assert_eq!((device, mapping.disk().map(|disk| disk.device)), (MAPPING, Some(DISK)));
    // However its id is spelt.
    assert!(of_volume(&host, &VolumeId::parse(&ID.to_uppercase()).unwrap()).unwrap().is_some());
    let other = VolumeId::parse("0a1b2c3d-4e5f-6071-8294-a4b5c6d7e8f9").unwrap();
    assert!(of_volume(&host, &other).unwrap().is_none() && !is_serial(&host, MAPPING, &other.serial().unwrap()));
    // A disk among the disks it is not.
    assert_eq!(devices::all(&host).len(), 1);
    // Two disks below it.
    symlink(root.path().join("sys/block/vdb"), root.path().join("sys/block/dm-0/slaves/vdc")).unwrap();
    assert!(!is_serial(&host, MAPPING, &serial));
}

#[test]
fn a_mapping_of_something_else_is_not_the_volume() {
    let serial = id().serial().unwrap();
    for (of_disk, name, uuid) in [
        ("0a1b2c3d4e5f60718294", id().mapping_name(), uuid()),
        ("", id().mapping_name(), uuid()),
        (serial.as_str(), id().mapping_name(), uuid().replace("LUKS2", "PLAIN")),
        (serial.as_str(), id().mapping_name(), String::new()),
        (serial.as_str(), "vg-data".to_owned(), "LVM-abc".to_owned()),
        (serial.as_str(), "vg-data".to_owned(), uuid()),
    ] {
        let (_root, host) = machine(of_disk, &name, &uuid);
        assert!(!is_serial(&host, MAPPING, &serial), "{of_disk} {name} {uuid}");
        let found = of_volume(&host, &id());
        match (name == id().mapping_name(), uuid == self::uuid()) {
            (true, true) => assert!(found.unwrap().is_some()),
            (true, false) => assert_eq!(found.unwrap_err().class, Class::VolumeInUse),
            _ => assert_eq!(found, Ok(None)),
        }
    }
}

#[test]
fn a_mapping_that_has_lost_its_disk_is_known_and_never_the_volume() {
    let serial = id().serial().unwrap();
    let (root, host) = machine(serial.as_str(), &id().mapping_name(), &uuid());
    let disk = root.path().join("sys/devices/pci/block/vdb");
    fs::rename(&disk, root.path().join("gone")).unwrap();
    for link in ["sys/dev/block/254:16", "sys/block/vdb"] {
        fs::remove_file(root.path().join(link)).unwrap();
    }
    for _ in 0..2 {
        let (_, mapping) = of_volume(&host, &id()).unwrap().unwrap();
        assert!(mapping.is_orphan() && mapping.volume().is_some(), "{mapping}");
        assert!(!is_serial(&host, MAPPING, &serial) && is_gone(&host, MAPPING));
        // Some kernels leave the link, others take it away.
        let _ = fs::remove_file(root.path().join("sys/block/dm-0/slaves/vdb"));
    }
    // Somebody else's mapping without a disk is theirs.
    let (_root, host) = machine("", "vg-data", "LVM-abc");
    fs::remove_file(host.path("sys/block/dm-0/slaves/vdb")).unwrap();
    assert!(!is_gone(&host, MAPPING));
}
