//! An ISO for the other architecture, and what is wrong with one that is mixed.

use std::fs;

use bootstrap::bundle::{Arch, Manifest};
use cks_tests::world::{LARGE, World};

use crate::{Desk, PLAIN, extract, publish_plain, references, told};

const KUBELET: &str = "dl.k8s.io/release/v1.33.1/bin/linux/arm64/kubelet";
/// Where `e_machine` lies in an ELF file.
const E_MACHINE: usize = 18;

#[test]
fn an_arm64_iso_is_of_arm64_alone() {
    let world = World::new(false).unwrap();
    let desk = Desk::new(&world, &world.registry.url(), &["--arch", "arm64"]);
    let iso = desk.iso();
    desk.user.cks_iso(&["verify", "out.iso"]).ok().unwrap();
    let disc = desk.user.place.with_file_name("disc");
    extract(&iso, &disc);
    let manifest = Manifest::parse(&fs::read(disc.join("cks-bundle.json")).unwrap()).unwrap();
    assert_eq!(manifest.arch, Arch::Arm64);
    assert_eq!(manifest.images.iter().map(|image| image.reference.clone()).collect::<Vec<_>>(), references(&world));
    let large = &world.layout.images()[LARGE].blobs;
    assert!(large[&Arch::Arm64].iter().all(|digest| manifest.blob(digest).is_some()));
    assert!(large[&Arch::Amd64].iter().all(|digest| manifest.blob(digest).is_none()));
    assert!(world.upstream.requests().iter().all(|request| !request.path.contains("amd64")));
    assert!(disc.join("etcd/etcd-linux-amd64.tar.gz").is_file(), "the name that nodes look for");

    // One program of the other architecture, in the finished disc: named, whatever else is found.
    let kubelet = world.upstream.file(KUBELET).unwrap();
    let mut bytes = fs::read(&iso).unwrap();
    // Programs begin alike.
    let end = kubelet.len() - 4096;
    let at = bytes.windows(4096).position(|window| *window == kubelet[end..]).unwrap() - end;
    bytes[at + E_MACHINE..at + E_MACHINE + 2].copy_from_slice(&Arch::Amd64.elf_machine().to_le_bytes());
    fs::write(desk.path("planted.iso"), bytes).unwrap();
    let output = desk.user.cks_iso(&["verify", "planted.iso"]).output().unwrap();
    let named = |line: &str| line.contains("elf-arch") && line.contains("k8s/kubelet");
    assert!(output.code == 65 && output.stdout.lines().any(named), "{output:?}");
}

#[test]
fn a_release_of_the_wrong_architecture_is_refused() {
    let world = World::new(false).unwrap();
    let desk = Desk::new(&world, &world.registry.url(), &["--arch", "arm64"]);
    let right = world.upstream.file(KUBELET).unwrap();
    let other = world.upstream.file(&KUBELET.replace("arm64", "amd64")).unwrap();
    // A mistake of upstream's, with a checksum that fits.
    world.upstream.put_with_digest(KUBELET, other.to_vec());
    let locked = desk.lock().output().unwrap();
    let output = if locked.code == 0 { desk.build().output().unwrap() } else { locked };
    assert!(output.code == 65 && told(&output, "ARCH_MISMATCH") && output.stderr.contains("kubelet"), "{output:?}");
    assert!(!desk.path("out.iso").exists());
    world.upstream.put_with_digest(KUBELET, right.to_vec());
    fs::remove_file(desk.path("cks-iso.lock")).ok();
    desk.iso();

    // An image that is there for another architecture only.
    publish_plain(&world);
    desk.want(PLAIN);
    let output = desk.lock().output().unwrap();
    assert!(output.code == 65 && told(&output, "REGISTRY_LACKS_IMAGE"), "{output:?}");
    assert!(output.stderr.contains(PLAIN) && output.stderr.contains("linux/amd64"), "{output:?}");
}
