//! What all cases share: a bundle with a large layer on a real web server, in every form, and what nodes are
//! without any fault.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bootstrap::bundle::{Arch, Image, Manifest, Place};
use bootstrap::digest::Digest;
use bootstrap::disc;
use cks_tests::containerd::Containerd;
use cks_tests::faults::Faults;
use cks_tests::images::{self, Format};
use cks_tests::netns::ADDRESS;
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::throttle::small_sockets;
use cks_tests::tree::Tree;
use cks_tests::vr::Vr;
use cks_tests::{programs, small};
use tempfile::TempDir;

use crate::cases::{Case, Form, Moment};

pub(crate) const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";
const LARGE: &str = "quay.io/example/large:v1";
/// What a large layer has: a hundredth of it is more than what the sockets of a connection hold and two more looks
/// at an .iso file together.
const LARGE_BYTES: usize = 44 << 20;
const DIRECTORY: &str = "cks-iso";
const ISO: &str = "isos/small.iso";
const STOCK: &str = "stock";
const MANIFEST: &str = "cks-bundle.json";

pub(crate) struct Bed {
    pub(crate) vr: Vr,
    /// The second source.
    pub(crate) iso: PathBuf,
    /// By form and role.
    whole: BTreeMap<(Form, &'static str), Made>,
    manifest: Manifest,
    settings: PathBuf,
    _work: TempDir,
}

/// A node as a run leaves it, and what that took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) tree: Tree,
    /// Images, blobs, and what lies in the snapshots.
    pub(crate) images: Vec<String>,
    /// Bytes that all sources sent.
    pub(crate) bytes: u64,
}

/// Where a fault strikes: the end of the path, where its bytes begin in that file, and how many they are.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) ranged: bool,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Bed {
    pub(crate) fn new() -> Result<Self> {
        let work = cks_tests::scratch("matrix")?;
        let arch = Arch::parse(std::env::consts::ARCH).context("An architecture of ours")?;
        let directory = work.path().join("components");
        let mut components = small::components(&directory, arch)?;
        let large = images::incompressible(LARGE, LARGE_BYTES, 11)?;
        large.archive(Format::CtrExport, &directory.join("docker"))?;
        components.archives.push(format!("docker/{}", large.file_name()));
        let iso = small::build(&components, "matrix")?;
        let vr = Vr::start(&iso)?;
        // What is under way when a connection breaks is known then.
        small_sockets(&vr.netns)?;
        fs::create_dir(vr.docroot.join("isos"))?;
        fs::copy(&iso, vr.docroot.join(ISO))?;
        fs::set_permissions(vr.docroot.join(ISO), fs::Permissions::from_mode(0o644))?;
        Command::new("cp").args(["-a", "-T"]).arg(&directory).arg(vr.docroot.join(STOCK)).ok()?;
        Command::new("chmod").args(["-R", "a+rX"]).arg(vr.docroot.join(STOCK)).ok()?;
        let manifest = fs::read(vr.docroot.join(DIRECTORY).join(MANIFEST))?;
        let manifest = Manifest::parse(&manifest).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let settings = work.path().join("config.toml");
        fs::write(&settings, "[http]\ninactivity = \"1s\"\n")?;
        fs::write(settings.with_extension("one"), "[http]\ninactivity = \"1s\"\nconnections = 1\n")?;
        let mut bed = Self { vr, iso, whole: BTreeMap::new(), manifest, settings, _work: work };
        for form in Form::ALL {
            for role in form.roles() {
                let faults = bed.faults(form, None)?;
                let (node, containerd) = bed.node(role, false)?;
                let output = node.run(&bed.sources(form, &faults))?;
                ensure!(output.code == 0, "{form:?} {role}: {output:?}");
                let made = bed.made(&node, containerd.as_ref(), &faults)?;
                bed.whole.insert((form, role), made);
            }
        }
        Ok(bed)
    }

    pub(crate) fn whole(&self, form: Form, role: &'static str) -> Result<&Made> {
        self.whole.get(&(form, role)).context("Nodes of all roles were made")
    }

    /// A relay before the server; with a name, before a copy of the content that nobody else reads.
    pub(crate) fn faults(&self, form: Form, own: Option<&str>) -> Result<Faults> {
        let place = self.place(form, own);
        if let Some(own) = own {
            let to = self.vr.docroot.join(own);
            fs::create_dir(&to)?;
            let from = self.vr.docroot.join(self.place(form, None).trim_end_matches('/'));
            let to = if form == Form::Iso { self.vr.docroot.join(&place) } else { to };
            Command::new("cp").args(["-a", "-l", "-T"]).arg(from).arg(to).ok()?;
        }
        Faults::between(&self.vr.netns, &format!("http://{ADDRESS}/{place}"))
    }

    fn place(&self, form: Form, own: Option<&str>) -> String {
        match (form, own) {
            (Form::Iso, None) => ISO.to_owned(),
            (Form::Iso, Some(own)) => format!("{own}/small.iso"),
            (_, Some(own)) => format!("{own}/"),
            (Form::Stock, None) => format!("{STOCK}/"),
            (Form::Directory | Form::Standby, None) => format!("{DIRECTORY}/"),
        }
    }

    /// The file that a case's server reads `path` from.
    pub(crate) fn served(&self, form: Form, own: &str, path: &str) -> PathBuf {
        let directory = self.vr.docroot.join(own);
        if form == Form::Iso { directory.join("small.iso") } else { directory.join(path) }
    }

    pub(crate) fn sources<'a>(&'a self, form: Form, faults: &'a Faults) -> Vec<&'a str> {
        let second = (form == Form::Standby).then(|| self.iso.to_str().unwrap_or_default());
        std::iter::once(faults.url.as_str()).chain(second).collect()
    }

    pub(crate) fn node(&self, role: &str, one_connection: bool) -> Result<(Node, Option<Containerd>)> {
        let settings = if one_connection { self.settings.with_extension("one") } else { self.settings.clone() };
        let node = Node::new(role)?.inside(&self.vr.netns).with(&["--config", &settings.to_string_lossy()]);
        let node = node.with(&["--wait", "20s"]);
        if role == "etcd" {
            return Ok((node, None));
        }
        let containerd = Containerd::start(&programs::containerd(None)?, None)?;
        Ok((node.using(&containerd), Some(containerd)))
    }

    pub(crate) fn made(&self, node: &Node, containerd: Option<&Containerd>, faults: &Faults) -> Result<Made> {
        let told = node.status()?;
        let sources = told["sources"].as_array().context("A status tells of sources")?;
        let others = sources.iter().skip(1).filter_map(|told| told["bytes"].as_u64()).sum::<u64>();
        let images = containerd.map(images_of).transpose()?.unwrap_or_default();
        Ok(Made { tree: node.tree()?, images, bytes: faults.sent_and_repeated().0 + others })
    }

    pub(crate) fn target(&self, case: &Case) -> Result<Target> {
        let (path, offset, length) = match case.moment {
            Moment::Opening if case.form == Form::Stock => return Ok(plain("stock/", 1)),
            Moment::Opening => (MANIFEST.to_owned(), 0, self.size(MANIFEST)?),
            Moment::Beginning => (ETCD.to_owned(), 0, self.size(ETCD)?),
            _ if case.role() == "etcd" => (ETCD.to_owned(), 0, self.size(ETCD)?),
            // Who has another source goes on there after a break: such a fault strikes the request itself.
            Moment::End if case.form == Form::Standby && !case.kind.strikes_anywhere() => {
                self.blob(|image| image.digest)?
            }
            Moment::Middle | Moment::End => self.layer()?,
        };
        if case.form == Form::Iso {
            let disc = disc::read(fs::File::open(&self.iso)?).map_err(|failure| anyhow::anyhow!("{failure}"))?;
            let file = disc.file(&path).context("A file of the ISO")?;
            let ranges = file.ranges(offset, length).context("A range of a file of the ISO")?;
            ensure!(ranges.len() == 1, "{path} is in one piece");
            return Ok(Target { path: "small.iso".to_owned(), ranged: true, offset: ranges[0].offset, length });
        }
        if case.moment == Moment::Opening {
            return Ok(plain(MANIFEST, length));
        }
        Ok(Target { path, ranged: true, offset, length })
    }

    fn layer(&self) -> Result<(String, u64, u64)> {
        self.blob(|image| image.layers[0])
    }

    /// Where a blob of the large image is.
    fn blob(&self, which: impl Fn(&Image) -> Digest) -> Result<(String, u64, u64)> {
        let image = self.manifest.images.iter().find(|image| image.reference == LARGE).context("The large image")?;
        let blob = self.manifest.blob(&which(image)).context("Its blob")?;
        match &blob.at {
            Place::Range { path, offset } => Ok((path.clone(), *offset, blob.size)),
            Place::Inline { .. } => anyhow::bail!("a blob of an OCI archive has a place"),
        }
    }

    fn size(&self, path: &str) -> Result<u64> {
        Ok(fs::metadata(self.vr.docroot.join(DIRECTORY).join(path))?.len())
    }

    /// Nothing of what was refused is to be seen.
    pub(crate) fn nothing_visible(&self, node: &Node, containerd: Option<&Containerd>) -> Result<()> {
        let Some(containerd) = containerd else {
            let in_force = node.in_force()?;
            ensure!(in_force.is_empty(), "in force: {in_force:?}");
            return Ok(());
        };
        let (names, (_, _, size)) = (containerd.images()?, self.layer()?);
        ensure!(!names.iter().any(|name| name == LARGE), "{LARGE} has a name");
        let blobs = containerd.ctr(["content", "ls"]).ok()?;
        let layer = self.manifest.images.iter().find(|image| image.reference == LARGE).map(|image| image.layers[0]);
        let layer = layer.context("A layer")?.to_string();
        ensure!(!blobs.contains(&layer), "the layer of {size} bytes is in the store");
        Ok(())
    }

    /// Puts another file in the place of the one at `path`: the same bytes, or with other ones at the end of the
    /// target.
    pub(crate) fn replacement(&self, target: &Target, path: PathBuf, other: bool) -> Arc<dyn Fn() + Send + Sync> {
        let last = (target.offset + target.length - 100) as usize;
        Arc::new(move || drop(replace(&path, last, other)))
    }
}

fn replace(path: &Path, last: usize, other: bool) -> Result<()> {
    let mut bytes = fs::read(path)?;
    if other {
        bytes[last..last + 50].iter_mut().for_each(|byte| *byte ^= 1);
    }
    let part = path.with_extension("part");
    fs::write(&part, bytes)?;
    Command::new("touch").args(["-d", "2020-01-01"]).arg(&part).ok()?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o644))?;
    Ok(fs::rename(part, path)?)
}

fn plain(path: &str, length: u64) -> Target {
    Target { path: path.to_owned(), ranged: false, offset: 0, length }
}

/// Everything that a worker's images are: names, digests, labels, blobs, and what lies in the snapshots.
fn images_of(containerd: &Containerd) -> Result<Vec<String>> {
    let listed = containerd.ctr(["images", "list"]).ok()?;
    let blobs = containerd.ctr(["content", "ls", "-q"]).ok()?;
    let mut all: Vec<String> = listed.lines().skip(1).chain(blobs.lines()).map(str::to_owned).collect();
    let snapshots = containerd.data().join("io.containerd.snapshotter.v1.overlayfs/snapshots");
    for snapshot in fs::read_dir(snapshots)? {
        let tree = Tree::read(&snapshot?.path().join("fs"), &[])?;
        all.push(format!("layer {}", Digest::of(tree.lines.join("\n").as_bytes())));
    }
    all.sort();
    Ok(all)
}
