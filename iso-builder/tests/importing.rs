//! `cks-iso import`: stock ISOs become ours, or are refused by the name of the file at fault.

use std::collections::BTreeSet;
use std::fs;

use bootstrap::archive;
use bootstrap::bundle::Arch;
use iso_builder::content::{Content, Source};
use iso_builder::opened::Opened;
use serde_json::Value;

use crate::fixture::archives::{Image, docker_save, layer};
use crate::fixture::{Bed, arch, by_us, files_below, run};

const IMAGES: [&str; 5] = [
    "registry.k8s.io/pause:3.10",
    "registry.k8s.io/kube-proxy:v1.33.1",
    "registry.k8s.io/kube-apiserver:v1.33.1",
    "docker.io/calico/node:v3.28.0",
    "quay.io/tigera/operator:v1.34.0",
];

/// The tree of a stock ISO, as `create-kubernetes-binaries-iso.sh` lays it out.
fn stock() -> Bed {
    let bed = Bed::new();
    let script = format!(
        "mkdir -p stock/cni stock/cri-tools stock/k8s stock/docker stock/etcd etcd-v3.5.21-linux-{arch}
         cp bin/kubeadm bin/kubelet bin/kubectl stock/k8s/
         chmod 644 stock/k8s/kubectl
         tar -czf stock/cni/cni-plugins-{arch}.tgz -C bin ./bridge ./loopback
         tar -czf stock/cri-tools/crictl-linux-{arch}.tar.gz -C bin crictl
         cp etcd/* etcd-v3.5.21-linux-{arch}/
         tar -czf stock/etcd/etcd-linux-amd64.tar.gz etcd-v3.5.21-linux-{arch}
         cp kubelet.service 10-kubeadm.conf stock/
         cp calico.yaml stock/network.yaml
         cp calico.yaml stock/dashboard.yaml
         echo more > stock/extra.txt",
        arch = arch(),
    );
    run(bed.dir(), "bash", &["-ec", &script]);
    let base = layer("base", 400_000);
    for reference in IMAGES {
        let image = Image { reference, arch: arch().as_str(), layers: vec![base.clone(), layer(reference, 9_000)] };
        let name = reference.rsplit('/').next().unwrap();
        docker_save(&bed.path("stock/docker").join(format!("{name}.tar")), &[image]);
    }
    bed
}

/// Packs the tree as CloudStack's script does.
fn pack(bed: &Bed) {
    run(bed.dir(), "genisoimage", &["-quiet", "-o", "stock.iso", "-J", "-R", "-l", "stock"]);
}

fn import(bed: &Bed, args: &[&str]) -> Value {
    let output = bed.cks_iso(&[&["import", "stock.iso", "-o", "out.iso", "--json"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_stock_iso_becomes_one_that_verifies() {
    let bed = stock();
    pack(&bed);
    let told = import(&bed, &[]);
    let verified = bed.cks_iso(&["verify", "out.iso"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    // The tree has not all images of a cluster.
    assert!(verified.status.success() && said.lines().last().unwrap().starts_with("out.iso: clean, "), "{said}");
    assert!(said.lines().rev().skip(1).all(|line| line.starts_with("kubeadm-images: warning: ")), "{said}");

    // The same files, but for the archives.
    let (stock, ours) = (files_below(&bed.path("stock")), by_us(&bed.path("out.iso")));
    for (path, (_, content)) in stock.iter().filter(|(path, _)| !path.starts_with("docker/")) {
        assert!(ours[path].1 == *content, "{path}");
        assert_eq!(ours[path].0, if path.starts_with("k8s/") { 0o755 } else { 0o644 }, "{path}");
    }
    let more: Vec<_> = ours.keys().filter(|path| !stock.contains_key(*path)).collect();
    assert_eq!(more, ["cks-bundle.json", "docker/images.tar"]);
    assert_eq!(ours.keys().filter(|path| path.starts_with("docker/")).count(), 1);

    // The same images: configs and layers have the digests that the stock archives give them.
    let iso = Opened::open(&bed.path("out.iso")).unwrap();
    let (manifest, _) = iso.manifest().unwrap().unwrap();
    let mut want = BTreeSet::new();
    for file in fs::read_dir(bed.path("stock/docker")).unwrap() {
        let path = file.unwrap().path();
        let read = archive::read(Content::whole(&Source::open(&path).unwrap()).reader(), "docker").unwrap();
        want.extend(read.images.into_iter().map(|image| (image.reference, image.digest, image.config, image.layers)));
    }
    let images = manifest.images.iter().cloned();
    let found: BTreeSet<_> = images.map(|image| (image.reference, image.digest, image.config, image.layers)).collect();
    assert_eq!((found.len(), found), (5, want));

    // Smaller by the shared layer, which the stock ISO has five times.
    let (size, stock_size) = (told["size"].as_u64().unwrap(), told["stock_size"].as_u64().unwrap());
    assert_eq!(stock_size, fs::metadata(bed.path("stock.iso")).unwrap().len());
    assert!(size + 4 * 380_000 < stock_size, "{size} {stock_size}");
    let fields = ["name", "kubernetes", "arch"].map(|field| told[field].as_str().unwrap());
    assert_eq!(fields, ["stock", "v1.33.1", arch().as_str()]);
    let call = told["register"].as_str().unwrap();
    assert!(call.contains("semanticversion=1.33.1 ") && call.contains("url=http://SERVER/out.iso "), "{call}");
    assert_eq!(told["warnings"].to_string(), r#"["extra.txt is carried, but no node installs it"]"#);
    let components: Vec<_> = manifest.components.iter().map(|c| format!("{} {}", c.name, c.version)).collect();
    assert_eq!(components, ["kubernetes v1.33.1", "etcd v3.5.21"]);
    assert_eq!(manifest.sandbox_image.as_deref(), Some("registry.k8s.io/pause:3.10"));
    assert_eq!(bed.hidden(), [""; 0]);
}

#[test]
fn an_import_is_released_as_a_build_is() {
    let bed = stock();
    run(bed.dir(), "bash", &["-ec", "rm stock/dashboard.yaml stock/10-kubeadm.conf"]);
    pack(&bed);
    run(bed.dir(), env!("CARGO_BIN_EXE_cks-iso"), &["keygen", "a", "--no-password"]);
    let told = import(&bed, &["--sign", "a.key"]);
    for (suffix, key) in [("sha256", "sha256"), ("sha512", "sha512"), ("spdx.json", "spdx"), ("minisig", "minisig")] {
        assert_eq!(told["beside"][key], format!("out.iso.{suffix}"));
        assert!(bed.path(&format!("out.iso.{suffix}")).is_file(), "{suffix}");
    }
    for tool in ["sha256", "sha512"] {
        run(bed.dir(), &format!("{tool}sum"), &["-c", &format!("out.iso.{tool}")]);
    }
    let verified = bed.cks_iso(&["verify", "out.iso", "--key", "a.pub"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let bill = run(bed.dir(), env!("CARGO_BIN_EXE_cks-iso"), &["sbom", "out.iso"]);
    assert!(bill == fs::read(bed.path("out.iso.spdx.json")).unwrap());
    let warnings = told["warnings"].to_string();
    for lacking in ["stock nodes need 10-kubeadm.conf", "neither dashboard.yaml nor headlamp.yaml"] {
        assert!(warnings.contains(lacking), "{warnings}");
    }
    // Signing an unsigned import later gives the same bytes.
    let signed = fs::read(bed.path("out.iso")).unwrap();
    assert_eq!(import(&bed, &[])["beside"]["minisig"], Value::Null);
    assert!(!bed.path("out.iso.minisig").exists(), "the signature of another ISO stays");
    run(bed.dir(), env!("CARGO_BIN_EXE_cks-iso"), &["sign", "out.iso", "--key", "a.key"]);
    assert!(fs::read(bed.path("out.iso")).unwrap() == signed, "import --sign and sign differ");
    assert_eq!(bed.hidden(), [""; 0]);
}

#[test]
fn the_same_stock_iso_gives_the_same_bytes() {
    let bed = stock();
    pack(&bed);
    let first = import(&bed, &["--source-date-epoch", "1700000000"]);
    let bytes = fs::read(bed.path("out.iso")).unwrap();
    fs::create_dir(bed.path("elsewhere")).unwrap();
    fs::rename(bed.path("stock.iso"), bed.path("elsewhere/stock.iso")).unwrap();
    let again = ["import", "elsewhere/stock.iso", "-o", "elsewhere/out.iso", "--source-date-epoch", "1700000000"];
    let output = bed.cks_iso(&again);
    assert!(output.status.success());
    assert!(fs::read(bed.path("elsewhere/out.iso")).unwrap() == bytes);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(first["sha256"].as_str().unwrap().trim_start_matches("sha256:")), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: extra.txt is carried"));

    // Ours is no stock ISO any more, and no ISO is imported onto itself.
    for (args, text) in [
        (["import", "out.iso", "-o", "more.iso"], "it has a cks-bundle.json"),
        (["import", "elsewhere/stock.iso", "-o", "elsewhere/stock.iso"], "is the same file as"),
        (["import", "elsewhere/stock.iso", "-o", "stock/"], "is no file name"),
        (["import", "elsewhere/stock.iso", "-o", "stock"], "is no regular file"),
        (["import", "absent.iso", "-o", "more.iso"], "absent.iso"),
    ] {
        let output = bed.cks_iso(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("error[CONFIG_INVALID]: ") && said.contains(text), "{said}");
        assert_eq!(output.status.code(), Some(78));
    }
    assert!(!bed.path("more.iso").exists());
}

#[test]
fn names_and_versions_can_be_told() {
    let bed = stock();
    run(bed.dir(), "bash", &["-ec", "rm stock/docker/kube-*; ln -s network.yaml stock/other; mkdir stock/empty"]);
    pack(&bed);
    let output = bed.cks_iso(&["import", "stock.iso", "-o", "out.iso"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let want = "no image on the ISO tells the version of Kubernetes\nremedy: name the version with --kubernetes";
    assert!(said.contains(want), "{said}");
    assert_eq!((output.status.code(), bed.path("out.iso").exists()), (Some(78), false));

    let told = import(&bed, &["--kubernetes", "1.32.7", "--name", "mine"]);
    assert_eq!((&told["name"], &told["kubernetes"]), (&"mine".into(), &"v1.32.7".into()));
    let warnings = told["warnings"].to_string();
    assert!(warnings.contains("empty/ is empty, and left behind"), "{warnings}");
    assert!(warnings.contains("other is a link or a device, and left behind"), "{warnings}");
    assert!(bed.cks_iso(&["verify", "out.iso"]).status.success());
}

/// A change of the tree, the code, and what the message names.
const BROKEN: [(&str, &str, &str); 15] = [
    ("echo '<!DOCTYPE html><title>404</title>' > k8s/kubeadm", "CONTENT_INVALID", "k8s/kubeadm is an HTML page"),
    ("echo '<html>' > k8s/kubelet", "CONTENT_INVALID", "k8s/kubelet is an HTML page"),
    ("rm k8s/kubelet", "CONTENT_INVALID", "k8s/kubelet: is not there"),
    ("echo '<html>' > network.yaml", "CONTENT_INVALID", "network.yaml is an HTML page"),
    ("echo '<html>' > docker/pause:3.10.tar", "IMAGE_INVALID", "docker/pause:3.10.tar"),
    ("echo '<html>' > cni/*.tgz", "CONTENT_INVALID", "cni/cni-plugins-"),
    ("truncate -s 9000 cri-tools/*.gz", "CONTENT_INVALID", "cri-tools/crictl-linux-"),
    ("truncate -s 90000 docker/kube-proxy*", "IMAGE_INVALID", "docker/kube-proxy:v1.33.1.tar"),
    ("cp ../damaged.tar docker/node:v3.28.0.tar", "DIGEST_MISMATCH", "docker/node:v3.28.0.tar: the blob"),
    ("cp ../other.tar docker/x.tar", "ARCH_MISMATCH", "quay.io/other:1 is for"),
    ("cp ../twice.tar docker/a.tar", "CONTENT_INVALID", "both hold registry.k8s.io/pause:3.10"),
    ("mkdir docker/more; cp docker/*pause* docker/more/", "CONTENT_INVALID", "docker/more/pause:3.10.tar"),
    ("cp cni/*.tgz cni/cni-plugins-x64.tgz", "CONTENT_INVALID", "one-match"),
    ("ln -sf kubelet k8s/kubectl", "CONTENT_INVALID", "k8s/kubectl: is a link or a device"),
    ("printf '\\x28\\x00' | dd of=k8s/kubelet bs=1 seek=18 conv=notrunc status=none", "ARCH_MISMATCH", "machine 40"),
];

#[test]
fn broken_stock_isos_are_refused_by_name() {
    let bed = stock();
    let other = if arch() == Arch::Amd64 { "arm64" } else { "amd64" };
    let image = |reference, arch, own| Image { reference, arch, layers: vec![layer(own, 900)] };
    docker_save(&bed.path("other.tar"), &[image("quay.io/other:1", other, "other")]);
    docker_save(&bed.path("twice.tar"), &[image("registry.k8s.io/pause:3.10", arch().as_str(), "twice")]);
    // A layer that is not what its config says.
    let mut bytes = fs::read(bed.path("stock/docker/node:v3.28.0.tar")).unwrap();
    let own = b"v3.28.0docker.io";
    let at = bytes.windows(own.len()).position(|window| window == own).unwrap();
    bytes[at] ^= 1;
    bed.write("damaged.tar", bytes);
    run(bed.dir(), "mv", &["stock", "good"]);
    for (change, code, text) in BROKEN {
        run(bed.dir(), "bash", &["-ec", &format!("rm -rf stock; cp -a good stock; cd stock; {change}")]);
        pack(&bed);
        let output = bed.cks_iso(&["import", "stock.iso", "-o", "out.iso"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().find(|line| line.starts_with("error[")).unwrap_or_else(|| panic!("{change}: {said}"));
        assert!(line.contains(text), "{change}: {said}");
        assert!(line.starts_with(&format!("error[{code}]: ")), "{change}: {said}");
        assert!(!said.contains("spec"), "{change}: {said}");
        assert_eq!(output.status.code(), Some(65), "{change}");
        assert!(!bed.path("out.iso").exists() && bed.hidden().is_empty(), "{change}");
    }
}

#[test]
fn a_tree_of_another_architecture_is_of_that_one_throughout() {
    let bed = stock();
    let other = if arch() == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
    let [low, high] = other.elf_machine().to_le_bytes();
    let all = format!(
        r"for f in k8s/*; do printf '\x{low:02x}\x{high:02x}' | dd of=$f bs=1 seek=18 conv=notrunc status=none; done"
    );
    run(bed.dir(), "bash", &["-ec", &format!("cd stock; {all}")]);
    pack(&bed);
    let output = bed.cks_iso(&["import", "stock.iso", "-o", "out.iso"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let want = format!(" is for {}, the bundle is for {other}", arch());
    assert!(said.contains("error[ARCH_MISMATCH]: docker/") && said.contains(&want), "{said}");
    assert_eq!((output.status.code(), bed.path("out.iso").exists()), (Some(65), false));
}

#[test]
fn a_cut_or_foreign_iso_is_refused() {
    let bed = stock();
    pack(&bed);
    let whole = fs::read(bed.path("stock.iso")).unwrap();
    run(bed.dir(), "genisoimage", &["-quiet", "-J", "-R", "-o", "foreign.iso", "calico.yaml"]);
    for (bytes, code) in [
        (&whole[..whole.len() / 2], "SOURCE_TRUNCATED"),
        (&whole[..33_000], "SOURCE_INVALID"),
        (&b"<html>"[..], "SOURCE_INVALID"),
        (&fs::read(bed.path("foreign.iso")).unwrap(), "MEDIA_NOT_A_BUNDLE"),
    ] {
        bed.write("stock.iso", bytes);
        let output = bed.cks_iso(&["import", "stock.iso", "-o", "out.iso"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with(&format!("error[{code}]: stock.iso")), "{said}");
        assert_eq!(output.status.code(), Some(65));
        assert!(!bed.path("out.iso").exists() && bed.hidden().is_empty());
    }
}
