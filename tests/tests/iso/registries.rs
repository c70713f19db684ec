//! Registries that fail, behind a wire that breaks.

use std::fs;

use bootstrap::bundle::Arch;
use cks_tests::netns::ADDRESS;
use cks_tests::relay::Relay;
use cks_tests::throttle;
use cks_tests::upstream::Upstream;
use cks_tests::web::Break;
use cks_tests::world::{LARGE, World};

use crate::{Desk, told};

/// What comes with a layer: TLS, headers, manifests.
const OVERHEAD: u64 = 600 << 10;

fn behind_a_wire(world: &World) -> (Relay, Desk) {
    let relay = Relay::start(&world.netns, &format!("{ADDRESS}:5001"), &format!("{ADDRESS}:5000")).unwrap();
    let desk = Desk::new(world, &format!("https://{ADDRESS}:5001"), &[]);
    (relay, desk)
}

#[test]
fn a_wire_that_breaks_and_tokens_that_expire_cost_little() {
    let world = World::new(true).unwrap();
    let (relay, desk) = behind_a_wire(&world);
    throttle::small_sockets(&world.netns).unwrap();
    world.registry.tokens.as_ref().unwrap().expire(2);
    relay.cut(&[Break::Reset(1 << 20), Break::Close(1 << 20), Break::Reset(200_000)]);
    desk.iso();
    assert_eq!(relay.cuts_left(), 0, "all of them happened");
    let (_, rests) = desk.cached();
    assert_eq!(rests, 0, "no rest of a download");
    let images = world.layout.images().values();
    let blobs: std::collections::BTreeSet<_> = images.flat_map(|image| image.blobs[&Arch::Amd64].clone()).collect();
    let size = |digest| fs::metadata(world.registry.blob(digest)).unwrap().len();
    let whole: u64 = blobs.iter().map(size).sum();
    // What was on the way when the wire broke is lost, up to a connection's buffers.
    let most = whole + 3 * throttle::SOCKET_BYTES + OVERHEAD;
    assert!((whole..most).contains(&relay.brought()), "{} of {whole}", relay.brought());
    desk.user.cks_iso(&["verify", "out.iso"]).ok().unwrap();
}

#[test]
fn each_fault_of_a_registry_has_its_code() {
    let mut world = World::new(true).unwrap();
    let (_relay, desk) = behind_a_wire(&world);
    let fails = |desk: &Desk, code: i32, name: &str, what: &str| {
        let locked = desk.lock().output().unwrap();
        let output = if locked.code == 0 { desk.build().output().unwrap() } else { locked };
        assert!(output.code == code && told(&output, name), "{what}: {output:?}");
        assert!(!desk.path("out.iso").exists(), "{what}");
        output
    };
    world.registry.tokens.as_ref().unwrap().expire(usize::MAX);
    let output = fails(&desk, 78, "REGISTRY_DENIED", "no token is ever good");
    assert!(!output.stderr.contains("eyJ"), "no token is told: {output:?}");
    world.registry.tokens.as_ref().unwrap().expire(0);

    // A layer that is another one, one that ends early, and one that is gone.
    let layer = world.layout.images()[LARGE].blobs[&Arch::Amd64][3];
    let (file, bytes) = (world.registry.blob(&layer), fs::read(world.registry.blob(&layer)).unwrap());
    let mut other = bytes.clone();
    other[1000] ^= 1;
    fs::write(&file, &other).unwrap();
    let output = fails(&desk, 65, "DIGEST_MISMATCH", "a changed layer");
    assert!(output.stderr.contains(LARGE), "{output:?}");
    fs::write(&file, &bytes[..1000]).unwrap();
    fails(&desk, 65, "SOURCE_TRUNCATED", "a short layer");
    fs::rename(&file, file.with_extension("gone")).unwrap();
    fails(&desk, 65, "REGISTRY_LACKS_IMAGE", "a lost layer");
    fs::write(&file, &bytes).unwrap();

    world.registry.stop().unwrap();
    fs::remove_file(desk.path("cks-iso.lock")).ok();
    fails(&desk, 75, "SOURCE_UNREACHABLE", "nobody is there");
    world.registry.start_again().unwrap();

    // What there never was, and what is no registry at all.
    let spec = fs::read_to_string(desk.path("spec.toml")).unwrap();
    desk.want("registry.k8s.io/no-such:1");
    fails(&desk, 65, "REGISTRY_LACKS_IMAGE", "an image that is not there");
    desk.user.put("spec.toml", &spec).unwrap();
    let config = fs::read_to_string(desk.path("config.toml")).unwrap();
    let portal = world.config(&Upstream::mirror("portal")).replace("fallback = false\nca", "fallback = false\n# ca");
    desk.user.put("config.toml", &portal).unwrap();
    for image in world.layout.images().values() {
        let (name, tag) = image.reference.split_once(':').unwrap();
        world
            .upstream
            .put(&format!("v2/portal/{name}/manifests/{}", image.index), "<!DOCTYPE html><html>Log in</html>");
        world.upstream.put(&format!("v2/portal/{name}/manifests/{tag}"), "<!DOCTYPE html><html>Log in</html>");
    }
    fs::remove_file(desk.path("cks-iso.lock")).ok();
    let output = desk.lock().output().unwrap();
    assert!(output.code == 65 && !desk.path("cks-iso.lock").exists(), "{output:?}");
    assert!(told(&output, "CONTENT_INVALID") || told(&output, "IMAGE_INVALID"), "{output:?}");
    desk.user.put("config.toml", &config).unwrap();
    desk.iso();
}

#[test]
fn a_slow_registry_is_waited_for() {
    let world = World::new(false).unwrap();
    let desk = Desk::new(&world, &world.registry.url(), &[]);
    // Longer than the patience with silence in all, never silent.
    throttle::slow(&world.netns, 1).unwrap();
    desk.iso();
}
