//! `kill -9` at any moment, and again: what comes of it in the end is what an undisturbed run makes, and no
//! byte is fetched twice but what was under way.
//!
//! Apache's access log tells how many bytes of each range the kernel took from it. When a client dies, some
//! of them were never read, and some were read and not yet kept. So the network is bounded (`throttle`): of
//! each file in flight a kill may cost one chunk of the agent, what containerd has not written yet, what the HTTP client reads ahead and what two
//! socket buffers hold, [`ledger::LOST_BYTES`] together, and `ledger` refuses anything beyond. It also
//! refuses every byte of a file or blob that was whole on the node when the run began.
//!
//! `CKS_KILL_SEED=…` repeats the moments of an earlier run, as far as the machine's own clock allows;
//! `CKS_KILL_TIMES=5` kills five times as often (`just kill-many`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod crashes;
mod damage;
mod ledger;
mod many;
mod node;
mod power;
mod random;
mod sight;
mod world;

use std::time::Duration;

use bootstrap::bundle::Role;
use cks_tests::throttle;
use node::{Finished, Node};
use sight::Sight;
use world::World;

const KILLS: usize = 20;

/// Nodes on which a moment is looked for before it counts as one that never comes.
const TRIES: usize = 5;

/// The last of Debian's CNI plugins, in the order of the tarball and of the links.
const LAST_PLUGIN: &str = "vrf";

#[test]
fn a_worker_ends_whole() {
    let world = World::new(Role::Worker);
    throttle::slow(&world.vr.netns, world::SLOW).unwrap();
    let (whole, took) = undisturbed(&world);
    random::kills(&world, &whole, took / 4, KILLS);
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
    throttle::slow(&world.vr.netns, world::SLOW / 10).unwrap();
    let (whole, took) = undisturbed(&world);
    random::kills(&world, &whole, took / 4, KILLS);
    // Faster than it is unpacked: the agent's own buffers are full.
    throttle::full_speed(&world.vr.netns).unwrap();
    random::kills(&world, &whole, Duration::from_millis(300), KILLS);
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
    throttle::slow(&world.vr.netns, world::SLOW).unwrap();
    damage::gathering(&world, &whole);
    crashes::at_sight(&world, &whole);
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
    power::cuts(&world, &whole, random::parts().take(KILLS / 2));
}

/// What a node is when nothing happens to it, and how long that takes.
fn undisturbed(world: &World) -> (Finished, Duration) {
    let mut node = Node::new(world);
    let took = node.finish();
    println!("{world}: {} bytes in {:.1} s undisturbed", node.ledger.sent, took.as_secs_f64());
    assert_eq!(node.ledger.again(), 0);
    (node.finished(), took)
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
