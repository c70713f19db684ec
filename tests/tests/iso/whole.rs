//! From a version to a proven ISO, and the same bytes again without any network.

use std::collections::BTreeSet;
use std::fs;

use bootstrap::bundle::{Arch, Manifest};
use cks_tests::bare::Bare;
use cks_tests::process::Command;
use cks_tests::registry::Request;
use cks_tests::tree::digest_of;
use cks_tests::web;
use cks_tests::world::{FLOW, PROXY, World};

use crate::{Desk, extract, references};

#[test]
fn a_user_without_rights_builds_what_verifies_and_again_offline() {
    let world = World::new(true).unwrap();
    let desk = Desk::new(&world, &world.registry.url(), &[]);
    let tokens_before = world.registry.tokens.as_ref().unwrap().requests().len();
    let before = (world.registry.requests().unwrap().len(), tokens_before);
    desk.lock().ok().unwrap();
    let (locking, locked) = (world.upstream.take_requests(), world.registry.requests().unwrap().len());
    desk.build().ok().unwrap();
    let verified = desk.user.cks_iso(&["verify", "out.iso"]).output().unwrap();
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(desk.user.files(&desk.user.home()).unwrap(), [], "nothing in the home");
    for file in desk.files() {
        let own = file == "spec.toml" || file == "cks-iso.lock" || file == "config.toml";
        assert!(own || file.starts_with("out.iso"), "{file}");
    }
    let tokens = world.registry.tokens.as_ref().unwrap().requests().split_off(before.1);
    // Nobody has a password here; one token serves a repository, once for the lock and once for the build.
    assert!(tokens.iter().all(|request| request.authorization.is_none()), "{tokens:?}");
    assert!(tokens.len() <= 2 * world.layout.images().len(), "{}", tokens.len());
    let requests = world.registry.requests().unwrap();
    sites_gave_what_was_needed(&world, &locking);
    registry_gave_what_was_needed(&world, &requests[before.0..locked], &requests[locked..]);
    everything_is_on_it(&world, &desk);
    the_same_without_network(&world, &desk);
}

/// Each file once, with its checksum, and nothing else; nothing of the other architecture. What came when the
/// lock was made is not asked for again.
fn sites_gave_what_was_needed(world: &World, locking: &[web::Request]) {
    let asked = |path: &str| locking.iter().filter(|request| request.method == "GET" && request.path == path).count();
    let wanted: BTreeSet<String> = world.upstream.paths().into_iter().filter(|path| !path.contains("arm64")).collect();
    assert_eq!(locking.iter().map(|request| request.path.clone()).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(wanted.iter().filter(|path| asked(path) != 1).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(world.upstream.requests(), [], "the build asks no web site");
}

/// Each blob of the one architecture once, and the build names digests: what tags mean by now is nothing to it.
fn registry_gave_what_was_needed(world: &World, locking: &[Request], building: &[Request]) {
    let all = || locking.iter().chain(building);
    assert!(all().all(|request| matches!(request.method.as_str(), "GET" | "HEAD")));
    let tags = |request: &&Request| request.path.contains("/manifests/") && !request.path.contains("sha256:");
    assert_eq!(building.iter().find(tags), None);
    let pulled = |path: &str| all().filter(|request| request.status == 200 && request.path.ends_with(path)).count();
    for image in world.layout.images().values() {
        for (arch, blobs) in &image.blobs {
            let times = if *arch == Arch::Amd64 { 1 } else { 0 };
            for digest in &blobs[1..] {
                assert_eq!(pulled(&format!("/blobs/{digest}")), times, "{arch} {digest} of {}", image.reference);
            }
        }
    }
}

/// Every image under the names that nodes look it up by, both dashboards, no forced pull.
fn everything_is_on_it(world: &World, desk: &Desk) {
    let disc = desk.user.place.with_file_name("disc");
    extract(&desk.path("out.iso"), &disc);
    let manifest = Manifest::parse(&fs::read(disc.join("cks-bundle.json")).unwrap()).unwrap();
    assert_eq!(manifest.images.iter().map(|image| image.reference.clone()).collect::<Vec<_>>(), references(world));
    for name in ["network.yaml", "dashboard.yaml", "headlamp.yaml", "manifest.yaml", "snapshot-crds.yaml"] {
        let text = fs::read_to_string(disc.join(name)).unwrap();
        assert!(!text.contains("Always"), "{name}: {text}");
        // What these releases got wrong.
        assert!(!text.contains("k8s.io---") && !text.contains(":latest"), "{name}: {text}");
    }
    let layers: BTreeSet<_> = manifest.images.iter().flat_map(|image| &image.layers).collect();
    let expected = world.layout.images().values().flat_map(|image| &image.blobs[&Arch::Amd64][2..]);
    assert_eq!(layers, expected.collect(), "upstream's layers");
    let index = world.digest_of(PROXY).unwrap();
    assert!(manifest.images.iter().any(|image| image.reference.ends_with(&format!("@{index}"))));
    assert!(!manifest.images.iter().any(|image| image.reference == FLOW), "a tag that nobody names");
}

/// In another directory, on another day.
fn the_same_without_network(world: &World, desk: &Desk) {
    let alone = Bare::new(None).unwrap();
    for name in ["spec.toml", "cks-iso.lock", "cache"] {
        Command::new("cp")
            .args(["-r", "--no-preserve=timestamps"])
            .arg(desk.path(name))
            .arg(&alone.place)
            .ok()
            .unwrap();
    }
    Command::new("chown").args(["-R", "1000:1000"]).arg(&alone.place).ok().unwrap();
    let args = ["build", "spec.toml", "--locked", "--offline", "-o", "again.iso", "--cache", "cache"];
    alone.cks_iso_at("2031-05-06 07:08:09", &args).ok().unwrap();
    assert_eq!(digest_of(&alone.place.join("again.iso")).unwrap(), digest_of(&desk.path("out.iso")).unwrap());

    // Without a blob it tells which one, and makes no ISO.
    let lost = world.layout.images()[PROXY].blobs[&Arch::Amd64][3];
    fs::remove_file(alone.place.join("cache/sha256").join(lost.hex())).unwrap();
    fs::remove_file(alone.place.join("again.iso")).unwrap();
    let output = alone.cks_iso(&args).output().unwrap();
    assert!(
        output.code == 78 && output.stderr.contains("NOT_CACHED") && output.stderr.contains(&lost.hex()),
        "{output:?}"
    );
    assert!(!alone.place.join("again.iso").exists());
}

#[test]
fn two_at_once_share_a_cache_and_no_byte_comes_twice() {
    let world = World::new(false).unwrap();
    let desk = Desk::new(&world, &world.registry.url(), &[]);
    desk.lock().ok().unwrap();
    fs::rename(desk.path("cache"), desk.path("other")).unwrap();
    let (filled, _) = (world.registry.requests().unwrap().len(), world.upstream.take_requests());
    let logs = ["one", "two"].map(|name| desk.user.place.with_file_name(format!("{name}.log")));
    let mut builds = [("one.iso", &logs[0]), ("two.iso", &logs[1])].map(|(iso, log)| {
        let args = ["build", "spec.toml", "--locked", "-o", iso, "--config", "config.toml", "--cache", "cache"];
        desk.user.cks_iso(&args).start(log).unwrap()
    });
    for (build, log) in builds.iter_mut().zip(&logs) {
        assert_eq!(build.wait().unwrap(), 0, "{}", fs::read_to_string(log).unwrap());
    }
    assert_eq!(digest_of(&desk.path("one.iso")).unwrap(), digest_of(&desk.path("two.iso")).unwrap());
    let files = world.upstream.requests().into_iter().map(|request| request.path);
    let blobs = world.registry.requests().unwrap().split_off(filled).into_iter().map(|request| request.path);
    let mut brought: Vec<String> = files.chain(blobs.filter(|path| path.contains("/blobs/"))).collect();
    let all = brought.len();
    brought.sort();
    brought.dedup();
    assert_eq!(brought.len(), all, "{brought:#?}");
}
