//! A cluster's life with a server of each release: made, made larger and smaller, given a machine of the user's and
//! relieved of it, deleted.

use cks_tests::server::hardware::Hardware;
use cks_tests::server::{Cluster, Release};

use crate::{alone, containerd, created, server, walked};

/// What the server looks for on a machine of the user's.
const PACKAGES: &str =
    "cloud-init cloud-guest-utils conntrack apt-transport-https ca-certificates curl gnupg gnupg-agent
    software-properties-common lsb-release python3-json-pointer python3-jsonschema containerd.io";

#[test]
fn a_server_of_4_19_gets_every_answer() {
    life(Release::ALL[0]);
}

#[test]
fn a_server_of_4_20_gets_every_answer() {
    life(Release::ALL[1]);
}

#[test]
fn a_server_of_4_21_gets_every_answer() {
    life(Release::ALL[2]);
}

#[test]
fn a_server_of_4_22_gets_every_answer() {
    life(Release::ALL[3]);
}

#[test]
fn a_server_of_4_23_gets_every_answer() {
    life(Release::ALL[4]);
}

fn life(release: Release) {
    let _alone = alone();
    let mut cloud = Hardware::new(&["1.35"], &containerd()).unwrap();
    let mut cluster = created(&mut cloud, release, "bed");
    scale(&mut cloud, release, &mut cluster);
    if release.is_flexible() {
        external(&mut cloud, release, &mut cluster);
    }
    let walk = server(release).delete(&mut cloud, &mut cluster);
    walked(&cloud, walk, |transcript| transcript);
    cloud.bed.nothing_outside().unwrap();
}

fn scale(cloud: &mut Hardware, release: Release, cluster: &mut Cluster) {
    for workers in [2, 1] {
        let walk = server(release).scale(cloud, cluster, workers);
        walked(cloud, walk, |transcript| transcript);
        let nodes = nodes(cloud, cluster);
        assert!(nodes.lines().count() == workers + 1 && !nodes.contains("NotReady"), "{nodes}");
    }
}

/// Twice: a machine that a server has taken out of a cluster may come back.
fn external(cloud: &mut Hardware, release: Release, cluster: &mut Cluster) {
    let candidate = cloud.candidate("Extra-1", PACKAGES).unwrap();
    for over_router in [true, false] {
        let walk = server(release).add_external_nodes(cloud, cluster, std::slice::from_ref(&candidate), over_router);
        walked(cloud, walk, |transcript| transcript);
        assert!(nodes(cloud, cluster).contains("extra-1 "), "{}", nodes(cloud, cluster));
        let walk = server(release).remove_external_node(cloud, cluster, "Extra-1");
        walked(cloud, walk, |transcript| transcript);
        assert!(!nodes(cloud, cluster).contains("extra-1"), "{}", nodes(cloud, cluster));
    }
}

fn nodes(cloud: &Hardware, cluster: &Cluster) -> String {
    let control = cloud.machine(cluster.control().unwrap()).unwrap();
    control.sh("/opt/bin/kubectl get nodes --no-headers").unwrap()
}
