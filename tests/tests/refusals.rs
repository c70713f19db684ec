//! Bad content on the server: every kind has its code, nothing of it comes into force, and once the server
//! has the right content again the same command succeeds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;

use bootstrap::bundle::{Arch, Kind, MANIFEST_PATH, Manifest, Place};
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::tree::Tree;
use cks_tests::vr::Vr;
use cks_tests::{programs, small};

const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";
const KUBELET: &str = "k8s/kubelet";
const IMAGES: &str = "docker/images.tar";
const RULES: &str = ".htaccess";

/// What becomes of a file on the server; `None` takes it away.
type Damage = fn(&Manifest, Vec<u8>) -> Option<Vec<u8>>;

struct Case {
    what: &'static str,
    role: &'static str,
    path: &'static str,
    damage: Damage,
    code: &'static str,
    exit: i32,
    /// What the message must name.
    says: &'static str,
}

const fn case(
    what: &'static str,
    role: &'static str,
    (path, damage): (&'static str, Damage),
    (code, exit): (&'static str, i32),
    says: &'static str,
) -> Case {
    Case { what, role, path, damage, code, exit, says }
}

/// The error page that many servers send with status 200, of any size.
fn page(size: usize) -> Vec<u8> {
    let mut page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>".to_vec();
    page.resize(size, b' ');
    page
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Option<Vec<u8>> {
    bytes[at] ^= 1;
    Some(bytes)
}

fn flipped_in_the_middle(_: &Manifest, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let at = bytes.len() / 2;
    flipped(bytes, at)
}

fn flipped_at_the_end(_: &Manifest, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let at = bytes.len() - 1;
    flipped(bytes, at)
}

fn rule(text: &str) -> Option<Vec<u8>> {
    Some(format!("{text}\n").into_bytes())
}

/// The manifest, changed as a manifest.
fn changed(manifest: &Manifest, change: impl Fn(&mut Manifest)) -> Option<Vec<u8>> {
    let mut manifest = manifest.clone();
    change(&mut manifest);
    Some(manifest.to_json().unwrap().into_bytes())
}

/// The middle of the application's only layer, inside the archive.
fn layer_of_the_application(manifest: &Manifest) -> usize {
    let image = manifest.images.iter().find(|image| image.reference == small::APPLICATION).unwrap();
    let blob = manifest.blob(&image.layers[0]).unwrap();
    let Place::Range { offset, .. } = blob.at else { panic!("{blob:?}") };
    usize::try_from(offset + blob.size / 2).unwrap()
}

fn with_a_changed_digit(bytes: Vec<u8>, manifest: &Manifest) -> Option<Vec<u8>> {
    let digest = manifest.entry(KUBELET).unwrap().sha256.unwrap().to_string();
    let last = if digest.ends_with('0') { "1" } else { "0" };
    let text = String::from_utf8(bytes).unwrap();
    Some(text.replacen(&digest, &format!("{}{last}", &digest[..digest.len() - 1]), 1).into_bytes())
}

const MISSING: (&str, i32) = ("SOURCE_FILE_MISSING", 65);
const MISMATCH: (&str, i32) = ("DIGEST_MISMATCH", 65);
const TRUNCATED: (&str, i32) = ("SOURCE_TRUNCATED", 65);
const INVALID: (&str, i32) = ("SOURCE_INVALID", 65);
const MANIFEST: (&str, i32) = ("MANIFEST_INVALID", 65);

const CASES: [Case; 28] = [
    case("404", "etcd", (ETCD, |_, _| None), MISSING, ETCD),
    case("404", "worker", (KUBELET, |_, _| None), MISSING, KUBELET),
    case("404", "worker", (IMAGES, |_, _| None), MISSING, IMAGES),
    case("403", "worker", (RULES, |_, _| rule("<Files kubelet>\nRequire all denied\n</Files>")), MISSING, KUBELET),
    case("a page of that size", "etcd", (ETCD, |_, b| Some(page(b.len()))), MISMATCH, ETCD),
    case("a page of that size", "worker", (KUBELET, |_, b| Some(page(b.len()))), MISMATCH, KUBELET),
    case("a small page", "worker", (KUBELET, |_, _| Some(page(80))), TRUNCATED, KUBELET),
    case("a large page", "etcd", (ETCD, |_, b| Some(page(b.len() + 9))), MISMATCH, ETCD),
    case("cut off", "etcd", (ETCD, |_, b| Some(b[..b.len() / 2].to_vec())), TRUNCATED, ETCD),
    case("cut off", "worker", (KUBELET, |_, b| Some(b[..b.len() - 1].to_vec())), TRUNCATED, KUBELET),
    case("cut off", "worker", (IMAGES, |_, b| Some(b[..b.len() / 2].to_vec())), TRUNCATED, IMAGES),
    case("empty", "etcd", (ETCD, |_, _| Some(Vec::new())), TRUNCATED, ETCD),
    case("a flipped byte", "etcd", (ETCD, flipped_in_the_middle), MISMATCH, ETCD),
    case("a flipped last byte", "etcd", (ETCD, flipped_at_the_end), MISMATCH, ETCD),
    case("a flipped byte", "worker", (KUBELET, flipped_in_the_middle), MISMATCH, KUBELET),
    case(
        "a flipped byte",
        "worker",
        (IMAGES, |manifest, b| flipped(b, layer_of_the_application(manifest))),
        MISMATCH,
        small::APPLICATION,
    ),
    case("a flipped byte", "worker", (MANIFEST_PATH, |_, b| flipped(b, 0)), MANIFEST, MANIFEST_PATH),
    case("a changed digest", "worker", (MANIFEST_PATH, |m, b| with_a_changed_digit(b, m)), MISMATCH, KUBELET),
    case("a page", "worker", (MANIFEST_PATH, |_, _| Some(page(3000))), MANIFEST, MANIFEST_PATH),
    case("cut off", "etcd", (MANIFEST_PATH, |_, b| Some(b[..b.len() / 2].to_vec())), MANIFEST, MANIFEST_PATH),
    case(
        "a newer format",
        "etcd",
        (MANIFEST_PATH, |m, _| changed(m, |m| m.schema = 99)),
        ("MANIFEST_UNSUPPORTED", 65),
        "99",
    ),
    case(
        "another architecture",
        "etcd",
        (MANIFEST_PATH, |m, _| changed(m, |m| m.arch = if m.arch == Arch::Arm64 { Arch::Amd64 } else { Arch::Arm64 })),
        ("ARCH_MISMATCH", 65),
        "this machine is",
    ),
    case(
        "no etcd",
        "etcd",
        (MANIFEST_PATH, |m, _| changed(m, |m| m.entries.retain(|entry| entry.kind != Kind::Etcd))),
        ("MEDIA_LACKS_ETCD", 65),
        ETCD,
    ),
    case(
        "no kubelet",
        "worker",
        (MANIFEST_PATH, |m, _| changed(m, |m| m.entries.retain(|entry| entry.path != KUBELET))),
        ("MEDIA_LACKS_COMPONENT", 65),
        KUBELET,
    ),
    case(
        "a redirection elsewhere",
        "etcd",
        (RULES, |_, _| rule("RedirectMatch ^/cks-iso/etcd/ http://10.1.1.1/metadata/10.1.1.1/instance-id")),
        INVALID,
        ETCD,
    ),
    case(
        "a redirection elsewhere",
        "etcd",
        (RULES, |_, _| rule("RedirectMatch ^/cks-iso/cks-bundle.json http://10.1.1.1/metadata/10.1.1.1/instance-id")),
        INVALID,
        MANIFEST_PATH,
    ),
    case(
        "an overloaded server",
        "etcd",
        (RULES, |_, _| rule("RedirectMatch 503 ^/cks-iso/etcd/")),
        ("SOURCE_UNREACHABLE", 75),
        "503",
    ),
    case(
        "nothing at all",
        "etcd",
        (RULES, |_, _| rule("RedirectMatch 404 ^/cks-iso/")),
        ("MEDIA_NOT_FOUND", 75),
        "http://10.1.1.1/cks-iso/",
    ),
];

struct Bed {
    vr: Vr,
    manifest: Manifest,
    containerd: Containerd,
}

impl Bed {
    fn node(&self, role: &str) -> Node {
        Node::new(role).unwrap().using(&self.containerd).inside(&self.vr.netns).with(&["--wait", "1s"])
    }

    fn put(&self, path: &str, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.vr.replace(path, bytes).unwrap(),
            None => fs::remove_file(self.vr.docroot.join("cks-iso").join(path)).unwrap(),
        }
    }

    /// Every image that has a name must be whole.
    fn images_are_whole(&self, what: &str) -> Vec<String> {
        let checked = self.containerd.ctr(["images", "check"]).ok().unwrap();
        let whole = |line: &str| line.contains(" complete ") && line.contains(" true");
        assert!(checked.lines().skip(1).all(whole), "{what}: {checked}");
        self.containerd.images().unwrap()
    }

    /// An empty containerd for the next case: images, content and snapshots go.
    fn forget_images(&self) {
        let names = self.containerd.ctr(["images", "list", "-q"]).ok().unwrap();
        if !names.is_empty() {
            self.containerd.ctr(["images", "rm", "--sync"]).args(names.lines()).ok().unwrap();
        }
        assert_eq!(self.containerd.ctr(["content", "list", "-q"]).ok().unwrap(), "");
    }
}

fn clean(bed: &Bed, role: &str) -> Tree {
    let node = bed.node(role);
    assert_eq!(node.run(&[&bed.vr.url]).unwrap().code, 0);
    bed.forget_images();
    node.tree().unwrap()
}

fn refuse_and_mend(bed: &Bed, case: &Case, clean: &Tree) {
    let what = format!("{} for {} as {}", case.what, case.path, case.role);
    let served = bed.vr.docroot.join("cks-iso").join(case.path);
    let original = fs::read(&served).ok();
    let damaged = (case.damage)(&bed.manifest, original.clone().unwrap_or_default());
    assert_ne!(damaged, original, "{what}");
    bed.put(case.path, damaged.as_deref());

    let node = bed.node(case.role);
    let output = node.run(&[&bed.vr.url]).unwrap();
    assert_eq!((node::code(&output), output.code), (case.code, case.exit), "{what}: {output:?}");
    let error = output.stderr.lines().find(|line| line.starts_with("error[")).unwrap();
    assert!(error.contains(case.says), "{what}: {error}");
    assert!(output.stderr.contains("\n  remedy: "), "{what}: {output:?}");
    if case.path == IMAGES {
        // A node waits only for its first images; without the others it may be live by then.
        assert!(!bed.images_are_whole(&what).contains(&small::APPLICATION.to_owned()), "{what}");
    } else {
        assert_eq!(node.in_force().unwrap(), [""; 0], "{what}");
    }
    let state = node.status().unwrap();
    assert_eq!((&state["phase"], &state["failure"]["code"]), (&"failed".into(), &case.code.into()), "{what}");

    bed.put(case.path, original.as_deref());
    let output = node.run(&[&bed.vr.url]).unwrap();
    assert_eq!(output.code, 0, "{what}, mended: {output:?}");
    let mut tree = node.tree().unwrap();
    // A changed manifest is another bundle, with a version directory of its own that nothing points to.
    let own = clean.lines.iter().find_map(|line| line.strip_prefix("d 0755 ").filter(|path| path.contains("/cks/v")));
    let version = own.unwrap().to_owned();
    tree.lines.retain(|line| !line.contains(" opt/cks/v") || line.contains(&version));
    assert_eq!(tree.digest(), clean.digest(), "{what}, mended: {}", clean.difference(&tree));
    bed.images_are_whole(&what);
    bed.forget_images();
}

#[test]
fn bad_content_on_the_server_is_refused_by_its_name() {
    let work = cks_tests::scratch("refusals").unwrap();
    let arch = Arch::parse(std::env::consts::ARCH).unwrap();
    let components = small::components(&work.path().join("components"), arch).unwrap();
    let vr = Vr::start(&small::build(&components, "refusals").unwrap()).unwrap();
    let manifest = Manifest::parse(&fs::read(vr.docroot.join("cks-iso").join(MANIFEST_PATH)).unwrap()).unwrap();
    let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
    let bed = Bed { vr, manifest, containerd };
    let (etcd, worker) = (clean(&bed, "etcd"), clean(&bed, "worker"));
    for case in &CASES {
        refuse_and_mend(&bed, case, if case.role == "etcd" { &etcd } else { &worker });
    }
}
