//! The verbs of `systemctl`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::jobs::{Kind, Units};
use crate::launch::signal;
use crate::service::State;
use crate::show;
use crate::systemctl::Reply;
use crate::unit::{ADMIN, Unit};

/// The words of one call, sorted.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) verb: String,
    pub(crate) units: Vec<String>,
    pub(crate) properties: Vec<String>,
    pub(crate) value_only: bool,
    pub(crate) quiet: bool,
    now: bool,
    no_wait: bool,
    runtime: bool,
    signal: Option<String>,
}

impl Words {
    fn of(arguments: &[String]) -> Self {
        let mut words = Self::default();
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let mut value = || value.map(str::to_owned).or_else(|| rest.next().cloned()).unwrap_or_default();
            match name {
                "-p" | "--property" => words.properties.extend(value().split(',').map(str::to_owned)),
                "-P" => {
                    words.properties.extend(value().split(',').map(str::to_owned));
                    words.value_only = true;
                }
                "-s" | "--signal" => words.signal = Some(value()),
                "-n" | "--lines" | "-o" | "--output" | "-t" | "--type" | "--state" | "--kill-whom" | "--job-mode" => {
                    drop(value())
                }
                "--value" => words.value_only = true,
                "--now" => words.now = true,
                "--runtime" => words.runtime = true,
                "--no-block" => words.no_wait = true,
                "-q" | "--quiet" => words.quiet = true,
                _ if name.starts_with('-') => {}
                _ if words.verb.is_empty() => words.verb.clone_from(word),
                _ => words.units.push(if word.contains('.') { word.clone() } else { format!("{word}.service") }),
            }
        }
        words
    }
}

/// Does what is asked for, and gives the units that it has to be waited for.
pub(crate) fn carry_out(units: &mut Units, arguments: &[String], reply: &mut Reply) -> Result<BTreeSet<String>> {
    let words = Words::of(arguments);
    let waits = match words.verb.as_str() {
        "start" => ask(units, &words, Kind::Start, false, reply)?,
        "stop" => ask(units, &words, Kind::Stop, false, reply)?,
        "restart" | "reload-or-restart" => ask(units, &words, Kind::Restart, false, reply)?,
        "try-restart" | "condrestart" | "try-reload-or-restart" => ask(units, &words, Kind::Restart, true, reply)?,
        "reload" => reload(units, &words, reply)?,
        "daemon-reload" | "daemon-reexec" => {
            units.reload()?;
            BTreeSet::new()
        }
        "enable" | "disable" | "mask" | "unmask" | "reenable" | "preset" => install(units, &words, reply)?,
        "reset-failed" => {
            let all = words.units.is_empty();
            let meant = units.services.values_mut().filter(|service| all || words.units.contains(&service.unit.name));
            meant.for_each(crate::service::Service::reset);
            BTreeSet::new()
        }
        "kill" => {
            let what = words
                .signal
                .as_deref()
                .map_or("SIGTERM".to_owned(), |name| format!("SIG{}", name.trim_start_matches("SIG")));
            let what: Signal = what.parse().with_context(|| format!("{what} is no signal"))?;
            for service in words.units.iter().filter_map(|name| units.services.get(name)) {
                units.place.processes(&service.unit).into_iter().for_each(|process| signal(process, what));
            }
            BTreeSet::new()
        }
        _ => {
            show::tell(units, &words, reply)?;
            BTreeSet::new()
        }
    };
    Ok(if words.no_wait { BTreeSet::new() } else { waits })
}

fn ask(
    units: &mut Units,
    words: &Words,
    kind: Kind,
    only_running: bool,
    reply: &mut Reply,
) -> Result<BTreeSet<String>> {
    let mut waits = BTreeSet::new();
    let verb = &words.verb;
    for name in &words.units {
        let Some(service) = units.get(name)? else {
            reply.error(5, &format!("Failed to {verb} {name}: Unit {name} not found."));
            continue;
        };
        let unit = &service.unit;
        if unit.masked() && kind != Kind::Stop {
            reply.error(1, &format!("Failed to {verb} {name}: Unit {name} is masked."));
            continue;
        }
        let state = service.state;
        if only_running && matches!(state, State::Inactive | State::Failed) {
            continue;
        }
        if !matches!(state, State::Inactive | State::Failed) && unit.changed_on_disk() {
            let stale = format!(
                "Warning: The unit file, source configuration file or drop-ins of {name} changed on disk. Run 'systemctl daemon-reload' to reload units."
            );
            reply.err += &format!("{stale}\n");
        }
        let own = unit.name.clone();
        let missing = unit.list("Unit", "Requires").into_iter().filter(|_| kind != Kind::Stop);
        for required in missing {
            if Unit::load(&required)?.is_none() {
                reply.error(5, &format!("Failed to {verb} {name}: Unit {required} not found."));
                return Ok(waits);
            }
        }
        units.ask(&own, kind)?;
        waits.insert(own);
    }
    Ok(waits)
}

fn reload(units: &mut Units, words: &Words, reply: &mut Reply) -> Result<BTreeSet<String>> {
    let mut waits = BTreeSet::new();
    for name in &words.units {
        match units.get(name)? {
            Some(service) if service.state != State::Active => {
                reply.error(1, &format!("{name} is not active, cannot reload."));
            }
            Some(service) if service.unit.service("ExecReload").is_some() => {
                waits.insert(service.unit.name.clone());
                units.ask(name, Kind::Reload)?;
            }
            Some(_) => {
                reply.error(1, &format!("Failed to reload {name}: Job type reload is not applicable for unit {name}."))
            }
            None => reply.error(5, &format!("Failed to reload {name}: Unit {name} not found.")),
        }
    }
    Ok(waits)
}

/// The links that make units start by themselves, or keep them from starting at all.
fn install(units: &mut Units, words: &Words, reply: &mut Reply) -> Result<BTreeSet<String>> {
    let base = if words.runtime { "/run/systemd/system" } else { ADMIN };
    for name in &words.units {
        let own_link = Path::new(base).join(name);
        match words.verb.as_str() {
            "mask" => link(Path::new("/dev/null"), &own_link, reply)?,
            "unmask" => remove_link(&own_link, reply)?,
            "preset" if !preset(name) => {}
            verb => {
                let Some(unit) = Unit::load(name)? else {
                    let text = format!("Failed to {verb} unit: Unit file {name} does not exist.");
                    reply.error(1, &text);
                    continue;
                };
                if unit.masked() {
                    reply.error(1, &format!("Failed to {verb} unit: Unit file {} is masked.", own_link.display()));
                    continue;
                }
                for place in links(&unit, base) {
                    match verb {
                        "disable" => remove_link(&place, reply)?,
                        _ => link(unit.path.as_deref().unwrap_or(Path::new("")), &place, reply)?,
                    }
                }
            }
        }
    }
    // As systemctl does after each of these.
    units.reload()?;
    if words.quiet {
        reply.err.clear();
    }
    if !words.now || reply.code != 0 {
        return Ok(BTreeSet::new());
    }
    let kind = if words.verb == "enable" { Kind::Start } else { Kind::Stop };
    let job = Words {
        verb: if kind == Kind::Start { "start" } else { "stop" }.to_owned(),
        units: words.units.clone(),
        ..Words::default()
    };
    ask(units, &job, kind, false, reply)
}

/// Whether presets enable the unit, as packages ask with `--preset-mode=enable-only`: the first rule that names it counts, and
/// without one a unit is enabled, as on Debian.
fn preset(name: &str) -> bool {
    let files = fs::read_dir("/usr/lib/systemd/system-preset").into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    let texts: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let mut rules = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().split_once(' '));
    rules.find(|(_, named)| *named == name || *named == "*").is_none_or(|(rule, _)| rule == "enable")
}

/// Where the section `[Install]` wants links to be.
pub(crate) fn links(unit: &Unit, base: &str) -> Vec<std::path::PathBuf> {
    let base = Path::new(base);
    let wants = [("WantedBy", "wants"), ("RequiredBy", "requires")].into_iter().flat_map(|(key, directory)| {
        let targets = unit.list("Install", key).into_iter();
        targets.map(move |target| base.join(format!("{target}.{directory}")).join(&unit.name))
    });
    wants.chain(unit.list("Install", "Alias").into_iter().map(|alias| base.join(alias))).collect()
}

fn link(target: &Path, place: &Path, reply: &mut Reply) -> Result<()> {
    if fs::read_link(place).is_ok_and(|now| now == target) {
        return Ok(());
    }
    fs::create_dir_all(place.parent().unwrap_or(Path::new("/"))).context("Making a directory for links")?;
    drop(fs::remove_file(place));
    symlink(target, place).with_context(|| format!("Linking {}", place.display()))?;
    reply.err += &format!("Created symlink {} → {}.\n", place.display(), target.display());
    Ok(())
}

fn remove_link(place: &Path, reply: &mut Reply) -> Result<()> {
    if place.is_symlink() {
        fs::remove_file(place).with_context(|| format!("Removing {}", place.display()))?;
        reply.err += &format!("Removed \"{}\".\n", place.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_anywhere_and_a_name_alone_is_a_service() {
        let arguments = ["--now", "enable", "kubelet", "-p", "A,B", "x.target", "--property=C", "--no-block"];
        let words = Words::of(&arguments.map(str::to_owned));
        assert_eq!(words.units, ["kubelet.service", "x.target"]);
        assert_eq!(words.properties, ["A", "B", "C"]);
        assert!(words.now && words.no_wait && words.verb == "enable");
    }

    #[test]
    fn links_are_where_install_wants_them() {
        let unit = Unit::of("a.service", "[Install]\nWantedBy=multi-user.target b.target\nAlias=c.service\n");
        let places: Vec<String> = links(&unit, "/e").iter().map(|path| path.display().to_string()).collect();
        assert_eq!(places, ["/e/multi-user.target.wants/a.service", "/e/b.target.wants/a.service", "/e/c.service"]);
    }
}
