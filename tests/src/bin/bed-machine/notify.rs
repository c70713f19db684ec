//! The sockets that programs speak to: `sd_notify`, the journal, the console.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context as _, Result};

use crate::Event;
use crate::launch::LOGS;

const NOTIFY: &str = "/run/systemd/notify";
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where what is heard goes; told once, at the start.
pub(crate) static EVENTS: OnceLock<Sender<Event>> = OnceLock::new();

/// A unit's own socket for `sd_notify`, so that who speaks is known by where it is heard.
pub(crate) fn listen(unit: &str) -> Result<PathBuf> {
    let path = Path::new(NOTIFY).join(unit);
    if path.exists() {
        return Ok(path);
    }
    let socket = bind(&path)?;
    let unit = unit.to_owned();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if let Some(events) = EVENTS.get() {
                drop(events.send(Event::Notified(unit.clone(), text)));
            }
        }
    });
    Ok(path)
}

/// Keeps what is written to the journal, datagram by datagram, an empty line behind each.
pub(crate) fn keep_journal() -> Result<()> {
    let socket = bind(Path::new(JOURNAL))?;
    let path = Path::new(LOGS).join("journal.bin");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).context("Opening the journal")?;
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while let Ok(length) = socket.recv(&mut buffer) {
            let mut entry = buffer[..length].to_vec();
            entry.push(b'\n');
            drop(file.write_all(&entry));
        }
    });
    Ok(())
}

/// Makes `/dev/console` a terminal, and keeps what is written to it.
pub(crate) fn keep_console() -> Result<()> {
    let pair = nix::pty::openpty(None, None).context("Making a terminal")?;
    let name = nix::unistd::ttyname(&pair.slave).context("Naming a terminal")?;
    let console = Path::new("/dev/console");
    if !console.exists() {
        fs::write(console, "").context("Making /dev/console")?;
    }
    let none: Option<&str> = None;
    nix::mount::mount(Some(&name), console, none, nix::mount::MsFlags::MS_BIND, none)
        .context("Mounting the console")?;
    let path = Path::new(LOGS).join("console.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).context("Opening the console's log")?;
    let (mut master, slave) = (fs::File::from(pair.master), pair.slave);
    thread::spawn(move || {
        // While it is open here, the end of its last writer is no end of the console.
        let _slave = slave;
        let mut buffer = vec![0; 1 << 12];
        while let Ok(length) = master.read(&mut buffer) {
            drop(file.write_all(&buffer[..length]));
        }
    });
    Ok(())
}

fn bind(path: &Path) -> Result<UnixDatagram> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).with_context(|| format!("Making {}", parent.display()))?;
    let socket = UnixDatagram::bind(path).with_context(|| format!("Listening at {}", path.display()))?;
    // Also services with a user of their own speak.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
        .with_context(|| format!("Opening {}", path.display()))?;
    Ok(socket)
}
