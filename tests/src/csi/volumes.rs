//! The volumes of the controller, and what is decided about requests for them.

use std::collections::BTreeMap;

use tonic::Status;

use super::disk::Disk;
use super::proto::{
    CapacityRange, ControllerPublishVolumeRequest, CreateVolumeRequest, Topology, TopologyRequirement, Volume,
    VolumeCapability,
};

/// The size of a volume for which none is asked.
const SIZE: i64 = 1 << 30;

/// A volume.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) size: i64,
    pub(super) disk: Disk,
}

/// All volumes, by their ids.
pub(super) type Volumes = BTreeMap<String, Made>;

/// Refuses an empty field.
pub(super) fn required(field: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() { Err(Status::invalid_argument(format!("{field} is missing"))) } else { Ok(()) }
}

/// Refuses a capability that says nothing.
pub(super) fn whole(capability: Option<&VolumeCapability>) -> Result<&VolumeCapability, Status> {
    let whole = capability.filter(|one| one.access_mode.is_some() && one.access_type.is_some());
    whole.ok_or_else(|| Status::invalid_argument("volume_capability is missing or has no access mode or type"))
}

/// Refuses a list with none, or with one that says nothing.
pub(super) fn all_whole(capabilities: &[VolumeCapability]) -> Result<(), Status> {
    if capabilities.is_empty() {
        return Err(Status::invalid_argument("volume_capabilities is missing"));
    }
    capabilities.iter().try_for_each(|one| whole(Some(one)).map(drop))
}

/// The size to make: what is required, else [`SIZE`] within the limit.
pub(super) fn size(range: Option<&CapacityRange>) -> Result<i64, Status> {
    let Some(&CapacityRange { required_bytes, limit_bytes }) = range else { return Ok(SIZE) };
    if required_bytes < 0 || limit_bytes < 0 {
        return Err(Status::invalid_argument("a capacity is negative"));
    }
    if limit_bytes != 0 && required_bytes > limit_bytes {
        return Err(Status::out_of_range("required_bytes is more than limit_bytes"));
    }
    Ok(match (required_bytes, limit_bytes) {
        (0, 0) => SIZE,
        (0, limit) => limit.min(SIZE),
        (required, _) => required,
    })
}

/// Whether the volume with this name is the one that is asked for: `None` where there is none.
pub(super) fn existing<'a>(
    volumes: &'a Volumes,
    request: &CreateVolumeRequest,
) -> Result<Option<(&'a str, i64)>, Status> {
    let Some((id, made)) = volumes.iter().find(|(_, made)| made.name == request.name) else { return Ok(None) };
    let fits = request.capacity_range.is_none_or(|range| {
        made.size >= range.required_bytes && (range.limit_bytes == 0 || made.size <= range.limit_bytes)
    });
    if fits {
        Ok(Some((id, made.size)))
    } else {
        Err(Status::already_exists(format!("{} has another size", request.name)))
    }
}

/// The volume as it is told.
pub(super) fn told(id: &str, size: i64, zone: &str, request: CreateVolumeRequest) -> Volume {
    Volume {
        capacity_bytes: size,
        volume_id: id.to_owned(),
        volume_context: request.parameters.into_iter().collect(),
        content_source: request.volume_content_source,
        accessible_topology: vec![place(zone, request.accessibility_requirements)],
    }
}

/// The best place that is asked for; else the node's zone.
fn place(zone: &str, asked: Option<TopologyRequirement>) -> Topology {
    let asked = asked.unwrap_or_default();
    asked.preferred.into_iter().chain(asked.requisite).next().unwrap_or_else(|| Topology {
        segments: [("topology.csi.cloudstack.apache.org/zone".to_owned(), zone.to_owned())].into(),
    })
}

/// Refuses a request to attach that lacks something.
pub(super) fn attachable(request: &ControllerPublishVolumeRequest, node: &str) -> Result<(), Status> {
    required("volume_id", &request.volume_id)?;
    required("node_id", &request.node_id)?;
    whole(request.volume_capability.as_ref())?;
    if request.readonly {
        return Err(Status::invalid_argument("readonly is not supported"));
    }
    if request.node_id != node {
        return Err(Status::not_found(format!("there is no node {}", request.node_id)));
    }
    Ok(())
}
