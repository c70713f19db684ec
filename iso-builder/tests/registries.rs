//! Images out of registries.

use std::fs;
use std::path::Path;

use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use bootstrap::failure::Code;
use iso_builder::access::{Access, Patience};
use iso_builder::cache::Cache;
use iso_builder::progress::Progress;
use iso_builder::registry::{Resolved, pull, resolve};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fetching::quick;
use crate::fixture::registry::Content;
use crate::fixture::{Reply, Server};

fn platform(arch: &str) -> Value {
    json!({ "os": "linux", "architecture": arch })
}

/// `multi` for two platforms, with a nested index and an attestation; `single` for amd64.
fn registry() -> Content {
    let mut content = Content::default();
    let base = crate::fetching::content(300_000);
    let amd64 = content.image("amd64", &platform("amd64"), &[base.clone(), b"amd64".to_vec()]);
    let v8 = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
    let arm64 = content.image("arm64", &v8, &[base, b"arm64".to_vec()]);
    let nested = content.index("nested", &[(arm64, Some(v8))]);
    let unknown = json!({ "os": "unknown", "architecture": "unknown" });
    content.index("multi", &[(amd64.clone(), Some(unknown)), (nested, None), (amd64, Some(platform("amd64")))]);
    content.image("single", &platform("amd64"), &[b"single".to_vec()]);
    content
}

fn insecure(server: &Server, more: &str) -> Access {
    let text = format!("[registries.\"{}\"]\ninsecure = true\n{more}", server.host());
    Access::parse(&text, Path::new("")).unwrap().with_patience(patience())
}

fn patience() -> Patience {
    Patience { retries: 2, pause: std::time::Duration::from_millis(1), ..Patience::default() }
}

struct Bed {
    dir: TempDir,
    cache: Cache,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { cache: Cache::new(dir.path().join("cache")), dir }
    }

    fn resolve(&self, reference: &str, arch: Arch, access: &Access) -> Result<Resolved, bootstrap::failure::Failure> {
        resolve(&[reference.to_owned()], arch, access, &self.cache, Progress::Silent).map(|mut all| all.remove(0))
    }
}

#[test]
fn both_platforms_come_whole_and_once() {
    let content = registry();
    let manifest_of = |tag: &str| Digest::of(&content.parts[&format!("manifests/{tag}")].0);
    let (index, amd64, arm64) = (manifest_of("multi"), manifest_of("amd64"), manifest_of("arm64"));
    // Tokens that expire again and again.
    let server = Content { uses: 3, ..content.clone() }.serve();
    let (bed, access) = (Bed::new(), insecure(&server, ""));
    let reference = format!("{}/a/multi:multi", server.host());
    let one = bed.resolve(&reference, Arch::Amd64, &access).unwrap();
    let other = bed.resolve(&reference, Arch::Arm64, &access).unwrap();
    assert_eq!((one.index, one.manifest.digest), (Some(index), amd64));
    assert_eq!((other.index, other.manifest.digest), (Some(index), arm64));
    assert_eq!((one.reference.as_str(), one.layers.len()), (reference.as_str(), 2));
    assert_eq!(one.diff_ids, one.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>());
    pull(&[one.clone(), other.clone()], &access, &bed.cache, Progress::Silent).unwrap();
    for image in [&one, &other] {
        for blob in image.layers.iter().chain([&image.manifest, &image.config]) {
            assert_eq!(fs::metadata(bed.cache.path(blob.digest)).unwrap().len(), blob.size);
            assert!(bed.cache.holds(blob.digest).unwrap());
        }
    }
    let asked = |part: &str| {
        let done = |r: &&crate::fixture::Request| r.path.ends_with(part) && r.header("authorization").is_some();
        server.requests().iter().filter(done).count()
    };
    assert!(asked(&one.layers[0].digest.to_string()) <= 2, "once, or once more with a new token");
    assert!(server.requests().iter().filter(|r| r.path.starts_with("/token")).count() > 2);

    // All is there: nobody is asked, with a digest not even for the manifest.
    let before = server.asked();
    let offline = access.offline();
    pull(std::slice::from_ref(&one), &offline, &bed.cache, Progress::Silent).unwrap();
    let with_digest = format!("{reference}@{index}");
    let again = bed.resolve(&with_digest, Arch::Arm64, &offline).unwrap();
    assert_eq!((again.reference, again.manifest), (with_digest, other.manifest));
    let failure = bed.resolve(&reference, Arch::Amd64, &offline).unwrap_err();
    assert!(failure.code == Code::NotCached && failure.what.contains(&reference), "{failure}");
    fs::remove_file(bed.cache.path(one.layers[1].digest)).unwrap();
    let failure = pull(std::slice::from_ref(&one), &offline, &bed.cache, Progress::Silent).unwrap_err();
    assert!(failure.code == Code::NotCached && failure.what.contains(&one.layers[1].digest.to_string()), "{failure}");
    assert_eq!(server.asked(), before);
}

#[test]
fn a_broken_layer_is_resumed_at_its_byte() {
    let content = registry();
    let layer = Digest::of(&crate::fetching::content(300_000));
    let other = content.clone().serve();
    for elsewhere in [None, Some(other.url(""))] {
        // Blobs come side by side: a token for one request would be used up by another one again and again.
        let content = Content { uses: 3, elsewhere, ..content.clone() };
        let cut = content.elsewhere.is_none();
        let server = if cut { content.breaking(layer, 120_000) } else { content }.serve();
        let (bed, access) = (Bed::new(), insecure(&server, ""));
        let image = bed.resolve(&format!("{}/a:amd64", server.host()), Arch::Amd64, &access).unwrap();
        pull(&[image], &access, &bed.cache, Progress::Silent).unwrap();
        assert!(bed.cache.holds(layer).unwrap());
        if cut {
            let all = server.requests();
            let froms: Vec<_> = all.iter().filter(|r| r.path.contains(&layer.hex())).filter_map(|r| r.from()).collect();
            assert!(!froms.is_empty() && froms.iter().all(|from| *from == 120_000), "{froms:?}");
        }
    }
    // Where the blobs were, no token was sent.
    assert!(other.asked() > 0);
    assert!(other.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn mirrors_come_first_and_the_registry_has_the_rest() {
    let mirror = registry().serve();
    let mut upstream = Content::default();
    upstream.image("only-upstream", &platform("amd64"), &[b"x".to_vec()]);
    let upstream = upstream.serve();
    let settings = |fallback: bool| {
        let text = format!(
            "[registries.\"{}\"]\nmirror = \"{}\"\nfallback = {fallback}\n",
            upstream.host(),
            mirror.url("/k8s")
        );
        Access::parse(&text, Path::new("")).unwrap().with_patience(patience())
    };
    let bed = Bed::new();
    let reference = |tag: &str| format!("{}/pause:{tag}", upstream.host());
    bed.resolve(&reference("single"), Arch::Amd64, &settings(true)).unwrap();
    assert_eq!(upstream.asked(), 0);
    assert!(mirror.requests()[0].path.starts_with("/v2/k8s/pause/manifests/single"));
    // An upstream that speaks TLS alone: asking it is what is shown here.
    let failure = bed.resolve(&reference("only-upstream"), Arch::Amd64, &settings(true)).unwrap_err();
    assert!(failure.code == Code::SourceUnreachable && failure.what.contains(&upstream.host()), "{failure}");
    let failure = bed.resolve(&reference("only-upstream"), Arch::Amd64, &settings(false)).unwrap_err();
    assert_eq!(failure.code, Code::RegistryLacksImage, "{failure}");
}

#[test]
fn logins_are_sent_as_the_registry_wants_them() {
    // user:pass
    let basic = "Basic dXNlcjpwYXNz".to_owned();
    for (content, docker) in [
        (Content { uses: 9, login: Some(basic.clone()), ..registry() }, r#"{"auth": "dXNlcjpwYXNz"}"#),
        (Content { basic: true, login: Some(basic), ..registry() }, r#"{"auth": "dXNlcjpwYXNz"}"#),
        (
            Content { uses: 9, login: Some("refresh_token=identit".into()), ..registry() },
            r#"{"identitytoken": "identity"}"#,
        ),
    ] {
        let server = content.serve();
        let reference = format!("{}/a:single", server.host());
        let logins = |auth: &str| format!("{{\"auths\": {{\"{}\": {auth}}}}}", server.host());
        let access = insecure(&server, "").with_docker(&logins(docker)).unwrap();
        Bed::new().resolve(&reference, Arch::Amd64, &access).unwrap();
        let posted = server.requests().iter().any(|request| request.method == "POST");
        assert_eq!(posted, docker.contains("identitytoken"));
        for access in
            [insecure(&server, ""), insecure(&server, "").with_docker(&logins(r#"{"auth": "bWU6c2VjcmV0"}"#)).unwrap()]
        {
            let failure = Bed::new().resolve(&reference, Arch::Amd64, &access).unwrap_err();
            let said = iso_builder::report::failure(&failure);
            assert_eq!(failure.code, Code::RegistryDenied, "{said}");
            assert!(said.contains(&reference) && !said.contains("secret"), "{said}");
        }
        let kept = insecure(&server, "").with_docker(r#"{"credsStore": "desktop"}"#).unwrap();
        let failure = Bed::new().resolve(&reference, Arch::Amd64, &kept).unwrap_err();
        assert!(failure.remedy().contains("docker-credential-desktop"), "{}", failure.remedy());
    }
}

#[test]
fn each_fault_of_a_registry_has_its_code() {
    let html = || Reply::new("200 OK", "<!DOCTYPE html><title>Welcome</title>");
    let mut wrong = registry();
    let arm64 = wrong.image("x", &platform("amd64"), &[b"x".to_vec()]);
    wrong.index("lies", &[(arm64, Some(platform("arm64")))]);
    wrong.manifest("schema1", &json!({ "schemaVersion": 1, "fsLayers": [] }));
    let faulty = |part: &str, reply: Reply| {
        let mut content = registry();
        // The first time that it is asked for.
        content.faults.insert(part.to_owned(), reply);
        content
    };
    let other = Digest::of(b"other").to_string();
    let untrue = Reply::new("200 OK", "{}").with("Docker-Content-Digest", other.clone());
    for (content, reference, arch, code, said) in [
        (registry(), "a:nothing", Arch::Amd64, Code::RegistryLacksImage, "MANIFEST_UNKNOWN: manifest unknown"),
        (registry(), "a:single", Arch::Arm64, Code::RegistryLacksImage, "linux/arm64; there is linux/amd64"),
        (wrong.clone(), "a:lies", Arch::Amd64, Code::RegistryLacksImage, "there is linux/arm64"),
        (wrong.clone(), "a:lies", Arch::Arm64, Code::ArchMismatch, "its config says linux/amd64"),
        (wrong.clone(), "a:schema1", Arch::Amd64, Code::ImageInvalid, "schema 1"),
        (faulty("manifests/", html()), "a:single", Arch::Amd64, Code::ContentInvalid, "is an HTML page"),
        (faulty("blobs/", html()), "a:single", Arch::Amd64, Code::ContentInvalid, "is an HTML page"),
        (faulty("manifests/", untrue), "a:single", Arch::Amd64, Code::DigestMismatch, "not sha256"),
        (faulty("v2", Reply::new("403 Forbidden", "")), "a:single", Arch::Amd64, Code::RegistryDenied, "HTTP 403"),
        (
            Content { uses: 1, realm: Some("nowhere".into()), ..registry() },
            "a:single",
            Arch::Amd64,
            Code::RegistryDenied,
            "where from",
        ),
    ] {
        let server = content.serve();
        let reference = format!("{}/{reference}", server.host());
        let failure = Bed::new().resolve(&reference, arch, &insecure(&server, "")).unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.what.starts_with(&format!("{reference}: ")) && failure.what.contains(said), "{failure}");
    }
    // Another manifest than the digest asked for.
    let mut content = registry();
    let single = content.parts["manifests/single"].clone();
    content.parts.insert(format!("manifests/{other}"), single);
    let server = content.serve();
    let failure = Bed::new().resolve(&format!("{}/a@{other}", server.host()), Arch::Amd64, &insecure(&server, ""));
    assert_eq!(failure.unwrap_err().code, Code::DigestMismatch);
    // A busy registry is borne.
    let server = faulty("manifests/", Reply::new("503 Service Unavailable", "")).serve();
    Bed::new().resolve(&format!("{}/a:single", server.host()), Arch::Amd64, &insecure(&server, "")).unwrap();
}

#[test]
fn a_registry_without_tls_is_taken_only_where_that_is_said() {
    let server = registry().serve();
    let failure = Bed::new().resolve(&format!("{}/a:single", server.host()), Arch::Amd64, &quick()).unwrap_err();
    assert_eq!(failure.code, Code::SourceUnreachable);
    assert!(server.requests().is_empty());
    let bed = Bed::new();
    fs::write(bed.dir.path().join("ca.pem"), "no certificate").unwrap();
    let text = format!("[registries.\"{}\"]\nca = \"ca.pem\"\n", server.host());
    let access = Access::parse(&text, bed.dir.path()).unwrap();
    let failure = bed.resolve(&format!("{}/a:single", server.host()), Arch::Amd64, &access).unwrap_err();
    assert!(failure.code == Code::ConfigInvalid && failure.what.contains("ca.pem"), "{failure}");
}
