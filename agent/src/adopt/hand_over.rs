//! What the management server, and the scripts that it sends later, look for on a node that is ready.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};

use bootstrap::bundle::Role;
use bootstrap::failure::Failure;
use bootstrap::node_spec::{Membership, NodeSpec};

use super::{MARKER, MAX_BYTES};
use crate::files::{self, small};
use crate::host::{Host, io_failure};

/// Manifests of the bundle that the server's scripts read later: where they look, and on the first control plane node only.
const TEMPLATES: [(&str, &str, bool); 4] = [
    ("autoscaler.yaml", "/opt/autoscaler/autoscaler_tmpl.yaml", false),
    ("provider.yaml", "/opt/provider/provider.yaml", false),
    ("snapshot-crds.yaml", "/opt/csi/snapshot-crds.yaml", true),
    ("manifest.yaml", "/opt/csi/manifest.yaml", true),
];
/// Where the server's scripts keep the bundle's manifests until they are applied.
const STAGED: &str = "/tmp/k8sconfigscripts";
const ADMIN: &str = "/etc/kubernetes/admin.conf";
const KUBECONFIG: &str = "/root/.kube/config";
const PROFILE: &str = "/root/.bashrc";
const PATH_LINE: &str = "export PATH=$PATH:/opt/bin";

/// Leaves what the server looks for on a node of `spec` whose bundle is installed in the version directory `directory`.
/// Returns the paths that were written. Never made are a program `/opt/bin/deploy-provider`, which would keep the server
/// from bringing its credentials, and a unit `setup-kube-system`, which has to be inactive; `/etc/kubernetes/user.conf` is
/// the operator's.
///
/// # Errors
/// `IO`, `NO_SPACE` name the file.
pub fn hand_over(host: &Host, spec: &NodeSpec, directory: &str) -> Result<Vec<String>, Failure> {
    let mut written = leave_files(host, spec, directory)?;
    unstage(host)?;
    mark(host, spec, &mut written)?;
    Ok(written)
}

/// The same for commands of a user's CNI configuration, which run before the node is ready: they may wait for any of it, as
/// beside the server's scripts, and find the bundle's manifests where these keep them. [`hand_over`] takes the latter away.
///
/// # Errors
/// `IO`, `NO_SPACE` name the file; `IO` where somebody else has made that directory.
pub fn hand_over_to_commands(host: &Host, spec: &NodeSpec, directory: &str) -> Result<(), Failure> {
    stage_manifests(host, directory)?;
    let mut written = leave_files(host, spec, directory)?;
    mark(host, spec, &mut written)
}

/// For the server's scripts everything is done then.
fn mark(host: &Host, spec: &NodeSpec, written: &mut Vec<String>) -> Result<(), Failure> {
    if spec.role != Role::Etcd && spec.membership.is_some() && host.path("/home/cloud").is_dir() {
        put(host, MARKER, b"true\n", 0o644, written)?;
    }
    Ok(())
}

fn leave_files(host: &Host, spec: &NodeSpec, directory: &str) -> Result<Vec<String>, Failure> {
    let mut written = Vec::new();
    if spec.role == Role::Etcd {
        return Ok(written);
    }
    let first = matches!(spec.membership, Some(Membership::FirstControlPlane(_)));
    for (name, to, first_only) in TEMPLATES {
        let from = host.path(&format!("{directory}/manifests/{name}"));
        let failed = |e| io_failure("Reading", &from, e);
        if (first || !first_only)
            && let Some(bytes) = small(&from, 64 * MAX_BYTES).map_err(failed)?
        {
            put(host, to, &bytes, 0o644, &mut written)?;
        }
    }
    if spec.role == Role::ControlPlane {
        kubeconfig(host, &mut written)?;
        search_path(host, &mut written)?;
    }
    // In a container the file may be one that cannot be replaced.
    if let Err(failure) = own_name(host, &mut written) {
        tracing::warn!("{failure}");
    }
    Ok(written)
}

/// Lays the bundle's manifests out where the server's scripts keep them.
fn stage_manifests(host: &Host, directory: &str) -> Result<(), Failure> {
    let manifests = format!("{directory}/manifests");
    let staged = host.path(STAGED);
    // Everybody may write in /tmp: what others made there, maybe in this moment, is not written into. A directory of root's
    // nobody else takes away.
    match DirBuilder::new().mode(0o700).create(host.prepare(STAGED)?) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(io_failure("Making", &staged, e)),
        _ => {}
    }
    let meta = fs::symlink_metadata(&staged).map_err(|e| io_failure("Looking at", &staged, e))?;
    let is_guarded = meta.mode() & 0o022 == 0 && meta.uid() == nix::unistd::geteuid().as_raw();
    if !meta.is_dir() || !is_guarded {
        let error = io::Error::new(ErrorKind::AlreadyExists, "is not a directory that only root writes in");
        return Err(io_failure("Using", &staged, error));
    }
    for name in host.names(&manifests).iter().filter(|name| name.ends_with(".yaml")) {
        let from = host.path(&format!("{manifests}/{name}"));
        let bytes = fs::read(&from).map_err(|e| io_failure("Reading", &from, e))?;
        files::write(&host.prepare(&format!("{STAGED}/{name}"))?, &bytes, 0o644)?;
    }
    Ok(())
}

/// Removes what [`stage_manifests`], or a script of the server that broke off, left; nothing else.
fn unstage(host: &Host) -> Result<(), Failure> {
    let staged = host.path(STAGED);
    if !fs::symlink_metadata(&staged).is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    for name in host.names(STAGED).iter().filter(|name| name.ends_with(".yaml")) {
        let path = staged.join(name);
        fs::remove_file(&path).map_err(|e| io_failure("Removing", &path, e))?;
    }
    match fs::remove_dir(&staged) {
        // Somebody keeps something of their own there.
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(|e| io_failure("Removing", &staged, e)),
    }
}

/// root's kubeconfig leads to this cluster. One that does so already may have more in it, and stays.
fn kubeconfig(host: &Host, written: &mut Vec<String>) -> Result<(), Failure> {
    let read = |path: &str| {
        let path = host.path(path);
        small(&path, MAX_BYTES).map_err(|e| io_failure("Reading", &path, e))
    };
    let Some(admin) = read(ADMIN)? else { return Ok(()) };
    // A copy whose certificate was renewed since is brought up to date.
    if let Some(own) = read(KUBECONFIG)?.filter(|own| without_credentials(own) != without_credentials(&admin)) {
        if authority(&own).is_some() && authority(&own) == authority(&admin) {
            return Ok(());
        }
        // The first is the operator's; a later one is a copy that an earlier cluster left.
        let before = host.prepare(&format!("{KUBECONFIG}.before-cks"))?;
        if fs::symlink_metadata(&before).is_err() {
            files::write(&before, &own, 0o600)?;
        }
    }
    put(host, KUBECONFIG, &admin, 0o600, written)
}

/// The cluster's authority in a kubeconfig, as it stands there.
fn authority(kubeconfig: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(kubeconfig);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("certificate-authority-data:"));
    line.map(|value| value.trim().to_owned())
}

fn without_credentials(kubeconfig: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(kubeconfig);
    let lines = text.lines().filter(|line| !line.trim().starts_with("client-"));
    lines.map(str::to_owned).collect()
}

/// A shell of root finds the programs.
fn search_path(host: &Host, written: &mut Vec<String>) -> Result<(), Failure> {
    let path = host.path(PROFILE);
    let known = small(&path, MAX_BYTES).map_err(|e| io_failure("Reading", &path, e))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&known);
    if text.lines().any(|line| line.trim() == PATH_LINE) {
        return Ok(());
    }
    let mode = fs::metadata(&path).map_or(0o644, |meta| meta.mode() & 0o7777);
    put(host, PROFILE, appended(&text, PATH_LINE).as_bytes(), mode, written)
}

/// The machine knows its own name. Where it does not, `sudo` says so on standard error, and the server takes that for a
/// part of kubectl's answer.
fn own_name(host: &Host, written: &mut Vec<String>) -> Result<(), Failure> {
    let name = host.name();
    let text = |path: &str| fs::read_to_string(host.path(path)).unwrap_or_default();
    let (hosts, order) = (text("/etc/hosts"), text("/etc/nsswitch.conf"));
    let named = hosts
        .lines()
        .filter_map(|line| line.split('#').next())
        .any(|line| line.split_whitespace().skip(1).any(|word| word == name));
    let made = order
        .lines()
        .filter_map(|line| line.trim().strip_prefix("hosts:"))
        .any(|line| line.split_whitespace().any(|word| word == "myhostname" || word == "resolve"));
    if named || made || name.is_empty() {
        return Ok(());
    }
    put(host, "/etc/hosts", appended(&hosts, &format!("127.0.1.1 {name}")).as_bytes(), 0o644, written)
}

fn appended(text: &str, line: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{line}\n")
}

/// Writes a file where it is not so already.
fn put(host: &Host, path: &str, bytes: &[u8], mode: u32, written: &mut Vec<String>) -> Result<(), Failure> {
    let there = fs::read(host.path(path)).is_ok_and(|there| there == bytes);
    if !there {
        files::write(&host.prepare(path)?, bytes, mode)?;
        written.push(path.to_owned());
    }
    Ok(())
}
