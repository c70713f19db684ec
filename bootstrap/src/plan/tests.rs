//! Long for being one bundle and one listing, which each test changes in a line or two.

use std::collections::BTreeMap;

use super::*;
use crate::bundle::{Arch, Blob, Component, Entry, Kind, Manifest, Member, Node, Role, SCHEMA, layout};
use crate::digest::Digest;
use crate::node_spec::NodeSpec;
use crate::render::kubeadm::CgroupDriver;

fn entry(path: &str, members: &[(&str, u32)]) -> Entry {
    let kind = layout::kind_of(path);
    Entry {
        path: path.to_owned(),
        size: 1000,
        sha256: Some(Digest::of(path.as_bytes())),
        kind,
        roles: layout::roles_of(kind),
        members: members
            .iter()
            .map(|(path, mode)| Member {
                path: (*path).to_owned(),
                size: 10,
                mode: *mode,
                sha256: Digest::of(path.as_bytes()),
            })
            .collect(),
    }
}

fn blob(text: &str, offset: u64) -> Blob {
    let at = Place::Range { path: "docker/images.tar".to_owned(), offset };
    Blob {
        digest: Digest::of(text.as_bytes()),
        size: 100,
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        unpacked: None,
        at,
    }
}

fn image(reference: &str, layers: &[&str]) -> Image {
    Image {
        reference: reference.to_owned(),
        digest: Digest::of(format!("{reference} manifest").as_bytes()),
        config: Digest::of(format!("{reference} config").as_bytes()),
        layers: layers.iter().map(|layer| Digest::of(layer.as_bytes())).collect(),
        diff_ids: layers.iter().map(|layer| Digest::of(layer.as_bytes())).collect(),
        roles: layout::roles_of_image(reference),
        critical: layout::is_critical(reference),
    }
}

fn bundle() -> Bundle {
    let images = vec![
        image("registry.k8s.io/kube-apiserver:v1.33.1", &["base", "api"]),
        image("registry.k8s.io/kube-proxy:v1.33.1", &["base", "proxy"]),
        image("registry.k8s.io/pause:3.10", &["pause"]),
    ];
    let names = images
        .iter()
        .flat_map(|image| [format!("{} manifest", image.reference), format!("{} config", image.reference)]);
    let names: Vec<String> = names.chain(["base", "api", "proxy", "pause"].map(str::to_owned)).collect();
    let mut blobs: Vec<Blob> = names.iter().zip(0..).map(|(name, at)| blob(name, at * 100)).collect();
    blobs.sort_by_key(|blob| blob.digest);
    let manifest = Manifest {
        schema: SCHEMA,
        name: "test".to_owned(),
        kubernetes: Some("v1.33.1".to_owned()),
        arch: Arch::Amd64,
        components: vec![Component { name: "etcd".to_owned(), version: "3.5".to_owned() }],
        sandbox_image: Some("registry.k8s.io/pause:3.10".to_owned()),
        node: Node::default(),
        entries: vec![
            entry("10-kubeadm.conf", &[]),
            entry("cni/cni-plugins-linux-amd64.tgz", &[("bridge", 0o755), ("LICENSE", 0o644)]),
            entry("cri-tools/crictl-linux-amd64.tar.gz", &[("crictl", 0o755)]),
            entry("docker/images.tar", &[]),
            entry("etcd/etcd-linux-amd64.tar.gz", &[("e/etcd", 0o755), ("e/etcdctl", 0o755), ("e/README.md", 0o644)]),
            entry("k8s/kubelet", &[]),
            entry("kubelet.service", &[]),
            entry("network.yaml", &[]),
        ],
        images,
        blobs,
    };
    Bundle { id: Digest::of(b"bundle"), manifest, text: "bundle".to_owned(), derived: false, signature: None }
}

fn spec(role: Role) -> NodeSpec {
    NodeSpec::new(role, "n1", None, None).unwrap()
}

fn planned(role: Role, facts: &Facts) -> Plan {
    let bundle = bundle();
    plan(&Wanted::of(&spec(role), &bundle, CgroupDriver::Systemd).unwrap(), &bundle, facts).unwrap()
}

/// The machine after `plan` was carried out.
fn carried_out(role: Role) -> Facts {
    let bundle = bundle();
    let wanted = Wanted::of(&spec(role), &bundle, CgroupDriver::Systemd).unwrap();
    let mut facts = Facts::empty(Arch::Amd64);
    facts.texts.insert(bundle.record_path(), bundle.text.clone());
    for file in &wanted.files {
        facts.files.insert(file.path.clone(), FileFact { sha256: file.sha256.unwrap(), mode: file.mode });
    }
    for (path, source) in &wanted.units {
        facts.texts.insert(source.clone(), "ExecStart=/usr/bin/kubelet\n".to_owned());
        facts.texts.insert(path.clone(), "ExecStart=/opt/bin/kubelet\n".to_owned());
    }
    facts.links = wanted.links.clone();
    facts.links.insert(CURRENT.to_owned(), bundle.directory_name());
    for image in &wanted.images {
        let there = ImageFact { digest: image.digest, labels: image_labels(&bundle), unpacked: true };
        facts.images.insert(image.reference.clone(), there);
    }
    for step in planned(role, &facts).steps {
        let Step::WriteFile { path, text } = step else { panic!("{step} is left") };
        facts.texts.insert(path, text);
    }
    facts
}

#[test]
fn an_etcd_node_takes_its_tarball_and_nothing_else() {
    let plan = planned(Role::Etcd, &Facts::empty(Arch::Amd64));
    let fetched: Vec<_> = plan.steps.iter().filter(|step| step.fetches()).map(Step::object).collect();
    assert_eq!(fetched, ["etcd/etcd-linux-amd64.tar.gz"]);
    assert!(plan.steps.iter().any(|step| step.object() == "/etc/systemd/system/etcd.service"));
    assert_eq!(plan.warnings[0].code, "ETCD_LOOPBACK");
}

#[test]
fn a_worker_leaves_control_plane_images_out_and_links_lead_through_current() {
    let plan = planned(Role::Worker, &Facts::empty(Arch::Amd64));
    let images: Vec<_> =
        plan.steps.iter().filter(|step| matches!(step, Step::ImportImage { .. })).map(Step::object).collect();
    assert_eq!(images, ["registry.k8s.io/kube-proxy:v1.33.1", "registry.k8s.io/pause:3.10"], "the largest first");
    let links: BTreeMap<_, _> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Link { path, target } => Some((path.as_str(), target.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(links[CURRENT], bundle().directory_name());
    assert_eq!(links["/opt/bin/kubelet"], "../cks/current/bin/kubelet");
    assert_eq!(links["/opt/cni/bin/bridge"], "../../cks/current/cni/bridge");
    assert!(!links.contains_key("/opt/cni/bin/LICENSE"));
}

#[test]
fn images_come_by_who_waits_for_them_then_the_largest_first() {
    let (mut bundle, mut facts) = (bundle(), Facts::empty(Arch::Amd64));
    bundle.manifest.images.push(image("quay.io/example/large:1", &["base", "api", "proxy"]));
    bundle.manifest.images.push(image("quay.io/example/small:1", &["api"]));
    let order = |facts: &Facts| -> Vec<(String, bool, usize)> {
        let plan =
            plan(&Wanted::of(&spec(Role::ControlPlane), &bundle, CgroupDriver::Systemd).unwrap(), &bundle, facts)
                .unwrap();
        let steps = plan.steps.into_iter().filter_map(|step| match step {
            Step::ImportImage { reference, critical, missing, .. } => Some((reference, critical, missing.len())),
            _ => None,
        });
        steps.collect()
    };
    let all = order(&facts);
    let names: Vec<&str> = all.iter().map(|(name, _, _)| name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names[3..], ["large:1", "small:1"], "{names:?}");
    assert_eq!(all.iter().map(|(_, critical, _)| *critical).collect::<Vec<_>>(), [true, true, true, false, false]);
    // One that is unpacked needs its records only.
    let large = bundle.manifest.images.iter().find(|image| image.reference.contains("large")).unwrap();
    let fact = ImageFact { digest: large.digest, labels: BTreeMap::new(), unpacked: true };
    facts.images.insert(large.reference.clone(), fact);
    let missing = order(&facts).into_iter().find(|(name, ..)| name.contains("large")).unwrap().2;
    assert_eq!(missing, 2);
}

#[test]
fn nothing_goes_live_before_what_it_needs_and_the_rest_comes_later() {
    let mut bundle = bundle();
    for reference in ["quay.io/example/app:v1", "quay.io/example/large:v1"] {
        bundle.manifest.images.push(image(reference, &["base", reference]));
        let names = [format!("{reference} manifest"), format!("{reference} config"), reference.to_owned()];
        bundle.manifest.blobs.extend(names.iter().map(|name| blob(name, 5000)));
    }
    bundle.manifest.blobs.sort_by_key(|blob| blob.digest);
    let large = |blob: &&mut Blob| blob.digest == Digest::of(b"quay.io/example/large:v1");
    bundle.manifest.blobs.iter_mut().find(large).unwrap().size = 5000;
    let wanted = Wanted::of(&spec(Role::ControlPlane), &bundle, CgroupDriver::Systemd).unwrap();
    let steps = plan(&wanted, &bundle, &Facts::empty(Arch::Amd64)).unwrap().steps;
    assert!(steps.is_sorted_by_key(Step::wave), "{steps:?}");
    let of = |wave| steps.iter().filter(move |step| step.wave() == wave);
    for wave in [Wave::First, Wave::Rest] {
        let dear = of(wave).map(|step| (matches!(step, Step::ImportImage { .. }), step.bytes()));
        assert!(dear.is_sorted_by(|one, next| one >= next), "images first, of each the largest");
    }
    assert!(of(Wave::Rest).map(Step::object).eq(["quay.io/example/large:v1", "quay.io/example/app:v1"]), "{steps:?}");
    let last = of(Wave::Live).next_back().unwrap().object();
    assert_eq!(last, "/etc/systemd/system/multi-user.target.wants/kubelet.service");
}

/// What a name of `/opt/bin` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leads {
    Version(String),
    Copy,
    Nowhere,
}

/// Wherever the steps break off, the programs that work are of one version: the one before the switch or
/// the one after it. Only copies that no version made may stand beside the new one until they are replaced.
#[test]
fn wherever_it_breaks_off_one_version_is_in_use() {
    let new = bundle().directory_name();
    let has = |version: &str, name: &str| match version {
        "old" => ["kubelet", "kubeadm-old"].contains(&name),
        _ => ["kubelet", "crictl"].contains(&name),
    };
    for before in [Some("old"), None] {
        let mut links = BTreeMap::new();
        let mut facts = carried_out(Role::Worker);
        facts.links.clear();
        if let Some(before) = before {
            for name in ["kubelet", "kubeadm-old"] {
                links.insert(format!("/opt/bin/{name}"), format!("../cks/current/bin/{name}"));
            }
            links.insert(CURRENT.to_owned(), before.to_owned());
            facts.links = links.clone();
            facts.stale_links.insert("/opt/bin/kubeadm-old".to_owned());
        } else {
            // Copies of a stock script: they work until the version is there.
            facts.until_switch = ["/opt/bin/kubelet", "/opt/bin/crictl"].map(str::to_owned).into();
        }
        let leads = |links: &BTreeMap<String, String>, name: &str| match links.get(&format!("/opt/bin/{name}")) {
            None if before.is_none() => Leads::Copy,
            None => Leads::Nowhere,
            Some(_) => match links.get(CURRENT) {
                Some(version) if has(version, name) => Leads::Version(version.clone()),
                _ => Leads::Nowhere,
            },
        };
        let plan = planned(Role::Worker, &facts);
        for step in &plan.steps {
            match step {
                Step::Link { path, target } => drop(links.insert(path.clone(), target.clone())),
                Step::Unlink { path } => drop(links.remove(path)),
                step => panic!("{step}"),
            }
            let switched = links.get(CURRENT) == Some(&new);
            let kubelet = leads(&links, "kubelet");
            match (before, switched) {
                (Some(old), false) => {
                    assert_eq!(kubelet, Leads::Version(old.to_owned()), "{step}");
                    assert_eq!(leads(&links, "kubeadm-old"), Leads::Version(old.to_owned()), "{step}");
                }
                (Some(_), true) => {
                    let now = Leads::Version(new.clone());
                    assert_eq!([kubelet, leads(&links, "crictl")], [now.clone(), now], "{step}");
                }
                (None, false) => assert_eq!([kubelet, leads(&links, "crictl")], [Leads::Copy, Leads::Copy], "{step}"),
                (None, true) => assert_ne!(kubelet, Leads::Nowhere, "{step}"),
            }
        }
        assert_eq!(leads(&links, "kubelet"), Leads::Version(new.clone()));
        assert!(!links.contains_key("/opt/bin/kubeadm-old"));
    }
}

#[test]
fn a_finished_node_has_an_empty_plan() {
    for role in Role::ALL {
        let plan = planned(role, &carried_out(role));
        assert_eq!(plan.steps, [], "{role}");
    }
}

#[test]
fn each_thing_that_is_lost_is_done_again_and_nothing_more() {
    let whole = carried_out(Role::Worker);
    let directory = bundle().directory();
    let mut facts = whole.clone();
    facts.files.get_mut(&format!("{directory}/cni/bridge")).unwrap().mode = 0o644;
    assert_eq!(planned(Role::Worker, &facts).steps.len(), 1);
    let mut facts = whole.clone();
    facts.images.get_mut("registry.k8s.io/pause:3.10").unwrap().labels.clear();
    facts.blobs = bundle().manifest.blobs.iter().map(|blob| blob.digest).collect();
    let plan = planned(Role::Worker, &facts);
    assert_eq!((plan.steps.len(), plan.bytes()), (1, 0));
    let mut facts = whole;
    facts.links.insert("/opt/bin/kubelet".to_owned(), "../cks/v1.32.0-old/bin/kubelet".to_owned());
    assert_eq!(planned(Role::Worker, &facts).steps.len(), 1);
    facts.links.insert(CURRENT.to_owned(), "v1.32.0-old".to_owned());
    facts.stale_links.insert("/opt/bin/old".to_owned());
    let steps: Vec<_> = planned(Role::Worker, &facts).steps.iter().map(ToString::to_string).collect();
    let switch = format!("link {CURRENT} to {}", bundle().directory_name());
    assert_eq!(steps, ["link /opt/bin/kubelet to ../cks/current/bin/kubelet", &switch, "remove link /opt/bin/old"]);
}

#[test]
fn a_blob_that_two_images_share_is_fetched_once() {
    let plan = planned(Role::ControlPlane, &Facts::empty(Arch::Amd64));
    let base = Digest::of(b"base");
    let fetchers =
        plan.steps.iter().filter(|step| matches!(step, Step::ImportImage { missing, .. } if missing.contains(&base)));
    assert_eq!(fetchers.count(), 1);
}

#[test]
fn machines_that_can_not_are_refused_before_anything_is_written() {
    let bundle = bundle();
    let wanted = Wanted::of(&spec(Role::Worker), &bundle, CgroupDriver::Systemd).unwrap();
    let refused = |facts: &Facts| plan(&wanted, &bundle, facts).unwrap_err();
    assert_eq!(refused(&Facts::empty(Arch::Arm64)).code, Code::ArchMismatch);
    let mut facts = Facts::empty(Arch::Amd64);
    facts.filesystem = Some(Filesystem { path: "/opt".to_owned(), device: 1, free_bytes: space::SPARE_BYTES });
    let failure = refused(&facts);
    assert_eq!(failure.code, Code::NoSpace);
    assert!(failure.what.contains("/opt has 32 MiB free, this plan needs 33 MiB"), "{}", failure.what);
    assert!(failure.remedy().contains("free 1 MiB on /opt"), "{}", failure.remedy());
}

#[test]
fn each_filesystem_is_counted_by_itself_and_shared_ones_together() {
    let mut bundle = bundle();
    // Blocks of 4 KiB: tarballs 2, members 2, files 3; blobs of two images 7, all of them called layers here.
    for blob in bundle.manifest.blobs.iter_mut().filter(|blob| blob.digest == Digest::of(b"pause")) {
        blob.unpacked = Some(64 << 10);
    }
    let wanted = Wanted::of(&spec(Role::Worker), &bundle, CgroupDriver::Systemd).unwrap();
    let (files, content, layers) = (7 * 4096, 7 * 4096, 68 * 1024 + 6 * 4096);
    let on = |device, bytes: u64| {
        Some(Filesystem { path: format!("/{device}"), device, free_bytes: space::SPARE_BYTES + bytes })
    };
    let fits = |facts: &Facts| plan(&wanted, &bundle, facts).map(drop).map_err(|failure| failure.what);
    let mut facts = Facts::empty(Arch::Amd64);
    (facts.filesystem, facts.content_filesystem, facts.snapshot_filesystem) =
        (on(1, files), on(2, content), on(3, layers));
    assert_eq!(fits(&facts), Ok(()));
    for device in 1..=3 {
        let mut facts = facts.clone();
        let all = [&mut facts.filesystem, &mut facts.content_filesystem, &mut facts.snapshot_filesystem];
        let of = all.into_iter().flatten().find(|filesystem| filesystem.device == device).unwrap();
        of.free_bytes -= 1;
        assert!(fits(&facts).unwrap_err().starts_with(&format!("/{device} has 32 MiB free")));
    }
    let all = files + content + layers;
    for (free, fit) in [(all, true), (all - 1, false)] {
        (facts.filesystem, facts.content_filesystem, facts.snapshot_filesystem) =
            (on(1, free), on(1, free), on(1, free));
        assert_eq!(fits(&facts).is_ok(), fit);
    }
    facts.kept_bytes = 1000;
    assert_eq!(fits(&facts), Ok(()), "what was fetched already is not needed again");
    (facts.kept_bytes, facts.begun_bytes) = (0, 1);
    assert_eq!(fits(&facts), Ok(()), "nor is half of a blob");
}

#[test]
fn bundles_that_lack_what_the_role_needs_are_refused() {
    let without = |kind: Kind| {
        let mut bundle = bundle();
        bundle.manifest.entries.retain(|entry| entry.kind != kind);
        bundle
    };
    let refused = |role, bundle: &Bundle| Wanted::of(&spec(role), bundle, CgroupDriver::Systemd).unwrap_err().code;
    assert_eq!(refused(Role::Etcd, &without(Kind::Etcd)), Code::MediaLacksEtcd);
    assert_eq!(refused(Role::Worker, &without(Kind::Kubernetes)), Code::MediaLacksComponent);
    let fits = |bundle: &Bundle, arch, role| check_fit(bundle, arch, role).map_err(|failure| failure.code);
    assert_eq!(fits(&without(Kind::Etcd), Arch::Amd64, Some(Role::Etcd)), Err(Code::MediaLacksEtcd));
    assert_eq!(fits(&without(Kind::Etcd), Arch::Amd64, Some(Role::Worker)), Ok(()));
    assert_eq!(fits(&without(Kind::Etcd), Arch::Amd64, None), Ok(()));
    assert_eq!(fits(&bundle(), Arch::Arm64, None), Err(Code::ArchMismatch));
    let mut none = without(Kind::Kubernetes);
    none.manifest.kubernetes = None;
    let wanted = Wanted::of(&spec(Role::Worker), &none, CgroupDriver::Systemd).unwrap();
    assert_eq!(wanted.warnings, [], "a bundle that is meant to be without");
    none.derived = true;
    let wanted = Wanted::of(&spec(Role::Worker), &none, CgroupDriver::Systemd).unwrap();
    assert_eq!(wanted.warnings[0].code, "NO_KUBERNETES");
}

#[test]
fn a_foreign_containerd_config_is_imported_and_only_one_that_breaks_it_is_set_aside() {
    use render::containerd::{CONFIG, MAIN, SET_ASIDE};
    let gpu = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\n";
    for (text, code) in [
        ("version = 2\nroot = \"/data\"\n", None),
        (gpu, Some("CONTAINERD_SECTION_REPLACED")),
        ("disabled_plugins = [\"cri\"]\n", Some("CONTAINERD_CONFIG_SET_ASIDE")),
    ] {
        let mut facts = Facts::empty(Arch::Amd64);
        facts.texts.insert(MAIN.to_owned(), text.to_owned());
        let plan = planned(Role::Worker, &facts);
        let objects: Vec<&str> = plan.steps.iter().map(Step::object).collect();
        assert!(objects.contains(&CONFIG), "{objects:?}");
        assert_eq!(plan.warnings.iter().map(|warning| warning.code.as_str()).find(|c| c.starts_with("CONT")), code);
        let at = |path| objects.iter().position(|object| *object == path);
        match code {
            Some("CONTAINERD_CONFIG_SET_ASIDE") => assert!(at(SET_ASIDE).unwrap() < at(MAIN).unwrap()),
            _ => assert_eq!((at(SET_ASIDE), at(MAIN)), (None, None)),
        }
    }
}

#[test]
fn containerd_is_told_the_cgroup_driver_of_the_machine() {
    for (driver, line) in
        [(CgroupDriver::Systemd, "SystemdCgroup = true\n"), (CgroupDriver::Cgroupfs, "SystemdCgroup = false\n")]
    {
        let (bundle, facts) = (bundle(), Facts::empty(Arch::Amd64));
        let plan = plan(&Wanted::of(&spec(Role::Worker), &bundle, driver).unwrap(), &bundle, &facts).unwrap();
        let written = plan.steps.iter().find_map(|step| match step {
            Step::WriteFile { path, text } if path == render::containerd::DROP_IN => Some(text),
            _ => None,
        });
        assert!(written.unwrap().contains(line), "{driver:?}");
    }
}

#[test]
fn the_bundles_kernel_settings_come_after_our_own() {
    let mut bundle = bundle();
    let text = |bundle: &Bundle| {
        let wanted = Wanted::of(&spec(Role::Worker), bundle, CgroupDriver::Systemd).unwrap();
        wanted.texts["/etc/sysctl.d/90-cks.conf"].clone()
    };
    let plain = text(&bundle);
    assert!(plain.ends_with("net.ipv4.conf.all.arp_ignore = 0\n"), "{plain}");
    bundle.manifest.node.sysctl.insert("net.ipv4.conf.all.rp_filter".to_owned(), "0".to_owned());
    assert_eq!(text(&bundle), format!("{plain}# Of the bundle.\nnet.ipv4.conf.all.rp_filter = 0\n"));
}
