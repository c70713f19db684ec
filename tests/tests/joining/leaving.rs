//! A worker leaves and comes back, again and again, and the machine is each time as it was.

use std::collections::BTreeSet;
use std::time::Duration;

use cks_tests::kubernetes::{Machine, bootstrap};

use crate::{LIMIT, alone, machines};

/// What a cluster leaves traces in.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    addresses: BTreeSet<String>,
    rules: BTreeSet<String>,
    mounts: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Traces {
    fn of(machine: &Machine) -> Self {
        let lines =
            |script: &str| machine.sh(&format!("set +e; {script}")).unwrap().lines().map(str::to_owned).collect();
        Self {
            addresses: lines("ip -o address | sed 's/ valid_lft.*//; s/ tentative//; s/^[0-9]*: //'"),
            // Chains of the kernel's own have counters, and come with the first look.
            rules: lines(
                "for save in iptables-save ip6tables-save; do $save | grep -E '^(-A|:[A-Z]+-)' | sed 's/ *\\[[0-9:]*\\]//'; done; \
                 nft list tables | grep -v -E '(filter|nat|mangle|raw)$'; true",
            ),
            mounts: lines("cut -d' ' -f5 /proc/self/mountinfo | grep -v '^/run/user'"),
            // Images and the agent's own records are compared by their own tests.
            files: lines(
                "find /var/lib /etc/kubernetes /etc/cni /run/netns -not -path '/var/lib/containerd/*' \
                 -not -path '/var/lib/cks-agent*' 2>/dev/null; true",
            ),
        }
    }
}

/// The traces of a machine that is up, once its containerd is: that makes `/etc/cni/net.d` when it starts.
fn bare(machine: &Machine) -> Traces {
    let up = "for try in $(seq 300); do ctr version >/dev/null 2>&1 && exit; sleep 0.1; done; ctr version";
    machine.sh(up).unwrap();
    Traces::of(machine)
}

fn left(machine: &Machine) -> Traces {
    // Nothing on the bed's machines makes cloud-init run again, as the management server does.
    let arguments = ["cks-agent", "leave", "--drain-timeout", "30s", "--rejoin", "--verbose"];
    let left = machine.command(arguments).unwrap().limit(LIMIT).output().unwrap();
    assert_eq!(left.code, 0, "{}{}", left.stdout, left.stderr);
    Traces::of(machine)
}

/// How often the worker comes back; `CKS_LEAVES` says otherwise.
#[expect(clippy::disallowed_methods, reason = "a person asks for more")]
fn leaves() -> usize {
    std::env::var("CKS_LEAVES").ok().and_then(|times| times.parse().ok()).unwrap_or(2)
}

#[test]
fn a_worker_leaves_and_comes_back_as_often_as_one_likes() {
    let _alone = alone();
    let cluster = machines(2);
    let worker = &cluster.workers[0];
    let bare = bare(worker);
    cluster.by_agent().unwrap();
    let first = left(worker);
    assert_eq!(first.addresses, bare.addresses);
    assert_eq!(first.rules, bare.rules);
    assert_eq!(first.mounts, bare.mounts);
    // The directory itself stays, empty: templates have it.
    let new: Vec<_> = first.files.difference(&bare.files).filter(|path| *path != "/etc/kubernetes").collect();
    assert!(new.is_empty(), "left behind: {new:#?}");
    for round in 1..=leaves() {
        let joined = bootstrap(worker, LIMIT).unwrap();
        assert_eq!(joined.code, 0, "round {round}: {}{}", joined.stdout, joined.stderr);
        cluster.all_ready().unwrap();
        cluster.serve_a_page(&format!("round-{round}"), worker, &cluster.control).unwrap();
        let delete = ["delete", "pod,service", "--all", "--wait=true", "--timeout=60s"];
        cluster.kubectl(delete).unwrap().limit(Duration::from_secs(90)).output().unwrap();
        assert_eq!(left(worker), first, "round {round}");
        if round % 2 == 0 {
            // What the management server does behind it; without, the machine comes back to its old node.
            cluster.kubectl(["delete", "node", &worker.name, "--ignore-not-found"]).unwrap().ok().unwrap();
        }
    }
    cluster.bed.nothing_outside().unwrap();
}

#[test]
fn a_pod_whose_network_nobody_can_end_keeps_no_worker() {
    let _alone = alone();
    let cluster = machines(1);
    let worker = &cluster.workers[0];
    let bare = bare(worker);
    cluster.by_agent().unwrap();
    cluster.serve_a_page("stuck", worker, &cluster.control).unwrap();
    let images = || worker.sh("ctr -n k8s.io images list -q").unwrap();
    let leave = |more: &[&str]| {
        let arguments = ["cks-agent", "leave", "--rejoin"].into_iter().chain(more.iter().copied());
        worker.command(arguments).unwrap().limit(LIMIT).output().unwrap()
    };
    // A pod that nobody starts elsewhere is not ended without being asked.
    let refused = leave(&[]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains("default/stuck (has no controller)"), "{refused:?}");
    cluster.all_ready().unwrap();
    // As a plugin that asks a daemon which is gone by then.
    worker.sh("rm /opt/cni/bin/bridge").unwrap();
    let left = leave(&["--force", "--keep-images"]);
    assert_eq!(left.code, 0, "{left:?}");
    let after = Traces::of(worker);
    assert_eq!((&after.addresses, &after.rules, &after.mounts), (&bare.addresses, &bare.rules, &bare.mounts));
    assert_ne!(images(), "", "kept on request");
    // It is mended, and back.
    let joined = bootstrap(worker, LIMIT).unwrap();
    assert_eq!(joined.code, 0, "{}{}", joined.stdout, joined.stderr);
    cluster.all_ready().unwrap();
    let left = leave(&[]);
    assert_eq!(left.code, 0, "{left:?}");
    assert_eq!(images(), "");
}
