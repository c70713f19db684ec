//! Who has to have signed, on every medium.

use std::fs;
use std::path::{Path, PathBuf};

use cks_tests::node::{self, Node};
use cks_tests::process::Output;
use cks_tests::vr::Vr;
use serde_json::Value;

use crate::{Key, cks_iso, flip, in_force, iso, place, settle};

const SIGNATURE: &str = "cks-bundle.json.minisig";

/// One ISO, with every kind of signature.
struct Isos {
    work: tempfile::TempDir,
    ours: Key,
    second: Key,
    stranger: Key,
    plain: PathBuf,
}

impl Isos {
    fn new() -> Self {
        let work = cks_tests::scratch("trust").unwrap();
        let key = |name| Key::make(work.path(), name);
        let (ours, second, stranger) = (key("ours"), key("second"), key("stranger"));
        let plain = iso(work.path(), "v1.34.0");
        Self { work, ours, second, stranger, plain }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn signed(&self, key: &Key) -> PathBuf {
        key.sign(&self.plain, &self.path("signed.iso"), false)
    }

    fn by_two(&self) -> PathBuf {
        self.second.sign(&self.signed(&self.ours), &self.path("two.iso"), true)
    }

    /// The same signature in both places: the second is as long as the first.
    fn the_same_twice(&self) -> PathBuf {
        let iso = self.by_two();
        let mut bytes = fs::read(&iso).unwrap();
        let at = place(&iso, SIGNATURE, 0) as usize;
        let text = signature_of(&iso);
        let half = text.len() / 2;
        assert_eq!(text[..half].lines().count(), 4);
        bytes.copy_within(at..at + half, at + half);
        fs::write(&iso, bytes).unwrap();
        iso
    }

    /// A byte of the signature itself, inside its base64.
    fn damaged(&self) -> PathBuf {
        let iso = self.signed(&self.ours);
        let second_line = signature_of(&iso).find('\n').unwrap() as u64 + 1;
        flip(&iso, place(&iso, SIGNATURE, second_line + 60));
        iso
    }

    fn forged(&self) -> PathBuf {
        let iso = self.signed(&self.ours);
        flip(&iso, place(&iso, "cks-bundle.json", 300));
        iso
    }
}

fn signature_of(iso: &Path) -> String {
    let disc = bootstrap::disc::read(fs::File::open(iso).unwrap()).unwrap();
    let extent = disc.file(SIGNATURE).unwrap().extents[0];
    let bytes = fs::read(iso).unwrap();
    String::from_utf8(bytes[extent.offset as usize..(extent.offset + extent.length) as usize].to_vec()).unwrap()
}

/// What becomes of an etcd node that takes `iso` as a disc's image, from the router, and as a directory.
fn on_every_medium(iso: &Path, prepare: &dyn Fn(&Node)) -> Vec<(Node, Output, Value)> {
    let vr = Vr::start(iso).unwrap();
    let sources = [iso.display().to_string(), vr.url.clone(), vr.docroot.join("cks-iso").display().to_string()];
    let run = |source: &String| {
        let node = Node::new("etcd").unwrap().inside(&vr.netns);
        prepare(&node);
        let output = node.run(&[source]).unwrap();
        let state = node.status().unwrap();
        (node, output, state)
    };
    sources.iter().map(run).collect()
}

#[test]
fn every_kind_of_signature_on_every_medium() {
    let isos = Isos::new();
    type Make = fn(&Isos) -> PathBuf;
    let (one, two) = ("", "[trust]\nsignatures = 2\n");
    let accept = "[trust]\npolicy = \"accept-legacy\"\n";
    let cases: [(&str, Make, bool, &str, &str); 12] = [
        ("signed by a trusted key", |isos| isos.signed(&isos.ours), false, one, ""),
        ("missing", |isos| isos.plain.clone(), false, one, "SIGNATURE_MISSING"),
        ("missing, and allowed", |isos| isos.plain.clone(), false, accept, ""),
        ("of a wrong key", |isos| isos.signed(&isos.stranger), false, one, "SIGNATURE_INVALID"),
        (
            "of a wrong key, where none is needed",
            |isos| isos.signed(&isos.stranger),
            false,
            accept,
            "SIGNATURE_INVALID",
        ),
        ("damaged", Isos::damaged, false, one, "SIGNATURE_INVALID"),
        ("damaged, where none is needed", Isos::damaged, false, accept, "SIGNATURE_INVALID"),
        ("of another manifest", Isos::forged, false, one, "SIGNATURE_INVALID"),
        ("one of two", |isos| isos.signed(&isos.ours), true, two, "SIGNATURE_MISSING"),
        ("the same twice", Isos::the_same_twice, true, two, "SIGNATURE_MISSING"),
        ("two of two", Isos::by_two, true, two, ""),
        ("two keys that no one trusts twice", Isos::by_two, false, two, "KEY_INVALID"),
    ];
    for (what, make, both, settings, code) in cases {
        let prepare = |node: &Node| {
            isos.ours.trusted_by(node);
            if both {
                isos.second.trusted_by(node);
            }
            settle(node, settings);
        };
        for (node, output, state) in on_every_medium(&make(&isos), &prepare) {
            assert_eq!(node::code(&output), code, "{what}: {output:?}");
            if code.is_empty() {
                assert_eq!(output.code, 0, "{what}: {output:?}");
                let trust = state["bundle"]["trust"].as_str().unwrap();
                assert_eq!(trust == "signed", settings != accept, "{what}: {state}");
                continue;
            }
            assert_eq!(in_force(&node), [""; 0], "{what}");
            assert!(!node.root.join("opt").exists(), "{what}: something was installed");
            if code.starts_with("SIGNATURE") {
                assert_eq!(state["sources"][0]["verdict"], code, "{what}: {state}");
                assert!(state["failure"]["remedy"].as_str().unwrap().contains("/etc/cks-agent/keys"), "{state}");
            }
        }
    }
}

#[test]
fn a_refusal_names_the_keys() {
    let isos = Isos::new();
    let said = |iso: &Path, settings: &str| {
        let node = Node::new("etcd").unwrap();
        isos.ours.trusted_by(&node);
        isos.second.trusted_by(&node);
        settle(&node, settings);
        node.run(&[&iso.to_string_lossy()]).unwrap().stderr
    };
    let wrong = said(&isos.signed(&isos.stranger), "");
    let ids = [&isos.stranger, &isos.ours, &isos.second].map(Key::id);
    assert!(ids.iter().all(|id| wrong.contains(id)), "{wrong}");
    let one = said(&isos.signed(&isos.ours), "[trust]\nsignatures = 2\n");
    assert!(one.contains("1 of 2") && one.contains(&ids[1]) && one.contains(&ids[2]), "{one}");
}

#[test]
fn who_stripped_the_manifest_gains_nothing() {
    let isos = Isos::new();
    let vr = Vr::start(&isos.signed(&isos.ours)).unwrap();
    let directory = vr.docroot.join("cks-iso");
    fs::remove_file(directory.join("cks-bundle.json")).unwrap();
    let node = Node::new("etcd").unwrap().inside(&vr.netns);
    isos.ours.trusted_by(&node);
    for source in [&vr.url, &directory.display().to_string()] {
        let output = node.run(&[source]).unwrap();
        assert_eq!(node::code(&output), "SIGNATURE_MISSING", "{output:?}");
        assert!(in_force(&node).is_empty() && !node.root.join("opt").exists());
    }
}

#[test]
fn a_file_that_is_too_large_for_signatures_is_refused_unread() {
    let isos = Isos::new();
    let vr = Vr::start(&isos.signed(&isos.ours)).unwrap();
    vr.replace(SIGNATURE, &vec![b'x'; 1 << 20]).unwrap();
    let node = Node::new("etcd").unwrap().inside(&vr.netns);
    isos.ours.trusted_by(&node);
    for source in [&vr.url, &vr.docroot.join("cks-iso").display().to_string()] {
        let output = node.run(&[source]).unwrap();
        assert_eq!(node::code(&output), "SIGNATURE_INVALID", "{output:?}");
        assert!(output.stderr.contains("1048576 bytes"), "{output:?}");
    }
}

#[test]
fn a_good_source_serves_where_a_bad_one_is_refused() {
    let isos = Isos::new();
    let vr = Vr::start(&isos.forged()).unwrap();
    let good = isos.signed(&isos.ours);
    let node = Node::new("etcd").unwrap().inside(&vr.netns);
    isos.ours.trusted_by(&node);
    let output = node.run(&[&vr.url, &good.to_string_lossy()]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let state = node.status().unwrap();
    let verdicts = [&state["sources"][0]["verdict"], &state["sources"][1]["verdict"]];
    assert_eq!(verdicts, ["SIGNATURE_INVALID", "in-use"], "{state}");
    assert_eq!(state["bundle"]["signed_by"], Value::from(vec![isos.ours.id()]));
    let shown = node.agent("status").unwrap().ok().unwrap();
    assert!(shown.contains(&format!("signed by {}", isos.ours.id())), "{shown}");
}

#[test]
fn keys_are_exchanged_and_revoked_by_their_files() {
    let isos = Isos::new();
    let node = Node::new("etcd").unwrap();
    let run = |iso: &Path| node.run(&[&iso.to_string_lossy()]).unwrap();
    let trusted = |key: &Key| node.root.join(crate::KEYS).join(key.public().file_name().unwrap());
    isos.ours.trusted_by(&node);
    assert_eq!(run(&isos.signed(&isos.ours)).code, 0);
    // Old and new side by side: both signatures, and either alone, will do.
    isos.second.trusted_by(&node);
    for signed in [isos.by_two(), isos.signed(&isos.ours), isos.signed(&isos.second)] {
        assert_eq!(run(&signed).code, 0);
    }
    fs::remove_file(trusted(&isos.ours)).unwrap();
    assert_eq!(node::code(&run(&isos.signed(&isos.ours))), "SIGNATURE_INVALID");
    assert_eq!(run(&isos.signed(&isos.second)).code, 0);
    // What is installed is checked with the keys of today.
    let verify = || node.agent("verify").unwrap().output().unwrap();
    assert_eq!(verify().code, 0, "{:?}", verify());
    fs::remove_file(trusted(&isos.second)).unwrap();
    isos.stranger.trusted_by(&node);
    let drift = verify();
    assert_eq!((node::code(&drift), drift.code), ("DRIFT", 78), "{drift:?}");
    assert!(drift.stdout.contains("SIGNATURE_INVALID") && drift.stdout.contains(SIGNATURE), "{drift:?}");
}

#[test]
fn a_build_that_signs_is_taken() {
    let isos = Isos::new();
    let (key, out) = (isos.ours.base.with_extension("key"), isos.path("built.iso"));
    let components = isos.path("v1.34.0");
    // `small::build` has removed its spec.
    let arch = bootstrap::bundle::Arch::parse(std::env::consts::ARCH).unwrap();
    let components = cks_tests::small::components(&components, arch).unwrap();
    let spec = cks_tests::spec::write(&components, "signed").unwrap();
    let build = cks_iso(&["build", &spec.to_string_lossy(), "-o", &out.to_string_lossy()]);
    build.args(["--sign", &key.to_string_lossy()]).ok().unwrap();
    let node = Node::new("etcd").unwrap();
    isos.ours.trusted_by(&node);
    let output = node.run(&[&out.to_string_lossy()]).unwrap();
    assert!(output.code == 0 && output.stdout.contains(&isos.ours.id()), "{output:?}");
}
