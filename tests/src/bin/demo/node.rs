//! A node of the demo: a root directory and `cks-agent` working on it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cks_tests::process::Command;
use cks_tests::programs;
use cks_tests::vr::Vr;

/// An empty directory that becomes a node.
#[derive(Debug)]
pub(crate) struct Node {
    /// The node's `/`.
    pub(crate) root: PathBuf,
    arguments: Vec<String>,
}

impl Node {
    /// `arguments` are what `cks-agent bootstrap` is told about this node.
    pub(crate) fn new(root: PathBuf, arguments: &[&str]) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("Making {}", root.display()))?;
        Ok(Self { root, arguments: arguments.iter().map(|&word| word.to_owned()).collect() })
    }

    /// `cks-agent bootstrap`, in the network of the virtual router.
    pub(crate) fn bootstrap(&self, vr: &Vr) -> Result<Command> {
        let agent = Command::new(programs::built("cks-agent")?).arg("bootstrap").arg("--root").arg(&self.root);
        Ok(vr.netns.enter(agent.args(["--source", vr.url.as_str()]).args(&self.arguments)))
    }

    /// `cks-agent status`.
    pub(crate) fn status(&self) -> Result<Command> {
        Ok(Command::new(programs::built("cks-agent")?).arg("status").arg("--root").arg(&self.root))
    }
}
