use std::os::unix::fs::symlink;

use bootstrap::volume::VolumeId;
use tempfile::TempDir;

use super::*;

/// A disk's name, its number, and its attributes.
type Told<'a> = (&'a str, &'a str, &'a [(&'a str, &'a [u8])]);

/// A machine with these attributes below `/sys/dev/block`, and the links to them below `/sys/block`.
fn machine(disks: &[Told<'_>]) -> (TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for (name, number, attributes) in disks {
        let at = root.path().join("sys/dev/block").join(number);
        fs::create_dir_all(at.join("device")).unwrap();
        fs::write(at.join("dev"), format!("{number}\n")).unwrap();
        for (attribute, value) in *attributes {
            fs::write(at.join(attribute), value).unwrap();
        }
        fs::create_dir_all(root.path().join("sys/block")).unwrap();
        symlink(&at, root.path().join("sys/block").join(name)).unwrap();
    }
    let host = Host::new(root.path()).unwrap();
    (root, host)
}

fn serial() -> Serial {
    VolumeId::parse("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9").unwrap().serial().unwrap()
}

const SERIAL: &[u8] = b"0a1b2c3d4e5f60718293";

#[test]
fn a_disk_is_known_by_each_bus_own_serial() {
    let mut page = vec![0, 0x80, 0, 20];
    page.extend_from_slice(SERIAL);
    for attributes in
        [("serial", SERIAL), ("device/serial", b"0a1b2c3d4e5f60718293  \n"), ("device/vpd_pg80", page.as_slice())]
    {
        let (_root, host) = machine(&[("vdb", "254:16", &[attributes]), ("vda", "254:0", &[])]);
        assert!(is_serial(&host, Device { major: 254, minor: 16 }, &serial()), "{attributes:?}");
        assert!(!is_serial(&host, Device { major: 254, minor: 0 }, &serial()));
        assert!(!is_serial(&host, Device { major: 254, minor: 32 }, &serial()));
    }
}

#[test]
fn what_no_hypervisor_attaches_is_not_looked_at() {
    let attributes: &[(&str, &[u8])] = &[("serial", SERIAL)];
    let (_root, host) =
        machine(&[("dm-0", "253:0", attributes), ("md0", "9:0", attributes), ("vdb", "254:16", attributes)]);
    let names: Vec<String> = all(&host).into_iter().map(|evidence| evidence.name).collect();
    assert_eq!(names, ["vdb"]);
}

#[test]
fn a_node_that_is_no_device_is_no_disk() {
    let (root, host) = machine(&[("vdb", "254:16", &[("serial", SERIAL)])]);
    fs::create_dir(root.path().join("dev")).unwrap();
    fs::write(root.path().join("dev/vdb"), "data").unwrap();
    assert_eq!(find(&host, &serial()).unwrap_err().class, Class::DiskChanged);
    fs::remove_file(root.path().join("dev/vdb")).unwrap();
    symlink("/dev/null", root.path().join("dev/vdb")).unwrap();
    assert_eq!(find(&host, &serial()).unwrap_err().class, Class::DiskUnreadable);
}

#[test]
fn sizes_are_counted_in_sectors_of_512_bytes() {
    let (_root, host) = machine(&[("vdb", "254:16", &[("size", b"2048\n")]), ("vdc", "254:32", &[("size", b"0\n")])]);
    assert_eq!(size(&host, Device { major: 254, minor: 16 }), Some(1 << 20));
    assert_eq!(size(&host, Device { major: 254, minor: 32 }), None);
}

#[test]
fn names_and_errors_are_the_kernels() {
    let (root, host) =
        machine(&[("vdb", "254:16", &[("uevent", b"MAJOR=254\nMINOR=16\nDEVNAME=vdb\nDEVTYPE=disk\n")])]);
    let device = Device { major: 254, minor: 16 };
    assert_eq!((name(&host, device).as_deref(), filesystem_errors(&host, device)), (Some("vdb"), 0));
    fs::create_dir_all(root.path().join("sys/fs/ext4/vdb")).unwrap();
    fs::write(root.path().join("sys/fs/ext4/vdb/errors_count"), "3\n").unwrap();
    assert_eq!(filesystem_errors(&host, device), 3);
    assert!(is_gone(&host, Device { major: 254, minor: 99 }) && !is_gone(&host, device));
}
