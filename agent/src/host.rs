//! The machine that is worked on: everything below one root directory.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::Filesystem;
use nix::sys::statvfs::statvfs;

/// The journal, the lock and what else has to outlive a reboot.
pub const STATE_DIR: &str = "/var/lib/cks-agent";

/// The status document, for as long as the machine is up.
pub const STATUS_PATH: &str = "/run/cks-agent/status.json";

/// A node's filesystem: `/`, or a directory that holds one (a template being baked, a test).
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The host below `root`.
    ///
    /// # Errors
    /// `ROOT_NOT_FOUND` when it is no directory.
    pub fn new(root: &Path) -> Result<Self, Failure> {
        let refuse = |cause: String| Failure::new(Code::RootNotFound, format!("root {}: {cause}", root.display()));
        let canonical = root.canonicalize().map_err(|e| refuse(e.to_string()))?;
        if !canonical.is_dir() {
            return Err(refuse("is no directory".to_owned()));
        }
        Ok(Self { root: canonical })
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the node's absolute `path` lies for us.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Like [`Self::path`], for writing: the directory is made, and must not lead out of the root by a
    /// symbolic link (an image's `/opt → /data` would otherwise write to the builder's own disk).
    ///
    /// # Errors
    /// `CONFIG_INVALID` when it leads out; `IO` when it can't be made.
    pub fn prepare(&self, path: &str) -> Result<PathBuf, Failure> {
        let full = self.path(path);
        let parent = full.parent().unwrap_or(&self.root);
        let failed = |e: io::Error| {
            Failure::new(code_of(&e), format!("making directory {}: {e}", parent.display())).with_source(e)
        };
        let mut there = parent;
        while fs::symlink_metadata(there).is_err() {
            there = there.parent().unwrap_or(&self.root);
        }
        let real = there.canonicalize().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                Failure::new(Code::ConfigInvalid, format!("{} is a symbolic link that leads nowhere", there.display()))
                    .with_remedy("make it a directory")
            }
            _ => failed(e),
        })?;
        if !real.starts_with(&self.root) {
            let what =
                format!("{} leads out of the root {} to {}", there.display(), self.root.display(), real.display());
            return Err(Failure::new(Code::ConfigInvalid, what)
                .with_remedy("make the symbolic link relative, so that it stays below the root"));
        }
        make_directories(parent).map_err(failed)?;
        Ok(full)
    }

    /// Refuses a relative link that would lead elsewhere than its text says, because a directory on its way
    /// is itself a link (`/opt/bin → ../usr/local/bin`).
    ///
    /// # Errors
    /// `CONFIG_INVALID` names that directory.
    pub fn check_link(&self, path: &str, target: &str) -> Result<(), Failure> {
        let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
        let up = target.split('/').take_while(|part| *part == "..").count();
        let parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
        let meant = self.path(&parts[..parts.len().saturating_sub(up)].join("/"));
        // What lies below it may not be there yet.
        let leads = self.path(directory).join("../".repeat(up));
        match (meant.canonicalize(), leads.canonicalize()) {
            (Ok(real), Ok(leads)) if real == leads => Ok(()),
            _ => {
                let real = self.path(directory).canonicalize().unwrap_or_default();
                let what = format!(
                    "{path} would not lead below {}: its directory is really {}",
                    meant.display(),
                    real.display()
                );
                Err(Failure::new(Code::ConfigInvalid, what)
                    .with_remedy(format!("make {directory} a directory instead of a symbolic link")))
            }
        }
    }

    /// The machine's name: `/etc/hostname` below the root, else the kernel's.
    #[must_use]
    pub fn name(&self) -> String {
        let file = fs::read_to_string(self.path("/etc/hostname")).unwrap_or_default();
        let first = file.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        match first {
            Some(name) => name.to_owned(),
            None => nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .unwrap_or_else(|| "localhost".to_owned()),
        }
    }

    /// The machine's architecture.
    ///
    /// # Errors
    /// `ARCH_MISMATCH` on a machine that no CKS ISO is made for.
    pub fn arch(&self) -> Result<Arch, Failure> {
        let name = std::env::consts::ARCH;
        Arch::parse(name).ok_or_else(|| {
            Failure::new(Code::ArchMismatch, format!("this machine is {name}; CKS runs on x86_64 and aarch64"))
        })
    }

    /// What lies in the directory `path`, by name; nothing where it is not there.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The processes that can be seen.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.names("/proc").iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Changes with every boot (`/proc/sys/kernel/random/boot_id`): what was in the page cache is gone.
    #[must_use]
    pub fn boot_id(&self) -> String {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.chars().filter(char::is_ascii_hexdigit).take(12).collect()
    }

    /// The room on the filesystem that `path` lies on, or will.
    #[must_use]
    pub fn filesystem(&self, path: &str) -> Option<Filesystem> {
        filesystem(&self.path(path))
    }
}

/// Makes `directory` and what it lies in; what is made is for all to enter, whatever the umask is.
fn make_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directories(parent)?;
    }
    match fs::create_dir(directory) {
        Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(0o755)),
        // Another step of ours made it meanwhile.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// The room on the filesystem that `path` lies on, or will.
#[must_use]
pub fn filesystem(path: &Path) -> Option<Filesystem> {
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    let room = statvfs(there).ok()?;
    let device = |path: &Path| fs::metadata(path).ok().map(|meta| meta.dev());
    let real = there.canonicalize().ok()?;
    let own = device(&real)?;
    let mount = real.ancestors().take_while(|ancestor| device(ancestor) == Some(own)).last()?;
    Some(Filesystem {
        path: mount.display().to_string(),
        device: own,
        free_bytes: room.blocks_available() * room.fragment_size(),
    })
}

/// The failure code of an I/O error.
#[must_use]
pub fn code_of(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
        _ => Code::Io,
    }
}

/// A failure of reading or writing `path`: `Writing /x: permission denied`.
#[must_use]
pub fn io_failure(doing: &str, path: &Path, error: io::Error) -> Failure {
    Failure::new(code_of(&error), format!("{doing} {}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert!(host.prepare("/opt/cks/v1/bin/kubelet").unwrap().starts_with(host.root()));
        std::os::unix::fs::symlink(outside.path(), root.path().join("srv")).unwrap();
        assert_eq!(host.prepare("/srv/x/y").unwrap_err().code, Code::ConfigInvalid);
        assert!(!outside.path().join("x").exists());
    }

    #[test]
    fn links_lead_where_their_text_says() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        std::fs::write(host.prepare("/opt/cks/v1/bin/etcd").unwrap(), "").unwrap();
        host.prepare("/usr/local/bin/x").unwrap();
        host.prepare("/opt/bin/etcd").unwrap();
        host.check_link("/opt/bin/etcd", "../cks/current/bin/etcd").unwrap();
        host.check_link("/opt/cks/current", "v1").unwrap();
        std::fs::remove_dir(root.path().join("opt/bin")).unwrap();
        std::os::unix::fs::symlink("../usr/local/bin", root.path().join("opt/bin")).unwrap();
        let failure = host.check_link("/opt/bin/etcd", "../cks/v1/bin/etcd").unwrap_err();
        assert!(failure.remedy().contains("/opt/bin"), "{}", failure.remedy());
    }

    #[test]
    fn a_root_that_is_missing_is_named() {
        let failure = Host::new(Path::new("/nonexistent-root")).unwrap_err();
        assert_eq!(failure.code, Code::RootNotFound);
        assert!(failure.what.contains("/nonexistent-root"));
    }
}
