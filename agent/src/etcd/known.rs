//! The cluster that this node is known to be of: who its members are, and how each is.

use bootstrap::etcd::answers::EndpointStatus;
use bootstrap::etcd::members::{Cluster, Id, Member};
use bootstrap::etcd::quorum::Health;
use bootstrap::etcd::report::{self, Report};
use bootstrap::etcd::standing::Answer;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;

use super::command::recorded;
use super::ctl::Ctl;
use super::peers;
use super::record::Record;
use crate::host::Host;

/// The port of clients (CloudStack 4.21); a member tells its own once it has served.
const CLIENT_PORT: u16 = 2379;

/// A cluster as its members show it.
pub(super) struct Known<'a> {
    /// What this node was made.
    pub(super) spec: NodeSpec,
    /// Speaks to all members.
    pub(super) ctl: Ctl<'a>,
    /// The members.
    pub(super) cluster: Cluster,
    /// What those say that answer.
    pub(super) answers: Vec<EndpointStatus>,
}

impl<'a> Known<'a> {
    /// Asks all that this node knows of.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`: nobody answers, or this node is no member.
    pub(super) async fn of(host: &'a Host) -> Result<Self, Failure> {
        Self::of_spec(host, recorded(host)?).await
    }

    pub(super) async fn of_spec(host: &'a Host, spec: NodeSpec) -> Result<Self, Failure> {
        let mut wanted = spec.etcd_cluster();
        // Others may have joined since this node was told its members.
        let seen = Record::read(host)?.map(|record| record.seen).unwrap_or_default();
        wanted.extend(seen.into_iter().filter(|(_, url)| spec.etcd_cluster().iter().all(|(_, known)| known != url)));
        let ctl = Ctl::of(host, &spec, wanted.iter().map(|(_, url)| client_url(url)).collect());
        let cluster = match ctl.members().await {
            Ok(cluster) => cluster,
            // Without a quorum the members still tell each other who they are.
            Err(failure) => {
                let asked = peers::Asker::new(host, &spec)?.ask(wanted.iter().map(|(_, url)| url.as_str())).await;
                let mut clusters = asked.iter().filter_map(Answer::cluster);
                clusters.find(|cluster| cluster.is_formed()).cloned().ok_or(failure)?
            }
        };
        let ctl = ctl.at(cluster.members.iter().flat_map(|member| member.client_urls.clone()).collect());
        // Who answers nothing is told by its absence.
        let answers = ctl.status().await.unwrap_or_default();
        Ok(Self { spec, ctl, cluster, answers })
    }

    /// The cluster where others are members of it, too; none where this node is alone: it has nobody to ask, and nobody to
    /// serve meanwhile. What it was told counts only when nobody answers: a cluster grows.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`: nobody answers, and there are others.
    pub(super) async fn with_others(host: &'a Host) -> Result<Option<Self>, Failure> {
        match Self::of(host).await {
            Ok(known) => {
                let alone = known.own().is_some_and(|own| known.cluster.is_alone(own.id));
                Ok(Some(known).filter(|_| !alone))
            }
            Err(failure) => match Record::read(host)? {
                Some(record) if record.is_alone() => Ok(None),
                _ => Err(failure),
            },
        }
    }

    /// What this node was made, with the members that there are.
    pub(super) fn spec_now(&self) -> NodeSpec {
        let own = (self.spec.node_name.clone(), self.spec.peer_url());
        let others = self.cluster.named().into_iter().filter(|(name, url)| *name != own.0 && *url != own.1);
        let etcd_members = others.chain([own.clone()]).collect();
        NodeSpec { etcd_members, ..self.spec.clone() }
    }

    pub(super) fn health(&self) -> Vec<Health<'_>> {
        report::health(&self.cluster, &self.answers)
    }

    pub(super) async fn report(&self) -> Report {
        let alarms = self.ctl.alarms().await.unwrap_or_default();
        report::report(&self.cluster, &self.answers, &alarms)
    }

    /// The member that this node is; none where the cluster has none like it.
    pub(super) fn own(&self) -> Option<&Member> {
        let url = self.spec.peer_url();
        let members = &self.cluster.members;
        members.iter().find(|member| member.is_at(&url)).or_else(|| self.named(&self.spec.node_name))
    }

    pub(super) fn named(&self, name: &str) -> Option<&Member> {
        self.cluster.members.iter().find(|member| member.name == name || member.id.to_string() == name)
    }

    /// Asks all members but `id`.
    pub(super) fn others(&self, id: Id) -> Ctl<'a> {
        let others = self.cluster.members.iter().filter(|member| member.id != id);
        self.ctl.at(others.flat_map(|member| member.client_urls.clone()).collect())
    }

    /// # Errors
    /// `ETCD_UNAVAILABLE` names the members that there are.
    pub(super) fn find(&self, name: &str) -> Result<&Member, Failure> {
        self.named(name).ok_or_else(|| {
            let names: Vec<&str> = self.cluster.members.iter().map(Member::shown).collect();
            Failure::new(Code::ConfigInvalid, format!("no member is named {name}; there are {}", names.join(", ")))
        })
    }
}

/// Where clients reach the member at `peer_url`.
fn client_url(peer_url: &str) -> String {
    let Ok(mut url) = url::Url::parse(peer_url) else { return peer_url.to_owned() };
    // Fails only for URLs without a host.
    let _ = url.set_port(Some(CLIENT_PORT));
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn clients_are_answered_at_their_own_port() {
        assert_eq!(super::client_url("https://10.1.1.2:2380"), "https://10.1.1.2:2379");
        assert_eq!(super::client_url("http://[fd00::1]:2380/"), "http://[fd00::1]:2379");
    }
}
