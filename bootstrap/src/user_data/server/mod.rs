//! The management server's user data, recognised by what its scripts say: what they are called, and what they call. Their
//! wording changes from release to release, and operators change it too (4.21 and later).

mod etcd;
mod registry;
mod release;

use std::net::IpAddr;

use serde::Serialize;

pub(super) use self::etcd::Etcd;
pub use self::release::Release;
use super::cloud_config::{CloudConfig, WriteFile};
use super::kubeadm::{self, Call};
use super::place::{Findings, Place};
use super::yaml::Node;
use super::{placeholder, refused_at, shell, unfilled};
use crate::adoption::File;
use crate::failure::Failure;
use crate::node_spec::{Init, Join, Registry};
use crate::text::plain;

/// The scripts whose work is done otherwise. Their names and their answers stay.
pub const SCRIPTS: [&str; 4] = [
    "/opt/bin/setup-kube-system",
    "/opt/bin/deploy-kube-system",
    "/opt/bin/setup-etcd-node",
    "/opt/bin/setup-containerd",
];

/// The server's unit of a dedicated etcd member.
pub const ETCD_UNIT: &str = "/etc/systemd/system/etcd.service";

/// The dashboards of an ISO.
pub(super) const DASHBOARDS: [&str; 2] = ["dashboard.yaml", "headlamp.yaml"];

const KUBEADM_CONFIG: &str = "/etc/kubernetes/kubeadm-config.yaml";

/// What the server's authority signed for the node; nothing of Kubernetes uses it.
const CLOUDSTACK_PKI: &str = "/etc/kubernetes/pki/cloudstack/";

/// Files that the server writes besides, and that stay as they are.
const KEPT: [&str; 3] = ["/etc/conf.d/nfs", "/etc/systemd/system/setup-kube-system.service", KUBEADM_CONFIG];

/// A wait that no server prescribes, in seconds; a slip of the pen keeps no node for ever.
const LONGEST_WAIT: u64 = 7 * 24 * 3600;

/// What the server's text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) release: Release,
    pub(super) task: Task,
    pub(super) node: Prescribed,
    /// Its scripts that are there, and etcd's unit.
    pub(super) scripts: Vec<String>,
    /// What those scripts say.
    pub(super) texts: Vec<(File, String)>,
    /// Its other files.
    pub(super) kept: Vec<String>,
}

/// What the node is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Init(Box<Init>),
    JoinControlPlane(Join),
    JoinWorker(Join),
    Etcd(Etcd),
}

/// What is prescribed besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prescribed {
    pub(super) router: Option<IpAddr>,
    pub(super) eject: bool,
    pub(super) wait_seconds: Option<u64>,
    pub(super) registry: Option<Registry>,
    /// Whether somebody else brings the pod network; older releases don't say.
    pub(super) external_cni: Option<bool>,
    /// Manifests of the bundle of which the first that is there is applied.
    pub(super) dashboards: Vec<String>,
}

/// A script of the server's and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Script {
    /// Its path on the node.
    pub path: String,
    /// Where it stands in user data.
    pub at: Place,
}

/// Recognises the server's text in a guarded cloud-config; none where it is somebody else's.
///
/// # Errors
/// `USER_DATA_INVALID`: it is the server's, and lacks what a node needs.
pub(super) fn recognise(config: &CloudConfig, part: Place, findings: &mut Findings) -> Result<Option<Server>, Failure> {
    let mut files = config.files();
    files.extend(units(config));
    let script = |path: &str| files.iter().rfind(|file| file.path == path);
    let (setup, deploy) = (script(SCRIPTS[0]), script(SCRIPTS[1]));
    let etcd_node = script(SCRIPTS[2]);
    let reader = Reader { part, files: &files };
    let task = match (etcd_node, deploy.or(setup)) {
        (Some(_), _) => reader.etcd(findings)?,
        (None, Some(_)) => reader.kubeadm(findings)?,
        (None, None) => return Ok(None),
    };
    let Some(task) = task else { return Ok(None) };
    let known = |file: &&WriteFile| SCRIPTS.contains(&file.path.as_str());
    let said: String = files.iter().filter(known).map(|file| file.content.as_str()).collect();
    let texts = SCRIPTS.iter().filter_map(|path| {
        let file = File::ALL.into_iter().find(|file| file.path() == *path)?;
        Some((file, placeholder::written(&script(path)?.content)))
    });
    let texts = texts.collect();
    let taken = |file: &&WriteFile| {
        known(file) || file.path == File::DeployUnit.path() || (etcd_node.is_some() && file.path == ETCD_UNIT)
    };
    let scripts = files.iter().filter(taken).map(|file| file.path.clone()).collect();
    let node = reader.prescribed(findings)?;
    Ok(Some(Server { release: Release::of(&said), task, node, scripts, texts, kept: reader.kept(findings) }))
}

/// Units of CoreOS's cloud-config, by the path that they get.
fn units(config: &CloudConfig) -> Vec<WriteFile> {
    let units = config.get("coreos").and_then(|entry| entry.value.get("units")).and_then(Node::list);
    let unit = |node: &Node| {
        let content = node.get("content")?;
        Some(WriteFile {
            path: format!("/etc/systemd/system/{}", node.get("name")?.text()?),
            line: node.line,
            content: content.text()?.to_owned(),
            content_line: content.first_line(),
            mode: None,
            owner: None,
            append: false,
            other: Vec::new(),
        })
    };
    units.unwrap_or_default().iter().filter_map(unit).collect()
}

struct Reader<'a> {
    part: Place,
    files: &'a [WriteFile],
}

impl Reader<'_> {
    /// The calls of kubeadm in the server's scripts, with what each does.
    fn calls(&self, verb: &str) -> Vec<Call> {
        let scripts = self.files.iter().filter(|file| SCRIPTS[..2].contains(&file.path.as_str()));
        let calls = scripts.flat_map(|file| {
            let lines = shell::lines(&file.content);
            let call = |line: &shell::Line| {
                let words = shell::arguments_of(line, "kubeadm", Some(verb))?;
                Some(Call::parse(words, self.part.at(file.content_line + line.number - 1)))
            };
            lines.iter().filter_map(call).collect::<Vec<_>>()
        });
        calls.collect()
    }

    /// What the server's scripts assign to `name`, the first one that is more than nothing; a placeholder counts.
    fn assigned(&self, name: &str) -> Vec<(Place, String)> {
        let scripts = self.files.iter().filter(|file| SCRIPTS.contains(&file.path.as_str()));
        let all = scripts.flat_map(|file| {
            let found = shell::assignments(&shell::lines(&file.content), name);
            found.into_iter().map(|(line, value)| (self.part.at(file.content_line + line - 1), value))
        });
        all.collect()
    }

    fn kubeadm(&self, findings: &mut Findings) -> Result<Option<Task>, Failure> {
        let joins = self.calls("join");
        if let Some(call) = joins.first() {
            let join = call.join(findings)?;
            return Ok(Some(match call.is_control_plane() {
                true => Task::JoinControlPlane(join),
                false => Task::JoinWorker(join),
            }));
        }
        let inits = self.calls("init");
        let external = self.flag("EXTERNAL_ETCD_NODES", findings).unwrap_or_default();
        let named = |call: &&Call| call.get("config").is_some();
        let call = match external {
            true => inits.iter().find(named).or_else(|| inits.first()),
            false => inits.iter().find(|call| !named(call)).or_else(|| inits.first()),
        };
        let Some(call) = call else { return Ok(None) };
        let Some(path) = call.get("config") else {
            return Ok(Some(Task::Init(Box::new(call.init(findings)?))));
        };
        let file = self.files.iter().rfind(|file| file.path == path).ok_or_else(|| {
            refused_at(call.place, format!("kubeadm init reads {}, which the user data does not write", plain(path)))
        })?;
        let place = self.part.at(file.content_line);
        let init = kubeadm::config(&file.content, place, call, findings)?;
        if external && init.etcd.is_none() {
            return Err(refused_at(
                place,
                "etcd.external.endpoints is empty, though the cluster has dedicated etcd nodes",
            ));
        }
        Ok(Some(Task::Init(Box::new(init))))
    }

    fn etcd(&self, findings: &mut Findings) -> Result<Option<Task>, Failure> {
        let unit = self.files.iter().rfind(|file| file.path == ETCD_UNIT);
        let Some(unit) = unit else {
            return Err(refused_at(self.part.at(0), format!("the user data sets up an etcd node without {ETCD_UNIT}")));
        };
        Ok(etcd::etcd(&unit.content, self.part.at(unit.content_line), findings)?.map(Task::Etcd))
    }

    /// `NAME=true` or `NAME=false`.
    fn flag(&self, name: &str, findings: &mut Findings) -> Option<bool> {
        let (at, value) = self.assigned(name).into_iter().next()?;
        match value.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let why = match placeholder::first(other) {
                    Some(token) => unfilled("the value", token),
                    None => "it is neither true nor false".to_owned(),
                };
                findings.ignore(at, name, why);
                None
            }
        }
    }

    /// A number that is more than 0: the server's, or else the script's own.
    fn number(&self, name: &str, findings: &mut Findings) -> Option<u64> {
        let values = self.assigned(name);
        for (at, value) in &values {
            if let Some(token) = placeholder::first(value) {
                findings.ignore(*at, name, unfilled("the value", token));
            }
        }
        values.iter().find_map(|(_, value)| value.parse().ok().filter(|number| *number > 0))
    }

    fn prescribed(&self, findings: &mut Findings) -> Result<Prescribed, Failure> {
        let pause = self.number("OFFLINE_INSTALL_ATTEMPT_SLEEP", findings);
        let attempts = self.number("MAX_OFFLINE_INSTALL_ATTEMPTS", findings);
        let wait_seconds =
            pause.zip(attempts).map(|(pause, attempts)| pause.saturating_mul(attempts).min(LONGEST_WAIT));
        let mut router = None;
        if let Some((at, value)) = self.assigned("ROUTER_IP").into_iter().next().filter(|(_, value)| !value.is_empty())
        {
            router = value.parse().ok();
            if router.is_none() {
                let why = match placeholder::first(&value) {
                    Some(token) => unfilled("the value", token),
                    None => format!("{:?} is no address", plain(&value)),
                };
                findings.ignore(at, "ROUTER_IP", why);
            }
        }
        let containerd = self.files.iter().rfind(|file| file.path == SCRIPTS[3]);
        Ok(Prescribed {
            router,
            eject: self.flag("EJECT_ISO_FROM_OS", findings).unwrap_or_default(),
            wait_seconds,
            registry: containerd.and_then(|file| registry::registry(&file.content)),
            external_cni: self.flag("EXTERNAL_CNI_PLUGIN", findings),
            dashboards: self.dashboards(),
        })
    }

    /// The dashboards that the scripts apply, in the order in which they look for them.
    fn dashboards(&self) -> Vec<String> {
        let deploy = self.files.iter().rfind(|file| file.path == SCRIPTS[1]);
        let Some(script) = deploy.map(|file| file.content.as_str()) else { return Vec::new() };
        // A web address at the end of the script is for machines without a disc.
        let found = |name: &str| script.find(&format!("/{name}"));
        let mut named: Vec<(usize, &str)> =
            DASHBOARDS.into_iter().filter_map(|name| Some((found(name)?, name))).collect();
        named.sort_unstable();
        named.into_iter().map(|(_, name)| name.to_owned()).collect()
    }

    /// The server's files that stay as they are; others are named.
    fn kept(&self, findings: &mut Findings) -> Vec<String> {
        let mut kept = Vec::new();
        let taken = |path: &str| SCRIPTS.contains(&path) || path == ETCD_UNIT || path == File::DeployUnit.path();
        for file in self.files.iter().filter(|file| !taken(&file.path)) {
            kept.push(file.path.clone());
            if !KEPT.contains(&file.path.as_str()) && !file.path.starts_with(CLOUDSTACK_PKI) {
                findings.ignore(
                    self.part.at(file.line),
                    plain(&file.path),
                    "not a file of the management server; it stays",
                );
            }
        }
        kept
    }
}

/// Whether a text holds scripts of the server's, before anything of it is read.
pub(super) fn is_likely(text: &str) -> bool {
    SCRIPTS[..3].iter().any(|path| text.contains(path))
}

/// Whether the server's own certificates are among its files.
pub(super) fn has_certificates(server: &Server) -> bool {
    server.kept.iter().any(|path| path.starts_with(CLOUDSTACK_PKI))
}
