//! What `cks-iso lint` and `cks-iso diff` say.

use std::fs;

use serde_json::Value;

use crate::fixture::archives::{Image, docker_save, layer};
use crate::fixture::{arch, by_xorriso, run};
use crate::proofs::{WHOLE, whole};

#[test]
fn each_fault_of_a_spec_is_found_at_its_line() {
    let sha = "0".repeat(64);
    let pinned = format!("{{ url = \"https://a/x\", sha256 = \"{sha}\" }}");
    for (from, to, rule, said) in [
        ("", "", "", ""),
        ("name =", "nmae =", "spec", "spec.toml:1: unknown field `nmae`"),
        ("name = \"v1.33.1-bed\"", "name = ", "spec", "spec.toml:1: "),
        ("version = \"1.33.1\"", "version = \"new\"", "spec", "spec.toml:5: kubernetes.version"),
        ("bin/kubectl", "bin/absent", "file-missing", "spec.toml:8: kubernetes.kubectl.file: bin/absent is not there"),
        ("file = \"bin/kubectl\"", "url = \"https://a/x\"", "url-unpinned", "spec.toml:8: "),
        ("{ file = \"bin/kubectl\" }", &pinned, "", ""),
        ("{ file = \"bin/kubectl\" }", &pinned.replace("/x", "/main/x"), "url-branch", "spec.toml:8: "),
        ("{ file = \"bin/kubectl\" }", &pinned.replace("https", "http"), "url-plain", "spec.toml:8: "),
        (
            "version = \"v1.33.0\"",
            "version = \"v1.30.0\"",
            "version-skew",
            "cri-tools v1.30.0 beside Kubernetes 1.33.1",
        ),
        ("\"dashboard.yaml\" = { file = \"dashboard.yaml\" }\n", "", "dashboard", "spec.toml:4: "),
        ("file = \"a.tar\"", "file = \"calico.yaml\"", "image-archive", "spec.toml:27: "),
        ("\"calico.yaml\"", "\"other.yaml\"", "image-missing", "other.yaml:6: Pod default/x"),
        ("\"calico.yaml\"", "\"always.yaml\"", "pull-policy", "always.yaml:6: "),
        ("\"calico.yaml\"", "\"values.yaml\"", "manifest-yaml", "values.yaml:1: "),
    ] {
        let bed = whole(arch());
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: default}\nspec:\n  containers:\n";
        bed.write("other.yaml", format!("{pod}  - {{name: a, image: 'quay.io/a:1'}}\n"));
        bed.write("always.yaml", format!("{pod}  - {{name: a, image: 'calico/node:v3', imagePullPolicy: Always}}\n"));
        bed.write("values.yaml", "replicas: 1\n");
        if !from.is_empty() {
            bed.edit(from, to);
        }
        let output = bed.cks_iso(&["lint", "spec.toml", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rules: Vec<_> = report["findings"].as_array().unwrap().iter().map(|found| &found["rule"]).collect();
        let text = String::from_utf8(bed.cks_iso(&["lint", "spec.toml"]).stdout).unwrap();
        assert_eq!(rules, if rule.is_empty() { vec![] } else { vec![rule] }, "{to}: {text}");
        assert!(text.contains(said) && text.starts_with(rule), "{to}: {text}");
        let is_error = text.lines().any(|line| line.contains("(remedy: ") && !line.contains(": warning: "));
        assert_eq!(output.status.code(), Some(if is_error { 65 } else { 0 }), "{text}");
        let strict = bed.cks_iso(&["lint", "spec.toml", "--strict"]).status.code();
        assert_eq!(strict, Some(if rule.is_empty() { 0 } else { 65 }), "{text}");
    }
}

/// The lock that `text` would have, but for its content.
fn lock(bed: &crate::fixture::Bed, text: &str) -> String {
    bed.write("locked.toml", text);
    let digest = iso_builder::project::Project::read(&bed.path("locked.toml"), None).unwrap().digest;
    fs::remove_file(bed.path("locked.toml")).unwrap();
    format!("version = 1\nname = \"v1.33.1-bed\"\narch = \"{}\"\nepoch = 1\nspec = \"{digest}\"\n", arch())
}

#[test]
fn a_lock_is_of_this_spec_or_stale() {
    let bed = whole(arch());
    let plain = fs::read_to_string(bed.path("spec.toml")).unwrap();
    let open = plain.replace("file = \"bin/kubectl\"", "url = \"https://a/x\"");
    let reference = format!("{}\n[[images]]\nreference = \"quay.io/a\"\n", plain.split("[manifests]").next().unwrap());
    let versions = format!(
        "name = \"v1.33.1-bed\"\narch = \"{}\"\nprofiles = [\"calico\"]\nkubernetes = {{ version = \"1.33.1\" }}\n",
        arch()
    );
    let (of_open, of_plain, other) = (lock(&bed, &open), lock(&bed, &plain), lock(&bed, &versions));
    for (spec, lock, named, rules) in [
        (&open, None, false, &["url-unpinned"][..]),
        (&open, Some(of_open.as_str()), false, &[]),
        (&open, Some(&of_plain), false, &["lock-stale"]),
        (&open, Some("nothing"), false, &["lock-stale"]),
        (&open, Some(&other.replace("-bed", "-other")), false, &["lock-stale"]),
        (&format!("{open}# a remark\n"), Some(&of_open), false, &[]),
        // Beside a spec that needs none it may be another spec's.
        (&plain, Some(&of_open), false, &[]),
        (&plain, Some(&of_open), true, &["lock-stale"]),
        (&plain, Some(&of_plain), true, &[]),
        (&open.replace("https://a/x\"", "https://a/x\", checksum = \"https://a/x.sha256\""), None, false, &[]),
        (&reference, None, false, &["dashboard", "stock-lacks", "tag-latest"]),
        (&reference.replace("quay.io/a", "quay.io/a:1"), None, false, &["dashboard", "stock-lacks"]),
        (
            &reference.replace("quay.io/a", "localhost:5000/a:latest"),
            None,
            false,
            &["dashboard", "stock-lacks", "tag-latest"],
        ),
        // Versions alone, and what a profile brings: nothing is unpinned, and images are looked up.
        (&versions, None, false, &["dashboard", "stock-lacks", "stock-lacks"]),
        (&versions, Some(&other), false, &["dashboard", "stock-lacks", "stock-lacks"]),
        (&versions, Some(&of_open), false, &["dashboard", "lock-stale", "stock-lacks", "stock-lacks"]),
    ] {
        bed.write("spec.toml", spec);
        let _ = fs::remove_file(bed.path("cks-iso.lock"));
        let _ = fs::remove_file(bed.path("named.lock"));
        let path = if named { "named.lock" } else { "cks-iso.lock" };
        lock.iter().for_each(|lock| bed.write(path, lock));
        let args = ["lint", "spec.toml", "--json", "--lock", path];
        let report: Value = serde_json::from_slice(&bed.cks_iso(&args[..if named { 5 } else { 3 }]).stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let mut found: Vec<_> = findings.iter().map(|found| found["rule"].as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, rules, "{spec}\n{lock:?}\n{report:#}");
    }
    let absent = bed.cks_iso(&["lint", "spec.toml", "--lock", "absent.lock"]);
    assert!(String::from_utf8_lossy(&absent.stderr).starts_with("error[CONFIG_INVALID]: absent.lock"), "{absent:?}");
}

#[test]
fn a_difference_tells_what_nodes_fetch() {
    let bed = whole(arch());
    fs::rename(bed.build(), bed.path("a.iso")).unwrap();
    let image = Image { reference: "quay.io/more:1", arch: arch().as_str(), layers: vec![layer("more", 40_000)] };
    docker_save(&bed.path("more.tar"), &[image]);
    bed.edit("[manifests]\n", "[[images]]\nfile = \"more.tar\"\n\n[manifests]\n");
    bed.edit("version = \"v3.5.21\"", "version = \"v3.6.0\"");
    bed.write("dashboard.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: headlamp}\n");
    bed.build();
    let json: Value = serde_json::from_slice(&bed.cks_iso(&["diff", "a.iso", "out.iso", "--json"]).stdout).unwrap();
    assert_eq!(json["components"][0]["name"], "etcd");
    assert_eq!((&json["components"][0]["old"], &json["components"][0]["new"]), (&"v3.5.21".into(), &"v3.6.0".into()));
    let names = |key: &str| -> Vec<String> {
        json[key].as_array().unwrap().iter().map(|change| change["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("files"), ["dashboard.yaml", "docker/images.tar", "etcd/etcd-linux-amd64.tar.gz"]);
    assert_eq!(names("images"), ["quay.io/more:1"]);
    assert_eq!(json["manifests"][0]["added"][0], "Namespace headlamp");
    // Manifest, config and layer of the new image; for control planes the dashboard, too.
    assert_eq!(json["new"]["blobs"], 3);
    let fetch = |role: usize, key: &str| json["fetches"][role][key].as_u64().unwrap();
    assert_eq!((fetch(0, "files"), fetch(0, "blobs")), (1, 3));
    assert_eq!((fetch(1, "files"), fetch(1, "blobs")), (0, 3));
    assert_eq!((fetch(2, "files"), fetch(2, "blobs")), (1, 0));
    assert_eq!(fetch(1, "bytes"), json["new"]["bytes"].as_u64().unwrap());
    for args in [&["diff", "a.iso", "out.iso"][..], &["diff", "a.iso", "a.iso"], &["inspect", "out.iso"]] {
        let text = String::from_utf8(bed.cks_iso(args).stdout).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }
    let same: Value = serde_json::from_slice(&bed.cks_iso(&["diff", "a.iso", "a.iso", "--json"]).stdout).unwrap();
    assert_eq!((&same["files"], &same["fetches"][0]["bytes"]), (&Value::Array(vec![]), &0.into()));
}

#[test]
fn stock_isos_and_other_names_are_compared() {
    let bed = whole(arch());
    fs::rename(bed.build(), bed.path("a.iso")).unwrap();
    // The same image under another name, and nothing else.
    let image = Image { reference: "quay.io/old:1", arch: arch().as_str(), layers: vec![layer("one", 9000)] };
    docker_save(&bed.path("old.tar"), &[image]);
    // Its config, which the digest is of, keeps the old name.
    let retag = r##"LC_ALL=C sed 's#"RepoTags":\["quay.io/old:1"#"RepoTags":["quay.io/new:2"#' old.tar > new.tar"##;
    run(bed.dir(), "bash", &["-ec", retag]);
    bed.edit("[manifests]\n", "[[images]]\nfile = \"old.tar\"\n\n[manifests]\n");
    fs::rename(bed.build(), bed.path("old.iso")).unwrap();
    bed.edit("old.tar", "new.tar");
    fs::rename(bed.build(), bed.path("new.iso")).unwrap();
    let text = String::from_utf8(bed.cks_iso(&["diff", "old.iso", "new.iso"]).stdout).unwrap();
    assert!(text.contains("\nImages: the same under other names\n  = quay.io/old:1 → quay.io/new:2\n"), "{text}");
    let text = String::from_utf8(bed.cks_iso(&["diff", "a.iso", "new.iso"]).stdout).unwrap();
    assert!(text.contains("\nImages: 1 added, 0 removed, 0 changed\n") && text.contains("+ quay.io/new:2 "), "{text}");

    // A stock ISO against itself imported: the same files and images.
    by_xorriso(bed.dir(), "old.iso");
    run(
        bed.dir(),
        "bash",
        &["-ec", "rm by-xorriso/cks-bundle.json; cp old.tar by-xorriso/docker/; echo x > by-xorriso/a"],
    );
    let stock = "genisoimage -quiet -V CDROM -J -R -l -o";
    run(
        bed.dir(),
        "bash",
        &["-ec", &format!("{stock} stock.iso by-xorriso; rm by-xorriso/a; {stock} other.iso by-xorriso")],
    );
    let diff =
        |a: &str, b: &str| -> Value { serde_json::from_slice(&bed.cks_iso(&["diff", a, b, "--json"]).stdout).unwrap() };
    let told = diff("stock.iso", "old.iso");
    assert_eq!(told["a"]["name"], "stock ISO");
    assert!(
        told["notes"][0].as_str().unwrap().starts_with("stock.iso has no manifest: versions are unknown"),
        "{told}"
    );
    let names: Vec<_> = told["files"].as_array().unwrap().iter().map(|change| &change["name"]).collect();
    assert_eq!(names, ["a", "docker/old.tar"]);
    assert_eq!(told["images"], Value::Array(vec![]));
    let told = diff("stock.iso", "other.iso");
    assert_eq!((told["files"].as_array().unwrap().len(), told["notes"].as_array().unwrap().len()), (1, 2));
    assert_eq!((&told["new"]["blobs"], &told["gone"]["blobs"]), (&0.into(), &0.into()));
}

#[test]
fn images_of_kubeadm_and_the_sandbox_are_looked_for() {
    let bed = whole(arch());
    for (from, to, rule, said) in [
        ("kube-proxy:v1.33.1", "kube-proxy:v1.33.2", "kubeadm-images", "names registry.k8s.io/kube-proxy:v1.33.1"),
        (
            "k8s.io/coredns/coredns:v1.12.0",
            "k8s.io/coredns:v1.12.0",
            "kubeadm-images",
            "a version of registry.k8s.io/coredns/coredns",
        ),
        ("k8s.io/etcd:3.5.21-0", "k8s.io/xtcd:3.5.21-0", "kubeadm-images", "a version of registry.k8s.io/etcd"),
        (
            "",
            "registry.k8s.io/pause:3.9",
            "sandbox-image",
            "stock nodes take registry.k8s.io/pause:3.9 as sandbox image, not registry.k8s.io/pause:3.10",
        ),
        ("", "quay.io/x:1", "", ""),
    ] {
        let mut all = WHOLE.map(|name| if from.is_empty() { name.to_owned() } else { name.replace(from, to) }).to_vec();
        all.extend(from.is_empty().then(|| to.to_owned()));
        let image = |reference: &String| Image {
            reference: reference.clone().leak(),
            arch: arch().as_str(),
            layers: vec![layer(reference, 900)],
        };
        docker_save(&bed.path("a.tar"), &all.iter().map(image).collect::<Vec<_>>());
        bed.build();
        let output = bed.cks_iso(&["verify", "out.iso"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains(said), "{text}");
        let warnings: Vec<_> = text.lines().filter(|line| line.contains(": warning: ")).collect();
        assert!(warnings.len() == usize::from(!rule.is_empty()), "{text}");
        assert!(warnings.iter().all(|line| line.starts_with(rule)), "{text}");
    }
}
