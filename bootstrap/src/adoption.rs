//! Which of the management server's scripts are taken over: their names stay, their work is done by the agent.
//!
//! A script is taken over only when everything it says is what the server's own scripts say, in whichever release. What an
//! operator added to a template would otherwise be lost without a word, so one statement that is not known leaves all
//! scripts in place, and they run as they always did.

mod runcmd;
mod script;
pub mod standing;
mod vocabulary;

use std::fmt;

use crate::bundle::Role;
use crate::node_spec::cni::CniAction;
use crate::node_spec::{Init, Membership, Network, NodeSpec};
use crate::text::plain;

/// The line by which a file of ours is known.
const MARK: &str = "# cks-agent stands in for the management server's";

/// A file that the server's user data puts on a node. In this order they are taken over: whoever runs the first has to
/// wait for the agent, and reaches none of the others before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// Installs from the ISO.
    Setup,
    /// Installs etcd from the ISO.
    SetupEtcd,
    /// kubeadm init or join, and what comes after it.
    Deploy,
    /// The unit of that.
    DeployUnit,
    /// Writes containerd's configuration, with a private registry.
    SetupContainerd,
    /// What cloud-init made of `runcmd`.
    Runcmd,
}

impl File {
    /// Every file, in the order in which they are taken over.
    pub const ALL: [Self; 6] =
        [Self::Setup, Self::SetupEtcd, Self::Deploy, Self::DeployUnit, Self::SetupContainerd, Self::Runcmd];

    /// Where it is on a node.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Setup => "/opt/bin/setup-kube-system",
            Self::SetupEtcd => "/opt/bin/setup-etcd-node",
            Self::Deploy => "/opt/bin/deploy-kube-system",
            Self::DeployUnit => "/etc/systemd/system/deploy-kube-system.service",
            Self::SetupContainerd => "/opt/bin/setup-containerd",
            Self::Runcmd => "/var/lib/cloud/instance/scripts/runcmd",
        }
    }

    /// Its name alone.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.path().rsplit_once('/').map_or(self.path(), |(_, name)| name)
    }

    /// Its permission bits, as the server's user data and cloud-init set them.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Self::Setup | Self::SetupEtcd | Self::Deploy | Self::Runcmd => 0o700,
            Self::SetupContainerd => 0o755,
            // A unit is no program; systemd warns of the bits that the server sets.
            Self::DeployUnit => 0o644,
        }
    }

    /// Its permission bits as long as it is the server's.
    #[must_use]
    pub fn stock_mode(self) -> u32 {
        if self == Self::DeployUnit { 0o755 } else { self.mode() }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// What the user data asks for, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The role.
    pub role: Role,
    /// Whether the node begins its cluster.
    pub first: bool,
    /// Whether the agent itself carries out the commands of the user's CNI configuration.
    pub runs_user_lines: bool,
}

impl Asked {
    /// What `spec` says of it.
    #[must_use]
    pub fn of(spec: &NodeSpec) -> Self {
        let init: Option<&Init> = match &spec.membership {
            Some(Membership::FirstControlPlane(init)) => Some(init),
            _ => None,
        };
        let runs = |init: &Init| match &init.network {
            Network::UserData(steps) => {
                steps.iter().any(|step| matches!(step.action, CniAction::Shell { .. } | CniAction::Program { .. }))
            }
            Network::Bundle | Network::Elsewhere => false,
        };
        Self { role: spec.role, first: init.is_some(), runs_user_lines: init.is_some_and(runs) }
    }
}

/// How a script calls the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The agent's absolute path.
    pub program: String,
    /// The root it works on, where that is not `/`.
    pub root: Option<String>,
}

/// What becomes of the server's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Files with the text that they get, in order; none where `refused` says why.
    pub take: Vec<(File, String)>,
    /// Why nothing is taken over, one line for each reason.
    pub refused: Vec<String>,
}

/// Decides about the files that are there, each with its text.
#[must_use]
pub fn decide(files: &[(File, &str)], asked: &Asked, caller: &Caller) -> Decision {
    let mut decision = Decision::default();
    let theirs = files.iter().filter(|(_, text)| !is_ours(text));
    for &(file, text) in theirs {
        match replacement(file, text, asked, caller) {
            Ok(Some(text)) => decision.take.push((file, text)),
            Ok(None) => {}
            Err(why) => decision.refused.push(format!("{file}: {why}")),
        }
    }
    if !decision.refused.is_empty() {
        decision.take.clear();
    }
    decision.take.sort();
    decision
}

/// Why nothing is taken over of the files that will be there, each with its text; one line for each reason.
#[must_use]
pub fn refusals(files: &[(File, &str)], asked: &Asked) -> Vec<String> {
    decide(files, asked, &Caller { program: String::new(), root: None }).refused
}

/// Whether a file's text is one that stands in for the server's.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    text.lines().take(5).any(|line| line.starts_with(MARK))
}

/// The text that takes the place of `text`; none where the server's may stay. In words why it has to.
fn replacement(file: File, text: &str, asked: &Asked, caller: &Caller) -> Result<Option<String>, String> {
    match file {
        File::Setup | File::SetupEtcd | File::Deploy | File::SetupContainerd => {
            vocabulary::check(text)?;
            if let Some(says) = (file == File::Deploy).then(|| contradiction(text, asked)).flatten() {
                return Err(says.to_owned());
            }
            let stage = match file {
                File::Deploy => "ready",
                File::SetupContainerd => "containerd",
                _ => "setup",
            };
            Ok(Some(format!(
                "#!/bin/sh\n{}\nexec {} attend{} {stage}\n",
                mark(file),
                quoted(&caller.program),
                root(caller)
            )))
        }
        // The server's own works, too: what it starts is ours.
        File::DeployUnit if !vocabulary::is_unit(text) => Ok(None),
        File::DeployUnit => Ok(Some(format!(
            "{}\n[Unit]\nDescription=Follow cks-agent until this node is ready\nAfter=containerd.service\n\n\
             [Service]\nType=simple\nExecStart={}\nRestart=on-failure\nRestartSec=30s\n",
            mark(file),
            File::Deploy
        ))),
        File::Runcmd => Ok(runcmd::without(text, asked.runs_user_lines).map(|lines| {
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            format!("#!/bin/sh\n{}\n{lines}", mark(file))
        })),
    }
}

/// What the script that joins the cluster does, where the user data asks for something else.
fn contradiction(text: &str, asked: &Asked) -> Option<&'static str> {
    let (inits, joins) = (text.contains("kubeadm init"), text.contains("kubeadm join"));
    let control = text.contains("--control-plane ") || text.trim_end().ends_with("--control-plane");
    match (asked.role, asked.first) {
        (Role::Etcd, _) => Some("joins a cluster, but the user data asks for an etcd member"),
        (_, true) if !inits => Some("begins no cluster, but the user data asks for the first control plane node"),
        (_, false) if inits || !joins => Some("joins no cluster, but the user data asks for that"),
        (Role::ControlPlane, false) if !control => {
            Some("joins as a worker, the user data asks for a control plane node")
        }
        (Role::Worker, false) if control => Some("joins as a control plane node, the user data asks for a worker"),
        _ => None,
    }
}

fn mark(file: File) -> String {
    format!("{MARK} {}; the original is kept in /var/lib/cks-agent/adopted/{}.", file.name(), file.name())
}

fn root(caller: &Caller) -> String {
    caller.root.as_ref().map_or_else(String::new, |root| format!(" --root {}", quoted(root)))
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A word of a foreign script, short and without anything that a terminal obeys.
fn shown(word: &str) -> String {
    plain(&word.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests;
