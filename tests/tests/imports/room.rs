//! Layers that become larger than the disk.

use std::fs;

use bootstrap::bundle::Arch;
use cks_tests::components::Components;
use cks_tests::containerd::Containerd;
use cks_tests::images::{Format, Image};
use cks_tests::node::{self, Node};
use cks_tests::tarball::Tarball;
use cks_tests::{programs, small};
use rustix::fs::statvfs;

use crate::{assert_whole, rows};

/// The disk, and a layer that is some hundred kilobytes and becomes twice as much as the disk.
const DISK_MEBIBYTES: u64 = 160;
const ZEROS: usize = 320 << 20;

/// Nobody vouches for the size of a stock ISO's layers, so that no plan can tell. What was unpacked of it goes away
/// again, and the machine has room all the time for what others write.
#[test]
fn a_layer_without_room_is_undone_and_fills_no_disk() {
    let work = cks_tests::scratch("room").unwrap();
    let arch = Arch::parse(std::env::consts::ARCH).unwrap();
    let components = small::components(&work.path().join("components"), arch).unwrap();
    let good = iso(&components, "good");
    let zeros = Tarball::default().file("zeros", 0o644, vec![0; ZEROS]).finish().unwrap();
    let bomb = Image::new("quay.io/example/bomb:v1", &["sh"], vec![zeros.into()]);
    bomb.archive(Format::CtrExport, &components.directory.join("docker")).unwrap();
    let bad = iso(&components, "bad");
    let containerd = Containerd::start_on_disk(&programs::containerd(None).unwrap(), DISK_MEBIBYTES).unwrap();
    let node = Node::new("worker").unwrap().using(&containerd);
    let namespace = format!("--mount={}", containerd.mounts());
    let run = |iso: &str| node.bootstrap(&[iso]).unwrap().under("nsenter", [namespace.as_str(), "--"]);
    let log = work.path().join("log");
    let mut running = run(&bad).start(&log).unwrap();
    let mut least = u64::MAX;
    while running.ended().unwrap().is_none() {
        let room = statvfs(containerd.data()).unwrap();
        least = least.min(room.f_bavail * room.f_frsize);
    }
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("error[NO_SPACE]"), "{said}");
    assert!(least > 8 << 20, "only {least} bytes were free");
    let halves = rows(&containerd, &["snapshots", "ls"]).into_iter().filter(|row| row.contains("cks-extract"));
    assert_eq!(halves.collect::<Vec<_>>(), [""; 0]);
    let output = run(&good).output().unwrap();
    assert_eq!((node::code(&output), output.code), ("", 0), "{output:?}");
    assert_whole(&containerd, "overlayfs");
}

fn iso(components: &Components, name: &str) -> String {
    let iso = small::stock_iso(&components.directory, "CDROM").unwrap();
    let named = iso.with_file_name(format!("{name}.iso"));
    fs::rename(&iso, &named).unwrap();
    named.to_string_lossy().into_owned()
}
