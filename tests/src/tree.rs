//! A directory tree as one digest, and as a listing that shows where two trees differ.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use bootstrap::digest::{Digest, Hasher};

/// The state of a tree: one line per file, sorted by path: kind, mode, path, content or link target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The lines.
    pub lines: Vec<String>,
}

impl Tree {
    /// Reads the tree under `root`. A path that equals an entry of `without`, or lies below one, is left
    /// out; both are relative to `root`.
    ///
    /// # Errors
    /// When something can't be read.
    pub fn read(root: &Path, without: &[&str]) -> Result<Self> {
        let mut lines = Vec::new();
        walk(root, Path::new(""), without, &mut lines)?;
        Ok(Self { lines })
    }

    /// One digest of all lines.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.lines.join("\n").as_bytes())
    }

    /// What the other tree has otherwise: `-` lines of this one, `+` lines of the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> String {
        let minus = self.lines.iter().filter(|line| !other.lines.contains(line)).map(|line| format!("-{line}\n"));
        let plus = other.lines.iter().filter(|line| !self.lines.contains(line)).map(|line| format!("+{line}\n"));
        minus.chain(plus).collect()
    }
}

fn walk(root: &Path, below: &Path, without: &[&str], lines: &mut Vec<String>) -> Result<()> {
    let directory = root.join(below);
    let entries = fs::read_dir(&directory).with_context(|| format!("Reading {}", directory.display()))?;
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        let relative = below.join(&name);
        if without.iter().any(|path| relative.starts_with(path)) {
            continue;
        }
        let path = root.join(&relative);
        let shown = relative.display();
        let meta = fs::symlink_metadata(&path).with_context(|| format!("Reading {}", path.display()))?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            lines.push(format!("d {mode:04o} {shown}"));
            walk(root, &relative, without, lines)?;
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).with_context(|| format!("Reading {}", path.display()))?;
            lines.push(format!("l {shown} -> {}", target.display()));
        } else if meta.is_file() {
            lines.push(format!("f {mode:04o} {shown} {}", digest_of(&path)?));
        } else {
            lines.push(format!("o {mode:04o} {shown}"));
        }
    }
    Ok(())
}

/// The digest of a file's content.
///
/// # Errors
/// When it can't be read.
pub fn digest_of(path: &Path) -> Result<Digest> {
    use std::io::Read as _;
    let mut file = fs::File::open(path).with_context(|| format!("Opening {}", path.display()))?;
    let (mut hasher, mut chunk) = (Hasher::default(), vec![0; 1 << 20]);
    loop {
        let got = file.read(&mut chunk).with_context(|| format!("Reading {}", path.display()))?;
        if got == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&chunk[..got]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_shows() {
        let one = tempfile::tempdir().unwrap();
        let root = one.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/f"), "x").unwrap();
        fs::write(root.join("skip"), "1").unwrap();
        std::os::unix::fs::symlink("f", root.join("a/l")).unwrap();
        let before = Tree::read(root, &["skip"]).unwrap();
        fs::write(root.join("skip"), "2").unwrap();
        assert_eq!(before.digest(), Tree::read(root, &["skip"]).unwrap().digest());

        fs::set_permissions(root.join("a/f"), fs::Permissions::from_mode(0o600)).unwrap();
        let mode = Tree::read(root, &["skip"]).unwrap();
        assert_ne!(before.digest(), mode.digest());
        assert_eq!(before.difference(&mode).lines().count(), 2, "{}", before.difference(&mode));

        fs::write(root.join("a/f"), "y").unwrap();
        fs::remove_file(root.join("a/l")).unwrap();
        std::os::unix::fs::symlink("g", root.join("a/l")).unwrap();
        fs::remove_dir(root.join("a/b")).unwrap();
        let after = Tree::read(root, &["skip"]).unwrap();
        assert_eq!(mode.difference(&after).lines().count(), 5, "{}", mode.difference(&after));
    }
}
