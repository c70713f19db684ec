//! Which distribution it is.

use serde::Serialize;

use super::{Facts, Item};

/// How packages are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// By apt and dpkg.
    Debian,
    /// By dnf and rpm.
    RedHat,
}

/// How well a release is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Templates are made of it.
    Known,
    /// Of a known family; it may work.
    Untried,
    /// Nothing is known of it.
    Unknown,
}

/// A distribution, as `/etc/os-release` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `debian`, `ubuntu`, `rocky`.
    pub id: String,
    /// `12`, `24.04`, `9.6`.
    pub version: String,
    /// For people.
    pub name: String,
    like: Vec<String>,
}

impl Distribution {
    /// What a text of os-release(5) says.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned()).unwrap_or_default()
        };
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        Self {
            id: value("ID"),
            version: value("VERSION_ID"),
            name: value("PRETTY_NAME"),
            like: words(value("ID_LIKE")),
        }
    }

    /// How its packages are installed; none where that is not known.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        let ids = || std::iter::once(&self.id).chain(&self.like).map(String::as_str);
        ids().find_map(|id| match id {
            "debian" | "ubuntu" => Some(Family::Debian),
            "rhel" | "centos" | "rocky" | "almalinux" | "fedora" => Some(Family::RedHat),
            _ => None,
        })
    }

    /// How well it is known.
    #[must_use]
    pub fn support(&self) -> Support {
        let major = self.version.split('.').next().unwrap_or_default();
        match (self.id.as_str(), major, self.version.as_str()) {
            ("debian", "12" | "13", _) | ("ubuntu", _, "22.04" | "24.04") | ("rocky" | "almalinux", "9", _) => {
                Support::Known
            }
            _ if self.family().is_some() => Support::Untried,
            _ => Support::Unknown,
        }
    }
}

pub(super) fn item(facts: &Facts) -> Item {
    let name = "distribution";
    let known = "Debian 12 and 13, Ubuntu 22.04 and 24.04, Rocky Linux and AlmaLinux 9";
    let is = match facts.distribution.name.as_str() {
        "" => "no /etc/os-release tells what this is".to_owned(),
        shown => crate::text::plain(shown),
    };
    match facts.distribution.support() {
        Support::Known => Item::ok(name, is),
        Support::Untried => Item::failed(name, is, format!("templates are made of {known}; try it well")).warning(),
        Support::Unknown => Item::failed(name, is, format!("begin with {known}")),
    }
}
