//! What `cks-iso lint` and `cks-iso diff` say.

use std::fs;

use serde_json::Value;

use crate::fixture::arch;
use crate::fixture::archives::{Image, docker_save, layer};
use crate::proofs::whole;

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
