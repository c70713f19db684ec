//! cryptsetup: what it is asked to do, and what its answers mean. A passphrase goes to its standard input, and nowhere else.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::time::Duration;

use bootstrap::failure::Code;
use bootstrap::secret::Secret;
use bootstrap::volume::VolumeId;
use bootstrap::volume::luks::{DONE, NEW};
use bootstrap::volume::refusal::{Class, Refusal};

use super::devices::{self, Disk};
use super::format::run;
use super::{mapping, mounts};
use crate::host::Host;
use crate::tool::{Call, Said, Tool};

/// Deriving a key takes two seconds by itself, and longer where a node has much to do.
const PATIENCE: Duration = Duration::from_secs(600);
/// What cryptsetup says by its exit code: no key slot takes the passphrase; somebody has the device.
const NO_KEY: i32 = 2;
const BUSY: i32 = 5;
/// A key is derived with this much memory, in KiB: cryptsetup's own default, 1 GiB, is more than a small node has to spare.
const MEMORY: &str = "65536";
const CONTROL: &str = "/dev/mapper/control";
const MODULE: &str = "dm-crypt.ko";

/// That volumes can be decrypted here. Nothing is changed.
///
/// # Errors
/// `ENCRYPTION_UNAVAILABLE` names what is missing.
pub(super) fn ready(host: &Host) -> Result<(), Refusal> {
    let missing = |what: &str| Refusal::new(Class::EncryptionUnavailable, what);
    if Tool::Cryptsetup.find(host).is_none() {
        return Err(missing("cryptsetup is not installed"));
    }
    // The kernel loads the module when the node is opened.
    File::options().read(true).write(true).open(host.path(CONTROL)).map_err(|e| {
        missing(&format!("the kernel has no device-mapper, or its {CONTROL} is missing")).with_source(e)
    })?;
    if has_module(host) { Ok(()) } else { Err(missing("the kernel has no dm-crypt")) }
}

/// Whether the kernel has dm-crypt, or loads it when it is asked for. Where nobody says what it has, it may.
fn has_module(host: &Host) -> bool {
    if host.path("/sys/module/dm_crypt").exists() {
        return true;
    }
    let release = fs::read_to_string(host.path("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let lists = ["modules.dep", "modules.builtin"].map(|list| format!("/lib/modules/{}/{list}", release.trim()));
    let mut lists = lists.iter().filter_map(|list| fs::read_to_string(host.path(list)).ok()).peekable();
    lists.peek().is_none() || lists.any(|list| list.contains(MODULE))
}

/// That no cryptsetup of an agent that was killed is still at work on the volume. It keeps no disk to itself while it works, as
/// mkfs does: so it is looked for among the processes.
///
/// # Errors
/// `VOLUME_BUSY`.
pub(super) fn alone(host: &Host, id: &VolumeId, disk: Option<&Disk>) -> Result<(), Refusal> {
    let names = [id.luks_uuid(), id.mapping_name()];
    for process in host.processes() {
        let of = |part: &str| host.path(&format!("/proc/{process}/{part}"));
        let read = |part: &str| fs::read(of(part)).unwrap_or_default();
        if read("comm").trim_ascii_end() != Tool::Cryptsetup.name().as_bytes() {
            continue;
        }
        let arguments = read("cmdline");
        let named = arguments.split(|byte| *byte == 0).any(|word| names.iter().any(|name| word == name.as_bytes()));
        let open = || {
            let mut files = fs::read_dir(of("fd")).into_iter().flatten().flatten();
            files.any(|file| {
                let there = fs::metadata(file.path()).ok().filter(|there| there.file_type().is_block_device());
                let there = there.map(|there| devices::device_of_number(there.rdev()));
                disk.is_some_and(|disk| there == Some(disk.device))
            })
        };
        if named || open() {
            let what = format!("a cryptsetup that was started earlier is at work on it (process {process})");
            return Err(Refusal::new(Class::VolumeBusy, what));
        }
    }
    Ok(())
}

/// Makes a header on a disk that was proven blank, with the label [`NEW`].
///
/// # Errors
/// `ENCRYPTION_FAILED`.
pub(super) fn format(host: &Host, id: &VolumeId, disk: &Disk, passphrase: &Secret) -> Result<(), Refusal> {
    let uuid = id.luks_uuid();
    let words = ["luksFormat", "--type", "luks2", "--batch-mode", "--uuid", &uuid, "--label", NEW];
    let call = Tool::Cryptsetup.call(host).args(words).args(["--pbkdf", "argon2id", "--pbkdf-memory", MEMORY]);
    let call = keyed(call, passphrase).arg(disk.held());
    tracing::info!(volume_id = id.as_str(), "making a LUKS header on {}: {}", disk.name, call.shown());
    done(call)
}

/// Opens the volume as its mapping. Its key stays out of the kernel's keyring, so that it can be resized without the
/// passphrase.
///
/// # Errors
/// `ENCRYPTION_KEY_REFUSED`, `VOLUME_IN_USE`, `ENCRYPTION_FAILED`.
pub(super) fn open(
    host: &Host,
    id: &VolumeId,
    disk: &Disk,
    passphrase: &Secret,
    read_only: bool,
) -> Result<(), Refusal> {
    let call = Tool::Cryptsetup.call(host).args(["open", "--type", "luks2", "--disable-keyring"]);
    let call = if read_only { call.arg("--readonly") } else { call };
    let call = keyed(call, passphrase).arg(disk.held()).arg(id.mapping_name());
    with_key(call, disk)
}

/// That the passphrase is the volume's.
///
/// # Errors
/// `ENCRYPTION_KEY_REFUSED`, `ENCRYPTION_FAILED`.
pub(super) fn test(host: &Host, disk: &Disk, passphrase: &Secret) -> Result<(), Refusal> {
    let call = Tool::Cryptsetup.call(host).args(["open", "--test-passphrase", "--type", "luks2"]);
    with_key(keyed(call, passphrase).arg(disk.held()), disk)
}

/// Writes into the header that the volume may hold data from now on.
///
/// # Errors
/// `ENCRYPTION_FAILED`.
pub(super) fn settle(host: &Host, disk: &Disk) -> Result<(), Refusal> {
    done(Tool::Cryptsetup.call(host).args(["config", "--label", DONE]).arg(disk.held()).patience(PATIENCE))
}

/// Makes the mapping as large as its disk.
///
/// # Errors
/// `GROW_FAILED`.
pub(super) fn resize(host: &Host, id: &VolumeId) -> Result<(), Refusal> {
    let call = Tool::Cryptsetup.call(host).arg("resize").arg(id.mapping_name()).patience(PATIENCE);
    let (shown, said) = said(call, Class::GrowFailed)?;
    if said.code == Some(0) { Ok(()) } else { Err(failed(Class::GrowFailed, &shown, &said)) }
}

/// Closes the volume's mapping, which may have lost its disk; nothing where there is none.
///
/// # Errors
/// `VOLUME_IN_USE` names who holds it, or what else has its name; `ENCRYPTION_FAILED`.
pub(super) fn close(host: &Host, id: &VolumeId) -> Result<(), Refusal> {
    let Some((device, _)) = mapping::of_volume(host, id)? else { return Ok(()) };
    let call = Tool::Cryptsetup.call(host).arg("close").arg(id.mapping_name()).patience(PATIENCE);
    let (shown, said) = said(call, Class::EncryptionFailed)?;
    match said.code {
        Some(0) => Ok(()),
        _ if mapping::named(host, id).is_none() => Ok(()),
        Some(BUSY) => {
            let node = host.path(&format!("/dev/{}", devices::name(host, device).unwrap_or_default()));
            let what = format!("{} is in use: {}", id.mapping_name(), crate::leave::holders(host, &node));
            Err(Refusal::new(Class::VolumeInUse, what))
        }
        _ => Err(failed(Class::EncryptionFailed, &shown, &said)),
    }
}

/// What is written to the mapping is on its disk.
///
/// # Errors
/// `IO`.
pub(super) fn flush(mapping: &Disk) -> Result<(), Refusal> {
    let node = mapping.held();
    let file = File::options().write(true).open(&node).and_then(|file| file.sync_all());
    file.map_err(|e| mounts::io("flushing", &mapping.node, e))
}

/// All of the standard input is the key, to its last byte.
fn keyed(call: Call, passphrase: &Secret) -> Call {
    call.args(["--key-file", "-"]).input(passphrase.reveal()).patience(PATIENCE)
}

fn with_key(call: Call, disk: &Disk) -> Result<(), Refusal> {
    let (shown, said) = said(call, Class::EncryptionFailed)?;
    match said.code {
        Some(0) => Ok(()),
        Some(NO_KEY) => {
            let what = format!("the passphrase opens no key slot of {}", disk.name);
            Err(Refusal::new(Class::EncryptionKeyRefused, what))
        }
        Some(BUSY) => Err(failed(Class::VolumeInUse, &shown, &said)),
        _ => Err(failed(Class::EncryptionFailed, &shown, &said)),
    }
}

fn done(call: Call) -> Result<(), Refusal> {
    let (shown, said) = said(call, Class::EncryptionFailed)?;
    if said.code == Some(0) { Ok(()) } else { Err(failed(Class::EncryptionFailed, &shown, &said)) }
}

fn said(call: Call, class: Class) -> Result<(String, Said), Refusal> {
    let shown = call.shown();
    run(call, class).map(|said| (shown, said))
}

fn failed(class: Class, shown: &str, said: &Said) -> Refusal {
    Refusal::new(class, said.failure(shown, Code::Io).what)
}

#[cfg(test)]
mod tests;
