//! How the layers of images lie on the ISO: proven, counted, and compressed anew where the spec wants it.

use std::fs;
use std::io::Write as _;

use bootstrap::archive;
use bootstrap::bundle::{Image as Listed, Manifest, Place};
use bootstrap::digest::Digest;
use iso_builder::opened::Opened;
use serde_json::json;

use crate::fixture::archives::{Image, docker_save, layer};
use crate::fixture::{Bed, arch};

fn manifest(bed: &Bed) -> Manifest {
    Opened::open(&bed.path("out.iso")).unwrap().manifest().unwrap().unwrap().0
}

/// The bytes of a blob on the ISO.
fn bytes(bed: &Bed, manifest: &Manifest, digest: &Digest) -> Vec<u8> {
    let blob = manifest.blob(digest).unwrap();
    let Place::Range { path, offset } = &blob.at else { panic!("{blob:?} has no place") };
    let opened = Opened::open(&bed.path("out.iso")).unwrap();
    opened.file(path).unwrap().content.slice(*offset, blob.size).small(16 << 20).unwrap()
}

/// The bed with a third archive whose image a digest names.
fn with_pinned(bed: &Bed) -> String {
    let pinned = format!("quay.io/pinned:1@{}", Digest::of(b"an index"));
    let image = Image { reference: &pinned, arch: arch().as_str(), layers: vec![layer("base", 70_000)] };
    docker_save(&bed.path("c.tar"), &[image]);
    bed.edit("[manifests]", "[[images]]\nfile = \"c.tar\"\n\n[manifests]");
    pinned
}

#[test]
fn layers_are_compressed_anew_but_for_images_that_a_digest_names() {
    let bed = Bed::new();
    let pinned = with_pinned(&bed);
    bed.build();
    let before = manifest(&bed);
    bed.edit("name =", "layers = \"zstd\"\nname =");
    bed.build();
    let after = manifest(&bed);
    let named = |image: &&Listed| image.reference == pinned;
    assert_eq!(before.images.iter().find(named), after.images.iter().find(named));
    for (old, new) in before.images.iter().zip(&after.images).filter(|(old, _)| old.reference != pinned) {
        assert_eq!((&old.reference, old.config, &old.diff_ids), (&new.reference, new.config, &new.diff_ids));
        assert_ne!(old.digest, new.digest);
        for (digest, diff_id) in new.layers.iter().zip(&new.diff_ids) {
            let blob = after.blob(digest).unwrap();
            assert_eq!(blob.media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
            let tar = zstd::decode_all(bytes(&bed, &after, digest).as_slice()).unwrap();
            assert_eq!((Digest::of(&tar), Some(tar.len() as u64)), (*diff_id, blob.unpacked));
        }
        let text = bytes(&bed, &after, &new.digest);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["layers"].as_array().unwrap().len(), new.layers.len());
        assert_eq!(value["layers"][0]["digest"], new.layers[0].to_string());
    }

    // The base is there twice, once for the pinned image; what others read is what the manifest says.
    let tar = Opened::open(&bed.path("out.iso")).unwrap().file("docker/images.tar").unwrap().content.clone();
    let read = archive::read(tar.reader(), "docker/images.tar").unwrap();
    let of_archive = |manifest: &Manifest| manifest.images.clone();
    assert_eq!(read.images, of_archive(&after));
    let verified = bed.cks_iso(&["verify", "out.iso"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn the_same_spec_gives_the_same_layers() {
    let digests = [(); 2].map(|()| {
        let bed = Bed::new();
        bed.edit("name =", "layers = \"zstd\"\nname =");
        Digest::of(&fs::read(bed.build()).unwrap())
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn every_layer_is_counted() {
    let bed = Bed::new();
    bed.build();
    let manifest = manifest(&bed);
    let layers: Vec<_> = manifest.images.iter().flat_map(|image| &image.layers).collect();
    assert!(!layers.is_empty());
    for digest in layers {
        let blob = manifest.blob(digest).unwrap();
        assert_eq!(blob.unpacked, Some(bytes(&bed, &manifest, digest).len() as u64), "plain layers");
    }
    assert!(manifest.images.iter().filter(|image| image.reference.contains("pause")).all(|image| image.critical));
}

/// An OCI layout with one image of one gzip'd layer, whose config says that it unpacks to `diff_id`.
fn gzipped(layer: &[u8], diff_id: Digest) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(layer).unwrap();
    let config = json!({ "architecture": arch().as_str(), "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [diff_id] } });
    let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut blob = |kind: &str, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let media_type = format!("application/vnd.oci.image.{kind}");
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
        descriptor
    };
    let layer = blob("layer.v1.tar+gzip", gzip.finish().unwrap());
    let config = blob("config.v1+json", config.to_string().into_bytes());
    let text = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer] });
    let mut manifest = blob("manifest.v1+json", text.to_string().into_bytes());
    manifest["annotations"] = json!({ "io.containerd.image.name": "quay.io/packed:1" });
    files.push((
        "index.json".to_owned(),
        json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string().into_bytes(),
    ));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn a_gzipped_layer_is_counted_and_has_to_be_what_its_image_says() {
    let bed = Bed::new();
    let layer = layer("packed", 30_000);
    bed.edit("[manifests]", "[[images]]\nfile = \"c.tar\"\n\n[manifests]");
    bed.write("c.tar", gzipped(&layer, Digest::of(&layer)));
    bed.build();
    let manifest = manifest(&bed);
    let image = manifest.images.iter().find(|image| image.reference == "quay.io/packed:1").unwrap();
    assert_eq!(manifest.blob(&image.layers[0]).unwrap().unpacked, Some(layer.len() as u64));
    fs::remove_file(bed.path("out.iso")).unwrap();

    let wrong = Digest::of(b"another layer");
    bed.write("c.tar", gzipped(&layer, wrong));
    let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("IMAGE_INVALID") && said.contains(&wrong.to_string()), "{said}");
    assert!(!bed.path("out.iso").exists());
}
