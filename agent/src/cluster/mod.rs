//! Makes an installed node a member of its cluster: looks, does what is missing, writes down how far it got, and looks
//! again, until nothing is missing or the deadline is over.
//!
//! What fails in passing is tried again, with a pause that grows, inside the one deadline; what a person has to mend
//! ends the run at once.

mod act;
pub mod api;
pub mod facts;
mod fleeting;
pub mod identity;
pub mod kubeadm;
pub mod objects;
pub mod record;
pub mod redact;

use std::cell::Cell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bootstrap::bundle::Role;
use bootstrap::cluster::{self, Action, Facts, Stage};
use bootstrap::failure::{Code, Failure, Retry};
use bootstrap::node_spec::{Membership, NodeSpec};
use bootstrap::plan::Bundle;
use bootstrap::preflight::{Check, Subject, ignored_by_kubeadm, node_ip};
use bootstrap::render;
use bootstrap::render::kubeadm::{Arguments, Context};
use bootstrap::state::Phase;
use bootstrap::version::Version;

use crate::adopt;
use crate::board::Board;
use crate::config::Config;
use crate::etcd;
use crate::host::Host;
use crate::host_settings;
use crate::preflight::{self, Looking};
use crate::report;
use crate::runtime;

/// The first pause after what failed in passing, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));
/// A runtime that is there answers within seconds; the settings' wait is for an ISO, which somebody may still have to attach.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(120);
/// At boot it takes a while until names are known.
const NAME_PATIENCE: Duration = Duration::from_secs(60);
/// A node of this name may be this very machine before it left, or an own earlier try: it looks ready for as long as the
/// control plane hears nothing of it (`--node-monitor-grace-period`, 50 s).
const OWN_LEFTOVER: Duration = Duration::from_secs(90);

/// What a membership is worked on with.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The machine.
    pub host: &'a Host,
    /// What it shall become.
    pub spec: &'a NodeSpec,
    /// The settings.
    pub settings: &'a Config,
    /// The bundle that is installed.
    pub bundle: &'a Bundle,
    /// The node's state.
    pub board: &'a Board,
    /// The bundle's Kubernetes version.
    pub version: Version,
    /// The directory of patches for what kubeadm writes, where there is one.
    pub patches: Option<String>,
    /// Checks of kubeadm's that may fail.
    pub ignored: Vec<String>,
    /// Where the container runtime listens.
    pub socket: PathBuf,
    /// The same as kubeadm and the kubelet are told: `unix://…`.
    pub cri_socket: String,
    /// When this began.
    pub began: Instant,
    /// How long all of it may take.
    pub patience: Duration,
    /// What this run has proved.
    pub proved: Proved,
}

/// Makes the node a member of its cluster.
///
/// # Errors
/// The failure that a person has to mend, or the last one when the deadline is over.
pub async fn carry_out(ground: &Ground<'_>) -> Result<(), Failure> {
    kubeadm::forget(ground.host);
    let mut pause = PAUSES.0;
    loop {
        let outcome = round(ground).await;
        let left = ground.left();
        let failure = match outcome {
            Ok(None) => return finish(ground),
            Ok(Some(_)) if !left.is_zero() => {
                pause = PAUSES.0;
                continue;
            }
            Ok(Some(last)) => restless(&last),
            Err(failure) => failure,
        };
        if !may_pass(ground, &failure) || left.is_zero() {
            return Err(failure);
        }
        // Jitter: the nodes of a cluster fail together and must not come back together.
        let spread = pause.mul_f64(rand::random_range(0.75..1.25)).min(left);
        let told = report::state_of(&failure);
        tracing::warn!(code = %failure.code, "tried again in {} s: {}", spread.as_secs(), told.message);
        let waits_for = "the next try to become a member of the cluster";
        ground.board.wait_because(failure.code, waits_for, &told.message, ground.began, spread, ground.patience);
        tokio::time::sleep(spread).await;
        ground.board.stop_waiting(waits_for);
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn restless(last: &str) -> Failure {
    let what = format!("the machine does not stay as it is left: again to do: {last}");
    Failure::new(Code::TimedOut, what).with_remedy("find out what else changes it")
}

/// Does what is missing, and tells what it did last; none when nothing was missing.
async fn round(ground: &Ground<'_>) -> Result<Option<String>, Failure> {
    if let Some(process) = kubeadm::at_work(ground.host) {
        // It outlives an agent that was killed, and may yet finish what that one began.
        let what = format!("another kubeadm is at work (process {process})");
        return Err(Failure::new(Code::AlreadyRunning, what).with_remedy("it ends by itself within minutes"));
    }
    let facts = facts::gather(ground).await?;
    let actions = cluster::actions(ground.spec, &facts)?;
    // What is taken back is looked at right before: a node may turn out to be a member while its machine is set up.
    let set_up = actions.iter().take_while(|action| !matches!(action, Action::TakeBack { .. })).count();
    let now = if set_up == 0 { actions.len() } else { set_up };
    for action in &actions[..now] {
        ground.board.phase(phase_of(action, ground.spec));
        tracing::info!("begins: {}", action.shown(ground.spec));
        act::act(ground, action, &facts).await?;
    }
    Ok(actions.get(now.wrapping_sub(1)).map(|action| action.shown(ground.spec)))
}

fn phase_of(action: &Action, spec: &NodeSpec) -> Phase {
    match action {
        Action::PrepareHost | Action::ConfigureRuntime => Phase::Configure,
        Action::ServeEtcd => Phase::Etcd,
        Action::Init { .. } => Phase::Init,
        Action::TakeBack { .. } | Action::Join | Action::FinishJoin => Phase::Join,
        Action::Apply => Phase::Apply,
        Action::HandOver => Phase::HandOver,
        Action::AwaitReady => match spec.membership {
            Some(Membership::FirstControlPlane(_)) => Phase::Init,
            _ => Phase::Join,
        },
    }
}

/// Whether the next try may succeed by itself.
fn may_pass(ground: &Ground<'_>, failure: &Failure) -> bool {
    let since = ground.proved.taken_back.get().unwrap_or(ground.began);
    let may_be_our_own = failure.code == Code::NodeNameTaken && since.elapsed() < OWN_LEFTOVER;
    failure.code.retry() == Retry::Transient || may_be_our_own
}

fn finish(ground: &Ground<'_>) -> Result<(), Failure> {
    if ground.spec.membership.is_some() {
        record::reach(ground.host, ground.spec, Stage::Ready)?;
    }
    ground.board.phase(Phase::Ready);
    Ok(())
}

impl Ground<'_> {
    /// What is left of the time.
    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.began.elapsed())
    }

    /// What kubeadm's configuration is rendered with.
    ///
    /// # Errors
    /// `HOST_UNFIT` when this machine has no address that the cluster could reach it at.
    fn context(&self) -> Result<Context<'_>, Failure> {
        let address = self.proved.address.get().ok_or_else(|| {
            Failure::new(Code::HostUnfit, "this machine has no address that the cluster could reach it at")
                .with_remedy("give it an address and a route, or say node-ip in a cks: section")
        })?;
        Ok(Context {
            arguments: &self.bundle.manifest.node.kubeadm_arguments,
            patches: self.patches.as_deref(),
            ignored_errors: &self.ignored,
            cri_socket: &self.cri_socket,
            cgroup_driver: self.settings.cluster.cgroup_driver,
            allow_cgroup_v1: self.settings.cluster.allow_cgroup_v1,
            ..Context::new(&self.version, address)
        })
    }

    /// What a run has proved itself need not be proved again in the same run.
    fn look(&self, facts: &mut Facts) {
        facts.host_is_prepared = self.proved.host.get();
        facts.runtime_is_configured = self.proved.runtime.get();
        facts.etcd_serves = self.proved.etcd.get();
        facts.is_handed_over = self.proved.handed_over.get();
    }

    async fn configure_runtime(&self) -> Result<(), Failure> {
        let wish = runtime::Wish {
            runtime: &self.spec.runtime,
            sandbox_image: self.bundle.manifest.sandbox_image.as_deref(),
            cgroup_driver: self.settings.cluster.cgroup_driver,
            socket: &self.socket,
            patience: self.settings.wait.min(RUNTIME_PATIENCE),
        };
        runtime::apply(self.host, self.board, &wish).await?;
        self.proved.runtime.set(true);
        Ok(())
    }

    async fn serve_etcd(&self) -> Result<(), Failure> {
        record::begin(self.host, self.spec)?;
        etcd::ensure(self.host, self.spec, self.board).await?;
        record::reach(self.host, self.spec, Stage::Member)?;
        self.proved.etcd.set(true);
        Ok(())
    }

    fn hand_over(&self) -> Result<(), Failure> {
        let written = adopt::hand_over(self.host, self.spec, &self.bundle.directory())?;
        tracing::info!(
            "handed over: {}",
            if written.is_empty() { "nothing new".to_owned() } else { written.join(", ") }
        );
        self.proved.handed_over.set(true);
        Ok(())
    }

    async fn prepare_host(&self, facts: &Facts) -> Result<(), Failure> {
        let node = &self.bundle.manifest.node;
        let (arguments, sysctl) = (Arguments::parse(&node.kubeadm_arguments)?, render::host::sysctl(&node.sysctl));
        let is_control_plane = self.spec.role == Role::ControlPlane;
        for told in host_settings::prepare(self.host, &sysctl, is_control_plane).await {
            // Whether it matters, the checks say.
            tracing::warn!("{told}");
        }
        let subject = Subject {
            spec: self.spec,
            version: Some(&self.version).filter(|_| self.spec.role != Role::Etcd),
            arguments: &arguments,
            sysctl: &sysctl,
            begun: facts.record.is_some() || facts.has_leftovers(),
        };
        let looking =
            Looking { subject, reference: None, skipped: skipped(self.settings, self.spec), patience: NAME_PATIENCE };
        let seen = preflight::check(self.host, self.board, &looking).await?;
        self.proved.address.set(node_ip(self.spec, &seen));
        self.proved.host.set(true);
        Ok(())
    }
}

/// The checks of the machine that are left out, by name.
fn skipped(settings: &Config, spec: &NodeSpec) -> Vec<String> {
    let cgroup = settings.cluster.allow_cgroup_v1.then(|| Check::Cgroup.name().to_owned());
    settings.preflight.skip.iter().chain(&spec.registration.skip_checks).cloned().chain(cgroup).collect()
}

/// Checks of kubeadm's that may fail: those of the settings, and its own of what is left out.
///
/// # Errors
/// `CONFIG_INVALID` names a check that there is not.
pub fn ignored(settings: &Config, spec: &NodeSpec) -> Result<Vec<String>, Failure> {
    let theirs = ignored_by_kubeadm(&Check::named(&skipped(settings, spec))?);
    Ok(settings.cluster.kubeadm_ignores.iter().cloned().chain(theirs).collect())
}

/// What this run has proved.
#[derive(Debug, Default)]
pub struct Proved {
    host: Cell<bool>,
    /// The address that the control plane reaches this node at.
    address: Cell<Option<IpAddr>>,
    runtime: Cell<bool>,
    etcd: Cell<bool>,
    handed_over: Cell<bool>,
    /// When an earlier try was last taken back.
    taken_back: Cell<Option<Instant>>,
}
