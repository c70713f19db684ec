//! What is asked of a cluster's members, by etcdctl.

use std::path::Path;
use std::time::Duration;

use bootstrap::etcd::answers::{self, EndpointStatus, KeyHash};
use bootstrap::etcd::certificates::{DIRECTORY, Purpose};
use bootstrap::etcd::members::{Cluster, Id};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;
use futures::future::join_all;

use crate::host::Host;
use crate::tool::{Call, Said, Tool};

/// A member that is up answers at once; a leader is elected in a second.
const TIMEOUT: &str = "5s";
const PATIENCE: Duration = Duration::from_secs(20);
/// For what takes as long as its disk does.
const LONG: Duration = Duration::from_secs(15 * 60);

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
        self.run(self.call(args).args(["--write-out", "json"]), args).await
    }

    /// A call to its end.
    async fn run(&self, call: Call, args: &[&str]) -> Result<String, Failure> {
        match call.output().await? {
            said if said.code == Some(0) => Ok(said.stdout),
            said => Err(refusal("etcdctl", args, &said)),
        }
    }

    fn some_endpoint(&self) -> Result<(), Failure> {
        if self.endpoints.is_empty() {
            return Err(Failure::new(Code::EtcdUnavailable, "no member of etcd is known to be asked"));
        }
        Ok(())
    }

    /// What each member says of itself, all asked at once; those that do not answer are missing.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE` when none answers.
    pub async fn status(&self) -> Result<Vec<EndpointStatus>, Failure> {
        self.some_endpoint()?;
        let ask = |endpoint: &String| {
            let one = self.at(vec![endpoint.clone()]);
            async move { answers::endpoint_status(&one.json(&["endpoint", "status"]).await?) }
        };
        let mut refused = None;
        let mut all = Vec::new();
        for answer in join_all(self.endpoints.iter().map(ask)).await {
            match answer {
                Ok(answer) => all.extend(answer),
                Err(failure) => refused = Some(failure),
            }
        }
        match (all.is_empty(), refused) {
            (true, Some(failure)) => Err(failure),
            _ => Ok(all),
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

    /// The hash of all keys up to `revision`, as the first member that answers has them.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE` when none does.
    pub async fn key_hash(&self, revision: u64) -> Result<KeyHash, Failure> {
        self.some_endpoint()?;
        let revision = revision.to_string();
        let mut refused = None;
        // Each by itself: one that does not answer makes etcdctl fail for all.
        for endpoint in &self.endpoints {
            let one = self.at(vec![endpoint.clone()]);
            match one.json(&["endpoint", "hashkv", "--rev", &revision]).await {
                Ok(said) => return answers::key_hash(&said),
                Err(failure) => drop(refused.get_or_insert(failure)),
            }
        }
        Err(refused.unwrap_or_else(|| Failure::new(Code::EtcdUnavailable, "no member of etcd answers")))
    }

    /// Writes all that the first member has into the file `path`, which appears when it is whole.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`.
    pub async fn save(&self, path: &Path) -> Result<(), Failure> {
        self.some_endpoint()?;
        let args = ["snapshot", "save"];
        self.run(self.long_call(&args).arg(path), &args).await.map(drop)
    }

    /// Makes the first member give unused space back; it does not serve meanwhile.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`.
    pub async fn defragment(&self) -> Result<(), Failure> {
        self.some_endpoint()?;
        let args = ["defrag"];
        self.run(self.long_call(&args), &args).await.map(drop)
    }

    /// A call that may take as long as a large database does. Of two timeouts the last counts.
    fn long_call(&self, args: &[&str]) -> Call {
        let seconds = format!("{}s", LONG.as_secs());
        self.call(args).args(["--command-timeout", &seconds]).patience(LONG + PATIENCE)
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

/// These programs log in JSON before they say in words what failed; the words are what people read.
pub(super) fn refusal(program: &str, args: &[&str], said: &Said) -> Failure {
    let text = if said.stderr.trim().is_empty() { &said.stdout } else { &said.stderr };
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('{'));
    // What follows a panic are its places.
    let why = lines().find_map(|line| line.strip_prefix("panic: ")).or_else(|| lines().next_back());
    let why = why.unwrap_or_default().trim_start_matches("Error: ");
    let (what, why) = (args.join(" "), bootstrap::text::plain(why));
    Failure::new(Code::EtcdUnavailable, format!("{program} {what}: {why}"))
}
