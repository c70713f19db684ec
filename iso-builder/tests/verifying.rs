//! What `cks-iso verify` finds.

use std::fs;

use bootstrap::bundle::{Arch, Place};
use iso_builder::opened::Opened;
use serde_json::Value;

use crate::fixture::archives::{Image, docker_save, layer};
use crate::fixture::{Bed, arch, by_xorriso, run};

/// The rules whose errors `cks-iso verify` names, with its whole output.
fn verify(bed: &Bed) -> (Vec<String>, String) {
    let output = bed.cks_iso(&["verify", "out.iso", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let errors: Vec<_> = findings.iter().filter(|finding| finding["level"] == "error").collect();
    assert_eq!(output.status.code(), Some(if errors.is_empty() { 0 } else { 65 }));
    let rules = errors.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect();
    let text = String::from_utf8(bed.cks_iso(&["verify", "out.iso"]).stdout).unwrap();
    assert_eq!(text.lines().count(), findings.len() + 1, "one line per finding: {text}");
    (rules, text)
}

fn find(bed: &Bed, path: &str, needle: &[u8]) -> u64 {
    let iso = Opened::open(&bed.path("out.iso")).unwrap();
    let bytes = iso.file(path).unwrap().content.head(usize::MAX >> 1).unwrap();
    bytes.windows(needle.len()).position(|window| window == needle).unwrap() as u64
}

#[test]
fn one_changed_byte_is_found_wherever_it_lies() {
    let bed = Bed::new();
    let good = fs::read(bed.build()).unwrap();
    let (rules, said) = verify(&bed);
    assert!(rules.is_empty() && said.ends_with("out.iso: clean, 6 warnings\n"), "{said}");
    let cni = format!("cni/cni-plugins-linux-{}.tgz", arch());
    let iso = Opened::open(&bed.path("out.iso")).unwrap();
    let (manifest, _) = iso.manifest().unwrap().unwrap();
    let layer = &manifest.images[2].layers[1];
    let Place::Range { offset: layer_at, .. } = &manifest.blob(layer).unwrap().at else { panic!("no range") };
    let name_at = find(&bed, "cks-bundle.json", b"v1.33.1-bed");
    let digest_at = find(&bed, "cks-bundle.json", b"\"sha256\": \"sha256:") + 20;
    let volume = 32_768 + 40;
    for (at, rules, text) in [
        (bed.place("network.yaml", 3), vec!["entry-digest"], "network.yaml has the digest"),
        (bed.place("k8s/kubelet", 18), vec!["entry-digest", "elf-arch"], "k8s/kubelet"),
        (bed.place("docker/images.tar", layer_at + 700), vec!["entry-digest", "blob"], "registry.k8s.io/pause:3.10"),
        (bed.place(&cni, 5000), vec!["entry-digest", "member"], "cni/cni-plugins"),
        (bed.place("docker/images.tar", 1), vec!["entry-digest", "image-archive"], "docker/images.tar"),
        (bed.place("cks-bundle.json", name_at + 9), vec!["manifest-digest"], "cks-bundle.json"),
        (bed.place("cks-bundle.json", digest_at), vec!["manifest-digest", "entry-digest"], "10-kubeadm.conf"),
        (bed.place("cks-bundle.json", 0), vec!["manifest"], "cks-bundle.json"),
        (volume, vec!["volume-id"], "primary"),
        (volume + 2048 + 1, vec!["volume-id"], "Joliet"),
    ] {
        bed.flip(at);
        let (found, said) = verify(&bed);
        for rule in &rules {
            assert!(found.iter().any(|other| other == rule), "want {rules:?} at {at}: {said}");
        }
        assert!(said.contains(text) && said.contains("remedy: "), "{said}");
        bed.write("out.iso", &good);
    }
}

/// Unpacks the bed's ISO, changes the tree, packs it as CloudStack's script does.
fn repacked(bed: &Bed, change: &str, volume: &str) {
    if !bed.path("by-xorriso").exists() {
        by_xorriso(bed.dir(), "out.iso");
    }
    run(bed.dir(), "bash", &["-ec", &format!("rm -rf tree; cp -a by-xorriso tree; cd tree; {change}")]);
    run(bed.dir(), "genisoimage", &["-quiet", "-V", volume, "-J", "-R", "-l", "-o", "out.iso", "tree"]);
}

/// Changes the first image's first diff id in the manifest.
const FIRST_DIFF_ID: &str = r#"sed -i '0,/"diff_ids"/{/"diff_ids"/{n;s/sha256:../sha256:00/}}' cks-bundle.json"#;
const WITHOUT_CRICTL: &[&str] =
    &["manifest-digest", "entry-size", "entry-digest", "member", "member", "member-missing"];

#[test]
fn broken_layouts_are_found() {
    let bed = Bed::new();
    bed.build();
    let image = Image { reference: "quay.io/more:1", arch: arch().as_str(), layers: vec![layer("more", 10)] };
    docker_save(&bed.path("c.tar"), &[image]);
    for (change, volume, rules) in [
        ("true", "CDROM", &["manifest-digest"][..]),
        ("true", "OTHER", &["volume-id", "volume-id", "manifest-digest"]),
        ("echo x > extra.txt", "CDROM", &["manifest-digest", "file-unlisted"]),
        ("rm kubelet.service", "CDROM", &["manifest-digest", "entry-missing"]),
        ("echo >> network.yaml", "CDROM", &["manifest-digest", "entry-size", "entry-digest"]),
        ("echo x > docker/README", "CDROM", &["manifest-digest", "file-unlisted", "image-archive"]),
        ("mkdir docker/a; echo > docker/a/b", "CDROM", &["manifest-digest", "file-unlisted", "image-archive"]),
        ("cp cni/*.tgz cni/cni-plugins-x64.tgz", "CDROM", &["one-match", "manifest-digest", "file-unlisted"]),
        ("rm cks-bundle.json", "CDROM", &["manifest"]),
        ("ln -s kubelet k8s/link", "CDROM", &["manifest-digest", "file-unlisted"]),
        ("mkdir empty; mkfifo pipe", "CDROM", &["manifest-digest", "file-unlisted", "file-unlisted"]),
        ("chmod 600 network.yaml", "CDROM", &["file-mode", "manifest-digest"]),
        ("echo x > $(printf 'a%.0s' {1..70})", "CDROM", &["name-length", "manifest-digest", "file-unlisted"]),
        ("cp ../c.tar docker/more.tar", "CDROM", &["manifest-digest", "file-unlisted", "image-list"]),
        ("sed -i 's/\"cluster-manifest\"/\"other\"/' cks-bundle.json", "CDROM", &["manifest-digest", "entry-role"]),
        (FIRST_DIFF_ID, "CDROM", &["manifest-digest", "image-list"]),
        ("tar -czf cri-tools/*.gz -C .. kubelet.service", "CDROM", WITHOUT_CRICTL),
        ("rm cks-bundle.json 10-kubeadm.conf", "CDROM", &["top-level-first", "manifest"]),
    ] {
        repacked(&bed, change, volume);
        let (found, said) = verify(&bed);
        assert_eq!(found, rules, "{change}: {said}");
    }
}

#[test]
fn a_manifest_for_another_architecture_is_found() {
    let bed = Bed::new();
    bed.build();
    let other = if arch() == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
    let change = format!("sed -i 's/\"arch\": \"{}\"/\"arch\": \"{other}\"/' cks-bundle.json", arch());
    repacked(&bed, &change, "CDROM");
    let (found, said) = verify(&bed);
    assert_eq!(found.iter().filter(|rule| *rule == "image-arch").count(), 4, "{said}");
    assert!(found.iter().any(|rule| rule == "elf-arch"), "{said}");
    assert!(said.contains(&format!("is for {}, the bundle is for {other}", arch())), "{said}");
}

#[test]
fn bytes_behind_the_volume_are_found() {
    let bed = Bed::new();
    let good = fs::read(bed.build()).unwrap();
    bed.write("out.iso", [&good[..], b"more"].concat());
    let (found, said) = verify(&bed);
    assert_eq!(found, ["volume-size"]);
    assert!(said.contains("4 bytes lie behind the end of the volume"), "{said}");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let bed = Bed::new();
    let mut bytes = fs::read(bed.build()).unwrap();
    bytes[32_768 + 40..32_768 + 45].copy_from_slice("\x1b[\u{9b}x".as_bytes());
    bed.write("out.iso", bytes);
    bed.write("\x1bname", "no ISO");
    for args in [
        &["inspect", "out.iso"][..],
        &["inspect", "out.iso", "--json"],
        &["verify", "out.iso"],
        &["verify", "\x1bname"],
        &["inspect", "\x1babsent"],
    ] {
        let output = bed.cks_iso(args);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("1b"), "{args:?}: {said}");
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{args:?}: {said:?}");
    }
}

#[test]
fn stock_isos_are_shown_without_a_manifest() {
    let bed = Bed::new();
    bed.build();
    repacked(&bed, "rm cks-bundle.json; mv docker/images.tar docker/pause:3.10.tar", "CDROM");
    let shown = String::from_utf8(bed.cks_iso(&["inspect", "out.iso"]).stdout).unwrap();
    assert!(shown.contains("a stock ISO: it has no manifest") && shown.contains("pause:3.10.tar"), "{shown}");
    let json: Value = serde_json::from_slice(&bed.cks_iso(&["inspect", "out.iso", "--json"]).stdout).unwrap();
    assert!(json["manifest"].is_null());
    assert_eq!(json["files"].as_array().unwrap().len(), 10);
}

#[test]
fn what_is_no_whole_iso_is_refused() {
    let bed = Bed::new();
    let good = fs::read(bed.build()).unwrap();
    for (bytes, code) in [
        (&good[..good.len() / 2], "SOURCE_TRUNCATED"),
        (&good[..40_000], "SOURCE_TRUNCATED"),
        (&good[..33_000], "SOURCE_INVALID"),
        (&b"<html>"[..], "SOURCE_INVALID"),
        (&[][..], "SOURCE_INVALID"),
    ] {
        bed.write("out.iso", bytes);
        for command in ["verify", "inspect"] {
            let output = bed.cks_iso(&[command, "out.iso"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.starts_with(&format!("error[{code}]: out.iso: ")), "{said}");
            assert!(!said.contains("serve") && !said.contains("attach"), "{said}");
            assert_eq!(output.status.code(), Some(65));
        }
    }
    let output = bed.cks_iso(&["inspect", "absent.iso"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("error[CONFIG_INVALID]: Opening absent.iso: No such file")
    );
}
