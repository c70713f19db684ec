use serde_json::{Value, json};

use super::*;

fn entry(platform: Value, media_type: &str) -> Value {
    let digest = Digest::of(platform.to_string().as_bytes());
    json!({ "mediaType": media_type, "digest": digest, "size": 2, "platform": platform })
}

fn image(config: &str, layer: Value) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": { "mediaType": config, "digest": Digest::of(b"c"), "size": 1 },
        "layers": [layer],
    })
}

fn layer(media_type: &str, more: Value) -> Value {
    let mut layer = json!({ "mediaType": media_type, "digest": Digest::of(b"l"), "size": 1 });
    layer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    layer
}

fn parse(value: &Value) -> Result<Document, Failure> {
    Document::parse(value.to_string().as_bytes())
}

#[test]
fn the_platform_is_picked_out_of_an_index() {
    let platform = |arch: &str, variant: Value| json!({ "os": "linux", "architecture": arch, "variant": variant });
    let entries = [
        entry(json!({ "os": "unknown", "architecture": "unknown" }), OCI_MANIFEST),
        entry(json!({ "os": "windows", "architecture": "amd64" }), OCI_MANIFEST),
        entry(platform("amd64", json!("v3")), OCI_MANIFEST),
        entry(Value::Null, OCI_MANIFEST),
        entry(platform("amd64", Value::Null), DOCKER_MANIFEST),
        entry(platform("arm64", json!("v8")), OCI_MANIFEST),
        entry(Value::Null, OCI_INDEX),
        entry(platform("arm", json!("v7")), OCI_MANIFEST),
    ];
    let Document::Index(found) = parse(&json!({ "schemaVersion": 2, "manifests": entries })).unwrap() else { panic!() };
    let shown: Vec<_> = found.iter().filter_map(Descriptor::platform_shown).collect();
    let all = ["windows/amd64", "linux/amd64/v3", "linux/amd64", "linux/arm64/v8", "linux/arm/v7"];
    assert_eq!(shown, all);
    for (arch, want) in [(Arch::Amd64, "linux/amd64"), (Arch::Arm64, "linux/arm64/v8")] {
        let candidates = candidates(found.clone(), arch);
        assert_eq!(candidates.len(), 3);
        assert_eq!(candidates[2].platform_shown().as_deref(), Some(want));
        assert!(candidates[1].is_index() && !candidates[0].is_index());
    }
}

#[test]
fn what_containerd_would_not_take_is_refused() {
    let (config, tar) = (CONFIGS[0], LAYERS[1]);
    let good = image(config, layer(tar, json!({})));
    let Document::Image(found) = parse(&good).unwrap() else { panic!() };
    assert!(found.config().is_ok() && found.layers().is_ok());
    for (value, want) in [
        (json!({ "schemaVersion": 1, "fsLayers": [] }), "schema 1"),
        (json!({ "schemaVersion": 3, "manifests": [] }), "schema version 3"),
        (json!({ "schemaVersion": 2 }), "no image's"),
        (json!({ "schemaVersion": 2, "mediaType": "x/y", "manifests": [] }), "\"x/y\""),
        (json!([]), "can't be read"),
        (image("application/vnd.cncf.helm.config.v1+json", layer(tar, json!({}))), "no container image"),
        (image(config, layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", json!({}))), "foreign"),
        (image(config, layer(tar, json!({ "urls": ["https://a.org/l"] }))), "foreign"),
        (image(config, layer("application/vnd.wasm", json!({}))), "application/vnd.wasm"),
        (image(config, layer(tar, json!({ "digest": format!("sha512:{}", "0".repeat(128)) }))), "no sha256"),
        (image(config, layer(tar, json!({ "digest": "0".repeat(64) }))), "no sha256"),
    ] {
        let refused = parse(&value).and_then(|document| match document {
            Document::Image(image) => image.config().and_then(|_| image.layers()).map(drop),
            Document::Index(_) => Ok(()),
        });
        let failure = refused.unwrap_err();
        assert_eq!(failure.code, Code::ImageInvalid);
        assert!(failure.what.contains(want), "{failure}");
    }
}

#[test]
fn a_config_tells_platform_and_layers() {
    let bytes = json!({ "os": "linux", "architecture": "arm64", "variant": "v8", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"d")] } })
    .to_string();
    let (platform, diff_ids) = config(bytes.as_bytes(), 1).unwrap();
    assert!(platform.is(Arch::Arm64) && !platform.is(Arch::Amd64));
    assert_eq!(diff_ids, [Digest::of(b"d")]);
    assert!(config(bytes.as_bytes(), 2).unwrap_err().what.contains("1 layers"));
}
