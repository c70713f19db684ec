//! Requests as they come, made into what can be done; in the order that the specification's tests want: the volume's id,
//! the path, the capability, the staging target path.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use bootstrap::secret::Secret;
use bootstrap::volume::VolumeId;
use bootstrap::volume::encryption::{LUKS2, PARAMETER};
use bootstrap::volume::filesystem::{Kind, mkfs_options};
use bootstrap::volume::options::MountOptions;
use bootstrap::volume::refusal::{Class, Refusal};

use super::proto::csi::volume_capability::access_mode::Mode as Named;
use super::proto::csi::volume_capability::{AccessType, MountVolume};
use super::proto::csi::{
    NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};
use crate::volume::{Access, Expand, Mode, Publish, Stage, Stats, Withdraw};

/// The StorageClass' parameter with further arguments for mkfs.
pub const MKFS_OPTIONS: &str = "csi.cloudstack.apache.org/mkfs-options";
/// The key of a volume's passphrase in the secret that the StorageClass names.
const PASSPHRASE: &str = "passphrase";
/// No passphrase is longer.
const LONGEST_PASSPHRASE: usize = 4096;
/// Linux takes no longer path.
const LONGEST_PATH: usize = 4095;

/// `NodeStageVolume`.
///
/// # Errors
/// `REQUEST_INVALID` names the field; as [`capability`].
pub fn stage(asked: &NodeStageVolumeRequest) -> Result<Stage, Refusal> {
    let id = id(&asked.volume_id)?;
    let staging = path("staging_target_path", &asked.staging_target_path)?;
    let (access, mode) = capability(asked.volume_capability.as_ref())?;
    let passphrase = if encrypted(&asked.volume_context)? { Some(passphrase(&asked.secrets)?) } else { None };
    let mkfs = match &access {
        Access::Filesystem { kind, .. } => options(*kind, &asked.volume_context)?,
        Access::Block => Vec::new(),
    };
    Ok(Stage { id, staging, access, mode, mkfs, passphrase })
}

/// `NodeUnstageVolume`.
///
/// # Errors
/// `REQUEST_INVALID` names the field.
pub fn unstage(asked: &NodeUnstageVolumeRequest) -> Result<Withdraw, Refusal> {
    Ok(Withdraw { id: id(&asked.volume_id)?, path: path("staging_target_path", &asked.staging_target_path)? })
}

/// `NodePublishVolume`.
///
/// # Errors
/// `REQUEST_INVALID` names the field; `VOLUME_NOT_STAGED` without a staging target path; as [`capability`].
pub fn publish(asked: &NodePublishVolumeRequest) -> Result<Publish, Refusal> {
    let id = id(&asked.volume_id)?;
    let target = path("target_path", &asked.target_path)?;
    let (access, mode) = capability(asked.volume_capability.as_ref())?;
    if asked.staging_target_path.is_empty() {
        return Err(Refusal::new(Class::VolumeNotStaged, "staging_target_path is missing: a volume is staged first"));
    }
    let staging = path("staging_target_path", &asked.staging_target_path)?;
    if target.starts_with(&staging) || staging.starts_with(&target) {
        return Err(invalid(format!("target_path {} lies in the staging target path, or around it", target.display())));
    }
    let encrypted = encrypted(&asked.volume_context)?;
    Ok(Publish { id, target, staging, access, mode, read_only: asked.readonly, encrypted })
}

/// `NodeUnpublishVolume`.
///
/// # Errors
/// `REQUEST_INVALID` names the field.
pub fn unpublish(asked: &NodeUnpublishVolumeRequest) -> Result<Withdraw, Refusal> {
    Ok(Withdraw { id: id(&asked.volume_id)?, path: path("target_path", &asked.target_path)? })
}

/// `NodeGetVolumeStats`. A relative path is no error of form here, but a path where the volume is not.
///
/// # Errors
/// `REQUEST_INVALID` names the field; `VOLUME_NOT_FOUND`.
pub fn stats(asked: &NodeGetVolumeStatsRequest) -> Result<Stats, Refusal> {
    let id = id(&asked.volume_id)?;
    Ok(Stats { path: place(&id, &asked.volume_path)?, id })
}

/// `NodeExpandVolume`.
///
/// # Errors
/// As [`stats`]; `REQUEST_INVALID` for a capacity range that contradicts itself.
pub fn expand(asked: &NodeExpandVolumeRequest) -> Result<Expand, Refusal> {
    let id = id(&asked.volume_id)?;
    let path = place(&id, &asked.volume_path)?;
    if asked.volume_capability.is_some() {
        capability(asked.volume_capability.as_ref())?;
    }
    let bytes = |name: &str, bytes: i64| {
        u64::try_from(bytes).map_err(|_| invalid(format!("capacity_range.{name} is {bytes}: not below 0")))
    };
    let range = asked.capacity_range.unwrap_or_default();
    let (required, limit) = (bytes("required_bytes", range.required_bytes)?, bytes("limit_bytes", range.limit_bytes)?);
    if limit > 0 && required > limit {
        return Err(invalid(format!("capacity_range: {required} bytes are required, and the limit is {limit}")));
    }
    Ok(Expand { id, path, required })
}

fn id(id: &str) -> Result<VolumeId, Refusal> {
    VolumeId::parse(id).map_err(|why| invalid(format!("volume_id {why}")))
}

/// Where a volume is said to be.
fn place(id: &VolumeId, text: &str) -> Result<PathBuf, Refusal> {
    let found = path("volume_path", text);
    match found {
        Err(_) if !text.is_empty() && !text.starts_with('/') => {
            let what = format!("the volume {id} is not at {text}, which is no absolute path");
            Err(Refusal::new(Class::VolumeNotFound, what))
        }
        found => found,
    }
}

/// An absolute path that says where it leads.
fn path(field: &str, text: &str) -> Result<PathBuf, Refusal> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let why = match text {
        "" => "is missing",
        _ if text.len() > LONGEST_PATH => "is longer than 4095 bytes",
        _ if text.contains(|c: char| c.is_control()) => "has a control character",
        _ if !text.starts_with('/') => "is no absolute path",
        _ if !plain => "has a part `..`",
        _ if path.components().count() < 2 => "is the root directory",
        _ => return Ok(path.components().collect()),
    };
    Err(invalid(format!("{field} {why}")))
}

/// What a volume is to be used as.
///
/// # Errors
/// `REQUEST_INVALID` names the field; `FILESYSTEM_UNSUPPORTED`.
pub fn capability(asked: Option<&VolumeCapability>) -> Result<(Access, Mode), Refusal> {
    let asked = asked.ok_or_else(|| invalid("volume_capability is missing".to_owned()))?;
    let named = asked.access_mode.ok_or_else(|| invalid("volume_capability.access_mode is missing".to_owned()))?.mode;
    let access = match asked.access_type.as_ref() {
        None => return Err(invalid("volume_capability has neither block nor mount".to_owned())),
        Some(AccessType::Block(_)) => Access::Block,
        Some(AccessType::Mount(mount)) => filesystem(mount)?,
    };
    Ok((access, mode(named)?))
}

fn filesystem(asked: &MountVolume) -> Result<Access, Refusal> {
    if !asked.volume_mount_group.is_empty() {
        return Err(invalid("mount.volume_mount_group: this plugin lacks VOLUME_MOUNT_GROUP".to_owned()));
    }
    let kind = if asked.fs_type.is_empty() { None } else { Some(Kind::parse(&asked.fs_type)?) };
    Ok(Access::Filesystem { kind, options: MountOptions::parse(&asked.mount_flags)? })
}

fn mode(named: i32) -> Result<Mode, Refusal> {
    match Named::try_from(named) {
        Ok(Named::SingleNodeWriter) => Ok(Mode::SingleNodeWriter),
        Ok(Named::SingleNodeReaderOnly | Named::MultiNodeReaderOnly) => Ok(Mode::ReaderOnly),
        Ok(Named::SingleNodeSingleWriter) => Ok(Mode::SingleNodeSingleWriter),
        Ok(Named::SingleNodeMultiWriter) => Ok(Mode::SingleNodeMultiWriter),
        Ok(other @ (Named::MultiNodeSingleWriter | Named::MultiNodeMultiWriter)) => {
            let what = format!("{}: CloudStack attaches a volume to one instance", other.as_str_name());
            Err(Refusal::new(Class::CapabilityUnsupported, what))
        }
        Ok(Named::Unknown) | Err(_) => Err(invalid(format!("volume_capability.access_mode {named} is unknown"))),
    }
}

/// Whether the volume is encrypted.
fn encrypted(context: &HashMap<String, String>) -> Result<bool, Refusal> {
    match context.get(PARAMETER).map(String::as_str) {
        None | Some("" | "none") => Ok(false),
        Some(LUKS2) => Ok(true),
        Some(asked) => {
            let what = format!("{PARAMETER}={asked}: there are {LUKS2} and none");
            Err(Refusal::new(Class::CapabilityUnsupported, what))
        }
    }
}

/// The passphrase, to its last byte: a newline at its end is a part of it.
fn passphrase(secrets: &HashMap<String, String>) -> Result<Secret, Refusal> {
    let why = match secrets.get(PASSPHRASE).map(String::as_str) {
        None => {
            "is missing: the StorageClass names its secret by csi.storage.k8s.io/node-stage-secret-name and -namespace"
        }
        Some("") => "is empty",
        Some(text) if text.len() > LONGEST_PASSPHRASE => "is longer than 4096 bytes",
        Some(text) => return Ok(Secret::new(text)),
    };
    Err(invalid(format!("secrets.{PASSPHRASE} {why}")))
}

/// Further arguments of mkfs; what they may be depends on the kind.
fn options(kind: Option<Kind>, context: &HashMap<String, String>) -> Result<Vec<String>, Refusal> {
    let Some(asked) = context.get(MKFS_OPTIONS).filter(|asked| !asked.trim().is_empty()) else { return Ok(Vec::new()) };
    match kind {
        Some(kind) => mkfs_options(kind, asked),
        None => Err(invalid(format!("{MKFS_OPTIONS} is given without a filesystem: set csi.storage.k8s.io/fstype"))),
    }
}

fn invalid(what: String) -> Refusal {
    Refusal::new(Class::RequestInvalid, what)
}

#[cfg(test)]
mod tests;
