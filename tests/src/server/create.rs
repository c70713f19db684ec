//! A cluster is made: machines, rules, discs, and then looks from outside until all is there.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::cluster::{Cluster, FIRST_PORT, Order, Role, Vm};
use super::user_data::{self, Certificates, Facts};
use super::walk::{LOOK, Look, Walk};
use super::{answer, certificates, provider};

/// How long the server waits for a cluster to come up, in seconds (`cloud.kubernetes.cluster.start.timeout`).
const START: u64 = 3600;

/// `createKubernetesCluster`.
pub(super) fn create(walk: &mut Walk<'_>, order: &Order) -> Result<Cluster> {
    Cluster::check(order, walk.release)?;
    let deadline = walk.pace.deadline(START);
    let mut cluster = Cluster::new(order)?;
    machines(walk, &mut cluster).context("deploying machines")?;
    rules(walk, &cluster).context("making rules")?;
    // Only now, and one after the other: a node has been waiting since it booted.
    for vm in &cluster.vms {
        attach(walk, vm, &cluster.version)?;
    }
    walk.reachable(deadline)?;
    walk.api_answers(deadline)?;
    walk.count_ready(&cluster, deadline)?;
    for vm in cluster.vms.iter().filter(|vm| vm.role != Role::Etcd) {
        detach(walk, vm)?;
    }
    cluster.kubeconfig = Some(kubeconfig(walk, &cluster, deadline)?);
    dashboard(walk, deadline)?;
    annotate(walk, &cluster)?;
    provider::deploy_provider(walk)?;
    if order.csi {
        provider::deploy_csi_driver(walk)?;
    }
    Ok(cluster)
}

fn machines(walk: &mut Walk<'_>, cluster: &mut Cluster) -> Result<()> {
    let Order { etcd, controls, workers, .. } = cluster.order;
    // All of etcd's addresses are in each member's user data.
    let mut members = Vec::new();
    for _ in 0..etcd {
        members.push(planned(walk, cluster, Role::Etcd)?);
    }
    let authority = crate::scratch("authority")?;
    for vm in members {
        deploy(walk, cluster, &vm, "", &Certificates::default())?;
    }
    for _ in 0..controls {
        let vm = planned(walk, cluster, Role::Control)?;
        let first = cluster.control()?;
        let join = first.address.clone();
        let certificates = match first.id == vm.id {
            true => certificates(authority.path(), &vm.address).context("making certificates")?,
            false => Certificates::default(),
        };
        deploy(walk, cluster, &vm, &join, &certificates)?;
    }
    let join = cluster.control()?.address.clone();
    for _ in 0..workers {
        let vm = planned(walk, cluster, Role::Worker)?;
        deploy(walk, cluster, &vm, &join, &Certificates::default())?;
    }
    Ok(())
}

/// A machine in the database, with an address.
pub(super) fn planned(walk: &mut Walk<'_>, cluster: &mut Cluster, role: Role) -> Result<Vm> {
    let mut vm = cluster.plan(role)?;
    vm.address = walk.cloud.acquire(&vm.name)?;
    cluster.vms.push(vm.clone());
    Ok(vm)
}

/// A machine with its user data; `join` is where it joins.
pub(super) fn deploy(
    walk: &mut Walk<'_>,
    cluster: &Cluster,
    vm: &Vm,
    join: &str,
    certificates: &Certificates,
) -> Result<()> {
    let user_data = user_data(walk, cluster, vm, join, "", certificates)?;
    walk.api(format_args!("deployVirtualMachine {} at {}", vm.name, vm.address));
    walk.cloud.deploy(vm, &user_data).with_context(|| format!("deploying {}", vm.name))
}

/// A machine's user data.
pub(super) fn user_data(
    walk: &Walk<'_>,
    cluster: &Cluster,
    vm: &Vm,
    join: &str,
    router: &str,
    certificates: &Certificates,
) -> Result<String> {
    let public = walk.public();
    let facts = Facts { key: walk.cloud.public_key().trim(), public: &public, join, router, certificates };
    user_data::render(walk.release, cluster, vm, &facts)
}

/// The ways in from outside.
fn rules(walk: &mut Walk<'_>, cluster: &Cluster) -> Result<()> {
    for vm in &cluster.vms {
        forward(walk, vm)?;
    }
    // A load balancer's rule on a server; with one control plane node it comes to the same.
    let control = cluster.control()?;
    walk.api(format_args!("createLoadBalancerRule api-lb 6443 to {}", control.name));
    walk.cloud.forward(6443, control, 6443)
}

/// The way to a machine's SSH.
pub(super) fn forward(walk: &mut Walk<'_>, vm: &Vm) -> Result<()> {
    walk.api(format_args!("createPortForwardingRule {} to {}:22", vm.port, vm.name));
    walk.cloud.forward(vm.port, vm, 22)
}

/// The disc of a version of Kubernetes into a machine's drive.
pub(super) fn attach(walk: &mut Walk<'_>, vm: &Vm, version: &str) -> Result<()> {
    walk.api(format_args!("attachIso {version} to {}", vm.name));
    walk.cloud.attach(vm, version).with_context(|| format!("attaching the disc to {}", vm.name))
}

/// Out again.
pub(super) fn detach(walk: &mut Walk<'_>, vm: &Vm) -> Result<()> {
    walk.api(format_args!("detachIso from {}", vm.name));
    walk.cloud.detach(vm).with_context(|| format!("detaching the disc from {}", vm.name))
}

/// What users get: with the public address in the place of the control plane node's.
fn kubeconfig(walk: &mut Walk<'_>, cluster: &Cluster, deadline: Instant) -> Result<String> {
    let command = match walk.release.knows_kubectl_of_today() {
        true => "sudo cat /etc/kubernetes/user.conf 2>/dev/null || sudo cat /etc/kubernetes/admin.conf",
        false => "sudo cat /etc/kubernetes/admin.conf",
    };
    // No pause between two tries.
    let text = walk.poll(command, 0, deadline, answer::is_kubeconfig).context("reading the kubeconfig")?;
    let own = format!("server: https://{}:6443", cluster.control()?.address);
    Ok(text.replace(&own, &format!("server: https://{}:6443", walk.public())))
}

/// Waits for the dashboard's pod.
fn dashboard(walk: &mut Walk<'_>, deadline: Instant) -> Result<()> {
    let runs = |pod: &'static str| {
        move |text: &str| match answer::runs(text, pod) {
            true => Ok(()),
            false => Err(format!("no line with {pod} and Running")),
        }
    };
    let (headlamp, dashboard) = (runs("headlamp"), runs("kubernetes-dashboard"));
    let command = |namespace: &str| format!("sudo /opt/bin/kubectl get pods --namespace={namespace}");
    let mut looks: Vec<Look<'_>> = vec![(command("kubernetes-dashboard"), &dashboard)];
    if walk.release.has_headlamp() {
        looks.insert(0, (command("kube-system"), &headlamp));
    }
    walk.poll_any(&looks, 15, deadline).map(drop).context("looking for the dashboard")
}

/// Keeps the autoscaler off control plane nodes; nobody looks at what comes of it.
fn annotate(walk: &mut Walk<'_>, cluster: &Cluster) -> Result<()> {
    let annotate = |vm: &Vm| {
        let node = vm.node();
        format!(
            "sudo /opt/bin/kubectl annotate node {node} cluster-autoscaler.kubernetes.io/scale-down-disabled=true ; "
        )
    };
    let commands: String = cluster.of(Role::Control).map(annotate).collect();
    walk.may(FIRST_PORT, &commands, LOOK).map(drop)
}
