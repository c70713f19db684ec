//! A node that is bootstrapped, killed and bootstrapped again, over one virtual router.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootstrap::bundle::{Kind, Manifest, Role};
use bootstrap::plan::{Bundle, VERSIONS_DIR, directory_of, install_name};
use cks_tests::components::Components;
use cks_tests::containerd::Containerd;
use cks_tests::images::{self, Format, Image};
use cks_tests::leash::Running;
use cks_tests::process::Command;
use cks_tests::tree::Tree;
use cks_tests::vr::{Request, Vr};
use cks_tests::{programs, scratch, spec, throttle};
use tempfile::TempDir;

use crate::ledger::{self, Ledger, Stretch};

/// The name of a node's root.
const ROOT: &str = "node";

/// What a run leaves besides the installed state: journal and status.
const OWN: [&str; 2] = ["var/lib/cks-agent", "run"];

/// Megabytes per second at which a worker's files are under way for some seconds.
pub(crate) const SLOW: u64 = 40;

/// Programs that stand for Kubernetes' own are padded to this size, a third of the real one.
const PROGRAM_BYTES: usize = 12 << 20;

/// An ISO on a virtual router whose network is slow.
pub(crate) struct World {
    pub(crate) vr: Vr,
    pub(crate) role: Role,
    pub(crate) manifest: Manifest,
    /// The version directory, as the node sees it.
    pub(crate) directory: String,
    /// Whether it is served without its manifest.
    stock: bool,
    _work: TempDir,
}

impl World {
    /// Builds an ISO with what `role` wants and serves it at full speed.
    pub(crate) fn new(role: Role) -> Self {
        let work = scratch("kill").unwrap();
        let components = match role {
            Role::Etcd => Components::with_images(&work.path().join("components"), None, &[]).unwrap(),
            Role::ControlPlane | Role::Worker => components(work.path()),
        };
        let (spec, iso) = (spec::write(&components, "kill").unwrap(), work.path().join("kill.iso"));
        Command::new(programs::built("cks-iso").unwrap()).arg("build").arg(spec).arg("-o").arg(&iso).ok().unwrap();
        let vr = Vr::start(&iso).unwrap();
        throttle::small_sockets(&vr.netns).unwrap();
        let text = fs::read_to_string(vr.docroot.join("cks-iso/cks-bundle.json")).unwrap();
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        let id = bootstrap::digest::Digest::of(text.as_bytes());
        let bundle = Bundle { id, manifest, text, derived: false, signature: None };
        let directory = bundle.directory();
        Self { vr, role, manifest: bundle.manifest, directory, stock: false, _work: work }
    }

    /// Makes a stock ISO of it: without the manifest. Its version directory is the one that `node` has.
    pub(crate) fn into_stock(mut self) -> Self {
        fs::remove_file(self.vr.docroot.join("cks-iso/cks-bundle.json")).unwrap();
        self.stock = true;
        let mut node = Node::new(&self);
        node.finish();
        let versions = fs::read_dir(node.path(VERSIONS_DIR)).unwrap().map(|version| version.unwrap().file_name());
        let version = versions.filter(|name| *name != ".partial").max().unwrap();
        let directory = format!("{VERSIONS_DIR}/{}", version.display());
        drop(node);
        Self { directory, ..self }
    }

    /// What a finished node of the role holds that was fetched: stretch of the ISO → files it becomes.
    fn entries(&self) -> Vec<(Stretch, Vec<String>)> {
        let place = |kind, name: &str| format!("{}/{}/{name}", self.directory, directory_of(kind));
        let installed = |entry: &bootstrap::bundle::Entry| -> Vec<String> {
            let members = entry.members.iter();
            match entry.kind {
                Kind::CniPlugins | Kind::CriTools | Kind::Etcd => members
                    .filter_map(|member| Some(place(entry.kind, install_name(entry.kind, &member.path, member.mode)?)))
                    .collect(),
                Kind::ImageArchive | Kind::Other => Vec::new(),
                kind => vec![place(kind, entry.path.rsplit('/').next().unwrap())],
            }
        };
        let entries = self.manifest.entries_for(self.role).map(|entry| (&entry.path, installed(entry)));
        let fetched = entries.filter(|(_, files)| !files.is_empty());
        fetched.map(|(path, files)| (ledger::entry(&self.manifest, path), files)).collect()
    }
}

/// One layer in two images, so that blobs are shared; gzip'd and plain ones.
fn components(work: &Path) -> Components {
    let noise = |size: usize, seed| images::incompressible("x", size << 20, seed).unwrap().layers;
    let shared = noise(24, 1);
    let own = |seed| [shared.clone(), noise(12, seed)].concat();
    let images = [
        (images::pause("registry.k8s.io/pause:3.10").unwrap(), Format::DockerSave),
        (Image::new("example.org/one:1", &["/noise"], own(2)), Format::CtrExport),
        (Image::new("example.org/two:1", &["/noise"], own(3)), Format::CtrExport),
        (Image::new("example.org/three:1", &["/noise"], noise(20, 4)), Format::DockerSave),
    ];
    let kubernetes = work.join("kubernetes");
    fs::create_dir(&kubernetes).unwrap();
    let source = work.join("version.c");
    fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"v1.36.0\"); return 0; }\n").unwrap();
    for (name, seed) in cks_tests::components::KUBERNETES.iter().zip(10..) {
        let program = kubernetes.join(name);
        Command::new("gcc").args(["-Os", "-static", "-s", "-o"]).arg(&program).arg(&source).ok().unwrap();
        // A loader reads what the headers name; the rest is only there to be fetched.
        let bytes = [fs::read(&program).unwrap(), images::noise(PROGRAM_BYTES, seed)].concat();
        fs::write(&program, bytes).unwrap();
    }
    Components::with_images(&work.join("components"), Some(&kubernetes), &images).unwrap()
}

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
        let containerd = |programs: PathBuf| Containerd::start(&programs, None).unwrap();
        let containerd = (world.role != Role::Etcd).then(|| containerd(programs::containerd(None).unwrap()));
        Self::with(world, containerd, false)
    }

    /// A node on a disk that can lose its power; see [`Containerd::lose_power`].
    pub(crate) fn on_disk(world: &'w World) -> Self {
        let containerd = Containerd::start_on_disk(&programs::containerd(None).unwrap(), 1024).unwrap();
        let node = Self::with(world, Some(containerd), true);
        fs::create_dir(node.root()).unwrap();
        fs::File::open(node.root().parent().unwrap()).unwrap().sync_all().unwrap();
        node
    }

    fn with(world: &'w World, containerd: Option<Containerd>, on_disk: bool) -> Self {
        let directory = scratch("node").unwrap();
        fs::create_dir(directory.path().join(ROOT)).unwrap();
        let log = directory.path().join("log");
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
        let agent = agent.args(["--source", self.world.vr.url.as_str()]);
        self.world.vr.netns.enter(match &self.containerd {
            Some(containerd) => {
                // In its mount namespace, where its data is to be seen.
                let namespace = format!("--mount={}", containerd.mounts());
                agent.arg("--containerd").arg(&containerd.socket).under("nsenter", [namespace.as_str(), "--"])
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
            assert_eq!(rows(containerd, &["leases", "ls"]), [[""; 0]; 0]);
            let content = self.content();
            let held: BTreeSet<_> = content.iter().filter_map(|line| line.split(' ').next()).collect();
            let wanted = self.wanted_blobs();
            assert_eq!(held, wanted.iter().map(String::as_str).collect(), "more content than the images need, or less");
            let snapshots: Vec<String> =
                rows(containerd, &["snapshots", "ls"]).iter().map(|row| row.join(" ")).collect();
            assert!(snapshots.iter().all(|line| line.ends_with(" Committed")), "{snapshots:?}");
            lines = rows(containerd, &["images", "ls"]).iter().map(|row| row.join(" ")).collect();
            lines.extend(content.into_iter().chain(snapshots));
        }
        let layers = self.containerd.as_ref().map(layers).unwrap_or_default();
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
fn layers(containerd: &Containerd) -> Vec<String> {
    let snapshots = containerd.data().join("io.containerd.snapshotter.v1.overlayfs/snapshots");
    let files = fs::read_dir(snapshots).unwrap().map(|snapshot| snapshot.unwrap().path().join("fs"));
    let there = files.filter(|files| files.exists());
    there.map(|files| Tree::read(&files, &[]).unwrap().digest().to_string()).collect()
}
