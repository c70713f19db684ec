//! What an exit means for a unit, and whether it is started again.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::service::Exit;
use crate::unit::Unit;

/// The name of a bad end.
pub(crate) fn result(exit: Exit) -> &'static str {
    match exit {
        Exit::Code(_) => "exit-code",
        Exit::Signal(_) => "signal",
    }
}

/// Whether an exit is a success: 0, the signals that end a service, and what the unit adds.
pub(crate) fn clean(unit: &Unit, exit: Exit) -> bool {
    let ending = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE];
    let usual = match exit {
        Exit::Code(code) => code == 0,
        // A oneshot that is ended by a signal has not done what it was for.
        Exit::Signal(number) => {
            unit.service("Type") != Some("oneshot") && ending.iter().any(|signal| *signal as i32 == number)
        }
    };
    usual || named(unit, "SuccessExitStatus", exit)
}

fn named(unit: &Unit, key: &str, exit: Exit) -> bool {
    unit.list("Service", key).iter().any(|word| match exit {
        Exit::Code(code) => word.parse() == Ok(code),
        Exit::Signal(number) => word.parse::<Signal>().is_ok_and(|signal| signal as i32 == number),
    })
}

/// Whether it is started again after this end.
pub(crate) fn restarts(unit: &Unit, result: &str, exit: Option<Exit>) -> bool {
    let told = |key: &str| exit.is_some_and(|exit| named(unit, key, exit));
    if told("RestartPreventExitStatus") {
        return false;
    }
    let abnormal = matches!(result, "signal" | "timeout" | "watchdog");
    let wanted = match unit.service("Restart") {
        Some("always") => true,
        Some("on-success") => result == "success",
        Some("on-failure") => result != "success",
        Some("on-abnormal") => abnormal,
        Some("on-abort") => result == "signal",
        _ => false,
    };
    wanted || told("RestartForceExitStatus")
}

/// A name for one run of a unit.
pub(crate) fn invocation() -> Result<String> {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").context("Reading a random number")?;
    Ok(random.trim().replace('-', ""))
}

/// What `RuntimeDirectory=` made goes with the service.
pub(crate) fn remove_runtime_directories(unit: &Unit) {
    if !unit.on("RuntimeDirectoryPreserve") && unit.service("RuntimeDirectoryPreserve") != Some("restart") {
        for name in unit.list("Service", "RuntimeDirectory") {
            remove(&Path::new("/run").join(name));
        }
    }
}

/// A file or a tree, links themselves and not what they lead to; what is gone already is no matter.
fn remove(path: &Path) {
    if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| remove(&entry.path()));
        drop(fs::remove_dir(path));
    } else {
        drop(fs::remove_file(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_again() {
        let unit = |restart: &str| {
            Unit::of("a.service", &format!("[Service]\nRestart={restart}\nRestartPreventExitStatus=78\n"))
        };
        let table = [
            ("no", Exit::Code(1), false),
            ("always", Exit::Code(0), true),
            ("always", Exit::Code(78), false),
            ("on-failure", Exit::Code(0), false),
            ("on-failure", Exit::Code(1), true),
            ("on-failure", Exit::Signal(9), true),
            ("on-failure", Exit::Signal(15), false),
            ("on-abnormal", Exit::Code(1), false),
        ];
        for (restart, exit, again) in table {
            let unit = unit(restart);
            let result = if clean(&unit, exit) { "success" } else { result(exit) };
            assert_eq!(restarts(&unit, result, Some(exit)), again, "{restart} {exit:?}");
        }
        let told = Unit::of("a.service", "[Service]\nSuccessExitStatus=75 SIGKILL\n");
        assert!(clean(&told, Exit::Code(75)) && clean(&told, Exit::Signal(9)) && !clean(&told, Exit::Code(1)));
    }
}
