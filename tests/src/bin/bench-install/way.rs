//! The two ways to install a node over the virtual router, each on a node, a containerd and a disk of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bootstrap::bundle::Role;
use cks_tests::containerd::Containerd;
use cks_tests::link::Link;
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::stock::StockNode;
use cks_tests::vr::Vr;

use crate::content::warm;
use crate::fresh::Fresh;
use crate::measure::{self, Measured};

/// `/run` of a node is memory; below `--root` it would be the disk.
const RUN_IN_MEMORY: &str = r#"mkdir -p "$0" && mount -t tmpfs tmpfs "$0" && exec "$@""#;

/// How often the link's counter is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// A virtual router that serves a tree, and the wire to a node.
#[derive(Debug)]
pub(crate) struct Site {
    vr: Vr,
    link: Link,
    tree: PathBuf,
}

/// What one of our nodes took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Installed {
    /// From nothing to everything.
    pub(crate) first: Measured,
    /// The same command once more.
    pub(crate) second: Measured,
}

impl Site {
    /// Serves `tree` over a link of `megabits`.
    pub(crate) fn new(tree: &Path, megabits: Option<u32>) -> Result<Self> {
        let vr = Vr::start(tree)?;
        let link = Link::new(&vr.netns, megabits)?;
        Ok(Self { vr, link, tree: tree.to_owned() })
    }

    /// The stock scripts, without their sleeps.
    pub(crate) fn stock(&self, role: Role, programs: Option<&Path>) -> Result<Measured> {
        let disk = Fresh::new()?;
        let containerd = start(&disk, programs)?;
        let node = StockNode::below(&disk.path)?;
        let role = if role == Role::ControlPlane { "control" } else { role.as_str() };
        let command = node.installing(role, &self.link.node, containerd.as_ref());
        self.measure(&command, containerd.as_ref(), &node.root)
    }

    /// `cks-agent bootstrap`, twice.
    pub(crate) fn ours(&self, role: Role, programs: Option<&Path>) -> Result<Installed> {
        let disk = Fresh::new()?;
        let containerd = start(&disk, programs)?;
        let node = self.node(&disk, role, containerd.as_ref())?;
        let command = self.bootstrap(&node)?;
        let first = self.measure(&command, containerd.as_ref(), &node.root)?;
        let second = self.measure(&command, containerd.as_ref(), &node.root)?;
        Ok(Installed { first, second })
    }

    /// The rest after `kill -9` of the agent when the link has brought `half` bytes; `whole` is what it
    /// brings for an undisturbed run.
    pub(crate) fn after_kill(&self, role: Role, programs: Option<&Path>, half: u64, whole: u64) -> Result<Measured> {
        let disk = Fresh::new()?;
        let containerd = start(&disk, programs)?;
        let node = self.node(&disk, role, containerd.as_ref())?;
        let command = self.bootstrap(&node)?;
        warm(&self.tree)?;
        let begin = self.link.received()?;
        let mut agent = command.start(&node.root.with_file_name("killed.log"))?;
        while self.link.received()? - begin < half {
            ensure!(agent.ended()?.is_none(), "cks-agent ended before it had {half} bytes");
            thread::sleep(LOOK);
        }
        agent.kill()?;
        let mut rest = self.measure(&command, containerd.as_ref(), &node.root)?;
        rest.again = (self.link.received()? - begin).saturating_sub(whole);
        Ok(rest)
    }

    fn node(&self, disk: &Fresh, role: Role, containerd: Option<&Containerd>) -> Result<Node> {
        let node = Node::below(&disk.path, role.as_str())?.inside(&self.link.node);
        Ok(match containerd {
            Some(containerd) => node.using(containerd),
            None => node,
        })
    }

    fn bootstrap(&self, node: &Node) -> Result<Command> {
        let run = node.root.join("run");
        fs::create_dir_all(&run).with_context(|| format!("Making {}", run.display()))?;
        let command = node.bootstrap(&[self.vr.url.as_str()])?;
        let command = command.under("sh", ["-c".as_ref(), RUN_IN_MEMORY.as_ref(), run.as_os_str()]);
        Ok(command.under("unshare", ["--mount", "--propagation", "private"]))
    }

    fn measure(&self, command: &Command, containerd: Option<&Containerd>, disk: &Path) -> Result<Measured> {
        warm(&self.tree)?;
        let sent = || Ok::<u64, anyhow::Error>(self.vr.requests()?.iter().map(|request| request.bytes).sum());
        let (before, link) = (sent()?, self.link.received()?);
        let mut measured = measure::run(command, containerd, disk)?;
        measured.fetched = sent()? - before;
        measured.received = self.link.received()? - link;
        Ok(measured)
    }
}

fn start(disk: &Fresh, programs: Option<&Path>) -> Result<Option<Containerd>> {
    programs.map(|programs| Containerd::start_below(&disk.path, programs)).transpose()
}
