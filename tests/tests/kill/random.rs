//! Kills at random moments.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cks_tests::images;

use crate::ledger::{LOST_BYTES, Ledger};
use crate::node::{Finished, Node};
use crate::world::World;

/// Kills run after run of a node, each some random time of `longest` at most after its start. That is
/// less than a whole run takes, so the moments go through all of it. A node that is finished is looked at,
/// and the next begun. `kills` are done, or more where that is asked for.
pub(crate) fn kills(world: &World, whole: &Finished, longest: Duration, kills: usize) {
    let kills = kills * times();
    let mut node = Node::new(world);
    let (mut killed, mut nodes) = (0, 1);
    let (mut sent, mut again, mut worst) = (0, 0, 0);
    let mut count = |ledger: &Ledger| {
        (sent, again) = (sent + ledger.sent, again + ledger.again());
        worst = worst.max(ledger.worst);
    };
    for part in parts() {
        let life = longest.mul_f64(part);
        let mut began = None;
        if node.kill_when(|_| began.get_or_insert_with(Instant::now).elapsed() >= life) {
            killed += 1;
            let (ms, ledger, phase) = (life.as_millis(), &node.ledger, node.phase());
            let (sent, again) = (ledger.sent, ledger.again());
            println!("{world}: kill {killed} after {ms} ms: {sent} bytes, {again} again, {phase}");
        } else {
            node.finished().assert_same(whole);
            count(&node.ledger);
            node = Node::new(world);
            nodes += 1;
        }
        if killed == kills {
            break;
        }
    }
    node.finish();
    node.finished().assert_same(whole);
    count(&node.ledger);
    let bytes = world.bytes();
    let of_all = 100.0 * again as f64 / killed as f64 / bytes as f64;
    let each = again / killed as u64;
    println!(
        "{world}: {killed} kills on {nodes} nodes of {bytes} bytes each: {sent} bytes sent, {again} of them again"
    );
    println!(
        "{world}: a kill costs {each} bytes, {of_all:.2} % of a node's; of one file {worst}, {LOST_BYTES} at most"
    );
}

/// Numbers between 0 and 1, without end, the same for the same seed.
pub(crate) fn parts() -> impl Iterator<Item = f64> {
    let seed = seed();
    println!("CKS_KILL_SEED={seed}");
    let blocks = (seed..).map(|seed| images::noise(64 * 4, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let numbers = blocks.flat_map(|block| {
        let numbers = block.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
        numbers.collect::<Vec<_>>()
    });
    numbers.map(|number| f64::from(number) / f64::from(u32::MAX))
}

fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    variable("CKS_KILL_SEED").unwrap_or_else(now)
}

fn times() -> usize {
    variable("CKS_KILL_TIMES").map_or(1, |times| usize::try_from(times).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the one place of this test that reads the environment")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}
