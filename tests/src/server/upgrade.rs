//! A cluster gets another version of Kubernetes, node by node, by a script that is pushed to each.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use super::cluster::{Cluster, FIRST_PORT, Vm};
use super::transcript::Verdict;
use super::walk::{ACT, LOOK, WORK, Walk};
use super::{answer, create, provider, scripts};

/// How long an upgrade may take, in seconds.
const UPGRADE: u64 = 3600;

/// How often draining and the script are tried (`cloud.kubernetes.cluster.upgrade.retries`).
const TRIES: u32 = 3;

/// `upgradeKubernetesCluster`.
pub(super) fn upgrade(walk: &mut Walk<'_>, cluster: &mut Cluster, version: &str) -> Result<()> {
    let version = version.trim_start_matches('v');
    ensure!(is_next(&cluster.version, version), "{} can't become {version}", cluster.version);
    let deadline = walk.pace.deadline(UPGRADE);
    let vms: Vec<Vm> = cluster.vms.iter().filter(|vm| !vm.manual).cloned().collect();
    vms.iter().try_for_each(|vm| create::attach(walk, vm, version))?;
    let mut done = Ok(());
    for (index, vm) in vms.iter().enumerate() {
        let is_internal = cluster.order.cni.is_none();
        done = node(walk, vm, index, version, is_internal, deadline).with_context(|| format!("upgrading {}", vm.name));
        if done.is_err() {
            break;
        }
    }
    vms.iter().try_for_each(|vm| create::detach(walk, vm))?;
    done?;
    version.clone_into(&mut cluster.version);
    Ok(())
}

fn node(
    walk: &mut Walk<'_>,
    vm: &Vm,
    index: usize,
    version: &str,
    has_own_network: bool,
    deadline: Instant,
) -> Result<()> {
    let name = vm.node();
    let drain = format!("sudo /opt/bin/kubectl drain {name} --ignore-daemonsets --delete-emptydir-data");
    walk.tries(FIRST_PORT, &drain, ACT, TRIES)?;
    in_time(deadline)?;
    provider::deploy_provider(walk)?;
    // By the place in this list, whatever port the machine has.
    let port = FIRST_PORT + u16::try_from(index)?;
    let mut arguments = format!("{version} {} {} false", index == 0, is_old(version));
    if walk.release.is_flexible() {
        arguments += if has_own_network { " true" } else { " false" };
    }
    script(walk, port, &arguments)?;
    in_time(deadline)?;
    walk.poll(&format!("sudo /opt/bin/kubectl uncordon {name}"), 15, deadline, |_| Ok(()))?;
    if index == 0 {
        let ready =
            format!("sudo /opt/bin/kubectl get nodes | awk '{{if ($1 == \"{name}\" && $2 == \"Ready\") print $1}}'");
        walk.poll(&ready, 15, deadline, |text| answer::is_node(text, &name))?;
    }
    has_version(walk, &name, version)
}

/// Copies the script and runs it, each time anew.
fn script(walk: &mut Walk<'_>, port: u16, arguments: &str) -> Result<()> {
    let text = scripts::text(walk.release, scripts::UPGRADE);
    for left in (0..TRIES).rev() {
        let file = walk.copy(port, scripts::UPGRADE, &text)?;
        let command = format!("sudo ./{file} {arguments}");
        let done = walk.run(port, &command, WORK, |said| match (said.is_good(), left) {
            (true, _) => (Verdict::Good, true),
            (false, 0) => (Verdict::Fatal(said.why()), false),
            (false, _) => (Verdict::NotYet(said.why()), false),
        })?;
        if done {
            return Ok(());
        }
    }
    bail!("{}: not in {TRIES} tries", scripts::UPGRADE)
}

/// Ten looks for the node's version.
fn has_version(walk: &mut Walk<'_>, name: &str, version: &str) -> Result<()> {
    let command = format!("sudo /opt/bin/kubectl get nodes | awk '{{if ($1 == \"{name}\") print $5}}'");
    for _ in 0..10 {
        let found = walk.run(FIRST_PORT, &command, LOOK, |said| {
            let judged = if said.is_good() { answer::has_version(&said.text, version) } else { Err(said.why()) };
            match judged {
                Ok(()) => (Verdict::Good, true),
                Err(why) => (Verdict::NotYet(why), false),
            }
        })?;
        if found {
            return Ok(());
        }
        walk.pace.pause(15);
    }
    bail!("{name} does not get the version {version}")
}

fn in_time(deadline: Instant) -> Result<()> {
    ensure!(Instant::now() < deadline, "the upgrade timed out");
    Ok(())
}

fn parts(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// Whether a version may follow another: a newer patch, or the next minor.
fn is_next(from: &str, to: &str) -> bool {
    match (parts(from).as_slice(), parts(to).as_slice()) {
        ([a, b, c], [x, y, z]) => x == a && (y == b && z > c || *y == b + 1),
        _ => false,
    }
}

/// Whether kubeadm wants more words for it.
fn is_old(version: &str) -> bool {
    parts(version) < vec![1, 15]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_each_other() {
        let cases = [("1.34.4", "1.34.5", true), ("1.34.4", "1.35.0", true), ("1.34.4", "1.36.0", false)];
        for (from, to, next) in cases.into_iter().chain([("1.34.4", "1.34.4", false), ("1.34.4", "1.34", false)]) {
            assert_eq!(is_next(from, to), next, "{from} {to}");
        }
        assert!(is_old("1.14.9") && !is_old("1.15.0") && !is_old("1.35.4"));
    }
}
