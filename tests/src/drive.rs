//! A drive that discs are put into and taken from while an agent looks on. Without an optical drive, files stand
//! for it below the node's root: `dev/NAME`, a link that appears and goes as udev's nodes do, and
//! `sys/class/block/NAME`. The kernel's own events are shown by loop devices instead (`tests/tests/discs.rs`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A drive of a node.
#[derive(Debug)]
pub struct Drive {
    node: PathBuf,
}

impl Drive {
    /// An empty drive called `name` of the node at `root`.
    ///
    /// # Errors
    /// When its files can't be made.
    pub fn new(root: &Path, name: &str) -> Result<Self> {
        let (dev, sys) = (root.join("dev"), root.join("sys/class/block").join(name));
        for directory in [&dev, &sys] {
            fs::create_dir_all(directory).with_context(|| format!("Making {}", directory.display()))?;
        }
        Ok(Self { node: dev.join(name) })
    }

    /// Its device, as an agent names it.
    #[must_use]
    pub fn name(&self) -> String {
        self.node.to_string_lossy().into_owned()
    }

    /// Puts a disc in, in the place of the one that is there.
    ///
    /// # Errors
    /// When the link can't be made.
    pub fn insert(&self, disc: &Path) -> Result<()> {
        let new = self.node.with_extension("new");
        symlink(disc, &new).with_context(|| format!("Linking {}", new.display()))?;
        fs::rename(&new, &self.node).with_context(|| format!("Renaming {}", new.display()))
    }

    /// Pulls the disc out.
    ///
    /// # Errors
    /// When there is none.
    pub fn pull(&self) -> Result<()> {
        fs::remove_file(&self.node).with_context(|| format!("Removing {}", self.node.display()))
    }
}
