//! SIGKILL at every entry of the record and at random moments, of a join and of an init: the next run ends ready, and
//! there is one cluster.

use std::time::{Duration, Instant};

use cks_tests::kubernetes::{Cluster, Machine, bootstrap};
use rand::Rng as _;

use crate::{LIMIT, alone, machines, times};

/// When the agent is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// When its record is written for the so many-th time.
    Entry(usize),
    /// So long after it began.
    After(Duration),
}

/// Runs the agent and kills it at the moment, with or without what it has started; true when it was still at work.
fn killed(machine: &Machine, moment: Moment, with_children: bool) -> bool {
    let run = machine.start("cks-agent bootstrap", "run").unwrap();
    let began = Instant::now();
    let (mut entries, mut last) = (0, String::new());
    while machine.sh("pgrep -x cks-agent >/dev/null && echo on || true").unwrap().contains("on") {
        let due = match moment {
            Moment::Entry(which) => {
                let record = machine.sh("cat /var/lib/cks-agent/cluster.json 2>/dev/null || true").unwrap();
                entries += usize::from(record != last);
                last = record;
                entries >= which
            }
            Moment::After(time) => began.elapsed() >= time,
        };
        if due {
            machine.kill("cks-agent").unwrap();
            if with_children {
                machine.kill("kubeadm").unwrap();
            }
            drop(run);
            return true;
        }
        assert!(began.elapsed() < LIMIT, "{moment:?} never comes");
    }
    false
}

/// Goes on until the node is ready, as the unit does.
fn ends_ready(cluster: &Cluster, machine: &Machine, moment: Moment) {
    let said = bootstrap(machine, LIMIT).unwrap();
    assert_eq!(said.code, 0, "{moment:?}: {}{}", said.stdout, said.stderr);
    let authority = |machine: &Machine| machine.sh("sha256sum </etc/kubernetes/pki/ca.crt").unwrap();
    assert_eq!(authority(machine), authority(&cluster.control), "{moment:?}: there are two authorities");
    let ready = cluster.kubectl(["get", "node", &machine.name, "--no-headers"]).unwrap().ok().unwrap();
    assert!(ready.contains(" Ready"), "{moment:?}: {ready}");
}

fn moments(longest: Duration) -> Vec<Moment> {
    let entries = (1..=3).map(Moment::Entry);
    let random = (0..times()).map(|_| Moment::After(longest.mul_f64(rand::rng().random_range(0.0..1.0))));
    entries.chain(random).collect()
}

#[test]
fn a_join_ends_ready_whenever_it_is_killed() {
    let _alone = alone();
    let cluster = machines(1);
    cluster.by_agent().unwrap();
    let worker = &cluster.workers[0];
    let began = Instant::now();
    let again = |first: bool| {
        worker.sh("cks-agent leave --skip-drain --force").unwrap();
        cluster.kubectl(["delete", "node", &worker.name, "--ignore-not-found"]).unwrap().ok().unwrap();
        if first {
            assert_eq!(bootstrap(worker, LIMIT).unwrap().code, 0);
        }
    };
    again(true);
    // The images are there since the first time: this is how long a join takes.
    let longest = began.elapsed();
    for (at, moment) in moments(longest).into_iter().enumerate() {
        again(false);
        let was_at_work = killed(worker, moment, at % 2 == 0);
        eprintln!("join, {moment:?}: {}", if was_at_work { "killed" } else { "was over" });
        ends_ready(&cluster, worker, moment);
    }
}

#[test]
fn an_init_ends_ready_whenever_it_is_killed() {
    let _alone = alone();
    let cluster = machines(0);
    let control = &cluster.control;
    let alone_in_its_cluster = "role: first-control-plane\n  token: 0123ab.456789abcdef0123";
    cluster.bed.ask(control, &format!("#cloud-config\ncks:\n  {alone_in_its_cluster}\n")).unwrap();
    let began = Instant::now();
    let first = bootstrap(control, LIMIT).unwrap();
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
    let longest = began.elapsed().min(Duration::from_secs(45));
    for (at, moment) in moments(longest).into_iter().enumerate() {
        let left =
            control.command(["cks-agent", "leave", "--skip-drain", "--force"]).unwrap().limit(LIMIT).output().unwrap();
        assert_eq!(left.code, 0, "{}{}", left.stdout, left.stderr);
        let was_at_work = killed(control, moment, at % 2 == 0);
        let before = control.sh("sha256sum </etc/kubernetes/pki/ca.crt 2>/dev/null || true").unwrap();
        eprintln!("init, {moment:?}: {}", if was_at_work { "killed" } else { "was over" });
        ends_ready(&cluster, control, moment);
        let after = control.sh("sha256sum </etc/kubernetes/pki/ca.crt").unwrap();
        assert!(before.is_empty() || before == after, "{moment:?}: another authority");
    }
}
