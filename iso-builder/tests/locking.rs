//! From versions to a lock, and from a lock to the same ISO everywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use iso_builder::lock::Lock;
use iso_builder::opened::Opened;
use tempfile::TempDir;

use crate::fixture::upstream::{NETWORK, Upstream};
use crate::fixture::{arch, try_run};

/// Upstreams, and a directory with a spec, a configuration and a cache.
pub(crate) struct Bed {
    pub(crate) upstream: Upstream,
    pub(crate) dir: TempDir,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let bed = Self { upstream: Upstream::start(), dir: tempfile::tempdir().unwrap() };
        bed.write("config.toml", &bed.upstream.config());
        bed.write("spec.toml", &spec());
        bed
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{from:?} is not in {text}");
        self.write(name, &text.replacen(from, to, 1));
    }

    pub(crate) fn try_cks_iso(&self, args: &str) -> Output {
        let args: Vec<_> = args.split(' ').collect();
        let mut all = args.clone();
        if matches!(args[0], "lock" | "build") {
            all.extend(["--config", "config.toml"]);
        }
        try_run(self.dir.path(), env!("CARGO_BIN_EXE_cks-iso"), &all)
    }

    pub(crate) fn cks_iso(&self, args: &str) -> String {
        let output = self.try_cks_iso(args);
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A call that must fail with `code`, saying `want`.
    pub(crate) fn refused(&self, args: &str, code: &str, want: &str) {
        let output = self.try_cks_iso(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args} succeeds");
        assert!(said.contains(&format!("error[{code}]")) && said.contains(want), "{args}: {said}");
        assert!(said.contains("\nremedy: "), "{said}");
    }

    fn manifest(&self, iso: &str) -> Manifest {
        Opened::open(&self.path(iso)).unwrap().manifest().unwrap().unwrap().0
    }

    pub(crate) fn on_iso(&self, iso: &str, path: &str) -> String {
        let opened = Opened::open(&self.path(iso)).unwrap();
        let bytes = opened.file(path).unwrap().content.head(1 << 20).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn lock(&self) -> Lock {
        Lock::parse(&self.read("cks-iso.lock")).unwrap()
    }
}

fn spec() -> String {
    format!(
        "name = \"v1.33.1-calico\"\narch = \"{}\"\nprofiles = [\"calico\", \"etcd\"]\n\n[kubernetes]\nversion = \"1.33.1\"\n\n\
         [cni-plugins]\nversion = \"1.6.2\"\n\n[cri-tools]\nversion = \"v1.33.0\"\n\n\
         [[images]]\nreference = \"example.org/team/app:1.0\"\n",
        arch()
    )
}

#[test]
fn the_same_lock_gives_the_same_iso_in_another_directory_without_a_network() {
    let bed = Bed::new();
    let said = bed.cks_iso("lock spec.toml");
    assert!(said.contains("+ kubernetes.kubelet ") && said.contains("cks-iso.lock: 19 changes"), "{said}");
    let built = bed.cks_iso("build spec.toml -o a.iso --locked");
    assert!(built.contains("semanticversion=1.33.1") && built.contains("'checksum={SHA-256}"), "{built}");
    bed.cks_iso("verify a.iso");

    let asked = bed.upstream.asked();
    fs::create_dir(bed.path("elsewhere")).unwrap();
    for name in ["spec.toml", "cks-iso.lock"] {
        fs::copy(bed.path(name), bed.path("elsewhere").join(name)).unwrap();
    }
    bed.cks_iso("build elsewhere/spec.toml -o elsewhere/b.iso --locked --offline");
    assert!(fs::read(bed.path("a.iso")).unwrap() == fs::read(bed.path("elsewhere/b.iso")).unwrap());
    assert_eq!(bed.upstream.asked(), asked, "nobody is asked");

    let manifest = bed.manifest("a.iso");
    let references: Vec<_> = manifest.images.iter().map(|image| image.reference.as_str()).collect();
    assert_eq!(
        references,
        [
            "docker.io/calico/node:v3.30.3",
            "example.org/team/app:1.0",
            "registry.k8s.io/coredns/coredns:v1.12.0",
            "registry.k8s.io/etcd:3.5.21-0",
            "registry.k8s.io/kube-apiserver:v1.33.1",
            "registry.k8s.io/kube-controller-manager:v1.33.1",
            "registry.k8s.io/kube-proxy:v1.33.1",
            "registry.k8s.io/kube-scheduler:v1.33.1",
            "registry.k8s.io/pause:3.10",
        ]
    );
    assert_eq!(manifest.sandbox_image.as_deref(), Some("registry.k8s.io/pause:3.10"));
    assert_eq!(manifest.node.sysctl["net.ipv4.conf.all.rp_filter"], "0");
    assert_eq!(bed.on_iso("a.iso", "cks-iso.lock"), bed.read("cks-iso.lock"));
    assert_eq!(bed.on_iso("a.iso", "network.yaml"), NETWORK.replace("Always", "IfNotPresent"));
    assert!(bed.on_iso("a.iso", "kubelet.service").contains("\nExecStart=/usr/bin/kubelet\n"));
    // One base layer under nine names.
    let layers = manifest.blobs.iter().filter(|blob| blob.media_type.contains("layer")).count();
    assert_eq!(layers, 1 + 6);
}

#[test]
fn a_lock_keeps_what_it_says_until_it_is_asked_to_look_again() {
    let bed = Bed::new();
    bed.cks_iso("lock spec.toml");
    let lock = bed.lock();
    let by = |key: &str| lock.file(key).unwrap().checked.clone().unwrap();
    assert!(by("kubernetes.kubelet").ends_with("/kubelet.sha256") && by("etcd").ends_with("/SHA256SUMS"));
    assert!(by("manifests.\"network.yaml\"").starts_with("none: "));
    let calico = lock.images.iter().find(|image| image.reference.contains("calico")).unwrap();
    assert_eq!(
        (calico.named_by.join(" "), calico.index),
        ("network.yaml:10".to_owned(), Some(Upstream::index_of("v3.30.3")))
    );

    let text = bed.read("cks-iso.lock");
    assert!(bed.cks_iso("lock spec.toml").contains("nothing changed"));
    bed.upstream.change("calico.yaml", Some(NETWORK.replace("v3.30.3", "v3.30.4").into_bytes()));
    assert!(bed.cks_iso("lock spec.toml").contains("nothing changed"));
    assert_eq!(bed.read("cks-iso.lock"), text);
    let said = bed.cks_iso("lock spec.toml --update network.yaml");
    let starts: Vec<_> = said.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        starts[..3],
        ["~ manifests.\"network.yaml\"", "+ docker.io/calico/node:v3.30.4", "- docker.io/calico/node:v3.30.3"]
    );
    bed.refused("lock spec.toml --update nothing", "CONFIG_INVALID", "no file and no image of that name");
    // A changed spec costs what changed, and nothing else.
    bed.edit("spec.toml", "[[images]]\nreference = \"example.org/team/app:1.0\"\n", "");
    assert!(bed.cks_iso("lock spec.toml").lines().next().unwrap().starts_with("- example.org/team/app:1.0"));
    assert!(bed.cks_iso("lock spec.toml --update").contains("nothing changed"));
}

#[test]
fn a_build_refuses_a_lock_that_is_not_its_own() {
    let bed = Bed::new();
    bed.refused("build spec.toml -o a.iso --locked", "LOCK_STALE", "does not exist");
    bed.refused("build spec.toml -o a.iso --offline", "LOCK_STALE", "does not exist");
    // Without --locked the lock is made, as it has to be.
    bed.cks_iso("build spec.toml -o a.iso");
    let first = bed.read("cks-iso.lock");
    bed.edit("spec.toml", "[kubernetes]", "# A comment changes nothing.\n[kubernetes]");
    bed.cks_iso("build spec.toml -o b.iso --locked --offline");
    bed.edit("spec.toml", "\"calico\", ", "\"calico\",");
    bed.cks_iso("build spec.toml -o b.iso --locked --offline");
    bed.edit("spec.toml", "app:1.0", "app:3.10");
    bed.refused("build spec.toml -o c.iso --locked", "LOCK_STALE", "was made from another spec");
    bed.refused("lock spec.toml --name other", "CONFIG_INVALID", "is the lock of v1.33.1-calico");
    bed.refused("build spec.toml -o c.iso --name other --locked", "LOCK_STALE", "is the lock of v1.33.1-calico");
    assert_eq!(bed.read("cks-iso.lock"), first);
    assert!(!bed.path("c.iso").exists());
    bed.cks_iso("lock spec.toml --name other --lock other.lock");
    bed.edit("cks-iso.lock", "version = 1", "version = 9");
    bed.refused("build spec.toml -o c.iso", "LOCK_STALE", "has version 9");
    // A cache that lost a blob can't help offline.
    bed.cks_iso("lock spec.toml --update");
    for blob in fs::read_dir(bed.path("cache/sha256")).unwrap() {
        fs::remove_file(blob.unwrap().path()).unwrap();
    }
    bed.refused("build spec.toml -o c.iso --locked --offline", "NOT_CACHED", "");
}

#[test]
fn what_upstream_answers_wrongly_makes_no_lock() {
    for (end, answer, code, want) in [
        ("kubelet.sha256", Some("0".repeat(64)), "DIGEST_MISMATCH", "kubernetes.kubelet: "),
        (
            "kubelet.sha256",
            Some("<!DOCTYPE html><title>Sign in</title>".to_owned()),
            "CONTENT_INVALID",
            "is an HTML page",
        ),
        ("kubelet.sha256", None, "SOURCE_FILE_MISSING", "kubelet.sha256"),
        ("SHA256SUMS", Some(format!("{}  other.zip", "0".repeat(64))), "CONTENT_INVALID", "etcd: "),
        ("kubectl", None, "SOURCE_FILE_MISSING", "kubernetes.kubectl: "),
        ("calico.yaml", None, "SOURCE_FILE_MISSING", "network.yaml"),
        ("calico.yaml", Some("<html>".to_owned()), "CONTENT_INVALID", "network.yaml"),
        ("calico.yaml", Some("replicaCount: 1\n".to_owned()), "CONTENT_INVALID", "values.yaml of a Helm chart"),
        ("calico.yaml", Some(NETWORK.replace("v3.30.3", "v0")), "REGISTRY_LACKS_IMAGE", "network.yaml:10"),
        ("constants.go", Some("package constants\n".to_owned()), "CONTENT_INVALID", "CoreDNSVersion"),
    ] {
        let bed = Bed::new();
        bed.upstream.change(end, answer.map(String::into_bytes));
        bed.refused("lock spec.toml", code, want);
        assert!(!bed.path("cks-iso.lock").exists(), "{end}");
    }
}

#[test]
fn what_no_build_would_take_makes_no_lock() {
    let mut foreign = fs::read("/usr/bin/true").unwrap();
    foreign[18] = if foreign[18] == 0x3e { 0xb7 } else { 0x3e };
    let page = b"<!DOCTYPE html><title>login</title>".to_vec();
    let crictl = format!("crictl-v1.33.0-linux-{}.tar.gz", arch());
    for (file, bytes, code, want) in [
        ("/kubelet", foreign, "ARCH_MISMATCH", "kubernetes.kubelet: "),
        ("/kubectl", page.clone(), "CONTENT_INVALID", "kubernetes.kubectl: "),
        (&crictl, page, "CONTENT_INVALID", "cri-tools: "),
    ] {
        let bed = Bed::new();
        // Upstream vouches for it.
        bed.upstream.change(&format!("{file}.sha256"), Some(Digest::of(&bytes).hex().into_bytes()));
        bed.upstream.change(file, Some(bytes));
        bed.refused("lock spec.toml", code, want);
        assert!(!bed.path("cks-iso.lock").exists());
    }
}

#[test]
fn nobody_has_to_read_the_progress() {
    let bed = Bed::new();
    let call = format!(
        "{} lock spec.toml --config config.toml --progress lines 2>&1 >/dev/null | true; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_cks-iso")
    );
    let output = try_run(bed.dir.path(), "bash", &["-c", &call]);
    assert!(output.status.success() && bed.path("cks-iso.lock").exists(), "{output:?}");
}

#[test]
fn manifests_may_not_name_what_the_iso_lacks_unless_that_is_said() {
    let bed = Bed::new();
    bed.edit("spec.toml", "profiles", "images-from = { manifests = false }\nprofiles");
    bed.refused("build spec.toml -o a.iso", "SPEC_INVALID", "network.yaml:10: the image docker.io/calico/node:v3.30.3");
    assert!(!bed.path("a.iso").exists());
    bed.edit("spec.toml", "profiles", "incomplete = true\nprofiles");
    let output = bed.try_cks_iso("build spec.toml -o a.iso");
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: network.yaml:10: "));
    assert!(output.status.success());
}

#[test]
fn an_image_with_a_digest_has_both_names_that_nodes_look_for() {
    let bed = Bed::new();
    let index = Upstream::index_of("v3.30.4");
    let network = NETWORK.replace("v3.30.3", &format!("v3.30.4@{index}"));
    bed.upstream.change("calico.yaml", Some(network.into_bytes()));
    bed.cks_iso("build spec.toml -o a.iso");
    bed.cks_iso("verify a.iso");
    let manifest = bed.manifest("a.iso");
    let calico: Vec<_> = manifest.images.iter().filter(|image| image.reference.contains("calico")).collect();
    let names: Vec<_> = calico.iter().map(|image| image.reference.clone()).collect();
    assert_eq!(names, ["docker.io/calico/node:v3.30.4".to_owned(), format!("docker.io/calico/node@{index}")]);
    assert!(calico[0].digest == calico[1].digest && calico[0].digest != index);
}

#[test]
fn a_chart_is_rendered_once_and_kept() {
    let bed = Bed::new();
    bed.write("chart.tgz", "chart");
    let helm = |script: &str| {
        bed.write("helm", &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(bed.path("helm"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    bed.edit("spec.toml", "\"calico\", ", "");
    let chart =
        "[manifests.\"network.yaml\".chart]\nfile = \"chart.tgz\"\nname = \"cilium\"\nvalues = { a = { b = 1 } }\n";
    bed.write("spec.toml", &format!("{}\n{chart}", bed.read("spec.toml")));
    bed.refused("lock spec.toml --helm ./absent", "CONFIG_INVALID", "install helm 3");
    helm("echo 'values don'\\''t meet the specifications' >&2; exit 1");
    bed.refused("lock spec.toml --helm ./helm", "CONTENT_INVALID", "don't meet the specifications");
    bed.write("rendered.yaml", NETWORK);
    helm("echo \"$@\" > arguments; cat \"$5\" > values; cat rendered.yaml");
    bed.cks_iso("lock spec.toml --helm ./helm");
    let arguments = bed.read("arguments");
    assert!(arguments.starts_with("template cilium --include-crds --values /"), "{arguments}");
    assert!(arguments.contains(" --namespace default --kube-version v1.33.1 -- "), "{arguments}");
    assert_eq!(bed.read("values"), r#"{"a":{"b":1}}"#);
    bed.cks_iso("build spec.toml -o a.iso --locked --helm ./absent");
    assert!(bed.on_iso("a.iso", "network.yaml").contains("calico/node"));
    // A text that is gone is rendered again, and has to be the same.
    let text = bed.lock().file("manifests.\"network.yaml\"").unwrap().sha256.unwrap();
    fs::remove_file(bed.path("cache/sha256").join(text.hex())).unwrap();
    bed.cks_iso("build spec.toml -o a.iso --locked --helm ./helm");
    fs::remove_file(bed.path("cache/sha256").join(text.hex())).unwrap();
    bed.write("rendered.yaml", &NETWORK.replace("calico-node", "other"));
    bed.refused("build spec.toml -o a.iso --locked --helm ./helm", "LOCK_STALE", "rendered again");
}

#[test]
fn a_first_spec_locks_as_it_is() {
    let bed = Bed::new();
    let init = format!("init --kubernetes 1.33.1 --arch {} --profile calico --profile etcd -o first.toml", arch());
    bed.cks_iso(&init);
    bed.refused(&init, "CONFIG_INVALID", "first.toml exists");
    bed.cks_iso("lock first.toml");
    assert_eq!(bed.lock().name, "v1.33.1-calico");
    bed.cks_iso("build first.toml -o a.iso --locked");
}

#[test]
fn the_stock_scripts_call_makes_the_iso() {
    let bed = Bed::new();
    bed.write("network.yaml", NETWORK);
    bed.write("dashboard.yaml", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: kubernetes-dashboard\n");
    fs::create_dir(bed.path("out")).unwrap();
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/create-kubernetes-binaries-iso.sh");
    let call = |rest: &str| {
        let command = format!(
            "CKS_ISO={} CKS_ISO_CONFIG=$PWD/config.toml CKS_RELEASE=4.14 {} out {rest}",
            env!("CARGO_BIN_EXE_cks-iso"),
            shim.display()
        );
        try_run(bed.dir.path(), "sh", &["-c", &command])
    };
    let output = call(&format!("1.33.1 1.6.2 1.33.0 network.yaml dashboard.yaml setup-v1.33.1 {} 3.5.24", arch()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = bed.manifest("out/setup-v1.33.1.iso");
    assert_eq!((manifest.name.as_str(), manifest.components.len()), ("setup-v1.33.1", 4));
    assert!(bed.path("out/setup-v1.33.1.lock").exists());
    let output = call("1.33.1 1.6.2");
    assert_eq!(output.status.code(), Some(78), "{}", String::from_utf8_lossy(&output.stderr));
    let mut made: Vec<_> =
        fs::read_dir(bed.path("out")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    made.sort();
    let names = ["iso", "iso.sha256", "iso.sha512", "iso.spdx.json", "lock"].map(|end| format!("setup-v1.33.1.{end}"));
    assert_eq!(made, names, "nothing else is made");
}
