//! What belongs to every cluster, applied from the first control plane node: the pod network, the dashboard, the role
//! bindings that the stock scripts make. Each is applied again when its text changes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use bootstrap::cluster::bindings;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::cni::{CniAction, CniStep};
use bootstrap::node_spec::{Init, Network};
use bootstrap::plan::CURRENT;

use super::fleeting::Fleeting;
use crate::files;
use crate::host::{Host, io_failure};
use crate::tool::Tool;

/// What kubeadm leaves for whoever administers the cluster.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// A manifest with hundreds of objects takes a minute on a small node.
const PATIENCE: Duration = Duration::from_secs(180);
/// A user's own command, for as long as it runs.
const SCRIPT: &str = "/run/cks-agent/cni-step";
/// What is begun gets this long.
const SHORTEST: Duration = Duration::from_secs(10);
/// What a user's own command may take.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(600);

/// Something to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// For messages and records: `network.yaml`. No two parts of a cluster have one.
    name: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// Objects, as YAML.
    Objects(String),
    /// A step of the user's CNI configuration.
    Step(CniStep),
}

impl Part {
    fn objects(name: &str, text: String) -> Self {
        Self { name: name.to_owned(), what: What::Objects(text) }
    }

    /// The so many-th step: several may stand in one line, or come of one (a loop of a template).
    fn step(number: usize, step: &CniStep) -> Self {
        let name = format!("step {number} of the CNI configuration, line {}", step.line);
        Self { name, what: What::Step(step.clone()) }
    }

    fn digest(&self) -> Digest {
        match &self.what {
            What::Objects(text) => Digest::of(text.as_bytes()),
            What::Step(step) => Digest::of(format!("{step:?}").as_bytes()),
        }
    }

    fn is_applied(&self, applied: &BTreeMap<String, Digest>) -> bool {
        applied.get(&self.name) == Some(&self.digest())
    }
}

/// Everything that `init` wants applied, in order.
///
/// # Errors
/// `MEDIA_LACKS_COMPONENT` when the bundle shall bring the pod network and has none; `IO`.
pub fn wanted(host: &Host, init: &Init) -> Result<Vec<Part>, Failure> {
    let bundled = |name: &str| {
        let path = host.path(&format!("{CURRENT}/manifests/{name}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Part::objects(name, text))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_failure("Reading", &path, e)),
        }
    };
    let mut parts = Vec::new();
    match &init.network {
        Network::Bundle => parts.push(bundled("network.yaml")?.ok_or_else(no_network)?),
        Network::UserData(steps) => {
            parts.extend(steps.iter().enumerate().map(|(at, step)| Part::step(at + 1, step)));
        }
        Network::Elsewhere => {}
    }
    for name in &init.dashboards {
        if let Some(part) = bundled(name)? {
            parts.push(part);
            break;
        }
    }
    parts.push(Part::objects("role bindings", bindings::BINDINGS.to_owned()));
    Ok(parts)
}

fn no_network() -> Failure {
    let what = "the bundle shall bring the pod network, but has no network.yaml";
    let remedy = "build the ISO with a network profile, or say network: elsewhere in a cks: section";
    Failure::new(Code::MediaLacksComponent, what).with_remedy(remedy)
}

/// Whether all of `parts` was applied as it is.
#[must_use]
pub fn is_applied(parts: &[Part], applied: &BTreeMap<String, Digest>) -> bool {
    parts.iter().all(|part| part.is_applied(applied))
}

/// Applies what of `parts` was not applied yet; `done` is told of each.
///
/// # Errors
/// `API_UNREACHABLE` while the API server does not answer; `APPLY_REFUSED` and `CNI_INVALID` name the part.
pub async fn apply(
    host: &Host,
    parts: &[Part],
    applied: &BTreeMap<String, Digest>,
    left: Duration,
    mut done: impl FnMut(String, Digest) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for part in parts.iter().filter(|part| !part.is_applied(applied)) {
        match &part.what {
            What::Objects(text) => apply_text(host, &part.name, text).await?,
            What::Step(step) => carry_out(host, &part.name, step, left).await?,
        }
        tracing::info!("applied {}", part.name);
        done(part.name.clone(), part.digest())?;
    }
    Ok(())
}

async fn apply_text(host: &Host, name: &str, text: &str) -> Result<(), Failure> {
    let kubectl = |arguments: &[&str]| {
        let call = Tool::Kubectl.call(host).arg("--kubeconfig").arg(host.path(ADMIN_CONF));
        call.args(arguments).input(text).patience(PATIENCE)
    };
    let call = kubectl(&["apply", "--filename=-"]);
    let shown = call.shown();
    let said = call.output().await?;
    if said.code == Some(0) {
        return Ok(());
    }
    // What is too large for the annotation that `apply` keeps is applied by the server.
    let said = if said.stderr.contains("metadata.annotations: Too long") {
        let call = kubectl(&["apply", "--server-side", "--force-conflicts", "--filename=-"]);
        call.output().await?
    } else {
        said
    };
    if said.code == Some(0) {
        return Ok(());
    }
    let mut failure = said.failure(&shown, code_of(&said.stderr));
    failure.what = format!("applying {name}: {}", failure.what);
    Err(failure)
}

/// kubectl's words for a server that can't answer now; everything else is the text's fault.
fn code_of(words: &str) -> Code {
    let passing = [
        "connection refused",
        "Unable to connect",
        "was refused",
        "i/o timeout",
        "TLS handshake timeout",
        "EOF",
        "no matches for kind",
        "failed calling webhook",
        "etcdserver:",
        "ServiceUnavailable",
        "the server is currently unable",
        "context deadline exceeded",
        "http2:",
    ];
    if passing.iter().any(|word| words.contains(word)) { Code::ApiUnreachable } else { Code::ApplyRefused }
}

/// One step of the user's own.
async fn carry_out(host: &Host, name: &str, step: &CniStep, left: Duration) -> Result<(), Failure> {
    let script = match &step.action {
        CniAction::Objects { text } => return apply_text(host, name, text).await,
        CniAction::File { path, mode, content } => {
            return files::write(&host.prepare(path)?, content.as_bytes(), *mode);
        }
        CniAction::Shell { command } => command.clone(),
        CniAction::Program { words } => {
            format!("exec {}", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
        }
    };
    // A user's command may hold a password, and everybody sees arguments: cloud-init keeps it in a file, too.
    let path = host.prepare(SCRIPT)?;
    let file = Fleeting::write(&path, format!("{script}\n").as_bytes())?;
    let call = Tool::Shell
        .call(host)
        .arg(&path)
        .env("KUBECONFIG", host.path(ADMIN_CONF))
        .patience(left.clamp(SHORTEST, SCRIPT_PATIENCE));
    let said = call.output().await;
    drop(file);
    let said = said.map_err(|failure| Failure { what: format!("{name} did not end: {}", failure.what), ..failure })?;
    if said.code == Some(0) {
        return Ok(());
    }
    let code = match code_of(&said.stderr) {
        Code::ApiUnreachable => Code::ApiUnreachable,
        _ => Code::CniInvalid,
    };
    Err(said.failure(name, code))
}

/// A word as the shell takes it for one.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_in_this_text_is_not_applied_again() {
        let part = |text: &str| Part::objects("network.yaml", text.to_owned());
        let applied = BTreeMap::from([("network.yaml".to_owned(), part("a").digest())]);
        assert!(is_applied(&[part("a")], &applied));
        assert!(!is_applied(&[part("b")], &applied));
    }

    #[test]
    fn steps_of_one_line_are_told_apart() {
        let step = |command: &str| CniStep { line: 3, action: CniAction::Shell { command: command.to_owned() } };
        let init = Init { network: Network::UserData(vec![step("a"), step("b"), step("a")]), ..Init::default() };
        let parts = wanted(&Host::new("/".as_ref()).unwrap(), &init).unwrap();
        let applied: BTreeMap<String, Digest> = parts.iter().map(|part| (part.name.clone(), part.digest())).collect();
        assert_eq!((applied.len(), is_applied(&parts, &applied)), (4, true));
    }

    #[test]
    fn a_bundle_without_the_network_that_it_shall_bring_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert_eq!(wanted(&host, &Init::default()).unwrap_err().code, Code::MediaLacksComponent);
        files::write(&host.prepare("/opt/cks/current/manifests/network.yaml").unwrap(), b"kind: List\n", 0o644)
            .unwrap();
        assert_eq!(wanted(&host, &Init::default()).unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_user_s_step_is_named_by_its_line_and_seen_by_nobody() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        std::os::unix::fs::symlink("/bin/sh", host.prepare("/bin/sh").unwrap()).unwrap();
        let run = async |action| carry_out(&host, "step 1", &CniStep { line: 7, action }, SCRIPT_PATIENCE).await;
        run(CniAction::Program { words: ["test", "a b'c", "=", "a b'c"].map(str::to_owned).to_vec() }).await.unwrap();
        let seen = "tr '\\0' ' ' </proc/$$/cmdline | grep -q hunter2 && exit 9; echo no such thing >&2; exit 3";
        let failure = run(CniAction::Shell { command: seen.to_owned() }).await.unwrap_err();
        assert_eq!((failure.code, failure.what.as_str()), (Code::CniInvalid, "step 1 ended with 3: no such thing"));
        assert!(!host.path(SCRIPT).exists());
    }
}
