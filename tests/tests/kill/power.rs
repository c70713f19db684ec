//! The power goes out: what was not on the disk is gone, of the node's files and of containerd's.

use std::time::{Duration, Instant};

use crate::node::{Finished, Node};
use crate::world::World;

/// Longer than a run at full speed takes, so that some cuts come when it is over.
const LONGEST: Duration = Duration::from_secs(2);

/// Cuts the power of a node time after time, `parts` of [`LONGEST`] after a run's start: the next run must
/// not take for whole what is not. What a run said is installed must outlive a cut right after it.
pub(crate) fn cuts(world: &World, whole: &Finished, parts: impl Iterator<Item = f64>) {
    let mut node = Node::on_disk(world);
    for part in parts {
        let (life, began) = (LONGEST.mul_f64(part), Instant::now());
        let killed = node.kill_when_anew(|_| began.elapsed() >= life);
        println!("power cut after {} ms: {}", life.as_millis(), node.phase());
        node.crash(|containerd| containerd.lose_power().unwrap(), |_| {});
        if !killed {
            assert_installed(&node, whole);
            node = Node::on_disk(world);
        }
    }
    node.finish_anew();
    node.crash(|containerd| containerd.lose_power().unwrap(), |_| {});
    assert_installed(&node, whole);
}

fn assert_installed(node: &Node<'_>, whole: &Finished) {
    node.finish_anew();
    assert!(node.said().contains("nothing to do"), "{}", node.said());
    node.finished().assert_same(whole);
}
