//! One byte of everything on a signed ISO, changed in turn.

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Blob, Image, Kind, MANIFEST_PATH, Manifest, Place, Role};
use bootstrap::digest::Digest;
use bootstrap::node_spec::NodeSpec;
use bootstrap::plan::{Bundle, Wanted};
use bootstrap::render::kubeadm::CgroupDriver;
use bootstrap::signature::SIGNATURE_PATH;
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::programs;
use cks_tests::vr::Vr;

use crate::{Key, flip, in_force, iso, place};

/// The same ISO as a disc's image and behind the router.
struct Media {
    iso: PathBuf,
    vr: Vr,
    key: Key,
    bundle: Bundle,
}

impl Media {
    fn new(work: &Path) -> Self {
        let key = Key::make(work, "ours");
        let iso = key.sign(&iso(work, "v1.34.0"), &work.join("signed.iso"), false);
        let vr = Vr::start(&iso).unwrap();
        let text = fs::read_to_string(vr.docroot.join("cks-iso").join(MANIFEST_PATH)).unwrap();
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        let bundle = Bundle { id: Digest::of(text.as_bytes()), manifest, text, derived: false, signature: None };
        Self { iso, vr, key, bundle }
    }

    /// Runs `check` with byte `offset` of `path` changed, with each of the two as the source.
    fn changed(&self, path: &str, offset: u64, check: &dyn Fn(&str)) {
        let at = place(&self.iso, path, offset);
        flip(&self.iso, at);
        check(&self.iso.to_string_lossy());
        flip(&self.iso, at);
        let served = self.vr.docroot.join("cks-iso").join(path);
        let whole = fs::read(&served).unwrap();
        let mut bytes = whole.clone();
        bytes[offset as usize] ^= 1;
        self.vr.replace(path, &bytes).unwrap();
        check(&self.vr.url);
        self.vr.replace(path, &whole).unwrap();
    }

    fn node(&self, role: &str) -> Node {
        let node = Node::new(role).unwrap().inside(&self.vr.netns);
        self.key.trusted_by(&node);
        node
    }

    /// Where the files of `entry` would be.
    fn files_of(&self, role: Role, entry: &str) -> Vec<String> {
        let wanted =
            Wanted::of(&NodeSpec::new(role, "node-1", None, None).unwrap(), &self.bundle, CgroupDriver::default())
                .unwrap();
        wanted.files.into_iter().filter(|file| file.entry == entry).map(|file| file.path).collect()
    }
}

fn containerd() -> Containerd {
    Containerd::start(&programs::containerd(None).unwrap(), None).unwrap()
}

#[test]
fn a_changed_byte_of_any_file_is_refused() {
    let work = cks_tests::scratch("trust").unwrap();
    let media = Media::new(work.path());
    let containerd = containerd();
    let mut changed = 0;
    for entry in &media.bundle.manifest.entries {
        let (role, name) = match entry.kind {
            // All that a node reads of an archive are its blobs, see below.
            Kind::ImageArchive => continue,
            Kind::Etcd => (Role::Etcd, "etcd"),
            _ => (Role::ControlPlane, "control-plane"),
        };
        let files = media.files_of(role, &entry.path);
        assert!(!files.is_empty(), "{}: no node installs it", entry.path);
        media.changed(&entry.path, entry.size / 2, &|source| {
            let node = media.node(name).using(&containerd);
            let output = node.run(&[source]).unwrap();
            assert_eq!(node::code(&output), "DIGEST_MISMATCH", "{} from {source}: {output:?}", entry.path);
            assert!(output.stderr.contains(&entry.path) && output.stderr.contains(source), "{output:?}");
            for file in &files {
                assert!(!node.root.join(&file[1..]).exists(), "{file} is there, from {source}");
            }
            assert_eq!(in_force(&node), [""; 0], "{} from {source}", entry.path);
        });
        changed += 1;
    }
    assert!(changed >= 10, "only {changed} entries");
}

#[test]
fn a_changed_byte_of_any_blob_is_refused() {
    let work = cks_tests::scratch("trust").unwrap();
    let media = Media::new(work.path());
    let manifest = &media.bundle.manifest;
    let of = |image: &&Image, blob: &Blob| {
        [image.digest, image.config].iter().chain(&image.layers).any(|digest| *digest == blob.digest)
    };
    let mut changed = 0;
    for blob in &manifest.blobs {
        let Place::Range { path, offset } = &blob.at else { continue };
        let images: Vec<&Image> = manifest.images.iter().filter(|image| of(image, blob)).collect();
        assert!(!images.is_empty(), "{} belongs to no image", blob.digest);
        media.changed(path, offset + blob.size / 2, &|source| {
            let containerd = containerd();
            let node = media.node("control-plane").using(&containerd);
            let output = node.run(&[source]).unwrap();
            assert_eq!(node::code(&output), "DIGEST_MISMATCH", "{} from {source}: {output:?}", blob.digest);
            assert!(output.stderr.contains(&blob.digest.to_string()), "{output:?}");
            let there = containerd.images().unwrap();
            for image in &images {
                assert!(output.stderr.contains(path.as_str()), "{output:?}");
                assert!(!there.contains(&image.reference), "{} has a name, from {source}", image.reference);
            }
            let held = containerd.ctr(["content", "ls", "-q"]).ok().unwrap();
            assert!(!held.contains(&blob.digest.to_string()), "{} is in the store", blob.digest);
            // The others come when the node is live.
            let awaited = |image: &&Image| image.critical || manifest.sandbox_image.as_ref() == Some(&image.reference);
            if images.iter().any(awaited) {
                assert_eq!(in_force(&node), [""; 0], "{} from {source}", blob.digest);
            }
        });
        changed += 1;
    }
    assert!(changed >= 6, "only {changed} blobs");
}

#[test]
fn a_changed_byte_of_manifest_or_signature_is_refused() {
    let work = cks_tests::scratch("trust").unwrap();
    let media = Media::new(work.path());
    let signature = fs::read_to_string(media.vr.docroot.join("cks-iso").join(SIGNATURE_PATH)).unwrap();
    let mut places = Vec::new();
    // Each line but the first, which is a comment that nobody signed; each end of the manifest, and its middle.
    let mut at = 0;
    for line in signature.lines() {
        places.push((SIGNATURE_PATH, at + line.len() as u64 / 2));
        at += line.len() as u64 + 1;
    }
    places.remove(0);
    let size = media.bundle.text.len() as u64;
    places.extend([0, size / 3, size / 2, size - 1].map(|offset| (MANIFEST_PATH, offset)));
    for (path, offset) in places {
        media.changed(path, offset, &|source| {
            let node = media.node("etcd");
            let output = node.run(&[source]).unwrap();
            assert_eq!(node::code(&output), "SIGNATURE_INVALID", "{path} at {offset} from {source}: {output:?}");
            assert!(output.stderr.contains(source), "{output:?}");
            assert!(in_force(&node).is_empty() && !node.root.join("opt").exists(), "{path} at {offset}");
        });
    }
}
