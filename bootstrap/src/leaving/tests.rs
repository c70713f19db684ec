use super::facts::{Kubelet, Runtime};
use super::*;
use std::collections::BTreeMap;

fn has(actions: &[Action], wanted: &str) -> bool {
    actions.iter().any(|action| action.to_string() == wanted)
}

/// A worker with everything that one can have.
fn worker() -> Facts {
    let signs = traces::SIGNS.iter().filter(|sign| **sign != traces::ADMIN_CONF);
    let directories = paths::TREES.iter().map(|tree| (tree.path.to_owned(), Content::Some)).collect();
    Facts {
        traces: traces::Traces {
            signs: signs.map(|sign| (*sign).to_owned()).collect(),
            markers: vec![traces::MARKERS[0].to_owned()],
            records: vec![paths::MEMBERSHIP.to_owned()],
            ..traces::Traces::default()
        },
        node: Some("w1".to_owned()),
        kubelet: Kubelet { runs: true, enabled: true },
        runtime: Runtime { pods: Some(3), tasks: 3, images: 7 },
        kubeadm: true,
        mounts: mounts::parse(b"33 30 254:32 / /var/lib/kubelet/pods/1a/x rw - ext4 /dev/vdc rw\n").unwrap(),
        filters: BTreeMap::from([(
            Filter::Nft4,
            include_str!("../../tests/data/leaving/iptables-nft-save.txt").to_owned(),
        )]),
        nft: include_str!("../../tests/data/leaving/nft.json").to_owned(),
        links: include_str!("../../tests/data/leaving/links.json").to_owned(),
        routes: vec![include_str!("../../tests/data/leaving/routes.json").to_owned()],
        sets: include_str!("../../tests/data/leaving/ipset.txt").lines().map(str::to_owned).collect(),
        namespaces: ["cni-7a1e2f03-1111-2222-3333-444455556666", "blue"].map(str::to_owned).to_vec(),
        cni: vec![cni::ConfigFile {
            name: "10-flannel.conflist".to_owned(),
            text: r#"{"name":"cbr0","plugins":[{"type":"flannel"}]}"#.to_owned(),
            after_join: None,
        }],
        directories,
        files: [traces::KUBELET_CONF.to_owned(), paths::RECORDS[1].to_owned()].into(),
        cni_state: BTreeMap::from([
            ("/var/lib/cni/networks".to_owned(), vec!["cbr0".to_owned()]),
            (paths::CNI.to_owned(), vec!["networks".to_owned(), "flannel".to_owned()]),
            (paths::NAMESPACES.to_owned(), vec!["blue".to_owned()]),
        ]),
        ..Facts::default()
    }
}

#[test]
fn a_machine_that_never_joined_is_left_as_it_is() {
    let facts = Facts { traces: traces::Traces::default(), files: [].into(), ..worker() };
    assert_eq!(plan(&facts, Wishes::default()), []);
}

#[test]
fn what_is_known_of_a_try_that_became_nothing_goes() {
    let files = paths::RECORDS.map(str::to_owned).into();
    let mut facts = Facts { traces: traces::Traces::default(), files, ..worker() };
    let shown: Vec<String> = plan(&facts, Wishes::default()).iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["file /var/lib/cks-agent/cluster.json", "file /var/lib/cks-agent/node.json"]);
    facts.traces.dedicated_etcd = true;
    assert_eq!(plan(&facts, Wishes::default()), []);
}

#[test]
fn a_worker_loses_all_that_its_cluster_made_and_nothing_else() {
    let actions = plan(&worker(), Wishes::default());
    for wanted in [
        "kubelet stopped and disabled",
        "pods: 3",
        "mount /var/lib/kubelet/pods/1a/x",
        "what kubeadm made",
        "directory /var/lib/kubelet",
        "content of /etc/kubernetes/manifests",
        "file /etc/kubernetes/kubelet.conf",
        "file /home/cloud/success",
        "file /etc/cni/net.d/10-flannel.conflist",
        "directory /var/lib/cni/networks/cbr0",
        "link cni0",
        "link flannel.1",
        "link veth1a2b3c4d",
        "route blackhole 10.244.9.0/26 proto 80 table main",
        "network namespace cni-7a1e2f03-1111-2222-3333-444455556666",
        "iptables (nft): 21 chains, 16 rules that lead there",
        "nftables table ip kube-proxy",
        "ipset KUBE-CLUSTER-IP",
        "ipset cali40masq-ipam-pools",
        "images: 7",
    ] {
        assert!(has(&actions, wanted), "{wanted}: {actions:#?}");
    }
    let all = format!("{actions:?}");
    for foreign in ["eth0", "br-lan", "blue", "blocklist", "inet", "/var/lib/etcd", "IPVS"] {
        assert!(!all.contains(&format!("\"{foreign}")), "{foreign}: {all}");
    }
    let ranks: Vec<u8> = actions.iter().map(Action::rank).collect();
    assert!(ranks.is_sorted(), "{actions:#?}");
}

#[test]
fn directories_that_nobody_else_uses_go_with_what_was_in_them() {
    let empty = |facts: &Facts| {
        let actions = plan(facts, Wishes::default());
        let paths = actions.iter().filter_map(|action| match action {
            Action::RemoveEmpty { path } => Some(path.clone()),
            _ => None,
        });
        paths.collect::<Vec<_>>()
    };
    let mut facts = worker();
    assert_eq!(empty(&facts), ["/var/lib/cni/networks", paths::CNI]);
    facts.cni_state.insert(paths::NAMESPACES.to_owned(), vec!["cni-7a1e2f03-1111-2222-3333-444455556666".to_owned()]);
    assert_eq!(empty(&facts), ["/var/lib/cni/networks", paths::CNI, paths::NAMESPACES]);
    facts.cni_state.insert(paths::CNI.to_owned(), vec!["networks".to_owned(), "mine".to_owned()]);
    facts.mounts = mounts::parse(b"37 21 0:4 / /run/netns rw - tmpfs tmpfs rw\n").unwrap();
    assert_eq!(empty(&facts), ["/var/lib/cni/networks"]);
    let podman = r#"{"name":"podman","type":"bridge"}"#.to_owned();
    facts.cni.push(cni::ConfigFile { name: "87-podman.conflist".to_owned(), text: podman, after_join: None });
    facts.cni_state.insert("/var/lib/cni/networks".to_owned(), vec!["cbr0".to_owned(), "podman".to_owned()]);
    facts.cni_state.insert(paths::CNI.to_owned(), vec!["networks".to_owned()]);
    assert_eq!(empty(&facts), [""; 0]);
}

#[test]
fn the_link_of_ipvs_stays_until_its_services_are_gone() {
    let mut facts = worker();
    facts.links = r#"[{"ifname":"kube-ipvs0","linkinfo":{"info_kind":"dummy"}},{"ifname":"cni0"}]"#.to_owned();
    for (ipvs, wanted) in [(true, (true, false)), (false, (false, true))] {
        facts.ipvs = ipvs;
        let actions = plan(&facts, Wishes::default());
        assert_eq!((has(&actions, "IPVS services"), has(&actions, "link kube-ipvs0")), wanted, "{actions:#?}");
        assert!(has(&actions, "link cni0"));
    }
}

#[test]
fn nothing_is_forgotten_while_something_could_not_be_looked_at() {
    let traces = traces::Traces { begun: true, ..traces::Traces::default() };
    let mut facts = Facts { traces, begun: Some(Begun::default()), ..Facts::default() };
    assert_eq!(plan(&facts, Wishes::default()), [Action::Forget]);
    facts.unread = vec![Left { object: "ipset list".to_owned(), why: "no answer".to_owned() }];
    assert_eq!(plan(&facts, Wishes::default()), []);
}

#[test]
fn a_kernel_without_a_part_has_nothing_in_it() {
    for (said, absent) in [
        ("netlink: Error: cache initialization failed: Protocol not supported", true),
        ("ipset v7.17: Cannot open session to kernel.", true),
        ("RTNETLINK answers: Operation not supported", true),
        (
            "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to insmod?)",
            true,
        ),
        ("Failed to initialize nft: Address family not supported by protocol", true),
        ("netlink: Error: cache initialization failed: Operation not permitted", false),
        ("was ended by a signal", false),
        ("does not answer within 60 s", false),
    ] {
        assert_eq!(is_absent(said), absent, "{said}");
    }
}

#[test]
fn images_stay_on_request() {
    assert!(!has(&plan(&worker(), Wishes { keep_images: true }), "images: 7"));
}

#[test]
fn a_directory_that_is_a_filesystem_of_its_own_is_only_emptied() {
    let mut facts = worker();
    facts.mounts = mounts::parse(b"30 21 254:16 / /var/lib/kubelet rw - ext4 /dev/vdb rw\n").unwrap();
    assert!(has(&plan(&facts, Wishes::default()), "content of /var/lib/kubelet"));
    facts.directories.insert("/var/lib/kubelet".to_owned(), Content::Empty);
    let actions = plan(&facts, Wishes::default());
    assert!(!actions.iter().any(|action| action.to_string().ends_with(" /var/lib/kubelet")), "{actions:#?}");
}

#[test]
fn etcds_data_goes_only_when_others_hold_it() {
    let mut facts = worker();
    let stacked = etcd::Stacked { name: "c0".to_owned(), data: "/var/lib/etcd".to_owned() };
    facts.stacked = Some(stacked.clone());
    assert!(!format!("{:?}", plan(&facts, Wishes::default())).contains("/var/lib/etcd"), "there is none");
    facts.directories.insert("/var/lib/etcd".to_owned(), Content::Some);
    for (fate, wanted) in [
        (None, "/var/lib/etcd, moved aside"),
        (Some(Fate::KeptAside), "/var/lib/etcd, moved aside"),
        (Some(Fate::Removed), "content of /var/lib/etcd"),
    ] {
        // After a kill the static pod is gone, and the record tells.
        facts.stacked = None;
        facts.begun = Some(Begun { stacked: Some(stacked.clone()), fate, ..Begun::default() });
        assert!(has(&plan(&facts, Wishes::default()), wanted), "{fate:?}");
    }
    (facts.begun, facts.stacked) = (None, None);
    assert!(!format!("{:?}", plan(&facts, Wishes::default())).contains("/var/lib/etcd"), "nobody knows whose it is");
}

#[test]
fn a_fate_counts_for_the_member_alone_that_met_it() {
    let mut facts = worker();
    let stacked = etcd::Stacked { name: "c0".to_owned(), data: "/var/lib/etcd".to_owned() };
    facts.directories.insert("/var/lib/etcd".to_owned(), Content::Some);
    let id = crate::etcd::members::Id;
    let removing = |number| etcd::Removing { id: id(number), clients: Vec::new(), peers: Vec::new() };
    for (removed, there, goes) in
        [(Some(7), Some(7), true), (Some(7), Some(8), false), (Some(7), None, true), (None, Some(8), true)]
    {
        let removing = removed.map(removing);
        let (stacked, fate) = (Some(stacked.clone()), Some(Fate::Removed));
        facts.begun = Some(Begun { stacked, fate, removing, ..Begun::default() });
        facts.data_member = there.map(id);
        let wanted = if goes { "content of /var/lib/etcd" } else { "/var/lib/etcd, moved aside" };
        assert!(has(&plan(&facts, Wishes::default()), wanted), "{removed:?} {there:?}");
    }
}

#[test]
fn what_was_written_in_another_cluster_tells_nothing_of_this_one() {
    let begun = |authority: Option<&str>| Begun { authority: authority.map(str::to_owned), ..Begun::default() };
    for (earlier, now, same) in [
        (Some("a"), Some("a\n"), true),
        (Some("a"), Some("b"), false),
        (Some("a"), None, true),
        (None, Some("b"), true),
    ] {
        assert_eq!(begun(earlier).is_of(now), same, "{earlier:?} {now:?}");
    }
}

#[test]
fn kubeconfigs_of_other_clusters_stay() {
    use base64::Engine as _;
    let mut facts = worker();
    let text =
        |ca: &str| format!("certificate-authority-data: {}\n", base64::engine::general_purpose::STANDARD.encode(ca));
    facts.kubeconfigs = BTreeMap::from([
        ("/root/.kube/config".to_owned(), text("this")),
        ("/home/cloud/.kube/config".to_owned(), text("that")),
    ]);
    let goes = |facts: &Facts| {
        let actions = plan(facts, Wishes::default());
        (has(&actions, "file /root/.kube/config"), has(&actions, "file /home/cloud/.kube/config"))
    };
    assert_eq!(goes(&facts), (false, false), "nobody knows the authority");
    facts.authority = Some("this".to_owned());
    assert_eq!(goes(&facts), (true, false));
    facts.authority = None;
    facts.begun = Some(Begun { authority: Some("that".to_owned()), ..Begun::default() });
    assert_eq!(goes(&facts), (false, true));
}

#[test]
fn what_a_killed_leave_knew_is_not_lost() {
    let mut facts = worker();
    let bridge = r#"{"name":"bed","type":"bridge","bridge":"br-lan"}"#;
    let file = cni::ConfigFile { name: "10-bed.conf".to_owned(), text: bridge.to_owned(), after_join: Some(true) };
    facts.cni = vec![file.clone()];
    let begun = begin(&facts, "2026-01-01T00:00:00Z");
    assert!(begun.networks.contains("10-bed.conf") && begun.bridges.contains("br-lan"), "{begun:?}");
    // The time of the join is gone with kubelet's files.
    facts.cni = vec![cni::ConfigFile { after_join: None, ..file }];
    facts.traces.begun = true;
    facts.begun = Some(begun.clone());
    let actions = plan(&facts, Wishes::default());
    assert!(has(&actions, "file /etc/cni/net.d/10-bed.conf") && has(&actions, "link br-lan"), "{actions:#?}");
    assert!(!actions.contains(&Action::Forget), "it is needed still: {actions:#?}");
    assert_eq!(begin(&facts, "later").at, begun.at);
    let read: Begun = serde_json::from_str(&serde_json::to_string(&begun).unwrap()).unwrap();
    assert_eq!(read, begun);
}

#[test]
fn a_machine_that_is_clean_needs_nothing() {
    let facts = Facts {
        traces: traces::Traces { begun: true, ..traces::Traces::default() },
        begun: Some(Begun::default()),
        kubeadm: true,
        mounts: mounts::parse(b"30 21 254:16 / /var/lib/kubelet rw - ext4 /dev/vdb rw\n").unwrap(),
        ..Facts::default()
    };
    assert_eq!(plan(&facts, Wishes::default()), [Action::Forget]);
}

#[test]
fn a_report_names_what_is_left() {
    let mut report = Report::new(Some("w1".to_owned()), Standing::Member);
    assert!(report.failure().is_none());
    report.left.push(Left { object: "mount /x".to_owned(), why: "busy: 12 (sleep)".to_owned() });
    let failure = report.failure().unwrap();
    assert_eq!(failure.code, crate::failure::Code::LeaveIncomplete);
    assert!(failure.what.contains("mount /x: busy: 12 (sleep)"), "{}", failure.what);
    assert!(report.text(false).contains("left      mount /x: busy"));
}
