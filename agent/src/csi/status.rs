//! Refusals as gRPC knows them. kubelet takes `Aborted`, `Unavailable`, `ResourceExhausted` and `DeadlineExceeded` for
//! "perhaps something was done", and comes back to undo it; all others say that nothing was.

use bootstrap::volume::refusal::{Class, Refusal};
use tonic::{Code, Status};

/// The first so many bytes of a message are told: percent-encoded, they are up to three times as many, and some clients take
/// 8 KiB of headers.
const LONGEST: usize = 2000;

/// The code of a class of refusals (CSI 1.12, "Error Scheme" and the tables of each RPC).
#[must_use]
pub fn code(class: Class) -> Code {
    match class {
        Class::RequestInvalid | Class::FilesystemUnsupported => Code::InvalidArgument,
        Class::VolumeNotFound => Code::NotFound,
        Class::VolumeIncompatible => Code::AlreadyExists,
        Class::VolumeBusy => Code::Aborted,
        Class::VolumeNotAttached | Class::DiskChanged | Class::DeviceTooSmall | Class::TimedOut => Code::Unavailable,
        Class::Overloaded => Code::ResourceExhausted,
        Class::CapabilityUnsupported
        | Class::VolumeAmbiguous
        | Class::VolumeInUse
        | Class::VolumeNotStaged
        | Class::DiskNotBlank
        | Class::FilesystemMismatch
        | Class::FilesystemDamaged
        // The same passphrase is right for another volume: the request makes sense, and the volume's state is against it.
        | Class::EncryptionKeyRefused
        | Class::EncryptionUnavailable
        | Class::NodeNotReady => Code::FailedPrecondition,
        Class::DiskUnreadable
        | Class::MkfsFailed
        | Class::MountFailed
        | Class::GrowFailed
        | Class::EncryptionFailed
        | Class::Io => Code::Internal,
    }
}

/// The answer to a request that was refused. Its message is a header of HTTP/2, which clients refuse when it is too long:
/// what names something of the request is cut then.
#[must_use]
pub fn status(refusal: &Refusal) -> Status {
    let told = refusal.to_string();
    let (begin, end) = (told.get(..told.floor_char_boundary(LONGEST)), refusal.class.remedy());
    let told = match begin {
        Some(begin) if begin.len() < told.len() => format!("{begin}…; remedy: {end}"),
        _ => told,
    };
    Status::new(code(refusal.class), told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_refusal_passes_for_success_or_for_our_own_mistake() {
        for class in Class::ALL {
            let status = status(&Refusal::new(class, "x"));
            assert!(![Code::Ok, Code::Unknown, Code::Unimplemented].contains(&status.code()), "{class:?}");
            assert!(status.message().starts_with(class.as_str()) && status.details().is_empty(), "{status:?}");
        }
    }

    #[test]
    fn a_message_is_no_longer_than_clients_take() {
        let refusal = Refusal::new(Class::RequestInvalid, "ä".repeat(100_000));
        let status = status(&refusal);
        assert!(status.message().len() < 2200, "{}", status.message().len());
        assert!(
            status.message().starts_with("REQUEST_INVALID: ä") && status.message().ends_with(refusal.class.remedy())
        );
    }
}
