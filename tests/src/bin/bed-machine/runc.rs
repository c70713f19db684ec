//! `runc` for a machine without systemd and without CAP_SYS_RESOURCE: the real one, without `--systemd-cgroup`,
//! and never with a lower OOM score than the machine itself has.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use cks_tests::process::Command;
use serde_json::Value;

/// Where the bed puts the real one.
const REAL: &str = "/usr/libexec/bed/runc";

/// What the kernel lets a process have that may not lower its own score.
const SCORE: &str = "/proc/self/oom_score_adj";

pub(crate) fn main(arguments: &[String]) -> i32 {
    let real = without_systemd(arguments);
    if let Some(bundle) = bundle(&real)
        && let Err(error) = raise_score(Path::new(&bundle))
    {
        eprintln!("runc of the bed: {error:#}");
        return 1;
    }
    eprintln!("{:#}", Command::new(REAL).args(&real).exec());
    127
}

fn without_systemd(arguments: &[String]) -> Vec<String> {
    arguments.iter().filter(|word| !word.trim_start_matches('-').starts_with("systemd-cgroup")).cloned().collect()
}

/// The bundle of a `create` or `run`.
fn bundle(arguments: &[String]) -> Option<String> {
    let creates = arguments.iter().any(|word| word == "create" || word == "run");
    let at = arguments.iter().position(|word| word == "--bundle" || word == "-b")?;
    arguments.get(at + 1).filter(|_| creates).cloned()
}

fn raise_score(bundle: &Path) -> Result<()> {
    let path = bundle.join("config.json");
    let text = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
    let own = fs::read_to_string(SCORE).with_context(|| format!("Reading {SCORE}"))?;
    let own = own.trim().parse().with_context(|| format!("Reading {SCORE}"))?;
    if let Some(raised) = raised(&text, own)? {
        fs::write(&path, raised).with_context(|| format!("Writing {}", path.display()))?;
    }
    Ok(())
}

/// The configuration with a score of at least `own`; none where it has that already.
fn raised(config: &str, own: i64) -> Result<Option<String>> {
    let mut config: Value = serde_json::from_str(config).context("Reading a container's configuration")?;
    let score = config.pointer_mut("/process/oomScoreAdj");
    let Some(score) = score.filter(|score| score.as_i64().is_some_and(|score| score < own)) else {
        return Ok(None);
    };
    *score = own.into();
    Ok(Some(config.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_command_line_stays() {
        let line = "--root /r --log /l --systemd-cgroup create --bundle /b --pid-file /p id";
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(without_systemd(&arguments).join(" "), "--root /r --log /l create --bundle /b --pid-file /p id");
        assert_eq!(bundle(&arguments).as_deref(), Some("/b"));
        assert_eq!(bundle(&["delete".to_owned(), "--bundle".to_owned(), "/b".to_owned()]), None);
    }

    #[test]
    fn a_score_is_only_raised() {
        let config = |score: i64| format!(r#"{{"process":{{"oomScoreAdj":{score}}}}}"#);
        assert_eq!(raised(&config(-998), 0).unwrap(), Some(config(0)));
        assert_eq!(raised(&config(1000), 0).unwrap(), None);
        assert_eq!(raised("{}", 0).unwrap(), None);
    }
}
