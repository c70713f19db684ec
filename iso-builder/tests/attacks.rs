//! What somebody who has a signed ISO, and no key, can make of it: `verify --key` finds it.

use std::fs;

use iso_builder::keys::{Asked, SecretKey};
use serde_json::Value;

use crate::fixture::{Bed, arch, by_xorriso, run};

/// A bed with `out.iso`, signed by `a.key`, and nothing beside it: what an attacker takes away.
fn signed() -> Bed {
    let bed = Bed::new();
    let cks_iso = env!("CARGO_BIN_EXE_cks-iso");
    run(bed.dir(), cks_iso, &["keygen", "a", "--no-password"]);
    run(bed.dir(), cks_iso, &["build", "spec.toml", "-o", "out.iso", "--sign", "a.key"]);
    run(bed.dir(), "bash", &["-ec", "rm out.iso.*"]);
    bed
}

/// The errors and all rules that `verify` names.
fn rules(bed: &Bed, args: &[&str]) -> (Vec<String>, Vec<String>) {
    let output = bed.cks_iso(&[&["verify", "out.iso", "--json"], args].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let all = report["findings"].as_array().unwrap().iter();
    let name = |finding: &Value| finding["rule"].as_str().unwrap().to_owned();
    let errors = all.clone().filter(|finding| finding["level"] == "error").map(name).collect();
    (errors, all.map(name).collect())
}

fn swap(bytes: &mut [u8], one: &[u8], other: &[u8]) {
    let places: Vec<_> = (0..bytes.len() - one.len())
        .filter_map(|at| match &bytes[at..at + one.len()] {
            found if found == one => Some((at, other)),
            found if found == other => Some((at, one)),
            _ => None,
        })
        .collect();
    assert!(places.len() >= 2, "{places:?}");
    places.into_iter().for_each(|(at, name)| bytes[at..at + name.len()].copy_from_slice(name));
}

/// What is changed, how, and the rules that tell.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>), &'a [&'a str]);

#[test]
fn what_no_manifest_tells_is_compared() {
    let bed = signed();
    let good = fs::read(bed.path("out.iso")).unwrap();
    assert_eq!(rules(&bed, &["--key", "a.pub"]).0, [""; 0]);
    assert!(!rules(&bed, &[]).1.contains(&"volume-layout".to_owned()));
    let wide = |name: &str| -> Vec<u8> { name.bytes().flat_map(|byte| [0, byte]).collect() };
    // An attacker's filesystem has room before the descriptors and behind a file's last byte.
    let tail = bed.place("network.yaml", 0) as usize + fs::metadata(bed.path("calico.yaml")).unwrap().len() as usize;
    let joliet = |bytes: &mut Vec<u8>| swap(bytes, &wide("kubeadm"), &wide("kubelet"));
    let changes: [Change; 8] = [
        ("the padding", &|bytes| bytes.truncate(bytes.len() - 2048), &["volume-size", "volume-layout"]),
        ("the system area", &|bytes| bytes[1080] = 0x53, &["volume-layout"]),
        ("behind a file's end", &|bytes| bytes[tail + 3] = 1, &["volume-layout"]),
        ("the Joliet tree", &joliet, &["volume-layout"]),
        ("the volume set", &|bytes| bytes[16 * 2048 + 200] = b'X', &["volume-layout"]),
        ("the time", &|bytes| bytes[16 * 2048 + 813] = b'2', &["volume-layout"]),
        ("the manifest's digest", &|bytes| bytes[16 * 2048 + 574] ^= 1, &["manifest-digest"]),
        ("bytes behind the end", &|bytes| bytes.extend([0; 4096]), &["volume-size"]),
    ];
    for (what, change, want) in changes {
        let mut bytes = good.clone();
        change(&mut bytes);
        bed.write("out.iso", &bytes);
        assert_eq!(rules(&bed, &["--key", "a.pub"]).0, want, "{what}");
        let (errors, all) = rules(&bed, &[]);
        assert!(all.contains(&want[0].to_owned()), "{what}: {all:?}");
        assert!(!errors.contains(&"volume-layout".to_owned()), "{what}");
    }
    // One name for two files.
    let mut bytes = good.clone();
    let at = bytes.windows(11).position(|found| found == b"NM\x0c\x01\x00kubead").unwrap();
    bytes[at + 5..at + 12].copy_from_slice(b"kubelet");
    bed.write("out.iso", &bytes);
    let said = bed.cks_iso(&["verify", "out.iso", "--key", "a.pub"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("error[SOURCE_INVALID]") && text.contains("stands twice"), "{text}");
}

#[test]
fn other_discs_of_the_same_manifest_are_found() {
    let bed = signed();
    by_xorriso(bed.dir(), "out.iso");
    let digest = bootstrap::digest::Digest::of(&fs::read(bed.path("by-xorriso/cks-bundle.json")).unwrap()).hex();
    // The signature of another version.
    bed.write("calico.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n");
    run(bed.dir(), env!("CARGO_BIN_EXE_cks-iso"), &["build", "spec.toml", "-o", "two.iso", "--sign", "a.key"]);
    run(bed.dir(), "xorriso", &["-osirrox", "on", "-indev", "two.iso", "-extract", "/", "two"]);
    for (change, digest, want) in [
        ("true", digest.as_str(), &["volume-layout"][..]),
        ("echo more > tree/more", &digest, &["file-unlisted"]),
        ("cp two/cks-bundle.json.minisig tree/", &digest, &["signature", "volume-layout"]),
        ("cat two/cks-bundle.json.minisig >> tree/cks-bundle.json.minisig", &digest, &["signature", "volume-layout"]),
        ("rm tree/cks-bundle.json.minisig", &digest, &["signature-missing", "volume-layout"]),
        ("head -c 100000000 /dev/zero > tree/cks-bundle.json.minisig", &digest, &["signature", "volume-layout"]),
        ("cp two/cks-bundle.json two/network.yaml tree/", &digest, &["signature", "manifest-digest"]),
        ("cp two/network.yaml tree/", &digest, &["entry-digest", "entry-size"]),
    ] {
        let script = format!(
            "rm -rf tree; cp -a by-xorriso tree; chmod -R u+w tree; {change}
             genisoimage -quiet -V CDROM -A {digest} -J -R -l -o out.iso tree"
        );
        run(bed.dir(), "bash", &["-ec", &script]);
        let (errors, _) = rules(&bed, &["--key", "a.pub"]);
        for rule in want {
            assert!(errors.iter().any(|found| found == rule), "{change}: no {rule} in {errors:?}");
        }
    }
    // Another layout is fine where the key vouches for every byte, as it does for what another version built.
    run(
        bed.dir(),
        "bash",
        &["-ec", &format!("genisoimage -quiet -V CDROM -A {digest} -J -R -l -o out.iso by-xorriso")],
    );
    let key = SecretKey::load(&bed.path("a.key"), &Asked::Terminal).unwrap();
    bed.write("out.iso.minisig", key.sign_bytes(&fs::read(bed.path("out.iso")).unwrap(), "whole"));
    let (errors, all) = rules(&bed, &["--key", "a.pub"]);
    assert!(errors.is_empty() && all.contains(&"volume-layout".to_owned()), "{errors:?} {all:?}");
}

#[test]
fn a_signed_iso_of_another_version_is_called_by_its_name() {
    let bed = signed();
    fs::rename(bed.path("out.iso"), bed.path("v9.99.9.iso")).unwrap();
    let said = String::from_utf8(bed.cks_iso(&["verify", "v9.99.9.iso", "--key", "a.pub"]).stdout).unwrap();
    assert!(said.trim_end().ends_with(&format!(" as v1.33.1-bed for {}", arch())), "{said}");
    let said = String::from_utf8(bed.cks_iso(&["verify", "v9.99.9.iso"]).stdout).unwrap();
    assert!(said.trim_end().ends_with("; nothing proves it without --key"), "{said}");
}
