//! The client of a CSI socket: a call for each RPC of the Identity and the Node service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::proto::identity_client::IdentityClient;
use super::proto::node_client::NodeClient;
use super::proto::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse,
    NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeStageVolumeRequest, NodeStageVolumeResponse,
    NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
    ProbeRequest, ProbeResponse,
};

/// A client. Its calls block; clones share one connection and may be used by several threads at once. Connects when it
/// is first used, and again after the server has ended.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    deadline: Option<Duration>,
    runtime: Arc<Runtime>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $client:ident.$rpc:ident($request:ty) -> $response:ty;)*) => {
        impl Client {
            $($(#[$doc])*
            ///
            /// # Errors
            /// What the server answers; `Unavailable` where there is none; `Cancelled` when the deadline has passed.
            pub fn $name(&self, request: $request) -> Result<$response, Status> {
                let mut client = $client::new(self.channel.clone());
                let answer = self.runtime.block_on(client.$rpc(self.request(request)));
                answer.map(tonic::Response::into_inner)
            })*
        }
    };
}

calls! {
    /// `GetPluginInfo`.
    plugin_info: IdentityClient.get_plugin_info(GetPluginInfoRequest) -> GetPluginInfoResponse;
    /// `GetPluginCapabilities`.
    plugin_capabilities: IdentityClient.get_plugin_capabilities(GetPluginCapabilitiesRequest) -> GetPluginCapabilitiesResponse;
    /// `Probe`.
    probe: IdentityClient.probe(ProbeRequest) -> ProbeResponse;
    /// `NodeGetInfo`.
    node_info: NodeClient.node_get_info(NodeGetInfoRequest) -> NodeGetInfoResponse;
    /// `NodeGetCapabilities`.
    node_capabilities: NodeClient.node_get_capabilities(NodeGetCapabilitiesRequest) -> NodeGetCapabilitiesResponse;
    /// `NodeStageVolume`.
    stage: NodeClient.node_stage_volume(NodeStageVolumeRequest) -> NodeStageVolumeResponse;
    /// `NodeUnstageVolume`.
    unstage: NodeClient.node_unstage_volume(NodeUnstageVolumeRequest) -> NodeUnstageVolumeResponse;
    /// `NodePublishVolume`.
    publish: NodeClient.node_publish_volume(NodePublishVolumeRequest) -> NodePublishVolumeResponse;
    /// `NodeUnpublishVolume`.
    unpublish: NodeClient.node_unpublish_volume(NodeUnpublishVolumeRequest) -> NodeUnpublishVolumeResponse;
    /// `NodeGetVolumeStats`.
    stats: NodeClient.node_get_volume_stats(NodeGetVolumeStatsRequest) -> NodeGetVolumeStatsResponse;
    /// `NodeExpandVolume`.
    expand: NodeClient.node_expand_volume(NodeExpandVolumeRequest) -> NodeExpandVolumeResponse;
}

impl Client {
    /// A client of the socket at `path`.
    ///
    /// # Errors
    /// When the path is no UTF-8, or there are no more threads.
    pub fn new(path: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("Starting a runtime")?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).context("Naming a socket")?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self { channel, deadline: None, runtime: Arc::new(runtime) })
    }

    /// The same client, whose calls end after `deadline`: the server is told, by `grpc-timeout`.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// The connection, for calls of another kind.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }
}
