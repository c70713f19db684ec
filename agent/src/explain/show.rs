//! The document as lines for people.

use bootstrap::node_spec::{CaTrust, Init, Join, Membership, Network, NodeSpec};
use bootstrap::secret::shown_url;
use bootstrap::text::plain;
use bootstrap::user_data::Reading;
use bootstrap::user_data::cloud_init::Outcome;
use bootstrap::user_data::server::Release;

use super::Document;

/// The document as text.
#[must_use]
pub fn lines(document: &Document) -> String {
    let mut lines = vec![field("user data", &document.source)];
    if let Some(reading) = &document.reading {
        head(reading, &mut lines);
        if let Some(spec) = &reading.spec {
            node(spec, &mut lines);
        }
        adoption(reading, &mut lines);
        found(reading, &mut lines);
    }
    if !document.steps.is_empty() {
        heading("steps on an empty machine", &mut lines);
        lines.extend(document.steps.iter().enumerate().map(|(at, step)| format!("{:>4}. {step}", at + 1)));
    }
    lines.iter().map(|line| plain(line) + "\n").collect()
}

fn field(name: &str, value: &str) -> String {
    format!("{name:<12} {value}")
}

fn heading(what: &str, lines: &mut Vec<String>) {
    lines.extend([String::new(), format!("{what}:")]);
}

fn head(reading: &Reading, lines: &mut Vec<String>) {
    let recognised = &reading.recognised;
    let kinds: Vec<String> =
        recognised.parts.iter().map(|part| format!("{} of {} lines", part.kind.as_str(), part.lines)).collect();
    let layers: Vec<String> = recognised.layers.iter().map(|layer| format!("{}: ", layer.as_str())).collect();
    let parts = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
    lines.push(field("holds", &(layers.concat() + &parts)));
    let by = match (recognised.release, recognised.section) {
        (Some(Release::Ours), _) | (None, Some(_)) => None,
        (Some(release), _) => Some(format!("CloudStack {}", release.as_str())),
        (None, None) => Some("nobody that is known: no node is made of it".to_owned()),
    };
    let section = recognised.section.map(|at| format!("a cks: section ({at})"));
    let by: Vec<String> = by.into_iter().chain(section).collect();
    lines.push(field("asked by", &by.join(" and ")));
}

fn node(spec: &NodeSpec, lines: &mut Vec<String>) {
    let address = spec.address.map_or(String::new(), |address| format!(" at {address}"));
    let what = match &spec.membership {
        Some(Membership::FirstControlPlane(_)) => "first control plane node",
        Some(Membership::ControlPlane(_)) => "further control plane node",
        Some(Membership::Worker(_)) => "worker",
        Some(Membership::Etcd) => "etcd member",
        None => spec.role.as_str(),
    };
    lines.push(field("node", &format!("{what} {}{address}", spec.node_name)));
    match &spec.membership {
        Some(Membership::FirstControlPlane(init)) => self::init(init, lines),
        Some(Membership::ControlPlane(join) | Membership::Worker(join)) => self::join(join, lines),
        Some(Membership::Etcd) | None => {}
    }
    if !spec.etcd_members.is_empty() {
        let members: Vec<String> = spec.etcd_members.iter().map(|(name, url)| format!("{name} at {url}")).collect();
        lines.push(field("etcd", &members.join(", ")));
    }
    delivery(spec, lines);
    runtime(spec, lines);
    registration(spec, lines);
}

fn init(init: &Init, lines: &mut Vec<String>) {
    let endpoint = init.endpoint.as_ref().map_or_else(|| "this node's own address".to_owned(), ToString::to_string);
    let version = init.kubernetes_version.as_deref().map_or(String::new(), |version| format!(", Kubernetes {version}"));
    lines.push(field("begins", &format!("a cluster at {endpoint}{version}")));
    if !init.certificate_sans.is_empty() {
        lines.push(field("", &format!("certificate also for {}", init.certificate_sans.join(", "))));
    }
    if let Some(token) = &init.token {
        let key = if init.certificate_key.is_some() { ", certificate key (secret)" } else { "" };
        lines.push(field("", &format!("token {}.(secret){key}", token.id)));
    }
    let networks = [("pods", init.pod_cidr), ("services", init.service_cidr)];
    for (name, network) in networks.into_iter().filter_map(|(name, network)| Some((name, network?))) {
        lines.push(field("", &format!("{name} in {network}")));
    }
    if !init.skip_phases.is_empty() {
        lines.push(field("", &format!("without {}", init.skip_phases.join(", "))));
    }
    if let Some(etcd) = &init.etcd {
        let tls = if etcd.authority.is_some() { "mutual TLS" } else { "plain HTTP" };
        lines.push(field("etcd", &format!("{}, {tls}", etcd.endpoints.join(", "))));
    }
    let network = match &init.network {
        Network::Bundle => "network.yaml of the bundle".to_owned(),
        Network::Elsewhere => "somebody else brings it".to_owned(),
        Network::UserData(steps) => {
            let places: Vec<String> = steps.iter().map(|step| step.line.to_string()).collect();
            format!("the user's CNI configuration: lines {}", places.join(", "))
        }
    };
    lines.push(field("network", &network));
    lines.push(field("dashboard", &init.dashboards.join(", else ")));
}

fn join(join: &Join, lines: &mut Vec<String>) {
    let key = if join.certificate_key.is_some() { ", certificate key (secret)" } else { "" };
    lines.push(field("joins", &format!("{}, token {}.(secret){key}", join.endpoint, join.token.id)));
    let trust = match &join.trust {
        CaTrust::Pinned(pins) => format!("pinned: {}", pins.join(", ")),
        CaTrust::TokenOnly => "not pinned: who knows the token can pretend to be it (cks.ca-hashes pins it)".to_owned(),
    };
    lines.push(field("authority", &trust));
}

fn delivery(spec: &NodeSpec, lines: &mut Vec<String>) {
    let delivery = &spec.delivery;
    let sources: Vec<String> = delivery.sources.iter().map(|source| shown_url(source)).collect();
    let mut said = vec![if sources.is_empty() { "sources of the settings".to_owned() } else { sources.join(", ") }];
    said.extend(delivery.router.map(|router| format!("router {router}")));
    said.extend(delivery.policy.clone());
    if !delivery.keys.is_empty() {
        said.push(format!("{} trusted keys", delivery.keys.len()));
    }
    said.extend(delivery.wait_seconds.map(|seconds| format!("for at most {seconds} s")));
    if delivery.eject {
        said.push("disc ejected".to_owned());
    }
    lines.push(field("bundle", &said.join(", ")));
}

fn runtime(spec: &NodeSpec, lines: &mut Vec<String>) {
    for registry in &spec.runtime.registries {
        let urls: Vec<String> = registry.endpoints.iter().map(|url| shown_url(url)).collect();
        let mut said = vec![registry.host.clone()];
        if !urls.is_empty() {
            said.push(format!("by {}", urls.join(", ")));
        }
        said.extend(registry.username.as_ref().map(|user| format!("user {user}, password (secret)")));
        let more = [
            (registry.authority.is_some(), "an authority of its own"),
            (registry.client_certificate.is_some(), "a client certificate"),
            (registry.insecure, "its certificate is not looked at"),
        ];
        said.extend(more.into_iter().filter(|(there, _)| *there).map(|(_, what)| what.to_owned()));
        lines.push(field("registry", &said.join(", ")));
    }
    if let Some(proxy) = &spec.runtime.proxy {
        let without = if proxy.no_proxy.is_empty() { "nothing".to_owned() } else { proxy.no_proxy.join(", ") };
        lines.push(field("proxy", &format!("(secret); without it: {without}")));
    }
}

fn registration(spec: &NodeSpec, lines: &mut Vec<String>) {
    let registration = &spec.registration;
    let labels: Vec<String> = registration.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let said = [
        ("labels", labels.join(", ")),
        ("taints", registration.taints.join(", ")),
        ("node ip", registration.node_ip.map(|address| address.to_string()).unwrap_or_default()),
        ("unchecked", registration.skip_checks.join(", ")),
    ];
    lines.extend(said.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| field(name, value)));
}

fn adoption(reading: &Reading, lines: &mut Vec<String>) {
    let adoption = &reading.adoption;
    if !adoption.take_over.is_empty() {
        lines.push(field("takes over", &adoption.take_over.join(", ")));
    }
    for why in &adoption.refused {
        lines.push(field("leaves alone", &format!("{why}: the management server's scripts stay and run")));
    }
    if !adoption.keep.is_empty() {
        lines.push(field("keeps", &adoption.keep.join(", ")));
    }
    let outcome = match adoption.cloud_init {
        Outcome::Runs => "writes the server's files and runs its commands",
        Outcome::Folded => "takes the user's text for words of the server's last command",
        Outcome::Replaced => "takes a second list instead of the server's",
        Outcome::Unreadable => "can't read the user data",
        Outcome::Absent => return,
    };
    lines.push(field("cloud-init", outcome));
}

fn found(reading: &Reading, lines: &mut Vec<String>) {
    if !reading.cni.is_empty() {
        heading("wrong in the CNI configuration", lines);
        lines.extend(reading.cni.iter().map(|fault| format!("  {}: {}", fault.at, fault.what)));
    }
    if !reading.warnings.is_empty() {
        heading("warnings", lines);
        lines.extend(reading.warnings.iter().map(|one| format!("  {}: {}", one.at, one.text)));
    }
    if !reading.ignored.is_empty() {
        heading("left alone", lines);
        lines.extend(reading.ignored.iter().map(|one| format!("  {}: {}: {}", one.at, one.what, one.why)));
    }
}
