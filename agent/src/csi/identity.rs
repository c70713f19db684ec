//! The CSI Identity service.

use std::collections::HashMap;

use bootstrap::volume::refusal::{Class, Refusal};
use tonic::{Request, Response, Status};

use super::proto::csi::identity_server::Identity;
use super::proto::csi::plugin_capability::service::Type as Service;
use super::proto::csi::plugin_capability::volume_expansion::Type as Expansion;
use super::proto::csi::plugin_capability::{self, Type};
use super::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};
use super::{DRIVER, status};
use crate::host::Host;
use crate::tool::Tool;
use crate::volume::mounts;

/// Without these no volume can be staged.
const NEEDED: [Tool; 3] = [Tool::Blkid, Tool::MkfsExt4, Tool::E2fsck];

/// Answers for the machine.
#[derive(Debug, Clone)]
pub struct IdentityService {
    host: Host,
}

impl IdentityService {
    /// That of `host`.
    #[must_use]
    pub fn of(host: Host) -> Self {
        Self { host }
    }

    /// What keeps this machine from staging volumes.
    fn missing(&self) -> Result<(), Refusal> {
        mounts::table(&self.host)?;
        match NEEDED.iter().find(|tool| tool.find(&self.host).is_none()) {
            Some(tool) => Err(Refusal::new(Class::NodeNotReady, format!("{} is not installed", tool.name()))),
            None => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: DRIVER.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: HashMap::new(),
        }))
    }

    /// Those of the plugin as it is deployed: the controller says the same, and serves the first (CSI 1.12,
    /// `GetPluginCapabilities`).
    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let service = |service: Service| Type::Service(plugin_capability::Service { r#type: service.into() });
        let expansion = plugin_capability::VolumeExpansion { r#type: Expansion::Online.into() };
        let all = [
            service(Service::ControllerService),
            service(Service::VolumeAccessibilityConstraints),
            Type::VolumeExpansion(expansion),
        ];
        let capabilities = all.map(|capability| PluginCapability { r#type: Some(capability) }).into();
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        self.missing().map_err(|refusal| status::status(&refusal))?;
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}
