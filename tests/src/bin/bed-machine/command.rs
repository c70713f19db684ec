//! The command lines and the environment of a unit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::unit::{Unit, words};

/// systemd's own.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// A command of a unit, its variables still in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exec {
    argv: Vec<String>,
    /// Its failure is none (`-`).
    pub(crate) may_fail: bool,
    /// Not as the unit's user (`+`, `!`).
    pub(crate) as_root: bool,
    literal: bool,
}

impl Exec {
    /// The commands of a key: `ExecStart`.
    pub(crate) fn all(unit: &Unit, key: &str) -> Vec<Self> {
        unit.values("Service", key).into_iter().filter_map(|value| Self::parse(&unit.specifiers(value))).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_start_matches(['-', '+', '!', ':', '@']);
        let prefix = &line[..line.len() - rest.len()];
        let mut argv = words(rest);
        if prefix.contains('@') && argv.len() > 1 {
            argv.remove(1);
        }
        let may_fail = prefix.contains('-');
        let as_root = prefix.contains(['+', '!']);
        (!argv.is_empty()).then(|| Self { argv, may_fail, as_root, literal: prefix.contains(':') })
    }

    /// Its words: `$A` alone becomes the words of A, `${A}` is A wherever it stands.
    pub(crate) fn argv(&self, environment: &BTreeMap<String, String>) -> Vec<String> {
        let value = |name: &str| environment.get(name).cloned().unwrap_or_default();
        let mut argv = Vec::new();
        for (at, word) in self.argv.iter().enumerate() {
            match word.strip_prefix('$') {
                Some(name) if at > 0 && !self.literal && is_name(name) => argv.extend(words(&value(name))),
                _ if self.literal => argv.push(word.clone()),
                _ => argv.push(braces(word, value)),
            }
        }
        argv
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn braces(word: &str, value: impl Fn(&str) -> String) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            out.push_str(&value(name));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// What the unit's files say: `Environment=`, then `EnvironmentFile=`, which wins.
pub(crate) fn environment(unit: &Unit) -> Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    for value in unit.values("Service", "Environment") {
        let pairs = words(&unit.specifiers(value));
        environment.extend(pairs.iter().filter_map(|pair| pair.split_once('=')).map(owned));
    }
    for value in unit.values("Service", "EnvironmentFile") {
        let path = unit.specifiers(value.trim_start_matches('-'));
        match fs::read_to_string(&path) {
            Ok(text) => environment.extend(variables(&text)),
            Err(_) if value.starts_with('-') => {}
            Err(error) => return Err(error).with_context(|| format!("Reading {path}")),
        }
    }
    Ok(environment)
}

fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), words(value).join(" "))).collect()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Whether the unit's conditions hold; those of a kind that is not known do.
pub(crate) fn conditions_hold(unit: &Unit) -> bool {
    let paths = [
        ("ConditionPathExists", Path::exists as fn(&Path) -> bool),
        ("ConditionPathIsDirectory", Path::is_dir),
        ("ConditionFileNotEmpty", |path| path.metadata().is_ok_and(|meta| meta.len() > 0)),
        ("AssertPathExists", Path::exists),
    ];
    paths.into_iter().all(|(key, holds)| {
        unit.values("Unit", key).into_iter().all(|value| {
            let path = value.trim_start_matches('!');
            holds(Path::new(&unit.specifiers(path))) != value.starts_with('!')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_split_or_kept_whole_as_systemd_does() {
        let text = "[Service]\nExecStart=-/bin/a $ARGS --b=${B} '$ARGS' $NONE $$x\n";
        let exec = Exec::all(&Unit::of("a.service", text), "ExecStart").remove(0);
        let environment = [("ARGS", "--c d"), ("B", "e f")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert!(exec.may_fail);
        // systemd splits a quoted variable, too, when it stands alone.
        assert_eq!(exec.argv(&environment.into()), ["/bin/a", "--c", "d", "--b=e f", "--c", "d", "$x"]);
    }

    #[test]
    fn a_file_wins_over_the_units_own_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# no\nA=\"2 3\"\nB=4\n").unwrap();
        let text = format!(
            "[Service]\nEnvironment=\"A=1\" C=5\nEnvironmentFile=-/nowhere\nEnvironmentFile={}\n",
            file.path().display()
        );
        let environment = environment(&Unit::of("a.service", &text)).unwrap();
        assert_eq!(
            (environment["A"].as_str(), environment["B"].as_str(), environment["C"].as_str()),
            ("2 3", "4", "5")
        );
        assert!(super::environment(&Unit::of("a.service", "[Service]\nEnvironmentFile=/nowhere\n")).is_err());
    }

    #[test]
    fn conditions_about_paths_count() {
        let holds = |text: &str| conditions_hold(&Unit::of("a.service", &format!("[Unit]\n{text}\n")));
        assert!(holds("ConditionPathExists=/") && holds("ConditionPathExists=!/nowhere"));
        assert!(!holds("ConditionPathExists=/nowhere") && !holds("ConditionPathExists=!/"));
    }
}
