//! Looks at what there is of a membership on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use bootstrap::bundle::Role;
use bootstrap::cluster::Stage;
use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::action::Filter;
use bootstrap::leaving::cni::ConfigFile;
use bootstrap::leaving::etcd::{MANIFEST, Stacked, stacked as member_of};
use bootstrap::leaving::facts::{Content, Facts, Kubelet};
use bootstrap::leaving::paths;
use bootstrap::leaving::traces::{self, Traces};
use bootstrap::leaving::{Left, identity, is_absent, mounts};

use super::{filters, record, runtime, unmount};
use crate::cluster;
use crate::etcd;
use crate::host::Host;
use crate::record::NodeRecord;
use crate::report;
use crate::tool::{Call, Tool};

/// A configuration larger than this is none that we know.
const MAX_TEXT: u64 = 1 << 20;
/// kubelet's client certificate: the one in use, as a link.
const CLIENT_CERTIFICATE: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// Where systemd has the link of an enabled kubelet.
pub(super) const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/kubelet.service";
/// The unit of a dedicated etcd member.
const ETCD_UNIT: &str = "/etc/systemd/system/etcd.service";

/// Everything that a leave depends on.
///
/// # Errors
/// `IO`: what is mounted is not to be found out.
pub(super) async fn gather(host: &Host) -> Result<Facts, Failure> {
    let authority = text(&host.path(traces::CLUSTER_CA));
    let begun =
        record::read(host).filter(|begun| !record::is_joined_since(host, begun) && begun.is_of(authority.as_deref()));
    let mounts = unmount::mounts(host)?;
    let kubelet_directory = real_kubelet_directory(host);
    let (stacked, unknown_member) = match stacked(host) {
        Some(Ok(stacked)) => (Some(stacked), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let mut unread = Vec::new();
    let filters = filters::saved(host, &mut unread).await;
    let mut told = async |tool: Tool, arguments: &[&str]| {
        said(tool.call(host).args(arguments), &mut unread).await.unwrap_or_default()
    };
    let nft = told(Tool::Nft, &["-j", "list", "ruleset"]).await;
    let links = told(Tool::Ip, &["-j", "-d", "link"]).await;
    let routes = vec![
        told(Tool::Ip, &["-j", "-4", "route", "show", "table", "all"]).await,
        told(Tool::Ip, &["-j", "-6", "route", "show", "table", "all"]).await,
    ];
    let sets = told(Tool::Ipset, &["list", "-n"]).await.lines().map(str::to_owned).collect();
    let mut traces = traces(host);
    traces.begun = begun.is_some();
    traces.remains = remains(&mounts, kubelet_directory.as_deref(), &filters);
    let known = begun.as_ref().and_then(|begun| begun.stacked.clone());
    let data = stacked.as_ref().or(known.as_ref()).and_then(Stacked::own_data).map(str::to_owned);
    Ok(Facts {
        node: node(host),
        authority,
        data_member: data.as_deref().and_then(|data| etcd::member_at(host, data)),
        kubelet: kubelet(host).await,
        runtime: runtime::look(host).await,
        kubeadm: Tool::Kubeadm.find(host).is_some(),
        unread,
        nft,
        links,
        routes,
        sets,
        ipvs: has_ipvs(host),
        namespaces: host.names(paths::NAMESPACES),
        cni: cni(host),
        directories: directories(host, data.as_deref()),
        files: files(host),
        kubeconfigs: kubeconfigs(host),
        cni_state: cni_state(host),
        traces,
        begun,
        stacked,
        unknown_member,
        kubelet_directory,
        mounts,
        filters,
    })
}

/// What tells of a membership, of the disk alone.
pub(super) fn traces(host: &Host) -> Traces {
    let there =
        |paths: &[&str]| paths.iter().filter(|path| is_there(host, path)).map(|path| (*path).to_owned()).collect();
    let mut signs: Vec<String> = there(&traces::SIGNS);
    let pods = host.names(traces::MANIFESTS).into_iter().filter(|name| name.ends_with(".yaml"));
    signs.extend(pods.map(|name| format!("{}/{name}", traces::MANIFESTS)));
    // A dedicated member has no kubelet; a control plane's member is a static pod, without a unit.
    let role = NodeRecord::read(host).ok().flatten().map(|record| record.role);
    let dedicated_etcd =
        signs.is_empty() && (role == Some(Role::Etcd) || (role.is_none() && is_there(host, ETCD_UNIT)));
    Traces {
        signs,
        markers: there(&traces::MARKERS),
        records: if is_recorded(host) { vec![paths::MEMBERSHIP.to_owned()] } else { Vec::new() },
        dedicated_etcd,
        ..Traces::default()
    }
}

/// Whether a run of ours saw this machine become a member. What was only begun has signs of its own.
fn is_recorded(host: &Host) -> bool {
    cluster::record::read(host).ok().flatten().is_some_and(|record| record.stage >= Stage::Member)
}

/// What only a cluster leaves, for a machine that has no file of one any more.
fn remains(mounts: &[mounts::Mount], kubelet: Option<&str>, filters: &BTreeMap<Filter, String>) -> Vec<String> {
    let mounted = mounts::of_cluster(mounts, kubelet, false).into_iter().map(|path| format!("mount {path}"));
    let chains = filters.iter().filter(|(_, saved)| saved.lines().any(|line| line.starts_with(":KUBE-")));
    mounted.chain(chains.map(|(filter, _)| format!("chains of {}", filter.as_str()))).collect()
}

/// What a program prints; nothing where it is not installed or the kernel has nothing of its kind. What else goes wrong is
/// told in `unread`.
pub(super) async fn said(call: Call, unread: &mut Vec<Left>) -> Option<String> {
    let shown = call.shown();
    match call.ok(Code::Io).await {
        Ok(said) => Some(said),
        Err(failure) if failure.code == Code::ToolMissing || is_absent(&failure.what) => {
            tracing::debug!("{failure}");
            None
        }
        Err(failure) => {
            unread.push(Left { object: format!("what {shown} tells"), why: report::chain(&failure) });
            None
        }
    }
}

fn is_there(host: &Host, path: &str) -> bool {
    fs::symlink_metadata(host.path(path)).is_ok()
}

fn text(path: &Path) -> Option<String> {
    let small = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_TEXT);
    small.then(|| fs::read_to_string(path).ok())?
}

fn node(host: &Host) -> Option<String> {
    let certificate = text(&host.path(CLIENT_CERTIFICATE)).and_then(|pem| identity::node_name(&pem));
    let recorded = || NodeRecord::read(host).ok().flatten().map(|record| record.node_name);
    let flags = || {
        let flags = text(&host.path("/var/lib/kubelet/kubeadm-flags.env"))?;
        let name = flags.split_once("--hostname-override=")?.1.split([' ', '"']).next()?.to_owned();
        (!name.is_empty()).then_some(name)
    };
    let known = certificate.or_else(flags).or_else(recorded);
    Some(known.unwrap_or_else(|| host.name().to_ascii_lowercase()))
}

async fn kubelet(host: &Host) -> Kubelet {
    // Where no systemd runs, the process tells.
    let state = match Tool::Systemctl.call(host).args(["is-active", "kubelet"]).output().await {
        Ok(said) => said.stdout.trim().to_owned(),
        Err(_) => String::new(),
    };
    let process = || unmount::processes(host).iter().any(|(_, name)| name == "kubelet");
    Kubelet {
        runs: ["active", "activating", "reloading", "deactivating"].contains(&state.as_str()) || process(),
        enabled: is_there(host, ENABLED),
    }
}

fn real_kubelet_directory(host: &Host) -> Option<String> {
    let path = host.path(paths::KUBELET);
    let link = fs::symlink_metadata(&path).ok().filter(|meta| meta.file_type().is_symlink()).is_some();
    let real = path.canonicalize().ok().filter(|real| link && real.is_dir())?;
    let below = real.strip_prefix(host.root()).ok()?;
    Some(format!("/{}", below.display()))
}

/// Services stand behind the three lines of the head.
fn has_ipvs(host: &Host) -> bool {
    let table = fs::read_to_string(host.path("/proc/net/ip_vs")).unwrap_or_default();
    table.lines().any(|line| ["TCP ", "UDP ", "SCTP ", "FWM "].iter().any(|kind| line.starts_with(kind)))
}

/// A process that lives in the named network namespace.
pub(super) fn holder(host: &Host, name: &str) -> Option<String> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let namespace = identity(&host.path(&format!("/run/netns/{name}")))?;
    let lives = |process: u32| identity(&host.path(&format!("/proc/{process}/ns/net"))) == Some(namespace);
    let found = unmount::processes(host).into_iter().find(|(process, _)| lives(*process));
    found.map(|(process, name)| format!("process {process} ({name})"))
}

fn cni(host: &Host) -> Vec<ConfigFile> {
    // kubeadm writes the authority when a node joins, and nobody writes it again.
    let changed = |path: &Path| fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok();
    let joined: Option<SystemTime> = changed(&host.path(traces::CLUSTER_CA));
    let directory = host.path(paths::CNI_CONFIG);
    let names = host.names(paths::CNI_CONFIG).into_iter();
    let file = |name: String| {
        let path = directory.join(&name);
        let after_join = joined.and_then(|joined| Some(changed(&path)? >= joined));
        ConfigFile { text: text(&path).unwrap_or_default(), name, after_join }
    };
    names.map(file).collect()
}

fn directories(host: &Host, data: Option<&str>) -> BTreeMap<String, Content> {
    let trees = paths::TREES.iter().map(|tree| (tree.path, paths::is_of_filesystem as fn(&str) -> bool));
    let data = data.map(|path| (path, paths::is_beside_member as fn(&str) -> bool));
    let there = trees.chain(data).filter_map(|(path, stays)| {
        let names = fs::read_dir(host.path(path)).ok()?;
        let mut names = names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let content = if names.any(|name| !stays(&name)) { Content::Some } else { Content::Empty };
        Some((path.to_owned(), content))
    });
    there.collect()
}

fn files(host: &Host) -> BTreeSet<String> {
    let all = paths::FILES.iter().chain(&paths::RECORDS);
    all.filter(|path| is_there(host, path)).map(|path| (*path).to_owned()).collect()
}

fn kubeconfigs(host: &Host) -> BTreeMap<String, String> {
    let there = paths::KUBECONFIGS.iter().filter_map(|path| Some(((*path).to_owned(), text(&host.path(path))?)));
    there.collect()
}

fn cni_state(host: &Host) -> BTreeMap<String, Vec<String>> {
    let sorted = |path: &str| host.names(path).into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let all = paths::CNI_STATE.iter().chain([&paths::CNI, &paths::NAMESPACES]);
    let there = all.filter(|path| fs::symlink_metadata(host.path(path)).is_ok_and(|meta| meta.is_dir()));
    there.map(|path| ((*path).to_owned(), sorted(path))).collect()
}

/// The etcd member that runs here, as its static pod tells; none where there is no such pod.
fn stacked(host: &Host) -> Option<Result<Stacked, String>> {
    if !is_there(host, MANIFEST) {
        return None;
    }
    let text = text(&host.path(MANIFEST)).ok_or("it is no small file of text");
    Some(text.map_err(str::to_owned).and_then(|text| member_of(&text)))
}
