//! Image references, as Docker normalises them.

use bootstrap::bundle::layout::normalise_reference;
use bootstrap::bundle::reference::{self, Parts};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

/// A reference and its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// `docker.io/library/busybox:latest`; tag and digest as they were given.
    pub(super) whole: String,
    /// `docker.io`.
    pub(super) host: String,
    /// `library/busybox`.
    pub(super) path: String,
    tag: Option<String>,
    pub(super) digest: Option<Digest>,
}

impl Name {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let whole = normalise_reference(text);
        let refuse = |why: &str| {
            Failure::new(Code::SpecInvalid, format!("image reference {text:?} {why}"))
                .with_remedy("write it as registry/name:tag or registry/name@sha256:…")
        };
        // As it was written: what is wrong with it stands there.
        reference::check(text).map_err(refuse)?;
        let Parts { host, path, tag, digest } = reference::split(&whole).map_err(refuse)?;
        let digest = digest.map(str::parse).transpose();
        let digest = digest.map_err(|_| refuse("has a digest that is not sha256"))?;
        let (host, path, tag) = (host.to_owned(), path.to_owned(), tag.map(str::to_owned));
        Ok(Self { whole, host, path, tag, digest })
    }

    pub(super) fn tag(&self) -> String {
        self.tag.clone().unwrap_or_else(|| "latest".to_owned())
    }

    /// `docker.io/library/busybox`.
    pub(super) fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// `busybox:latest`, or with the beginning of the digest.
    pub(super) fn short(&self) -> String {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        match (&self.tag, self.digest) {
            (None, Some(digest)) => format!("{last}@{}", digest.short()),
            _ => format!("{last}:{}", self.tag()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalised_and_taken_apart() {
        let digest = Digest::of(b"x");
        for (text, whole, host, path, tag, has_digest) in [
            ("busybox", "docker.io/library/busybox:latest", "docker.io", "library/busybox", "latest", false),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9", "registry.k8s.io", "pause", "3.9", false),
            ("localhost/a:1", "localhost/a:1", "localhost", "a", "1", false),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000", "a/b", "1", false),
            // Docker takes capitals for a host.
            ("A/b:1", "A/b:1", "A", "b", "1", false),
            ("quay.io/a/b:1@D", "quay.io/a/b:1@D", "quay.io", "a/b", "1", true),
            ("quay.io/a/b@D", "quay.io/a/b@D", "quay.io", "a/b", "latest", true),
        ] {
            let with = |text: &str| text.replace('D', &digest.to_string());
            let name = Name::parse(&with(text)).unwrap();
            assert_eq!(name.whole, with(whole));
            assert_eq!((name.host.as_str(), name.path.as_str(), name.tag().as_str()), (host, path, tag));
            assert_eq!(name.digest, has_digest.then_some(digest));
        }
        for text in [
            "",
            "a b",
            "quay.io/../a",
            "quay.io/a/..",
            "quay.io/a:..",
            "quay.io/a?b=c",
            "quay.io/a:",
            "quay.io/a@sha256:12",
            "quay.io/\u{1b}",
        ] {
            assert_eq!(Name::parse(text).unwrap_err().code, Code::SpecInvalid, "{text:?}");
        }
    }
}
