//! `cks-agent version`: what is on this machine, by asking the programs themselves.

use std::io::Write as _;

use bootstrap::bundle::MANIFEST_PATH;
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::plan::{CURRENT, LISTING_NAME, VERSIONS_DIR};
use serde::Serialize;

use crate::cli;
use crate::host::Host;
use crate::tool::Tool;

/// The versions of a node. A program that is not there is absent; one that fails says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// This program.
    pub agent: String,
    /// kubelet, with its `v`.
    pub kubelet: Option<String>,
    /// kubeadm, with its `v`.
    pub kubeadm: Option<String>,
    /// containerd, without `v`.
    pub containerd: Option<String>,
    /// etcd, without `v`.
    pub etcd: Option<String>,
    /// The bundle whose programs `/opt/bin` points to.
    pub bundle: Option<InstalledBundle>,
}

/// The bundle that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstalledBundle {
    /// Digest of the manifest (of the listing, for a stock ISO) that lies in the version directory.
    pub digest: Digest,
    /// The version directory.
    pub directory: String,
}

/// Prints the versions of the node.
///
/// # Errors
/// `ROOT_NOT_FOUND`.
pub async fn print(arguments: &cli::Version) -> Result<u8, Failure> {
    let versions = ask(&Host::new(&arguments.root)?).await;
    let text = if arguments.json {
        serde_json::to_string_pretty(&versions).unwrap_or_default() + "\n"
    } else {
        lines(&versions)
    };
    // A reader that went away is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}

/// Asks every program below `host`.
pub async fn ask(host: &Host) -> Versions {
    Versions {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        kubelet: version(host, Tool::Kubelet).await,
        kubeadm: version(host, Tool::Kubeadm).await,
        containerd: version(host, Tool::Containerd).await,
        etcd: version(host, Tool::Etcd).await,
        bundle: installed_bundle(host),
    }
}

async fn version(host: &Host, tool: Tool) -> Option<String> {
    match tool.ask_version(host).await? {
        Ok(text) => Some(parse(tool, &text).unwrap_or_else(|| format!("unknown: printed {:?}", text.trim()))),
        Err(why) => Some(format!("unknown: {why}")),
    }
}

/// The version in what a program printed.
fn parse(tool: Tool, text: &str) -> Option<String> {
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim();
    let version = match tool {
        Tool::Kubelet => line.strip_prefix("Kubernetes ")?,
        Tool::Kubeadm => line,
        Tool::Containerd => line.split_whitespace().nth(2)?.trim_start_matches('v'),
        Tool::Etcd => line.strip_prefix("etcd Version: ")?,
        _ => return None,
    };
    version.contains('.').then(|| version.to_owned())
}

/// The version directory that is current, with the digest of what it keeps.
fn installed_bundle(host: &Host) -> Option<InstalledBundle> {
    let target = std::fs::read_link(host.path(CURRENT)).ok()?;
    let directory = format!("{VERSIONS_DIR}/{}", target.to_str().filter(|name| !name.contains('/'))?);
    let record = |name| crate::files::digest(&host.path(&format!("{directory}/{name}"))).ok();
    let digest = record(MANIFEST_PATH).or_else(|| record(LISTING_NAME))?;
    Some(InstalledBundle { digest, directory })
}

/// The versions as lines for people.
#[must_use]
pub fn lines(versions: &Versions) -> String {
    let absent = || "not installed".to_owned();
    let rows = [
        ("cks-agent", Some(versions.agent.clone())),
        ("kubelet", versions.kubelet.clone()),
        ("kubeadm", versions.kubeadm.clone()),
        ("containerd", versions.containerd.clone()),
        ("etcd", versions.etcd.clone()),
        ("bundle", versions.bundle.as_ref().map(|bundle| format!("{} in {}", bundle.digest, bundle.directory))),
    ];
    rows.into_iter().map(|(name, value)| format!("{name:<11} {}\n", value.unwrap_or_else(absent))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_print() {
        let etcd =
            "etcd Version: 3.4.23\nGit SHA: Not provided (use ./build instead of go build)\nGo Version: go1.19.8\n";
        let containerd = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n";
        for (tool, text, want) in [
            (Tool::Kubelet, "Kubernetes v1.34.2\n", Some("v1.34.2")),
            (Tool::Kubeadm, "v1.34.2\n", Some("v1.34.2")),
            (Tool::Containerd, containerd, Some("1.6.20~ds1")),
            (Tool::Containerd, "containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4\n", Some("2.1.4")),
            (Tool::Etcd, etcd, Some("3.4.23")),
            (Tool::Etcd, "<html>", None),
            (Tool::Kubelet, "", None),
        ] {
            assert_eq!(parse(tool, text).as_deref(), want, "{text}");
        }
    }
}
