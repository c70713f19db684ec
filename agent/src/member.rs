//! What a membership is worked on with: found out once, when the node is installed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{Endpoint, Membership, NodeSpec};
use bootstrap::plan::Bundle;
use bootstrap::version::Version;

use crate::board::Board;
use crate::cluster::{self, Ground, Proved};
use crate::config::Config;
use crate::host::Host;

/// Patches for what kubeadm writes, where an operator has any (kubeadm, `--patches`).
const PATCHES: &str = "/etc/cks-agent/patches";

/// Makes the installed node a member of its cluster.
///
/// # Errors
/// As [`cluster::carry_out`]; `MEDIA_LACKS_COMPONENT` without a Kubernetes version.
pub async fn join(
    host: &Host,
    settings: &Config,
    spec: &NodeSpec,
    bundle: &Bundle,
    board: &Board,
) -> Result<(), Failure> {
    let version = version(spec, bundle)?;
    let patches = host.path(PATCHES);
    let ground = Ground {
        host,
        spec,
        settings,
        bundle,
        board,
        version,
        address: address(spec),
        patches: patches.is_dir().then(|| patches.display().to_string()),
        ignored: cluster::ignored(settings, spec)?,
        proved: Proved::default(),
    };
    cluster::carry_out(&ground, settings.cluster.wait).await
}

fn version(spec: &NodeSpec, bundle: &Bundle) -> Result<Version, Failure> {
    let told = bundle.manifest.kubernetes.as_deref();
    let lacks = || {
        let what = format!("bundle {:?} does not say which Kubernetes it brings", bundle.manifest.name);
        Failure::new(Code::MediaLacksComponent, what)
    };
    match (told.and_then(Version::parse), &spec.membership) {
        (Some(version), _) => Ok(version),
        // An etcd node has nothing of Kubernetes.
        (None, Some(Membership::Etcd) | None) => Version::parse("v0.0.0").ok_or_else(lacks),
        (None, Some(_)) => Err(lacks()),
    }
}

/// The address that the control plane reaches this node at: the one that was told, else the one that this machine
/// would speak to the control plane from.
fn address(spec: &NodeSpec) -> IpAddr {
    let endpoint = match &spec.membership {
        Some(Membership::ControlPlane(join) | Membership::Worker(join)) => Some(&join.endpoint),
        Some(Membership::FirstControlPlane(init)) => init.endpoint.as_ref(),
        Some(Membership::Etcd) | None => None,
    };
    let told = spec.registration.node_ip.or(spec.address);
    told.or_else(|| from_route(endpoint)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The kernel chooses by its routes; no packet is sent.
fn from_route(endpoint: Option<&Endpoint>) -> Option<IpAddr> {
    // Any address outside will do where none is told: what counts is the default route.
    let anywhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let told = endpoint.and_then(|endpoint| (endpoint.host.as_str(), endpoint.port).to_socket_addrs().ok()?.next());
    let towards = told.unwrap_or(anywhere);
    let local =
        SocketAddr::from((if towards.is_ipv4() { IpAddr::from([0_u8; 4]) } else { IpAddr::from([0_u8; 16]) }, 0));
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(towards).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}
