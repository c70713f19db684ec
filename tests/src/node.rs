//! A directory that becomes a node, and `cks-agent` at work on it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::containerd::Containerd;
use crate::disk::Disk;
use crate::netns::Netns;
use crate::process::{Command, Output};
use crate::programs;
use crate::tree::Tree;

/// What tells about runs and not about the node: status, journal and lock.
pub const RECORDS: [&str; 2] = ["run", "var/lib/cks-agent"];

/// A node. Its files are gone when it is dropped.
#[derive(Debug)]
pub struct Node {
    /// The node's `/`, as the test sees it.
    pub root: PathBuf,
    /// The same as `cks-agent` sees it.
    seen_inside: PathBuf,
    arguments: Vec<String>,
    network: Option<String>,
    mounts: Option<String>,
    _directory: Option<TempDir>,
}

impl Node {
    /// An empty node of a role: `etcd`, `worker`, `control-plane`.
    ///
    /// # Errors
    /// When its directory can't be made.
    pub fn new(role: &str) -> Result<Self> {
        Self::below("/var/tmp".as_ref(), role)
    }

    /// As [`Self::new`], in the directory `within`.
    ///
    /// # Errors
    /// When its directory can't be made.
    pub fn below(within: &Path, role: &str) -> Result<Self> {
        let directory = crate::scratch_below(within, "node")?;
        let root = directory.path().join("root");
        fs::create_dir(&root).with_context(|| format!("Making {}", root.display()))?;
        Ok(Self::at(role, root.clone(), root, None, Some(directory)))
    }

    /// An empty node whose root is a filesystem of its own.
    #[must_use]
    pub fn on(role: &str, disk: &Disk) -> Self {
        Self::at(role, disk.here(), disk.path.clone(), Some(disk.namespace()), None)
    }

    fn at(role: &str, root: PathBuf, inside: PathBuf, mounts: Option<String>, directory: Option<TempDir>) -> Self {
        let arguments = ["--role", role, "--node-name", "node-1"].map(str::to_owned).to_vec();
        Self { root, seen_inside: inside, arguments, network: None, mounts, _directory: directory }
    }

    /// With more arguments of `cks-agent bootstrap`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// In the network of a virtual router.
    #[must_use]
    pub fn inside(mut self, netns: &Netns) -> Self {
        self.network = Some(netns.path());
        self
    }

    /// With a container runtime.
    #[must_use]
    pub fn using(self, containerd: &Containerd) -> Self {
        let socket = containerd.socket.to_string_lossy().into_owned();
        self.with(&["--containerd", &socket])
    }

    /// `cks-agent` with a subcommand for this node.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn agent(&self, subcommand: &str) -> Result<Command> {
        let agent = Command::new(programs::built("cks-agent")?);
        let agent = agent.arg(subcommand).arg("--root").arg(&self.seen_inside);
        let agent = match &self.mounts {
            Some(namespace) => agent.under("nsenter", [format!("--mount={namespace}"), "--".to_owned()]),
            None => agent,
        };
        Ok(match &self.network {
            Some(network) => agent.network(network),
            None => agent,
        })
    }

    /// `cks-agent bootstrap` from these sources.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn bootstrap(&self, sources: &[&str]) -> Result<Command> {
        let sources = sources.iter().flat_map(|source| ["--source", source]);
        Ok(self.agent("bootstrap")?.args(&self.arguments).args(sources))
    }

    /// Runs [`Node::bootstrap`], whatever comes of it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn run(&self, sources: &[&str]) -> Result<Output> {
        self.bootstrap(sources)?.output()
    }

    /// What `cks-agent status --json` prints.
    ///
    /// # Errors
    /// When it prints no JSON.
    pub fn status(&self) -> Result<Value> {
        let output = self.agent("status")?.arg("--json").output()?;
        serde_json::from_str(&output.stdout).with_context(|| format!("Reading the status of a node: {output:?}"))
    }

    /// The node's files, without [`RECORDS`].
    ///
    /// # Errors
    /// When they can't be read.
    pub fn tree(&self) -> Result<Tree> {
        Tree::read(&self.root, &RECORDS)
    }

    /// What of an installation is in force: programs on the node's path, plugins, units, settings; and
    /// what a broken-off write of one of them left behind.
    ///
    /// # Errors
    /// When the files can't be read.
    pub fn in_force(&self) -> Result<Vec<String>> {
        let tree = Tree::read(&self.root, &[])?;
        let files = tree.lines.into_iter().filter(|line| !line.starts_with("d "));
        let live = |line: &String| {
            let path = line.split_whitespace().find(|word| word.contains('/')).unwrap_or_default();
            let public = ["opt/bin/", "opt/cni/", "etc/"].iter().any(|directory| path.starts_with(directory));
            public || path.contains(".cks-new")
        };
        Ok(files.filter(live).collect())
    }
}

/// The stable code in what a refused run said: `DIGEST_MISMATCH` of `error[DIGEST_MISMATCH]: …`.
#[must_use]
pub fn code(output: &Output) -> &str {
    let line = output.stderr.lines().find_map(|line| line.strip_prefix("error["));
    line.and_then(|rest| rest.split(']').next()).unwrap_or_default()
}
