//! Failures that people and programs can act on: a stable code, what happened, what to do. Long, because each code stands
//! in it three times: as a variant, in the list, and in the table.

use std::fmt;

use serde::{Deserialize, Serialize};

use self::Retry::{NeedsOperator, Transient};

/// The class of a failure. The spelling of [`Code::as_str`] is part of the interface: it appears in
/// messages, status, logs and `docs/errors.md`, and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// No source holds a bundle.
    MediaNotFound,
    /// A source answers, but what it holds is no CKS bundle (a ConfigDrive, an empty directory).
    MediaNotABundle,
    /// The bundle has no etcd, and the role is etcd.
    MediaLacksEtcd,
    /// The bundle lacks another component that the role needs.
    MediaLacksComponent,
    /// The bundle is for another machine architecture.
    ArchMismatch,
    /// The manifest can't be read or contradicts itself.
    ManifestInvalid,
    /// The manifest is of a newer format.
    ManifestUnsupported,
    /// The policy wants a manifest and the bundle has none.
    ManifestRequired,
    /// Content differs from the digest in the manifest.
    DigestMismatch,
    /// A file is not what its name says: HTML instead of a binary, a text instead of an archive.
    ContentInvalid,
    /// The source ended before the last byte.
    SourceTruncated,
    /// The source lacks a file that its manifest or listing names.
    SourceFileMissing,
    /// The source does not answer.
    SourceUnreachable,
    /// The source's answer breaks HTTP's or ISO 9660's rules.
    SourceInvalid,
    /// An archive would write outside its directory.
    ArchiveUnsafe,
    /// An image archive can't be understood.
    ImageInvalid,
    /// Not enough room on a filesystem.
    NoSpace,
    /// The directory given by `--root` does not exist.
    RootNotFound,
    /// Another bootstrap works on the same root.
    AlreadyRunning,
    /// containerd does not answer.
    ContainerdUnavailable,
    /// containerd refuses an import step.
    ContainerdRefused,
    /// The journal or status file can't be read.
    StateInvalid,
    /// A setting or argument can't be used.
    ConfigInvalid,
    /// The builder's spec can't be used.
    SpecInvalid,
    /// The policy wants a signature and the bundle has none.
    SignatureMissing,
    /// A signature is none, or was not made by a trusted key.
    SignatureInvalid,
    /// A key file is none, or its password is wrong.
    KeyInvalid,
    /// The lock is missing, or was made from another spec.
    LockStale,
    /// The cache lacks what an offline build needs.
    NotCached,
    /// A registry wants other credentials, or none of it may be read.
    RegistryDenied,
    /// A registry has no such image, or none for the architecture.
    RegistryLacksImage,
    /// The bundle is older than the policy allows, or than what is installed.
    VersionTooOld,
    /// What is installed or imported is no longer what the manifest says.
    Drift,
    /// User data can't be read, or contradicts itself.
    UserDataInvalid,
    /// User data asks for nothing that is known: its scripts are left alone.
    UserDataUnknown,
    /// Nobody tells this machine its user data.
    MetadataUnreachable,
    /// The user's CNI configuration can't be used.
    CniInvalid,
    /// The machine lacks something that a node needs.
    HostUnfit,
    /// This Kubernetes version does not run on cgroup v1.
    CgroupUnsupported,
    /// A network of the cluster overlaps one that the machine is in.
    CidrOverlap,
    /// This machine's clock is so far off that certificates are not valid.
    ClockSkew,
    /// Another program listens at a port that the node needs.
    PortInUse,
    /// containerd runs with other settings than a node needs.
    ContainerdMisconfigured,
    /// A service does not start, or does not stay up.
    ServiceFailed,
    /// The API server does not answer.
    ApiUnreachable,
    /// The cluster does not know the bootstrap token.
    TokenRefused,
    /// The API server's authority is not the one that was told.
    CaMismatch,
    /// The uploaded certificates are gone, or of another key.
    CertificateKeyRefused,
    /// Another ready node of the cluster has this name.
    NodeNameTaken,
    /// This machine is a node of another cluster.
    AlreadyMember,
    /// kubeadm init or join failed.
    KubeadmFailed,
    /// The node does not become what it should be in its cluster.
    NodeNotReady,
    /// The API server refuses an object.
    ApplyRefused,
    /// etcd does not answer.
    EtcdUnavailable,
    /// What was asked for would cost etcd its quorum.
    EtcdQuorum,
    /// etcd's data or members are of another cluster.
    EtcdForeign,
    /// Something of the node could not be taken away.
    LeaveIncomplete,
    /// A program of the distribution is missing.
    ToolMissing,
    /// What was waited for did not come in time.
    TimedOut,
    /// Reading or writing a file of this machine failed.
    Io,
    /// Interrupted by a signal; run again to go on.
    Interrupted,
}

/// Who can make the next try succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// The same call may succeed later by itself.
    Transient,
    /// A person has to change the media, the machine or the settings.
    NeedsOperator,
}

impl Code {
    /// Every code, in the order of `docs/errors.md`.
    pub const ALL: [Self; 61] = [
        Self::MediaNotFound,
        Self::MediaNotABundle,
        Self::MediaLacksEtcd,
        Self::MediaLacksComponent,
        Self::ArchMismatch,
        Self::ManifestInvalid,
        Self::ManifestUnsupported,
        Self::ManifestRequired,
        Self::DigestMismatch,
        Self::ContentInvalid,
        Self::SourceTruncated,
        Self::SourceFileMissing,
        Self::SourceUnreachable,
        Self::SourceInvalid,
        Self::ArchiveUnsafe,
        Self::ImageInvalid,
        Self::NoSpace,
        Self::RootNotFound,
        Self::AlreadyRunning,
        Self::ContainerdUnavailable,
        Self::ContainerdRefused,
        Self::StateInvalid,
        Self::ConfigInvalid,
        Self::SpecInvalid,
        Self::SignatureMissing,
        Self::SignatureInvalid,
        Self::KeyInvalid,
        Self::LockStale,
        Self::NotCached,
        Self::RegistryDenied,
        Self::RegistryLacksImage,
        Self::VersionTooOld,
        Self::Drift,
        Self::UserDataInvalid,
        Self::UserDataUnknown,
        Self::MetadataUnreachable,
        Self::CniInvalid,
        Self::HostUnfit,
        Self::CgroupUnsupported,
        Self::CidrOverlap,
        Self::ClockSkew,
        Self::PortInUse,
        Self::ContainerdMisconfigured,
        Self::ServiceFailed,
        Self::ApiUnreachable,
        Self::TokenRefused,
        Self::CaMismatch,
        Self::CertificateKeyRefused,
        Self::NodeNameTaken,
        Self::AlreadyMember,
        Self::KubeadmFailed,
        Self::NodeNotReady,
        Self::ApplyRefused,
        Self::EtcdUnavailable,
        Self::EtcdQuorum,
        Self::EtcdForeign,
        Self::LeaveIncomplete,
        Self::ToolMissing,
        Self::TimedOut,
        Self::Io,
        Self::Interrupted,
    ];

    /// The stable spelling: `DIGEST_MISMATCH`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Whether trying again can help by itself.
    #[must_use]
    pub fn retry(self) -> Retry {
        self.row().1
    }

    /// What a person does about it, where the failure names nothing better.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        self.row().2
    }

    /// The exit code of a program that ends with this failure (`docs/errors.md`): 75 when the same
    /// call may succeed later, 65 when the media is at fault, 78 when the machine or its settings are.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match (self.retry(), self) {
            (Retry::Transient, _) => 75,
            (
                Retry::NeedsOperator,
                Self::NoSpace
                | Self::RootNotFound
                | Self::ContainerdRefused
                | Self::StateInvalid
                | Self::ConfigInvalid
                | Self::KeyInvalid
                | Self::NotCached
                | Self::RegistryDenied
                | Self::Drift
                | Self::UserDataInvalid
                | Self::UserDataUnknown
                | Self::CniInvalid
                | Self::HostUnfit
                | Self::CgroupUnsupported
                | Self::CidrOverlap
                | Self::ClockSkew
                | Self::PortInUse
                | Self::ContainerdMisconfigured
                | Self::TokenRefused
                | Self::CaMismatch
                | Self::CertificateKeyRefused
                | Self::NodeNameTaken
                | Self::AlreadyMember
                | Self::ApplyRefused
                | Self::EtcdQuorum
                | Self::EtcdForeign
                | Self::LeaveIncomplete
                | Self::ToolMissing
                | Self::Io,
            ) => 78,
            (Retry::NeedsOperator, _) => 65,
        }
    }

    fn row(self) -> Row {
        ROWS[self as usize]
    }
}

/// Spelling, retry class, remedy.
type Row = (&'static str, Retry, &'static str);

/// One row per code, in the order of the enum.
#[rustfmt::skip]
const ROWS: [Row; Code::ALL.len()] = [
    ("MEDIA_NOT_FOUND", Transient, "attach the CKS ISO, or name a source that holds it with --source"),
    ("MEDIA_NOT_A_BUNDLE", NeedsOperator, "attach the CKS ISO of the wanted Kubernetes version instead"),
    ("MEDIA_LACKS_ETCD", NeedsOperator, "build the ISO with an [etcd] component, or choose another role"),
    ("MEDIA_LACKS_COMPONENT", NeedsOperator, "rebuild the ISO with the missing component"),
    ("ARCH_MISMATCH", NeedsOperator, "use the ISO that was built for this machine's architecture"),
    ("MANIFEST_INVALID", NeedsOperator, "rebuild the ISO with cks-iso build, then run cks-iso verify on it"),
    ("MANIFEST_UNSUPPORTED", NeedsOperator, "install a newer cks-agent, or build the ISO with an older cks-iso"),
    ("MANIFEST_REQUIRED", NeedsOperator, "build the ISO with cks-iso, or allow stock ISOs with --policy accept-legacy"),
    ("DIGEST_MISMATCH", NeedsOperator, "replace the ISO: run cks-iso verify on it where it came from, then attach it again"),
    ("CONTENT_INVALID", NeedsOperator, "rebuild the ISO: a download of its build was an error page or the wrong file"),
    ("SOURCE_TRUNCATED", NeedsOperator, "compare the ISO's size with the original and attach it again"),
    ("SOURCE_FILE_MISSING", NeedsOperator, "serve the whole content of the ISO, unchanged"),
    ("SOURCE_UNREACHABLE", Transient, "check that the source is up and that this machine reaches it"),
    ("SOURCE_INVALID", NeedsOperator, "serve the ISO by Apache or nginx, or attach it as a disc"),
    ("ARCHIVE_UNSAFE", NeedsOperator, "do not use this ISO; find out who built it"),
    ("IMAGE_INVALID", NeedsOperator, "make the archive again with docker save, ctr image export or skopeo, uncompressed"),
    ("NO_SPACE", NeedsOperator, "free space or grow the filesystem, then run again"),
    ("ROOT_NOT_FOUND", NeedsOperator, "create the directory, or correct --root"),
    ("ALREADY_RUNNING", Transient, "wait for it: cks-agent status --watch"),
    ("CONTAINERD_UNAVAILABLE", Transient, "start containerd (systemctl status containerd), or name its socket with --containerd"),
    ("CONTAINERD_REFUSED", NeedsOperator, "read containerd's log (journalctl -u containerd)"),
    ("STATE_INVALID", NeedsOperator, "move the file aside and run cks-agent bootstrap again: it looks at the machine anew"),
    ("CONFIG_INVALID", NeedsOperator, "correct the value; --help of the same command lists what is allowed"),
    ("SPEC_INVALID", NeedsOperator, "correct the spec; docs/building.md describes every key"),
    ("SIGNATURE_MISSING", NeedsOperator, "sign the ISO with cks-iso sign, or verify it without --require-signature"),
    ("SIGNATURE_INVALID", NeedsOperator, "do not use this ISO until it is known who signed it; trust another key with --key"),
    ("KEY_INVALID", NeedsOperator, "name a minisign key; cks-iso keygen makes one"),
    ("LOCK_STALE", NeedsOperator, "run cks-iso lock SPEC, and look at what changed"),
    ("NOT_CACHED", NeedsOperator, "run the same build once without --offline"),
    ("REGISTRY_DENIED", NeedsOperator, "log in (docker login, skopeo login), or correct the reference"),
    ("REGISTRY_LACKS_IMAGE", NeedsOperator, "correct the reference, or choose a tag that has the architecture"),
    ("VERSION_TOO_OLD", NeedsOperator, "attach a newer ISO, or lower trust.minimum-version in /etc/cks-agent/config.toml"),
    ("DRIFT", NeedsOperator, "run cks-agent bootstrap again: it mends what differs; and find out who changed it"),
    ("USER_DATA_INVALID", NeedsOperator, "correct the named line of the user data; cks-agent explain shows what is understood"),
    ("USER_DATA_UNKNOWN", NeedsOperator, "cks-agent explain shows what was recognised; give --role, or a cks: section"),
    ("METADATA_UNREACHABLE", Transient, "check the virtual router, or the ConfigDrive, of this node's network"),
    ("CNI_INVALID", NeedsOperator, "correct the named line of the CNI configuration and register it anew"),
    ("HOST_UNFIT", NeedsOperator, "change what the message names, or leave the check out by its name"),
    ("CGROUP_UNSUPPORTED", NeedsOperator, "boot with systemd.unified_cgroup_hierarchy=1, or use Kubernetes 1.34 or older"),
    ("CIDR_OVERLAP", NeedsOperator, "choose another pod or service network, or another guest network"),
    ("CLOCK_SKEW", NeedsOperator, "set the clock: chronyc makestep, or start a time service"),
    ("PORT_IN_USE", NeedsOperator, "stop the program that the message names"),
    ("CONTAINERD_MISCONFIGURED", NeedsOperator, "compare `containerd config dump` with /etc/containerd/conf.d"),
    ("SERVICE_FAILED", Transient, "systemctl status and journalctl -u of the named unit"),
    ("API_UNREACHABLE", Transient, "check that the control plane is up and that port 6443 is reached from here"),
    ("TOKEN_REFUSED", NeedsOperator, "make a token on the control plane (kubeadm token create) and give it in the user data"),
    ("CA_MISMATCH", NeedsOperator, "do not join: find out who answers at that address; correct the pin if the authority was renewed"),
    ("CERTIFICATE_KEY_REFUSED", NeedsOperator, "upload the certificates again (kubeadm init phase upload-certs --upload-certs) with the same key"),
    ("NODE_NAME_TAKEN", NeedsOperator, "remove the other node (kubectl delete node), or give this machine another name"),
    ("ALREADY_MEMBER", NeedsOperator, "run cks-agent leave first"),
    ("KUBEADM_FAILED", Transient, "read the named log; cks-agent leave cleans up what was begun"),
    ("NODE_NOT_READY", Transient, "kubectl describe node, and journalctl -u kubelet"),
    ("APPLY_REFUSED", NeedsOperator, "correct the manifest that the message names"),
    ("ETCD_UNAVAILABLE", Transient, "systemctl status etcd on the members; cks-agent etcd status"),
    ("ETCD_QUORUM", NeedsOperator, "bring the other members back first; cks-agent etcd status"),
    ("ETCD_FOREIGN", NeedsOperator, "move the data directory away if it is not wanted; cks-agent etcd member replace"),
    ("LEAVE_INCOMPLETE", NeedsOperator, "stop what the message names and run cks-agent leave again"),
    ("TOOL_MISSING", NeedsOperator, "install the program's package"),
    ("TIMED_OUT", Transient, "cks-agent status tells what was waited for; run the same command again"),
    ("IO", NeedsOperator, "look at the named file and the kernel log"),
    ("INTERRUPTED", Transient, "run the same command again: it goes on where it stopped"),
];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with its code, the object and cause in words, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// The class.
    pub code: Code,
    /// Object and cause, one line: `k8s/kubelet from http://…: HTTP 404`.
    pub what: String,
    /// A better remedy than the class's own, where there is one.
    pub remedy: Option<String>,
    /// The error below, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure of class `code`: `what` names the object and the cause.
    #[must_use]
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), remedy: None, source: None }
    }

    /// With a remedy that fits better than the class's own.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With the error that it came from.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a person does about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        self.remedy.as_deref().unwrap_or_else(|| self.code.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_listed_once_and_spelled_as_serde_spells_them() {
        for (at, code) in Code::ALL.iter().enumerate() {
            assert!(!Code::ALL[..at].contains(code), "{code} stands twice");
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
            assert_eq!(*code as usize, at, "{code} is out of order");
            assert!(!code.remedy().is_empty());
        }
        assert_eq!(Code::Interrupted as usize + 1, Code::ALL.len(), "ALL misses a code");
    }
}
