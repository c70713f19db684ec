//! `kubeadm init`.

use super::super::yaml::{Map, documents};
use super::registration::node_registration;
use super::{Api, Arguments, Context, HEAD};
use crate::failure::{Code, Failure};
use crate::node_spec::{API_PORT, Init, NodeSpec};
use crate::version::Version;

/// The authority of a dedicated etcd cluster's certificates.
pub const ETCD_CA: &str = "/etc/kubernetes/pki/etcd/ca.crt";
/// The certificate that the API server shows to it.
pub const ETCD_CLIENT_CERTIFICATE: &str = "/etc/kubernetes/pki/apiserver-etcd-client.crt";
/// That certificate's key.
pub const ETCD_CLIENT_KEY: &str = "/etc/kubernetes/pki/apiserver-etcd-client.key";

/// The configuration of `kubeadm init`. What the wish says counts more than what the bundle's arguments say.
///
/// # Errors
/// `MANIFEST_INVALID` for an argument of the bundle, `CONFIG_INVALID` for a wish that kubeadm or the kubelet would refuse.
pub fn init_config(spec: &NodeSpec, init: &Init, context: &Context<'_>) -> Result<String, Failure> {
    let arguments = Arguments::parse(context.arguments)?;
    let api = context.api();
    let documents_of_it = [
        init_configuration(spec, init, context, &arguments, api)?,
        cluster_configuration(init, context, &arguments, api)?,
        kubelet_configuration(context),
    ];
    Ok(documents(HEAD, documents_of_it))
}

/// The arguments of kubeadm, for a configuration at `path`; with them it prints no secret.
#[must_use]
pub fn init_arguments(init: &Init, path: &str) -> Vec<String> {
    let mut arguments = vec!["init", "--config", path, "--skip-token-print", "--skip-certificate-key-print"];
    if init.upload_certificates {
        arguments.push("--upload-certs");
    }
    arguments.into_iter().map(str::to_owned).collect()
}

fn init_configuration(
    spec: &NodeSpec,
    init: &Init,
    context: &Context<'_>,
    arguments: &Arguments,
    api: Api,
) -> Result<Map, Failure> {
    let ignored = merged(context.ignored_errors, &arguments.ignored_errors);
    // The management server gives the same token to nodes that it adds months later.
    let token = init.token.as_ref().map(|token| {
        vec![Map::new().with("token", token.reveal()).with("description", "made by cks-agent").with("ttl", "0s")]
    });
    let endpoint = Map::new().with("advertiseAddress", context.address.to_string()).with("bindPort", API_PORT);
    Ok(api
        .document("InitConfiguration")
        .with_some("bootstrapTokens", token)
        .with_some("certificateKey", init.certificate_key.as_ref().map(|key| key.reveal()))
        .with("localAPIEndpoint", endpoint)
        .with("nodeRegistration", node_registration(spec, context, api, true, &ignored)?)
        .with_some("patches", context.patches.map(|directory| Map::new().with("directory", directory)))
        .with_some("skipPhases", Some(merged(&init.skip_phases, &arguments.skip_phases))))
}

fn cluster_configuration(init: &Init, context: &Context<'_>, arguments: &Arguments, api: Api) -> Result<Map, Failure> {
    let pod_cidr = init.pod_cidr.map(|cidr| cidr.to_string()).or_else(|| arguments.pod_cidr.clone());
    let service_cidr = init.service_cidr.map(|cidr| cidr.to_string()).or_else(|| arguments.service_cidr.clone());
    let networking = Map::new()
        .with_some("dnsDomain", arguments.dns_domain.clone())
        .with_some("podSubnet", pod_cidr)
        .with_some("serviceSubnet", service_cidr);
    let names = Some(merged(&init.certificate_sans, &arguments.certificate_sans));
    let api_server = Map::new().with_some("certSANs", names);
    let feature_gates = arguments.feature_gates.iter().fold(Map::new(), |map, (name, on)| map.with(name, *on));
    Ok(api
        .document("ClusterConfiguration")
        .with("kubernetesVersion", kubernetes_version(init, context)?)
        .with_some("imageRepository", arguments.image_repository.clone())
        .with_some("controlPlaneEndpoint", init.endpoint.as_ref().map(ToString::to_string))
        .with_some("apiServer", Some(api_server))
        .with_some("networking", Some(networking))
        .with_some("etcd", etcd(init)?)
        .with_some("featureGates", Some(feature_gates)))
}

/// Always a version: kubeadm would ask the network for the newest one.
fn kubernetes_version(init: &Init, context: &Context<'_>) -> Result<String, Failure> {
    let Some(wish) = &init.kubernetes_version else { return Ok(context.version.release()) };
    let version = Version::parse(wish).ok_or_else(|| {
        let wish = crate::text::plain(wish);
        Failure::new(Code::ConfigInvalid, format!("Kubernetes version {wish:?} is no version (v1.34.1)"))
    })?;
    Ok(version.release())
}

fn etcd(init: &Init) -> Result<Option<Map>, Failure> {
    let Some(etcd) = &init.etcd else { return Ok(None) };
    if etcd.endpoints.is_empty() {
        return Err(Failure::new(Code::ConfigInvalid, "the dedicated etcd cluster has no members"));
    }
    let scheme = if etcd.authority.is_some() { "https://" } else { "http" };
    if let Some(endpoint) = etcd.endpoints.iter().find(|endpoint| !endpoint.starts_with(scheme)) {
        let endpoint = crate::text::plain(endpoint);
        let what = format!("etcd endpoint {endpoint:?} does not begin with {scheme}");
        return Err(Failure::new(Code::ConfigInvalid, what));
    }
    let file = |path| etcd.authority.as_ref().map(|_| path);
    let external = Map::new()
        .with("endpoints", etcd.endpoints.clone())
        .with_some("caFile", file(ETCD_CA))
        .with_some("certFile", file(ETCD_CLIENT_CERTIFICATE))
        .with_some("keyFile", file(ETCD_CLIENT_KEY));
    Ok(Some(Map::new().with("external", external)))
}

/// Of the whole cluster: every node that joins later takes it from there.
fn kubelet_configuration(context: &Context<'_>) -> Map {
    // Kubelets before 1.31 do not know the setting, and run on cgroup v1 anyhow.
    let lenient = context.allow_cgroup_v1 && context.version.minor() >= 31;
    Map::new()
        .with("apiVersion", "kubelet.config.k8s.io/v1beta1")
        .with("kind", "KubeletConfiguration")
        .with("cgroupDriver", context.cgroup_driver.name())
        .with_some("failCgroupV1", lenient.then_some(false))
}

/// The first list, then what the second one adds.
fn merged(first: &[String], second: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for item in first.iter().chain(second) {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    all
}
