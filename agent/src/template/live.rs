//! What a machine that runs says of itself.

use std::collections::BTreeSet;

use bootstrap::failure::Failure;
use bootstrap::preflight::read;
use bootstrap::template::{LOGIN, Live};
use nix::sys::statvfs::statvfs;

use super::facts::text;
use crate::host::Host;
use crate::preflight::modules;
use crate::tool::Tool;

/// Everything that only a machine that runs tells.
pub(super) async fn look(host: &Host) -> Live {
    let room = statvfs(host.root()).ok();
    let bytes = |blocks: u64, unit: u64| blocks.saturating_mul(unit);
    Live {
        cgroup_v2: host.path("/sys/fs/cgroup/cgroup.controllers").exists(),
        processors: std::thread::available_parallelism().ok().map(usize::from),
        memory: text(host, "/proc/meminfo").as_deref().and_then(read::memory),
        disk: room.map(|room| {
            let unit = room.fragment_size();
            (bytes(room.blocks(), unit), bytes(room.blocks_available(), unit))
        }),
        swaps: text(host, "/proc/swaps").as_deref().map(read::swaps).unwrap_or_default(),
        containerd: containerd(host).await,
        sudo: sudo(host).await,
        missing_modules: missing_modules(host).await,
        forwards: text(host, "/proc/sys/net/ipv4/ip_forward").map(|value| value.trim().to_owned()),
    }
}

/// Asked as the server's scripts ask it.
async fn containerd(host: &Host) -> Option<String> {
    match Tool::Ctr.call(host).args(["--namespace", "k8s.io", "images", "ls", "-q"]).output().await {
        Ok(said) if said.code == Some(0) => None,
        Ok(said) => Some(said.failure("ctr", bootstrap::failure::Code::ContainerdUnavailable).what),
        Err(failure) => Some(failure.what),
    }
}

/// What the login user hears of sudo, where it is not silent.
async fn sudo(host: &Host) -> Option<String> {
    let said: Result<_, Failure> =
        Tool::Runuser.call(host).args(["-u", LOGIN, "--", "sudo", "-n", "true"]).output().await;
    match said {
        Ok(said) if said.code == Some(0) && said.stderr.trim().is_empty() && said.stdout.trim().is_empty() => None,
        Ok(said) => Some(format!("{}{}", said.stdout, said.stderr).trim().to_owned()),
        Err(failure) => Some(failure.what),
    }
}

async fn missing_modules(host: &Host) -> Vec<String> {
    let there: BTreeSet<String> = modules(host).unwrap_or_default();
    let mut missing = Vec::new();
    for module in bootstrap::template::modules_used().filter(|module| !there.contains(*module)) {
        let loadable = Tool::Modprobe.call(host).args(["--dry-run", "--quiet", module]).output().await;
        if !loadable.is_ok_and(|said| said.code == Some(0)) {
            missing.push(module.to_owned());
        }
    }
    missing
}
