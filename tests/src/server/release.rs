//! A release of CloudStack, by what its management server does otherwise than the one before.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result};

/// A release of the 4.x line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    minor: u8,
    patch: u8,
}

impl Release {
    /// The last ones of each line.
    pub const ALL: [Self; 5] =
        [Self::new(19, 3), Self::new(20, 2), Self::new(21, 0), Self::new(22, 0), Self::new(23, 0)];

    /// `4.MINOR.PATCH`.
    #[must_use]
    pub const fn new(minor: u8, patch: u8) -> Self {
        Self { minor, patch }
    }

    /// Whether it offers the users' own kubeconfig first, and drains by today's flag when it scales down: 4.19.2,
    /// 4.20.1.
    #[must_use]
    pub fn knows_kubectl_of_today(self) -> bool {
        match self.minor {
            ..=18 => false,
            19 => self.patch >= 2,
            20 => self.patch >= 1,
            _ => true,
        }
    }

    /// Whether it has external nodes, etcd nodes and CNI configurations: 4.21.
    #[must_use]
    pub fn is_flexible(self) -> bool {
        self.minor >= 21
    }

    /// Whether it installs the CSI driver: 4.22.
    #[must_use]
    pub fn has_csi(self) -> bool {
        self.minor >= 22
    }

    /// Whether it looks for Headlamp before the Kubernetes Dashboard: 4.23.
    #[must_use]
    pub fn has_headlamp(self) -> bool {
        self.minor >= 23
    }

    /// The lines of a file that are this release's. A line of only some releases begins with `@FROM-TO|`, one of
    /// which may be missing: `@4.21-|`, `@-4.20|`.
    ///
    /// # Panics
    /// When a line's releases can't be read: the file is this crate's own.
    #[must_use]
    pub fn lines(self, file: &str) -> String {
        let mut text = String::with_capacity(file.len());
        for line in file.lines() {
            let guarded = line.strip_prefix('@').and_then(|rest| rest.split_once('|'));
            let line = match guarded {
                None => line,
                Some((releases, _)) if !self.is_within(releases) => continue,
                Some((_, line)) => line,
            };
            text += line;
            text.push('\n');
        }
        text
    }

    fn is_within(self, releases: &str) -> bool {
        let (from, to) = releases.split_once('-').unwrap_or((releases, releases));
        let bound = |text: &str| text.parse::<Self>().unwrap_or_else(|error| panic!("{releases}: {error:#}"));
        let begun = from.is_empty() || self >= bound(from);
        let over = !to.is_empty() && Self { patch: 0, ..self } > bound(to);
        begun && !over
    }
}

/// `4.19.3`; without a patch the first one of its line.
impl FromStr for Release {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("4.").with_context(|| format!("{text:?} is no release of CloudStack 4"))?;
        let (minor, patch) = rest.split_once('.').unwrap_or((rest, "0"));
        let number = |text: &str| text.parse().with_context(|| format!("{text:?} is no number"));
        Ok(Self { minor: number(minor)?, patch: number(patch)? })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "4.{}.{}", self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_of_some_releases() {
        let file = "all\n@4.21-|  new\n@-4.20|old\n@4.19.1-4.20|between\n@4.19.1-|\na|b\n";
        let of = |release: &str| release.parse::<Release>().unwrap().lines(file);
        assert_eq!(of("4.19.0"), "all\nold\na|b\n");
        assert_eq!(of("4.19.3"), "all\nold\nbetween\n\na|b\n");
        assert_eq!(of("4.20.2"), "all\nold\nbetween\n\na|b\n");
        assert_eq!(of("4.21"), "all\n  new\n\na|b\n");
    }

    #[test]
    fn first_releases_of_a_line_may_lack_what_an_older_line_has() {
        let knows = |release: &str| release.parse::<Release>().unwrap().knows_kubectl_of_today();
        assert_eq!(["4.19.1", "4.19.2", "4.20.0", "4.20.1", "4.21.0"].map(knows), [false, true, false, true, true]);
        assert!("3.0".parse::<Release>().is_err() && "4.x".parse::<Release>().is_err());
    }
}
