//! Tells when files may have changed.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::net::unix::pipe::Receiver;

use crate::host::{Host, STATUS_PATH};

/// How often somebody looks by himself where nothing tells: inotify is not there, or a directory is not yet.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Bytes of events that are read at once; one with the longest name is 272.
const EVENTS: usize = 4096;

/// Tells when a file in some directories may have changed. One watch for its whole life, and no thread: who waits for
/// long must not keep the process from ending.
#[derive(Debug)]
pub(crate) struct Changes {
    directories: Vec<PathBuf>,
    inotify: Option<(Inotify, Receiver)>,
    /// What is watched; a directory that was made anew is another one.
    watched: BTreeSet<WatchDescriptor>,
}

impl Changes {
    /// Of the status document. To be called by a task, as [`Self::below`].
    pub(crate) fn of(host: &Host) -> Self {
        Self::below(host.path(STATUS_PATH).parent().map(Path::to_owned))
    }

    /// Of the files in `directories`; of one that is not there, none is told at once.
    pub(crate) fn below(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        // Read as a pipe, whose bytes nobody looks at: that something happened is enough.
        let receiver = |inotify: &Inotify| Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?);
        let inotify = inotify.and_then(|inotify| receiver(&inotify).ok().map(|told| (inotify, told)));
        let mut directories: Vec<PathBuf> = directories.into_iter().collect();
        directories.sort();
        directories.dedup();
        let mut changes = Self { directories, inotify, watched: BTreeSet::new() };
        changes.watch();
        changes
    }

    /// Waits for a change, and for no longer than `longest`: what the kernel does not tell (another filesystem, an
    /// overlay) is seen then.
    pub(crate) async fn wait(&mut self, longest: Duration) {
        let before = self.watched.clone();
        // A directory that came since the last look may have brought a file.
        if !self.watch().is_subset(&before) {
            return;
        }
        let all = self.watched.len() == self.directories.len();
        let pause = if all { longest } else { longest.min(LOOK_EVERY) };
        let Some((_, told)) = &self.inotify else {
            tokio::time::sleep(pause).await;
            return;
        };
        if let Ok(Ok(())) = tokio::time::timeout(pause, told.readable()).await {
            // An overflow, or an event of a directory that went, only means: look.
            while told.try_read(&mut [0; EVENTS]).is_ok_and(|count| count > 0) {}
        }
    }

    /// Watches each directory as it is now.
    fn watch(&mut self) -> &BTreeSet<WatchDescriptor> {
        // The directory, not the file: a document is replaced by rename.
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ONLYDIR;
        if let Some((inotify, _)) = &self.inotify {
            let added = |directory: &PathBuf| inotify.add_watch(directory, flags).ok();
            self.watched = self.directories.iter().filter_map(added).collect();
        }
        &self.watched
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Longer than any look of its own, shorter than [`LONG`].
    async fn is_told(changes: &mut Changes) -> bool {
        tokio::time::timeout(LONG / 4, changes.wait(LONG)).await.is_ok()
    }

    #[tokio::test]
    async fn a_change_is_told_at_once_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let mut changes = Changes::below([root.path().to_owned()]);
        fs::write(root.path().join("a"), "").unwrap();
        assert!(is_told(&mut changes).await);
        let began = Instant::now();
        changes.wait(Duration::from_millis(700)).await;
        assert!(began.elapsed() >= Duration::from_millis(700), "nothing changed: it waits as long as it may");
    }

    #[tokio::test]
    async fn a_directory_that_comes_or_is_made_anew_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let (late, file) = (root.path().join("late"), root.path().join("late/a"));
        let mut changes = Changes::below([root.path().to_owned(), late.clone()]);
        for round in ["at first", "anew"] {
            fs::create_dir(&late).unwrap();
            fs::write(&file, "").unwrap();
            assert!(is_told(&mut changes).await, "{round}: it came with a file");
            fs::write(&file, "x").unwrap();
            assert!(is_told(&mut changes).await, "{round}: it is watched");
            fs::remove_file(&file).unwrap();
            fs::remove_dir(&late).unwrap();
            changes.wait(Duration::from_millis(1)).await;
        }
    }
}
