//! The server's own script brings nodes that the agent made to the next minor.

use cks_tests::server::Release;

use crate::hardware::Hardware;
use crate::{alone, created, server, walked};

#[test]
fn the_server_s_script_upgrades_a_cluster() {
    let _alone = alone();
    let release = Release::ALL[3];
    let mut cloud = Hardware::new(&["1.34", "1.35"]).unwrap();
    let mut cluster = created(&mut cloud, release, "bed");
    let next = cloud.version_of(1);
    let walk = server(release).upgrade(&mut cloud, &mut cluster, &next);
    walked(&cloud, walk, |transcript| transcript);
    let control = cloud.machine(cluster.control().unwrap()).unwrap();
    let nodes = control.sh("/opt/bin/kubectl get nodes --no-headers").unwrap();
    assert!(nodes.lines().count() == 2 && nodes.lines().all(|line| line.ends_with(&next)), "{nodes}");
    assert!(!nodes.contains("NotReady") && !nodes.contains("SchedulingDisabled"), "{nodes}");
}
