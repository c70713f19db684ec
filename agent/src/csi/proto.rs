//! The messages and services of `proto/`, as they are generated.

/// The Container Storage Interface (`proto/csi.proto`).
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated"
)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// How a plugin is made known to kubelet (`proto/pluginregistration.proto`).
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated"
)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
