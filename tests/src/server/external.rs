//! Machines that are there already become workers of a cluster (4.21), and are machines again.

use anyhow::{Context as _, Result, ensure};

use super::cluster::{Cluster, FIRST_PORT, Role, Vm};
use super::create;
use super::scripts;
use super::transcript::Verdict;
use super::user_data::Certificates;
use super::walk::{LOOK, WORK, Walk};
use crate::netns::ADDRESS;

/// How long the server waits for added nodes, in seconds.
const ADD: u64 = 3600;

/// A machine of the user's.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its host name and display name.
    pub name: String,
    /// In the cluster's network.
    pub address: String,
    /// Its UUID, which cloud-init has as instance id.
    pub uuid: String,
    /// Whether the user will upgrade it.
    pub manual: bool,
}

/// `addNodesToKubernetesCluster`.
pub(super) fn add(walk: &mut Walk<'_>, cluster: &mut Cluster, nodes: &[Candidate], over_router: bool) -> Result<()> {
    ensure!(walk.release.is_flexible(), "CloudStack {} has no external nodes", walk.release);
    let deadline = walk.pace.deadline(ADD);
    let mut added = Vec::new();
    let candidates: Vec<Vm> = nodes.iter().enumerate().map(|(index, node)| vm(cluster, node, index)).collect();
    let version = cluster.version.clone();
    if over_router {
        walk.api("attachIso to the virtual router");
        walk.cloud.serve(Some(&version)).context("serving the disc")?;
    } else {
        candidates.iter().try_for_each(|vm| create::attach(walk, vm, &version))?;
    }
    let mut refused = Vec::new();
    for vm in &candidates {
        match set_up(walk, cluster, vm, over_router)? {
            None => added.push(vm.clone()),
            Some(why) => {
                walk.api(format_args!("deletePortForwardingRule {}", vm.port));
                walk.cloud.unforward(vm.port)?;
                refused.push(format!("{}: {why}", vm.name));
            }
        }
    }
    cluster.vms.extend(added);
    let all_added = refused.is_empty();
    // Whether they ever were ready, the server does not ask.
    let ready = if all_added { walk.count_ready(cluster, deadline) } else { Ok(()) };
    if over_router {
        walk.api("detachIso from the virtual router");
        walk.cloud.serve(None).context("serving no disc")?;
    } else {
        candidates.iter().try_for_each(|vm| create::detach(walk, vm))?;
    }
    ensure!(all_added, "Not every node was added: {}", refused.join("; "));
    // A walk that only a server takes for a success is none.
    ready
}

fn vm(cluster: &mut Cluster, node: &Candidate, index: usize) -> Vm {
    let taken = cluster.total() - cluster.etcd() + index;
    let Candidate { name, address, uuid, manual } = node.clone();
    let port = FIRST_PORT + u16::try_from(taken).unwrap_or_default();
    Vm { id: cluster.number(), uuid, name, address, role: Role::Worker, external: true, manual, port }
}

/// Looks at a machine and makes it boot as a worker; in words why not.
fn set_up(walk: &mut Walk<'_>, cluster: &Cluster, vm: &Vm, over_router: bool) -> Result<Option<String>> {
    create::forward(walk, vm)?;
    walk.pace.pause(15);
    if let Err(error) = walk.push(vm.port, scripts::VALIDATE) {
        return Ok(Some(format!("{error:#}")));
    }
    let validate = format!("/opt/bin/{}", scripts::VALIDATE);
    let why = walk.run(vm.port, &validate, WORK, |said| match said.is_good() {
        true => (Verdict::Good, None),
        false => {
            let why = format!("{}: {}", said.why(), said.text.trim());
            (Verdict::Fatal(said.why()), Some(why))
        }
    })?;
    if why.is_some() {
        return Ok(why);
    }
    walk.may(vm.port, &format!("sudo rm -rf /var/lib/cloud/instances/{}/sem/*", vm.uuid), LOOK)?;
    // On create a node joins the first control plane node; one that comes later, too.
    let join = cluster.control()?.address.clone();
    let router = if over_router { ADDRESS } else { "" };
    let user_data = create::user_data(walk, cluster, vm, &join, router, &Certificates::default())?;
    walk.api(format_args!("updateVirtualMachine {} userdata", vm.name));
    walk.cloud.update(vm, &user_data).with_context(|| format!("updating {}", vm.name))?;
    walk.api(format_args!("rebootVirtualMachine {}", vm.name));
    walk.cloud.reboot(vm).with_context(|| format!("rebooting {}", vm.name))?;
    Ok(None)
}

/// `removeNodesFromKubernetesCluster`.
pub(super) fn remove(walk: &mut Walk<'_>, cluster: &mut Cluster, node: &str) -> Result<()> {
    ensure!(walk.release.is_flexible(), "CloudStack {} has no external nodes", walk.release);
    let vm = cluster.vms.iter().find(|vm| vm.name == node).cloned();
    let vm = vm.with_context(|| format!("The cluster has no machine {node}"))?;
    let (script, name) = (scripts::REMOVE, vm.node());
    walk.push(FIRST_PORT, script)?;
    walk.may(FIRST_PORT, &format!("/opt/bin/{script} {name} control remove"), WORK)?;
    walk.push(vm.port, script)?;
    walk.may(vm.port, &format!("sudo /opt/bin/{script} {name} worker remove"), WORK)?;
    walk.may(FIRST_PORT, &format!("/opt/bin/{script} {name} control delete"), WORK)?;
    walk.api(format_args!("deletePortForwardingRule {}", vm.port));
    walk.cloud.unforward(vm.port)?;
    cluster.vms.retain(|other| other.id != vm.id);
    Ok(())
}
