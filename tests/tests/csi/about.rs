//! What the plugin says of itself, its node and its volumes.

use std::os::unix::fs::PermissionsExt as _;

use cks_tests::csi::proto::node_service_capability::rpc::Type as Rpc;
use cks_tests::csi::proto::plugin_capability::service::Type as Service;
use cks_tests::csi::proto::plugin_capability::volume_expansion::Type as Expansion;
use cks_tests::csi::proto::{
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest, ProbeRequest,
    node_service_capability, plugin_capability,
};
use cks_tests::csi::{Bed, DRIVER, Kind, Options};
use cks_tests::process::{Command, Output};
use serde_json::Value;
use tonic::Code;

use crate::scene::{Scene, refused};

/// `cks-agent volumes`.
fn volumes(scene: &Scene, arguments: &[&str]) -> Output {
    let program = cks_tests::programs::built("cks-agent").unwrap();
    scene.bed.enter(Command::new(program).arg("volumes").args(arguments)).output().unwrap()
}

fn metrics(scene: &Scene) -> String {
    scene.bed.sh("curl --silent --fail --unix-socket /run/cks-agent/status.sock http://localhost/metrics").unwrap()
}

#[test]
fn the_plugin_tells_its_name_and_version() {
    let scene = Scene::new();
    let told = scene.client.plugin_info(GetPluginInfoRequest {}).unwrap();
    assert_eq!(told.name, DRIVER);
    assert!(told.vendor_version.starts_with(|first: char| first.is_ascii_digit()), "{told:?}");
}

#[test]
fn the_plugins_capabilities_are_those_of_the_whole_deployment() {
    let scene = Scene::new();
    let told = scene.client.plugin_capabilities(GetPluginCapabilitiesRequest {}).unwrap();
    let types: Vec<_> = told.capabilities.into_iter().filter_map(|one| one.r#type).collect();
    let service =
        |service: Service| plugin_capability::Type::Service(plugin_capability::Service { r#type: service.into() });
    let expansion = plugin_capability::VolumeExpansion { r#type: Expansion::Online.into() };
    for wanted in [
        service(Service::ControllerService),
        service(Service::VolumeAccessibilityConstraints),
        plugin_capability::Type::VolumeExpansion(expansion),
    ] {
        assert!(types.contains(&wanted), "{types:?}");
    }
    assert_eq!(types.len(), 3);
}

#[test]
fn the_nodes_capabilities_are_what_it_serves() {
    let scene = Scene::new();
    let told = scene.client.node_capabilities(NodeGetCapabilitiesRequest {}).unwrap();
    let mut types: Vec<i32> = told
        .capabilities
        .into_iter()
        .filter_map(|one| one.r#type)
        .map(|node_service_capability::Type::Rpc(rpc)| rpc.r#type)
        .collect();
    types.sort_unstable();
    let wanted = [
        Rpc::StageUnstageVolume,
        Rpc::GetVolumeStats,
        Rpc::ExpandVolume,
        Rpc::VolumeCondition,
        Rpc::SingleNodeMultiWriter,
    ];
    assert_eq!(types, wanted.map(i32::from));
}

#[test]
fn the_node_tells_its_id_zone_and_how_many_disks_it_may_have() {
    let scene = Scene::with(&Options { config: "max-volumes = 16\n".to_owned(), ..Options::default() });
    let Options { node_id, zone, .. } = scene.bed.options().clone();
    let told = scene.client.node_info(NodeGetInfoRequest {}).unwrap();
    let segments = told.accessible_topology.unwrap().segments;
    assert_eq!((told.node_id, segments.len()), (node_id, 1));
    assert_eq!(segments["topology.csi.cloudstack.apache.org/zone"], zone);
    assert!((1..=16).contains(&told.max_volumes_per_node), "{}", told.max_volumes_per_node);
}

#[test]
fn a_node_that_does_not_know_its_zone_says_what_to_set() {
    let scene = Scene::new();
    scene.bed.sh("sed -i '/^zone/d' /etc/cks-agent/config.toml").unwrap();
    scene.bed.restart().unwrap();
    let why = refused(scene.client.node_info(NodeGetInfoRequest {}), Code::FailedPrecondition, "NODE_NOT_READY");
    assert!(why.contains("csi.zone") && why.contains("config.toml"), "{why}");
}

#[test]
fn volumes_do_not_lessen_how_many_the_node_may_have() {
    let scene = Scene::new();
    let told = || scene.client.node_info(NodeGetInfoRequest {}).unwrap().max_volumes_per_node;
    let before = told();
    let _disk = scene.published();
    assert_eq!(told(), before);
}

#[test]
fn a_node_without_mkfs_is_not_ready_and_says_what_it_lacks() {
    let scene = Scene::new();
    assert_eq!(scene.client.probe(ProbeRequest {}).unwrap().ready, Some(true));
    scene.bed.sh("mount --bind /dev/null /usr/sbin/mke2fs").unwrap();
    let why = refused(scene.client.probe(ProbeRequest {}), Code::FailedPrecondition, "NODE_NOT_READY");
    assert!(why.contains("mkfs.ext4"), "{why}");
    scene.bed.sh("umount /usr/sbin/mke2fs").unwrap();
    scene.client.probe(ProbeRequest {}).unwrap();
}

#[test]
fn the_socket_is_for_root_alone() {
    let scene = Scene::new();
    let mode = std::fs::metadata(scene.bed.path(Bed::socket())).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn volumes_are_listed_with_their_disks_and_places() {
    for kind in [Kind::filesystem("ext4"), Kind::filesystem("btrfs")] {
        let scene = Scene::of(kind.clone());
        assert_eq!(volumes(&scene, &[]).stdout, "no volume is mounted\n");
        let disk = scene.published();
        scene.client.publish(scene.bed.publish(&disk, 2).unwrap()).unwrap();
        let said = volumes(&scene, &[]);
        let (staging, first, second) = (
            scene.bed.staging(&disk).unwrap(),
            scene.bed.target(&disk, 1).unwrap(),
            scene.bed.target(&disk, 2).unwrap(),
        );
        assert_eq!(said.code, 0, "{}", said.stdout);
        for shown in [&disk.volume_id, disk.name(), disk.serial().unwrap(), &staging, &first, &second] {
            assert!(said.stdout.contains(shown), "{shown}: {}", said.stdout);
        }
        let document: Value = serde_json::from_str(&volumes(&scene, &["--json"]).stdout).unwrap();
        let [volume] = &document["volumes"].as_array().unwrap()[..] else { panic!("{document}") };
        assert_eq!((&volume["volume"], &volume["disk"]), (&disk.volume_id.as_str().into(), &disk.name().into()));
        assert_eq!(volume["staged"], serde_json::json!([staging]));
        assert_eq!(volume["published"].as_array().unwrap().len(), 2);
        assert!(volume["wrong"].is_null(), "{document}");
    }
}

#[test]
fn a_block_volume_is_listed_by_what_kubelet_wrote_down() {
    let scene = Scene::of(Kind::Block);
    let disk = scene.published();
    // kubelet's `volumeDevices/PV/data/vol_data.json`.
    let data = format!("/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/pvc-{}/data", disk.volume_id);
    let note = serde_json::json!({ "driverName": DRIVER, "volumeHandle": disk.volume_id });
    scene.bed.sh(&format!("mkdir -p {data} && echo '{note}' > {data}/vol_data.json")).unwrap();
    let document: Value = serde_json::from_str(&volumes(&scene, &["--json"]).stdout).unwrap();
    let volume = &document["volumes"][0];
    assert_eq!(volume["filesystem"], "block", "{document}");
    assert_eq!(volume["published"], serde_json::json!([scene.bed.target(&disk, 1).unwrap()]));
    assert!(volume["wrong"].is_null());
}

#[test]
fn a_volume_on_another_disk_is_told_and_not_repaired() {
    let scene = Scene::new();
    let (disk, other) = (scene.blank(), scene.blank());
    let staging = scene.bed.staging(&disk).unwrap();
    scene.on(&other, &format!("mkfs.ext4 -q $d && mount $d {staging}"));
    let before = scene.bed.mounts().unwrap();
    let said = volumes(&scene, &[]);
    assert_eq!(said.code, 1, "{}", said.stdout);
    let wrong = said.stdout.lines().find(|line| line.contains("WRONG")).unwrap();
    assert!(wrong.contains(disk.serial().unwrap()) && wrong.contains(other.serial().unwrap()), "{wrong}");
    let document: Value = serde_json::from_str(&volumes(&scene, &["--json"]).stdout).unwrap();
    assert!(document["volumes"][0]["wrong"].as_str().unwrap().contains(other.serial().unwrap()));
    assert!(metrics(&scene).contains(&format!("cks_agent_volume_wrong{{volume=\"{}\"}} 1", disk.volume_id)));
    // A daemon that starts says so, too, and leaves it.
    scene.bed.restart().unwrap();
    scene.logged(&format!("the volume {} is mounted wrongly", disk.volume_id));
    assert_eq!(scene.bed.mounts().unwrap(), before);
}

#[test]
fn a_volume_whose_disk_is_gone_is_told() {
    let scene = Scene::new();
    let mut disk = scene.staged();
    disk.detach().unwrap();
    let said = volumes(&scene, &[]);
    assert!(said.code == 1 && said.stdout.contains("its disk is gone"), "{}", said.stdout);
}

#[test]
fn mounts_of_other_drivers_are_nobodys_volumes() {
    let scene = Scene::new();
    let disk = scene.blank();
    let staging = scene.bed.staging(&disk).unwrap();
    scene.on(
        &disk,
        &format!(
            "sed -i s/{DRIVER}/other.example/ $(dirname {staging})/vol_data.json; mkfs.ext4 -q $d && mount $d {staging}"
        ),
    );
    assert_eq!(volumes(&scene, &[]).stdout, "no volume is mounted\n");
}

#[test]
fn calls_are_counted_by_how_they_ended() {
    let scene = Scene::new();
    let disk = scene.published();
    let mut wrong = scene.bed.stage(&disk).unwrap();
    wrong.volume_id = "fake".to_owned();
    for _ in 0..3 {
        scene.client.stage(wrong.clone()).unwrap_err();
    }
    let counted = metrics(&scene);
    for line in [
        "cks_agent_csi_calls_total{rpc=\"NodeStageVolume\",ended=\"OK\"} 1",
        "cks_agent_csi_calls_total{rpc=\"NodePublishVolume\",ended=\"OK\"} 1",
        "cks_agent_csi_calls_total{rpc=\"NodeStageVolume\",ended=\"VOLUME_NOT_FOUND\"} 3",
    ] {
        assert!(counted.contains(line), "{line}\n{counted}");
    }
    assert!(counted.contains(&disk.volume_id));
}

#[test]
fn a_refusal_is_one_line_of_the_log_with_its_class_and_the_volume() {
    let scene = Scene::new();
    let disk = scene.blank();
    scene.put(&disk, 4096, b"money");
    let why = scene.refuses_to_stage(&disk, Code::FailedPrecondition, "DISK_NOT_BLANK");
    scene.logged("DISK_NOT_BLANK");
    let log = scene.bed.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("DISK_NOT_BLANK")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(line.contains(&disk.volume_id) && line.contains("NodeStageVolume") && line.contains(&why), "{line}");
    assert!(why.contains("; remedy: "), "{why}");
}
