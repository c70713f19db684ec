//! The bill of materials of a bundle, as SPDX 2.3 JSON. The same manifest and time give the same bytes.
//!
//! SPDX wants a SHA-1 of what it calls a file; the manifest has, and we want, only SHA-256. So every file
//! is a package with the purpose FILE, ARCHIVE or APPLICATION, which may have any checksum.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bootstrap::bundle::{Entry, Image, Kind, MANIFEST_MAX_BYTES, MANIFEST_PATH, Manifest, layout};
use bootstrap::digest::Digest;
use bootstrap::disc;
use bootstrap::failure::{Code, Failure};
use hadris_fs::DateTime;
use serde_json::{Value, json};

use crate::bundle::named;
use crate::content::{Content, Source, failed};
use crate::opened::Opened;

/// Where upstream keeps the source of a component: type and path of a package URL.
const UPSTREAM: [(&str, &str); 4] = [
    ("kubernetes", "github/kubernetes/kubernetes"),
    ("cni-plugins", "github/containernetworking/plugins"),
    ("cri-tools", "github/kubernetes-sigs/cri-tools"),
    ("etcd", "github/etcd-io/etcd"),
];

/// The document's own id.
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
/// The bundle's id.
const BUNDLE: &str = "SPDXRef-Bundle";

/// The bill of the ISO, device or directory at `path`. A directory's time is that of its manifest.
///
/// # Errors
/// `MANIFEST_REQUIRED` without a manifest; those of opening and reading.
pub fn of(path: &Path) -> Result<String, Failure> {
    let naming = |failure| named(&path.display().to_string(), failure);
    if path.is_dir() {
        let file = path.join(MANIFEST_PATH);
        if !file.exists() {
            return Err(naming(stock()));
        }
        let json = Content::whole(&Source::open(&file)?).small(MANIFEST_MAX_BYTES)?;
        let time = std::fs::metadata(&file).map_err(|e| failed("Reading", &file, e))?.mtime();
        return document(&Manifest::parse(&json).map_err(naming)?, Digest::of(&json), time.try_into().unwrap_or(0));
    }
    let (manifest, digest) = Opened::open(path)?.manifest().map_err(naming)?.ok_or_else(|| naming(stock()))?;
    let epoch = disc::created(Content::whole(&Source::open(path)?).reader()).map_err(naming)?;
    document(&manifest, digest, epoch)
}

fn stock() -> Failure {
    Failure::new(Code::ManifestRequired, "it has no manifest, so nothing tells what is in it")
        .with_remedy("build an ISO with cks-iso build, or make one of it with cks-iso import")
}

/// The bill of `manifest`, whose text has the digest `digest`; `epoch` is the time of the bundle.
///
/// # Errors
/// `MANIFEST_INVALID` when `epoch` is no time.
pub fn document(manifest: &Manifest, digest: Digest, epoch: u64) -> Result<String, Failure> {
    let mut bill = Bill::default();
    bill.relate(DOCUMENT, "DESCRIBES", BUNDLE);
    let bundle = json!({
        "SPDXID": BUNDLE, "name": manifest.name, "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "primaryPackagePurpose": "INSTALL", "checksums": [checksum(&digest)],
        "comment": format!("The checksum is that of {MANIFEST_PATH}, which has those of all else."),
    });
    bill.packages.push(bundle);
    let components = bill.components(manifest);
    let mut archives = BTreeMap::new();
    for entry in &manifest.entries {
        let id = bill.entry(entry);
        let owner = component_of(entry.kind).and_then(|name| components.get(name));
        bill.relate(owner.map_or(BUNDLE, String::as_str), "CONTAINS", &id);
        archives.insert(entry.path.as_str(), id);
    }
    for image in &manifest.images {
        let id = bill.image(image, manifest);
        let place = manifest.blob(&image.digest).map(|blob| &blob.at);
        let archive = match place {
            Some(bootstrap::bundle::Place::Range { path, .. }) => archives.get(path.as_str()),
            _ => None,
        };
        bill.relate(archive.map_or(BUNDLE, String::as_str), "CONTAINS", &id);
    }
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": manifest.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/cks-bundle-{}", digest.hex()),
        "creationInfo": {
            "created": time(epoch)?,
            "creators": [concat!("Tool: cks-iso-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": bill.packages,
        "relationships": bill.relationships,
    });
    let unwritten = |e| Failure::new(Code::ManifestInvalid, "Writing the bill of materials").with_source(e);
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(|e: serde_json::Error| unwritten(e))
}

#[derive(Default)]
struct Bill {
    packages: Vec<Value>,
    relationships: Vec<Value>,
}

impl Bill {
    fn relate(&mut self, from: &str, how: &str, to: &str) {
        self.relationships.push(json!({ "spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to }));
    }

    /// Adds a package and returns its id, which holds only what SPDX allows and a number of its own.
    fn add(&mut self, kind: &str, name: &str, purpose: &str, digest: Option<&Digest>, more: Value) -> String {
        let text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let id = format!("SPDXRef-{kind}-{}-{}", self.packages.len(), text.trim_matches('-'));
        let mut package = json!({
            "SPDXID": id, "name": name, "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
            "primaryPackagePurpose": purpose,
        });
        if let Some(digest) = digest {
            package["checksums"] = json!([checksum(digest)]);
        }
        if let (Value::Object(package), Value::Object(more)) = (&mut package, more) {
            package.extend(more);
        }
        self.packages.push(package);
        id
    }

    /// The components: name → id.
    fn components(&mut self, manifest: &Manifest) -> BTreeMap<String, String> {
        let mut ids = BTreeMap::new();
        for component in &manifest.components {
            let mut more = json!({ "versionInfo": component.version });
            if let Some((_, upstream)) = UPSTREAM.iter().find(|(name, _)| *name == component.name) {
                let version = format!("v{}", component.version.trim_start_matches('v'));
                more["externalRefs"] = purl(&format!("pkg:{upstream}@{}", encoded(&version)));
            }
            let id = self.add("Component", &component.name, "APPLICATION", None, more);
            self.relate(BUNDLE, "CONTAINS", &id);
            ids.insert(component.name.clone(), id);
        }
        ids
    }

    fn entry(&mut self, entry: &Entry) -> String {
        let purpose = match entry.kind {
            Kind::Kubernetes => "APPLICATION",
            Kind::CniPlugins | Kind::CriTools | Kind::Etcd | Kind::ImageArchive => "ARCHIVE",
            _ => "FILE",
        };
        let more = json!({ "packageFileName": entry.path });
        let id = self.add("File", &entry.path, purpose, entry.sha256.as_ref(), more);
        for member in &entry.members {
            let more = json!({ "packageFileName": member.path });
            let inner = self.add("File", &member.path, "FILE", Some(&member.sha256), more);
            self.relate(&id, "CONTAINS", &inner);
        }
        id
    }

    fn image(&mut self, image: &Image, manifest: &Manifest) -> String {
        let reference = image.reference.split('@').next().unwrap_or_default();
        let tag = layout::tag(reference);
        let repository = tag.and_then(|tag| reference.strip_suffix(tag)).map_or(reference, |r| r.trim_end_matches(':'));
        let name = layout::repository_name(reference).to_lowercase();
        let tag_qualifier = tag.map(|tag| format!("&tag={}", encoded(tag))).unwrap_or_default();
        let url = format!(
            "pkg:oci/{}@{}?arch={}&repository_url={}{tag_qualifier}",
            encoded(&name),
            encoded(&image.digest.to_string()),
            manifest.arch,
            encoded(repository).replace("%2F", "/"),
        );
        let version = tag.map_or_else(|| image.digest.to_string(), str::to_owned);
        let more = json!({ "versionInfo": version, "externalRefs": purl(&url) });
        self.add("Image", &image.reference, "CONTAINER", Some(&image.digest), more)
    }
}

/// The component whose files are of this kind.
fn component_of(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Kubernetes => Some("kubernetes"),
        Kind::CniPlugins => Some("cni-plugins"),
        Kind::CriTools => Some("cri-tools"),
        Kind::Etcd => Some("etcd"),
        _ => None,
    }
}

fn checksum(digest: &Digest) -> Value {
    json!({ "algorithm": "SHA256", "checksumValue": digest.hex() })
}

fn purl(url: &str) -> Value {
    json!([{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url }])
}

/// `text` as a part of a package URL: all but letters, digits and `.-_~` by their bytes in hex.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_~".contains(byte);
    let each = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(each).collect()
}

/// As SPDX writes times: `2026-01-31T12:00:00Z`.
fn time(epoch: u64) -> Result<String, Failure> {
    let none = || Failure::new(Code::ManifestInvalid, format!("{epoch} is no time"));
    let time = i64::try_from(epoch).ok().and_then(|seconds| DateTime::from_unix_seconds(seconds).ok());
    let (date, time) = time.ok_or_else(none)?.to_civil_utc();
    let (year, month, day) = (date.year(), date.month(), date.day());
    Ok(format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second()))
}

#[cfg(test)]
mod tests;
