//! The program `bed`: what the command sees, what comes out of it, and that everything goes with it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cks_tests::leash::mentioning;
use cks_tests::process::Command;

const BED: &str = env!("CARGO_BIN_EXE_bed");

fn content() -> tempfile::TempDir {
    let directory = cks_tests::scratch("content").unwrap();
    fs::write(directory.path().join("10-kubeadm.conf"), "[Service]\n").unwrap();
    directory
}

#[test]
fn the_beds_nest_both_ways_and_give_the_commands_exit_code() {
    let content = content();
    let script = "curl -sf ${VR_URL}10-kubeadm.conf && ctr version >/dev/null && exit 7";
    let vr = ["vr", &content.path().to_string_lossy()].map(str::to_owned);
    let (vr, containerd) = (vr.to_vec(), vec!["containerd".to_owned()]);
    for (outer, inner) in [(&vr, &containerd), (&containerd, &vr)] {
        let command = Command::new(BED).args(outer).arg("--").arg(BED).args(inner).args(["--", "sh", "-c", script]);
        let output = command.output().unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (7, "[Service]\n"), "{command}: {}", output.stderr);
    }
}

#[test]
fn a_world_is_reached_as_its_configuration_says() {
    let script = "grep -c '^mirror = \"https://10.1.1.1:5000/' $CKS_ISO_CONFIG
        curl -sf http://10.1.1.1:8080/dl.k8s.io/release/v1.33.1/bin/linux/amd64/kubelet.sha256 | wc -c
        curl -s --cacert $(sed -n 's/^ca = //p' $CKS_ISO_CONFIG | head -n 1 | tr -d '\"') https://10.1.1.1:5000/v2/";
    let output = Command::new(BED).args(["world", "sh", "-c", script]).output().unwrap();
    assert!(output.stdout.starts_with("5\n64\n{\"errors\":[{\"code\":\"UNAUTHORIZED\""), "{output:?}");
}

#[test]
fn a_bed_that_cannot_be_made_says_so() {
    let output = Command::new(BED).args(["vr", "/nowhere", "true"]).output().unwrap();
    assert_eq!(output.code, 125);
    assert!(output.stderr.contains("/nowhere is neither a directory nor an .iso file"), "{}", output.stderr);
}

/// Starts a bed whose command tells where its containerd is, and sends a signal to the bed.
fn after_signal(signal: &str) -> (String, bool) {
    let work = cks_tests::scratch("signal").unwrap();
    let told = work.path().join("told");
    let sleep = format!("sleep 60.{}{}", std::process::id(), signal.len());
    let script = format!("echo $CONTAINERD_ADDRESS > {0}.part && mv {0}.part {0} && exec {sleep}", told.display());
    let log = work.path().join("log");
    let mut bed = Command::new(BED).args(["containerd", "--", "sh", "-c", &script]).start(&log).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !told.exists() {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    let socket = fs::read_to_string(&told).unwrap();
    let directory = Path::new(socket.trim()).parent().unwrap().to_string_lossy().into_owned();
    assert!(!mentioning(&directory).unwrap().is_empty());
    Command::new("kill").args([signal, &bed.pid().to_string()]).ok().unwrap();
    bed.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(6);
    let left = || [mentioning(&directory).unwrap(), mentioning(&sleep).unwrap()].concat();
    while !left().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = left();
    let there = Path::new(&directory).exists();
    if there {
        // Only a killed bed leaves its files; they hold no mounts, those went with the namespace.
        Command::new("rm").args(["-r", &directory]).ok().unwrap();
    }
    (left.join("\n"), there)
}

#[test]
fn a_terminated_bed_leaves_nothing() {
    assert_eq!(after_signal("-TERM"), (String::new(), false));
}

#[test]
fn a_killed_bed_leaves_no_process() {
    assert_eq!(after_signal("-KILL").0, "");
}
