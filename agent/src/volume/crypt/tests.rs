use std::os::unix::fs::symlink;
use std::path::Path;

use bootstrap::volume::luks::{self, Header, State};
use tempfile::TempDir;

use super::*;

const ID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

fn id() -> VolumeId {
    VolumeId::parse(ID).unwrap()
}

fn put(host: &Host, path: &str, text: &[u8]) {
    let path = host.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn machine() -> (TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path()).unwrap();
    (root, host)
}

fn header(file: &Path) -> Header {
    luks::header(&fs::read(file).unwrap()[..128 << 10]).unwrap()
}

#[test]
fn cryptsetup_makes_the_volumes_header_and_knows_its_passphrase_to_the_last_byte() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let host = Host::new("/".as_ref()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("disk");
    File::create(&file).unwrap().set_len(32 << 20).unwrap();
    let disk = Disk::of_file(&file);
    let right = Secret::new("c0rrect\nh0rse\n");
    format(&host, &id(), &disk, &right).unwrap();
    let made = Header { version: 2, uuid: id().luks_uuid(), label: NEW.to_owned(), state: State::Whole };
    assert_eq!(header(&file), made);
    test(&host, &disk, &right).unwrap();
    for wrong in ["c0rrect\nh0rse", "c0rrect", "c0rrect\nh0rse\n\n", "x"] {
        let refusal = test(&host, &disk, &Secret::new(wrong)).unwrap_err();
        assert_eq!(refusal.class, Class::EncryptionKeyRefused, "{refusal}");
        assert!(!refusal.to_string().contains("c0rrect"), "{refusal}");
    }
    settle(&host, &disk).unwrap();
    assert_eq!(header(&file), Header { label: DONE.to_owned(), ..made });
    test(&host, &disk, &right).unwrap();
    // What is no header is no question of the key.
    File::create(&file).unwrap().set_len(32 << 20).unwrap();
    assert_eq!(test(&host, &disk, &right).unwrap_err().class, Class::EncryptionFailed);
}

#[test]
fn what_a_node_lacks_is_named() {
    let (_root, host) = machine();
    let lacks = |what: &str| {
        let refusal = ready(&host).unwrap_err();
        assert!(refusal.class == Class::EncryptionUnavailable && refusal.what.contains(what), "{refusal}");
    };
    lacks("cryptsetup");
    put(&host, "/usr/sbin/cryptsetup", b"");
    lacks("/dev/mapper/control");
    put(&host, "/dev/mapper/control", b"");
    // Nobody says what the kernel has.
    ready(&host).unwrap();
    put(&host, "/proc/sys/kernel/osrelease", b"6.1.0\n");
    put(&host, "/lib/modules/6.1.0/modules.dep", b"kernel/drivers/md/dm-mod.ko:\n");
    lacks("dm-crypt");
    put(&host, "/lib/modules/6.1.0/modules.builtin", b"kernel/drivers/md/dm-crypt.ko\n");
    ready(&host).unwrap();
    fs::remove_file(host.path("/lib/modules/6.1.0/modules.builtin")).unwrap();
    lacks("dm-crypt");
    fs::create_dir_all(host.path("/sys/module/dm_crypt")).unwrap();
    ready(&host).unwrap();
}

#[test]
fn a_cryptsetup_that_somebody_left_is_waited_for() {
    let (_root, host) = machine();
    let process = |number: u32, name: &str, words: &[&str]| {
        put(&host, &format!("/proc/{number}/comm"), format!("{name}\n").as_bytes());
        put(&host, &format!("/proc/{number}/cmdline"), words.join("\0").as_bytes());
    };
    process(10, "cryptsetup", &["cryptsetup", "luksFormat", "--uuid", "0000"]);
    process(11, "vi", &["vi", &id().luks_uuid()]);
    alone(&host, &id(), None).unwrap();
    for word in [id().luks_uuid(), id().mapping_name()] {
        process(12, "cryptsetup", &["cryptsetup", "x", &word]);
        let refusal = alone(&host, &id(), None).unwrap_err();
        assert!(refusal.class == Class::VolumeBusy && refusal.what.contains("12"), "{refusal}");
    }
    process(12, "cryptsetup", &["cryptsetup", "config"]);
    fs::create_dir_all(host.path("/proc/12/fd")).unwrap();
    symlink("/dev/null", host.path("/proc/12/fd/3")).unwrap();
    alone(&host, &id(), None).unwrap();
}

#[test]
fn where_no_mapping_is_there_is_nothing_to_close() {
    let (_root, host) = machine();
    close(&host, &id()).unwrap();
}
