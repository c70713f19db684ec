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

use crate::files;
use crate::host::Host;
use crate::tool::Tool;

/// What kubeadm leaves for whoever administers the cluster.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// A manifest with hundreds of objects takes a minute on a small node.
const PATIENCE: Duration = Duration::from_secs(180);
/// What a user's own command may take.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(600);

/// Something to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Objects.
    Objects {
        /// For messages and records: `network.yaml`.
        name: String,
        /// The YAML.
        text: String,
    },
    /// A step of the user's CNI configuration.
    Step(CniStep),
}

impl Part {
    fn name(&self) -> String {
        match self {
            Self::Objects { name, .. } => name.clone(),
            Self::Step(step) => format!("CNI configuration, line {}", step.line),
        }
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Objects { text, .. } => Digest::of(text.as_bytes()),
            Self::Step(step) => Digest::of(&serde_json::to_vec(step).unwrap_or_default()),
        }
    }
}

/// Everything that `init` wants applied, in order.
#[must_use]
pub fn wanted(host: &Host, init: &Init) -> Vec<Part> {
    let mut parts = Vec::new();
    let bundled = |name: &str| {
        let text = fs::read_to_string(host.path(&format!("{CURRENT}/manifests/{name}"))).ok()?;
        Some(Part::Objects { name: name.to_owned(), text })
    };
    match &init.network {
        Network::Bundle => parts.extend(bundled("network.yaml")),
        Network::UserData(steps) => parts.extend(steps.iter().cloned().map(Part::Step)),
        Network::Elsewhere => {}
    }
    parts.extend(init.dashboards.iter().find_map(|name| bundled(name)));
    parts.push(Part::Objects { name: "role bindings".to_owned(), text: bindings::BINDINGS.to_owned() });
    parts
}

/// Whether all of `parts` was applied as it is.
#[must_use]
pub fn is_applied(parts: &[Part], applied: &BTreeMap<String, Digest>) -> bool {
    parts.iter().all(|part| applied.get(&part.name()) == Some(&part.digest()))
}

/// Applies what of `parts` was not applied yet; `done` is told of each.
///
/// # Errors
/// `API_UNREACHABLE` while the API server does not answer; `APPLY_REFUSED` and `CNI_INVALID` name the part.
pub async fn apply(
    host: &Host,
    parts: &[Part],
    applied: &BTreeMap<String, Digest>,
    mut done: impl FnMut(String, Digest) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for part in parts {
        if applied.get(&part.name()) == Some(&part.digest()) {
            continue;
        }
        match part {
            Part::Objects { name, text } => apply_text(host, name, text).await?,
            Part::Step(step) => carry_out(host, step).await?,
        }
        tracing::info!("applied {}", part.name());
        done(part.name(), part.digest())?;
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
async fn carry_out(host: &Host, step: &CniStep) -> Result<(), Failure> {
    let call = match &step.action {
        CniAction::Objects { text } => {
            return apply_text(host, &format!("the CNI configuration, line {}", step.line), text).await;
        }
        CniAction::File { path, mode, content } => {
            return files::write(&host.prepare(path)?, content.as_bytes(), *mode);
        }
        CniAction::Shell { command } => Tool::Shell.call(host).args(["-c", command]),
        // By the shell all the same: the user's program may be any.
        CniAction::Program { words } => Tool::Shell.call(host).args(["-c", "exec \"$@\"", "sh"]).args(words),
    };
    let call = call.env("KUBECONFIG", host.path(ADMIN_CONF)).patience(SCRIPT_PATIENCE);
    let said = call.output().await?;
    if said.code == Some(0) {
        return Ok(());
    }
    let code = match code_of(&said.stderr) {
        Code::ApiUnreachable => Code::ApiUnreachable,
        _ => Code::CniInvalid,
    };
    Err(said.failure(&format!("line {} of the CNI configuration", step.line), code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_in_this_text_is_not_applied_again() {
        let part = |text: &str| Part::Objects { name: "network.yaml".to_owned(), text: text.to_owned() };
        let applied = BTreeMap::from([(part("a").name(), part("a").digest())]);
        assert!(is_applied(&[part("a")], &applied));
        assert!(!is_applied(&[part("b")], &applied));
    }

    #[tokio::test]
    async fn a_user_s_step_is_named_by_its_line() {
        let host = Host::new("/".as_ref()).unwrap();
        let step = |action| CniStep { line: 7, action };
        let good = step(CniAction::Program { words: vec!["test".to_owned(), "-n".to_owned(), "a b".to_owned()] });
        carry_out(&host, &good).await.unwrap();
        let bad = step(CniAction::Shell { command: "echo no such thing >&2; exit 3".to_owned() });
        let failure = carry_out(&host, &bad).await.unwrap_err();
        assert_eq!(failure.code, Code::CniInvalid);
        assert_eq!(failure.what, "line 7 of the CNI configuration ended with 3: no such thing");
    }
}
