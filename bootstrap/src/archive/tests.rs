use std::io::Cursor;

use super::*;

fn tar_of(files: &[(&str, &[u8])]) -> Cursor<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    Cursor::new(builder.into_inner().unwrap())
}

fn at<'a>(tar: &'a Cursor<Vec<u8>>, blob: &Blob) -> &'a [u8] {
    match &blob.at {
        Place::Range { offset, .. } => &tar.get_ref()[*offset as usize..(*offset + blob.size) as usize],
        Place::Inline { .. } => panic!("{blob:?} is inline"),
    }
}

fn config_for(layer: &[u8]) -> String {
    format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(layer)
    )
}

#[test]
fn a_docker_archive_gets_a_manifest_of_its_own() {
    let layer = b"layer bytes";
    let config = config_for(layer);
    let list = br#"[{"Config":"c.json","RepoTags":["pause:3.10"],"Layers":["id/layer.tar"]}]"#;
    let tar = tar_of(&[("c.json", config.as_bytes()), ("id/layer.tar", layer), ("./manifest.json", list)]);
    let archive = read(tar.clone(), "docker/pause.tar").unwrap();
    let [image] = &archive.images[..] else { panic!("{archive:?}") };
    assert_eq!(image.reference, "docker.io/library/pause:3.10");
    assert_eq!(image.layers, [Digest::of(layer)]);
    let blob = |digest| archive.blobs.iter().find(|blob| blob.digest == digest).unwrap();
    assert_eq!(at(&tar, blob(image.layers[0])), layer);
    assert_eq!(at(&tar, blob(image.config)), config.as_bytes());
    let Place::Inline { text } = &blob(image.digest).at else { panic!() };
    assert_eq!(Digest::of(text.as_bytes()), image.digest);
    assert_eq!(archive.architectures[&image.config], "amd64");
}

#[test]
fn layers_that_are_links_are_followed() {
    let layer = b"layer bytes";
    let config = config_for(layer);
    let list = br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["two/layer.tar"]}]"#;
    let mut builder = tar::Builder::new(
        tar_of(&[("c.json", config.as_bytes()), ("one/layer.tar", layer), ("manifest.json", list)]).into_inner(),
    );
    let end = builder.get_ref().len() - 1024;
    builder.get_mut().truncate(end);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "two/layer.tar", "../one/layer.tar").unwrap();
    let tar = Cursor::new(builder.into_inner().unwrap());
    let archive = read(tar.clone(), "x").unwrap();
    let blob = archive.blobs.iter().find(|blob| blob.digest == Digest::of(layer)).unwrap();
    assert_eq!(at(&tar, blob), layer);
}

fn oci(index_name: &str, layer_size: usize) -> Cursor<Vec<u8>> {
    let layer = b"\x1f\x8bgzip";
    let config = config_for(b"uncompressed");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{}","size":{}}},"layers":[{{"mediaType":"l","digest":"{}","size":{layer_size}}}]}}"#,
        Digest::of(config.as_bytes()),
        config.len(),
        Digest::of(layer),
    );
    let digest = Digest::of(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{},"annotations":{{{index_name}}}}}]}}"#,
        manifest.len()
    );
    tar_of(&[
        (&blob_name(&Digest::of(config.as_bytes())), config.as_bytes()),
        (&blob_name(&Digest::of(layer)), layer),
        (&blob_name(&digest), manifest.as_bytes()),
        ("index.json", index.as_bytes()),
    ])
}

#[test]
fn an_oci_layout_keeps_its_digests() {
    let tar = oci(r#""io.containerd.image.name":"registry.k8s.io/etcd:3.5""#, 6);
    let archive = read(tar.clone(), "docker/a.tar").unwrap();
    let [image] = &archive.images[..] else { panic!("{archive:?}") };
    assert_eq!(image.reference, "registry.k8s.io/etcd:3.5");
    assert!(!image.roles.contains(&crate::bundle::Role::Worker));
    for blob in &archive.blobs {
        assert_eq!(Digest::of(at(&tar, blob)), blob.digest);
    }
}

#[test]
fn broken_archives_are_refused_with_the_reason() {
    let named = r#""io.containerd.image.name":"a:1""#;
    for (tar, reason) in [
        (tar_of(&[("x", b"y")]), "neither index.json nor manifest.json"),
        (tar_of(&[("manifest.json", b"[]")]), "names no image"),
        (tar_of(&[("manifest.json", b"<html>")]), "can't be read"),
        (tar_of(&[("manifest.json", br#"[{"Config":"c","RepoTags":["a"],"Layers":[]}]"#)]), "lacks c"),
        (oci(named, 7), "its list says 7"),
        (oci(r#""org.opencontainers.image.ref.name":"3.10""#, 6), "names no image"),
        (Cursor::new(b"<html>404</html>".repeat(100)), "can't be read as a tar"),
    ] {
        let failure = read(tar, "docker/x.tar").unwrap_err();
        assert_eq!(failure.code, Code::ImageInvalid);
        assert!(failure.what.contains(reason), "{} lacks {reason:?}", failure.what);
        assert!(failure.what.contains("docker/x.tar"));
    }
}

/// A list of a few KiB that names one document of a MiB again and again would take minutes.
#[test]
fn a_list_that_names_one_large_document_for_ever_is_refused() {
    let layer = b"layer bytes";
    let config = config_for(layer) + &" ".repeat(1 << 20);
    let list = vec![r#"{"Config":"c.json","Layers":["layer.tar"]}"#; 1000].join(",");
    let list = format!("[{list}]");
    let tar = tar_of(&[("c.json", config.as_bytes()), ("layer.tar", layer), ("manifest.json", list.as_bytes())]);
    let failure = read(tar, "docker/images.tar").unwrap_err();
    assert_eq!(failure.code, Code::ImageInvalid);
    assert!(failure.what.contains("128 MiB"), "{failure}");
}
