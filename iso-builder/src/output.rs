//! The path that an ISO is written to, looked at before anything is written there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bootstrap::failure::{Code, Failure};

use crate::partial::hidden;
use crate::sums;

/// Refuses an output that can't become a file, and one that is, itself or by a file beside it, one of
/// `read`: a key that was written over is lost.
///
/// # Errors
/// `CONFIG_INVALID` names the output, and the file that is read.
pub fn check(output: &Path, read: &[PathBuf]) -> Result<(), Failure> {
    let refuse = |why: String| {
        Err(Failure::new(Code::ConfigInvalid, format!("{} {why}", output.display()))
            .with_remedy("name the ISO to be made with -o OUT.iso"))
    };
    if output.file_name().is_none() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return refuse("is no file name".to_owned());
    }
    if fs::symlink_metadata(output).is_ok_and(|meta| !meta.is_file()) {
        return refuse("exists and is no regular file".to_owned());
    }
    let found: Vec<_> = read.iter().filter_map(|path| Some((identity(path)?, path))).collect();
    let suffixes = [sums::SHA256, sums::SHA512, sums::SPDX, sums::MINISIG];
    for written in std::iter::once(output.to_owned()).chain(suffixes.map(|suffix| sums::beside(output, suffix))) {
        let both = [identity(&written), identity(&hidden(&written))];
        let Some((_, path)) = found.iter().find(|(id, _)| both.contains(&Some(*id))) else { continue };
        let same = format!("is the same file as {}, which is read", path.display());
        return refuse(if written == output { same } else { format!("is no good name: {} {same}", written.display()) });
    }
    Ok(())
}

/// Whether both are names of one file.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    identity(one).is_some_and(|id| identity(other) == Some(id))
}

/// Device and inode, where there is a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["key", "out.iso.minisig", ".hid.partial", "old.iso"] {
            fs::write(at(name), "x").unwrap();
        }
        fs::hard_link(at("key"), at("other-name")).unwrap();
        std::os::unix::fs::symlink("key", at("link")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        for (output, read, why) in [
            ("new.iso", "key", ""),
            ("old.iso", "key", ""),
            ("new.iso", "absent", ""),
            ("key", "key", "is the same file as "),
            ("other-name", "key", "is the same file as "),
            ("key", "link", "is the same file as "),
            ("out.iso", "out.iso.minisig", "is no good name"),
            ("hid", ".hid.partial", "is the same file as "),
            ("link", "absent", "is no regular file"),
            ("directory", "absent", "is no regular file"),
            ("new/", "absent", "is no file name"),
        ] {
            match check(&at(output), &[at(read)]) {
                Ok(()) => assert_eq!(why, "", "{output} {read}"),
                Err(failure) => assert!(!why.is_empty() && failure.what.contains(why), "{output} {read}: {failure}"),
            }
        }
    }
}
