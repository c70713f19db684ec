//! One step of a leave. Each looks at the world itself: what is so already is no failure.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::etcd::Stacked;
use bootstrap::leaving::facts::Facts;
use bootstrap::leaving::{Action, Left, mounts, paths};
use nix::mount::{MntFlags, umount2};

use super::{facts, filters, record, runtime, tree, unmount};
use crate::board::{self, Board};
use crate::host::Host;
use crate::report;
use crate::tool::{Call, Tool};

/// kubelet ends what it is at before it ends itself.
const STOPPING: Duration = Duration::from_secs(90);
/// kubeadm tries five times to remove each container.
const RESETTING: Duration = Duration::from_secs(180);

/// Does `action`; what is left of its object, and why. A mount that is busy is tried again until `deadline`.
pub(super) async fn act(host: &Host, action: &Action, facts: &Facts, deadline: Instant, board: &Board) -> Vec<Left> {
    let object = action.to_string();
    let outcome: Result<Vec<Left>, String> = match action {
        Action::StopKubelet => stop_kubelet(host).await.map(|()| Vec::new()),
        Action::RemovePods { .. } => none(runtime::remove_pods(host, board).await),
        Action::Unmount { path } => match facts.mounts.iter().rfind(|mount| mount.path == *path) {
            Some(mount) => unmount::unmount(host, mount, deadline).await.map(|()| Vec::new()),
            None => Ok(Vec::new()),
        },
        Action::ResetKubeadm => reset(host, facts).await.map(|()| Vec::new()),
        Action::KeepAside { path } => keep_aside(host, path).map(|()| Vec::new()),
        Action::RemoveTree { path, stays } => {
            remove_tree(host, path, *stays, etcd_data(facts) == Some(&path[..])).await
        }
        Action::RemoveEmpty { path } => match fs::remove_dir(host.path(path)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e.to_string()),
            _ => Ok(Vec::new()),
        },
        Action::RemoveFile { path } => Ok(tree::file(&host.path(path)).into_iter().collect()),
        Action::DeleteLink { link } if link.quiet => {
            let flushed = none(ip(host, &["address", "flush", "dev", &link.name]).await);
            flushed.and(none(ip(host, &["link", "set", &link.name, "down"]).await))
        }
        Action::DeleteLink { link } => none(ip(host, &["link", "delete", &link.name]).await),
        Action::DeleteRoute { arguments } => {
            let arguments: Vec<&str> =
                ["route", "delete"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
            none(ip(host, &arguments).await)
        }
        Action::RemoveNamespace { name } => remove_namespace(host, name).map(|()| Vec::new()),
        Action::CleanFilter { filter, text, .. } => none(filters::clean(host, *filter, text).await),
        Action::DeleteTable { table } => none(filters::delete_table(host, table).await),
        Action::ClearIpvs => none(ok(Tool::Ipvsadm.call(host).arg("--clear")).await),
        Action::DestroySet { name } => none(ok(Tool::Ipset.call(host).args(["destroy", name])).await),
        Action::RemoveImages { .. } => none(runtime::remove_images(host).await),
        Action::Forget => forget(host),
    };
    outcome.unwrap_or_else(|why| vec![Left { object, why }])
}

fn none(outcome: Result<(), Failure>) -> Result<Vec<Left>, String> {
    outcome.map(|()| Vec::new()).map_err(|failure| report::chain(&failure))
}

async fn ok(call: Call) -> Result<(), Failure> {
    call.ok(Code::LeaveIncomplete).await.map(drop)
}

async fn ip(host: &Host, arguments: &[&str]) -> Result<(), Failure> {
    match Tool::Ip.call(host).args(arguments).ok(Code::LeaveIncomplete).await {
        // It went with what it lay on.
        Err(failure) if ["Cannot find device", "No such process"].iter().any(|gone| failure.what.contains(gone)) => {
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}

async fn stop_kubelet(host: &Host) -> Result<(), String> {
    let systemctl =
        |arguments: &[&str]| Tool::Systemctl.call(host).args(arguments).patience(STOPPING).ok(Code::ServiceFailed);
    let stopped = systemctl(&["stop", "kubelet"]).await;
    if let Err(failure) = systemctl(&["disable", "kubelet"]).await {
        tracing::debug!("{failure}");
    }
    // What `systemctl disable` removes, also where no systemd runs.
    if let Some(left) = tree::file(&host.path(facts::ENABLED)) {
        return Err(left.why);
    }
    // A unit that failed again and again stays "failed" otherwise, for nothing that concerns anybody.
    let _ = systemctl(&["reset-failed", "kubelet"]).await;
    match unmount::processes(host).into_iter().find(|(_, name)| name == "kubelet") {
        None => Ok(()),
        Some((process, _)) => {
            let why = stopped.err().map(|failure| report::chain(&failure)).unwrap_or_default();
            Err(format!("process {process} (kubelet) still runs; {why}"))
        }
    }
}

/// `kubeadm reset`, where nothing is mounted below kubelet's directory any more: until Kubernetes 1.28 it removed files there
/// whether it could unmount or not. Its etcd phase removes a member's data even when the member could not be removed,
/// so that is never left to it; and nothing is asked of a cluster that the node is out of.
async fn reset(host: &Host, facts: &Facts) -> Result<(), String> {
    let now = unmount::mounts(host).map_err(|failure| report::chain(&failure))?;
    let left = [Some(paths::KUBELET), facts.kubelet_directory.as_deref()].into_iter().flatten();
    if let Some(path) = left.flat_map(|directory| mounts::below(&now, directory)).next() {
        return Err(format!("{path} is still mounted: kubeadm reset could remove what is in it"));
    }
    let arguments = ["reset", "--force", "--skip-phases", "remove-etcd-member", "--kubeconfig", "/nonexistent"];
    let call = Tool::Kubeadm.call(host).args(arguments).args(["--cri-socket", &runtime::endpoint(host)]);
    let outcome = call.patience(RESETTING).ok(Code::KubeadmFailed).await;
    // What it could not do is done by the steps that follow.
    if let Err(failure) = &outcome {
        tracing::warn!("{failure}");
    }
    record::change(host, |begun| begun.reset = true).map_err(|failure| report::chain(&failure))
}

/// Where etcd's data is, of a member that ran here.
fn etcd_data(facts: &Facts) -> Option<&str> {
    let begun = facts.begun.as_ref().and_then(|begun| begun.stacked.as_ref());
    facts.stacked.as_ref().or(begun).and_then(Stacked::own_data)
}

/// Renames a directory that may hold the only copy of something; nothing is removed. What is on a disk of its own, where a
/// mount or a link leads, is moved within that.
fn keep_aside(host: &Host, path: &str) -> Result<(), String> {
    let time = board::timestamp(Duration::ZERO).replace([':', '-'], "");
    let (from, aside) = (host.path(path), format!("{path}-left-{time}"));
    let linked = fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_symlink());
    if !linked {
        match fs::rename(&from, host.path(&aside)) {
            Err(e) if e.kind() == ErrorKind::ResourceBusy => {}
            renamed => return renamed.map_err(|e| format!("can't be moved to {aside}: {e}")),
        }
    }
    let within = format!("{}{time}", paths::ASIDE);
    move_within(&from, &within).map_err(|e| format!("can't be moved to {path}/{within}: {e}"))
}

fn move_within(directory: &Path, aside: &str) -> io::Result<()> {
    let to = directory.join(aside);
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&to)?;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !paths::is_beside_member(&name.to_string_lossy()) {
            fs::rename(directory.join(&name), to.join(&name))?;
        }
    }
    fs::File::open(&to)?.sync_all()?;
    fs::File::open(directory)?.sync_all()
}

async fn remove_tree(host: &Host, path: &str, stays: bool, of_etcd: bool) -> Result<Vec<Left>, String> {
    let now = unmount::mounts(host).map_err(|failure| report::chain(&failure))?;
    let mounted: Vec<PathBuf> = now.iter().map(|mount| unmount::full(host, &mount.path)).collect();
    let mut full = host.path(path);
    if path == paths::KUBELET || of_etcd {
        // Those that are put on another disk by a link.
        full = full.canonicalize().unwrap_or(full);
    }
    let kept = if of_etcd { paths::is_beside_member } else { paths::is_of_filesystem };
    let removed = tokio::task::spawn_blocking(move || tree::remove(&full, stays, &mounted, kept)).await;
    removed.map_err(|e| e.to_string())
}

/// As `ip netns delete` does, unless something lives in it.
fn remove_namespace(host: &Host, name: &str) -> Result<(), String> {
    if let Some(holder) = facts::holder(host, name) {
        return Err(format!("{holder} lives in it"));
    }
    let path = host.path(&format!("/run/netns/{name}"));
    // Where it is not mounted any more, only the name is left.
    let _ = umount2(&path, MntFlags::UMOUNT_NOFOLLOW);
    tree::file(&path).map_or(Ok(()), |left| Err(left.why))
}

/// That the node left is kept; the record of this leave goes last.
fn forget(host: &Host) -> Result<Vec<Left>, String> {
    if let Some(begun) = record::read(host) {
        record::leave_behind(host, &begun).map_err(|failure| report::chain(&failure))?;
    }
    let mut all = paths::RECORDS.iter().chain([&paths::BEGUN]);
    Ok(all.find_map(|path| tree::file(&host.path(path))).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_goes_aside_also_where_a_link_leads_to_its_disk() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let path = "/var/lib/etcd";
        fs::create_dir_all(host.path("/disk/member/wal")).unwrap();
        fs::create_dir_all(host.path("/disk/lost+found")).unwrap();
        fs::create_dir_all(host.path("/var/lib")).unwrap();
        std::os::unix::fs::symlink(host.path("/disk"), host.path(path)).unwrap();
        keep_aside(&host, path).unwrap();
        let names = host.names("/disk");
        let aside = names.iter().find(|name| name.starts_with(paths::ASIDE)).unwrap();
        assert!(names.len() == 2 && names.contains(&"lost+found".to_owned()), "{names:?}");
        assert_eq!(host.names(&format!("/disk/{aside}/member")), ["wal"]);
        // What was put aside stays when a later member's data goes.
        fs::create_dir_all(host.path("/disk/member/wal")).unwrap();
        let disk = host.path("/disk");
        assert_eq!(tree::remove(&disk, true, &[], paths::is_beside_member), []);
        assert_eq!(host.names("/disk").len(), 2);

        fs::create_dir_all(host.path("/var/lib/other/member")).unwrap();
        keep_aside(&host, "/var/lib/other").unwrap();
        assert!(!host.path("/var/lib/other").exists());
    }
}
