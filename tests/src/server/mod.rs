//! CloudStack's management server, as far as its Kubernetes service goes: what it sends to nodes, what it asks them over
//! SSH, and what it makes of their answers. Nodes, SSH and HTTPS are real; CloudStack's own API is a [`Cloud`].
//!
//! | module | is |
//! |---|---|
//! | [`release`], [`pace`] | what differs between releases; the server's times, shortened |
//! | [`cluster`] | a cluster as the database has it |
//! | [`cloud`] | what hypervisors and the virtual router are asked for |
//! | `user_data`, `templates/` | what a machine is told |
//! | [`rules`] | ports of the public address, forwarded to machines |
//! | `session`, `answer` | looks from outside, and what is read out of the answers |
//! | `scripts` | what is pushed to nodes |
//! | `create`, `external`, `upgrade`, `scale`, `delete` | the walks, step by step |
//! | [`hardware`], `cloud_init` | machines in namespaces that are such a cloud, and how they boot |
//! | [`transcript`] | what was asked and answered on a walk |

pub mod cloud;
pub mod cluster;
pub mod hardware;
pub mod pace;
pub mod release;
pub mod transcript;

mod answer;
mod cloud_init;
mod create;
mod delete;
mod external;
mod provider;
pub mod rules;
mod scale;
mod scripts;
mod session;
mod upgrade;
mod user_data;
mod walk;

use std::path::Path;

use anyhow::{Context as _, Result};

pub use self::cloud::Cloud;
pub use self::cluster::{Cluster, Order, Registry, Role, Vm};
pub use self::pace::Pace;
pub use self::release::Release;
pub use self::transcript::{GivenUp, Step, Transcript, Verdict};
use self::user_data::Certificates;
use self::walk::Walk;
use crate::authority::Authority;

/// A management server.
#[derive(Debug, Clone, Copy)]
pub struct ManagementServer {
    /// Of CloudStack.
    pub release: Release,
    /// How fast it lives.
    pub pace: Pace,
}

impl ManagementServer {
    /// `createKubernetesCluster`.
    ///
    /// # Errors
    /// On the first answer that is of no use, with the way there.
    pub fn create(self, cloud: &mut dyn Cloud, order: &Order) -> Result<(Cluster, Transcript), GivenUp> {
        self.walk("create", cloud, |walk| create::create(walk, order))
    }

    /// `addNodesToKubernetesCluster`: machines that are there already become workers. Their disc comes from the virtual
    /// router where `over_router` says so.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn add_external_nodes(
        self,
        cloud: &mut dyn Cloud,
        cluster: &mut Cluster,
        nodes: &[external::Candidate],
        over_router: bool,
    ) -> Result<Transcript, GivenUp> {
        self.walk("add external nodes", cloud, |walk| external::add(walk, cluster, nodes, over_router)).map(no_value)
    }

    /// `removeNodesFromKubernetesCluster`. The server minds no answer of it: [`Transcript::ignored`] tells.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn remove_external_node(
        self,
        cloud: &mut dyn Cloud,
        cluster: &mut Cluster,
        node: &str,
    ) -> Result<Transcript, GivenUp> {
        self.walk("remove an external node", cloud, |walk| external::remove(walk, cluster, node)).map(no_value)
    }

    /// `upgradeKubernetesCluster`, by the script that the server pushes.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn upgrade(self, cloud: &mut dyn Cloud, cluster: &mut Cluster, version: &str) -> Result<Transcript, GivenUp> {
        self.walk("upgrade", cloud, |walk| upgrade::upgrade(walk, cluster, version)).map(no_value)
    }

    /// `scaleKubernetesCluster` to a number of workers.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn scale(self, cloud: &mut dyn Cloud, cluster: &mut Cluster, workers: usize) -> Result<Transcript, GivenUp> {
        self.walk("scale", cloud, |walk| scale::scale(walk, cluster, workers)).map(no_value)
    }

    /// `scaleKubernetesCluster` with an autoscaler between two numbers of workers, or without one.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn autoscale(
        self,
        cloud: &mut dyn Cloud,
        cluster: &Cluster,
        between: Option<(usize, usize)>,
    ) -> Result<Transcript, GivenUp> {
        self.walk("autoscale", cloud, |walk| scale::autoscale(walk, cluster, between)).map(no_value)
    }

    /// `deleteKubernetesCluster`.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn delete(self, cloud: &mut dyn Cloud, cluster: &mut Cluster) -> Result<Transcript, GivenUp> {
        self.walk("delete", cloud, |walk| delete::delete(walk, cluster)).map(no_value)
    }

    fn walk<T>(
        self,
        name: &'static str,
        cloud: &mut dyn Cloud,
        job: impl FnOnce(&mut Walk<'_>) -> Result<T>,
    ) -> Result<(T, Transcript), GivenUp> {
        let transcript = Transcript { release: self.release, walk: name, steps: Vec::new() };
        let begun = Walk::new(self, cloud, transcript.clone());
        let mut walk = begun.map_err(|error| GivenUp { why: format!("{error:#}"), transcript })?;
        match job(&mut walk) {
            Ok(value) => Ok((value, walk.transcript)),
            Err(error) => Err(GivenUp { why: format!("{error:#}"), transcript: walk.transcript }),
        }
    }
}

pub use self::external::Candidate;

fn no_value(((), transcript): ((), Transcript)) -> Transcript {
    transcript
}

/// What CloudStack's authority signs for a control plane node.
fn certificates(directory: &Path, address: &str) -> Result<Certificates> {
    let authority = Authority::new(directory)?;
    let identity = authority.issue(address)?;
    let [authority, certificate, key] = [&authority.certificate, &identity.certificate, &identity.key]
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("Reading {}", path.display())));
    Ok(Certificates { authority: authority?, certificate: certificate?, key: key? })
}
