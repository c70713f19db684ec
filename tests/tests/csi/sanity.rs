//! csi-sanity of kubernetes-csi at the agent's socket: every spec of the Identity and the Node service, none skipped.
//!
//! `CKS_SANITY_RUNS=20` runs each that often.

use std::fs;

use cks_tests::csi::{Bed, Controller, KUBELET, Kind, Options};
use cks_tests::process::{Command, Output};
use cks_tests::programs;
use serde_json::Value;

/// Specs of the Node service in the pinned version, and of the Identity service, which runs against both endpoints.
const NODE: usize = 24;
const IDENTITY: usize = 3;

#[expect(clippy::disallowed_methods, reason = "a person asks for more")]
fn runs() -> usize {
    std::env::var("CKS_SANITY_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3)
}

/// What became of a spec: its name, and why it did not pass.
type Spec = (String, Option<String>);

/// Runs the specs that `focus` matches.
fn sanity(bed: &Bed, controller: &Controller, focus: &str, access: &str) -> (Output, Vec<Spec>) {
    let program = programs::pinned_built("csi-sanity", None).unwrap().join("csi-sanity");
    let report = bed.directory_for_all().join("report.json");
    for directory in ["pods", "plugins/kubernetes.io/csi"] {
        bed.directory(&format!("{KUBELET}/{directory}")).unwrap();
    }
    let command = Command::new(program)
        .arg(format!("--csi.endpoint=unix://{}", Bed::socket()))
        .arg(format!("--csi.controllerendpoint=unix://{}", controller.socket().display()))
        .arg(format!("--csi.mountdir={KUBELET}/pods/mount"))
        .arg(format!("--csi.stagingdir={KUBELET}/plugins/kubernetes.io/csi/staging"))
        .arg(format!("--csi.testvolumeaccesstype={access}"))
        .args(["--csi.testvolumesize=1073741824", "--csi.testvolumeexpandsize=2147483648", "--ginkgo.no-color"])
        .arg(format!("--ginkgo.focus={focus}"))
        .arg(format!("--ginkgo.json-report={}", report.display()));
    let output = bed.enter(command).output().unwrap();
    let report: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    (output, specs(&report, focus))
}

/// The focused specs of a report.
fn specs(report: &Value, focus: &str) -> Vec<Spec> {
    let suites = report.as_array().into_iter().flatten();
    let specs = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    let named = specs.filter(|spec| spec["LeafNodeType"] == "It").map(|spec| {
        let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
        let words = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str);
        let name = words.collect::<Vec<_>>().join(" ");
        let passed = spec["State"] == "passed";
        (name, (!passed).then(|| format!("{}: {}", spec["State"], spec["Failure"]["Message"])))
    });
    named.filter(|(name, _)| focus.split('|').any(|service| name.contains(service))).collect()
}

#[track_caller]
fn passes(kind: Kind) {
    let access = if kind == Kind::Block { "block" } else { "mount" };
    let bed = Bed::start(&Options { kind, ..Options::default() }).unwrap();
    let controller = bed.controller().unwrap();
    let before = bed.mounts().unwrap();
    for run in 1..=runs() {
        let (output, specs) = sanity(&bed, &controller, "Identity Service|Node Service", access);
        let bad: Vec<_> = specs.iter().filter(|(_, why)| why.is_some()).collect();
        let said = || format!("run {run}: {bad:#?}\n{}\n{}", output.stdout, bed.log());
        assert!(bad.is_empty() && output.code == 0, "{}", said());
        let of = |service: &str| specs.iter().filter(|(name, _)| name.contains(service)).count();
        assert_eq!((of("Identity Service"), of("Node Service")), (IDENTITY, NODE), "{}", said());
        assert_eq!(bed.mounts().unwrap(), before, "run {run}");
    }
    // csi-sanity names no filesystem: what it ran on is the daemon's default.
    let mut disk = bed.disk(1 << 30).unwrap();
    if let Kind::Filesystem(kind) = std::mem::replace(&mut disk.kind, Kind::filesystem("")) {
        bed.client().unwrap().stage(bed.stage(&disk).unwrap()).unwrap();
        let mounts = bed.mounts_of(&disk).unwrap();
        assert_eq!(mounts.iter().map(|mount| &mount.filesystem).collect::<Vec<_>>(), [&kind]);
    }
}

#[test]
fn all_specs_pass_on_ext4() {
    passes(Kind::filesystem("ext4"));
}

#[test]
fn all_specs_pass_on_xfs() {
    passes(Kind::filesystem("xfs"));
}

#[test]
fn all_specs_pass_on_btrfs() {
    passes(Kind::filesystem("btrfs"));
}

#[test]
fn all_specs_pass_on_a_block_device() {
    passes(Kind::Block);
}

/// Otherwise a fault of the controller would pass as one of the agent.
#[test]
fn the_controller_passes_all_specs_of_what_it_offers() {
    let bed = Bed::start(&Options::default()).unwrap();
    let controller = bed.controller().unwrap();
    let (output, specs) = sanity(&bed, &controller, "Controller Service|ExpandVolume", "mount");
    let failed: Vec<_> = specs.iter().filter(|(_, why)| why.as_ref().is_some_and(|why| why.contains("fail"))).collect();
    let passed = specs.iter().filter(|(_, why)| why.is_none()).count();
    assert!(failed.is_empty() && output.code == 0 && passed >= 20, "{passed} passed, {failed:#?}\n{}", output.stdout);
}
