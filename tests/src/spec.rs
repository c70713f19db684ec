//! The builder's spec for a directory of components (`docs/building.md`).

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::components::{Components, KUBERNETES};

/// Writes `spec.toml` beside the components and gives its path. `name` is the build's.
///
/// # Errors
/// When it can't be written.
pub fn write(components: &Components, name: &str) -> Result<PathBuf> {
    let path = components.directory.join("spec.toml");
    let text = render(components, name).context("Writing a spec")?;
    fs::write(&path, text).with_context(|| format!("Writing {}", path.display()))?;
    Ok(path)
}

fn render(components: &Components, name: &str) -> Result<String, std::fmt::Error> {
    let arch = components.arch;
    let mut text = format!("name = \"{name}\"\narch = \"{arch}\"\n");
    let tarballs = [
        ("etcd", "etcd/etcd-linux-amd64.tar.gz".to_owned(), &components.etcd),
        ("cni-plugins", format!("cni/cni-plugins-{arch}.tgz"), &components.cni_plugins),
        ("cri-tools", format!("cri-tools/crictl-linux-{arch}.tar.gz"), &components.cri_tools),
    ];
    for (key, file, version) in tarballs {
        write!(text, "\n[{key}]\nversion = \"{version}\"\nfile = \"{file}\"\n")?;
    }
    if let Some(version) = &components.kubernetes {
        write!(text, "\n[kubernetes]\nversion = \"{version}\"\n")?;
        for program in KUBERNETES {
            writeln!(text, "{program} = {{ file = \"k8s/{program}\" }}")?;
        }
    }
    text += "\n[kubelet]\nunit = { file = \"kubelet.service\" }\ndrop-in = { file = \"10-kubeadm.conf\" }\n";
    for archive in &components.archives {
        write!(text, "\n[[images]]\nfile = \"{archive}\"\n")?;
    }
    text += "\n[manifests]\n";
    for manifest in ["network.yaml", "dashboard.yaml"] {
        writeln!(text, "\"{manifest}\" = {{ file = \"{manifest}\" }}")?;
    }
    Ok(text)
}
