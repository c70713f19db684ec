//! Files, texts, units and links.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::Failure;
use bootstrap::plan::{self, ContainerdFact, Step, Wanted, WantedFile};

use super::Audit;
use crate::containerd::Containerd;
use crate::facts;
use crate::host::io_failure;
use crate::journal::Journal;

/// Permission bits of the files whose text is ours.
const TEXT_MODE: u32 = 0o644;

impl Audit<'_> {
    /// Looks at every file whose bytes came from the bundle.
    pub(super) fn files(&mut self) -> Result<(), Failure> {
        let journal = Journal::peek(self.host)?;
        for file in std::mem::take(&mut self.wanted.files) {
            self.checked += 1;
            let at = self.host.path(&file.path);
            if let Some((is, should)) = wrong_outside(&at, file.mode) {
                self.find(&file.path, is, should, "run cks-agent bootstrap: it is installed again");
                continue;
            }
            self.content(&file, &at, &journal)?;
        }
        Ok(())
    }

    fn content(&mut self, file: &WantedFile, at: &Path, journal: &Journal) -> Result<(), Failure> {
        let Some(should) = file.sha256 else { return Ok(()) };
        let is = match self.quick {
            true => journal.digest_of(&file.path, at)?.map(|(digest, _)| digest),
            false => Some(self.read(&file.path, at)?),
        };
        if let Some(is) = is.filter(|is| *is != should) {
            let remedy = "run cks-agent bootstrap: it is installed again; and find out who changed it";
            self.find(&file.path, is.to_string(), should.to_string(), remedy);
        }
        Ok(())
    }

    fn read(&mut self, path: &str, at: &Path) -> Result<Digest, Failure> {
        let failed = |e| io_failure("Reading", at, e);
        let mut file = File::open(at).map_err(failed)?;
        let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 256 << 10]);
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&buffer[..count]);
            self.meter.advance(path, count as u64);
        }
    }

    /// Looks at what else a bootstrap would do: texts, units, links and the record. Files and images are
    /// looked at in more depth elsewhere.
    pub(super) async fn plan(&mut self, containerd: Option<&Containerd>) -> Result<(), Failure> {
        if self.bundle.text.is_empty() {
            return Ok(());
        }
        let mut wanted = Wanted { files: Vec::new(), ..self.wanted.clone() };
        if containerd.is_none() {
            // Which drop-in it gets depends on its version.
            wanted.images.clear();
        }
        let journal = Journal::peek(self.host)?;
        let arch = self.bundle.manifest.arch;
        let mut facts = facts::gather(self.host, &journal, arch, &self.bundle, &wanted, None).await?;
        facts.containerd = containerd.map(|containerd| ContainerdFact { version: containerd.version.clone() });
        facts.filesystem = None;
        self.checked += (wanted.texts.len() + wanted.units.len() + wanted.links.len()) as u64;
        for step in plan::plan(&wanted, &self.bundle, &facts)?.steps {
            self.undone(&step);
        }
        Ok(())
    }

    /// A step that a bootstrap would do again.
    fn undone(&mut self, step: &Step) {
        let known = |object: &str| self.findings.iter().any(|finding| finding.object == object);
        match step {
            Step::InstallFile { .. } | Step::Unpack { .. } | Step::ImportImage { .. } => {}
            // The unit is made of a file that was found already.
            Step::RenderUnit { source, .. } if known(source) => {}
            Step::Link { path, target } => {
                let remedy = "run cks-agent bootstrap: it is linked again";
                self.find(path, what_is(&self.host.path(path)), format!("a link to {target}"), remedy);
            }
            Step::Unlink { path } => {
                let remedy = "run cks-agent bootstrap: it is removed";
                self.find(path, what_is(&self.host.path(path)), "nothing: the bundle has no such file", remedy);
            }
            _ => {
                let object = step.object();
                let at = self.host.path(object);
                let (is, should) = wrong_outside(&at, TEXT_MODE).unwrap_or_else(|| {
                    let digest = crate::files::digest(&at).map(|digest| format!(", {digest}"));
                    (format!("another text{}", digest.unwrap_or_default()), text_of(step))
                });
                self.find(object, is, should, "run cks-agent bootstrap: it is written again");
            }
        }
    }
}

fn text_of(step: &Step) -> String {
    match step {
        Step::WriteFile { text, .. } => Digest::of(text.as_bytes()).to_string(),
        Step::RenderUnit { source, .. } => format!("made from {source}"),
        _ => "the text of the bundle".to_owned(),
    }
}

/// What is wrong with a file before anybody reads it: whether it is there, a file, of the right mode and of
/// the user that the agent runs as, root.
fn wrong_outside(path: &Path, mode: u32) -> Option<(String, String)> {
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    let Some(meta) = meta else { return Some((what_is(path), "a file".to_owned())) };
    let is = meta.mode() & 0o7777;
    if is != mode {
        return Some((format!("of mode {is:04o}"), format!("of mode {mode:04o}")));
    }
    let owner = nix::unistd::geteuid().as_raw();
    (meta.uid() != owner).then(|| (format!("owned by uid {}", meta.uid()), format!("owned by uid {owner}")))
}

fn what_is(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Err(_) => "missing".to_owned(),
        Ok(meta) if meta.is_symlink() => match fs::read_link(path) {
            Ok(target) => format!("a link to {}", target.display()),
            Err(_) => "a link".to_owned(),
        },
        Ok(meta) if meta.is_dir() => "a directory".to_owned(),
        Ok(meta) if meta.is_file() => "a file".to_owned(),
        Ok(_) => "no regular file".to_owned(),
    }
}
