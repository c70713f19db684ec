//! Bad specs and inputs: each has its code, and none leaves an ISO.

use std::fs;

use crate::fixture::archives::{Image, docker_save, layer, oci_layout};
use crate::fixture::{Bed, arch, files_below, run, try_run};

/// The other architecture: name and `e_machine`.
fn other() -> (&'static str, u8) {
    if arch().as_str() == "amd64" { ("arm64", 183) } else { ("amd64", 62) }
}

fn make_foreign(bed: &Bed, path: &str) {
    let mut bytes = fs::read(bed.path(path)).unwrap();
    bytes[18] = other().1;
    bed.write(path, bytes);
}

const HTML: &str = "\n<!DOCTYPE html><html><title>404 Not Found</title></html>";

fn pause(arch: &str, own: &str) -> [Image<'static>; 1] {
    let arch = if arch == "amd64" { "amd64" } else { "arm64" };
    [Image { reference: "registry.k8s.io/pause:3.10", arch, layers: vec![layer(own, 10)] }]
}

/// What is spoiled, the code of the refusal, and a text in its message.
type Case = (fn(&Bed), &'static str, &'static str);

const CASES: [Case; 26] = [
    (|bed| bed.edit("bin/kubelet", "bin/absent"), "SPEC_INVALID", "kubernetes.kubelet: "),
    (|bed| bed.edit("a.tar", "absent.tar"), "SPEC_INVALID", "images[0]: "),
    (|bed| bed.edit("bin/crictl", "bin/absent"), "SPEC_INVALID", "cri-tools: "),
    (|bed| bed.edit("directory = \"etcd\"", "directory = \"absent\""), "SPEC_INVALID", "etcd: "),
    (|bed| bed.edit("bin/kubelet", "/dev/zero"), "SPEC_INVALID", "kubernetes.kubelet: /dev/zero is neither"),
    (make_pipe, "SPEC_INVALID", "images[0]: "),
    (|bed| bed.edit("version = \"1.33.1\"", "vresion = \"1.33.1\""), "SPEC_INVALID", "vresion"),
    (
        |bed| bed.edit("file = \"a.tar\"", &format!("file = \"a.tar\"\nsha256 = \"{}\"", "0".repeat(64))),
        "DIGEST_MISMATCH",
        "images[0]: ",
    ),
    (|bed| make_foreign(bed, "bin/kubelet"), "ARCH_MISMATCH", "kubernetes.kubelet: k8s/kubelet"),
    (|bed| make_foreign(bed, "bin/bridge"), "ARCH_MISMATCH", "bridge in cni/cni-plugins"),
    (|bed| bed.write("bin/kubelet", HTML), "CONTENT_INVALID", "an HTML page"),
    (|bed| bed.write("bin/kubelet", "#!/bin/sh\n"), "CONTENT_INVALID", "no ELF program"),
    (|bed| bed.write("calico.yaml", HTML), "CONTENT_INVALID", "manifests.\"network.yaml\": network.yaml"),
    (|bed| bed.write("kubelet.service", ""), "CONTENT_INVALID", "kubelet.unit: "),
    (|bed| bed.edit("bin/crictl", "bin/kubectl"), "CONTENT_INVALID", "has no crictl"),
    (|bed| bed.edit("\"bin/loopback\", \"bin/bridge\"", "\"bin/kubectl\""), "CONTENT_INVALID", "has no bridge"),
    (|bed| fs::remove_file(bed.path("etcd/etcdctl")).unwrap(), "CONTENT_INVALID", "has no etcdctl"),
    (|bed| stock_tarball(bed, |_| HTML.into()), "CONTENT_INVALID", "an HTML page"),
    (|bed| stock_tarball(bed, |good| good[..good.len() / 2].to_vec()), "CONTENT_INVALID", "to its end"),
    (|bed| stock_tarball(bed, |good| flipped(good, good.len() / 2)), "CONTENT_INVALID", "to its end"),
    (|bed| docker_save(&bed.path("a.tar"), &pause(arch().as_str(), "x")), "SPEC_INVALID", "pause:3.10"),
    (|bed| docker_save(&bed.path("b.tar"), &pause(other().0, "x")), "ARCH_MISMATCH", "images[1]"),
    (|bed| bed.write("a.tar", HTML), "IMAGE_INVALID", "images[0]"),
    (|bed| cut(bed, "a.tar"), "IMAGE_INVALID", "images[0]"),
    (damaged_layer, "DIGEST_MISMATCH", "b.tar"),
    (|bed| bed.edit("\"network.yaml\" =", "\"dash:board.yaml\" ="), "SPEC_INVALID", "manifests.\"dash:board.yaml\""),
];

#[test]
fn bad_inputs_are_refused_and_leave_nothing() {
    for (spoil, code, text) in CASES {
        let bed = Bed::new();
        spoil(&bed);
        let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("error[{code}]: ")) && said.contains(text), "want {code} and {text:?}: {said}");
        assert_eq!(said.matches("error[").count(), 1, "{said}");
        assert!(said.contains("\nremedy: "), "{said}");
        assert_eq!(output.status.code(), Some(65), "{said}");
        assert!(!bed.path("out.iso").exists() && bed.hidden().is_empty(), "{code} leaves files");
    }
}

#[test]
fn an_older_iso_survives_a_failed_build() {
    let bed = Bed::new();
    let good = fs::read(bed.build()).unwrap();
    bed.write("bin/kubelet", HTML);
    assert_eq!(bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]).status.code(), Some(65));
    assert!(fs::read(bed.path("out.iso")).unwrap() == good);
}

#[test]
fn the_same_image_in_two_archives_is_no_clash() {
    let bed = Bed::new();
    fs::copy(bed.path("b.tar"), bed.path("a.tar")).unwrap();
    bed.build();
}

#[test]
fn places_that_can_not_be_written_are_told() {
    let bed = Bed::new();
    let output = bed.cks_iso(&["build", "spec.toml", "-o", "absent/out.iso"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("error[CONFIG_INVALID]: Making absent/.out.iso.partial: No such file")
    );
    let output = bed.cks_iso(&["build", "absent.toml", "-o", "out.iso"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("error[CONFIG_INVALID]: Reading absent.toml: No such file")
    );
}

#[test]
fn outputs_that_would_destroy_something_are_refused() {
    let bed = Bed::new();
    fs::create_dir(bed.path("directory")).unwrap();
    std::os::unix::fs::symlink("calico.yaml", bed.path("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", bed.path("dangling")).unwrap();
    fs::hard_link(bed.path("bin/bridge"), bed.path("twin")).unwrap();
    let outputs = ["directory", "link", "dangling", "/dev/null", "new/", ".."];
    let inputs = ["spec.toml", "a.tar", "bin/kubelet", "calico.yaml", "bin/crictl", "etcd/etcd", "twin"];
    let before = files_below(bed.dir());
    for output in outputs.into_iter().chain(inputs) {
        let refused = bed.cks_iso(&["build", "spec.toml", "-o", output]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.starts_with(&format!("error[CONFIG_INVALID]: {output} ")), "{said}");
        assert_eq!(refused.status.code(), Some(78));
        assert!(files_below(bed.dir()) == before, "{output}: something changed");
    }
}

#[test]
fn empty_variables_are_no_variables() {
    let bed = Bed::new();
    let program = env!("CARGO_BIN_EXE_cks-iso");
    for (epoch, code) in [("", Some(0)), ("1700000000", Some(0)), ("yesterday", Some(78)), ("99999999999", Some(78))] {
        let epoch = format!("SOURCE_DATE_EPOCH={epoch}");
        let args = ["CKS_ISO_CACHE=", &epoch, program, "build", "spec.toml", "-o", "out.iso"];
        let output = try_run(bed.dir(), "env", &args);
        assert_eq!(output.status.code(), code, "{epoch}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn make_pipe(bed: &Bed) {
    fs::remove_file(bed.path("a.tar")).unwrap();
    run(bed.dir(), "mkfifo", &["a.tar"]);
}

/// Makes crictl's tarball with tar, spoils it and puts it into the spec.
fn stock_tarball(bed: &Bed, spoil: fn(&[u8]) -> Vec<u8>) {
    run(bed.dir(), "tar", &["-czf", "crictl.tgz", "-C", "bin", "crictl"]);
    bed.write("crictl.tgz", spoil(&fs::read(bed.path("crictl.tgz")).unwrap()));
    bed.edit("files = [\"bin/crictl\"]", "file = \"crictl.tgz\"");
}

fn flipped(good: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[at] ^= 1;
    bytes
}

fn cut(bed: &Bed, name: &str) {
    let bytes = fs::read(bed.path(name)).unwrap();
    bed.write(name, &bytes[..bytes.len() / 2]);
}

/// An OCI archive with one changed byte in a layer.
fn damaged_layer(bed: &Bed) {
    oci_layout(&bed.path("b.tar"), &pause(arch().as_str(), "needle"));
    let bytes = fs::read(bed.path("b.tar")).unwrap();
    let at = bytes.windows(10).position(|window| window == b"needleneed").unwrap();
    bed.write("b.tar", flipped(&bytes, at));
}
