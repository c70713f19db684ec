//! The files of the runtime that no plan shows.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::Failure;
use bootstrap::render::containerd::{CERTIFICATES, CREDENTIALS, File, PROXY, SERVICE_DROP_IN, is_ours};

use crate::files;
use crate::host::{Host, io_failure};

/// More than any text of ours.
const MAX_BYTES: u64 = 1 << 20;

/// Writes what is not so yet, removes what an earlier wish left, and tells how many files that were.
pub(super) fn bring_about(host: &Host, wanted: &[File]) -> Result<usize, Failure> {
    let mut changed = 0;
    for file in wanted {
        let path = host.path(&file.path);
        if read(&path).as_deref() != Some(file.text.reveal()) || mode(&path) != Some(file.mode) {
            files::write(&host.prepare(&file.path)?, file.text.reveal().as_bytes(), file.mode)?;
            changed += 1;
        }
    }
    for path in left_over(host, wanted) {
        fs::remove_file(&path).map_err(|e| io_failure("Removing", &path, e))?;
        // Only an empty directory goes; anything else of somebody's keeps it.
        if let Some(directory) = path.parent().filter(|directory| directory.starts_with(host.path(CERTIFICATES))) {
            let _ = fs::remove_dir(directory);
        }
        changed += 1;
    }
    Ok(changed)
}

/// Files of ours that nobody wants any more. A registry's certificates go with its `hosts.toml`, that file last: it is
/// what tells that they are ours.
fn left_over(host: &Host, wanted: &[File]) -> Vec<PathBuf> {
    let is_wanted = |path: &PathBuf| wanted.iter().any(|file| host.path(&file.path) == *path);
    let mut left: Vec<PathBuf> = [CREDENTIALS, PROXY].map(|path| host.path(path)).to_vec();
    left.retain(|path| read(path).is_some_and(|text| is_ours(&text)));
    for name in host.names(CERTIFICATES) {
        let directory = host.path(&format!("{CERTIFICATES}/{name}"));
        let hosts = directory.join("hosts.toml");
        if read(&hosts).is_some_and(|text| is_ours(&text)) {
            let certificates = ["cks-client-key.pem", "cks-client.pem", "cks-ca.pem"].map(|name| directory.join(name));
            left.extend(certificates.into_iter().filter(|path| path.symlink_metadata().is_ok()));
            left.push(hosts);
        }
    }
    left.retain(|path| !is_wanted(path));
    left
}

/// Digest of all that containerd reads when it starts, and of how it is started. `hosts.toml` is read at each pull.
pub(super) fn digest_of_inputs(host: &Host, dump: &str) -> Digest {
    let mut hasher = Hasher::default();
    // containerd 1.x lists the files that it read in another order each time.
    for line in dump.lines().filter(|line| !line.starts_with("imports = ")) {
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
    }
    for path in [PROXY, SERVICE_DROP_IN] {
        let bytes = fs::read(host.path(path)).unwrap_or_default();
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finish()
}

/// What may have changed since a containerd was started.
pub(super) fn inputs(host: &Host) -> Vec<PathBuf> {
    use bootstrap::render::containerd::{CONFIG, MAIN};
    let directory = "/etc/containerd/conf.d";
    let drop_ins = host.names(directory).into_iter().map(|name| format!("{directory}/{name}"));
    let fixed = [CONFIG, MAIN, PROXY, SERVICE_DROP_IN, directory].map(str::to_owned);
    fixed.into_iter().chain(drop_ins).map(|path| host.path(&path)).collect()
}

fn read(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    if meta.is_file() && meta.len() <= MAX_BYTES { fs::read_to_string(path).ok() } else { None }
}

fn mode(path: &Path) -> Option<u32> {
    let meta = fs::symlink_metadata(path).ok()?;
    (meta.uid() == nix::unistd::geteuid().as_raw()).then_some(meta.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use bootstrap::node_spec::{Registry, Runtime};
    use bootstrap::render::containerd::{Format, files};
    use bootstrap::render::kubeadm::CgroupDriver;
    use bootstrap::secret::Secret;

    use super::*;

    fn runtime(hosts: &[&str], password: bool) -> Runtime {
        let registry = |host: &&str| Registry {
            host: (*host).to_owned(),
            authority: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
            username: password.then(|| "u".to_owned()),
            password: password.then(|| Secret::new("p")),
            ..Registry::default()
        };
        Runtime { registries: hosts.iter().map(registry).collect(), proxy: None }
    }

    #[test]
    fn what_is_wanted_is_there_and_what_is_not_goes() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let bring = |runtime: &Runtime| {
            bring_about(&host, &files(Format::V2, None, CgroupDriver::Systemd, runtime).unwrap()).unwrap()
        };
        let foreign = host.prepare(&format!("{CERTIFICATES}/c.example/hosts.toml")).unwrap();
        fs::write(&foreign, "server = \"https://c.example\"\n").unwrap();
        assert_eq!(bring(&runtime(&["a.example", "b.example"], true)), 5);
        assert_eq!(bring(&runtime(&["a.example", "b.example"], true)), 0);
        let credentials = host.path(CREDENTIALS);
        assert_eq!(mode(&credentials), Some(0o600));
        fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(bring(&runtime(&["a.example", "b.example"], true)), 1);
        assert_eq!(mode(&credentials), Some(0o600));
        assert_eq!(bring(&runtime(&["a.example"], false)), 3, "b's two files, and the passwords");
        let mut names = host.names(CERTIFICATES);
        names.sort();
        assert_eq!(names, ["a.example", "c.example"]);
        assert!(foreign.exists() && !credentials.exists());
    }

    #[test]
    fn the_digest_knows_all_but_an_order() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let digest = |dump| digest_of_inputs(&host, dump);
        assert_eq!(digest("imports = [\"a\", \"b\"]\nx = 1\n"), digest("imports = [\"b\", \"a\"]\nx = 1\n"));
        let before = digest("x = 1\n");
        assert_ne!(before, digest("x = 2\n"));
        fs::write(host.prepare(PROXY).unwrap(), "HTTP_PROXY=x\n").unwrap();
        assert_ne!(before, digest("x = 1\n"));
    }
}
