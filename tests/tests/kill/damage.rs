//! What a crash of the machine leaves: torn lines, tails of zeros or of something else, files without end.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Role;
use cks_tests::images;

use crate::node::{Finished, Node};
use crate::sight::{Sight, ingests, partials};
use crate::world::World;

const JOURNAL: &str = "/var/lib/cks-agent/journal.jsonl";

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// It ends in the middle.
    Cut,
    /// Zeros behind it.
    Zeros,
    /// Something else behind it, without the end of a line.
    Noise,
    /// Its last part is zeros.
    ZeroTail,
    /// It is longer than anything can be.
    Overlong,
    /// Nothing is left of its content.
    Empty,
    /// It is gone.
    Gone,
}

impl Damage {
    fn hit(self, path: &Path) {
        let bytes = fs::read(path).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        let size = bytes.len() as u64;
        let tail = (bytes.len() / 2).min(100_000);
        match self {
            Self::Cut => file.set_len(size / 2).unwrap(),
            Self::Zeros => file.set_len(size + 100_000).unwrap(),
            Self::Noise => file.write_all_at(&images::noise(100_000, 99), size).unwrap(),
            Self::ZeroTail => file.write_all_at(&vec![0; tail], size - tail as u64).unwrap(),
            Self::Overlong => file.set_len(1 << 30).unwrap(),
            Self::Empty => file.set_len(0).unwrap(),
            Self::Gone => fs::remove_file(path).unwrap(),
        }
    }
}

/// A journal that is torn, or gone, costs hashing but no byte.
pub(crate) fn journal(world: &World, whole: &Finished) {
    let kinds = [Damage::Cut, Damage::Zeros, Damage::Noise, Damage::ZeroTail, Damage::Empty, Damage::Gone];
    let mut node = Node::new(world);
    assert!(node.kill_when(|node| Sight::Journal("\"record\":\"file\"").is_there(node)));
    for damage in kinds {
        // The ledger refuses a byte of anything that was there.
        damage.hit(&node.path(JOURNAL));
        node.finish();
        node.finished().assert_same(whole);
        let sent = node.ledger.sent;
        node.finish();
        assert!(node.said().contains("nothing to do"), "{damage:?}: {}", node.said());
        assert_eq!(node.ledger.sent, sent, "{damage:?}");
    }
}

/// An installed file that is damaged is made anew, and so is one that has lost its mode.
pub(crate) fn files(world: &World, whole: &Finished) {
    let mut node = Node::new(world);
    node.finish();
    let installed = match world.role {
        Role::Etcd => ["bin/etcd", "bin/etcdctl", "cks-bundle.json"],
        _ => ["bin/kubeadm", "cni/bridge", "systemd/kubelet.service"],
    };
    for damage in [Damage::Cut, Damage::Zeros, Damage::ZeroTail, Damage::Empty, Damage::Gone] {
        for name in installed {
            damage.hit(&node.path(&format!("{}/{name}", world.directory)));
        }
        node.finish_anew();
        node.finished().assert_same(whole);
    }
}

/// Bytes that gather, on the node and in containerd, and are damaged: found, and fetched again. Goes on until
/// every kind of damage was done to both. (A file that is cut is a file that has not come further.)
pub(crate) fn gathering(world: &World, whole: &Finished) {
    let kinds = [Damage::Zeros, Damage::Noise, Damage::ZeroTail, Damage::Overlong];
    let hit = |done: &mut usize, paths: Vec<PathBuf>| {
        for path in paths {
            kinds[*done % kinds.len()].hit(&path);
            *done += 1;
        }
    };
    let (mut of_partials, mut of_ingests) = (0, 0);
    while of_partials.min(of_ingests) < kinds.len() {
        let mut node = Node::new(world);
        assert!(node.kill_when(|node| Sight::Partial(2 << 20).is_there(node)));
        hit(&mut of_partials, partials(&node));
        assert!(node.kill_when_anew(|node| Sight::Ingest(2 << 20).is_there(node)));
        node.crash(
            |containerd| containerd.kill().unwrap(),
            |node| {
                hit(&mut of_partials, partials(node));
                hit(&mut of_ingests, ingests(node));
            },
        );
        node.finish_anew();
        node.finished().assert_same(whole);
    }
}
