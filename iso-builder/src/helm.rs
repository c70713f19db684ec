//! Helm charts become Kubernetes manifests by the user's own helm: the one program that cks-iso starts.

use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;

use bootstrap::failure::{Code, Failure};

use crate::content::failed;
use crate::spec::Chart;

/// The manifest that `helm template` makes of the chart at `archive`, for Kubernetes `version` (with or
/// without `v`) where it is known.
///
/// # Errors
/// `CONFIG_INVALID` when there is no helm, `CONTENT_INVALID` with what helm says.
pub fn render(helm: &Path, archive: &Path, chart: &Chart, version: Option<&str>) -> Result<String, Failure> {
    let mut values = tempfile::NamedTempFile::new().map_err(|e| failed("Making", Path::new("a temporary file"), e))?;
    // JSON is YAML too.
    let json = serde_json::to_vec(&chart.values).unwrap_or_default();
    values.write_all(&json).map_err(|e| failed("Writing", values.path(), e))?;
    #[expect(clippy::disallowed_methods, reason = "the one place where cks-iso starts a program")]
    let mut command = std::process::Command::new(helm);
    command.args(["template", &chart.name, "--include-crds"]).arg("--values").arg(values.path());
    command.args(["--namespace", chart.namespace.as_deref().unwrap_or("default")]);
    if let Some(version) = version {
        command.args(["--kube-version", version]);
    }
    let output = command.arg("--").arg(archive).stdin(Stdio::null()).output().map_err(|e| missing(helm, e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("{} template {}: {}", helm.display(), chart.name, said.trim());
        return Err(
            Failure::new(Code::ContentInvalid, what).with_remedy("correct the chart's url or values in the spec")
        );
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(Code::ContentInvalid, format!("{} template wrote no text", helm.display())))
}

fn missing(helm: &Path, error: io::Error) -> Failure {
    let what = format!("{}: the chart needs helm, which can't be started", helm.display());
    Failure::new(Code::ConfigInvalid, what).with_source(error).with_remedy(
        "install helm 3 or name it with --helm; or render the chart elsewhere (helm template) and name the text as file",
    )
}
