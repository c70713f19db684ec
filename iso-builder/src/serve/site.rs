//! What is served: every path with its file, listed before the first request. A path that is not in the
//! list leads nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bootstrap::bundle::autoindex::percent_encode_path;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use super::date::Moment;
use super::index::{self, Line};
use crate::content::{Content, Source, Stamp};

/// One file that is served.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) length: u64,
    /// Strong, with its quotes.
    pub(super) etag: String,
    /// As in `Last-Modified`.
    pub(super) modified: String,
    pub(super) content_type: &'static str,
    origin: Origin,
}

/// Where its bytes are.
#[derive(Debug)]
enum Origin {
    /// In memory, or in a file that is open.
    Held(Content),
    /// In a file that is opened for each request, and must still be the one that was listed.
    Named(PathBuf, Stamp),
}

impl Resource {
    /// The bytes of a file that stays open. `digest` names them for `ETag`, where it is known.
    pub(super) fn held(path: &str, content: Content, stamp: Stamp, digest: Option<Digest>) -> Self {
        let length = content.length();
        let etag = digest.map_or_else(|| etag(&stamp, length), |digest| format!("\"{}\"", digest.hex()));
        Self {
            length,
            etag,
            modified: modified(&stamp).http(),
            content_type: type_of(path),
            origin: Origin::Held(content),
        }
    }

    /// The file at `from`.
    pub(super) fn named(path: &str, from: PathBuf, stamp: Stamp) -> Self {
        let (length, etag) = (stamp.size, etag(&stamp, stamp.size));
        let origin = Origin::Named(from, stamp);
        Self { length, etag, modified: modified(&stamp).http(), content_type: type_of(path), origin }
    }

    fn page(html: String, modified: Moment) -> Self {
        let etag = format!("\"{}\"", Digest::of(html.as_bytes()).hex());
        let content = Content::bytes(html.into_bytes());
        let (length, content_type) = (content.length(), "text/html;charset=UTF-8");
        Self { length, etag, modified: modified.http(), content_type, origin: Origin::Held(content) }
    }

    /// The bytes, of the version that was listed and of no other. Opens files: not for an async thread.
    ///
    /// # Errors
    /// `SOURCE_FILE_MISSING` when the file has changed or is gone; `IO` when it can't be read.
    pub(super) fn open(&self) -> Result<Content, Failure> {
        let (content, path, same) = match &self.origin {
            Origin::Held(content) => (content.clone(), content.origin(), true),
            Origin::Named(path, stamp) => {
                let source = Source::open(path)?;
                (Content::whole(&source), path.clone(), source.stamp() == *stamp)
            }
        };
        if same && content.is_unchanged().map_err(|e| crate::content::failed("Reading", &path, e))? {
            return Ok(content);
        }
        let what = format!("{} has changed since it was listed", path.display());
        Err(Failure::new(Code::SourceFileMissing, what).with_remedy("send SIGHUP to cks-iso serve, or start it again"))
    }
}

fn modified(stamp: &Stamp) -> Moment {
    Moment(u64::try_from(stamp.modified.0).unwrap_or(0))
}

fn etag(stamp: &Stamp, length: u64) -> String {
    format!("\"{length:x}-{:x}.{:x}\"", stamp.modified.0, stamp.modified.1)
}

/// The content type that the name tells.
fn type_of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("iso") => "application/x-iso9660-image",
        Some("json") => "application/json",
        Some("yaml") => "application/yaml",
        Some("tar") => "application/x-tar",
        Some("tgz" | "gz") => "application/gzip",
        Some("service" | "conf" | "lock" | "sha256" | "sha512" | "minisig" | "txt" | "md") => {
            "text/plain;charset=UTF-8"
        }
        _ => "application/octet-stream",
    }
}

/// What a path leads to.
#[derive(Debug, Clone)]
pub(super) enum Found {
    File(Arc<Resource>),
    /// A directory without its `/`: the path that it has, percent-encoded.
    Directory(String),
    Nothing,
}

/// The list: paths without the first `/`; those of index pages end in `/`, the top one is empty.
#[derive(Debug, Default)]
pub(super) struct Site {
    files: BTreeMap<String, Arc<Resource>>,
    /// Directories whose page does not lead up.
    tops: BTreeSet<String>,
}

impl Site {
    /// Adds a file.
    pub(super) fn add(&mut self, path: String, resource: Resource) {
        self.files.insert(path, Arc::new(resource));
    }

    /// The pages of `directory` (`cks-iso/`) and below do not lead out of it.
    pub(super) fn close(&mut self, directory: &str) {
        self.tops.insert(directory.to_owned());
    }

    /// Adds the index pages: no more files are added then.
    pub(super) fn finish(mut self) -> Self {
        let mut directories: BTreeMap<String, BTreeSet<Line>> = BTreeMap::new();
        for (path, resource) in &self.files {
            let (mut directory, mut name, mut size) = split(path, Some(resource.length));
            loop {
                let more = directories.entry(directory.clone()).or_default().insert(Line { name, size });
                if directory.is_empty() || !more {
                    break;
                }
                let above = directory.trim_end_matches('/').to_owned();
                (directory, name, size) = split(&above, None);
                name.push('/');
            }
        }
        let now = Moment::now();
        for (directory, lines) in directories {
            let lines: Vec<Line> = lines.into_iter().collect();
            let parent = !directory.is_empty() && !self.tops.contains(&directory);
            let html = index::page(&format!("/{directory}"), &lines, now, parent);
            self.files.insert(directory, Arc::new(Resource::page(html, now)));
        }
        self
    }

    /// What `path` leads to, decoded and without its first `/`.
    pub(super) fn find(&self, path: &str) -> Found {
        if let Some(resource) = self.files.get(path) {
            return Found::File(Arc::clone(resource));
        }
        let directory = format!("{path}/");
        match self.files.contains_key(&directory) {
            true => Found::Directory(format!("/{}", percent_encode_path(&directory))),
            false => Found::Nothing,
        }
    }
}

/// The directory, with its `/`, and the name in it.
fn split(path: &str, size: Option<u64>) -> (String, String, Option<u64>) {
    match path.rsplit_once('/') {
        Some((directory, name)) => (format!("{directory}/"), name.to_owned(), size),
        None => (String::new(), path.to_owned(), size),
    }
}

#[cfg(test)]
mod tests {
    use bootstrap::bundle::autoindex::parse;

    use super::*;

    const STAMP: Stamp = Stamp { identity: (1, 2), size: 5, modified: (784_111_777, 16) };

    fn site(paths: &[&str]) -> Site {
        let mut site = Site::default();
        for path in paths {
            site.add((*path).to_owned(), Resource::held(path, Content::bytes(*b"bytes"), STAMP, None));
        }
        site.close("cks-iso/");
        site.finish()
    }

    fn names(site: &Site, path: &str) -> Vec<String> {
        let Found::File(page) = site.find(path) else { panic!("no page {path}") };
        let html = page.open().unwrap().head(1 << 20).unwrap();
        parse(std::str::from_utf8(&html).unwrap()).into_iter().map(|link| link.name).collect()
    }

    #[test]
    fn every_directory_has_its_page() {
        let site = site(&["out.iso", "cks-iso/a.yaml", "cks-iso/docker/pause:3.10.tar", "cks-iso/x/y/z"]);
        assert_eq!(names(&site, ""), ["cks-iso", "out.iso"]);
        assert_eq!(names(&site, "cks-iso/"), ["a.yaml", "docker", "x"]);
        assert_eq!(names(&site, "cks-iso/docker/"), ["pause:3.10.tar"]);
        assert_eq!((names(&site, "cks-iso/x/"), names(&site, "cks-iso/x/y/")), (vec!["y".into()], vec!["z".into()]));
        assert!(matches!(site.find("cks-iso/x"), Found::Directory(path) if path == "/cks-iso/x/"));
        for nothing in ["cks-iso//", "cks-iso/../out.iso", "../out.iso", "/", "cks-iso/x/y/z/", "etc/passwd", "."] {
            assert!(matches!(site.find(nothing), Found::Nothing), "{nothing}");
        }
    }

    #[test]
    fn etags_are_of_the_bytes_or_of_the_file() {
        let held = |digest| Resource::held("a.json", Content::bytes(*b"bytes"), STAMP, digest).etag;
        assert_eq!(held(None), "\"5-2ebc9a21.10\"".replace("2ebc9a21", &format!("{:x}", 784_111_777)));
        assert_eq!(held(Some(Digest::of(b""))), format!("\"{}\"", Digest::of(b"").hex()));
        assert_eq!(type_of("cks-iso/etcd/etcd-linux-amd64.tar.gz"), "application/gzip");
        assert_eq!(type_of("k8s.d/kubelet"), "application/octet-stream");
    }

    #[test]
    fn a_file_that_was_exchanged_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let source = Source::open(&path).unwrap();
        let named = Resource::named("file", path.clone(), source.stamp());
        let held = Resource::held("file", Content::whole(&source), source.stamp(), None);
        assert_eq!(named.open().unwrap().head(9).unwrap(), b"one");
        std::fs::write(dir.path().join("new"), "two").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(named.open().unwrap_err().code, Code::SourceFileMissing);
        assert_eq!(held.open().unwrap().head(9).unwrap(), b"one");
        std::fs::remove_file(&path).unwrap();
        assert!(named.open().is_err() && held.open().is_ok());
    }
}
