//! What this node trusts: the keys in `/etc/cks-agent/keys`, the policy, and what is live now.
//!
//! The directory is the list: a key is trusted as soon as its file is there, and no more when it is gone.
//! Old and new keys lie side by side while a site goes from one to the other.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bootstrap::bundle::{MANIFEST_PATH, Manifest};
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::VERSIONS_DIR;
use bootstrap::signature::PublicKey;
use bootstrap::trust::Rules;
use bootstrap::version::Version;

use crate::config::{Config, Policy};
use crate::host::{Host, io_failure};
use crate::member;
use crate::record::NodeRecord;

/// A key has some 120 bytes; one file may hold many.
const MAX_KEY_BYTES: u64 = 64 << 10;
/// Programs whose links tell which bundle is live.
const PROGRAMS: [&str; 4] = ["kubelet", "etcd", "crictl", "kubeadm"];

/// What `settings` say about the node below `host`; `allow_downgrade` lets a bundle be older than what is
/// live on a member.
///
/// # Errors
/// `KEY_INVALID` names a file that holds no key or that everybody may write, or says that there are
/// fewer keys than must sign; `CONFIG_INVALID` names a minimum version that is none; `IO`.
pub fn rules(host: &Host, settings: &Config, allow_downgrade: bool) -> Result<Rules, Failure> {
    let directory = settings.trust.keys.display().to_string();
    let mut keys = keys(host, &directory)?;
    for told in &settings.trust.told {
        let invalid = |why| Failure::new(Code::KeyInvalid, format!("a key of the user data: {why}"));
        keys.push(PublicKey::parse(told).map_err(invalid)?);
    }
    let policy = settings.trust.policy;
    // A manifest is always checked where there is one: without a key and a word of the operator's, a bundle
    // without one is taken, and that is said loudly.
    let signatures = settings.trust.signatures;
    // Who wants several signatures wants one also where the directory of keys is lost.
    let wanted = !keys.is_empty() || signatures > 1;
    let rules = Rules {
        signature_required: policy.map_or(wanted, |policy| policy == Policy::RequireSignature),
        manifest_required: policy == Some(Policy::RequireManifest),
        keys,
        directory,
        signatures,
        minimum: settings.trust.minimum_version.as_deref().map(minimum).transpose()?,
        // What is installed on a machine that is in no cluster keeps no cluster from an older version.
        installed: if allow_downgrade || !member::is_one(host) { None } else { live_version(host) },
    };
    rules.check()?;
    Ok(rules)
}

fn minimum(text: &str) -> Result<Version, Failure> {
    Version::parse(text).ok_or_else(|| {
        Failure::new(Code::ConfigInvalid, format!("trust.minimum-version: {text:?} is no Kubernetes version"))
            .with_remedy("write it as v1.33.0")
    })
}

/// The keys of all `*.pub` of `directory`, below the root of `host`. None where it does not exist.
fn keys(host: &Host, directory: &str) -> Result<Vec<PublicKey>, Failure> {
    let path = host.path(directory);
    let names = match fs::read_dir(&path) {
        Ok(names) => names,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_failure("Reading the trusted keys in", &path, e)),
    };
    check_place(host, &path)?;
    let mut files: Vec<PathBuf> = Vec::new();
    for name in names {
        let file = name.map_err(|e| io_failure("Reading the trusted keys in", &path, e))?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if file.extension().is_some_and(|extension| extension == "pub") && !hidden {
            files.push(file);
        }
    }
    files.sort();
    let mut keys = Vec::new();
    for file in files {
        keys.extend(keys_of(host, &file)?);
    }
    Ok(keys)
}

fn keys_of(host: &Host, path: &Path) -> Result<Vec<PublicKey>, Failure> {
    check_place(host, path)?;
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|e| io_failure("Reading the trusted key", path, e))?;
    let read = file.take(MAX_KEY_BYTES + 1).read_to_string(&mut text);
    let keys = match read {
        Err(e) if e.kind() != ErrorKind::InvalidData => return Err(io_failure("Reading the trusted key", path, e)),
        Err(_) => Err(Failure::new(Code::KeyInvalid, "it is no text")),
        Ok(_) if text.len() as u64 > MAX_KEY_BYTES => Err(Failure::new(Code::KeyInvalid, "it is too large for keys")),
        Ok(_) => PublicKey::parse_all(&text),
    };
    keys.map_err(|failure| {
        Failure::new(Code::KeyInvalid, format!("{}: {}", path.display(), failure.what))
            .with_remedy("put a minisign public key there, as cks-iso keygen makes it, or remove the file")
    })
}

/// Refuses what everybody could have put there: the file or directory itself, and every directory on the
/// way to it from the root.
fn check_place(host: &Host, path: &Path) -> Result<(), Failure> {
    let refuse = |what: String, remedy: String| Err(Failure::new(Code::KeyInvalid, what).with_remedy(remedy));
    let real = path.canonicalize().map_err(|e| io_failure("Reading the trusted key", path, e))?;
    if !real.starts_with(host.root()) {
        let what = format!("{} leads out of the root, to {}", path.display(), real.display());
        return refuse(what, "put the key file itself there".to_owned());
    }
    for place in real.ancestors().take_while(|place| *place != host.root()) {
        let meta = fs::metadata(place).map_err(|e| io_failure("Reading the trusted key", place, e))?;
        let mode = meta.permissions().mode();
        // In a directory with the sticky bit nobody replaces what belongs to another one.
        let shared = meta.is_dir() && place != real && mode & 0o1000 != 0;
        if mode & 0o002 != 0 && !shared {
            let what = format!("{}: everybody may write it (mode {:04o})", place.display(), meta.mode() & 0o7777);
            return refuse(what, format!("find out who wrote it, then chmod o-w {}", place.display()));
        }
    }
    Ok(())
}

/// The Kubernetes version of the bundle that the programs' links lead to; of the last run where they lead nowhere.
fn live_version(host: &Host) -> Option<Version> {
    let versions = host.path(VERSIONS_DIR).canonicalize().ok();
    let directory = PROGRAMS.iter().find_map(|name| {
        let real = host.path(&format!("/opt/bin/{name}")).canonicalize().ok()?;
        let below = real.strip_prefix(versions.as_ref()?).ok()?;
        Some(versions.as_ref()?.join(below.components().next()?))
    });
    let manifest = directory.as_ref().and_then(|directory| fs::read(directory.join(MANIFEST_PATH)).ok());
    if let Some(manifest) = manifest.and_then(|bytes| Manifest::parse(&bytes).ok()) {
        return manifest.kubernetes.as_deref().and_then(Version::parse);
    }
    match directory.as_ref().and_then(|directory| directory.file_name()?.to_str()) {
        // A stock ISO tells its version by the name of its directory alone.
        Some(name) => Version::parse(name.rsplit_once('-')?.0),
        None => NodeRecord::read(host).ok().flatten()?.bundle.kubernetes.as_deref().and_then(Version::parse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = "/etc/cks-agent/keys";

    fn host() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        (root, host)
    }

    fn key() -> String {
        minisign::KeyPair::generate_unencrypted_keypair().unwrap().pk.to_box().unwrap().to_string()
    }

    fn put(host: &Host, name: &str, text: &str) -> PathBuf {
        let path = host.prepare(&format!("{KEYS}/{name}")).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn settings(toml: &str) -> Config {
        Config::parse(toml).unwrap()
    }

    #[test]
    fn a_signature_is_needed_as_soon_as_there_is_a_key() {
        let (_root, host) = host();
        let read = |toml: &str| rules(&host, &settings(toml), false);
        let none = read("").unwrap();
        assert!(none.keys.is_empty() && !none.signature_required && !none.manifest_required);
        assert_eq!(read("[trust]\npolicy = \"require-signature\"").unwrap_err().code, Code::KeyInvalid);
        assert_eq!(read("[trust]\nsignatures = 2").unwrap_err().code, Code::KeyInvalid);
        put(&host, "notes.txt", "no key");
        put(&host, ".old.pub", "no key");
        let old = put(&host, "old.pub", &key());
        put(&host, "new.pub", &key());
        let both = read("").unwrap();
        assert_eq!((both.keys.len(), both.signature_required), (2, true));
        assert!(!read("[trust]\npolicy = \"accept-legacy\"").unwrap().signature_required);
        assert!(read("[trust]\nsignatures = 2").is_ok());
        // A file that is gone is a key that is revoked.
        fs::remove_file(old).unwrap();
        assert_eq!(read("").unwrap().keys.len(), 1);
        assert_eq!(read("[trust]\nsignatures = 2").unwrap_err().code, Code::KeyInvalid);
    }

    #[test]
    fn what_is_no_key_is_named() {
        let (_root, host) = host();
        for text in ["", "ssh-ed25519 AAAA", "<html>"] {
            let path = put(&host, "site.pub", text);
            let failure = rules(&host, &Config::default(), false).unwrap_err();
            assert_eq!(failure.code, Code::KeyInvalid, "{text}");
            assert!(failure.what.contains(&path.display().to_string()), "{}", failure.what);
        }
    }

    #[test]
    fn keys_that_everybody_may_write_are_refused() {
        let (_root, host) = host();
        let path = put(&host, "site.pub", &key());
        let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for (place, good) in [(path.clone(), 0o644), (host.path(KEYS), 0o755), (host.path("/etc/cks-agent"), 0o755)] {
            mode(&place, good | 0o002);
            let failure = rules(&host, &Config::default(), false).unwrap_err();
            assert_eq!(failure.code, Code::KeyInvalid);
            assert!(failure.what.contains(&format!("{}: everybody", place.display())), "{}", failure.what);
            mode(&place, good);
        }
        assert_eq!(rules(&host, &Config::default(), false).unwrap().keys.len(), 1);
    }

    #[test]
    fn a_key_outside_of_the_root_is_refused() {
        let (_root, host) = host();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), key()).unwrap();
        std::os::unix::fs::symlink(outside.path(), host.prepare(&format!("{KEYS}/site.pub")).unwrap()).unwrap();
        assert!(rules(&host, &Config::default(), false).unwrap_err().what.contains("out of the root"));
    }

    #[test]
    fn what_the_programs_links_lead_to_is_live() {
        let (_root, host) = host();
        let live = || live_version(&host).map(|version| version.to_string());
        assert_eq!(live(), None);
        let link = |version: &str| {
            fs::write(host.prepare(&format!("/opt/cks/{version}/bin/kubelet")).unwrap(), "").unwrap();
            let path = host.prepare("/opt/bin/kubelet").unwrap();
            crate::files::link(&path, &format!("../cks/{version}/bin/kubelet")).unwrap();
        };
        // Without a manifest, as a stock ISO is, and without a record, as a run that was killed leaves it.
        link("v1.33.0-3f2a9c1b04d5");
        assert_eq!(live().as_deref(), Some("v1.33.0"));
        let record = r#"{"role": "worker", "node_name": "n", "node_ip": null, "etcd_initial_cluster": null,
            "sources": [], "containerd": null, "snapshotter": "overlayfs", "bundle": {"id": "ID",
            "directory": "/opt/cks/v1.34.0-3f2a9c1b04d5", "kubernetes": "v1.34.0"}}"#;
        let record = record.replace("ID", &bootstrap::digest::Digest::of(b"x").to_string());
        fs::write(host.prepare("/var/lib/cks-agent/node.json").unwrap(), record).unwrap();
        assert_eq!(live().as_deref(), Some("v1.33.0"), "the links count, not the record");
        // The programs of a package are none of ours: what the last run left counts.
        crate::files::link(&host.path("/opt/bin/kubelet"), "/usr/bin/true").unwrap();
        assert_eq!(live().as_deref(), Some("v1.34.0"));
    }

    #[test]
    fn only_a_member_s_version_is_a_floor() {
        let (_root, host) = host();
        fs::write(host.prepare("/opt/cks/v1.35.0-3f2a9c1b04d5/bin/kubelet").unwrap(), "").unwrap();
        crate::files::link(&host.prepare("/opt/bin/kubelet").unwrap(), "../cks/v1.35.0-3f2a9c1b04d5/bin/kubelet")
            .unwrap();
        let settings = settings("[trust]\nminimum-version = \"v1.33\"");
        let takes = |version: &str, allow_downgrade: bool| {
            rules(&host, &settings, allow_downgrade).unwrap().check_version(Some(version)).is_ok()
        };
        assert!(takes("v1.34.0", false), "it is in no cluster");
        assert!(!takes("v1.32.0", false) && !takes("v1.32.0", true), "the operator's minimum holds for everybody");
        fs::write(host.prepare("/etc/kubernetes/kubelet.conf").unwrap(), "").unwrap();
        assert!(!takes("v1.34.0", false) && takes("v1.35.0", false));
        assert!(takes("v1.34.0", true));
    }

    #[test]
    fn a_minimum_that_is_no_version_is_named() {
        let (_root, host) = host();
        let failure = rules(&host, &settings("[trust]\nminimum-version = \"new\""), false).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        assert!(failure.what.contains("\"new\""));
    }
}
