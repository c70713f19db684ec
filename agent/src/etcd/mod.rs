//! A dedicated etcd cluster: makes this node a member and keeps it one, and what an operator does with a cluster.
//!
//! What has to be done follows from what is there ([`bootstrap::etcd::standing`]). Each step leaves a state that the next
//! look understands, so a run that was killed anywhere is continued by the next one.

pub mod account;
pub mod certificates;
pub mod command;
pub mod ctl;
mod data;
mod defragment;
mod join;
mod known;
mod member;
mod peers;
mod record;
mod restore;
mod service;
mod snapshot;
mod status;
mod stock;

use std::time::{Duration, Instant};

use bootstrap::etcd::members::Cluster;
use bootstrap::etcd::standing::{Answer, Facts, Past, Serves, Standing, standing};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{ExternalEtcd, NodeSpec};
use bootstrap::render::etcd::Beginning;

use self::ctl::Ctl;
pub use self::data::member_at;
pub use self::member::{leave, may_stop};
pub use self::peers::{Files, ask as ask_peers};
use self::record::Record;
use self::service::Service;
pub use self::stock::stock_member;
use crate::board::Board;
use crate::host::Host;
use crate::tool::Tool;

/// Between two looks; a random part keeps the members of a cluster from looking in step.
const PAUSE: Duration = Duration::from_millis(700);

/// How long is waited, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For all others to come, before a quorum of nodes without data begins a cluster without the rest.
    pub others: Duration,
    /// For etcd to serve, before what was begun here is taken for a mistake.
    pub serve: Duration,
    /// For all of it.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // A virtual machine that is created with others is up within a minute of them; a member that is started again
        // serves within seconds of a leader being there; and the management server waits an hour.
        Self { others: Duration::from_secs(45), serve: Duration::from_secs(60), whole: Duration::from_secs(20 * 60) }
    }
}

/// Makes the node a member that serves and votes, or finds that it is one.
///
/// # Errors
/// `ETCD_FOREIGN`, `ETCD_QUORUM`: what is there forbids it, and nothing was changed. `ETCD_UNAVAILABLE`: it did not come
/// to serve in time. `CONFIG_INVALID`, `TOOL_MISSING`, `IO`.
pub async fn ensure(host: &Host, spec: &NodeSpec, board: &Board) -> Result<(), Failure> {
    ensure_within(host, spec, board, Patience::default()).await
}

/// As [`ensure`], with a patience of one's own.
///
/// # Errors
/// As [`ensure`].
pub async fn ensure_within(host: &Host, spec: &NodeSpec, board: &Board, patience: Patience) -> Result<(), Failure> {
    spec.check_etcd()?;
    for tool in [Tool::Etcd, Tool::Etcdctl] {
        tool.find(host).ok_or_else(|| {
            Failure::new(Code::ToolMissing, format!("{} is not installed", tool.name()))
                .with_remedy("install it from an ISO that has it: cks-agent bootstrap --role etcd")
        })?;
    }
    if spec.etcd_authority.is_none() && spec.address.is_some() {
        board.warn(format!("ETCD_PLAINTEXT: {}", bootstrap::render::etcd::PLAINTEXT));
    }
    if let Some(record) = Record::read(host)? {
        record.fits(spec)?;
    }
    let ids = account::user(host).await?;
    certificates::of_member(host, spec, ids, certificates::Renew::WhenDue)?;
    stock::adopt(host, spec, ids).await?;
    let member = Member { host, spec, board, service: Service::new(host), ids, peers: peers::Asker::new(host, spec)? };
    let outcome = member.arrive(patience).await;
    board.stop_waiting(WAITS_FOR);
    outcome
}

/// Makes what a control plane needs to reach an external etcd, where kubeadm is told that it is: nothing where that speaks
/// plain HTTP. Renewed in the last third of its life. Says whether anything was made now.
///
/// # Errors
/// `CONFIG_INVALID`: the authority can't be used; `IO`.
pub fn client_certificates(host: &Host, etcd: &ExternalEtcd) -> Result<bool, Failure> {
    etcd.authority.as_ref().map_or(Ok(false), |authority| certificates::of_client(host, authority))
}

/// Renews what is due of the certificates that this node was given for an etcd cluster, as a member or as a control plane.
/// Both read them anew for each connection.
///
/// # Errors
/// `STATE_INVALID`, `CONFIG_INVALID`, `IO`.
pub async fn tend(host: &Host) -> Result<(), Failure> {
    certificates::tend_client(host)?;
    let Some(record) = Record::read(host)? else { return Ok(()) };
    let spec = record.spec(host)?;
    if spec.etcd_authority.is_some() {
        let ids = account::user(host).await?;
        certificates::of_member(host, &spec, ids, certificates::Renew::WhenDue)?;
    }
    Ok(())
}

const WAITS_FOR: &str = "etcd";
/// etcd is not restarted while it serves: the other members may just be doing the same.
const RESTART: &str = "etcd's unit or settings changed: cks-agent etcd restart, on one member after the other";

/// The node on its way into its cluster.
struct Member<'a> {
    host: &'a Host,
    spec: &'a NodeSpec,
    board: &'a Board,
    service: Service<'a>,
    ids: bootstrap::etcd::account::Ids,
    peers: peers::Asker,
}

impl Member<'_> {
    /// Looks and acts until it has arrived.
    async fn arrive(&self, patience: Patience) -> Result<(), Failure> {
        let began = Instant::now();
        // Since when etcd could have been serving.
        let mut started: Option<Instant> = None;
        // Says to the others that we wait, for as long as we do.
        let mut waiting = None;
        loop {
            let waited = match started {
                Some(started) => started.elapsed() >= patience.serve,
                None => began.elapsed() >= patience.others,
            };
            let (standing, cluster) = self.look(waited).await?;
            tracing::debug!(?standing, "etcd");
            match standing {
                Standing::Undecided(_) if waiting.is_none() => {
                    waiting = Some(peers::wait(self.host, self.spec).await?);
                }
                Standing::Undecided(_) => {}
                // Its place is etcd's.
                _ => drop(waiting.take()),
            }
            let why = match self.act(&standing, cluster.as_ref()).await? {
                Outcome::Arrived => return Ok(()),
                Outcome::Begun(why) => {
                    started.get_or_insert_with(Instant::now);
                    why
                }
                Outcome::Again(why) => {
                    started = None;
                    why
                }
            };
            if began.elapsed() > patience.whole {
                return Err(self.gave_up(&why, patience.whole).await);
            }
            let pause = PAUSE + PAUSE.mul_f64(rand::random::<f64>());
            self.board.wait(WAITS_FOR, &why, began, pause, patience.whole);
            tokio::time::sleep(pause).await;
        }
    }

    /// Where it stands, and the cluster that the others are members of.
    async fn look(&self, waited: bool) -> Result<(Standing, Option<Cluster>), Failure> {
        let wanted = self.spec.etcd_cluster();
        let peer_url = self.spec.peer_url();
        let others = wanted.iter().filter(|(name, _)| *name != self.spec.node_name).map(|(_, url)| url.as_str());
        let (answers, serves) = tokio::join!(self.peers.ask(others), self.serves());
        let facts = Facts {
            name: &self.spec.node_name,
            peer_url: &peer_url,
            wanted: &wanted,
            data: data::identity(self.host)?,
            past: Record::read(self.host)?.map_or(Past::Unknown, |record| record.past()),
            serves,
            others: answers,
            waited,
        };
        let standing = standing(&facts)?;
        let mut clusters = facts.others.iter().filter_map(Answer::cluster);
        let cluster = clusters.find(|cluster| cluster.is_formed()).cloned();
        Ok((standing, cluster))
    }

    /// What its own etcd says, where it is ours and serves.
    async fn serves(&self) -> Option<Serves> {
        // One that was started by another unit keeps its data elsewhere.
        if !self.service.is_told() {
            return None;
        }
        let own = Ctl::of(self.host, self.spec, vec![self.spec.client_url()]).status().await.ok()?.pop()?;
        own.leader?;
        Some(Serves { identity: own.identity, learner: own.learner })
    }

    async fn act(&self, standing: &Standing, cluster: Option<&Cluster>) -> Result<Outcome, Failure> {
        match standing {
            Standing::Serves => self.arrived().await,
            Standing::Learner(id) => {
                let why = join::promote(&self.ctl(cluster), *id).await;
                Ok(Outcome::Begun(why.err().unwrap_or_default()))
            }
            Standing::Data => {
                self.service.tell(self.spec, &self.service.beginning(self.spec), self.ids)?;
                self.start().await
            }
            Standing::New => {
                let pairs = self.spec.etcd_cluster().into_iter().map(|(name, url)| format!("{name}={url}"));
                let cluster = pairs.collect::<Vec<_>>().join(",");
                Record::begun(self.spec).write(self.host)?;
                self.service.tell(self.spec, &Beginning { cluster, existing: false }, self.ids)?;
                self.start().await
            }
            Standing::Undecided(why) => Ok(Outcome::Again(why.clone())),
            Standing::Joins(_) => match join::expect(&self.ctl(cluster), self.spec).await {
                Ok(cluster) => {
                    Record::begun(self.spec).write(self.host)?;
                    let initial = cluster.initial(&self.spec.node_name, &self.spec.peer_url());
                    self.service.tell(self.spec, &Beginning { cluster: initial, existing: true }, self.ids)?;
                    self.start().await
                }
                Err(failure) if failure.code == Code::EtcdUnavailable => Ok(Outcome::Again(failure.what)),
                Err(failure) => Err(failure),
            },
            Standing::SetAside(why) => {
                // Its place in the cluster is given up with its data: the others have to be able to spare it.
                match join::may_replace(&self.ctl(cluster), self.spec).await {
                    Ok(()) => {}
                    Err(failure) if failure.code == Code::EtcdUnavailable => return Ok(Outcome::Again(failure.what)),
                    Err(failure) => return Err(failure),
                }
                self.service.stop().await?;
                let place = data::set_aside(self.host)?;
                tracing::warn!("etcd's data is moved to {place}: {why}");
                Ok(Outcome::Again(why.clone()))
            }
        }
    }

    async fn arrived(&self) -> Result<Outcome, Failure> {
        let Some(serves) = self.serves().await else { return Ok(Outcome::Begun("it stopped serving".to_owned())) };
        // What a restart would do has to be what it does now.
        if self.service.tell(self.spec, &self.service.beginning(self.spec), self.ids)? {
            self.service.reload().await?;
            self.board.warn(format!("ETCD_RESTART: {RESTART}"));
        }
        // etcd looks at it without data only: nobody has to restart for it.
        self.service.tell(self.spec, &Beginning::is_over(self.spec), self.ids)?;
        let own = Ctl::of(self.host, self.spec, vec![self.spec.client_url()]);
        let seen = match own.members().await {
            Ok(cluster) => cluster.named(),
            Err(failure) => {
                tracing::debug!("{failure}");
                Record::read(self.host)?.map(|record| record.seen).unwrap_or_default()
            }
        };
        Record::member(self.spec, serves.identity, seen).write(self.host)?;
        Ok(Outcome::Arrived)
    }

    async fn start(&self) -> Result<Outcome, Failure> {
        self.service.start().await?;
        Ok(Outcome::Begun(self.service.state().await))
    }

    /// Speaks to the other members of `cluster`.
    fn ctl(&self, cluster: Option<&Cluster>) -> Ctl<'_> {
        let others = cluster.iter().flat_map(|cluster| &cluster.members);
        let others = others.filter(|member| member.name != self.spec.node_name && !member.is_at(&self.spec.peer_url()));
        Ctl::of(self.host, self.spec, others.flat_map(|member| member.client_urls.clone()).collect())
    }

    async fn gave_up(&self, why: &str, whole: Duration) -> Failure {
        let state = self.service.state().await;
        let why = if why == state || why.is_empty() { state } else { format!("{why}; {state}") };
        let what = format!("etcd on {} does not serve after {} s: {why}", self.spec.node_name, whole.as_secs());
        Failure::new(Code::EtcdUnavailable, what)
            .with_remedy("journalctl -u etcd here, and cks-agent etcd status on another member")
    }
}

/// How far a look brought it.
enum Outcome {
    /// It serves and votes.
    Arrived,
    /// etcd is started: what it is at.
    Begun(String),
    /// Something has to happen first.
    Again(String),
}
