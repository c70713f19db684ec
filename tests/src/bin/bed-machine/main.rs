//! What stands in for systemd in a machine of the bed: its first process, `systemctl`, and the trampoline that
//! units are started by; and a `runc` that does without what the bed's kernel refuses.
//!
//! It does what `systemctl(1)` and `systemd.service(5)` say of the parts that a node uses. What it leaves out:
//! timers, sockets and mounts, sandboxes, limits, and all that is asked for over D-Bus.

mod command;
mod jobs;
mod launch;
mod notify;
mod policy;
mod runc;
mod service;
mod show;
mod systemctl;
mod unit;
mod verbs;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::jobs::{Kind, Units};
use crate::launch::{LOGS, Place};
use crate::service::Exit;
use crate::systemctl::Reply;

/// Where `systemctl` finds the first process.
const CONTROL: &str = "/run/systemd/bed";

/// What the first process hears.
#[derive(Debug)]
pub(crate) enum Event {
    Asked(UnixStream),
    Child,
    Notified(String, String),
}

/// A `systemctl` that waits until its units are where it wants them.
#[derive(Debug)]
struct Ask {
    stream: UnixStream,
    units: BTreeSet<String>,
    reply: Reply,
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().collect();
    let own = arguments.remove(0);
    let name = Path::new(&own).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let code = match (name.as_str(), arguments.first().map(String::as_str)) {
        ("systemctl", _) => systemctl::main(&arguments),
        ("runc", _) => runc::main(&arguments),
        (_, Some("launch")) => launch::launch(&arguments[1..]),
        (_, Some("init")) => match init(arguments.get(1).map_or("", String::as_str)) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("bed-machine: {error:#}");
                1
            }
        },
        _ => {
            eprintln!("Usage: bed-machine init CGROUP, as the first process of a machine of the bed");
            2
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// A line for whoever looks at a machine that doesn't do as it should.
pub(crate) fn say(text: &str) {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime = uptime.split(' ').next().unwrap_or_default().to_owned();
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(Path::new(LOGS).join("systemd.log")) {
        drop(writeln!(file, "[{uptime}] {text}"));
    }
}

/// The first process. `cgroup` is the machine's, as a path below each hierarchy.
fn init(cgroup: &str) -> Result<()> {
    for directory in [LOGS, "/run/systemd/system"] {
        fs::create_dir_all(directory).with_context(|| format!("Making {directory}"))?;
    }
    let (sender, events) = channel();
    drop(notify::EVENTS.set(sender.clone()));
    notify::keep_journal()?;
    notify::keep_console()?;
    reap(sender.clone())?;
    accept(sender)?;
    let cgroups = PathBuf::from(format!("/sys/fs/cgroup/systemd{cgroup}"));
    let mut units = Units::new(Place { cgroups });
    for target in enabled_targets() {
        units.ask(&target, Kind::Start)?;
    }
    serve(&mut units, &events)
}

/// The targets for which anything is enabled. All of them are reached at once, whatever leads to which.
fn enabled_targets() -> Vec<String> {
    let entries = fs::read_dir(unit::ADMIN).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".wants").map(str::to_owned)).collect()
}

fn serve(units: &mut Units, events: &Receiver<Event>) -> Result<()> {
    let mut asks: Vec<Ask> = Vec::new();
    loop {
        let now = Instant::now();
        let next = units.tick(now);
        for done in units.proceed(now) {
            for ask in &mut asks {
                if ask.units.contains(&done.unit) {
                    ask.reply.failed(&done);
                }
            }
        }
        for ask in &mut asks {
            ask.units.retain(|unit| units.pending(unit));
        }
        let finished = asks.extract_if(.., |ask| ask.units.is_empty());
        finished.for_each(|ask| systemctl::answer(ask.stream, &ask.reply));
        let pause = next.map_or(Duration::from_secs(60), |next| next.saturating_duration_since(Instant::now()));
        match events.recv_timeout(pause) {
            Ok(Event::Asked(stream)) => asks.extend(heard(units, stream)),
            Ok(Event::Child) => reaped(units),
            Ok(Event::Notified(unit, text)) => {
                let place = units.place.clone();
                if let Some(service) = units.services.get_mut(&unit) {
                    service.notified(&text, &place, Instant::now());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn heard(units: &mut Units, stream: UnixStream) -> Option<Ask> {
    let mut text = String::new();
    let read = (&stream).read_to_string(&mut text);
    let arguments: Vec<String> = read.ok().and_then(|_| serde_json::from_str(&text).ok())?;
    say(&format!("systemctl {}", arguments.join(" ")));
    let mut reply = Reply::default();
    let waits = verbs::carry_out(units, &arguments, &mut reply).unwrap_or_else(|error| {
        reply.error(1, &format!("Failed: {error:#}"));
        BTreeSet::new()
    });
    Some(Ask { stream, units: waits, reply })
}

fn reaped(units: &mut Units) {
    loop {
        let (process, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(process, code)) => (process, Exit::Code(code)),
            Ok(WaitStatus::Signaled(process, signal, _)) => (process, Exit::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => continue,
        };
        units.exited(u32::try_from(process.as_raw()).unwrap_or_default(), exit, Instant::now());
    }
}

fn reap(events: Sender<Event>) -> Result<()> {
    let (mut ours, theirs) = UnixStream::pair().context("Making a pipe")?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, theirs).context("Catching SIGCHLD")?;
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while ours.read(&mut buffer).is_ok_and(|read| read > 0) && events.send(Event::Child).is_ok() {}
    });
    Ok(())
}

fn accept(events: Sender<Event>) -> Result<()> {
    let listener = UnixListener::bind(CONTROL).context("Listening for systemctl")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(events.send(Event::Asked(stream)));
        }
    });
    Ok(())
}
