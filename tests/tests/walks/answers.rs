//! What the server makes of answers that it can't use.

use std::time::{Duration, Instant};

use cks_tests::server::{GivenUp, Order, Release, Verdict};

use crate::pretend::{Pretend, hasty, patient};

fn order() -> Order {
    Order { workers: 0, ..Order::small("bed", "1.34.4") }
}

/// A creation that fails.
fn refused(pretend: &mut Pretend, disturb: impl FnOnce(&Pretend)) -> GivenUp {
    pretend.take_back().unwrap();
    disturb(pretend);
    match hasty(Release::new(22, 0)).create(pretend, &order()) {
        Ok((_, transcript)) => panic!("{transcript}"),
        Err(refused) => refused,
    }
}

/// How often a command was asked.
fn times(refused: &GivenUp, part: &str) -> usize {
    refused.transcript.with(part).count()
}

#[test]
fn answers_that_are_of_no_use_end_in_the_deadline() {
    let mut pretend = Pretend::new(2).unwrap();
    let noise = "sudo: unable to resolve host node-1: Name or service not known\n";

    let given_up = refused(&mut pretend, |pretend| pretend.state("noise", noise));
    assert!(given_up.why.contains("counting ready nodes") && given_up.why.contains("is not a number"), "{given_up}");
    assert!(times(&given_up, "wc -l") > 1 && times(&given_up, "user.conf") == 0, "{given_up}");

    let given_up = refused(&mut pretend, |pretend| pretend.state("nodes", "somebody-else Ready v1.34.4\n"));
    assert!(given_up.why.contains("2 and 0 of etcd are not 1"), "{given_up}");
    assert!(times(&given_up, "wc -l") > 1, "{given_up}");

    let given_up = refused(&mut pretend, |pretend| {
        let broken = format!("{noise}apiVersion: v1\n    server: https://{}:6443\n", pretend.control().address);
        pretend.control().write("/etc/kubernetes/user.conf", &broken).unwrap();
    });
    assert!(given_up.why.contains("reading the kubeconfig") && given_up.why.contains("no line of a"), "{given_up}");

    let given_up = refused(&mut pretend, |pretend| {
        pretend.state("pods-kubernetes-dashboard", "kubernetes-dashboard-1 Pending\n");
        pretend.state("pods-kube-system", "headlamp-1 Running\n");
    });
    assert!(given_up.why.contains("looking for the dashboard"), "{given_up}");
    assert_eq!(times(&given_up, "annotate"), 0);
}

#[test]
fn an_api_that_has_another_address_in_its_certificate_does_not_count() {
    let mut pretend = Pretend::new(1).unwrap();
    let own = "openssl req -x509 -nodes -newkey rsa:2048 -days 2 -subj /CN=api -addext subjectAltName=IP:10.1.1.10 \
               -keyout /root/api.key -out /root/other.crt 2>/dev/null";
    pretend.control().sh(own).unwrap();
    pretend.serve_api("/root/other.crt").unwrap();
    let given_up = refused(&mut pretend, |_| {});
    assert!(given_up.why.contains("does NOT match"), "{given_up}");
    assert_eq!(times(&given_up, "kubectl"), 0, "{given_up}");

    pretend.control().sh("pkill -x openssl").unwrap();
    let given_up = refused(&mut pretend, |_| {});
    assert!(given_up.why.starts_with("GET https://198.51.100.10:6443/version: timed out"), "{given_up}");
}

#[test]
fn a_provider_that_was_there_before_keeps_the_scripts_and_the_secret_away() {
    let mut pretend = Pretend::new(1).unwrap();
    pretend.take_back().unwrap();
    pretend.control().write("/opt/bin/deploy-provider", "#!/bin/sh\nexit 0\n").unwrap();
    pretend.control().sh("chmod 755 /opt/bin/deploy-provider").unwrap();
    let (_, transcript) = patient(Release::new(22, 0)).create(&mut pretend, &order()).unwrap();
    assert_eq!(transcript.with("scp").count() + transcript.with("deploy-cloudstack-secret").count(), 0, "{transcript}");
    pretend.control().sh("[ ! -e /run/cluster/secret ]").unwrap();

    let given_up = refused(&mut pretend, |pretend| pretend.state("fail-apply", "error: no\n"));
    assert!(given_up.why.contains("deploying the provider") && given_up.why.contains("exit status 1"), "{given_up}");
    assert_eq!(times(&given_up, "scp"), 5, "{given_up}");
}

#[test]
fn who_is_silent_for_too_long_has_not_answered_and_who_speaks_may_take_his_time() {
    let mut pretend = Pretend::new(1).unwrap();
    pretend.take_back().unwrap();
    let server = hasty(Release::new(22, 0));
    let (mut cluster, _) =
        patient(server.release).create(&mut pretend, &order()).unwrap_or_else(|error| panic!("{error}"));
    pretend.state("silent-drain", "90");
    let begun = Instant::now();
    let given_up = server.upgrade(&mut pretend, &mut cluster, "1.35.4").unwrap_err();
    let drains: Vec<&Verdict> = given_up.transcript.with("drain").map(|step| &step.verdict).collect();
    assert!(drains.len() == 3 && begun.elapsed() < Duration::from_secs(60), "{given_up}");
    assert!(matches!(drains[2], Verdict::Fatal(why) if why.starts_with("silent for 3.")), "{given_up}");
    assert_eq!(cluster.version, "1.34.4");

    pretend.control().sh("rm /run/cluster/silent-drain").unwrap();
    let slow = "#!/bin/bash\nfor at in 1 2 3 4 5 6 7 8; do echo $at >&2; sleep 0.6; done\nexec /opt/bin/kubectl-quick \"$@\"\n";
    pretend.control().sh("mv /opt/bin/kubectl /opt/bin/kubectl-quick").unwrap();
    pretend.control().write("/opt/bin/kubectl", slow).unwrap();
    pretend.control().sh("chmod 755 /opt/bin/kubectl").unwrap();
    let given_up = server.upgrade(&mut pretend, &mut cluster, "1.35.4").unwrap_err();
    let drain = given_up.transcript.with("drain").next().unwrap();
    assert!(drain.verdict == Verdict::Good && drain.elapsed > Duration::from_secs(4), "{given_up}");
}

#[test]
fn a_node_that_nobody_can_log_in_to_has_not_answered() {
    let mut pretend = Pretend::new(1).unwrap();
    pretend.take_back().unwrap();
    pretend.control().sh("mv /home/cloud/.ssh/authorized_keys /root/").unwrap();
    let server = hasty(Release::new(19, 3));
    let given_up = server.create(&mut pretend, &order()).unwrap_err();
    assert!(given_up.why.contains("counting ready nodes") && given_up.why.contains("Permission denied"), "{given_up}");
    assert_eq!(given_up.transcript.with("wc -l").next().unwrap().exit, None);
}
