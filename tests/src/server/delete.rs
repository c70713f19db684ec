//! A cluster goes.

use anyhow::{Result, ensure};

use super::cluster::{Cluster, FIRST_PORT};
use super::scripts;
use super::walk::{WORK, Walk};

/// `deleteKubernetesCluster`.
pub(super) fn delete(walk: &mut Walk<'_>, cluster: &mut Cluster) -> Result<()> {
    let external: Vec<&str> = cluster.vms.iter().filter(|vm| vm.external).map(|vm| vm.name.as_str()).collect();
    ensure!(external.is_empty(), "External nodes are left: {}", external.join(", "));
    if walk.release.has_csi() && cluster.order.csi {
        walk.may(FIRST_PORT, &format!("sudo /opt/bin//{}", scripts::VOLUMES), WORK)?;
    }
    for vm in std::mem::take(&mut cluster.vms) {
        walk.api(format_args!("destroyVirtualMachine {}", vm.name));
        walk.cloud.destroy(&vm)?;
        walk.cloud.unforward(vm.port)?;
    }
    walk.api("deleteLoadBalancerRule api-lb");
    walk.cloud.unforward(6443)
}
