//! The server's own script brings nodes that the agent made to the next minor.

use std::time::Duration;

use cks_tests::server::hardware::Hardware;
use cks_tests::server::{Cloud as _, Cluster, Release};

use crate::{alone, containerd, created, server, walked};

#[test]
fn the_server_s_script_upgrades_a_cluster() {
    let _alone = alone();
    let release = Release::ALL[3];
    let mut cloud = Hardware::new(&["1.34", "1.35"], &containerd()).unwrap();
    let mut cluster = created(&mut cloud, release, "bed");
    let next = cloud.version_of(1);
    let walk = server(release).upgrade(&mut cloud, &mut cluster, &next);
    walked(&cloud, walk, |transcript| transcript);
    all_are(&cloud, &cluster, &next);
    // The agent boots a machine on which the script has replaced what it had installed.
    for vm in &cluster.vms {
        cloud.reboot(vm).unwrap();
        let machine = cloud.machine(vm).unwrap();
        let status = || machine.read("/run/cks-agent/status.json").unwrap_or_default();
        let is_ready = || Ok(status().contains(r#""phase": "ready""#));
        machine.wait("the agent to be ready", Duration::from_secs(120), is_ready).unwrap_or_else(|error| {
            panic!("{error:#}\n{}", cloud.how_they_are());
        });
        let status = machine.sh("cks-agent status").unwrap();
        assert!(status.contains(&format!("DRIFT: kubeadm is {next}")), "{status}");
    }
    all_are(&cloud, &cluster, &next);
}

/// Both nodes are ready, with this version.
fn all_are(cloud: &Hardware, cluster: &Cluster, version: &str) {
    let control = cloud.machine(cluster.control().unwrap()).unwrap();
    let nodes = || control.sh("/opt/bin/kubectl get nodes --no-headers").unwrap_or_default();
    let good = |line: &str| line.contains(" Ready ") && line.ends_with(version);
    let all = || Ok(nodes().lines().filter(|line| good(line)).count() == 2);
    control
        .wait("both nodes", Duration::from_secs(180), all)
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", nodes(), cloud.how_they_are()));
}
