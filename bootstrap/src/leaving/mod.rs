//! Taking a node out of its cluster: what there is of a membership, and what takes it away.
//!
//! ```text
//! Facts ──► plan ──► actions ──► (agent acts) ──► Facts … until a plan is empty, or nothing gets further
//! ```
//! The same loop makes a second run a no-op, a run after a kill a continuation, and every run its own proof.
//! Whatever another program of the machine made stays: each part is known as a cluster's by its name or content.

pub mod action;
pub mod cni;
pub mod drain;
pub mod etcd;
pub mod facts;
pub mod filter;
pub mod identity;
pub mod links;
pub mod mounts;
mod names;
pub mod nft;
pub mod node;
pub mod paths;
pub mod report;
pub mod traces;

pub use self::action::{Action, Filter};
pub use self::facts::{Begun, Facts};
pub use self::report::{Left, Report};
pub use self::traces::Standing;

use self::cni::Networks;
use self::etcd::Fate;
use self::facts::Content;

/// What the one who leaves asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Images stay in the container runtime.
    pub keep_images: bool,
}

/// What has to be done on this machine, in this order; empty when nothing of a membership is left.
#[must_use]
pub fn plan(facts: &Facts, wishes: Wishes) -> Vec<Action> {
    if facts.traces.standing() == Standing::Stranger {
        return forgotten(facts);
    }
    let networks = networks(facts);
    let keep_cni = !networks.kept_networks.is_empty();
    let mut actions = services(facts, wishes);
    actions.extend(kernel(facts, &networks, keep_cni));
    actions.extend(directories(facts, &networks));
    actions.extend(files(facts, &networks));
    // What is known of the node is needed until nothing else is left of it.
    let known = facts.traces.begun || paths::RECORDS.iter().any(|path| facts.files.contains(*path));
    if actions.is_empty() && known && facts.unread.is_empty() {
        actions.push(Action::Forget);
    }
    // Sorting is stable: mounts keep their order.
    actions.sort_by_key(Action::rank);
    actions
}

/// What a try that became nothing left in the agent's own records. They would bind the machine to that cluster and to its bundle.
fn forgotten(facts: &Facts) -> Vec<Action> {
    let there = paths::RECORDS.iter().filter(|path| facts.files.contains(**path) && !facts.traces.dedicated_etcd);
    there.map(|path| Action::RemoveFile { path: (*path).to_owned() }).collect()
}

/// Whether a program that looks into the kernel `said` that this one has nothing of its kind: any other failure tells
/// nothing about what is there.
#[must_use]
pub fn is_absent(said: &str) -> bool {
    const ABSENT: [&str; 5] = [
        "not supported",
        "Cannot open session to kernel",
        "Table does not exist",
        "Protocol wrong type for socket",
        "No such file or directory",
    ];
    ABSENT.iter().any(|part| said.contains(part))
}

/// What has to be known after a kill, before anything is changed.
#[must_use]
pub fn begin(facts: &Facts, at: &str) -> Begun {
    let networks = networks(facts);
    let earlier = facts.begun.clone().unwrap_or_default();
    Begun {
        at: if earlier.at.is_empty() { at.to_owned() } else { earlier.at },
        node: facts.node.clone().or(earlier.node),
        authority: facts.authority.clone().or(earlier.authority),
        stacked: facts.stacked.clone().or(earlier.stacked),
        networks: networks.goes.into_iter().chain(earlier.networks).collect(),
        bridges: networks.bridges.into_iter().chain(earlier.bridges).collect(),
        removing: earlier.removing,
        fate: fate(facts),
        reset: earlier.reset,
    }
}

/// What an interrupted leave made of the etcd member that runs here, or ran.
#[must_use]
pub fn fate(facts: &Facts) -> Option<Fate> {
    facts.begun.as_ref().and_then(|begun| begun.fate)
}

/// CNI configuration, with what an interrupted leave knew of it.
fn networks(facts: &Facts) -> Networks {
    let mut files = facts.cni.clone();
    if let Some(begun) = &facts.begun {
        for file in files.iter_mut().filter(|file| begun.networks.contains(&file.name)) {
            file.after_join = Some(true);
        }
    }
    let mut networks = cni::sort(&files);
    networks.bridges.extend(facts.begun.iter().flat_map(|begun| begun.bridges.iter().cloned()));
    networks
}

fn services(facts: &Facts, wishes: Wishes) -> Vec<Action> {
    let mut actions = Vec::new();
    if facts.kubelet.runs || facts.kubelet.enabled {
        actions.push(Action::StopKubelet);
    }
    let pods = facts.runtime.pods.unwrap_or(facts.runtime.tasks);
    if pods > 0 {
        actions.push(Action::RemovePods { pods });
    }
    let no_pods = pods == 0;
    let mounted = mounts::of_cluster(&facts.mounts, facts.kubelet_directory.as_deref(), no_pods).into_iter();
    actions.extend(mounted.map(|path| Action::Unmount { path }));
    // What kubeadm has to reset are its own signs; what else there is we take away ourselves.
    let done = facts.begun.as_ref().is_some_and(|begun| begun.reset);
    if facts.kubeadm && !facts.traces.signs.is_empty() && !done {
        actions.push(Action::ResetKubeadm);
    }
    if facts.runtime.images > 0 && !wishes.keep_images {
        actions.push(Action::RemoveImages { images: facts.runtime.images });
    }
    actions
}

fn kernel(facts: &Facts, networks: &Networks, keep_cni: bool) -> Vec<Action> {
    let namespaces = facts.namespaces.iter().filter(|name| names::is_pod_namespace(name));
    let mut actions: Vec<Action> = namespaces.map(|name| Action::RemoveNamespace { name: name.clone() }).collect();
    let links = links::of_cluster(&facts.links, &networks.bridges);
    let of_ipvs = |link: &links::ClusterLink| link.name == "kube-ipvs0";
    let balances = facts.ipvs && links.iter().any(of_ipvs);
    if balances {
        actions.push(Action::ClearIpvs);
    }
    // The link tells whose services these are: it stays until none is left.
    let links = links.into_iter().filter(|link| !(balances && of_ipvs(link)));
    actions.extend(links.map(|link| Action::DeleteLink { link }));
    let routes = facts.routes.iter().flat_map(|routes| links::routes_of_cluster(routes));
    actions.extend(routes.map(|arguments| Action::DeleteRoute { arguments }));
    for (filter, saved) in &facts.filters {
        if let Some(removal) = filter::removal(saved, keep_cni) {
            let filter::Removal { text, chains, rules } = removal;
            actions.push(Action::CleanFilter { filter: *filter, chains, rules, text });
        }
    }
    let tables = nft::tables(&facts.nft, keep_cni).into_iter();
    actions.extend(tables.map(|table| Action::DeleteTable { table }));
    let sets = facts.sets.iter().filter(|name| names::is_cluster_set(name));
    actions.extend(sets.map(|name| Action::DestroySet { name: name.clone() }));
    actions
}

fn directories(facts: &Facts, networks: &Networks) -> Vec<Action> {
    let mut actions = Vec::new();
    for tree in &paths::TREES {
        let mounted = facts.mounts.iter().any(|mount| mount.path == *tree.path);
        let linked = tree.path == paths::KUBELET && facts.kubelet_directory.is_some();
        let stays = tree.stays || mounted || linked;
        let goes = match facts.directories.get(tree.path) {
            Some(Content::Some) => true,
            Some(Content::Empty) => !stays,
            None => false,
        };
        if goes {
            actions.push(Action::RemoveTree { path: tree.path.to_owned(), stays });
        }
    }
    for (directory, entries) in facts.cni_state.iter().filter(|(path, _)| paths::CNI_STATE.contains(&path.as_str())) {
        let goes = entries.iter().filter(|entry| !cni::is_kept_state(entry, &networks.kept_networks));
        actions.extend(goes.map(|entry| Action::RemoveTree { path: format!("{directory}/{entry}"), stays: false }));
    }
    actions.extend(empty(facts, networks).into_iter().map(|path| Action::RemoveEmpty { path: path.to_owned() }));
    actions.extend(etcd_data(facts));
    actions
}

/// Directories that pods' networks were the first to need, and in which nothing stays.
fn empty(facts: &Facts, networks: &Networks) -> Vec<&'static str> {
    let all = |path: &str, goes: &dyn Fn(&str) -> bool| {
        let entries = facts.cni_state.get(path);
        entries.map(|entries| entries.iter().all(|entry| goes(entry)))
    };
    let state = |entry: &str| !cni::is_kept_state(entry, &networks.kept_networks);
    let [first, second] = paths::CNI_STATE;
    let below = [first, second].map(|path| all(path, &state));
    let whole =
        all(paths::CNI, &|entry| paths::CNI_KNOWN.contains(&entry)).map(|known| known && !below.contains(&Some(false)));
    let namespaces = all(paths::NAMESPACES, &names::is_pod_namespace);
    let found = [(first, below[0]), (second, below[1]), (paths::CNI, whole), (paths::NAMESPACES, namespaces)];
    let mounted = |path: &str| facts.mounts.iter().any(|mount| mount.path == *path);
    found.into_iter().filter(|(path, goes)| *goes == Some(true) && !mounted(path)).map(|(path, _)| path).collect()
}

/// The data of a member that ran here. What others hold goes; what nobody else is known to hold is moved aside.
fn etcd_data(facts: &Facts) -> Option<Action> {
    let begun = facts.begun.as_ref();
    let stacked = facts.stacked.as_ref().or(begun.and_then(|begun| begun.stacked.as_ref()))?;
    let path = stacked.own_data()?.to_owned();
    if !matches!(facts.directories.get(&path), Some(Content::Some)) {
        return None;
    }
    // Only what the member wrote that was removed: a later one may have been given the same place.
    let removed = begun.and_then(|begun| begun.removing.as_ref()).map(|removing| removing.id);
    let is_anothers = removed.zip(facts.data_member).is_some_and(|(removed, there)| removed != there);
    Some(match fate(facts) {
        Some(Fate::Removed) if !is_anothers => Action::RemoveTree { path, stays: true },
        _ => Action::KeepAside { path },
    })
}

fn files(facts: &Facts, networks: &Networks) -> Vec<Action> {
    let there = paths::FILES.iter().filter(|path| facts.files.contains(**path)).map(|path| (*path).to_owned());
    let configuration = networks.goes.iter().map(|name| format!("{}/{name}", paths::CNI_CONFIG));
    let authority = facts.authority.as_deref().or(facts.begun.as_ref().and_then(|begun| begun.authority.as_deref()));
    let kubeconfigs = facts.kubeconfigs.iter().filter(|(_, text)| identity::is_of_cluster(text, authority));
    let kubeconfigs = kubeconfigs.map(|(path, _)| path.clone());
    let told = facts.traces.markers.iter().cloned();
    let all = there.chain(configuration).chain(kubeconfigs).chain(told);
    all.map(|path| Action::RemoveFile { path }).collect()
}

#[cfg(test)]
mod tests;
