//! The ISO that nodes are made from, on a virtual router.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use bootstrap::bundle::{Arch, Kind, Manifest, Role};
use bootstrap::plan::{Bundle, VERSIONS_DIR, directory_of, install_name};
use cks_tests::components::Components;
use cks_tests::images::{self, Format, Image};
use cks_tests::process::Command;
use cks_tests::vr::Vr;
use cks_tests::{programs, scratch, small, spec, throttle};
use tempfile::TempDir;

use crate::ledger::{self, Stretch};
use crate::node::Node;

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
    pub(crate) stock: bool,
    /// Which containerd the nodes have, and its snapshotter.
    pub(crate) programs: PathBuf,
    pub(crate) snapshotter: &'static str,
    _work: TempDir,
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, containerd in {}, {}", self.role, self.programs.display(), self.snapshotter)
    }
}

impl World {
    /// Builds an ISO with what `role` wants and serves it at full speed.
    pub(crate) fn new(role: Role) -> Self {
        let work = scratch("kill").unwrap();
        let components = match role {
            Role::Etcd => Components::with_images(&work.path().join("components"), None, &[]).unwrap(),
            Role::ControlPlane | Role::Worker => components(work.path()),
        };
        Self::of(role, &components, work)
    }

    /// As [`Self::new`], with little in everything: an undisturbed node takes well under a second.
    pub(crate) fn small(role: Role) -> Self {
        let work = scratch("kill").unwrap();
        let arch = Arch::parse(std::env::consts::ARCH).unwrap();
        let components = small::components(&work.path().join("components"), arch).unwrap();
        Self::of(role, &components, work)
    }

    pub(crate) fn with_snapshotter(self, snapshotter: &'static str) -> Self {
        Self { snapshotter, ..self }
    }

    /// Nodes with another containerd than the machine's own.
    pub(crate) fn with_programs(self, programs: PathBuf) -> Self {
        Self { programs, ..self }
    }

    /// Bytes that a node of the role fetches.
    pub(crate) fn bytes(&self) -> u64 {
        let entries = self.entries().into_iter().map(|((path, _), _)| self.manifest.entry(&path).unwrap().size);
        let images: BTreeSet<_> = self.manifest.images_for(self.role).flat_map(|image| &image.layers).collect();
        entries.sum::<u64>() + images.into_iter().map(|layer| self.manifest.blob(layer).unwrap().size).sum::<u64>()
    }

    fn of(role: Role, components: &Components, work: TempDir) -> Self {
        let (spec, iso) = (spec::write(components, "kill").unwrap(), work.path().join("kill.iso"));
        Command::new(programs::built("cks-iso").unwrap()).arg("build").arg(spec).arg("-o").arg(&iso).ok().unwrap();
        let vr = Vr::start(&iso).unwrap();
        throttle::small_sockets(&vr.netns).unwrap();
        let text = fs::read_to_string(vr.docroot.join("cks-iso/cks-bundle.json")).unwrap();
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        let id = bootstrap::digest::Digest::of(text.as_bytes());
        let bundle = Bundle { id, manifest, text, derived: false, signature: None };
        let directory = bundle.directory();
        let programs = programs::containerd(None).unwrap();
        let (manifest, snapshotter) = (bundle.manifest, "overlayfs");
        Self { vr, role, manifest, directory, stock: false, programs, snapshotter, _work: work }
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
    pub(crate) fn entries(&self) -> Vec<(Stretch, Vec<String>)> {
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
