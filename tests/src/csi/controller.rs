//! A Controller service for tests: its volumes are sparse files, and to attach one is to plug in a [`Disk`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};

use super::bed::DRIVER;
use super::disk::{self, Disk};
use super::namespace::Namespace;
use super::proto::controller_server::ControllerServer;
use super::proto::controller_service_capability::{Rpc, Type, rpc};
use super::proto::identity_server::{Identity, IdentityServer};
use super::proto::plugin_capability::{Service, Type as PluginType, service};
use super::proto::validate_volume_capabilities_response::Confirmed;
use super::proto::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerGetVolumeRequest, ControllerGetVolumeResponse,
    ControllerModifyVolumeRequest, ControllerModifyVolumeResponse, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerServiceCapability, ControllerUnpublishVolumeRequest,
    ControllerUnpublishVolumeResponse, CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeRequest,
    CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest, DeleteVolumeResponse,
    GetCapacityRequest, GetCapacityResponse, GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse,
    GetPluginInfoRequest, GetPluginInfoResponse, GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest,
    ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, PluginCapability, ProbeRequest, ProbeResponse,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse, controller_server,
};
use super::request::Kind;
use super::volumes::{self, Made, Volumes};

/// The controller at work, until it is dropped; its volumes go with it.
#[derive(Debug)]
pub struct Controller {
    socket: PathBuf,
    _runtime: Runtime,
}

impl Controller {
    pub(super) fn start(namespace: &Arc<Namespace>, node: &str, zone: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("Starting a runtime")?;
        let socket = namespace.directory().join("controller.sock");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).with_context(|| format!("Listening at {}", socket.display()))?
        };
        let service = Arc::new(Plugin {
            namespace: Arc::clone(namespace),
            node: node.to_owned(),
            zone: zone.to_owned(),
            volumes: Mutex::default(),
        });
        let server = Server::builder().add_service(IdentityServer::from_arc(Arc::clone(&service)));
        let server = server.add_service(ControllerServer::from_arc(service));
        let connections = futures::stream::poll_fn(move |context| {
            listener.poll_accept(context).map(|accepted| Some(accepted.map(|(stream, _)| stream)))
        });
        runtime.spawn(server.serve_with_incoming(connections));
        Ok(Self { socket, _runtime: runtime })
    }

    /// Its socket, inside as outside.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

#[derive(Debug)]
struct Plugin {
    namespace: Arc<Namespace>,
    node: String,
    zone: String,
    volumes: Mutex<Volumes>,
}

impl Plugin {
    fn volumes(&self) -> MutexGuard<'_, Volumes> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn unknown(id: &str) -> Status {
    Status::not_found(format!("there is no volume {id}"))
}

fn broken(error: &anyhow::Error) -> Status {
    Status::internal(format!("{error:#}"))
}

fn bytes(size: i64) -> Result<u64, Status> {
    u64::try_from(size).map_err(|_| Status::invalid_argument("a capacity is negative"))
}

#[async_trait]
impl Identity for Plugin {
    async fn get_plugin_info(&self, _: Request<GetPluginInfoRequest>) -> Answer<GetPluginInfoResponse> {
        let vendor_version = env!("CARGO_PKG_VERSION").to_owned();
        answer(GetPluginInfoResponse { name: DRIVER.to_owned(), vendor_version, ..GetPluginInfoResponse::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Answer<GetPluginCapabilitiesResponse> {
        let services = [service::Type::ControllerService, service::Type::VolumeAccessibilityConstraints];
        let capabilities =
            services.map(|one| PluginCapability { r#type: Some(PluginType::Service(Service { r#type: one.into() })) });
        answer(GetPluginCapabilitiesResponse { capabilities: capabilities.into() })
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Answer<ProbeResponse> {
        answer(ProbeResponse { ready: Some(true) })
    }
}

#[async_trait]
impl controller_server::Controller for Plugin {
    async fn create_volume(&self, request: Request<CreateVolumeRequest>) -> Answer<CreateVolumeResponse> {
        let request = request.into_inner();
        volumes::required("name", &request.name)?;
        volumes::all_whole(&request.volume_capabilities)?;
        let size = volumes::size(request.capacity_range.as_ref())?;
        let mut all = self.volumes();
        let (id, size) = if let Some((id, size)) = volumes::existing(&all, &request)? {
            (id.to_owned(), size)
        } else {
            let id = disk::uuid().map_err(|e| broken(&e))?;
            let kind = Kind::filesystem("");
            let made = Disk::detached(&self.namespace, &id, kind, bytes(size)?).map_err(|e| broken(&e))?;
            all.insert(id.clone(), Made { name: request.name.clone(), size, disk: made });
            (id, size)
        };
        answer(CreateVolumeResponse { volume: Some(volumes::told(&id, size, &self.zone, request)) })
    }

    async fn delete_volume(&self, request: Request<DeleteVolumeRequest>) -> Answer<DeleteVolumeResponse> {
        let id = request.into_inner().volume_id;
        volumes::required("volume_id", &id)?;
        let mut all = self.volumes();
        if all.get(&id).is_some_and(|made| !made.disk.name().is_empty()) {
            return Err(Status::failed_precondition(format!("volume {id} is attached")));
        }
        all.remove(&id);
        answer(DeleteVolumeResponse {})
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Answer<ControllerPublishVolumeResponse> {
        let request = request.into_inner();
        volumes::attachable(&request, &self.node)?;
        let mut all = self.volumes();
        let made = all.get_mut(&request.volume_id).ok_or_else(|| unknown(&request.volume_id))?;
        made.disk.attach().map_err(|e| broken(&e))?;
        let device = made.disk.name().trim_start_matches("loop").to_owned();
        answer(ControllerPublishVolumeResponse { publish_context: [("deviceID".to_owned(), device)].into() })
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Answer<ControllerUnpublishVolumeResponse> {
        let request = request.into_inner();
        volumes::required("volume_id", &request.volume_id)?;
        if let Some(made) = self.volumes().get_mut(&request.volume_id) {
            made.disk.detach().map_err(|e| broken(&e))?;
        }
        answer(ControllerUnpublishVolumeResponse {})
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Answer<ValidateVolumeCapabilitiesResponse> {
        let request = request.into_inner();
        volumes::required("volume_id", &request.volume_id)?;
        volumes::all_whole(&request.volume_capabilities)?;
        if !self.volumes().contains_key(&request.volume_id) {
            return Err(unknown(&request.volume_id));
        }
        let confirmed = Confirmed {
            volume_context: request.volume_context,
            volume_capabilities: request.volume_capabilities,
            parameters: request.parameters,
            mutable_parameters: request.mutable_parameters,
        };
        answer(ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message: String::new() })
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Answer<ControllerExpandVolumeResponse> {
        let request = request.into_inner();
        volumes::required("volume_id", &request.volume_id)?;
        let range = request.capacity_range.as_ref();
        let asked = volumes::size(Some(range.ok_or_else(|| Status::invalid_argument("capacity_range is missing"))?))?;
        let mut all = self.volumes();
        let made = all.get_mut(&request.volume_id).ok_or_else(|| unknown(&request.volume_id))?;
        if asked > made.size {
            made.disk.resize(bytes(asked)?).map_err(|e| broken(&e))?;
            made.size = asked;
        }
        answer(ControllerExpandVolumeResponse { capacity_bytes: made.size, node_expansion_required: true })
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let rpcs = [rpc::Type::CreateDeleteVolume, rpc::Type::PublishUnpublishVolume, rpc::Type::ExpandVolume];
        let capabilities =
            rpcs.map(|one| ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: one.into() })) });
        answer(ControllerGetCapabilitiesResponse { capabilities: capabilities.into() })
    }

    async fn list_volumes(&self, _: Request<ListVolumesRequest>) -> Answer<ListVolumesResponse> {
        Err(Status::unimplemented("ListVolumes"))
    }

    async fn get_capacity(&self, _: Request<GetCapacityRequest>) -> Answer<GetCapacityResponse> {
        Err(Status::unimplemented("GetCapacity"))
    }

    async fn create_snapshot(&self, _: Request<CreateSnapshotRequest>) -> Answer<CreateSnapshotResponse> {
        Err(Status::unimplemented("CreateSnapshot"))
    }

    async fn delete_snapshot(&self, _: Request<DeleteSnapshotRequest>) -> Answer<DeleteSnapshotResponse> {
        Err(Status::unimplemented("DeleteSnapshot"))
    }

    async fn list_snapshots(&self, _: Request<ListSnapshotsRequest>) -> Answer<ListSnapshotsResponse> {
        Err(Status::unimplemented("ListSnapshots"))
    }

    async fn get_snapshot(&self, _: Request<GetSnapshotRequest>) -> Answer<GetSnapshotResponse> {
        Err(Status::unimplemented("GetSnapshot"))
    }

    async fn controller_get_volume(
        &self,
        _: Request<ControllerGetVolumeRequest>,
    ) -> Answer<ControllerGetVolumeResponse> {
        Err(Status::unimplemented("ControllerGetVolume"))
    }

    async fn controller_modify_volume(
        &self,
        _: Request<ControllerModifyVolumeRequest>,
    ) -> Answer<ControllerModifyVolumeResponse> {
        Err(Status::unimplemented("ControllerModifyVolume"))
    }
}
