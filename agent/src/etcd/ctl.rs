//! What is asked of a cluster's members, by etcdctl.

use std::time::Duration;

use bootstrap::etcd::answers::{self, EndpointStatus, KeyHash};
use bootstrap::etcd::certificates::{DIRECTORY, Purpose};
use bootstrap::etcd::members::{Cluster, Id};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;

use crate::host::Host;
use crate::tool::{Call, Said, Tool};

/// A member that is up answers at once; a leader is elected in a second.
const TIMEOUT: &str = "5s";
const PATIENCE: Duration = Duration::from_secs(20);

/// Members to be asked.
#[derive(Debug, Clone)]
pub struct Ctl<'a> {
    host: &'a Host,
    tls: bool,
    /// Their client URLs.
    pub endpoints: Vec<String>,
}

impl<'a> Ctl<'a> {
    /// The members at `endpoints` of the cluster that `spec` is of.
    #[must_use]
    pub fn of(host: &'a Host, spec: &NodeSpec, endpoints: Vec<String>) -> Self {
        Self { host, tls: spec.etcd_authority.is_some(), endpoints }
    }

    /// The same, with other members.
    #[must_use]
    pub fn at(&self, endpoints: Vec<String>) -> Self {
        Self { endpoints, ..self.clone() }
    }

    /// A call of etcdctl that knows the members and how to speak to them.
    pub fn call(&self, args: &[&str]) -> Call {
        let mut call = Tool::Etcdctl.call(self.host).env("ETCDCTL_API", "3").patience(PATIENCE);
        call = call.arg("--endpoints").arg(self.endpoints.join(","));
        call = call.args(["--dial-timeout", "2s", "--command-timeout", TIMEOUT]);
        if self.tls {
            let file = |name: &str| self.host.path(&format!("{DIRECTORY}/{name}"));
            let client = Purpose::Client.file();
            call = call.arg("--cacert").arg(file("ca.crt"));
            call = call.arg("--cert").arg(file(&format!("{client}.crt")));
            call = call.arg("--key").arg(file(&format!("{client}.key")));
        }
        call.args(args)
    }

    async fn json(&self, args: &[&str]) -> Result<String, Failure> {
        self.some_endpoint()?;
        let call = self.call(args).args(["--write-out", "json"]);
        let shown = words(args);
        match call.output().await? {
            said if said.code == Some(0) => Ok(said.stdout),
            said => Err(refusal(&shown, &said)),
        }
    }

    fn some_endpoint(&self) -> Result<(), Failure> {
        if self.endpoints.is_empty() {
            return Err(Failure::new(Code::EtcdUnavailable, "no member of etcd is known to be asked"));
        }
        Ok(())
    }

    /// What each member says of itself; those that do not answer are missing.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE` when none answers.
    pub async fn status(&self) -> Result<Vec<EndpointStatus>, Failure> {
        self.some_endpoint()?;
        // It exits with 1 when one of several does not answer.
        let said = self.call(&["endpoint", "status", "--write-out", "json"]).output().await?;
        match answers::endpoint_status(&said.stdout) {
            Ok(answers) if !answers.is_empty() => Ok(answers),
            _ => Err(refusal("endpoint status", &said)),
        }
    }

    /// The members as the leader has them.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`, also without a quorum.
    pub async fn members(&self) -> Result<Cluster, Failure> {
        Cluster::of_list(&self.json(&["member", "list"]).await?)
    }

    /// The alarms that are raised.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`.
    pub async fn alarms(&self) -> Result<Vec<(Id, String)>, Failure> {
        answers::alarms(&self.json(&["alarm", "list"]).await?)
    }

    /// The hash of all keys up to `revision`, as the first member has them.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`.
    pub async fn key_hash(&self, revision: u64) -> Result<KeyHash, Failure> {
        let revision = revision.to_string();
        answers::key_hash(&self.json(&["endpoint", "hashkv", "--rev", &revision]).await?)
    }

    /// Adds a member that has no vote yet.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`: the cluster can't take it now.
    pub async fn add_learner(&self, name: &str, peer_url: &str) -> Result<(), Failure> {
        self.json(&["member", "add", name, "--peer-urls", peer_url, "--learner"]).await.map(drop)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`: the cluster can't spare it now.
    pub async fn remove(&self, id: Id) -> Result<(), Failure> {
        self.json(&["member", "remove", &id.to_string()]).await.map(drop)
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`: it has not all data yet.
    pub async fn promote(&self, id: Id) -> Result<(), Failure> {
        self.json(&["member", "promote", &id.to_string()]).await.map(drop)
    }
}

fn words(args: &[&str]) -> String {
    args.join(" ")
}

/// etcdctl logs in JSON before it says in words what failed; the words are what people read.
fn refusal(shown: &str, said: &Said) -> Failure {
    let text = if said.stderr.trim().is_empty() { &said.stdout } else { &said.stderr };
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with('{'));
    let last = last.unwrap_or_default().trim_start_matches("Error: ");
    Failure::new(Code::EtcdUnavailable, format!("etcdctl {shown}: {}", bootstrap::text::plain(last)))
}
