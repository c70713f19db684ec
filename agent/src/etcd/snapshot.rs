//! `cks-agent etcd snapshot`: all that a member has, in a file that is whole or not there.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::etcd::answers::{self, SnapshotStatus};
use bootstrap::etcd::snapshots;
use bootstrap::failure::{Code, Failure};
use serde::Serialize;

use super::command::recorded;
use super::ctl::{Ctl, refusal};
use super::data;
use crate::board;
use crate::config;
use crate::host::{Host, io_failure};
use crate::run::{print_json, print_text};
use crate::tool::Tool;
use crate::view;

const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A snapshot that was taken.
#[derive(Debug, Serialize)]
struct Taken {
    path: PathBuf,
    #[serde(flatten)]
    status: SnapshotStatus,
    /// Older ones that were removed.
    removed: Vec<String>,
}

/// Takes a snapshot of this node's member: into `output`, or into the directory of the settings. A `scheduled` one makes
/// room for itself: of this node's snapshots in that directory, the newest stay.
pub(super) async fn take(
    host: &Host,
    settings: &config::Etcd,
    output: Option<&Path>,
    scheduled: bool,
    json: bool,
) -> Result<u8, Failure> {
    let spec = recorded(host)?;
    let directory = &settings.directory;
    let path = match output {
        Some(path) => path.to_owned(),
        None => {
            let name = snapshots::name(&spec.node_name, &board::timestamp(Duration::ZERO));
            host.prepare(&format!("{}/{name}", directory.display()))?
        }
    };
    if path.file_name().is_none() || path.is_dir() {
        return Err(Failure::new(Code::ConfigInvalid, format!("{} is no name for a file", path.display())));
    }
    let ctl = Ctl::of(host, &spec, vec![spec.client_url()]);
    let status = whole(host, &ctl, &path).await?;
    let removed = if scheduled { thin_out(host, settings, &spec.node_name)? } else { Vec::new() };
    let taken = Taken { path, status, removed };
    if json {
        print_json(&taken);
    } else {
        let Taken { path, status, removed } = &taken;
        let (hash, revision, keys) = (status.hash, status.revision, status.keys);
        let size = view::bytes(status.bytes);
        print_text(&format!("{}: {size}, revision {revision}, {keys} keys, hash {hash:08x}\n", path.display()));
        removed.iter().for_each(|name| print_text(&format!("removed {name}\n")));
    }
    Ok(0)
}

/// Writes beside, checks what was written, then renames.
async fn whole(host: &Host, ctl: &Ctl<'_>, path: &Path) -> Result<SnapshotStatus, Failure> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = path.with_file_name(format!(".{name}.cks-new"));
    // etcdctl writes beside, too, and refuses what a killed run left.
    let part = path.with_file_name(format!(".{name}.cks-new.part"));
    let clear = || [&beside, &part].into_iter().for_each(|path| drop(fs::remove_file(path)));
    clear();
    let written = async {
        // To save waits for a member that is not there, without end.
        ctl.status().await?;
        ctl.save(&beside).await?;
        let status = status_of(host, &beside).await?;
        let publish = || {
            let file = File::open(&beside)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            data::sync(path)
        };
        publish().map_err(|e| io_failure("Writing", path, e))?;
        Ok(status)
    };
    let written = written.await;
    if written.is_err() {
        clear();
    }
    written
}

/// What a snapshot holds; its bytes are checked against the digest that it ends with when it is restored.
///
/// # Errors
/// `CONTENT_INVALID`: it is no snapshot; `TOOL_MISSING`.
pub(super) async fn status_of(host: &Host, path: &Path) -> Result<SnapshotStatus, Failure> {
    let args = ["snapshot", "status", "--write-out", "json"];
    let tool = offline_tool(host);
    let call = tool.call(host).env("ETCDCTL_API", "3").args(args).arg(path).patience(PATIENCE);
    let said = call.output().await?;
    if said.code == Some(0) {
        return answers::snapshot_status(&said.stdout);
    }
    let why = refusal(tool.name(), &["snapshot", "status"], &said).what;
    Err(Failure::new(Code::ContentInvalid, format!("{} is no snapshot of etcd: {why}", path.display()))
        .with_remedy("take another snapshot: cks-agent etcd snapshot"))
}

/// What works on files: before etcd 3.5 that is etcdctl.
pub(super) fn offline_tool(host: &Host) -> Tool {
    if Tool::Etcdutl.find(host).is_some() { Tool::Etcdutl } else { Tool::Etcdctl }
}

/// What is younger may still be written: another run may be at it.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Removes this node's oldest snapshots, and what killed runs left.
fn thin_out(host: &Host, settings: &config::Etcd, node: &str) -> Result<Vec<String>, Failure> {
    let directory = settings.directory.display().to_string();
    let names = host.names(&directory);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let age =
        |name: &str| fs::metadata(host.path(&format!("{directory}/{name}"))).ok()?.modified().ok()?.elapsed().ok();
    let abandoned = |name: &str| age(name).is_some_and(|age| age >= ABANDONED);
    let left = names.iter().filter(|name| snapshots::is_unfinished(node, name) && abandoned(name));
    let old = snapshots::superfluous(node, &names, settings.snapshots);
    for name in left.chain(&old) {
        let path = host.path(&format!("{directory}/{name}"));
        fs::remove_file(&path).map_err(|e| io_failure("Removing", &path, e))?;
    }
    Ok(old.into_iter().map(str::to_owned).collect())
}
