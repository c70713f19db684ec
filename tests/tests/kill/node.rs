//! A node that is bootstrapped, killed and bootstrapped again, over one virtual router.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bootstrap::bundle::Role;
use cks_tests::containerd::Containerd;
use cks_tests::leash::Running;
use cks_tests::process::Command;
use cks_tests::tree::Tree;
use cks_tests::vr::Request;
use cks_tests::{programs, scratch};
use tempfile::TempDir;

use crate::ledger::{self, Ledger, Stretch};
use crate::sight::ingests;
use crate::world::World;

/// The name of a node's root.
const ROOT: &str = "node";

/// Leads to containerd's socket. Who kills containerd waits for every process that names its directory, and an agent
/// that waits for containerd shall not be one of them.
const SOCKET: &str = "containerd.sock";

/// What a run leaves besides the installed state: journal and status.
const OWN: [&str; 2] = ["var/lib/cks-agent", "run"];

/// A node's root, its containerd, and what was fetched for it.
pub(crate) struct Node<'w> {
    pub(crate) world: &'w World,
    pub(crate) containerd: Option<Containerd>,
    pub(crate) ledger: Ledger,
    /// Whether the node's root lies on containerd's disk, among its data.
    on_disk: bool,
    crashed: bool,
    directory: TempDir,
    log: PathBuf,
    requests: usize,
}

/// A finished node: everything that must be the same however it got there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    tree: Tree,
    /// Images, content and snapshots as `ctr` lists them.
    containerd: Tree,
    /// The files of each layer, as one digest.
    layers: Vec<String>,
    /// Whether containerd crashed. It then may have left layers, and removes them together with the next
    /// snapshot that it removes.
    crashed: bool,
}

impl<'w> Node<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        let containerd = (world.role != Role::Etcd).then(|| Containerd::start(&world.programs, None).unwrap());
        Self::with(world, containerd, false)
    }

    /// A node on a disk that can lose its power; see [`Containerd::lose_power`].
    pub(crate) fn on_disk(world: &'w World) -> Self {
        let containerd = Containerd::start_on_disk(&world.programs, 1024).unwrap();
        let node = Self::with(world, Some(containerd), true);
        fs::create_dir(node.root()).unwrap();
        fs::File::open(node.root().parent().unwrap()).unwrap().sync_all().unwrap();
        node
    }

    fn with(world: &'w World, containerd: Option<Containerd>, on_disk: bool) -> Self {
        let directory = scratch("node").unwrap();
        fs::create_dir(directory.path().join(ROOT)).unwrap();
        let log = directory.path().join("log");
        if let Some(containerd) = &containerd {
            symlink(&containerd.socket, directory.path().join(SOCKET)).unwrap();
        }
        let requests = world.vr.requests().unwrap().len();
        Self { world, containerd, ledger: Ledger::default(), on_disk, crashed: false, directory, log, requests }
    }

    /// The node's root, as it is to be seen from here.
    fn root(&self) -> PathBuf {
        match &self.containerd {
            Some(containerd) if self.on_disk => containerd.data().join(ROOT),
            _ => self.directory.path().join(ROOT),
        }
    }

    /// Where the node's absolute `path` lies.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Starts `cks-agent bootstrap`.
    pub(crate) fn start(&self) -> Running {
        fs::remove_file(&self.log).ok();
        self.command().start(&self.log).unwrap()
    }

    fn command(&self) -> Command {
        let root = match &self.containerd {
            Some(containerd) if self.on_disk => containerd.directory().join("root").join(ROOT),
            _ => self.root(),
        };
        let agent = Command::new(programs::built("cks-agent").unwrap()).arg("bootstrap").arg("--root").arg(root);
        let agent = agent.args(["--node-name", "n1", "--wait", "10s", "--role", self.world.role.as_str()]);
        let agent = agent.args(["--source", self.world.vr.url.as_str(), "--snapshotter", self.world.snapshotter]);
        self.world.vr.netns.enter(match &self.containerd {
            Some(containerd) => {
                // In its mount namespace, where its data is to be seen.
                let namespace = format!("--mount={}", containerd.mounts());
                agent
                    .arg("--containerd")
                    .arg(self.directory.path().join(SOCKET))
                    .under("nsenter", [namespace.as_str(), "--"])
            }
            None => agent,
        })
    }

    /// What the last run wrote down that it was doing.
    pub(crate) fn phase(&self) -> String {
        let state = fs::read(self.path("/run/cks-agent/status.json")).unwrap_or_default();
        serde_json::from_slice(&state).map_or("no status".to_owned(), |state: serde_json::Value| {
            format!("{}, {} of {} steps", state["phase"], state["steps"]["done"], state["steps"]["total"])
        })
    }

    /// What the last run said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs to the end and gives the time that took.
    pub(crate) fn finish(&mut self) -> Duration {
        let there = self.there();
        let took = self.finish_anew();
        self.book(&there);
        took
    }

    /// As [`Self::finish`], where what is there is damaged and may be fetched again.
    pub(crate) fn finish_anew(&self) -> Duration {
        let began = Instant::now();
        let code = self.start().wait().unwrap();
        assert_eq!(code, 0, "{}", self.said());
        began.elapsed()
    }

    /// Starts a run and kills it once `now` says so, which is asked all the time. False when the run was
    /// over before; it must have gone well then.
    pub(crate) fn kill_when(&mut self, now: impl FnMut(&Self) -> bool) -> bool {
        let there = self.there();
        let killed = self.kill_when_anew(now);
        self.book(&there);
        killed
    }

    /// As [`Self::kill_when`], where what is there is damaged and may be fetched again.
    pub(crate) fn kill_when_anew(&self, mut now: impl FnMut(&Self) -> bool) -> bool {
        let mut run = self.start();
        while !now(self) {
            if let Some(code) = run.ended().unwrap() {
                assert_eq!(code, 0, "{}", self.said());
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        run.kill().unwrap();
        true
    }

    /// Lets containerd crash and starts it again; `between` happens to its files.
    pub(crate) fn crash(&mut self, crash: impl FnOnce(&mut Containerd), between: impl FnOnce(&Self)) {
        self.crashed = true;
        crash(self.containerd.as_mut().unwrap());
        between(self);
        self.containerd.as_mut().unwrap().start_again().unwrap();
    }

    /// Leaves what was requested so far out of the ledger.
    pub(crate) fn forget_requests(&mut self) {
        self.new_requests();
    }

    fn new_requests(&mut self) -> Vec<Request> {
        let mut all = self.world.vr.requests().unwrap();
        let new = all.split_off(self.requests);
        self.requests += new.len();
        new
    }

    /// A stock ISO is also looked into, by small ranges, run after run: its bytes are not counted.
    fn book(&mut self, there: &BTreeSet<Stretch>) {
        let requests = self.new_requests();
        if !self.world.stock {
            self.ledger.book(&requests, there);
        }
    }

    /// What the node holds whole and may not be fetched again.
    fn there(&self) -> BTreeSet<Stretch> {
        let entries = self.world.entries().into_iter();
        let whole = entries.filter(|(_, files)| files.iter().all(|file| self.path(file).exists()));
        let blobs = self.content().into_iter().filter_map(|line| line.split(' ').next()?.parse().ok());
        whole.map(|(stretch, _)| stretch).chain(blobs.map(|blob| ledger::blob(&self.world.manifest, &blob))).collect()
    }

    /// The blobs that containerd holds: digest and labels.
    fn content(&self) -> Vec<String> {
        let Some(containerd) = &self.containerd else { return Vec::new() };
        let rows = rows(containerd, &["content", "ls"]).into_iter();
        // The size follows from the digest, and the age is another every time.
        rows.map(|row| [&row[0], &row[row.len() - 1]].map(String::as_str).join(" ")).collect()
    }

    /// Looks at the whole node, which must have nothing half-done on it.
    pub(crate) fn finished(&self) -> Finished {
        let tree = Tree::read(&self.root(), &OWN).unwrap();
        let temporary = |line: &&String| line.contains(".cks-new") || line.contains(".partial/");
        assert_eq!(tree.lines.iter().find(temporary), None);
        let mut lines = Vec::new();
        if let Some(containerd) = &self.containerd {
            assert_eq!(rows(containerd, &["content", "active"]), [[""; 0]; 0]);
            assert_eq!(ingests(self), Vec::<PathBuf>::new(), "on the disk, though there is no record of it");
            assert_eq!(rows(containerd, &["leases", "ls"]), [[""; 0]; 0]);
            let content = self.content();
            let held: BTreeSet<_> = content.iter().filter_map(|line| line.split(' ').next()).collect();
            let wanted = self.wanted_blobs();
            assert_eq!(held, wanted.iter().map(String::as_str).collect(), "more content than the images need, or less");
            let snapshots: Vec<String> =
                rows(containerd, &["snapshots", "--snapshotter", self.world.snapshotter, "ls"])
                    .iter()
                    .map(|row| row.join(" "))
                    .collect();
            assert!(snapshots.iter().all(|line| line.ends_with(" Committed")), "{snapshots:?}");
            lines = rows(containerd, &["images", "ls"]).iter().map(|row| row.join(" ")).collect();
            lines.extend(content.into_iter().chain(snapshots));
        }
        let layers =
            self.containerd.as_ref().map(|containerd| layers(containerd, self.world.snapshotter)).unwrap_or_default();
        Finished { tree, containerd: Tree { lines }, layers, crashed: self.crashed }
    }

    fn wanted_blobs(&self) -> BTreeSet<String> {
        let images = self.world.manifest.images_for(self.world.role);
        images
            .flat_map(|image| [image.digest, image.config].into_iter().chain(image.layers.clone()))
            .map(|digest| digest.to_string())
            .collect()
    }
}

impl Finished {
    /// Fails with what is otherwise than on the undisturbed node `whole`.
    pub(crate) fn assert_same(&self, whole: &Self) {
        assert!(self.tree.digest() == whole.tree.digest(), "{}", self.tree.difference(&whole.tree));
        assert!(self.containerd == whole.containerd, "{}", self.containerd.difference(&whole.containerd));
        let mut more = self.layers.clone();
        for layer in &whole.layers {
            let at = more.iter().position(|found| found == layer);
            more.remove(at.unwrap_or_else(|| panic!("no whole layer {layer} in {:?}", self.layers)));
        }
        assert!(more.is_empty() || self.crashed, "more layers than images need: {more:?}");
    }
}

/// What `ctr` lists, without its heading: the columns, labels sorted.
fn rows(containerd: &Containerd, list: &[&str]) -> Vec<Vec<String>> {
    let sorted = |column: &str| {
        let mut labels: Vec<&str> = column.split(',').collect();
        labels.sort_unstable();
        labels.join(",")
    };
    let listed = containerd.ctr(list.iter().copied()).ok().unwrap();
    listed.lines().skip(1).map(|row| row.split_whitespace().map(sorted).collect()).collect()
}

/// The unpacked layers, each as the digest of its tree, whatever its number is.
fn layers(containerd: &Containerd, snapshotter: &str) -> Vec<String> {
    let snapshots = containerd.data().join(format!("io.containerd.snapshotter.v1.{snapshotter}/snapshots"));
    let within = if snapshotter == "native" { "." } else { "fs" };
    let files = fs::read_dir(snapshots).unwrap().map(|snapshot| snapshot.unwrap().path().join(within));
    let there = files.filter(|files| files.exists());
    there.map(|files| Tree::read(&files, &[]).unwrap().digest().to_string()).collect()
}
