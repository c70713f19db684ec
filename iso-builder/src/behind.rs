//! Writing behind: what is written goes to the disk while the rest is still being made, so that the sync at
//! the end finds little to do.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Bytes after which the disk is asked again.
const STEP: u64 = 64 << 20;

/// Bytes of the thread's stack; it makes one system call.
const STACK: usize = 128 << 10;

/// A file that is written from its start to its end.
#[derive(Debug)]
pub struct Behind<'a> {
    file: &'a File,
    since: u64,
    syncer: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

impl<'a> Behind<'a> {
    /// Writes to `file`; without a thread for it, the sync at the end does all.
    #[must_use]
    pub fn of(file: &'a File) -> Self {
        let (ask, asked) = sync_channel(1);
        let thread = file.try_clone().and_then(|file| {
            let sync = move || asked.iter().try_for_each(|()| file.sync_data());
            Builder::new().name("write-behind".to_owned()).stack_size(STACK).spawn(sync)
        });
        Self { file, since: 0, syncer: thread.ok().map(|thread| (ask, thread)) }
    }

    /// Ends the thread. What is not on the disk yet is left to the caller's sync.
    ///
    /// # Errors
    /// What the disk said: the kernel tells it once, so the caller's sync would not hear of it.
    pub fn finish(mut self) -> io::Result<()> {
        let Some((ask, thread)) = self.syncer.take() else { return Ok(()) };
        drop(ask);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Write for Behind<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buf)?;
        self.since += count as u64;
        if self.since >= STEP {
            self.since = 0;
            if let Some((ask, _)) = &self.syncer {
                match ask.try_send(()) {
                    // It is at work still, or it has failed, which `finish` tells.
                    Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
                }
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_written() {
        let mut file = tempfile::tempfile().unwrap();
        let mut behind = Behind::of(&file);
        let piece = vec![7; 1 << 20];
        (0..130).for_each(|_| behind.write_all(&piece).unwrap());
        behind.finish().unwrap();
        io::Seek::rewind(&mut file).unwrap();
        assert_eq!(io::copy(&mut file, &mut io::sink()).unwrap(), 130 << 20);
    }
}
