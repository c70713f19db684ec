//! The management server's walks of each release, over machines that `cks-agent` makes a real cluster of by what that
//! server sends: user data, scripts, commands over SSH.
//!
//! It wants what `./dev beds` builds, and minutes: `just bed-server`, not part of `cargo test` without a name.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod releases;
mod upgrade;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cks_tests::programs;
use cks_tests::server::hardware::Hardware;
use cks_tests::server::{Cluster, GivenUp, ManagementServer, Order, Pace, Release, Transcript};

/// Two cores carry one cluster at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn containerd() -> PathBuf {
    programs::containerd_built("2.3").unwrap()
}

fn server(release: Release) -> ManagementServer {
    ManagementServer { release, pace: Pace::BED }
}

/// A walk that went well, shown; where it did not, all machines say how they are.
fn walked<T>(cloud: &Hardware, walk: Result<T, GivenUp>, transcript: impl Fn(&T) -> &Transcript) -> T {
    let done = walk.unwrap_or_else(|error| {
        // kubeadm says much behind its reason.
        let lines = error.transcript.steps.iter().flat_map(|step| step.text.lines());
        let reasons: Vec<&str> = lines.filter(|line| line.contains("[ERROR") || line.starts_with("error")).collect();
        panic!("{error}\n{}\n{}", reasons.join("\n"), cloud.how_they_are())
    });
    println!("{}", transcript(&done));
    // The script that takes a node out drains it by a flag that kubectl has no more, and the server minds that no more than
    // we can: it comes that far only where its login has a kubeconfig, from an earlier removal.
    let own = |text: &str| text.starts_with("error: unknown flag: --delete-local-data");
    let minded = transcript(&done).ignored().into_iter().filter(|step| !own(&step.text)).count();
    assert!(minded == 0, "{}\n{}", transcript(&done), cloud.how_they_are());
    done
}

/// One control plane node and one worker.
fn created(cloud: &mut Hardware, release: Release, name: &str) -> Cluster {
    let order = Order { csi: release.has_csi(), ..Order::small(name, cloud.version()) };
    let walk = server(release).create(cloud, &order);
    let (cluster, _) = walked(cloud, walk, |(_, transcript)| transcript);
    // It was the agent that did it.
    for vm in &cluster.vms {
        let machine = cloud.machine(vm).unwrap();
        let (status, script) = (machine.read("/run/cks-agent/status.json"), machine.read("/opt/bin/setup-kube-system"));
        assert!(status.unwrap().contains(r#""phase": "ready""#), "{}", cloud.how_they_are());
        assert!(script.unwrap().contains("cks-agent attend"), "{}", cloud.how_they_are());
    }
    cluster
}
