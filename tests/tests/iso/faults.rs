//! Web sites that fail: each failure has its code, leaves nothing behind, and costs no byte twice.

use std::fs;

use bootstrap::digest::Digest;
use cks_tests::disk::Disk;
use cks_tests::process::Command;
use cks_tests::throttle;
use cks_tests::tree::digest_of;
use cks_tests::upstream::Fault;
use cks_tests::web::Request;
use cks_tests::world::World;

use crate::{Desk, told};

const KUBELET: &str = "amd64/kubelet";
const ALWAYS: usize = usize::MAX;

/// Files and what is wrong with them, and how `cks-iso lock` ends.
const TABLE: [(&str, Fault, i32, &str); 10] = [
    (KUBELET, Fault::NotFoundPage, 65, "SOURCE_FILE_MISSING"),
    (KUBELET, Fault::Page, 65, "CONTENT_INVALID"),
    (KUBELET, Fault::Changed, 65, "DIGEST_MISMATCH"),
    (KUBELET, Fault::Busy, 75, "SOURCE_UNREACHABLE"),
    (KUBELET, Fault::Cut, 65, "SOURCE_TRUNCATED"),
    ("amd64/kubelet.sha256", Fault::NotFoundPage, 65, "SOURCE_FILE_MISSING"),
    ("SHA256SUMS", Fault::Page, 65, "CONTENT_INVALID"),
    ("constants.go", Fault::Page, 65, "CONTENT_INVALID"),
    ("calico.yaml", Fault::NotFoundPage, 65, "SOURCE_FILE_MISSING"),
    ("kubernetes-headlamp.yaml", Fault::Page, 65, "CONTENT_INVALID"),
];

/// As [`TABLE`], of a build with an empty cache.
const BUILD: [(&str, Fault, i32, &str); 6] = [
    (KUBELET, Fault::NotFoundPage, 65, "SOURCE_FILE_MISSING"),
    (KUBELET, Fault::Page, 65, "CONTENT_INVALID"),
    (KUBELET, Fault::Changed, 65, "DIGEST_MISMATCH"),
    (KUBELET, Fault::Cut, 65, "SOURCE_TRUNCATED"),
    ("calico.yaml", Fault::Changed, 65, "DIGEST_MISMATCH"),
    ("etcd-v3.5.24-linux-amd64.tar.gz", Fault::Busy, 75, "SOURCE_UNREACHABLE"),
];

/// No request brought a file that had been in the cache before.
fn nothing_twice(world: &World, before: &[String], requests: &[Request], what: &str) {
    for request in requests.iter().filter(|request| request.bytes > 0) {
        let Some(bytes) = world.upstream.file(&request.path) else { continue };
        // Texts are small and may change under their names: they are asked for again.
        if bytes.len() > 64 << 10 {
            assert!(!before.contains(&Digest::of(&bytes).hex()), "{what}: {request:?}");
        }
    }
}

/// Takes a file out of the cache, whole or not: downloads run side by side, and it may have come before
/// another one failed.
fn forget(world: &World, desk: &Desk, file: &str) {
    let of_this = |path: &&String| path.ends_with(file) && !path.contains("arm64");
    let path = world.upstream.paths().into_iter().find(|path| of_this(&path)).unwrap();
    let hex = Digest::of(&world.upstream.file(&path).unwrap()).hex();
    for name in [hex.clone(), format!(".{hex}.partial")] {
        fs::remove_file(desk.path("cache/sha256").join(name)).ok();
    }
}

/// Lets each fault happen to a command that leaves `files` beside the spec.
fn suffer(world: &World, desk: &Desk, command: &Command, table: &[(&str, Fault, i32, &str)], files: &[&str]) {
    for (file, fault, code, name) in table {
        let what = format!("{file}: {fault:?}");
        forget(world, desk, file);
        world.upstream.fail(file, ALWAYS, *fault);
        let before = desk.cached().0;
        let output = command.output().unwrap();
        assert!(output.code == *code && told(&output, name), "{what}: {output:?}");
        assert!(output.stderr.contains(file.trim_start_matches("amd64/")), "{what}: {output:?}");
        assert!(!output.stderr.contains("<html>"), "{what}: {output:?}");
        assert_eq!(desk.files(), files, "{what}");
        nothing_twice(world, &before, &world.upstream.take_requests(), &what);
        world.upstream.heal();
    }
}

#[test]
fn each_fault_of_a_site_has_its_code_and_costs_nothing_twice() {
    let world = World::new(false).unwrap();
    throttle::small_sockets(&world.netns).unwrap();
    let desk = Desk::new(&world, &world.registry.url(), &[]);
    suffer(&world, &desk, &desk.lock(), &TABLE, &["config.toml", "spec.toml"]);
    // Twice in the middle of the file: resumed there.
    let kubelet = world.upstream.file("dl.k8s.io/release/v1.33.1/bin/linux/amd64/kubelet").unwrap();
    forget(&world, &desk, KUBELET);
    world.upstream.fail(KUBELET, 1, Fault::Truncated);
    world.upstream.fail(KUBELET, 1, Fault::Reset);
    let before = desk.cached().0;
    desk.iso();
    let requests = world.upstream.take_requests();
    nothing_twice(&world, &before, &requests, "the last run");
    let asked: Vec<_> = requests.iter().filter(|request| request.path.ends_with(KUBELET)).collect();
    let sent = asked.iter().map(|request| request.bytes).sum::<u64>();
    let whole = kubelet.len() as u64;
    // What was on the way when a connection broke is lost.
    assert!(asked.len() == 3 && sent <= whole + 2 * throttle::SOCKET_BYTES, "{sent} of {whole}: {asked:?}");
    assert_eq!(desk.cached().1, 0, "no rest of a download");

    // The same lock, another machine: what came to the first vouches for nothing.
    let other = Desk::new(&world, &world.registry.url(), &[]);
    other.user.put("cks-iso.lock", &fs::read_to_string(desk.path("cks-iso.lock")).unwrap()).unwrap();
    suffer(&world, &other, &other.build(), &BUILD, &["cks-iso.lock", "config.toml", "spec.toml"]);
    other.build().ok().unwrap();
    assert_eq!(digest_of(&other.path("out.iso")).unwrap(), digest_of(&desk.path("out.iso")).unwrap());
}

#[test]
fn a_full_disk_ends_it_and_room_lets_it_go_on() {
    let world = World::new(false).unwrap();
    // Large enough for some of the cache.
    let disk = Disk::new(4).unwrap();
    let mut desk = Desk::new(&world, &world.registry.url(), &[]);
    desk.user = desk.user.seeing(&disk).unwrap();
    let place = disk.path.to_string_lossy().into_owned();
    let cache = ["--config", "config.toml", "--cache", &place];
    let lock = [&["lock", "spec.toml"], &cache[..]].concat();
    let build = [&["build", "spec.toml", "--locked", "-o", "out.iso"], &cache[..]].concat();
    let mut output = desk.user.cks_iso(&lock).output().unwrap();
    if output.code == 0 {
        output = desk.user.cks_iso(&build).output().unwrap();
    }
    assert!(output.code == 78 && told(&output, "NO_SPACE"), "{output:?}");
    assert!(!desk.files().iter().any(|file| file.contains("out.iso")), "{:?}", desk.files());

    // An ISO for which there is no room: neither it nor a part of it stays.
    desk.lock().ok().unwrap();
    let iso = disk.path.join("out.iso").to_string_lossy().into_owned();
    Command::new("find").arg(disk.here()).args(["-type", "f", "-delete"]).ok().unwrap();
    let args = ["build", "spec.toml", "--locked", "-o", &iso, "--config", "config.toml", "--cache", "cache"];
    let output = desk.user.cks_iso(&args).output().unwrap();
    assert!(output.code == 78 && told(&output, "NO_SPACE"), "{output:?}");
    assert_eq!(desk.user.files(&disk.here()).unwrap(), []);
    desk.build().ok().unwrap();
}
