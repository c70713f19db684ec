//! What is changed about a machine so that it has what a node needs.

use serde::Serialize;

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The administrator.
    Root,
    /// The user that the management server logs in as.
    Login,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "edit")]
pub enum Edit {
    /// A package of the distribution is installed.
    Install {
        /// Its name.
        package: String,
        /// It is there, and lacks a file of its own: it is installed again.
        again: bool,
    },
    /// A user of the system is made.
    AddUser {
        /// Its name.
        name: String,
        /// Its home.
        home: String,
        /// Its shell.
        shell: String,
    },
    /// A user of the system gets another shell.
    SetShell {
        /// Its name.
        name: String,
        /// The shell.
        shell: String,
    },
    /// A directory is made, or gets its permission bits and its owner.
    Directory {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Whose.
        owner: Owner,
    },
    /// A file is written. What was there, and was not written by us, stays beside it with `.cks-before` at its name's end.
    Write {
        /// Where.
        path: String,
        /// The whole text.
        text: String,
        /// Permission bits.
        mode: u32,
        /// Whose.
        owner: Owner,
    },
    /// A file is removed.
    Remove {
        /// Which.
        path: String,
    },
    /// A unit is started at boot.
    Enable {
        /// Its name.
        unit: String,
        /// It is masked, and that is taken back.
        unmask: bool,
    },
}

impl Edit {
    pub(super) fn install(package: &str) -> Self {
        Self::Install { package: package.to_owned(), again: false }
    }

    pub(super) fn write(path: &str, text: impl Into<String>) -> Self {
        Self::Write { path: path.to_owned(), text: text.into(), mode: 0o644, owner: Owner::Root }
    }

    pub(super) fn directory(path: &str, mode: u32, owner: Owner) -> Self {
        Self::Directory { path: path.to_owned(), mode, owner }
    }

    /// In which order edits are made: users own files, packages bring users and units.
    #[must_use]
    pub fn turn(&self) -> u8 {
        match self {
            Self::Install { .. } => 0,
            Self::AddUser { .. } | Self::SetShell { .. } => 1,
            Self::Directory { .. } => 2,
            Self::Write { .. } | Self::Remove { .. } => 3,
            Self::Enable { .. } => 4,
        }
    }
}

/// Lines around a change that are shown with it.
const AROUND: usize = 3;

/// The lines that differ between two texts, as `diff -u` shows them: what goes with `-`, what comes with `+`. Texts here differ
/// in one place, or in all.
#[must_use]
pub fn difference(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same_before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same_before;
    let same_after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (old_end, new_end) = (old.len() - same_after, new.len() - same_after);
    let from = same_before.saturating_sub(AROUND);
    let lines = |sign: char, lines: &[&str]| -> Vec<String> {
        lines.iter().map(|line| format!("{sign}{}", crate::text::plain(line))).collect()
    };
    let tail = (old_end + AROUND).min(old.len());
    let mut shown = vec![format!(
        "@@ -{},{} +{},{} @@",
        from + usize::from(!old.is_empty()),
        tail - from,
        from + usize::from(!new.is_empty()),
        new_end + (tail - old_end) - from
    )];
    shown.extend(lines(' ', old.get(from..same_before).unwrap_or_default()));
    shown.extend(lines('-', old.get(same_before..old_end).unwrap_or_default()));
    shown.extend(lines('+', new.get(same_before..new_end).unwrap_or_default()));
    shown.extend(lines(' ', old.get(old_end..tail).unwrap_or_default()));
    shown
}
