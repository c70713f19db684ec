//! The path on the command line as a site: an ISO, a directory of ISOs, or an extracted tree.

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::{MANIFEST_PATH, Manifest, autoindex, layout, legacy};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use super::site::{Resource, Site};
use crate::content::{Content, Stamp, failed, misnamed};
use crate::opened::{Opened, Volume};

/// Where the virtual router has the content.
const CONTENT: &str = "cks-iso/";

/// What may lie beside an ISO: checksums, signature, bill of materials.
const BESIDE: [&str; 4] = [".sha256", ".sha512", ".minisig", ".spdx.json"];

/// Files of a tree at most, and directories inside one another.
const MAX_FILES: usize = 65_536;
const MAX_DEPTH: usize = 32;

/// A site with what is said about it.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) site: Site,
    /// In the order of their names.
    pub(super) served: Vec<Served>,
    /// What was left out, one line each.
    pub(super) warnings: Vec<String>,
}

/// One ISO or tree.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// What a person calls it.
    pub(super) title: String,
    /// The paths that it is served under: of the ISO, and of its content.
    pub(super) paths: Vec<String>,
    /// The path of the content, for nodes.
    pub(super) content: Option<String>,
}

/// Lists what `path` holds.
///
/// # Errors
/// `CONFIG_INVALID` when it is nothing that can be served, `MEDIA_NOT_A_BUNDLE` for another ISO;
/// `SOURCE_INVALID`, `SOURCE_TRUNCATED` or `IO` name a single ISO.
pub(super) fn list(path: &Path) -> Result<Shelf, Failure> {
    let meta = fs::metadata(path).map_err(|e| misnamed("Opening", path, e))?;
    let mut shelf = Shelf { site: Site::default(), served: Vec::new(), warnings: Vec::new() };
    if !meta.is_dir() {
        let iso = Opened::open(path)?;
        if !is_bundle(&iso) {
            let what = format!("{} is no CKS ISO: it holds nothing that a node installs", path.display());
            return Err(Failure::new(Code::MediaNotABundle, what).with_remedy("name a CKS ISO"));
        }
        shelf.iso(path, &iso, CONTENT);
    } else if path.join("k8s").is_dir() || path.join(MANIFEST_PATH).is_file() {
        shelf.tree(path)?;
    } else {
        shelf.isos(path)?;
    }
    shelf.site = shelf.site.finish();
    Ok(shelf)
}

fn is_bundle(iso: &Opened) -> bool {
    iso.file(MANIFEST_PATH).is_some() || legacy::is_bundle(iso.files.iter().map(|file| file.path.as_str()))
}

impl Shelf {
    /// An ISO under its name, what lies beside it, and its content under `content`.
    fn iso(&mut self, path: &Path, iso: &Opened, content: &str) {
        // Whoever calls opened a file, which is an ISO or nothing.
        let Some(Volume { source, .. }) = &iso.volume else { return };
        let name = name_of(path);
        let whole = Content::whole(source);
        self.site.add(name.clone(), Resource::held(&name, whole, source.stamp(), None));
        for suffix in BESIDE {
            let mut beside = path.as_os_str().to_owned();
            beside.push(suffix);
            self.named(format!("{name}{suffix}"), beside.into());
        }
        let mut served = Served { title: name.clone(), paths: vec![encoded(&name)], content: None };
        if is_bundle(iso) {
            served.title = format!("{name}: {}", self.content(&name, iso, source.stamp(), content));
            served.paths.push(encoded(content));
            served.content = Some(encoded(content));
        }
        self.served.push(served);
    }

    /// The files of an ISO below `content`; what the bundle is.
    fn content(&mut self, name: &str, iso: &Opened, stamp: Stamp, content: &str) -> String {
        let manifest = iso.manifest().unwrap_or_else(|failure| {
            self.warnings.push(format!("{name}: {}", failure.what));
            None
        });
        let told = |path: &str, size: u64| -> Option<Digest> {
            let (manifest, digest) = manifest.as_ref()?;
            match manifest.entry(path) {
                // A file of another size is not the one that the digest tells of.
                Some(entry) => entry.sha256.filter(|_| entry.size == size),
                None => (path == MANIFEST_PATH).then_some(*digest),
            }
        };
        for file in &iso.files {
            let digest = told(&file.path, file.content.length());
            let resource = Resource::held(&file.path, file.content.clone(), stamp, digest);
            self.site.add(format!("{content}{}", file.path), resource);
        }
        self.site.close(content);
        manifest.map_or_else(|| "a stock ISO, without a manifest".to_owned(), |(manifest, _)| title(&manifest))
    }

    /// An extracted ISO.
    fn tree(&mut self, top: &Path) -> Result<(), Failure> {
        let mut pending = vec![(top.to_owned(), String::new(), 0)];
        let mut count = 0;
        while let Some((directory, prefix, depth)) = pending.pop() {
            for (name, path) in self.names(&directory)? {
                let meta = fs::symlink_metadata(&path).map_err(|e| failed("Reading", &path, e))?;
                let shown = format!("{prefix}{name}");
                count += 1;
                if count > MAX_FILES || depth > MAX_DEPTH {
                    let what = format!("{} holds more than a CKS ISO can", top.display());
                    return Err(Failure::new(Code::ConfigInvalid, what).with_remedy("name an extracted CKS ISO"));
                }
                if meta.is_dir() {
                    pending.push((path, format!("{shown}/"), depth + 1));
                } else if meta.is_file() {
                    self.site.add(format!("{CONTENT}{shown}"), Resource::named(&shown, path, Stamp::of(&meta)));
                } else {
                    self.warnings.push(format!("{shown} is no regular file, and left out"));
                }
            }
        }
        self.site.close(CONTENT);
        let title = match fs::read(top.join(MANIFEST_PATH)).map(|json| Manifest::parse(&json)) {
            Ok(Ok(manifest)) => title(&manifest),
            Ok(Err(failure)) => {
                self.warnings.push(format!("{MANIFEST_PATH}: {}", failure.what));
                "an extracted ISO".to_owned()
            }
            Err(_) => "an extracted stock ISO, without a manifest".to_owned(),
        };
        let paths = vec![encoded(CONTENT)];
        self.served.push(Served { title, paths, content: Some(encoded(CONTENT)) });
        Ok(())
    }

    /// Every ISO of a directory, with its content below `/NAME/`; a single bundle's below `/cks-iso/`.
    fn isos(&mut self, directory: &Path) -> Result<(), Failure> {
        let mut isos = Vec::new();
        for (name, path) in self.names(directory)? {
            if !name.ends_with(".iso") || !fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
                continue;
            }
            match Opened::open(&path) {
                Ok(iso) => isos.push((path, iso)),
                Err(failure) => self.warnings.push(format!("{name} is left out: {failure}")),
            }
        }
        if isos.is_empty() {
            let what = format!("{} holds neither an ISO nor the files of one", directory.display());
            return Err(Failure::new(Code::ConfigInvalid, what)
                .with_remedy("name an ISO, a directory of *.iso files, or a directory with k8s/ in it"));
        }
        let alone = isos.iter().filter(|(_, iso)| is_bundle(iso)).count() == 1;
        for (path, iso) in &isos {
            let name = name_of(path);
            let own = format!("{}/", name.strip_suffix(".iso").unwrap_or(&name));
            self.iso(path, iso, if alone { CONTENT } else { &own });
        }
        Ok(())
    }

    /// A file that is there, or not.
    fn named(&mut self, name: String, path: PathBuf) {
        if let Ok(meta) = fs::metadata(&path)
            && meta.is_file()
        {
            let resource = Resource::named(&name, path, Stamp::of(&meta));
            self.site.add(name, resource);
        }
    }

    /// What a directory holds, sorted; not what is hidden.
    fn names(&mut self, directory: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
        let reading = |e| failed("Listing", directory, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(reading)? {
            let path = entry.map_err(reading)?.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some(name) if name.starts_with('.') => {}
                Some(name) if layout::check_path(name).is_ok() => names.push((name.to_owned(), path)),
                _ => self.warnings.push(format!("{} has a name that can't be served, and is left out", path.display())),
            }
        }
        names.sort();
        Ok(names)
    }
}

fn title(manifest: &Manifest) -> String {
    let kubernetes = manifest.kubernetes.as_ref().map_or_else(String::new, |version| format!(", Kubernetes {version}"));
    format!("{}{kubernetes}, {}", manifest.name, manifest.arch)
}

/// `/name`, percent-encoded.
fn encoded(path: &str) -> String {
    format!("/{}", autoindex::percent_encode_path(path))
}

/// The ISO's name in URLs: its file's, which a device has without `.iso`.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".iso") { name.into_owned() } else { format!("{name}.iso") }
}
