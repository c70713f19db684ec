//! From every state that a crash or another program can leave, the way on.

use super::*;
use crate::bundle::Role;
use crate::node_spec::{CaTrust, Endpoint, Init, Join, Token};

fn spec(membership: Membership) -> NodeSpec {
    let role = match membership {
        Membership::Worker(_) => Role::Worker,
        Membership::Etcd => Role::Etcd,
        _ => Role::ControlPlane,
    };
    NodeSpec { membership: Some(membership), ..NodeSpec::new(role, "n1", None, None).unwrap() }
}

fn join() -> Join {
    Join {
        endpoint: Endpoint::parse("10.1.1.5").unwrap(),
        token: Token::parse("abcdef.0123456789abcdef").unwrap(),
        certificate_key: None,
        trust: CaTrust::TokenOnly,
    }
}

fn init(network: Network) -> Membership {
    Membership::FirstControlPlane(Box::new(Init { network, ..Init::default() }))
}

fn record(membership: &Membership, stage: Stage) -> Option<Record> {
    Some(Record {
        membership: kind_of(membership).to_owned(),
        authority: Vec::new(),
        stage,
        applied: std::collections::BTreeMap::new(),
    })
}

/// A machine that is set up, on which nothing of a cluster was begun.
fn fresh() -> Facts {
    Facts { host_is_prepared: true, runtime_is_configured: true, ..Facts::default() }
}

fn named(spec: &NodeSpec, facts: &Facts) -> Vec<String> {
    let name = |action: &Action| {
        let value = serde_json::to_value(action).unwrap();
        let again = if value["again"] == true { " again" } else { "" };
        format!("{}{again}", value["action"].as_str().unwrap())
    };
    actions(spec, facts).unwrap().iter().map(name).collect()
}

#[test]
fn a_machine_becomes_what_it_shall_be() {
    let bare = Facts::default();
    let worker = spec(Membership::Worker(join()));
    let all = ["prepare-host", "configure-runtime", "join", "hand-over", "await-ready"];
    assert_eq!(named(&worker, &bare), all);
    let first = spec(init(Network::Bundle));
    assert_eq!(
        named(&first, &bare),
        ["prepare-host", "configure-runtime", "init", "apply", "hand-over", "await-ready"]
    );
    assert_eq!(named(&spec(Membership::Etcd), &bare), ["prepare-host", "serve-etcd"]);
    // Nobody waits for a node that has no pod network.
    assert!(!named(&spec(init(Network::Elsewhere)), &bare).contains(&"await-ready".to_owned()));
    let installed_only = NodeSpec::new(Role::Worker, "n1", None, None).unwrap();
    assert_eq!(actions(&installed_only, &bare).unwrap(), []);
}

#[test]
fn a_finished_node_has_nothing_to_do() {
    for membership in
        [Membership::Worker(join()), Membership::ControlPlane(join()), init(Network::Bundle), Membership::Etcd]
    {
        let facts = Facts {
            record: record(&membership, Stage::Ready),
            kubelet_conf: true,
            identity: Identity::Known { ready: true, why: String::new() },
            etcd_serves: true,
            is_applied: true,
            is_handed_over: true,
            ..fresh()
        };
        assert_eq!(named(&spec(membership), &facts), [""; 0]);
    }
}

#[test]
fn an_init_that_broke_off_is_gone_on_with_and_never_taken_back() {
    let first = init(Network::Bundle);
    for (facts, again) in [
        (Facts { record: record(&first, Stage::Begun), ..fresh() }, false),
        (Facts { record: record(&first, Stage::Begun), traces: vec!["pki".to_owned()], ..fresh() }, true),
        (Facts { record: record(&first, Stage::Begun), kubelet_conf: true, admin_conf: true, ..fresh() }, true),
        // Of the stock scripts, which left no record.
        (Facts { traces: vec!["manifests".to_owned()], admin_conf: true, ..fresh() }, true),
    ] {
        let wanted = if again { "init again" } else { "init" };
        assert_eq!(named(&spec(first.clone()), &facts)[0], wanted, "{facts:?}");
    }
}

#[test]
fn a_join_that_broke_off_is_taken_back() {
    let known = Identity::Known { ready: false, why: String::new() };
    let refused = Identity::Refused { why: "401".to_owned() };
    let worker = Membership::Worker(join());
    let further = Membership::ControlPlane(join());
    for (membership, kubelet_conf, identity, wanted) in [
        (&worker, false, Identity::None, vec!["take-back", "join"]),
        (&worker, true, known.clone(), vec!["finish-join"]),
        (&further, true, known, vec!["take-back", "join"]),
        (&worker, true, refused, vec!["take-back", "join"]),
        (&worker, true, Identity::Unknown, vec!["take-back", "join"]),
    ] {
        let facts = Facts {
            record: record(membership, Stage::Begun),
            traces: vec!["bootstrap-kubelet.conf".to_owned()],
            kubelet_conf,
            identity: identity.clone(),
            ..fresh()
        };
        let named = named(&spec(membership.clone()), &facts);
        let rest = named.iter().filter(|name| !["hand-over", "await-ready"].contains(&name.as_str()));
        assert_eq!(rest.collect::<Vec<_>>(), wanted, "{identity:?}");
    }
}

#[test]
fn while_nobody_knows_nothing_is_taken_back() {
    let worker = Membership::Worker(join());
    let facts = |stage| Facts {
        record: record(&worker, stage),
        kubelet_conf: true,
        identity: Identity::Unreachable { why: "connection refused".to_owned() },
        ..fresh()
    };
    let failure = actions(&spec(worker.clone()), &facts(Stage::Begun)).unwrap_err();
    assert_eq!(failure.code, Code::ApiUnreachable);
    assert_eq!(named(&spec(worker.clone()), &facts(Stage::Member)), ["hand-over", "await-ready"]);
}

#[test]
fn a_member_that_its_cluster_disowns_is_left_to_its_operator() {
    let worker = Membership::Worker(join());
    for identity in [Identity::Unknown, Identity::None, Identity::Refused { why: "401".to_owned() }] {
        let facts = Facts { record: record(&worker, Stage::Ready), kubelet_conf: true, identity, ..fresh() };
        assert_eq!(actions(&spec(worker.clone()), &facts).unwrap_err().code, Code::AlreadyMember);
    }
}

#[test]
fn a_control_plane_that_lost_its_identity_alone_is_not_taken_back() {
    let data = || "/var/lib/etcd/member".to_owned();
    let pod = || "/etc/kubernetes/manifests/etcd.yaml".to_owned();
    let further = Membership::ControlPlane(join());
    let worker = Membership::Worker(join());
    for (membership, stage, admin_conf, traces, stays) in [
        (&further, Stage::Ready, true, vec![data(), pod()], true),
        (&further, Stage::Member, true, vec![], true),
        (&further, Stage::Ready, false, vec![data(), pod()], true),
        // Of a try that broke off, and of a reset.
        (&further, Stage::Begun, true, vec![data(), pod()], false),
        (&further, Stage::Ready, false, vec![data()], false),
        (&worker, Stage::Ready, false, vec![pod()], false),
    ] {
        let facts = Facts { record: record(membership, stage), admin_conf, traces, ..fresh() };
        let outcome = actions(&spec(membership.clone()), &facts);
        if stays {
            let failure = outcome.unwrap_err();
            assert_eq!(failure.code, Code::AlreadyMember, "{facts:?}");
            let remedy = failure.remedy();
            assert!(remedy.contains("--node-name n1 --control-plane-endpoint 10.1.1.5:6443 "), "{remedy}");
        } else {
            assert!(matches!(outcome.unwrap()[0], Action::TakeBack { .. }), "{facts:?}");
        }
    }
}

#[test]
fn what_the_stock_scripts_made_is_left_as_it_is() {
    let facts = Facts {
        marker: true,
        kubelet_conf: true,
        admin_conf: true,
        identity: Identity::Known { ready: true, why: String::new() },
        is_handed_over: true,
        ..fresh()
    };
    assert_eq!(named(&spec(init(Network::Bundle)), &facts), [""; 0]);
    assert_eq!(named(&spec(Membership::ControlPlane(join())), &facts), [""; 0]);
    // The marker alone is what a removed node still has.
    let removed = Facts { marker: true, ..fresh() };
    assert_eq!(named(&spec(Membership::Worker(join())), &removed)[0], "join");
}

#[test]
fn a_member_of_one_kind_does_not_become_another() {
    let facts = Facts { record: record(&Membership::Worker(join()), Stage::Member), ..fresh() };
    let failure = actions(&spec(init(Network::Bundle)), &facts).unwrap_err();
    assert_eq!(failure.code, Code::AlreadyMember);
    assert!(failure.what.contains("a worker"), "{}", failure.what);
}

#[test]
fn a_try_that_never_became_a_member_binds_no_machine_to_its_cluster() {
    for (stage, binds) in [(Stage::Begun, false), (Stage::Member, true), (Stage::Ready, true)] {
        let kept = record(&Membership::Worker(join()), stage).unwrap();
        assert_eq!(kept.outlives_user_data(), binds, "{stage:?}");
    }
    // What it left is taken back without it, too.
    let facts = Facts { traces: vec!["/etc/kubernetes/pki/ca.crt".to_owned()], ..fresh() };
    assert_eq!(named(&spec(Membership::ControlPlane(join())), &facts)[..2], ["take-back", "join"]);
}
