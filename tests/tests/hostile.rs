//! Stock ISOs with content that is wrong or means harm. Nothing vouches for a stock ISO, so what can be
//! seen from the content itself has to be seen.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::process::Command;
use cks_tests::tarball::gzip;
use cks_tests::tree::digest_of;
use cks_tests::{programs, small};
use tar::EntryType;

const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";
const KUBELET: &str = "k8s/kubelet";
const SANDBOX: &str = "docker/pause:3.10.tar";
const APPLICATION: &str = "docker/app:v1.2.tar";

/// A new content of a file, made of its old one; `None` takes it away.
type Change = Box<dyn Fn(Vec<u8>) -> Option<Vec<u8>>>;

/// Role, what is wrong, with which file, the change, and the refusal: its code and what it names.
type Case<'a> = (&'a str, &'a str, &'a str, Change, (&'a str, &'a str));

fn own_arch() -> Arch {
    Arch::parse(std::env::consts::ARCH).unwrap()
}

fn other_arch() -> Arch {
    if own_arch() == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 }
}

/// A gzip'd tar of these members, whose names and link targets no honest tool would write.
fn hostile(members: &[(&str, EntryType, &str)]) -> Change {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link) in members {
        let content: &[u8] = if link.is_empty() { b"root::0:0::/:/bin/sh\n" } else { b"" };
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    let bytes = gzip(&builder.into_inner().unwrap()).unwrap();
    Box::new(move |_| Some(bytes.clone()))
}

fn fixed(bytes: &[u8]) -> Change {
    let bytes = bytes.to_vec();
    Box::new(move |_| Some(bytes.clone()))
}

fn half() -> Change {
    Box::new(|bytes| Some(bytes[..bytes.len() / 2].to_vec()))
}

/// One byte turned over in the middle: in these archives that lies inside a layer.
fn flipped() -> Change {
    Box::new(|mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Some(bytes)
    })
}

/// Links into the ISO's directory, with the one file changed, as a stock ISO at `iso`.
fn pack(good: &Path, iso: &Path, path: &str, change: &Change) {
    let work = cks_tests::scratch("hostile").unwrap();
    let copy = work.path().join("disc");
    Command::new("cp").arg("-al").arg(good).arg(&copy).ok().unwrap();
    let file = copy.join(path);
    let changed = change(fs::read(&file).unwrap());
    fs::remove_file(&file).unwrap();
    if let Some(bytes) = changed {
        fs::write(&file, bytes).unwrap();
    }
    fs::rename(small::stock_iso(&copy, "CDROM").unwrap(), iso).unwrap();
}

struct Bed {
    work: tempfile::TempDir,
    good: PathBuf,
    good_iso: PathBuf,
    containerd: Containerd,
}

impl Bed {
    fn new() -> Self {
        let work = cks_tests::scratch("hostile").unwrap();
        let good = work.path().join("components");
        small::components(&good, own_arch()).unwrap();
        let good_iso = small::stock_iso(&good, "CDROM").unwrap();
        let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
        Self { work, good, good_iso, containerd }
    }

    /// The media is refused with this code and leaves nothing; replaced by the good one, the same command
    /// succeeds.
    fn refuses(&self, role: &str, what: &str, refusal: (&str, &str), media: impl Fn(&Path)) {
        self.refuses_before(false, role, what, refusal, media);
    }

    /// The same; where no node waits for the bad content, the node may be `live` by then.
    fn refuses_before(&self, live: bool, role: &str, what: &str, refusal: (&str, &str), media: impl Fn(&Path)) {
        let (code, says) = refusal;
        let iso = self.work.path().join("attached.iso");
        media(&iso);
        let node = Node::new(role).unwrap().using(&self.containerd).with(&["--wait", "1s"]);
        let passwd = digest_of(Path::new("/etc/passwd")).unwrap();
        let output = node.run(&[&iso.to_string_lossy()]).unwrap();
        assert_eq!((node::code(&output), output.code), (code, 65), "{what}: {output:?}");
        let error = output.stderr.lines().find(|line| line.starts_with("error[")).unwrap();
        assert!(error.contains(says), "{what}: {error}");
        if live {
            assert!(!self.containerd.images().unwrap().iter().any(|name| name == says), "{what}");
        } else {
            assert_eq!(node.in_force().unwrap(), [""; 0], "{what}");
        }
        let around: Vec<_> =
            fs::read_dir(node.root.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(around, ["root"], "{what}");
        assert_eq!(digest_of(Path::new("/etc/passwd")).unwrap(), passwd, "{what}");
        let checked = self.containerd.ctr(["images", "check"]).ok().unwrap();
        assert!(checked.lines().skip(1).all(|line| line.contains(" complete ")), "{what}: {checked}");

        fs::copy(&self.good_iso, &iso).unwrap();
        let output = node.run(&[&iso.to_string_lossy()]).unwrap();
        assert_eq!(output.code, 0, "{what}, mended: {output:?}");
        let names = self.containerd.ctr(["images", "list", "-q"]).ok().unwrap();
        if role == "worker" {
            assert_eq!(self.containerd.images().unwrap(), [small::APPLICATION, small::SANDBOX], "{what}");
            self.containerd.ctr(["images", "rm", "--sync"]).args(names.lines()).ok().unwrap();
        }
    }
}

#[test]
fn tarballs_that_reach_out_are_refused() {
    use EntryType::{Link, Regular, Symlink};
    let bed = Bed::new();
    let cni = format!("cni/cni-plugins-{}.tgz", own_arch());
    for (path, role, members, says) in [
        (cni.as_str(), "worker", vec![("../../etc/passwd", Regular, "")], "../../etc/passwd"),
        (&cni, "worker", vec![("bridge", Regular, ""), ("/etc/passwd", Regular, "")], "/etc/passwd"),
        (&cni, "worker", vec![("bridge", Symlink, "/etc/passwd"), ("bridge", Regular, "")], "bridge"),
        (&cni, "worker", vec![("etc", Symlink, "../../../etc"), ("etc/passwd", Regular, "")], "etc"),
        (&cni, "worker", vec![("bridge", Link, "../../etc/passwd")], "bridge"),
        (ETCD, "etcd", vec![("etcd-v3.5.21/../../../etc/etcd", Regular, "")], "../etc/etcd"),
        (ETCD, "etcd", vec![("etcd-v3.5.21/etcd", Symlink, "/usr/bin/etcd")], "etcd-v3.5.21/etcd"),
    ] {
        let (what, change) = (format!("{members:?}"), hostile(&members));
        let media = |iso: &Path| pack(&bed.good, iso, path, &change);
        bed.refuses(role, &what, ("ARCHIVE_UNSAFE", says), media);
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused() {
    let bed = Bed::new();
    let other = bed.work.path().join("other");
    small::components(&other, other_arch()).unwrap();
    let page = b"<!DOCTYPE html><title>404 Not Found</title>";
    let crictl = format!("cri-tools/crictl-linux-{}.tar.gz", own_arch());
    let cases: [Case<'_>; 10] = [
        (
            "worker",
            "another machine",
            KUBELET,
            fixed(&fs::read(other.join(KUBELET)).unwrap()),
            ("ARCH_MISMATCH", KUBELET),
        ),
        ("etcd", "another machine", ETCD, fixed(&fs::read(other.join(ETCD)).unwrap()), ("ARCH_MISMATCH", ETCD)),
        ("worker", "a page", KUBELET, fixed(page), ("CONTENT_INVALID", KUBELET)),
        ("worker", "a page", &crictl, fixed(page), ("CONTENT_INVALID", &crictl)),
        ("etcd", "cut off", ETCD, half(), ("CONTENT_INVALID", ETCD)),
        ("etcd", "no etcd", ETCD, Box::new(|_| None), ("MEDIA_LACKS_ETCD", ETCD)),
        ("worker", "no kubelet", KUBELET, Box::new(|_| None), ("MEDIA_LACKS_COMPONENT", KUBELET)),
        ("worker", "a page", SANDBOX, fixed(page), ("IMAGE_INVALID", SANDBOX)),
        ("worker", "compressed", SANDBOX, Box::new(|bytes| gzip(&bytes).ok()), ("IMAGE_INVALID", SANDBOX)),
        ("worker", "a changed layer of docker save", SANDBOX, flipped(), ("DIGEST_MISMATCH", small::SANDBOX)),
    ];
    for (role, what, path, change, refusal) in &cases {
        bed.refuses(role, &format!("{what}: {path}"), *refusal, |iso| pack(&bed.good, iso, path, change));
    }
    let refusal = ("DIGEST_MISMATCH", small::APPLICATION);
    let media = |iso: &Path| pack(&bed.good, iso, APPLICATION, &flipped());
    bed.refuses_before(true, "worker", "a changed layer of ctr export", refusal, media);
}

#[test]
fn discs_that_are_no_bundle_are_refused() {
    let bed = Bed::new();
    let iso = bed.work.path().join("attached.iso");
    let named = iso.to_string_lossy().into_owned();
    bed.refuses("etcd", "a ConfigDrive", ("MEDIA_NOT_A_BUNDLE", "\"config-2\""), |iso| {
        let drive = bed.work.path().join("config-drive");
        fs::create_dir_all(drive.join("openstack/latest")).unwrap();
        fs::create_dir_all(drive.join("cloudstack/userdata")).unwrap();
        fs::write(drive.join("openstack/latest/meta_data.json"), "{}").unwrap();
        fs::write(drive.join("cloudstack/userdata/user_data.txt"), "#cloud-config\n").unwrap();
        fs::rename(small::stock_iso(&drive, "config-2").unwrap(), iso).unwrap();
    });
    bed.refuses("etcd", "an empty disc", ("MEDIA_NOT_A_BUNDLE", &named), |iso| {
        let empty = bed.work.path().join("empty");
        fs::create_dir_all(&empty).unwrap();
        fs::rename(small::stock_iso(&empty, "CDROM").unwrap(), iso).unwrap();
    });
    bed.refuses("etcd", "no disc at all", ("SOURCE_INVALID", &named), |iso| fs::write(iso, vec![0; 1 << 20]).unwrap());
    bed.refuses("worker", "a disc that is cut off", ("SOURCE_TRUNCATED", &named), |iso| {
        let bytes = fs::read(&bed.good_iso).unwrap();
        fs::write(iso, &bytes[..bytes.len() / 2]).unwrap();
    });
}
