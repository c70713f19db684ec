//! What people and programs see of it.

use std::io::Write as _;

use bootstrap::template::{Edit, Facts, Item, Outcome, difference};
use serde::Serialize;

use super::{Checked, Prepared};

/// The items, or the whole report as JSON.
pub(super) fn checked(checked: &Checked, json: bool, verbose: bool) {
    if json {
        return print(checked);
    }
    let shown = |item: &&Item| verbose || item.is_finding() || item.result == Outcome::Skipped;
    let mut text: String = checked.items.iter().filter(shown).map(item).collect();
    let of = |result| checked.items.iter().filter(|item| item.result == result).count();
    let (failed, warnings, ok) = (checked.failed, checked.warnings, of(Outcome::Ok));
    let (skipped, other) = (of(Outcome::Skipped), of(Outcome::NotApplicable));
    text += &format!(
        "{}: {}: {failed} failed, {warnings} warnings, {ok} ok, {skipped} skipped, {other} not applicable\n",
        checked.root, checked.distribution
    );
    to_stdout(&text);
}

fn item(item: &Item) -> String {
    let result = match item.result {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
        Outcome::NotApplicable => "n/a",
    };
    let remedy = item.remedy.as_ref().map(|remedy| format!("{:10}{:35}remedy: {remedy}\n", "", "")).unwrap_or_default();
    format!("{result:10}{:34} {}\n{remedy}", item.name, item.evidence)
}

/// What was done and what is left, or the whole report as JSON.
pub(super) fn prepared(prepared: &Prepared, facts: &Facts, json: bool) {
    if json {
        return print(prepared);
    }
    let mut text = String::new();
    if prepared.dry_run {
        for done in &prepared.edits {
            text += &format!("{} ({})\n", edit(&done.edit), done.item);
            text.extend(changed_lines(&done.edit, facts).into_iter().map(|line| format!("    {line}\n")));
        }
    }
    text.extend(prepared.left.iter().filter(|item| !prepared.dry_run || item.edits.is_empty()).map(item));
    let count = prepared.edits.len();
    text += &match (prepared.dry_run, count) {
        (_, 0) => format!("{}: nothing to do\n", prepared.root),
        (true, _) => format!("{}: {count} edits would be made, and those that follow from them\n", prepared.root),
        (false, _) => format!("{}: {count} edits made\n", prepared.root),
    };
    to_stdout(&text);
}

/// The lines of a file that an edit changes.
fn changed_lines(edit: &Edit, facts: &Facts) -> Vec<String> {
    match edit {
        Edit::Write { path, text, .. } => {
            let old = facts.text(path).unwrap_or_default();
            let from = if facts.entry(path).is_some() { path.as_str() } else { "/dev/null" };
            if old == text {
                Vec::new()
            } else {
                [format!("--- {from}"), format!("+++ {path}")].into_iter().chain(difference(old, text)).collect()
            }
        }
        _ => Vec::new(),
    }
}

/// An edit in one line.
pub(super) fn edit(edit: &Edit) -> String {
    match edit {
        Edit::Install { package, again: false } => format!("install {package}"),
        Edit::Install { package, again: true } => format!("install {package} again"),
        Edit::AddUser { name, home, .. } => format!("add user {name}, {home}"),
        Edit::SetShell { name, shell } => format!("give user {name} the shell {shell}"),
        Edit::Directory { path, mode, .. } => format!("directory {path}, mode {mode:o}"),
        Edit::Write { path, mode, .. } => format!("write {path}, mode {mode:o}"),
        Edit::Remove { path } => format!("remove {path}"),
        Edit::Enable { unit, .. } => format!("enable {unit}"),
    }
}

/// Tells what is being done, where that takes time; the report itself is on standard output.
pub(super) fn progress(json: bool, line: &str) {
    if json {
        let _ = writeln!(std::io::stderr(), "{line}");
    } else {
        to_stdout(&format!("{line}\n"));
    }
}

/// One document for programs.
pub(super) fn print(document: &impl Serialize) {
    to_stdout(&(serde_json::to_string_pretty(document).unwrap_or_default() + "\n"));
}

/// A reader that went away is no failure of ours.
pub(super) fn to_stdout(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
