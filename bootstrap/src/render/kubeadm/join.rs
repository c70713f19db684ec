//! `kubeadm join`.

use super::super::yaml::{Map, documents};
use super::registration::node_registration;
use super::{Arguments, Context, HEAD};
use crate::bundle::Role;
use crate::failure::{Code, Failure};
use crate::node_spec::{API_PORT, CaTrust, Join, NodeSpec};

/// The configuration of `kubeadm join`, as a control plane node or a worker, as the role says.
///
/// # Errors
/// `MANIFEST_INVALID` for an argument of the bundle, `CONFIG_INVALID` for a wish that kubeadm or the kubelet would refuse.
pub fn join_config(spec: &NodeSpec, join: &Join, context: &Context<'_>) -> Result<String, Failure> {
    let arguments = Arguments::parse(context.arguments)?;
    let api = context.api();
    let control_plane = spec.role == Role::ControlPlane;
    let mut ignored = context.ignored_errors.to_vec();
    ignored.extend(arguments.ignored_errors.into_iter().filter(|error| !context.ignored_errors.contains(error)));
    let document = api
        .document("JoinConfiguration")
        .with("discovery", discovery(join, context)?)
        .with_some("controlPlane", control_plane.then(|| local_control_plane(join, context)))
        .with("nodeRegistration", node_registration(spec, context, api, control_plane, &ignored)?)
        .with_some("patches", context.patches.map(|directory| Map::new().with("directory", directory)));
    Ok(documents(HEAD, [document]))
}

/// The arguments of kubeadm, for a configuration at `path`.
#[must_use]
pub fn join_arguments(path: &str) -> Vec<String> {
    ["join", "--config", path].map(str::to_owned).to_vec()
}

fn local_control_plane(join: &Join, context: &Context<'_>) -> Map {
    let endpoint = Map::new().with("advertiseAddress", context.address.to_string()).with("bindPort", API_PORT);
    Map::new()
        .with_some("certificateKey", join.certificate_key.as_ref().map(|key| key.reveal()))
        .with("localAPIEndpoint", endpoint)
}

fn discovery(join: &Join, context: &Context<'_>) -> Result<Map, Failure> {
    let hashes = match &join.trust {
        CaTrust::Pinned(hashes) if hashes.is_empty() => {
            return Err(Failure::new(
                Code::ConfigInvalid,
                "the cluster's authority is to be pinned, and no digest is named",
            ));
        }
        CaTrust::Pinned(hashes) => hashes,
        CaTrust::TokenOnly => context.ca_hashes,
    };
    hashes.iter().try_for_each(|hash| check_hash(hash))?;
    let unpinned = hashes.is_empty();
    let token = Map::new()
        .with("apiServerEndpoint", join.endpoint.to_string())
        .with("token", join.token.reveal())
        .with_some("caCertHashes", Some(hashes.to_vec()))
        .with_some("unsafeSkipCAVerification", unpinned.then_some(true));
    Ok(Map::new().with("bootstrapToken", token))
}

/// kubeadm takes a digest that it does not understand for one that does not fit, after minutes.
fn check_hash(hash: &str) -> Result<(), Failure> {
    let hex = hash.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'a'..=b'f')) {
        return Ok(());
    }
    let hash = crate::text::plain(hash);
    let what = format!("{hash:?} is no digest of an authority's key (sha256: and 64 hexadecimal digits, lower case)");
    Err(Failure::new(Code::ConfigInvalid, what))
}
