//! containerd itself is killed.

use std::time::{Duration, Instant};

use crate::node::{Finished, Node};
use crate::random;
use crate::sight::Sight;
use crate::world::World;

/// containerd is killed under a run: the run tells it, and the next makes a whole node of what there is.
pub(crate) fn at_sight(world: &World, whole: &Finished) {
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

/// containerd is killed `moments` times, each some random time of `longest` at most after a run's start, and started
/// again at once: the run goes on, or tells it and the next one does.
pub(crate) fn at_random(world: &World, whole: &Finished, longest: Duration, moments: usize) {
    for part in random::parts().take(moments) {
        let (mut node, life) = (Node::new(world), longest.mul_f64(part));
        let (began, mut run) = (Instant::now(), node.start());
        while began.elapsed() < life && run.ended().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(50));
        }
        node.crash(|containerd| containerd.kill().unwrap(), |_| {});
        let (code, said) = (run.wait().unwrap(), node.said());
        println!("{world}: containerd killed after {} ms, exit code {code}: {}", life.as_millis(), node.phase());
        // The run enters the machine by containerd's process, and at a very early moment finds none.
        let not_begun = code == 1 && said.starts_with("nsenter: ");
        let told = code == 75 && said.contains("error[CONTAINERD_UNAVAILABLE]");
        assert!(code == 0 || told || not_begun, "exit code {code}: {said}");
        node.forget_requests();
        node.finish();
        node.finished().assert_same(whole);
    }
}
