//! Kubernetes versions, ordered as upstream releases them: `v1.9.0 < v1.33.0-rc.1 < v1.33.0`.

use std::cmp::Ordering;
use std::fmt;

/// A version; what stands behind a `+` (the build) does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre_release: Vec<Part>,
    text: String,
}

/// A part of a pre-release; numbers sort before words (Semantic Versioning 2.0, §11).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

impl Version {
    /// Reads `v1.33.1`, `1.33.1`, `v1.33` (as `v1.33.0`), `v1.34.0-rc.1`, `v1.33.1+k3s1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        let bare = trimmed.strip_prefix('v').unwrap_or(trimmed);
        let (bare, build) = bare.split_once('+').map_or((bare, None), |(bare, build)| (bare, Some(build)));
        let (numbers, pre_release) = bare.split_once('-').map_or((bare, None), |(numbers, pre)| (numbers, Some(pre)));
        let words = [build, pre_release].into_iter().flatten().flat_map(|words| words.split('.'));
        let mut words =
            words.map(|word| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'));
        if !words.all(|sound| sound) {
            return None;
        }
        let parts: Vec<u64> = numbers.split('.').map(number).collect::<Option<_>>()?;
        let numbers = match parts[..] {
            [major, minor] => [major, minor, 0],
            [major, minor, patch] => [major, minor, patch],
            _ => return None,
        };
        let part = |part: &str| number(part).map_or_else(|| Part::Word(part.to_owned()), Part::Number);
        let pre_release = pre_release.into_iter().flat_map(|pre| pre.split('.')).map(part).collect();
        Some(Self { numbers, pre_release, text: trimmed.to_owned() })
    }

    /// Its second number: 34 of `v1.34.1`.
    #[must_use]
    pub fn minor(&self) -> u64 {
        self.numbers[1]
    }

    /// Without what a build adds, as Kubernetes writes it: `v1.34.0-rc.1`.
    #[must_use]
    pub fn release(&self) -> String {
        let bare = self.text.strip_prefix('v').unwrap_or(&self.text);
        let bare = bare.split('+').next().unwrap_or_default();
        let (numbers, pre_release) = bare.split_once('-').map_or((bare, None), |(numbers, pre)| (numbers, Some(pre)));
        let patch = if numbers.matches('.').count() < 2 { ".0" } else { "" };
        let pre_release = pre_release.map(|pre| format!("-{pre}")).unwrap_or_default();
        format!("v{numbers}{patch}{pre_release}")
    }

    /// Whether it is released before `other`.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        let released = |version: &Self| version.pre_release.is_empty();
        let order = self.numbers.cmp(&other.numbers);
        order.then_with(|| match (released(self), released(other)) {
            (false, false) => self.pre_release.cmp(&other.pre_release),
            (a, b) => a.cmp(&b),
        }) == Ordering::Less
    }
}

/// Digits only: `+1` is no number here.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

/// As it was written.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_they_are_released() {
        let rising = [
            "v1.9",
            "1.9.11",
            "v1.10.0-alpha.1",
            "v1.10.0",
            "v1.33.0-alpha.2",
            "v1.33.0-alpha.10",
            "v1.33.0-beta.0",
            "v1.33.0-rc.1",
            "v1.33.0",
            "v1.33.1",
            "v1.34.0-alpha.0",
            "v2.0.0",
        ];
        let rising: Vec<Version> = rising.iter().map(|text| Version::parse(text).unwrap()).collect();
        for (at, one) in rising.iter().enumerate() {
            for (behind, other) in rising.iter().enumerate() {
                assert_eq!(one.is_before(other), at < behind, "{one} before {other}");
            }
        }
    }

    #[test]
    fn the_build_does_not_count() {
        let (plain, built) = (Version::parse("v1.33.1").unwrap(), Version::parse("v1.33.1+k3s1").unwrap());
        assert!(!plain.is_before(&built) && !built.is_before(&plain));
    }

    #[test]
    fn a_release_is_written_as_kubernetes_does() {
        for (text, release, minor) in [
            ("1.34.1", "v1.34.1", 34),
            ("v1.9", "v1.9.0", 9),
            ("v1.34.0-rc.1", "v1.34.0-rc.1", 34),
            ("v1.33.1+k3s1", "v1.33.1", 33),
            ("1.33-beta.0+a-b", "v1.33.0-beta.0", 33),
        ] {
            let version = Version::parse(text).unwrap();
            assert_eq!((version.release().as_str(), version.minor()), (release, minor), "{text}");
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "v", "1", "v1.", "v1.2.3.4", "latest", "v1.x", "v1.+2", "v1.2.3-", "v1.2.3-a..b", "v-1.2"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
