//! Each class of failure is told by its code, in all places, within a minute.

use std::time::Duration;

use cks_tests::kubernetes::{Bed, Cluster, Machine};

use crate::told::everywhere;
use crate::{alone, containerd, machines};

const HERE: &str = "role: worker\n  endpoint: 10.1.1.250:6443\n  token: abcdef.0123456789abcdef";

/// Begins, and waits until the failure is told; then ends the run and takes back what it began.
fn fails(machine: &Machine, code: &str, before: &str, program: &str) {
    machine.sh("rm -f /run/cks-agent/status.json").unwrap();
    machine.sh(before).unwrap();
    let run = machine.start(&format!("{program} bootstrap || true; exec cks-agent serve"), "run").unwrap();
    let took = everywhere(machine, code);
    eprintln!("{code}: told after {:.1} s", took.as_secs_f64());
    machine.kill("cks-agent").unwrap();
    drop(run);
}

fn worker(bed: &Bed, machine: &Machine, what: &str) {
    bed.ask(machine, &format!("#cloud-config\ncks:\n  {what}\n")).unwrap();
    let settings = machine.read("/etc/cks-agent/config.toml").unwrap().replace("wait = \"2m\"", "wait = \"15s\"");
    machine.write("/etc/cks-agent/config.toml", &settings).unwrap();
}

#[test]
fn what_keeps_a_machine_alone_is_told() {
    let _alone = alone();
    let cluster = machines(1);
    let (bed, machine) = (&cluster.bed, &cluster.workers[0]);

    bed.unplug(machine).unwrap();
    machine.write("/etc/cks-agent/config.toml", "wait = \"15s\"\n").unwrap();
    fails(machine, "METADATA_UNREACHABLE", "true", "cks-agent");
    bed.plug(machine).unwrap();

    worker(bed, machine, HERE);
    let settings = machine.read("/etc/cks-agent/config.toml").unwrap();
    let with = |from: &str, to: &str| machine.write("/etc/cks-agent/config.toml", &settings.replace(from, to)).unwrap();

    with("sources = [\"vr\"]", "sources = [\"disc\", \"/nowhere\"]");
    fails(machine, "MEDIA_NOT_FOUND", "true", "cks-agent");
    // It is told at once, however long the server's user data makes a node wait.
    with("sources = [\"vr\"]\nwait = \"15s\"", "sources = [\"disc\", \"/nowhere\"]\nwait = \"25m\"");
    machine.sh(": >/var/log/bed/console.log; : >/var/log/bed/journal.bin").unwrap();
    fails(machine, "MEDIA_NOT_FOUND", "true", "cks-agent");
    with("sources = [\"vr\"]", "sources = [\"/usr/share\"]");
    fails(machine, "MEDIA_NOT_A_BUNDLE", "true", "cks-agent");
    with("allow-cgroup-v1 = true", "allow-cgroup-v1 = false");
    fails(machine, "CGROUP_UNSUPPORTED", "true", "cks-agent");
    with("", "");
    let listens = "exec python3 -c 'import socket, time; s = socket.create_server((\"\", 10250)); time.sleep(600)'";
    let other = machine.start(listens, "other").unwrap();
    fails(machine, "PORT_IN_USE", "until ss -Hltn sport = :10250 | grep -q .; do sleep 0.1; done", "cks-agent");
    machine.kill("python3").unwrap();
    drop(other);
    fails(machine, "API_UNREACHABLE", "true", "cks-agent");
    let broken = "echo 'disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\"]' >/etc/containerd/conf.d/zz.toml";
    fails(machine, "CONTAINERD_MISCONFIGURED", broken, "cks-agent");
    machine.sh("rm /etc/containerd/conf.d/zz.toml").unwrap();
}

#[test]
fn a_full_disk_is_told() {
    let _alone = alone();
    let cluster = machines(1);
    let machine = &cluster.workers[0];
    worker(&cluster.bed, machine, HERE);
    let small = "mkdir -p /opt/cks && mount -t tmpfs -o size=64m none /opt/cks";
    fails(machine, "NO_SPACE", small, "cks-agent");
}

/// The worker is asked to join as `what`; the control plane runs.
fn refused(cluster: &Cluster, what: &str, code: &str, program: &str) {
    let machine = &cluster.workers[0];
    worker(&cluster.bed, machine, what);
    fails(machine, code, "true", program);
}

#[test]
fn what_a_cluster_refuses_is_told() {
    let _alone = alone();
    let cluster = machines(2);
    let joined = [&cluster.etcd, &cluster.control, &cluster.workers[1]];
    for machine in joined {
        cluster.bed.ask(machine, &cluster.user_data_of(machine)).unwrap();
    }
    cluster.these_as_told(joined).unwrap();
    let endpoint = format!("endpoint: {}:6443", cluster.control.address);
    let good = "token: 0123ab.456789abcdef0123";

    refused(
        &cluster,
        &format!("role: worker\n  {endpoint}\n  token: 0123ab.0000000000000000"),
        "TOKEN_REFUSED",
        "cks-agent",
    );
    let pin = format!("ca-hashes: [\"sha256:{}\"]", "0".repeat(64));
    refused(&cluster, &format!("role: worker\n  {endpoint}\n  {good}\n  {pin}"), "CA_MISMATCH", "cks-agent");
    refused(&cluster, &format!("role: worker\n  {endpoint}\n  {good}"), "CLOCK_SKEW", "faketime -f +2h cks-agent");
    let taken = format!("role: worker\n  {endpoint}\n  {good}\n  node-name: {}", cluster.workers[1].name);
    refused(&cluster, &taken, "NODE_NAME_TAKEN", "cks-agent");

    let machine = &cluster.workers[0];
    machine.sh("cks-agent leave --skip-drain --force || true").unwrap();
    cluster.bed.ask(machine, &cluster.user_data_of(machine)).unwrap();
    cluster.these_as_told([machine]).unwrap();
    machine.wait("the node to be ready", Duration::from_secs(120), || Ok(cluster.all_ready().is_ok())).unwrap();
    drop(containerd());
}
