//! The properties, one function per target. Each takes any bytes, and panics where the code under test
//! breaks a promise; what it refuses, it has to refuse with one of the codes it documents.

#[path = "volumes.rs"]
mod volumes;

use std::io::Cursor;

use bootstrap::archive;
use bootstrap::bundle::{Manifest, Place, autoindex, layout};
use bootstrap::disc;
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{self, PublicKey};
use bootstrap::user_data::{look, outline, read};
use iso_builder::lock::Lock;
use iso_builder::manifests::{self, Origin};
use iso_builder::spec::Spec;

pub use self::volumes::{mountinfo, superblock, volume_request, vpd};

/// Name, check, rounds.
pub type Target = (&'static str, fn(&[u8]), usize);

/// A target by its name, and how many mutations per input of its corpus the plain test tries: what a second
/// or two of an unoptimised build allows.
pub const TARGETS: &[Target] = &[
    ("archive", archive, 1500),
    ("autoindex", autoindex, 4000),
    ("disc", disc, 600),
    ("lock", lock, 1500),
    ("manifest", manifest, 1500),
    ("mountinfo", mountinfo, 1500),
    ("signature", signature, 1500),
    ("spec", spec, 1500),
    ("superblock", superblock, 100),
    ("user_data", user_data, 60),
    ("volume_request", volume_request, 1500),
    ("vpd", vpd, 4000),
    ("yaml_images", yaml_images, 300),
];

/// `cks-bundle.json`: what is read is written and read again the same.
pub fn manifest(data: &[u8]) {
    let Some(manifest) = checked(Manifest::parse(data), &[Code::ManifestInvalid, Code::ManifestUnsupported]) else {
        return;
    };
    let json = manifest.to_json().expect("it can be written");
    let again = Manifest::parse(json.as_bytes()).expect("what was written can be read");
    assert_eq!(again, manifest);
    assert_eq!(again.to_json().expect("it can be written"), json);
    for blob in &manifest.blobs {
        assert_eq!(manifest.blob(&blob.digest), Some(blob));
    }
    for entry in &manifest.entries {
        assert_eq!(manifest.entry(&entry.path), Some(entry));
    }
}

/// An ISO image from its volume descriptors on: the 32 KiB before them mean nothing, and are not in the
/// corpus. Every file lies inside the image.
pub fn disc(data: &[u8]) {
    const BEFORE: usize = 32_768;
    const CODES: &[Code] = &[Code::SourceInvalid, Code::SourceTruncated];
    let mut bytes = vec![0; BEFORE];
    bytes.extend_from_slice(data);
    checked(disc::volume_id(Cursor::new(&bytes)), CODES);
    checked(disc::application_id(Cursor::new(&bytes)), CODES);
    checked(disc::joliet_volume_id(Cursor::new(&bytes)), CODES);
    let Some(disc) = checked(disc::read(Cursor::new(&bytes)), CODES) else { return };
    assert!(disc.files.is_sorted_by(|a, b| a.path < b.path), "sorted, each path once");
    for file in &disc.files {
        layout::check_path(&file.path).expect("a path that can be joined to a directory");
        let ranges = file.ranges(0, file.size).expect("the whole file");
        assert_eq!(ranges.iter().map(|range| range.length).sum::<u64>(), file.size);
        assert!(ranges.iter().all(|range| range.offset + range.length <= bytes.len() as u64), "{file:?}");
        assert_eq!(file.ranges(0, file.size + 1), None);
        assert_eq!(disc.file(&file.path), Some(file));
    }
}

/// The spec of a build: what is read names an origin for each input.
pub fn spec(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(spec) = checked(Spec::parse(text), &[Code::SpecInvalid]) else { return };
    for (key, input) in spec.inputs() {
        input.origin(&key).expect("checked when it was read");
    }
    for (key, tarball) in spec.tarballs() {
        tarball.origin(key).expect("checked when it was read");
    }
}

/// A lock: what is read is written and read again the same.
pub fn lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(lock) = checked(Lock::parse(text), &[Code::LockStale]) else { return };
    let written = lock.to_text();
    assert_eq!(Lock::parse(&written).expect("what was written can be read").to_text(), written);
}

/// An image archive. Checksums of tar headers are put right first, or no changed header would get past
/// the tar reader. Each image's blobs are there.
pub fn archive(data: &[u8]) {
    let mut bytes = data.to_vec();
    for block in bytes.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let read = archive::read(Cursor::new(&bytes), "docker/images.tar");
    let Some(archive) = checked(read, &[Code::ImageInvalid]) else { return };
    assert!(!archive.images.is_empty(), "an archive without images is refused");
    assert!(archive.images.is_sorted_by(|a, b| a.reference < b.reference), "sorted, each name once");
    assert!(archive.blobs.is_sorted_by(|a, b| a.digest < b.digest), "sorted, each digest once");
    for image in &archive.images {
        layout::check_reference(&image.reference).expect("a reference that can stand in any configuration");
        assert_eq!(image.layers.len(), image.diff_ids.len());
        for digest in [&image.digest, &image.config].into_iter().chain(&image.layers) {
            assert!(archive.blobs.iter().any(|blob| blob.digest == *digest), "{} lacks {digest}", image.reference);
        }
        assert!(archive.architectures.contains_key(&image.config));
    }
    for blob in &archive.blobs {
        if let Place::Inline { text } = &blob.at {
            assert_eq!(text.len() as u64, blob.size);
        }
    }
}

/// A page of a web server: no name leads elsewhere, and each is found again under its own link.
pub fn autoindex(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let links = autoindex::parse(text);
    assert!(links.is_sorted_by(|a, b| a < b), "sorted, each once");
    for link in links {
        layout::check_path(&link.name)
            .or_else(|reason| {
                // A listing may have names that no bundle has; only these are left to the caller.
                if link.name.contains(['\\']) { Ok(()) } else { Err(reason) }
            })
            .unwrap_or_else(|reason| panic!("{:?} {reason}", link.name));
        assert!(!link.name.contains('/'), "{link:?}");
        let end = if link.directory { "/" } else { "" };
        let page = format!("<a href=\"{}{end}\">", autoindex::percent_encode_path(&link.name));
        assert_eq!(autoindex::parse(&page), [link]);
    }
}

/// User data of a node: what is understood can be told, and only then asks anything of a machine.
pub fn user_data(data: &[u8]) {
    let machine = [("local-hostname", "c1-node-1"), ("local-ipv4", "10.1.1.11"), ("POD_CIDR", "10.244.0.0/16")];
    let metadata = bootstrap::datasource::from_keys(machine.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let strict = checked(read(data, &metadata), &[Code::UserDataInvalid, Code::CniInvalid]);
    let Some(reading) = checked(look(data, &metadata), &[Code::UserDataInvalid]) else { return };
    assert_eq!(strict.is_some(), reading.cni.is_empty() || reading.spec.is_none());
    serde_json::to_string(&reading).expect("it can be shown");
    let wish = checked(reading.wish(), &[Code::UserDataUnknown, Code::CniInvalid]);
    assert!(wish.is_none_or(|spec| !outline(spec).is_empty()));
    let told = reading.cni.iter().map(|fault| &fault.what).chain(reading.warnings.iter().map(|one| &one.text));
    let told = told.chain(reading.ignored.iter().flat_map(|one| [&one.what, &one.why]));
    for text in told {
        assert_eq!(*text, bootstrap::text::plain(text), "a terminal finds something to obey");
    }
}

/// Signatures and public keys: no bytes are taken for a signature over a text that nobody signed.
pub fn signature(data: &[u8]) {
    const KEY: &str = include_str!("../../bootstrap/tests/data/minisign.pub");
    let Ok(text) = std::str::from_utf8(data) else { return };
    let claims = checked(signature::claims(text), &[Code::SignatureInvalid]);
    assert!(claims.is_none_or(|claims| !claims.is_empty()), "a file without signatures is refused");
    if let Some(keys) = checked(PublicKey::parse_all(text), &[Code::KeyInvalid]) {
        assert!(!keys.is_empty() && keys.iter().all(|key| key.id().len() == 16));
    }
    let key = PublicKey::parse(KEY).expect("the key of the tests");
    let signers = checked(signature::verify(&[key], b"nobody signed this", text), &[Code::SignatureInvalid]);
    assert!(signers.is_none(), "{signers:?}");
}

/// Kubernetes manifests: with the pull policy written over they name the same images in the same places, and
/// no container says `Always`.
pub fn yaml_images(data: &[u8]) {
    const CODES: &[Code] = &[Code::ContentInvalid];
    let Ok(text) = std::str::from_utf8(data) else { return };
    let references = checked(manifests::images(text), CODES);
    checked(manifests::objects(text), CODES);
    let Some(written) = checked(manifests::if_not_present(text), CODES) else { return };
    let again = manifests::if_not_present(&written).expect("what was written can be read");
    assert_eq!(again, written, "there is nothing left to be changed");
    let Some(references) = references else { return };
    let now = manifests::images(&written).expect("what was written can be read");
    // An image volume keeps its policy.
    let always =
        |one: &manifests::Reference| one.origin == Origin::Container && one.policy.as_deref() == Some("Always");
    assert!(!now.iter().any(always), "{now:?}");
    let named = |all: Vec<manifests::Reference>| {
        all.into_iter().map(|one| (one.image, one.object, one.path)).collect::<Vec<_>>()
    };
    assert_eq!(named(now), named(references));
}

/// The value, or nothing where it was refused with one of `codes`.
fn checked<T>(result: Result<T, Failure>, codes: &[Code]) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(failure) => {
            assert!(codes.contains(&failure.code), "{failure:?}");
            assert!(!failure.what.is_empty(), "{failure:?}");
            None
        }
    }
}
