//! What `systemctl` tells of units.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Result;

use crate::jobs::Units;
use crate::launch::log_of;
use crate::service::{Exit, Service, State};
use crate::systemctl::Reply;
use crate::unit::{ADMIN, Unit};
use crate::verbs::{Words, links};

/// The verbs that change nothing.
pub(crate) fn tell(units: &mut Units, words: &Words, reply: &mut Reply) -> Result<()> {
    match words.verb.as_str() {
        "is-active" => each_state(units, words, reply, |state| matches!(state, State::Active), 3)?,
        "is-failed" => each_state(units, words, reply, |state| matches!(state, State::Failed), 1)?,
        "is-enabled" => {
            for name in &words.units {
                enabled(name, words, reply)?;
            }
        }
        "show" => {
            for name in &words.units {
                show(units, name, words, reply)?;
            }
        }
        "status" => {
            for name in &words.units {
                status(units, name, reply)?;
            }
        }
        "cat" => {
            for name in &words.units {
                cat(name, reply)?;
            }
        }
        "is-system-running" => {
            let failed = units.services.values().any(|service| service.state == State::Failed);
            reply.line(if failed { "degraded" } else { "running" });
            reply.code = i32::from(failed);
        }
        "list-units" | "" => {
            for service in units.services.values().filter(|service| service.state != State::Inactive) {
                let unit = &service.unit;
                let about = unit.last("Unit", "Description").unwrap_or(&unit.name);
                reply.line(&format!("{} loaded {} {} {about}", unit.name, service.state.name(), service.sub()));
            }
        }
        "list-jobs" | "list-timers" | "list-unit-files" => {}
        other => reply.error(1, &format!("Unknown command verb {other}.")),
    }
    Ok(())
}

fn each_state(
    units: &mut Units,
    words: &Words,
    reply: &mut Reply,
    good: fn(State) -> bool,
    bad_code: i32,
) -> Result<()> {
    let mut any = false;
    for name in &words.units {
        let state = units.get(name)?.map_or(State::Inactive, |service| service.state);
        any |= good(state);
        if !words.quiet {
            reply.line(state.name());
        }
    }
    reply.code = if any { 0 } else { bad_code };
    Ok(())
}

fn enabled(name: &str, words: &Words, reply: &mut Reply) -> Result<()> {
    let Some(unit) = Unit::load(name)? else {
        reply.error(1, &format!("Failed to get unit file state for {name}: No such file or directory"));
        return Ok(());
    };
    let state = enablement(&unit);
    if !words.quiet {
        reply.line(state);
    }
    if !matches!(state, "enabled" | "static" | "alias") {
        reply.code = 1;
    }
    Ok(())
}

fn enablement(unit: &Unit) -> &'static str {
    let places = [ADMIN, "/run/systemd/system"].into_iter().flat_map(|base| links(unit, base));
    let places: Vec<_> = places.collect();
    if unit.masked() {
        "masked"
    } else if places.is_empty() {
        "static"
    } else if places.iter().any(|place| place.is_symlink()) {
        "enabled"
    } else {
        "disabled"
    }
}

/// The properties that somebody asks for; others are left out, as systemd does with unknown ones.
fn show(units: &mut Units, name: &str, words: &Words, reply: &mut Reply) -> Result<()> {
    let place = units.place.clone();
    let service = units.get(name)?;
    let mut all = match service {
        Some(service) => {
            let mut all = properties(service);
            all.push(("ControlGroup", format!("/system.slice/{}", service.unit.name)));
            all.push(("TasksCurrent", place.processes(&service.unit).len().to_string()));
            all
        }
        None => ["Id", "LoadState", "ActiveState", "SubState", "MainPID", "UnitFileState"]
            .into_iter()
            .zip([name, "not-found", "inactive", "dead", "0", ""].map(str::to_owned))
            .collect(),
    };
    if !words.properties.is_empty() {
        all.retain(|(key, _)| words.properties.iter().any(|wanted| wanted == key));
        // In the order of the question, as far as scripts rely on it.
        all.sort_by_key(|(key, _)| words.properties.iter().position(|wanted| wanted == key));
    }
    for (key, value) in all {
        reply.line(&if words.value_only { value } else { format!("{key}={value}") });
    }
    Ok(())
}

fn properties(service: &Service) -> Vec<(&'static str, String)> {
    let unit = &service.unit;
    let (code, status) = match service.exit {
        None => (0, 0),
        Some(Exit::Code(code)) => (1, code),
        Some(Exit::Signal(signal)) => (2, signal),
    };
    let path = |path: &Path| path.display().to_string();
    let drop_ins: Vec<String> = unit.sources.iter().skip(1).map(|(drop_in, _)| path(drop_in)).collect();
    let since = service.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let active = service.state == State::Active;
    vec![
        ("Id", unit.name.clone()),
        ("Names", unit.name.clone()),
        ("Description", unit.last("Unit", "Description").unwrap_or(&unit.name).to_owned()),
        ("LoadState", if unit.masked() { "masked" } else { "loaded" }.to_owned()),
        ("ActiveState", service.state.name().to_owned()),
        ("SubState", service.sub().to_owned()),
        ("Result", service.result.to_owned()),
        ("MainPID", service.main.unwrap_or(0).to_string()),
        ("ExecMainCode", code.to_string()),
        ("ExecMainStatus", status.to_string()),
        ("NRestarts", service.restarts.to_string()),
        ("StatusText", service.text.clone()),
        ("Type", unit.service("Type").unwrap_or("simple").to_owned()),
        ("Restart", unit.service("Restart").unwrap_or("no").to_owned()),
        ("User", unit.service("User").unwrap_or_default().to_owned()),
        ("FragmentPath", unit.path.as_deref().map(path).unwrap_or_default()),
        ("DropInPaths", drop_ins.join(" ")),
        ("UnitFileState", enablement(unit).to_owned()),
        ("NeedDaemonReload", if unit.changed_on_disk() { "yes" } else { "no" }.to_owned()),
        ("ActiveEnterTimestampMonotonic", if active { since.to_string() } else { "0".to_owned() }),
        ("StateChangeTimestamp", since.to_string()),
    ]
}

fn status(units: &mut Units, name: &str, reply: &mut Reply) -> Result<()> {
    let Some(service) = units.get(name)? else {
        reply.error(4, &format!("Unit {name} could not be found."));
        return Ok(());
    };
    let unit = &service.unit;
    let dot = if service.state == State::Active { '●' } else { '○' };
    let mut text = format!("{dot} {} - {}\n", unit.name, unit.last("Unit", "Description").unwrap_or(&unit.name));
    let path = unit.path.as_deref().unwrap_or(Path::new("")).display().to_string();
    let _ = writeln!(text, "     Loaded: loaded ({path}; {}; preset: enabled)", enablement(unit));
    let _ = writeln!(text, "     Active: {} ({}), Result: {}", service.state.name(), service.sub(), service.result);
    if let Some(main) = service.main {
        let _ = writeln!(text, "   Main PID: {main}");
    }
    if !service.text.is_empty() {
        let _ = writeln!(text, "     Status: \"{}\"", service.text);
    }
    let log = fs::read(log_of(&unit.name)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let _ = writeln!(text, "\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
    reply.out += &text;
    if !matches!(service.state, State::Active | State::Activating) {
        reply.code = 3;
    }
    Ok(())
}

fn cat(name: &str, reply: &mut Reply) -> Result<()> {
    let Some(unit) = Unit::load(name)? else {
        reply.error(1, &format!("No files found for {name}."));
        return Ok(());
    };
    let files = unit.sources.iter().map(|(path, text)| format!("# {}\n{text}", path.display()));
    reply.out += &files.collect::<Vec<_>>().join("\n");
    Ok(())
}
