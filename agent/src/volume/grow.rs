//! A filesystem that is to be as large as its device, while it is mounted.

use std::path::Path;
use std::time::Duration;

use bootstrap::failure::Code;
use bootstrap::volume::filesystem::Kind;
use bootstrap::volume::refusal::{Class, Refusal};

use super::devices::Disk;
use super::format::run;
use crate::host::Host;
use crate::tool::Tool;

/// Online growth writes little; but the kernel may have to wait for a disk that is busy.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Grows the filesystem on `disk` that is mounted at `path` to the end of it; nothing where it is there already.
///
/// # Errors
/// `GROW_FAILED` with what the program said.
pub(super) fn grow(host: &Host, kind: Kind, disk: &Disk, path: &Path) -> Result<(), Refusal> {
    let call = match kind {
        Kind::Ext3 | Kind::Ext4 => Tool::Resize2fs.call(host).arg(disk.held()),
        Kind::Xfs => Tool::XfsGrowfs.call(host).arg("-d").arg(path),
        Kind::Btrfs => Tool::Btrfs.call(host).args(["filesystem", "resize", "max"]).arg(path),
    };
    let call = call.patience(PATIENCE);
    let shown = call.shown();
    let said = run(call, Class::GrowFailed)?;
    if said.code == Some(0) {
        return Ok(());
    }
    Err(Refusal::new(Class::GrowFailed, said.failure(&shown, Code::Io).what))
}
