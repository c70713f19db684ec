//! Processes of units: how they are started, found and ended.
//!
//! A unit's processes are those of its own cgroup in the hierarchy `name=systemd`, as with systemd.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cks_tests::process::Command;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, User, chdir, chown, initgroups, setgid, setsid, setuid};

use crate::command::Exec;
use crate::unit::Unit;

/// Where the outputs of units and all that this program says go.
pub(crate) const LOGS: &str = "/var/log/bed";

/// What systemd says of a program that can't be started.
pub(crate) const NO_EXEC: i32 = 203;

/// The places of a machine's units.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Below which each unit has its cgroup.
    pub(crate) cgroups: PathBuf,
}

impl Place {
    fn of(&self, unit: &Unit) -> PathBuf {
        self.cgroups.join("system.slice").join(&unit.name)
    }

    /// Starts a command of a unit and gives its process id.
    pub(crate) fn start(&self, unit: &Unit, exec: &Exec, environment: &BTreeMap<String, String>) -> Result<u32> {
        let cgroup = self.of(unit);
        fs::create_dir_all(&cgroup).with_context(|| format!("Making {}", cgroup.display()))?;
        let user = if exec.as_root { None } else { unit.service("User") };
        let mut environment = environment.clone();
        if let Some(user) = user.and_then(|name| User::from_name(name).ok().flatten()) {
            let home = user.dir.to_string_lossy().into_owned();
            environment.extend([("USER", user.name.clone()), ("LOGNAME", user.name), ("HOME", home)].map(named));
        }
        let log = log_of(&unit.name);
        // As the journal's stream would be: a program sees by it that its words are kept.
        fs::OpenOptions::new().create(true).append(true).open(&log).context("Opening a unit's log")?;
        let meta = fs::metadata(&log).context("Looking at a unit's log")?;
        environment.extend([named(("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())))]);
        let directory = unit.service("WorkingDirectory").unwrap_or("/").trim_start_matches('-');
        let command = Command::new("/proc/self/exe").arg("launch").arg(&cgroup).args([
            user.unwrap_or("-"),
            unit.service("Group").unwrap_or("-"),
            if directory == "~" { "/" } else { directory },
            unit.service("UMask").unwrap_or("0022"),
        ]);
        let command = command.args(exec.argv(&environment)).bare();
        environment.iter().fold(command, |command, (name, value)| command.env(name, value)).detached(&log)
    }

    /// The processes of a unit.
    pub(crate) fn processes(&self, unit: &Unit) -> Vec<u32> {
        let text = fs::read_to_string(self.of(unit).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Sends a signal to all processes of a unit.
    pub(crate) fn signal_all(&self, unit: &Unit, what: Signal) {
        for process in self.processes(unit) {
            signal(process, what);
        }
    }
}

fn named((name, value): (&str, String)) -> (String, String) {
    (name.to_owned(), value)
}

/// Where the words of a unit are.
pub(crate) fn log_of(unit: &str) -> PathBuf {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    Path::new(LOGS).join(format!("{name}.log"))
}

/// Sends a signal; a process that is gone gets none.
pub(crate) fn signal(process: u32, what: Signal) {
    if let Ok(process) = i32::try_from(process) {
        let _ = kill(Pid::from_raw(process), what);
    }
}

/// The directories that a unit has made for it (`StateDirectory=`, …), and the variables that tell of them.
pub(crate) fn make_directories(unit: &Unit) -> Result<BTreeMap<String, String>> {
    let kinds = [
        ("Runtime", "/run"),
        ("State", "/var/lib"),
        ("Cache", "/var/cache"),
        ("Logs", "/var/log"),
        ("Configuration", "/etc"),
    ];
    let mut variables = BTreeMap::new();
    let user = unit.service("User").and_then(|name| User::from_name(name).ok().flatten());
    for (kind, base) in kinds {
        let names = unit.list("Service", &format!("{kind}Directory"));
        let mode = unit.service(&format!("{kind}DirectoryMode")).and_then(|mode| u32::from_str_radix(mode, 8).ok());
        for name in &names {
            let path = Path::new(base).join(name);
            fs::create_dir_all(&path).with_context(|| format!("Making {}", path.display()))?;
            let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode.unwrap_or(0o755));
            fs::set_permissions(&path, mode).with_context(|| format!("Setting the mode of {}", path.display()))?;
            if let Some(user) = user.as_ref().filter(|_| kind != "Configuration") {
                chown(&path, Some(user.uid), Some(user.gid))
                    .with_context(|| format!("Giving {} away", path.display()))?;
            }
        }
        if !names.is_empty() {
            let paths: Vec<String> = names.iter().map(|name| format!("{base}/{name}")).collect();
            variables.insert(format!("{}_DIRECTORY", kind.to_uppercase()), paths.join(":"));
        }
    }
    Ok(variables)
}

/// Becomes the program of a unit: `launch CGROUP USER GROUP DIRECTORY UMASK PROGRAM…`. Comes back with the exit
/// code only when it can't.
pub(crate) fn launch(arguments: &[String]) -> i32 {
    match become_it(arguments) {
        Ok(never) => never,
        Err(error) => {
            eprintln!("{error:#}");
            NO_EXEC
        }
    }
}

fn become_it(arguments: &[String]) -> Result<i32> {
    let [cgroup, user, group, directory, mask, argv @ ..] = arguments else {
        anyhow::bail!("launch needs more arguments");
    };
    let procs = Path::new(cgroup).join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("Joining {}", procs.display()))?;
    setsid().context("Beginning a session")?;
    umask(Mode::from_bits_truncate(u32::from_str_radix(mask, 8).unwrap_or(0o022)));
    if group != "-" {
        let found = nix::unistd::Group::from_name(group).ok().flatten();
        setgid(found.with_context(|| format!("There is no group {group}"))?.gid).context("Changing the group")?;
    }
    if user != "-" {
        let found = User::from_name(user).ok().flatten().with_context(|| format!("There is no user {user}"))?;
        initgroups(&CString::new(user.as_str())?, found.gid).context("Changing the groups")?;
        setgid(found.gid).context("Changing the group")?;
        setuid(found.uid).context("Changing the user")?;
    }
    chdir(directory.as_str()).with_context(|| format!("Going to {directory}"))?;
    let (program, rest) = argv.split_first().context("launch needs a program")?;
    Err(Command::new(program).args(rest).exec())
}
