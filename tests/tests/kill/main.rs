//! `kill -9` at any moment, and again: what comes of it in the end is what an undisturbed run makes, and no
//! byte is fetched twice but what was under way.
//!
//! Apache's access log tells how many bytes of each range the kernel took from it. When a client dies, some
//! of them were never read, and some were read and not yet kept. So the network is bounded (`throttle`): of
//! each file in flight a kill may cost one chunk of the agent, what containerd has not written yet, what the HTTP client reads ahead and what two
//! socket buffers hold, [`ledger::LOST_BYTES`] together, and `ledger` refuses anything beyond. It also
//! refuses every byte of a file or blob that was whole on the node when the run began.
//!
//! `CKS_KILL_SEED=…` repeats the moments of an earlier run, as far as the machine's own clock allows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod damage;
mod ledger;
mod node;
mod power;
mod sight;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bootstrap::bundle::Role;
use cks_tests::{images, throttle};
use node::{Finished, Node, World};
use sight::Sight;

const KILLS: usize = 20;

/// Nodes on which a moment is looked for before it counts as one that never comes.
const TRIES: usize = 5;

/// The last of Debian's CNI plugins, in the order of the tarball and of the links.
const LAST_PLUGIN: &str = "vrf";

#[test]
fn a_worker_ends_whole() {
    let world = World::new(Role::Worker);
    throttle::slow(&world.vr.netns, node::SLOW).unwrap();
    let (whole, took) = undisturbed(&world);
    kill_at_random(&world, &whole, took / 4);
    throttle::full_speed(&world.vr.netns).unwrap();
    let directory = &world.directory;
    let sights = [
        Sight::Partial(1),
        Sight::Path(format!("{directory}/bin/kubelet")),
        Sight::Staged,
        Sight::Path(format!("{directory}/cni/bandwidth")),
        Sight::Path(format!("{directory}/cni/{LAST_PLUGIN}")),
        Sight::Ingest(1),
        Sight::Blob,
        Sight::Snapshot,
        Sight::Image("registry.k8s.io/pause:3.10".to_owned()),
        Sight::Path(format!("{directory}/.cks-bundle.json.cks-new")),
        Sight::Path(format!("{directory}/cks-bundle.json")),
        Sight::Path("/etc/modules-load.d/cks.conf".to_owned()),
        Sight::Path("/etc/systemd/system/kubelet.service".to_owned()),
        Sight::Path("/opt/bin/kubelet".to_owned()),
        Sight::Path(format!("/opt/cni/bin/{LAST_PLUGIN}")),
        Sight::Path("/opt/cks/current".to_owned()),
        Sight::Path("/etc/systemd/system/multi-user.target.wants/kubelet.service".to_owned()),
        Sight::Image("example.org/one:1".to_owned()),
        Sight::Journal("\"record\":\"run\""),
    ];
    kill_at_sight(&world, &whole, &sights);
}

#[test]
fn an_etcd_node_ends_whole() {
    let world = World::new(Role::Etcd);
    throttle::slow(&world.vr.netns, node::SLOW / 10).unwrap();
    let (whole, took) = undisturbed(&world);
    kill_at_random(&world, &whole, took / 4);
    // Faster than it is unpacked: the agent's own buffers are full.
    throttle::full_speed(&world.vr.netns).unwrap();
    kill_at_random(&world, &whole, Duration::from_millis(300));
    let directory = &world.directory;
    let sights = [
        Sight::Partial(1),
        Sight::Staged,
        Sight::Path(format!("{directory}/bin/etcd")),
        Sight::Path(format!("{directory}/bin/etcdctl")),
        Sight::Path(format!("{directory}/.cks-bundle.json.cks-new")),
        Sight::Path(format!("{directory}/cks-bundle.json")),
        Sight::Path("/etc/systemd/system/etcd.service".to_owned()),
        Sight::Path("/opt/bin/etcdctl".to_owned()),
        Sight::Path("/opt/cks/current".to_owned()),
        Sight::Path("/etc/systemd/system/multi-user.target.wants/etcd.service".to_owned()),
        Sight::Journal("\"record\":\"run\""),
    ];
    kill_at_sight(&world, &whole, &sights);
    damage::journal(&world, &whole);
    damage::files(&world, &whole);
}

#[test]
fn what_a_crash_damages_is_made_good() {
    let world = World::new(Role::Worker);
    let (whole, _) = undisturbed(&world);
    damage::journal(&world, &whole);
    damage::files(&world, &whole);
    throttle::slow(&world.vr.netns, node::SLOW).unwrap();
    damage::gathering(&world, &whole);
    containerd_dies(&world, &whole);
}

#[test]
fn a_node_of_a_stock_iso_ends_whole() {
    let world = World::new(Role::Worker).into_stock();
    let (whole, _) = undisturbed(&world);
    let directory = &world.directory;
    let sights = [
        Sight::Staged,
        Sight::Path(format!("{directory}/cni/{LAST_PLUGIN}")),
        Sight::Journal("\"record\":\"learned\""),
        Sight::Path(format!("{directory}/listing.txt")),
        Sight::Path("/opt/bin/crictl".to_owned()),
        Sight::Path("/opt/cks/current".to_owned()),
        Sight::Image("example.org/one:1".to_owned()),
    ];
    kill_at_sight(&world, &whole, &sights);
}

#[test]
fn a_power_cut_leaves_nothing_that_is_taken_for_whole() {
    let world = World::new(Role::Worker);
    let (whole, _) = undisturbed(&world);
    power::cuts(&world, &whole, parts(seed()).take(KILLS / 2));
}

/// What a node is when nothing happens to it, and how long that takes.
fn undisturbed(world: &World) -> (Finished, Duration) {
    let mut node = Node::new(world);
    let took = node.finish();
    println!("{}: {} bytes in {:.1} s undisturbed", world.role, node.ledger.sent, took.as_secs_f64());
    assert_eq!(node.ledger.again(), 0);
    (node.finished(), took)
}

/// Kills run after run of a node, each some random time of `longest` at most after its start. That is far
/// less than a whole run takes, so the moments go through all of it. A node that is finished is looked at,
/// and the next begun.
fn kill_at_random(world: &World, whole: &Finished, longest: Duration) {
    let seed = seed();
    println!("{}: CKS_KILL_SEED={seed}", world.role);
    let mut node = Node::new(world);
    let (mut killed, mut nodes) = (0, 1);
    for part in parts(seed) {
        let life = longest.mul_f64(part);
        let mut began = None;
        if node.kill_when(|_| began.get_or_insert_with(Instant::now).elapsed() >= life) {
            killed += 1;
            let (ms, ledger, phase) = (life.as_millis(), &node.ledger, node.phase());
            println!("kill {killed} after {ms} ms: {} bytes, {} again, {phase}", ledger.sent, ledger.again());
        } else {
            node.finished().assert_same(whole);
            node = Node::new(world);
            nodes += 1;
        }
        if killed == KILLS {
            break;
        }
    }
    node.finish();
    node.finished().assert_same(whole);
    println!("{}: {killed} kills on {nodes} nodes", world.role);
}

/// Kills one run at each sight, in this order on one node; what was missed, on the next.
fn kill_at_sight(world: &World, whole: &Finished, sights: &[Sight]) {
    let mut left: Vec<&Sight> = sights.iter().collect();
    for _ in 0..TRIES {
        let mut node = Node::new(world);
        left.retain(|sight| sight.is_there(&node) || !node.kill_when(|node| sight.is_there(node)));
        node.finish();
        node.finished().assert_same(whole);
        if left.is_empty() {
            return;
        }
    }
    panic!("never seen: {left:?}");
}

/// containerd is killed under a run: the run tells it, and the next makes a whole node of what there is.
fn containerd_dies(world: &World, whole: &Finished) {
    for sight in [Sight::Ingest(2 << 20), Sight::Snapshot] {
        let mut node = Node::new(world);
        let mut run = node.start();
        while !sight.is_there(&node) {
            assert_eq!(run.ended().unwrap(), None, "{sight:?} was never seen: {}", node.said());
        }
        node.crash(
            |containerd| containerd.kill().unwrap(),
            |node| {
                let (code, said) = (run.wait().unwrap(), node.said());
                assert!(code == 75 && said.contains("error[CONTAINERD_UNAVAILABLE]"), "exit code {code}: {said}");
            },
        );
        node.forget_requests();
        node.finish();
        node.finished().assert_same(whole);
    }
}

/// Numbers between 0 and 1, without end, the same for the same seed.
fn parts(seed: u64) -> impl Iterator<Item = f64> {
    let blocks = (seed..).map(|seed| images::noise(64 * 4, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let numbers = blocks.flat_map(|block| {
        let numbers = block.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
        numbers.collect::<Vec<_>>()
    });
    numbers.map(|number| f64::from(number) / f64::from(u32::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the one place of this test that reads the environment")]
fn seed() -> u64 {
    match std::env::var("CKS_KILL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    }
}
