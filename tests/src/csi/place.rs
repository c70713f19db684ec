//! Where disks are plugged in.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::leash::Heir;
use crate::process::Command;

/// Frees the loop devices whose file's path has one of the arguments in it, once its standard input ends, and removes the
/// first argument, a directory. A device that a last mount still holds goes with that mount.
const FREE: &str = r#"
cat >/dev/null
for part in "$@"; do
    losetup --list --noheadings --raw --output NAME,BACK-FILE | while read -r name file; do
        case $file in *"$part"*) losetup --detach "$name" ;; esac
    done
done
rm -rf --one-file-system "$1"
"#;

/// A mount namespace with places of its own for the nodes of disks and for what sysfs says of them.
pub(crate) trait Place: fmt::Debug + Send + Sync {
    /// A directory for the files of disks.
    fn directory(&self) -> &Path;

    /// Where the namespace's absolute `path` is to be seen from outside.
    fn path(&self, path: &str) -> PathBuf;

    /// Whether loop devices that are no disks are shown there, too.
    fn shows_others(&self) -> bool;
}

/// What clears up when the place is gone, however it went: frees the loop devices on files in `directory`, and those on
/// others with one of `parts` in their path, and removes the directory.
pub(crate) fn freeing(directory: &Path, parts: &[&str]) -> Result<Heir> {
    Command::new("sh").args(["-c", FREE, "free"]).arg(directory).args(parts).heir()
}
