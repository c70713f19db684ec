//! Keys, signatures, checksums and bills of materials, against the tools that people have.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bootstrap::digest::Digest;
use bootstrap::signature::PublicKey;
use iso_builder::opened::Opened;
use iso_builder::partial::Partial;
use serde_json::Value;

use crate::fixture::{Bed, by_us, by_xorriso, run, try_run};

const SIGNATURE: &str = "cks-bundle.json.minisig";

/// Runs `cks-iso`, which must succeed.
fn done(bed: &Bed, args: &[&str]) -> String {
    let output = bed.cks_iso(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `cks-iso`, which must fail with `code`.
fn refused(bed: &Bed, args: &[&str], code: &str) -> String {
    let output = bed.cks_iso(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&format!("error[{code}]")), "{args:?}: {said}");
    said
}

/// The rules that `verify` names, and its text, both without the warnings: the bed lacks what a whole cluster
/// needs.
fn verify(bed: &Bed, args: &[&str]) -> (Vec<String>, String) {
    let all = |more: &'static str| [&["verify", "out.iso"], args, &[more]].concat();
    let report: Value = serde_json::from_slice(&bed.cks_iso(&all("--json")).stdout).unwrap();
    let errors = report["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "error");
    let rules = errors.map(|finding| finding["rule"].as_str().unwrap().into());
    let text = String::from_utf8(bed.cks_iso(&[&["verify", "out.iso"], args].concat()).stdout).unwrap();
    let lines = text.lines().filter(|line| !line.contains(": warning: "));
    (rules.collect(), lines.map(|line| format!("{line}\n").replace(", 6 warnings", "")).collect())
}

fn key(bed: &Bed, name: &str) -> String {
    done(bed, &["keygen", name, "--no-password"]);
    PublicKey::parse(&fs::read_to_string(bed.path(&format!("{name}.pub"))).unwrap()).unwrap().id()
}

fn beside(bed: &Bed, iso: &str) -> Vec<String> {
    let names = fs::read_dir(bed.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| name.strip_prefix(iso).map(str::to_owned)).collect();
    names.sort();
    names
}

/// Where the bundle's name stands in the manifest.
fn name_at(bed: &Bed) -> u64 {
    let bundle = &by_us(&bed.path("out.iso"))["cks-bundle.json"].1;
    bundle.windows(11).position(|bytes| bytes == b"v1.33.1-bed").unwrap() as u64
}

fn signed_bed() -> (Bed, String) {
    let bed = Bed::new();
    let id = key(&bed, "a");
    done(&bed, &["build", "spec.toml", "-o", "out.iso", "--sign", "a.key", "--source-date-epoch", "1700000000"]);
    (bed, id)
}

#[test]
fn signing_makes_the_bytes_of_a_signed_build() {
    let (bed, id) = signed_bed();
    let built = fs::read(bed.path("out.iso")).unwrap();
    let minisig = fs::read(bed.path("out.iso.minisig")).unwrap();
    assert_eq!(beside(&bed, "out.iso"), ["", ".minisig", ".sha256", ".sha512", ".spdx.json"]);

    done(&bed, &["build", "spec.toml", "-o", "plain.iso", "--source-date-epoch", "1700000000"]);
    assert_eq!(beside(&bed, "plain.iso"), ["", ".sha256", ".sha512", ".spdx.json"]);
    done(&bed, &["sign", "plain.iso", "--key", "a.key", "-o", "signed.iso"]);
    assert!(fs::read(bed.path("signed.iso")).unwrap() == built, "sign and build --sign differ");
    let same = |name: &str| fs::read(bed.path(name)).unwrap();
    assert!(same("signed.iso.spdx.json") == same("out.iso.spdx.json"), "the bills differ");
    // In place, and over its own signature.
    for _ in 0..2 {
        done(&bed, &["sign", "out.iso", "--key", "a.key"]);
        assert!(same("out.iso") == built, "signing twice makes other bytes");
        assert!(same("out.iso.minisig") == minisig);
    }
    let comment = String::from_utf8(by_us(&bed.path("out.iso"))[SIGNATURE].1.clone()).unwrap();
    assert!(comment.contains("timestamp:1700000000\tbundle:v1.33.1-bed\tfile:cks-bundle.json"), "{comment}");
    let (manifest, _) = Opened::open(&bed.path("out.iso")).unwrap().manifest().unwrap().unwrap();
    assert!(manifest.entry(SIGNATURE).is_none());
    assert!(by_xorriso(bed.dir(), "out.iso").contains_key(SIGNATURE));

    let (rules, said) = verify(&bed, &["--key", "a.pub", "--require-signature"]);
    assert_eq!(
        (rules, said),
        (vec![], format!("out.iso: clean, signed by {id} as v1.33.1-bed for {}\n", crate::fixture::arch()))
    );
    let (_, said) = verify(&bed, &[]);
    assert_eq!(said, format!("out.iso: clean, says it is signed by {id}; nothing proves it without --key\n"));
    assert_eq!(bed.hidden(), [""; 0]);
}

#[test]
fn other_keys_stand_beside_or_give_way() {
    let (bed, one) = signed_bed();
    let two = key(&bed, "b");
    done(&bed, &["sign", "out.iso", "--key", "b.key", "--add"]);
    let both = fs::read(bed.path("out.iso")).unwrap();
    for keys in [&["--key", "a.pub", "--key", "b.pub"][..], &["--key", "b.pub"], &["--key", "a.pub"]] {
        let (rules, said) = verify(&bed, keys);
        assert_eq!(rules, [""; 0], "{said}");
    }
    let shown: Value = serde_json::from_str(&done(&bed, &["verify", "out.iso", "--key", "b.pub", "--json"])).unwrap();
    assert_eq!((&shown["signatures"][0]["key"], &shown["signatures"][0]["proven"]), (&one.into(), &false.into()));
    assert_eq!((&shown["signatures"][1]["key"], &shown["signatures"][1]["proven"]), (&two.into(), &true.into()));

    done(&bed, &["sign", "out.iso", "--key", "b.key", "--add"]);
    assert!(fs::read(bed.path("out.iso")).unwrap() == both, "adding a key again changes the ISO");
    done(&bed, &["sign", "out.iso", "--key", "b.key"]);
    assert_eq!(verify(&bed, &["--key", "a.pub"]).0, ["signature"]);
    assert_eq!(verify(&bed, &["--key", "b.pub"]).0, [""; 0]);
}

#[test]
fn what_is_not_as_it_was_signed_is_found() {
    let (bed, _) = signed_bed();
    let other = key(&bed, "b");
    let good = fs::read(bed.path("out.iso")).unwrap();
    let (rules, said) = verify(&bed, &["--key", "b.pub"]);
    assert_eq!(rules, ["signature"]);
    assert!(said.contains("which is no trusted key") && !said.contains(&format!("signed by {other}")), "{said}");
    for (at, rules) in [
        (bed.place("cks-bundle.json", name_at(&bed)), &["signature", "manifest-digest", "checksum-file"][..]),
        (bed.place(SIGNATURE, 100), &["signature", "checksum-file"]),
        (bed.place("network.yaml", 3), &["entry-digest", "checksum-file", "signature"]),
        (0, &["checksum-file", "signature"]),
    ] {
        bed.flip(at);
        let (found, said) = verify(&bed, &["--key", "a.pub"]);
        for rule in rules {
            assert!(found.iter().any(|found| found == rule), "no {rule} at {at}: {said}");
        }
        bed.write("out.iso", &good);
    }
    bed.write("out.iso.sha256", "0000  elsewhere.iso\n");
    bed.write("out.iso.minisig", "nothing");
    assert_eq!(verify(&bed, &[]).0, ["checksum-file", "signature"]);
    refused(&bed, &["verify", "out.iso", "--key", "a.key"], "KEY_INVALID");
    refused(&bed, &["verify", "out.iso", "--key", "absent.pub"], "CONFIG_INVALID");

    done(&bed, &["build", "spec.toml", "-o", "out.iso"]);
    assert_eq!(beside(&bed, "out.iso"), ["", ".sha256", ".sha512", ".spdx.json"], "an old file lies");
    assert_eq!(verify(&bed, &[]).0, [""; 0]);
    for args in [&["--key", "a.pub"][..], &["--require-signature"]] {
        assert_eq!(verify(&bed, args).0, ["signature-missing"]);
    }
}

#[test]
fn nobody_vouches_for_what_is_no_original() {
    let (bed, _) = signed_bed();
    let good = fs::read(bed.path("out.iso")).unwrap();
    let sums = fs::read(bed.path("out.iso.sha256")).unwrap();
    let sign = ["sign", "out.iso", "--key", "a.key"];
    for place in [("network.yaml", 3), ("docker/images.tar", 5000), ("cks-bundle.json", name_at(&bed))] {
        bed.flip(bed.place(place.0, place.1));
        let damaged = fs::read(bed.path("out.iso")).unwrap();
        let said = refused(&bed, &sign, "DIGEST_MISMATCH");
        assert!(said.contains(place.0) && said.contains("sign the original"), "{said}");
        assert!(fs::read(bed.path("out.iso")).unwrap() == damaged);
        assert!(fs::read(bed.path("out.iso.sha256")).unwrap() == sums);
        bed.write("out.iso", &good);
    }
    by_xorriso(bed.dir(), "out.iso");
    for (change, code, text) in [
        ("rm cks-bundle.json", "MANIFEST_REQUIRED", "cks-iso import"),
        ("true", "DIGEST_MISMATCH", "volume descriptor"),
    ] {
        run(bed.dir(), "bash", &["-ec", &format!("rm -rf tree; cp -a by-xorriso tree; cd tree; {change}")]);
        run(bed.dir(), "genisoimage", &["-quiet", "-V", "CDROM", "-J", "-R", "-l", "-o", "other.iso", "tree"]);
        let said = refused(&bed, &["sign", "other.iso", "--key", "a.key"], code);
        assert!(said.contains(text), "{said}");
    }
    refused(&bed, &["sign", "out.iso", "--key", "a.pub"], "KEY_INVALID");
    refused(&bed, &["sign", "out.iso", "--key", "a.key", "-o", "by-xorriso"], "CONFIG_INVALID");
    assert_eq!(bed.hidden(), [""; 0]);
}

#[test]
fn a_key_is_never_written_over() {
    let (bed, _) = signed_bed();
    run(bed.dir(), "bash", &["-ec", "ln a.key other.key; cp a.key new.iso.minisig; ln -s a.key link.key"]);
    let key = fs::read(bed.path("a.key")).unwrap();
    for args in [
        &["sign", "out.iso", "--key", "a.key", "-o", "a.key"][..],
        &["sign", "out.iso", "--key", "link.key", "-o", "other.key"],
        &["sign", "out.iso", "--key", "new.iso.minisig", "-o", "new.iso"],
        &["build", "spec.toml", "--sign", "a.key", "-o", "a.key"],
        &["build", "spec.toml", "--sign", "new.iso.minisig", "-o", "new.iso"],
    ] {
        let said = refused(&bed, args, "CONFIG_INVALID");
        assert!(said.contains("is the same file as"), "{said}");
        assert!(fs::read(bed.path("a.key")).unwrap() == key && fs::read(bed.path("new.iso.minisig")).unwrap() == key);
    }
    // An ISO named as a file beside the new one would be.
    fs::rename(bed.path("out.iso"), bed.path("x.minisig")).unwrap();
    refused(&bed, &["sign", "x.minisig", "--key", "a.key", "-o", "x"], "CONFIG_INVALID");
    assert!(bed.path("x.minisig").exists() && bed.hidden().is_empty());
}

#[test]
fn a_killed_keygen_leaves_nothing_visible() {
    let bed = Bed::new();
    let keys = || -> Vec<String> {
        let names = fs::read_dir(bed.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("k.") || name.starts_with('.')).collect()
    };
    let keygen = |before: &str| {
        let cks_iso = env!("CARGO_BIN_EXE_cks-iso");
        try_run(bed.dir(), "bash", &["-c", &format!("{before} {cks_iso} keygen k --no-password")])
    };
    // No byte may be written: killed with both keys made and neither on the disk.
    let killed = keygen("ulimit -f 0;");
    assert!(!killed.status.success());
    assert_eq!(keys(), [""; 0], "{killed:?}");
    for after in ["0.001", "0.002", "0.003", "0.004", "0.005", "0.006", "0.008", "0.01", "0.02"] {
        let _ = keygen(&format!("timeout -s KILL {after}"));
        let mut found = keys();
        found.sort();
        // Without its public half a secret key can sign; nothing else is ever there alone.
        assert!(["", "k.key", "k.key k.pub"].contains(&found.join(" ").as_str()), "after {after} s: {found:?}");
        found.iter().for_each(|name| fs::remove_file(bed.path(name)).unwrap());
    }
    assert!(keygen("").status.success());
}

#[test]
fn an_interrupted_signing_leaves_the_old_iso() {
    let (bed, _) = signed_bed();
    let (iso, old) = (bed.path("out.iso"), fs::read(bed.path("out.iso")).unwrap());
    let partial = Partial::begin(&iso).unwrap();
    std::io::Write::write_all(&mut partial.file(), &old[..5000]).unwrap();
    refused(&bed, &["sign", "out.iso", "--key", "a.key"], "ALREADY_RUNNING");
    drop(partial);
    assert!(fs::read(&iso).unwrap() == old);
    run(bed.dir(), "sha256sum", &["-c", "out.iso.sha256"]);
    let new = {
        done(&bed, &["keygen", "b", "--no-password"]);
        done(&bed, &["sign", "out.iso", "--key", "b.key", "-o", "new.iso"]);
        fs::read(bed.path("new.iso")).unwrap()
    };
    for after in ["0.004", "0.008", "0.012", "0.016", "0.02", "0.03", "0.04", "0.06"] {
        let sign = ["-s", "KILL", after, env!("CARGO_BIN_EXE_cks-iso"), "sign", "out.iso", "--key", "b.key"];
        let _ = try_run(bed.dir(), "timeout", &sign);
        let found = fs::read(&iso).unwrap();
        assert!(found == old || found == new, "killed after {after} s: neither the old ISO nor the new one");
        assert_eq!(verify(&bed, &[]).0, [""; 0], "killed after {after} s: what is beside it lies");
        done(&bed, &["sign", "out.iso", "--key", "a.key"]);
    }
    // What a killed one leaves, the next one takes over.
    bed.write(".out.iso.partial", &old[..5000]);
    bed.write(".out.iso.sha256.partial", "half");
    done(&bed, &["sign", "out.iso", "--key", "a.key"]);
    assert!(fs::read(&iso).unwrap() == old);
    assert_eq!(bed.hidden(), [""; 0]);
}

#[test]
fn the_tools_that_people_have_agree() {
    let (bed, _) = signed_bed();
    for tool in ["sha256", "sha512"] {
        let said = run(bed.dir(), &format!("{tool}sum"), &["-c", &format!("out.iso.{tool}")]);
        assert_eq!(String::from_utf8(said).unwrap(), "out.iso: OK\n");
    }
    by_xorriso(bed.dir(), "out.iso");
    if !Path::new("/usr/bin/minisign").exists() {
        return;
    }
    run(bed.dir(), "minisign", &["-V", "-p", "a.pub", "-m", "out.iso"]);
    run(bed.dir(), "minisign", &["-V", "-p", "a.pub", "-m", "by-xorriso/cks-bundle.json"]);
    // The other way round: minisign's key, minisign's signature over the whole ISO.
    run(bed.dir(), "minisign", &["-G", "-W", "-p", "m.pub", "-s", "m.key"]);
    done(&bed, &["sign", "out.iso", "--key", "m.key", "--add"]);
    run(bed.dir(), "minisign", &["-S", "-s", "m.key", "-m", "out.iso"]);
    assert_eq!(verify(&bed, &["--key", "m.pub"]).0, [""; 0]);
}

#[test]
fn passwords_come_from_files_and_are_never_told() {
    let bed = Bed::new();
    bed.write("good", "sword fish\n");
    bed.write("bad", "swordfish\n");
    bed.write("empty", "\n");
    let said = done(&bed, &["keygen", "a", "--password-file", "good"]);
    assert!(said.contains("a.key") && said.contains("a.pub"), "{said}");
    assert_eq!(fs::metadata(bed.path("a.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(beside(&bed, "a."), ["key", "pub", "tar"]);
    refused(&bed, &["keygen", "a", "--password-file", "good"], "CONFIG_INVALID");
    refused(&bed, &["keygen", "b", "--password-file", "empty"], "KEY_INVALID");
    bed.build();
    let before = fs::read(bed.path("out.iso")).unwrap();
    let said = refused(&bed, &["sign", "out.iso", "--key", "a.key", "--password-file", "bad"], "KEY_INVALID");
    assert!(said.contains("a.key") && !said.contains("fish"), "{said}");
    assert!(fs::read(bed.path("out.iso")).unwrap() == before);
    done(&bed, &["sign", "out.iso", "--key", "a.key", "--password-file", "good"]);
    assert_eq!(verify(&bed, &["--key", "a.pub"]).0, [""; 0]);
    // Without a terminal nobody can be asked.
    let cks_iso = env!("CARGO_BIN_EXE_cks-iso");
    let script = format!("setsid -w {cks_iso} sign out.iso --key a.key </dev/null 2>&1 || true");
    let said = String::from_utf8(run(bed.dir(), "bash", &["-c", &script])).unwrap();
    assert!(said.contains("error[KEY_INVALID]") && said.contains("--password-file"), "{said}");
}

#[test]
fn a_directory_of_something_else_is_no_stock_iso() {
    let bed = Bed::new();
    fs::create_dir(bed.path("nothing")).unwrap();
    run(bed.dir(), "genisoimage", &["-quiet", "-V", "CDROM", "-J", "-R", "-o", "foreign.iso", "calico.yaml"]);
    for source in ["nothing", "foreign.iso"] {
        let said = done(&bed, &["inspect", source]);
        assert!(said.contains("Bundle     none: it holds nothing that a node installs"), "{said}");
    }
}

#[test]
fn the_bill_of_an_iso_and_of_its_content_is_one() {
    let (bed, _) = signed_bed();
    let beside = fs::read_to_string(bed.path("out.iso.spdx.json")).unwrap();
    assert_eq!(done(&bed, &["sbom", "out.iso"]), beside);
    run(bed.dir(), "xorriso", &["-osirrox", "on", "-indev", "out.iso", "-extract", "/", "tree"]);
    done(&bed, &["sbom", "tree", "-o", "tree.json"]);
    assert_eq!(fs::read_to_string(bed.path("tree.json")).unwrap(), beside);
    let bill: Value = serde_json::from_str(&beside).unwrap();
    let packages = bill["packages"].as_array().unwrap();
    let kubelet = packages.iter().find(|package| package["name"] == "k8s/kubelet").unwrap();
    let want = Digest::of(&fs::read(bed.path("bin/kubelet")).unwrap()).hex();
    assert_eq!(kubelet["checksums"][0]["checksumValue"], want.as_str());
    assert_eq!(packages.iter().filter(|package| package["primaryPackagePurpose"] == "CONTAINER").count(), 4);
    let iso = fs::read(bed.path("out.iso")).unwrap();
    for (source, output) in [("out.iso", "out.iso"), ("tree", "tree/cks-bundle.json"), ("tree", "tree")] {
        let said = refused(&bed, &["sbom", source, "-o", output], "CONFIG_INVALID");
        assert!(said.contains("name the file to be made"), "{said}");
    }
    assert!(fs::read(bed.path("out.iso")).unwrap() == iso && bed.hidden().is_empty());
    fs::remove_file(bed.path("tree/cks-bundle.json")).unwrap();
    refused(&bed, &["sbom", "tree"], "MANIFEST_REQUIRED");
}
