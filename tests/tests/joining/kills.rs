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
    machine.sh("rm -f /run/over").unwrap();
    let run = machine.start("cks-agent bootstrap || true; touch /run/over", "run").unwrap();
    let began = Instant::now();
    let (mut entries, mut last) = (0, String::new());
    while machine.sh("[ -e /run/over ] || echo on").unwrap().contains("on") {
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
            // As the unit does, which starts it again when it is gone.
            machine.sh("while pgrep -x cks-agent; do sleep 0.05; done").unwrap();
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

/// Every entry of the record for as long as there is a next one, then random moments of a run of this length. `again` takes
/// the machine back to where it began; `ends` goes on after the kill.
fn at_every_moment<B: Fn(), C: Fn(Moment)>(machine: &Machine, longest: Duration, again: B, ends: C) {
    let kill = |moment: Moment, with_children: bool| {
        again();
        let was_at_work = killed(machine, moment, with_children);
        eprintln!("{}, {moment:?}: {}", machine.name, if was_at_work { "killed" } else { "was over" });
        ends(moment);
        was_at_work
    };
    let entries = (1..).take_while(|which| kill(Moment::Entry(*which), which % 2 == 0)).count();
    assert!(entries >= 3, "there are but {entries} entries");
    for number in 0..times() {
        kill(Moment::After(longest.mul_f64(rand::rng().random_range(0.0..1.0))), number % 2 == 0);
    }
}

/// Leaves the cluster, and is to come back with the same user data.
fn leave(machine: &Machine) {
    let words = ["cks-agent", "leave", "--rejoin", "--skip-drain", "--force"];
    let left = machine.command(words).unwrap().limit(LIMIT).output().unwrap();
    assert_eq!(left.code, 0, "{}{}", left.stdout, left.stderr);
}

#[test]
fn a_join_ends_ready_whenever_it_is_killed() {
    let _alone = alone();
    let cluster = machines(1);
    cluster.by_agent().unwrap();
    let worker = &cluster.workers[0];
    let again = || {
        leave(worker);
        cluster.kubectl(["delete", "node", &worker.name, "--ignore-not-found"]).unwrap().ok().unwrap();
    };
    again();
    let began = Instant::now();
    assert_eq!(bootstrap(worker, LIMIT).unwrap().code, 0);
    // The images are there since the first time: this is how long a join takes.
    let longest = began.elapsed();
    at_every_moment(worker, longest, again, |moment| ends_ready(&cluster, worker, moment));
}

#[test]
fn an_init_ends_ready_whenever_it_is_killed() {
    let _alone = alone();
    let cluster = machines(0);
    let control = &cluster.control;
    let alone_in_its_cluster = "role: first-control-plane\n  token: 0123ab.456789abcdef0123";
    cluster.bed.ask(control, &format!("#cloud-config\ncks:\n  {alone_in_its_cluster}\n")).unwrap();
    let first = bootstrap(control, LIMIT).unwrap();
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
    leave(control);
    let began = Instant::now();
    assert_eq!(bootstrap(control, LIMIT).unwrap().code, 0);
    at_every_moment(
        control,
        began.elapsed(),
        || leave(control),
        |moment| {
            let authority = |or: &str| control.sh(&format!("sha256sum </etc/kubernetes/pki/ca.crt{or}")).unwrap();
            let before = authority(" 2>/dev/null || true");
            ends_ready(&cluster, control, moment);
            assert!(before.is_empty() || before == authority(""), "{moment:?}: another authority");
        },
    );
}
