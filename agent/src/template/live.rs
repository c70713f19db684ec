//! What a machine that runs says of itself.

use std::collections::BTreeSet;
use std::time::Duration;

use bootstrap::bundle::Role;
use bootstrap::failure::Failure;
use bootstrap::node_spec::NodeSpec;
use bootstrap::preflight::{Finding, Subject, examine, read};
use bootstrap::render::kubeadm::Arguments;
use bootstrap::template::{LOGIN, Live};
use bootstrap::version::Version;
use nix::sys::statvfs::statvfs;

use super::facts::text;
use crate::board::Board;
use crate::cluster::record;
use crate::host::Host;
use crate::member;
use crate::preflight::{self, Looking, modules};
use crate::tool::Tool;

/// The first release whose kubelet refuses cgroup v1: a template is to serve it, too.
const RELEASE: &str = "v1.35.0";
/// A name that the machine's resolver has to be asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that only a machine that runs tells, which is to become a node of this role.
pub(super) async fn look(host: &Host, role: Role) -> Live {
    let room = statvfs(host.root()).ok();
    let bytes = |blocks: u64, unit: u64| blocks.saturating_mul(unit);
    Live {
        findings: findings(host, role).await,
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

/// What a join would find before it begins. A machine that can't even be a node for its name says so by another item.
async fn findings(host: &Host, role: Role) -> Vec<Finding> {
    let named = NodeSpec::new(role, &host.name(), None, None);
    let Ok(spec) = named.or_else(|_| NodeSpec::new(role, "unnamed", None, None)) else { return Vec::new() };
    let (version, arguments) = (Version::parse(RELEASE), Arguments::default());
    let subject = Subject {
        spec: &spec,
        version: version.as_ref().filter(|_| role != Role::Etcd),
        arguments: &arguments,
        sysctl: "",
        begun: record::read(host).is_ok_and(|record| record.is_some()) || member::is_one(host),
    };
    let looking = Looking { subject, reference: None, skipped: Vec::new(), patience: PATIENCE };
    let seen = preflight::gather(host, &Board::new(role), &looking).await;
    examine(&looking.subject, &seen)
}

/// Asked as the server's scripts ask it; by itself, ctr waits 10 s for a socket that is not there.
async fn containerd(host: &Host) -> Option<String> {
    match Tool::Ctr
        .call(host)
        .args(["--connect-timeout", "3s", "--namespace", "k8s.io", "images", "ls", "-q"])
        .output()
        .await
    {
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
