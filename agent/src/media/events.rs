//! Tells when a disc may have been attached or a file copied: the kernel's uevents, and inotify.
//!
//! The kernel's own messages are read, not udev's: they come without udevd, before it, and without its C
//! library. By then devtmpfs has the node.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::sync::Notify;

/// The multicast group of the kernel's messages (udev's own have group 2).
const KERNEL: u32 = 1;
/// A message is at most this long (`lib/kobject_uevent.c`).
const MESSAGE_BYTES: usize = 8192;
/// How long the thread outlives who it works for, in milliseconds.
const LINGER_MS: u16 = 1000;

/// What may happen. Where the machine tells neither, the caller's own looks from time to time are what is left.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kernel: Option<OwnedFd>,
    files: Option<Inotify>,
    happened: Notify,
}

impl Events {
    /// Subscribes to block devices. Look after this, not before: then nothing is missed.
    #[must_use]
    pub fn subscribe() -> Self {
        let files = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        let shared = Arc::new(Shared { kernel: kernel(), files, happened: Notify::new() });
        let listening = Arc::downgrade(&shared);
        // A thread, not the runtime's poll: that takes no file descriptor without unsafe code.
        // Where there is none to be had, nothing is told, as without the kernel's messages.
        let _ = thread::Builder::new().spawn(move || while listen(&listening) {});
        Self { shared }
    }

    /// Watches these directories, too, as far as they are there.
    pub fn watch(&self, directories: Vec<PathBuf>) {
        let Some(files) = &self.shared.files else { return };
        let flags = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        for directory in directories {
            // What is written into a device says nothing, and `/dev/null` is written into all the time.
            let written = match directory.ends_with("dev") {
                true => AddWatchFlags::empty(),
                false => AddWatchFlags::IN_CLOSE_WRITE,
            };
            // Again each time: the directory may be another one by now, and the same one costs nothing.
            let _ = files.add_watch(&directory, flags | written);
        }
    }

    /// Waits until something happened; many things at once are one.
    pub async fn next(&self) {
        self.shared.happened.notified().await;
    }
}

fn kernel() -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkKObjectUEvent;
    let kernel = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol).ok()?;
    bind(kernel.as_raw_fd(), &NetlinkAddr::new(0, KERNEL)).ok()?;
    Some(kernel)
}

/// Listens for a while; tells whether anybody still wants to know.
fn listen(shared: &Weak<Shared>) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let sources = [shared.kernel.as_ref().map(OwnedFd::as_fd), shared.files.as_ref().map(Inotify::as_fd)];
    let mut fds: Vec<PollFd<'_>> =
        sources.into_iter().flatten().map(|source| PollFd::new(source, PollFlags::POLLIN)).collect();
    if fds.is_empty() || poll(&mut fds, PollTimeout::from(LINGER_MS)).is_err_and(|e| e != Errno::EINTR) {
        return false;
    }
    let disc = shared.kernel.as_ref().is_some_and(block_device);
    let mut file = false;
    while shared.files.as_ref().is_some_and(|files| files.read_events().is_ok_and(|events| !events.is_empty())) {
        file = true;
    }
    if disc || file {
        shared.happened.notify_one();
    }
    true
}

/// Reads what the kernel told; tells whether any of it was of a block device.
fn block_device(kernel: &OwnedFd) -> bool {
    let (mut message, mut seen) = (vec![0; MESSAGE_BYTES], false);
    loop {
        match recv(kernel.as_raw_fd(), &mut message, MsgFlags::empty()) {
            Ok(count) => seen |= is_block_device(&message[..count]),
            // Messages were lost: any of them may have been one of these.
            Err(Errno::ENOBUFS) => seen = true,
            Err(Errno::EINTR) => {}
            Err(_) => return seen,
        }
    }
}

/// `change@/devices/…\0ACTION=change\0…\0SUBSYSTEM=block\0…` (`lib/kobject_uevent.c`).
fn is_block_device(message: &[u8]) -> bool {
    message.split(|byte| *byte == 0).any(|field| field == b"SUBSYSTEM=block")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_block_devices_are_told_from_others() {
        let block = b"change@/devices/virtual/block/loop0\0ACTION=change\0SUBSYSTEM=block\0DEVNAME=loop0\0";
        assert!(is_block_device(block));
        for other in [&b"add@/devices/x\0SUBSYSTEM=net\0"[..], b"", b"\xff\0SUBSYSTEM=blockade\0", b"SUBSYSTEM=bloc"] {
            assert!(!is_block_device(other));
        }
    }

    /// The kernel repeats an event for who asks it to, which takes root and a loop device.
    #[tokio::test]
    async fn the_kernel_s_events_are_told() {
        let events = Events::subscribe();
        if let Err(e) = std::fs::write("/sys/class/block/loop0/uevent", "change") {
            eprintln!("NOT CHECKED: the kernel's events: /sys/class/block/loop0/uevent: {e}");
            return;
        }
        events.next().await;
    }

    #[tokio::test]
    async fn a_file_that_appears_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let events = Events::subscribe();
        events.watch(vec![directory.path().to_owned(), directory.path().join("none")]);
        std::fs::write(directory.path().join("v1.iso"), "x").unwrap();
        events.next().await;
    }
}
