//! Requests as kubelet makes them. All fields can be changed before they are sent.

use std::fs;

use anyhow::{Context as _, Result};
use bootstrap::digest::Digest;

use super::bed::{Bed, DRIVER, KUBELET};
use super::disk::Disk;
use super::proto::volume_capability::access_mode::Mode;
use super::proto::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use super::proto::{
    CapacityRange, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};

/// How a volume is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// With a filesystem of this type; an empty one leaves it to the daemon.
    Filesystem(String),
    /// As a device.
    Block,
}

impl Kind {
    /// With a filesystem.
    #[must_use]
    pub fn filesystem(kind: &str) -> Self {
        Self::Filesystem(kind.to_owned())
    }
}

/// What kubelet asks for a volume that one node may use: of a driver with `SINGLE_NODE_MULTI_WRITER`, by several pods.
#[must_use]
pub fn capability(kind: &Kind) -> VolumeCapability {
    let access = match kind {
        Kind::Filesystem(kind) => AccessType::Mount(MountVolume { fs_type: kind.clone(), ..MountVolume::default() }),
        Kind::Block => AccessType::Block(BlockVolume {}),
    };
    let mode = AccessMode { mode: Mode::SingleNodeMultiWriter.into() };
    VolumeCapability { access_mode: Some(mode), access_type: Some(access) }
}

impl Bed {
    /// kubelet's staging path of a disk's volume. As kubelet does before it calls, makes the directory, and
    /// `vol_data.json` beside it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn staging(&self, disk: &Disk) -> Result<String> {
        let csi = format!("{KUBELET}/plugins/kubernetes.io/csi");
        if disk.kind == Kind::Block {
            let path = format!("{csi}/volumeDevices/staging/pvc-{}", disk.volume_id);
            self.directory(&path)?;
            return Ok(path);
        }
        let volume = format!("{csi}/{DRIVER}/{}", Digest::of(disk.volume_id.as_bytes()).hex());
        let path = format!("{volume}/globalmount");
        // A mount that has lost its device can't be looked at, and kubelet doesn't.
        self.directory(&volume)?;
        self.directory(&path)?;
        self.volume_data(&volume, disk)?;
        Ok(path)
    }

    /// kubelet's path for the volume of a disk in pod number `pod`. As kubelet does before it calls, makes the directory
    /// that it lies in.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn target(&self, disk: &Disk, pod: u32) -> Result<String> {
        let uid = format!("00000000-0000-4000-8000-{pod:012x}");
        if disk.kind == Kind::Block {
            let directory = format!("{KUBELET}/plugins/kubernetes.io/csi/volumeDevices/publish/pvc-{}", disk.volume_id);
            self.directory(&directory)?;
            return Ok(format!("{directory}/{uid}"));
        }
        let directory = format!("{KUBELET}/pods/{uid}/volumes/kubernetes.io~csi/pvc-{}", disk.volume_id);
        self.directory(&directory)?;
        self.volume_data(&directory, disk)?;
        Ok(format!("{directory}/mount"))
    }

    /// `NodeStageVolume`.
    ///
    /// # Errors
    /// As [`Self::staging`].
    pub fn stage(&self, disk: &Disk) -> Result<NodeStageVolumeRequest> {
        Ok(NodeStageVolumeRequest {
            volume_id: disk.volume_id.clone(),
            staging_target_path: self.staging(disk)?,
            volume_capability: Some(capability(&disk.kind)),
            publish_context: [("deviceID".to_owned(), "1".to_owned())].into(),
            ..NodeStageVolumeRequest::default()
        })
    }

    /// `NodeUnstageVolume`.
    ///
    /// # Errors
    /// As [`Self::staging`].
    pub fn unstage(&self, disk: &Disk) -> Result<NodeUnstageVolumeRequest> {
        let (volume_id, staging_target_path) = (disk.volume_id.clone(), self.staging(disk)?);
        Ok(NodeUnstageVolumeRequest { volume_id, staging_target_path })
    }

    /// `NodePublishVolume` for pod number `pod`.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub fn publish(&self, disk: &Disk, pod: u32) -> Result<NodePublishVolumeRequest> {
        Ok(NodePublishVolumeRequest {
            volume_id: disk.volume_id.clone(),
            staging_target_path: self.staging(disk)?,
            target_path: self.target(disk, pod)?,
            volume_capability: Some(capability(&disk.kind)),
            publish_context: [("deviceID".to_owned(), "1".to_owned())].into(),
            ..NodePublishVolumeRequest::default()
        })
    }

    /// `NodeUnpublishVolume` for pod number `pod`.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub fn unpublish(&self, disk: &Disk, pod: u32) -> Result<NodeUnpublishVolumeRequest> {
        let (volume_id, target_path) = (disk.volume_id.clone(), self.target(disk, pod)?);
        Ok(NodeUnpublishVolumeRequest { volume_id, target_path })
    }

    /// `NodeGetVolumeStats` for pod number `pod`.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub fn stats(&self, disk: &Disk, pod: u32) -> Result<NodeGetVolumeStatsRequest> {
        let (volume_id, volume_path) = (disk.volume_id.clone(), self.target(disk, pod)?);
        Ok(NodeGetVolumeStatsRequest { volume_id, volume_path, staging_target_path: self.staging(disk)? })
    }

    /// `NodeExpandVolume` to at least `size` bytes, for pod number `pod`.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub fn expand(&self, disk: &Disk, pod: u32, size: u64) -> Result<NodeExpandVolumeRequest> {
        let required_bytes = i64::try_from(size).context("A size is less than 8 EiB")?;
        Ok(NodeExpandVolumeRequest {
            volume_id: disk.volume_id.clone(),
            volume_path: self.target(disk, pod)?,
            staging_target_path: self.staging(disk)?,
            capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
            volume_capability: Some(capability(&disk.kind)),
            ..NodeExpandVolumeRequest::default()
        })
    }

    fn volume_data(&self, directory: &str, disk: &Disk) -> Result<()> {
        let data = serde_json::json!({ "driverName": DRIVER, "volumeHandle": disk.volume_id });
        let path = self.path(directory).join("vol_data.json");
        fs::write(&path, data.to_string()).with_context(|| format!("Writing {}", path.display()))
    }
}
