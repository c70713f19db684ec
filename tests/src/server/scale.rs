//! More workers, or fewer.

use anyhow::{Context as _, Result, bail};

use super::cluster::{Cluster, FIRST_PORT, Role, Vm};
use super::transcript::Verdict;
use super::user_data::Certificates;
use super::walk::{ACT, Walk};
use super::{create, provider, scripts};

/// How long the server waits for new workers, in seconds.
const SCALE: u64 = 3600;

/// How long `kubectl delete node` may be silent, in seconds.
const DELETE: u64 = 30;

/// `scaleKubernetesCluster` with a size.
pub(super) fn scale(walk: &mut Walk<'_>, cluster: &mut Cluster, workers: usize) -> Result<()> {
    let own = |cluster: &Cluster| cluster.of(Role::Worker).filter(|vm| !vm.external).cloned().collect::<Vec<_>>();
    let now = own(cluster);
    if workers > now.len() {
        up(walk, cluster, workers - now.len())
    } else {
        // The youngest go first.
        now.iter().rev().take(now.len() - workers).try_for_each(|vm| down(walk, cluster, vm))
    }
}

fn up(walk: &mut Walk<'_>, cluster: &mut Cluster, more: usize) -> Result<()> {
    let deadline = walk.pace.deadline(SCALE);
    let public = walk.public();
    let mut vms = Vec::new();
    for _ in 0..more {
        let vm = create::planned(walk, cluster, Role::Worker)?;
        // Not the first control plane node's own address, as on create.
        create::deploy(walk, cluster, &vm, &public, &Certificates::default())?;
        vms.push(vm);
    }
    vms.iter().try_for_each(|vm| create::forward(walk, vm))?;
    vms.iter().try_for_each(|vm| create::attach(walk, vm, &cluster.version))?;
    walk.count_ready(cluster, deadline)?;
    vms.iter().try_for_each(|vm| create::detach(walk, vm))
}

fn down(walk: &mut Walk<'_>, cluster: &mut Cluster, vm: &Vm) -> Result<()> {
    leave(walk, vm).with_context(|| format!("removing {}", vm.name))?;
    walk.api(format_args!("destroyVirtualMachine {}", vm.name));
    walk.cloud.destroy(vm)?;
    walk.cloud.unforward(vm.port)?;
    cluster.vms.retain(|other| other.id != vm.id);
    Ok(())
}

/// Drains a node and deletes it. Only silence and a lost connection are tried again, once: the server counts each of its
/// three tries twice, and takes the first one that had answers for its last.
fn leave(walk: &mut Walk<'_>, vm: &Vm) -> Result<()> {
    let flag = if walk.release.knows_kubectl_of_today() { "--delete-emptydir-data" } else { "--delete-local-data" };
    let node = vm.node();
    let drain = format!("sudo /opt/bin/kubectl drain {node} --ignore-daemonsets {flag}");
    let delete = format!("sudo /opt/bin/kubectl delete node {node}");
    for _ in 0..2 {
        let drained = asked(walk, &drain, ACT)?;
        let deleted = if drained == Some(true) { asked(walk, &delete, DELETE)? } else { drained };
        match deleted {
            Some(true) => return Ok(()),
            Some(false) => bail!("{node} can't be drained and deleted"),
            None => walk.pace.pause(30),
        }
    }
    bail!("{node} can't be removed: no answer in two tries")
}

/// Whether a command had a good end; none where there was no answer.
fn asked(walk: &mut Walk<'_>, command: &str, silence: u64) -> Result<Option<bool>> {
    walk.run(FIRST_PORT, command, silence, |said| match &said.exit {
        Ok(0) => (Verdict::Good, Some(true)),
        Ok(status) => (Verdict::Fatal(format!("exit status {status}")), Some(false)),
        Err(why) => (Verdict::NotYet(why.clone()), None),
    })
}

/// `scaleKubernetesCluster` with an autoscaler.
pub(super) fn autoscale(walk: &mut Walk<'_>, cluster: &Cluster, between: Option<(usize, usize)>) -> Result<()> {
    let command = match between {
        Some((min, max)) => {
            format!("sudo /opt/bin/{} -i {} -e -M {max} -m {min}", scripts::AUTOSCALE, cluster.id)
        }
        None => format!("sudo /opt/bin/{} -d", scripts::AUTOSCALE),
    };
    provider::deploy(walk, &command)
}
