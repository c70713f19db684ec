//! A real API server, with the rights that Kubernetes gives to nodes, for the machine that is its node `w1`.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cks_tests::leash::Running;
use cks_tests::process::Command;
use cks_tests::programs;

use crate::machine::Machine;

const KEYS: &str = include_str!("keys.sh");
const OBJECTS: &str = include_str!("objects.yaml");
const SERVER: [&str; 13] = [
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--disable-admission-plugins=ServiceAccount",
    "--etcd-servers=http://127.0.0.1:2379",
    "--client-ca-file=/srv/pki/ca.crt",
    "--tls-cert-file=/srv/pki/apiserver.crt",
    "--tls-private-key-file=/srv/pki/apiserver.key",
    "--service-account-key-file=/srv/pki/sa.key",
    "--service-account-signing-key-file=/srv/pki/sa.key",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--advertise-address=10.1.1.20",
    "--bind-address=127.0.0.1",
];
const STORE: [&str; 5] = [
    "--data-dir=/srv/store",
    "--listen-client-urls=http://127.0.0.1:2379",
    "--advertise-client-urls=http://127.0.0.1:2379",
    "--listen-peer-urls=http://127.0.0.1:2380",
    "--unsafe-no-fsync",
];

/// The cluster; the machine is its node.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) machine: Machine,
    kubectl: PathBuf,
    /// They end with the machine.
    programs: [Running; 2],
}

impl Cluster {
    /// One with two nodes and some pods.
    ///
    /// # Errors
    /// Without Kubernetes: says how it is built.
    pub(crate) fn new() -> Result<Self> {
        let kubernetes = programs::built_before("kubernetes", "v1")?;
        let kubernetes = kubernetes.filter(|directory| directory.join("kube-apiserver").is_file());
        let kubernetes = kubernetes.context("Kubernetes is not built: run tests/tools/build kubernetes")?;
        let machine = Machine::joined()?;
        machine.sh(KEYS)?;
        let kubectl = kubernetes.join("kubectl");
        machine.sh(&format!("ln -sf {} /opt/bin/kubectl", kubectl.display()))?;
        let (store_log, log) = (machine.log("store"), machine.log("server"));
        let etcd = programs::built_before("etcd", "v3")?.context("etcd is not built: run tests/tools/build etcd")?;
        let store = machine.run(Command::new(etcd.join("etcd")).args(STORE)).start(&store_log)?;
        let server = machine.run(Command::new(kubernetes.join("kube-apiserver")).args(SERVER)).start(&log)?;
        let mut cluster = Self { machine, kubectl, programs: [store, server] };
        cluster.serves(&[store_log, log])?;
        std::fs::write(cluster.machine.path("/srv/objects.yaml"), OBJECTS)?;
        cluster.kubectl(&["create", "-f", "/srv/objects.yaml"])?;
        cluster.kubectl(&["patch", "pod", "guarded", "--subresource", "status", "-p", READY])?;
        Ok(cluster)
    }

    fn serves(&mut self, logs: &[PathBuf; 2]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(240);
        while self.kubectl(&["get", "--raw", "/readyz"]).is_err() {
            for (program, log) in self.programs.iter_mut().zip(logs) {
                let ended = program.ended()?;
                let said = || std::fs::read_to_string(log).unwrap_or_default();
                ensure!(
                    ended.is_none() && Instant::now() < deadline,
                    "the API server is not ready: {ended:?} {}",
                    said()
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// kubectl with an administrator's rights.
    ///
    /// # Errors
    /// With what it said.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let command = Command::new(&self.kubectl).args(["--kubeconfig", "/srv/admin.conf"]).args(arguments);
        self.machine.run(command).limit(Duration::from_secs(60)).ok()
    }

    /// The pods that are there, by name.
    ///
    /// # Errors
    /// With what kubectl said.
    pub(crate) fn pods(&self) -> Result<Vec<String>> {
        let said = self.kubectl(&["get", "pods", "-A", "-o", "name"])?;
        let mut names: Vec<String> = said.lines().map(|line| line.trim_start_matches("pod/").to_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// What of the node a JSON path leads to.
    ///
    /// # Errors
    /// With what kubectl said.
    pub(crate) fn node(&self, path: &str) -> Result<String> {
        self.kubectl(&["get", "node", "w1", "-o", &format!("jsonpath={path}")])
    }
}

/// A disruption budget only guards pods that are ready.
const READY: &str = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
