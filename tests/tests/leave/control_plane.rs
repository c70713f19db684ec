//! A control plane node leaves with its etcd member, which is real.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{code, difference};
use crate::members::Members;

#[test]
fn a_control_plane_node_takes_its_etcd_member_along() {
    let members = Members::new(3).unwrap();
    let machine = &members.machine;
    // Two of three: the vote on it would fail when one more does.
    members.kill(2).unwrap();
    let before = machine.picture().unwrap();
    for arguments in [&[][..], &["--force"]] {
        let output = machine.leave(arguments).unwrap();
        assert_eq!((code(&output), output.code), ("ETCD_QUORUM", 78), "{output:?}");
        assert!(output.stderr.contains("c2"), "{output:?}");
        assert_eq!(difference(&before, &machine.picture().unwrap()), [""; 0], "nothing is changed");
    }
    let members = Members::new(3).unwrap();
    let machine = &members.machine;
    let output = machine.leave(&[]).unwrap();
    assert!(output.stdout.contains("etcd member c0 removed"), "{output:?}");
    assert_eq!(members.names().unwrap(), ["c1", "c2"]);
    assert!(members.ctl(1, &["get", "precious"]).unwrap().contains("value"));
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!machine.has("/var/lib/etcd/member"), "others hold it");
}

#[test]
fn the_last_control_plane_node_goes_by_force_alone_and_its_data_stays() {
    let members = Members::new(1).unwrap();
    let machine = &members.machine;
    let output = machine.leave(&[]).unwrap();
    assert_eq!((code(&output), output.code), ("ETCD_QUORUM", 78), "{output:?}");
    assert!(output.stderr.contains("last member"), "{output:?}");
    assert!(machine.has("/etc/kubernetes/kubelet.conf") && machine.has("/var/lib/etcd/member"));
    let output = machine.leave(&["--force"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!machine.has("/var/lib/etcd") && !machine.has("/etc/kubernetes/kubelet.conf"));
    let aside = machine.sh("ls -d /var/lib/etcd-left-*/member").unwrap();
    assert_eq!(aside.lines().count(), 1, "{aside}");

    // Nobody answers: nobody knows what others hold.
    let members = Members::new(1).unwrap();
    members.kill(0).unwrap();
    let machine = &members.machine;
    let output = machine.leave(&[]).unwrap();
    assert_eq!((code(&output), output.code), ("ETCD_UNAVAILABLE", 75), "{output:?}");
    assert!(machine.has("/etc/kubernetes/kubelet.conf"));
    assert_eq!(machine.leave(&["--force"]).unwrap().code, 0);
    assert_eq!(machine.sh("ls -d /var/lib/etcd-left-*/member").unwrap().lines().count(), 1);
}

#[test]
fn data_on_a_disk_of_its_own_is_moved_aside_within_it() {
    let disk = "mkdir /var/lib/etcd && mount -t tmpfs tmpfs /var/lib/etcd && mkdir /var/lib/etcd/lost+found";
    let link = "mkdir /srv/disk && ln -s /srv/disk /var/lib/etcd";
    for script in [disk, link] {
        let members = Members::after(script, 1).unwrap();
        let machine = &members.machine;
        let output = machine.leave(&["--force"]).unwrap();
        assert_eq!(output.code, 0, "{script}: {output:?}");
        let aside = machine.sh("ls -d /var/lib/etcd/aside-*/member && ls /var/lib/etcd/").unwrap();
        assert!(aside.lines().all(|line| line != "member"), "{aside}");
        assert!(machine.leave(&[]).unwrap().stdout.contains("nothing to do"), "{script}");
        // A later member's data goes with its removal, what was put aside does not.
        let members = Members::after(&format!("{script} && mkdir /var/lib/etcd/aside-1"), 3).unwrap();
        let output = members.machine.leave(&[]).unwrap();
        assert_eq!(output.code, 0, "{script}: {output:?}");
        let left = members.machine.sh("ls /var/lib/etcd/").unwrap();
        assert!(left.contains("aside-1") && !left.contains("member"), "{script}: {left} {output:?}");
    }
}

#[test]
fn a_leave_that_is_killed_while_its_member_goes_is_gone_on_with() {
    for etcdctl in [true, false] {
        let members = Members::new(3).unwrap();
        let machine = &members.machine;
        let begun = machine.path("/var/lib/cks-agent/leaving.json");
        let mut running = machine.leaving(&[]).start(&machine.log("killed")).unwrap();
        while !fs::read_to_string(&begun).is_ok_and(|begun| begun.contains("clients")) {
            assert!(running.ended().unwrap().is_none(), "it is written down first");
            thread::sleep(Duration::from_millis(1));
        }
        machine.sh("pkill -KILL -x cks-agent || true").unwrap();
        running.kill().unwrap();
        // It is removed, or was; its own etcd ends over that, and no kubelet starts it again.
        // etcd lets nobody go before it has served for some seconds.
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Some(own) = members.id("c0").unwrap() {
            assert!(Instant::now() < deadline, "c0 can't be removed");
            if members.ctl(1, &["member", "remove", &own]).is_err() {
                thread::sleep(Duration::from_millis(200));
            }
        }
        machine.sh("kill -KILL $(cat /srv/c0.pid) || true").unwrap();
        if !etcdctl {
            machine.sh("rm -f /opt/bin/etcdctl /usr/local/bin/etcdctl /usr/bin/etcdctl").unwrap();
        }
        let output = machine.leave(&[]).unwrap();
        assert_eq!(output.code, 0, "etcdctl {etcdctl}: {output:?}");
        assert!(!machine.has("/var/lib/etcd/member"), "others hold it: {output:?}");
        assert_eq!(members.names().unwrap(), ["c1", "c2"]);
    }
}

#[test]
fn a_member_counts_wherever_its_data_lies_and_whatever_its_pod_says() {
    let members = Members::new(1).unwrap();
    let machine = &members.machine;
    let manifest = "/etc/kubernetes/manifests/etcd.yaml";
    for (change, wanted) in
        [("s#/var/lib/etcd#/data/etcd#", ("ETCD_QUORUM", 78)), ("s/--name=c0//", ("ETCD_UNAVAILABLE", 75))]
    {
        machine.sh(&format!("sed -i '{change}' {manifest}")).unwrap();
        let before = machine.picture().unwrap();
        let output = machine.leave(&[]).unwrap();
        assert_eq!((code(&output), output.code), wanted, "{change}: {output:?}");
        assert_eq!(difference(&before, &machine.picture().unwrap()), [""; 0], "nothing is changed");
    }
    let output = machine.leave(&["--force"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("ETCD_UNAVAILABLE") && machine.has("/var/lib/etcd/member"), "{output:?}");
}

#[test]
fn a_control_plane_that_shrinks_to_one_asks_for_force() {
    let members = Members::new(2).unwrap();
    let machine = &members.machine;
    assert_eq!(code(&machine.leave(&[]).unwrap()), "ETCD_QUORUM");
    let output = machine.leave(&["--force"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(members.names().unwrap(), ["c1"]);
    assert!(members.ctl(1, &["put", "more", "value"]).is_ok());
}
