//! What has to be done so that an installed node is a member of its cluster.
//!
//! [`Facts`] say what is there, [`actions`] what is missing, in order; on a finished node it is nothing. A membership is
//! a transaction: it is written down before anything irreversible is begun ([`Stage::Begun`]), and a try that broke
//! off is first taken back as far as it got, or, where others may have joined meanwhile, gone on with.

pub mod bindings;
pub mod discovery;
mod facts;
mod refusal;
#[cfg(test)]
mod tests;

pub use self::facts::{Facts, Identity, Record, Stage};
pub use self::refusal::classify;
use crate::failure::{Code, Failure};
use crate::node_spec::{Join, Membership, Network, NodeSpec};

/// One thing to do. Each is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Kernel modules and settings, swap; then the checks of the machine.
    PrepareHost,
    /// The container runtime's settings, its restart where they changed, and the proof that they are in force.
    ConfigureRuntime,
    /// The etcd member: its unit, its place in the cluster, its health.
    ServeEtcd,
    /// What a try that broke off left behind is taken away (`kubeadm reset`).
    TakeBack {
        /// Why.
        why: String,
    },
    /// The cluster begins (`kubeadm init`).
    Init {
        /// Whether an earlier try is gone on with: its authority and its data are kept.
        again: bool,
    },
    /// The node joins (`kubeadm join`).
    Join,
    /// What `kubeadm join` had still to do when it was killed, on a worker that its cluster knows already.
    FinishJoin,
    /// What belongs to every cluster is applied.
    Apply,
    /// What the management server looks for is left where it looks.
    HandOver,
    /// The node becomes ready.
    AwaitReady,
}

impl Action {
    /// For people: what is done.
    #[must_use]
    pub fn shown(&self, spec: &NodeSpec) -> String {
        let endpoint = |membership: &Membership| match membership {
            Membership::ControlPlane(join) | Membership::Worker(join) => join.endpoint.to_string(),
            Membership::FirstControlPlane(_) | Membership::Etcd => String::new(),
        };
        match self {
            Self::PrepareHost => "prepare the host and check it".to_owned(),
            Self::ConfigureRuntime => "configure containerd and prove it".to_owned(),
            Self::ServeEtcd => "serve as an etcd member".to_owned(),
            Self::TakeBack { why } => format!("take back what an earlier try left: {why}"),
            Self::Init { again: false } => "begin the cluster: kubeadm init".to_owned(),
            Self::Init { again: true } => "go on beginning the cluster: kubeadm init".to_owned(),
            Self::Join => {
                let at = spec.membership.as_ref().map(endpoint).unwrap_or_default();
                format!("join the cluster at {at}: kubeadm join")
            }
            Self::FinishJoin => "finish what kubeadm join began".to_owned(),
            Self::Apply => "apply the pod network, the dashboard and role bindings".to_owned(),
            Self::HandOver => "leave what the management server looks for".to_owned(),
            Self::AwaitReady => "wait until the node is ready".to_owned(),
        }
    }
}

/// What is missing, in the order in which it is done.
///
/// # Errors
/// `ALREADY_MEMBER` when the machine is a node of another kind, its cluster disowns it, or it lost its identity and serves still; `API_UNREACHABLE` when only the API server
/// can tell how far an earlier try got.
pub fn actions(spec: &NodeSpec, facts: &Facts) -> Result<Vec<Action>, Failure> {
    let Some(membership) = &spec.membership else { return Ok(Vec::new()) };
    let mut actions = Vec::new();
    if let Some(record) = &facts.record
        && record.membership != kind_of(membership)
    {
        let what = format!("this machine is {} of a cluster, and shall be {}", record.membership, kind_of(membership));
        return Err(Failure::new(Code::AlreadyMember, what));
    }
    if !facts.host_is_prepared {
        actions.push(Action::PrepareHost);
    }
    match membership {
        Membership::Etcd => {
            // The server looks for nothing on it.
            if !facts.etcd_serves {
                actions.push(Action::ServeEtcd);
            }
            return Ok(actions);
        }
        _ if !facts.runtime_is_configured => actions.push(Action::ConfigureRuntime),
        _ => {}
    }
    let network = match membership {
        Membership::FirstControlPlane(_) => {
            actions.extend(init_actions(facts));
            if facts.made_by_others() || facts.is_applied { None } else { Some(Action::Apply) }
        }
        _ => {
            actions.extend(join_actions(spec, membership, facts)?);
            None
        }
    };
    actions.extend(network);
    if !facts.is_handed_over {
        actions.push(Action::HandOver);
    }
    let nobody_brings_a_network = matches!(
        membership,
        Membership::FirstControlPlane(init) if init.network == Network::Elsewhere
    );
    if !matches!(facts.identity, Identity::Known { ready: true, .. }) && !nobody_brings_a_network {
        actions.push(Action::AwaitReady);
    }
    Ok(actions)
}

/// A membership's name, as records and messages have it.
#[must_use]
pub fn kind_of(membership: &Membership) -> &'static str {
    match membership {
        Membership::FirstControlPlane(_) => "the first control plane node",
        Membership::ControlPlane(_) => "a control plane node",
        Membership::Worker(_) => "a worker",
        Membership::Etcd => "an etcd member",
    }
}

/// An init that broke off is gone on with and never taken back: somebody may have joined since, and a second authority
/// would be a second cluster. kubeadm takes over keys, data and manifests that are there.
fn init_actions(facts: &Facts) -> Vec<Action> {
    if facts.is_member() || facts.made_by_others() {
        return Vec::new();
    }
    vec![Action::Init { again: facts.has_leftovers() }]
}

fn join_actions(spec: &NodeSpec, membership: &Membership, facts: &Facts) -> Result<Vec<Action>, Failure> {
    if let Membership::ControlPlane(join) = membership
        && facts.serves_without_identity()
    {
        return Err(identity_lost(spec, join));
    }
    let is_member = facts.is_member() || facts.made_by_others();
    let take_back = |why: &str| match is_member {
        false => Ok(vec![Action::TakeBack { why: why.to_owned() }, Action::Join]),
        // What served once is taken away by nobody's guess.
        true => Err(Failure::new(Code::AlreadyMember, format!("this machine was a member of its cluster, but {why}"))),
    };
    if !facts.kubelet_conf {
        // What the server's own removal (`kubeadm reset`) left is a try that broke off, too.
        return if facts.has_leftovers() { take_back("the node has no identity yet") } else { Ok(vec![Action::Join]) };
    }
    let is_control_plane = matches!(membership, Membership::ControlPlane(_));
    match &facts.identity {
        Identity::Known { .. } if is_member => Ok(Vec::new()),
        Identity::Known { .. } if !is_control_plane => Ok(vec![Action::FinishJoin]),
        Identity::Known { .. } => take_back("a control plane node is not whole before kubeadm says so"),
        Identity::Unreachable { .. } if is_member => Ok(Vec::new()),
        Identity::Unreachable { why } => {
            let what =
                format!("how far an earlier try to join got, only the API server knows, and it does not answer: {why}");
            Err(Failure::new(Code::ApiUnreachable, what))
        }
        Identity::Unknown => take_back("the cluster does not know this node any more"),
        Identity::Refused { why } => take_back(&format!("the cluster refuses the node's identity: {why}")),
        Identity::None => take_back("the node's identity can't be read"),
    }
}

/// Its etcd may hold the last copy of the cluster's data: it is not taken back for a file that can be made again.
fn identity_lost(spec: &NodeSpec, join: &Join) -> Failure {
    let what =
        "this machine was a control plane node of its cluster and looks like one still, but its kubelet.conf is gone";
    let remedy = format!(
        "kubeadm init phase kubeconfig kubelet --node-name {} --control-plane-endpoint {} makes kubelet.conf again, then systemctl restart kubelet; \
         or take the node out: cks-agent leave",
        spec.node_name, join.endpoint
    );
    Failure::new(Code::AlreadyMember, what).with_remedy(remedy)
}
