//! `cks-agent verify`: whatever is changed on a node is found and named, and a bootstrap mends it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Image, MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::signature::SIGNATURE_PATH;
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::small::APPLICATION;
use cks_tests::{programs, small};
use serde_json::Value;

use crate::{Key, iso};

/// An installed control plane and what its bundle says.
struct Installed {
    node: Node,
    containerd: Containerd,
    iso: PathBuf,
    version: PathBuf,
    manifest: Manifest,
    _work: tempfile::TempDir,
}

impl Installed {
    fn new(containerd: Option<&str>) -> Self {
        let work = cks_tests::scratch("drift").unwrap();
        let key = Key::make(work.path(), "ours");
        let iso = key.sign(&iso(work.path(), "v1.34.0"), &work.path().join("signed.iso"), false);
        let programs = containerd.map_or_else(|| programs::containerd(None), programs::containerd_built);
        let containerd = Containerd::start(&programs.unwrap(), None).unwrap();
        let node = Node::new("control-plane").unwrap().using(&containerd);
        key.trusted_by(&node);
        let output = node.run(&[&iso.to_string_lossy()]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        let links = fs::canonicalize(node.root.join("opt/bin/kubelet")).unwrap();
        let version = links.ancestors().nth(2).unwrap().to_owned();
        let manifest = Manifest::parse(&fs::read(version.join(MANIFEST_PATH)).unwrap()).unwrap();
        Self { node, containerd, iso, version, manifest, _work: work }
    }

    fn application(&self) -> &Image {
        self.manifest.images.iter().find(|image| image.reference == APPLICATION).unwrap()
    }

    fn mend(&self) {
        let output = self.node.run(&[&self.iso.to_string_lossy()]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
    }

    fn at(&self, path: &str) -> PathBuf {
        self.node.root.join(path)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.containerd.data().join("io.containerd.content.v1.content/blobs/sha256").join(digest.hex())
    }

    /// Exit code and findings, as `(object, is, should)`, of `verify` with these arguments.
    fn verify(&self, arguments: &[&str]) -> (i32, Vec<[String; 3]>) {
        let output = self.node.agent("verify").unwrap().arg("--json").args(arguments).output().unwrap();
        let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        check_schema(&report);
        let outcome: Value = serde_json::from_slice(&fs::read(self.at("run/cks-agent/verify.json")).unwrap()).unwrap();
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(outcome["findings"], findings.len());
        assert_eq!(outcome["checked"], report["checked"]);
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let row = |finding: &Value| ["object", "is", "should"].map(|key| text(finding, key));
        (output.code, findings.iter().map(row).collect())
    }
}

/// Whether a report has exactly the fields that the schema names, where it wants them.
fn check_schema(report: &Value) {
    let path = programs::workspace().join("docs/schema/node-verify.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let same = |value: &Value, schema: &Value| {
        let known = schema["properties"].as_object().unwrap();
        for key in value.as_object().unwrap().keys() {
            assert!(known.contains_key(key), "the schema does not know {key}");
        }
        for key in schema["required"].as_array().unwrap() {
            assert!(value.get(key.as_str().unwrap()).is_some(), "{key} is missing");
        }
    };
    same(report, &schema);
    for finding in report["findings"].as_array().unwrap() {
        same(finding, &schema["properties"]["findings"]["items"]);
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn flip(path: &Path) {
    let size = fs::metadata(path).unwrap().len();
    crate::flip(path, size / 2);
}

type Damage<'a> = (&'a str, &'a dyn Fn(&Installed), &'a str, &'a str);

/// With `quick`, a look that reads no content has to find the same.
fn each_is_found_and_mended(installed: &Installed, damages: &[Damage<'_>], quick: bool) {
    assert_eq!(installed.verify(&[]), (0, Vec::new()));
    assert_eq!(installed.verify(&["--quick"]), (0, Vec::new()));
    for (what, damage, object, is) in damages {
        damage(installed);
        let (code, findings) = installed.verify(&[]);
        assert_eq!((code, findings.len()), (78, 1), "{what}: {findings:?}");
        assert!(findings[0][0].contains(object) && findings[0][1].contains(is), "{what}: {findings:?}");
        if quick {
            assert_eq!(installed.verify(&["--quick"]), (code, findings), "{what}");
        }
        let told = installed.node.agent("verify").unwrap().output().unwrap();
        assert_eq!(node::code(&told), "DRIFT", "{what}: {told:?}");
        let lines = told.stdout.lines().filter(|line| line.starts_with("drift: ")).count();
        assert_eq!(lines, 1, "{what}: {told:?}");
        installed.mend();
        assert_eq!(installed.verify(&[]), (0, Vec::new()), "{what}, mended");
    }
}

#[test]
fn changed_files_and_links_are_found_and_mended() {
    let installed = Installed::new(None);
    let bin = |name: &str| installed.version.join("bin").join(name);
    each_is_found_and_mended(
        &installed,
        &[
            ("a changed byte", &|_| flip(&bin("kubelet")), "/bin/kubelet", "sha256:"),
            ("a changed byte of a member", &|_| flip(&bin("crictl")), "/bin/crictl", "sha256:"),
            ("a changed mode", &|_| chmod(&bin("kubeadm"), 0o4755), "/bin/kubeadm", "mode 4755"),
            ("a missing file", &|_| fs::remove_file(bin("kubectl")).unwrap(), "/bin/kubectl", "missing"),
            (
                "another owner",
                &|_| std::os::unix::fs::chown(bin("kubelet"), Some(1), None).unwrap(),
                "/bin/kubelet",
                "uid 1",
            ),
            ("a file that is a link", &|_| relink(&bin("kubelet"), "/bin/true"), "/bin/kubelet", "a link to /bin/true"),
            ("a missing plugin", &|i| fs::remove_file(i.version.join("cni/bridge")).unwrap(), "/cni/bridge", "missing"),
            ("a wrong link", &|i| relink(&i.at("opt/bin/kubelet"), "/bin/true"), "/opt/bin/kubelet", "/bin/true"),
            (
                "a missing link",
                &|i| fs::remove_file(i.at("opt/cni/bin/bridge")).unwrap(),
                "/opt/cni/bin/bridge",
                "missing",
            ),
            (
                "a unit",
                &|i| flip(&i.at("etc/systemd/system/kubelet.service")),
                "system/kubelet.service",
                "another text",
            ),
            ("a text", &|i| fs::remove_file(i.at("etc/sysctl.d/90-cks.conf")).unwrap(), "90-cks.conf", "missing"),
            (
                "a text's mode",
                &|i| chmod(&i.at("etc/containerd/conf.d/50-cks.toml"), 0o666),
                "50-cks.toml",
                "mode 0666",
            ),
            ("the manifest", &|i| flip(&i.version.join(MANIFEST_PATH)), MANIFEST_PATH, "sha256:"),
            (
                "the signature",
                &|i| fs::remove_file(i.version.join(SIGNATURE_PATH)).unwrap(),
                SIGNATURE_PATH,
                "SIGNATURE_MISSING",
            ),
        ],
        true,
    );
}

fn relink(path: &Path, target: &str) {
    fs::remove_file(path).unwrap();
    symlink(target, path).unwrap();
}

#[test]
fn changed_images_are_found_and_mended() {
    for version in [None, Some("2")] {
        let installed = Installed::new(version);
        let application = installed.application().clone();
        let layer = application.layers[0];
        let ctr = |arguments: &[&str]| drop(installed.containerd.ctr(arguments.iter().copied()).ok().unwrap());
        let (config, manifest) = (application.config, application.digest);
        let top = top_of(&application);
        each_is_found_and_mended(
            &installed,
            &[
                ("a removed image", &|_| ctr(&["images", "rm", APPLICATION]), APPLICATION, "missing"),
                (
                    "an unpinned image",
                    &|_| ctr(&["images", "label", APPLICATION, "io.cri-containerd.pinned="]),
                    APPLICATION,
                    "pinned",
                ),
                (
                    "another image",
                    &|_| ctr(&["images", "tag", "--force", small::SANDBOX, APPLICATION]),
                    APPLICATION,
                    "sha256:",
                ),
                ("a removed snapshot", &|_| ctr(&["snapshots", "rm", &top.to_string()]), &top.to_string(), "missing"),
                ("a damaged layer", &|i| flip(&i.blob(&layer)), &layer.to_string(), "content store"),
                ("a damaged config", &|i| flip(&i.blob(&config)), &config.to_string(), "content store"),
                ("a damaged manifest", &|i| flip(&i.blob(&manifest)), &manifest.to_string(), "content store"),
            ],
            false,
        );
        let leases = installed.containerd.ctr(["leases", "list", "-q"]).ok().unwrap();
        assert_eq!(leases, "", "a lease was left");
    }
}

fn top_of(image: &Image) -> Digest {
    let chain = |parent: Digest, diff_id: &Digest| Digest::of(format!("{parent} {diff_id}").as_bytes());
    image.diff_ids[1..].iter().fold(image.diff_ids[0], chain)
}

#[test]
fn a_look_changes_nothing_and_needs_no_source() {
    let installed = Installed::new(None);
    let before = installed.node.tree().unwrap();
    let images = installed.containerd.ctr(["images", "list"]).ok().unwrap();
    fs::remove_file(&installed.iso).unwrap();
    let output = installed.node.agent("verify").unwrap().output().unwrap();
    assert!(output.code == 0 && output.stdout.contains(" 0 findings; signed by "), "{output:?}");
    assert_eq!(before, installed.node.tree().unwrap());
    assert_eq!(images, installed.containerd.ctr(["images", "list"]).ok().unwrap());
    // Without containerd the files are looked at all the same.
    flip(&installed.version.join("bin/kubelet"));
    let alone = installed.node.agent("verify").unwrap().args(["--containerd", "/nowhere.sock"]).output().unwrap();
    assert!(alone.code == 78 && alone.stdout.contains("not checked: containerd at /nowhere.sock"), "{alone:?}");
}

#[test]
fn a_node_that_was_never_installed_is_told() {
    let node = Node::new("etcd").unwrap();
    let output = node.agent("verify").unwrap().output().unwrap();
    assert_eq!((node::code(&output), output.code), ("STATE_INVALID", 78), "{output:?}");
}

#[test]
fn what_was_learned_of_a_stock_iso_is_its_reference() {
    let work = cks_tests::scratch("drift").unwrap();
    let arch = bootstrap::bundle::Arch::parse(std::env::consts::ARCH).unwrap();
    let components = small::components(&work.path().join("stock"), arch).unwrap();
    let iso = small::stock_iso(&components.directory, "CDROM").unwrap();
    let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
    let node = Node::new("worker").unwrap().using(&containerd);
    let run = || node.run(&[&iso.to_string_lossy()]).unwrap();
    assert_eq!(run().code, 0);
    let verify = || node.agent("verify").unwrap().output().unwrap();
    let clean = verify();
    assert!(clean.code == 0 && clean.stdout.contains("learned of a stock ISO"), "{clean:?}");
    let kubelet = fs::canonicalize(node.root.join("opt/bin/kubelet")).unwrap();
    let crictl = fs::canonicalize(node.root.join("opt/bin/crictl")).unwrap();
    let damages: [(&dyn Fn(), &str); 3] = [
        (&|| flip(&kubelet), "/bin/kubelet"),
        (&|| fs::remove_file(&crictl).unwrap(), "/bin/crictl"),
        (&|| drop(containerd.ctr(["images", "rm", APPLICATION]).ok().unwrap()), APPLICATION),
    ];
    for (damage, object) in damages {
        damage();
        let drift = verify();
        assert!(drift.code == 78 && drift.stdout.contains(object), "{drift:?}");
        assert_eq!(run().code, 0);
        assert_eq!(verify().code, 0, "{:?}", verify());
    }
}
