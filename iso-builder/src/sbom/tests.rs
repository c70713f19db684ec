use std::collections::BTreeSet;

use super::*;

const MANIFEST: &str = r#"{
  "schema": 1, "name": "v1.33.1 \"bed\"", "kubernetes": "v1.33.1", "arch": "amd64",
  "components": [{ "name": "kubernetes", "version": "v1.33.1" }, { "name": "etcd", "version": "3.5.21" },
    { "name": "own", "version": "1+x" }],
  "entries": [
    { "path": "docker/images.tar", "size": 100, "kind": "image-archive", "roles": [], "sha256": "sha256:AA" },
    { "path": "etcd/etcd-linux-amd64.tar.gz", "size": 9, "kind": "etcd", "roles": ["etcd"], "sha256": "sha256:BB",
      "members": [{ "path": "e/etcd", "size": 2, "mode": 493, "sha256": "sha256:AA" },
        { "path": "e-etcd", "size": 2, "mode": 493, "sha256": "sha256:AA" }] },
    { "path": "k8s/kubelet", "size": 9, "kind": "kubernetes", "roles": [], "sha256": "sha256:BB" }
  ],
  "images": [{ "reference": "localhost:5000/My/pause:3.10+a", "digest": "sha256:AA", "config": "sha256:BB",
    "layers": [], "diff_ids": [], "roles": [] }],
  "blobs": [
    { "digest": "sha256:AA", "size": 1, "media_type": "m", "at": { "range": { "path": "docker/images.tar", "offset": 0 } } },
    { "digest": "sha256:BB", "size": 1, "media_type": "m", "at": { "range": { "path": "docker/images.tar", "offset": 1 } } }
  ]
}"#;

fn bill() -> Value {
    let json = MANIFEST.replace("AA", &"a".repeat(64)).replace("BB", &"b".repeat(64));
    let manifest = Manifest::parse(json.as_bytes()).unwrap();
    let text = document(&manifest, Digest::of(json.as_bytes()), 1_700_000_000).unwrap();
    assert_eq!(text, document(&manifest, Digest::of(json.as_bytes()), 1_700_000_000).unwrap());
    serde_json::from_str(&text).unwrap()
}

#[test]
fn it_has_what_spdx_requires() {
    let bill = bill();
    assert_eq!(bill["spdxVersion"], "SPDX-2.3");
    assert_eq!(bill["dataLicense"], "CC0-1.0");
    assert_eq!(bill["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    assert!(bill["creationInfo"]["creators"][0].as_str().unwrap().starts_with("Tool: cks-iso-"));
    let namespace = bill["documentNamespace"].as_str().unwrap();
    assert!(namespace.starts_with("https://") && !namespace.contains('#'), "{namespace}");
    let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    for package in bill["packages"].as_array().unwrap() {
        let id = package["SPDXID"].as_str().unwrap();
        let rest = id.strip_prefix("SPDXRef-").unwrap();
        assert!(rest.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)), "{id}");
        assert!(ids.insert(id), "{id} stands twice");
        assert!(package["name"].is_string() && package["downloadLocation"] == "NOASSERTION", "{package}");
    }
    let relations = bill["relationships"].as_array().unwrap();
    for relation in relations {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(ids.contains(relation[end].as_str().unwrap()), "{relation}");
        }
    }
    let described = relations.iter().filter(|relation| relation["relationshipType"] == "DESCRIBES").count();
    assert_eq!((described, relations.len()), (1, ids.len() - 1), "each package hangs somewhere, once");
}

#[test]
fn images_and_components_can_be_looked_up() {
    let bill = bill();
    let packages = bill["packages"].as_array().unwrap();
    let url = |name: &str| {
        let package = packages.iter().find(|package| package["name"] == name).unwrap();
        package["externalRefs"][0]["referenceLocator"].as_str().map(str::to_owned)
    };
    let a = "a".repeat(64);
    let image = format!("pkg:oci/pause@sha256%3A{a}?arch=amd64&repository_url=localhost%3A5000/My/pause&tag=3.10%2Ba");
    assert_eq!(url("localhost:5000/My/pause:3.10+a").unwrap(), image);
    assert_eq!(url("etcd").unwrap(), "pkg:github/etcd-io/etcd@v3.5.21");
    assert_eq!(url("own"), None);
}
