//! The metrics: valid, whole, and as `docs/metrics.md` lists them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use agent::csi::Watched;
use agent::csi::registration::{Standing, State};
use agent::csi::tally::Tally;
use agent::host::Host;
use agent::metrics::{self, METRICS_PATH, Syntax, VERIFY_PATH};
use bootstrap::state::NodeState;
use bootstrap::volume::VolumeId;
use serde_json::json;

use crate::openmetrics::{Samples, parse};
use crate::scenes;

struct Node {
    _root: tempfile::TempDir,
    host: Host,
}

fn node() -> Node {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path()).unwrap();
    Node { _root: root, host }
}

impl Node {
    fn verified(&self, value: &serde_json::Value) {
        fs::write(self.host.prepare(VERIFY_PATH).unwrap(), value.to_string()).unwrap();
    }

    fn metrics(&self, state: Option<&NodeState>) -> Samples {
        let text = metrics::text(&self.host, state, None, Syntax::OpenMetrics).unwrap();
        parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
    }
}

fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    samples.get(&(name.to_owned(), labels)).copied()
}

#[test]
fn what_the_state_says_is_measured() {
    let node = node();
    let (state, _) = scenes::stalled();
    let samples = node.metrics(Some(&state));
    let router = [("source", scenes::ROUTER)];
    for (name, labels, should) in [
        ("cks_agent_phase", &[("cks_agent_phase", "install")][..], 1.0),
        ("cks_agent_phase", &[("cks_agent_phase", "failed")], 0.0),
        ("cks_agent_phase_seconds", &[("phase", "install")], 13.0),
        ("cks_agent_run_info", &[("role", "control-plane")], 1.0),
        ("cks_agent_plan_bytes", &[], 339.0 * 1_048_576.0),
        ("cks_agent_done_bytes", &[], 207.0 * 1_048_576.0),
        ("cks_agent_resumed_bytes_total", &[], 40.0 * 1_048_576.0),
        ("cks_agent_fetched_bytes_total", &[], 167.0 * 1_048_576.0),
        ("cks_agent_source_bytes_total", &router, 151.0 * 1_048_576.0),
        ("cks_agent_source_info", &[router[0], ("verdict", "in-use")], 1.0),
        ("cks_agent_waits", &[], 2.0),
        ("cks_agent_wait_deadline_timestamp_seconds", &[], 1_767_323_109.0),
        ("cks_agent_run_start_timestamp_seconds", &[], 1_767_323_045.0),
    ] {
        assert_eq!(value(&samples, name, labels), Some(should), "{name} {labels:?}");
    }
    assert!(!samples.keys().any(|(name, _)| name.contains("verify") || name.contains("drift")));
    assert!(!samples.keys().any(|(name, _)| name == "cks_agent_failure" || name.contains("last_success")));
    let failed = node.metrics(Some(&scenes::failed().0));
    assert_eq!(value(&failed, "cks_agent_failure", &[("code", "DIGEST_MISMATCH")]), Some(1.0));
    let installed = node.metrics(Some(&scenes::installed().0));
    assert_eq!(value(&installed, "cks_agent_last_success_timestamp_seconds", &[]), Some(1_767_323_050.0));
}

#[test]
fn hostile_names_stay_inside_their_labels() {
    let (mut state, _) = scenes::hostile();
    state.sources[0].verdict = "x\"} 5\n# EOF\\".to_owned();
    // The same source, named twice.
    state.sources.push(state.sources[0].clone());
    let samples = node().metrics(Some(&state));
    let infos: Vec<_> = samples.keys().filter(|(name, _)| name == "cks_agent_source_info").collect();
    let [(_, labels)] = &infos[..] else { panic!("{infos:?}") };
    assert_eq!(labels[0].1, "http://\\u{1b}[31mrouter/\\n");
    assert_eq!(labels[1].1, "x\"} 5\\n# EOF\\");
}

#[test]
fn drift_is_what_verify_wrote() {
    let node = node();
    node.verified(&json!({"checked": 41, "findings": [{"path": "/opt/bin/kubelet"}], "bytes": 7, "seconds": 0.25,
        "at": "2026-01-02T03:04:05Z"}));
    let samples = node.metrics(None);
    for (name, should) in [
        ("cks_agent_drift", 1.0),
        ("cks_agent_verify_checked", 41.0),
        ("cks_agent_verify_bytes", 7.0),
        ("cks_agent_verify_seconds", 0.25),
        ("cks_agent_verify_timestamp_seconds", 1_767_323_045.0),
    ] {
        assert_eq!(value(&samples, name, &[]), Some(should), "{name}");
    }
    node.verified(&json!({"findings": 0, "seconds": "many"}));
    let samples = node.metrics(None);
    assert_eq!(value(&samples, "cks_agent_drift", &[]), Some(0.0));
    assert_eq!(value(&samples, "cks_agent_verify_seconds", &[]), None);
    fs::write(node.host.path(VERIFY_PATH), "{").unwrap();
    let failure = metrics::text(&node.host, None, None, Syntax::OpenMetrics).unwrap_err();
    assert_eq!(failure.code, bootstrap::failure::Code::StateInvalid);
}

#[test]
fn the_file_is_for_node_exporter() {
    let node = node();
    metrics::write(&node.host, &scenes::fetching().0).unwrap();
    let text = fs::read_to_string(node.host.path(METRICS_PATH)).unwrap();
    let mut family = "";
    for line in text.lines() {
        // A type that its reader does not know costs the whole file; a sample belongs to the type above it.
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            family = name;
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&format!("{family}{{")) || line.starts_with(&format!("{family} ")), "{line}");
        }
    }
    assert!(text.contains("\ncks_agent_source_bytes_total{source=\"http://10.1.1.1/cks-iso/\"} "), "{text}");
    assert!(!text.contains("EOF") && !text.contains("UNIT"));
}

/// One call that went well, and a volume whose disk is gone.
fn volumes(node: &Node) -> (tempfile::TempDir, Watched) {
    let kubelet = tempfile::tempdir().unwrap();
    let staged = kubelet.path().canonicalize().unwrap().join("plugins/x/globalmount");
    fs::create_dir_all(&staged).unwrap();
    let note = json!({"driverName": agent::csi::DRIVER, "volumeHandle": "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"});
    fs::write(staged.with_file_name("vol_data.json"), note.to_string()).unwrap();
    let mounts = format!("30 20 254:16 / {} rw - ext4 /dev/vdb rw\n", staged.display());
    fs::write(node.host.prepare("/proc/self/mountinfo").unwrap(), mounts).unwrap();
    let tally = Tally::default();
    tally.count("NodeStageVolume", &VolumeId::parse("x").unwrap(), Duration::from_millis(5), None);
    let (_, registered) = tokio::sync::watch::channel(State::now(Standing::Registered));
    let watched = Watched { tally, registered, kubelet: kubelet.path().to_owned() };
    (kubelet, watched)
}

#[test]
fn volumes_are_counted_and_told() {
    let node = node();
    let (_kubelet, watched) = volumes(&node);
    let samples = parse(&metrics::text(&node.host, None, Some(&watched), Syntax::OpenMetrics).unwrap()).unwrap();
    let volume = ("volume", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
    assert_eq!(value(&samples, "cks_agent_csi_calls_total", &[("rpc", "NodeStageVolume"), ("ended", "OK")]), Some(1.0));
    assert_eq!(value(&samples, "cks_agent_csi_registered", &[]), Some(1.0));
    assert_eq!(value(&samples, "cks_agent_volume_wrong", &[volume]), Some(1.0));
    assert_eq!(value(&samples, "cks_agent_volume_info", &[volume, ("disk", ""), ("filesystem", "ext4")]), Some(1.0));
}

#[test]
fn the_documentation_lists_every_metric_and_no_other() {
    let node = node();
    node.verified(&json!({"checked": 1, "findings": 0, "bytes": 1, "seconds": 1, "at": "2026-01-02T03:04:05Z"}));
    let mut printed = BTreeSet::new();
    for (_, scene) in scenes::ALL {
        for (name, labels) in node.metrics(Some(&scene().0)).into_keys() {
            let labels: Vec<String> = labels.into_iter().map(|(label, _)| format!("`{label}`")).collect();
            printed.insert((name, labels.join(", ")));
        }
    }
    let (_kubelet, watched) = volumes(&node);
    let text = metrics::text(&node.host, None, Some(&watched), Syntax::OpenMetrics).unwrap();
    for (name, labels) in parse(&text).unwrap().into_keys() {
        let labels: Vec<String> = labels.into_iter().map(|(label, _)| format!("`{label}`")).collect();
        printed.insert((name, labels.join(", ")));
    }
    let text = include_str!("../../../docs/metrics.md");
    let listed: BTreeSet<(String, String)> = text
        .lines()
        .filter(|line| line.starts_with("| `cks_agent_"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`').to_owned(), cells[3].to_owned())
        })
        .collect();
    assert_eq!(printed, listed);
}
