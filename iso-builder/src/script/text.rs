//! A call of the script, written as a spec.

use std::fmt::Write;
use std::path::Path;

use bootstrap::bundle::Arch;

use super::{Call, Dashboard};
use crate::text::quoted;

/// The values that Cilium's script renders the chart with. Its Hubble certificates stay with the profile's
/// job: rendered ones would be the same in every cluster.
const CILIUM_VALUES: &str = r#"
[profile.cilium.values]
kubeProxyReplacement = true
socketLB = { hostNamespaceOnly = true }
cni = { exclusive = true, chainingMode = "portmap" }
bgpControlPlane = { enabled = true }
encryption = { enabled = true, type = "wireguard", nodeEncryption = true }
gatewayAPI = { enabled = false }
ingressController = { enabled = false }
l2announcements = { enabled = true }
l2podAnnouncements = { enabled = true, interfacePattern = "eth.*" }
ipam = { mode = "cluster-pool", operator = { clusterPoolIPv4PodCIDRList = ["10.168.0.0/16"], clusterPoolIPv4MaskSize = 24 } }

[profile.cilium.values.hubble]
relay = { enabled = false }
ui = { enabled = false }
"#;

/// The spec of `call`; relative files are below `directory`.
pub(super) fn spec(call: &Call, name: &str, arch: Arch, directory: &Path) -> String {
    let (major, minor) = call.release;
    let mut text = format!(
        "# What create-kubernetes-binaries-iso.sh of CloudStack {major}.{minor} would have put on its ISO. Versions of a profile that\n\
         # the script takes from a moving branch are pinned; [profile.NAME] version changes one.\n\n"
    );
    let profiles: Vec<String> = profiles(call).into_iter().map(quoted).collect();
    // Writing into a String does not fail.
    let _ = writeln!(text, "name = {}\narch = \"{arch}\"", quoted(name));
    if !profiles.is_empty() {
        let _ = writeln!(text, "profiles = [{}]", profiles.join(", "));
    }
    for (table, version) in [("kubernetes", &call.kubernetes), ("cni-plugins", &call.cni), ("cri-tools", &call.crictl)]
    {
        let _ = writeln!(text, "\n[{table}]\nversion = {}", quoted(version));
    }
    if let Some(version) = &call.etcd {
        let _ = writeln!(text, "\n[etcd]\nversion = {}", quoted(version));
    }
    let (dashboard, manifest) = match &call.dashboard {
        Some(Dashboard::Version(version)) => (Some(("dashboard", version)), None),
        Some(Dashboard::Headlamp(version)) => (Some(("headlamp", version)), None),
        Some(Dashboard::Manifest(manifest)) => (None, Some(manifest)),
        None => (None, None),
    };
    let cilium = call.cilium.as_ref().map(|version| ("cilium", version));
    for (profile, version) in dashboard.into_iter().chain(cilium) {
        let _ = writeln!(text, "\n[profile.{profile}]\nversion = {}", quoted(version));
    }
    if cilium.is_some() {
        text += CILIUM_VALUES;
    }
    let manifests = [("network.yaml", call.network.as_ref()), ("dashboard.yaml", manifest)];
    if manifests.iter().any(|(_, input)| input.is_some()) {
        text += "\n[manifests]\n";
    }
    for (name, input) in manifests {
        if let Some(input) = input {
            let _ = writeln!(text, "{} = {}", quoted(name), origin(input, directory));
        }
    }
    text
}

/// What the script of a release adds by itself, and what a version stands for.
fn profiles(call: &Call) -> Vec<&'static str> {
    let mut profiles = Vec::new();
    profiles.extend(call.cilium.as_ref().map(|_| "cilium"));
    match call.dashboard {
        Some(Dashboard::Version(_)) => profiles.push("dashboard"),
        Some(Dashboard::Headlamp(_)) => profiles.push("headlamp"),
        _ => {}
    }
    if call.release >= (4, 16) {
        profiles.extend(["autoscaler", "provider"]);
    }
    if call.release >= (4, 22) || call.cilium.is_some() {
        profiles.push("csi");
    }
    profiles
}

fn origin(input: &str, directory: &Path) -> String {
    if input.starts_with("http://") || input.starts_with("https://") {
        return format!("{{ url = {} }}", quoted(input));
    }
    let path = directory.join(input.strip_prefix("file://").unwrap_or(input));
    format!("{{ file = {} }}", quoted(&path.to_string_lossy()))
}
