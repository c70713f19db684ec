//! A cluster on machines of a bed: an etcd member of its own, a control plane, workers.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{Bed, Machine, Release, TOOLS, wait};
use crate::process::Command;

/// Where programs of a bundle are.
const KUBECTL: &str = "/opt/bin/kubectl";
/// A token as the management server makes it: of a UUID's hexadecimal digits.
pub(super) const TOKEN: &str = "0123ab.456789abcdef0123";
/// The longest that a step of a cluster may take on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// Machines that are one cluster, gone when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The etcd member.
    pub etcd: Machine,
    /// The control plane.
    pub control: Machine,
    /// The workers.
    pub workers: Vec<Machine>,
    /// Where they are; it is dropped after them.
    pub bed: Bed,
    /// The release that they run.
    pub release: Release,
    begun: Instant,
    tell: fn(Duration, &str),
}

impl Cluster {
    /// The machines of a cluster, switched on, with nothing installed. `tell` hears of each step that is done.
    ///
    /// # Errors
    /// When a program has not been built, or a machine doesn't boot.
    pub fn new(minor: &str, containerd: Option<&Path>, workers: u8, tell: fn(Duration, &str)) -> Result<Self> {
        let begun = Instant::now();
        let release = Release::get(minor)?;
        tell(begun.elapsed(), &format!("the ISO of {}", release.version));
        let mut bed = Bed::new(&release.content, containerd)?;
        let mut etcd = bed.machine_off("c1-etcd-1")?;
        let mut control = bed.machine_off("c1-control-1")?;
        let mut others =
            (1..=workers).map(|at| bed.machine_off(&format!("c1-node-{at}"))).collect::<Result<Vec<_>>>()?;
        let booting = [&mut etcd, &mut control].into_iter().chain(&mut others);
        side_by_side(booting, |machine| bed.boot(machine))?;
        let cluster = Self { bed, release, etcd, control, workers: others, begun, tell };
        cluster.say("the machines are up");
        Ok(cluster)
    }

    /// Makes the machines a cluster by `cks-agent bootstrap` and kubeadm alone, by hand.
    ///
    /// # Errors
    /// When a step fails: with what the program said.
    pub fn by_hand(&self) -> Result<()> {
        self.install()?;
        self.init()?;
        self.join()?;
        self.all_ready()
    }

    pub(super) fn say(&self, text: &str) {
        (self.tell)(self.begun.elapsed(), text);
    }

    /// All machines, the etcd member first.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        [&self.etcd].into_iter().chain(self.nodes())
    }

    fn nodes(&self) -> impl Iterator<Item = &Machine> {
        [&self.control].into_iter().chain(&self.workers)
    }

    fn install(&self) -> Result<()> {
        let url = &self.bed.vr.url;
        side_by_side([&self.etcd].into_iter().chain(self.nodes()), |machine| {
            let role = match &machine.name {
                name if *name == self.etcd.name => "etcd",
                name if *name == self.control.name => "control-plane",
                _ => "worker",
            };
            if role != "etcd" {
                machine.write("/etc/containerd/config.toml", &containerd_config(&self.release))?;
                machine.sh("systemctl restart containerd; sysctl -q -w net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1")?;
            }
            let bootstrap = ["cks-agent", "bootstrap", "--role", role, "--source", url, "--node-ip", &machine.address];
            machine.command(bootstrap)?.limit(LIMIT).ok().map(drop)?;
            if role == "etcd" {
                machine.write("/etc/etcd/etcd.env", &member(machine))?;
            }
            let unit = if role == "etcd" { "etcd" } else { "kubelet" };
            machine.sh(&format!("systemctl daemon-reload; systemctl enable --now {unit}")).map(drop)
        })?;
        self.say("everything is installed");
        Ok(())
    }

    fn init(&self) -> Result<()> {
        let Self { etcd, control, release, .. } = self;
        let config = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens:
- {{token: {TOKEN}, ttl: 0s}}
localAPIEndpoint: {{advertiseAddress: {address}}}
nodeRegistration: {{criSocket: unix:///run/containerd/containerd.sock}}
patches: {{directory: /etc/cks-agent/patches}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
controlPlaneEndpoint: {address}:6443
etcd: {{external: {{endpoints: [\"http://{etcd}:2379\"]}}}}
",
            address = control.address,
            version = release.version,
            etcd = etcd.address,
        );
        control.write("/root/kubeadm.yaml", &config)?;
        let init =
            ["kubeadm", "init", "--config", "/root/kubeadm.yaml", "--ignore-preflight-errors=SystemVerification"];
        control.command(init)?.limit(LIMIT).ok()?;
        self.say("the control plane is up");
        let url = &self.bed.vr.url;
        for manifest in ["network.yaml", "dashboard.yaml", "headlamp.yaml"] {
            control.sh(&format!("curl -sSf {url}{manifest} | {KUBECTL} apply -f -"))?;
        }
        self.say("the manifests are applied");
        Ok(())
    }

    fn join(&self) -> Result<()> {
        let config = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: {{apiServerEndpoint: \"{}:6443\", token: {TOKEN}, unsafeSkipCAVerification: true}}
nodeRegistration: {{criSocket: unix:///run/containerd/containerd.sock}}
patches: {{directory: /etc/cks-agent/patches}}
",
            self.control.address
        );
        side_by_side(&self.workers, |worker| {
            worker.write("/root/kubeadm.yaml", &config)?;
            let join =
                ["kubeadm", "join", "--config", "/root/kubeadm.yaml", "--ignore-preflight-errors=SystemVerification"];
            worker.command(join)?.limit(LIMIT).ok().map(drop)
        })?;
        self.say("the workers have joined");
        Ok(())
    }

    /// `kubectl` on the control plane.
    ///
    /// # Errors
    /// When the control plane is switched off.
    pub fn kubectl<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        self.control.command([KUBECTL].into_iter().chain(words))
    }

    /// Waits until all machines but the etcd member's are ready nodes, and nothing else is.
    ///
    /// # Errors
    /// With what kubectl said last.
    pub fn all_ready(&self) -> Result<()> {
        let mut names: Vec<String> = self.nodes().map(|machine| machine.name.clone()).collect();
        names.sort();
        wait("all nodes are ready", LIMIT, || {
            let told = self.kubectl(["get", "nodes", "--no-headers"])?.ok()?;
            let ready = told.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
            let mut ready: Vec<String> =
                ready.filter(|node| node.get(1) == Some(&"Ready")).map(|node| node[0].to_owned()).collect();
            ready.sort();
            ensure!(ready == names, "{told}");
            Ok(true)
        })?;
        self.say("all nodes are ready");
        Ok(())
    }

    /// Waits until all pods are ready.
    ///
    /// # Errors
    /// With what kubectl said last.
    pub fn all_pods_ready(&self) -> Result<()> {
        let wait = ["wait", "--for=condition=Ready", "--timeout=240s", "pods", "--all", "--all-namespaces"];
        self.kubectl(wait)?.ok()?;
        self.say("all pods are ready");
        Ok(())
    }

    /// Runs a pod of [`TOOLS`] with a web page on a node, and reads that page from another node: by the pod's own
    /// address and by its service's.
    ///
    /// # Errors
    /// When the pod doesn't run, or its page can't be read.
    pub fn serve_a_page(&self, name: &str, on: &Machine, from: &Machine) -> Result<()> {
        let pod = format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  tolerations: [{{operator: Exists}}]
  containers:
  - name: page
    image: {TOOLS}
    imagePullPolicy: Never
    command: [sh, -c, 'mkdir /www && echo page of {name} >/www/index.html && exec httpd -f -p 8080 -h /www']
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
",
            node = on.name
        );
        self.control.write("/root/page.yaml", &pod)?;
        self.kubectl(["apply", "-f", "/root/page.yaml"])?.ok()?;
        self.kubectl(["wait", "--for=condition=Ready", "--timeout=120s", &format!("pod/{name}")])?.ok()?;
        let field =
            |kind: &str, path: &str| self.kubectl(["get", kind, name, "-o", &format!("jsonpath={{{path}}}")])?.ok();
        let addresses = [field("pod", ".status.podIP")? + ":8080", field("service", ".spec.clusterIP")?];
        for address in addresses {
            wait(&format!("the page at {address}"), LIMIT, || {
                let page = from.sh(&format!("curl -sSf --max-time 5 http://{address}/"))?;
                ensure!(page == format!("page of {name}\n"), "{page:?}");
                Ok(true)
            })?;
        }
        self.say(&format!("a pod on {} answers {}", on.name, from.name));
        Ok(())
    }
}

/// What the unit of an etcd member that stands alone is told.
fn member(machine: &Machine) -> String {
    let Machine { name, address, .. } = machine;
    format!(
        "ETCD_NAME={name}
ETCD_DATA_DIR=/var/lib/etcd/data
ETCD_LISTEN_CLIENT_URLS=http://{address}:2379,http://127.0.0.1:2379
ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379
ETCD_LISTEN_PEER_URLS=http://{address}:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{address}:2380
ETCD_INITIAL_CLUSTER={name}=http://{address}:2380
"
    )
}

/// Version 2 of the format, which every containerd reads. A containerd 2 tells kubelet which cgroup driver to use.
fn containerd_config(release: &Release) -> String {
    let sandbox = release.images.iter().find(|image| image.contains("/pause:")).map_or("", String::as_str);
    format!(
        "version = 2
[plugins.\"io.containerd.grpc.v1.cri\"]
  sandbox_image = \"{sandbox}\"
[plugins.\"io.containerd.grpc.v1.cri\".cni]
  bin_dir = \"/opt/cni/bin\"
  conf_dir = \"/etc/cni/net.d\"
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
  runtime_type = \"io.containerd.runc.v2\"
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
  SystemdCgroup = false
"
    )
}

/// Does the same on all machines at once.
pub(super) fn side_by_side<T: Send>(
    machines: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = machines.into_iter().map(|machine| scope.spawn(move || work(machine))).collect();
        let ended = all.into_iter().map(|one| one.join().map_err(|_| anyhow!("a thread panicked")));
        ended.collect::<Vec<_>>().into_iter().try_for_each(|one| one.context("Working on machines side by side")?)
    })
}
