//! A user who may nothing: uid 1000, no capability and no way to one, an empty home, and of the world only
//! what is in one network namespace. So `cks-iso` runs where there is no daemon, no mount and no Internet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::netns::Netns;
use crate::process::Command;
use crate::{programs, scratch};

/// The user's place: a directory with everything that is theirs.
#[derive(Debug)]
pub struct Bare {
    /// Belongs to the user. Commands run in it.
    pub place: PathBuf,
    network: Option<String>,
    mounts: Option<String>,
    program: PathBuf,
    environment: Vec<(String, String)>,
    directory: TempDir,
}

/// What the environment holds, and nothing else.
const PATH: &str = "PATH=/usr/bin:/bin";

impl Bare {
    /// A user in `netns`; without one, in a namespace that has no interface but a loopback that is down.
    ///
    /// # Errors
    /// Without root, or when `cks-iso` has not been built.
    pub fn new(netns: Option<&Netns>) -> Result<Self> {
        let directory = scratch("bare")?;
        let (place, home) = (directory.path().join("place"), directory.path().join("home"));
        for path in [&place, &home] {
            fs::create_dir(path).with_context(|| format!("Making {}", path.display()))?;
            Command::new("chown").arg("1000:1000").arg(path).ok()?;
        }
        // The workspace may be somewhere that the user can't look into.
        let program = directory.path().join("cks-iso");
        let built = programs::built("cks-iso")?;
        fs::copy(&built, &program).with_context(|| format!("Copying {}", built.display()))?;
        let network = netns.map(Netns::path);
        Ok(Self { place, network, mounts: None, program, environment: Vec::new(), directory })
    }

    /// With an environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Who sees a disk, too, and owns its top directory: [`Disk::path`].
    ///
    /// # Errors
    /// Without root.
    pub fn seeing(mut self, disk: &Disk) -> Result<Self> {
        Command::new("chown").arg("1000:1000").arg(disk.here()).ok()?;
        self.mounts = Some(disk.namespace());
        Ok(self)
    }

    /// The home directory, which nothing shall be written to but the cache.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// `cks-iso` with arguments, as the user.
    #[must_use]
    pub fn cks_iso(&self, args: &[&str]) -> Command {
        self.run(Command::new(&self.program).args(args))
    }

    /// As [`Bare::cks_iso`], by a clock that shows another time: `2031-05-06 07:08:09`.
    #[must_use]
    pub fn cks_iso_at(&self, time: &str, args: &[&str]) -> Command {
        self.run(Command::new(&self.program).args(args).under("faketime", [time]))
    }

    /// Any command, as the user.
    #[must_use]
    pub fn run(&self, command: Command) -> Command {
        let home = format!("HOME={}", self.home().display());
        let more = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        // A mount namespace is entered at its root.
        let place = format!("--chdir={}", self.place.display());
        let environment = ["-i".to_owned(), place, PATH.to_owned(), home].into_iter().chain(more);
        let nobody = ["--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all"];
        let never = ["--bounding-set=-all", "--no-new-privs"];
        let command = command.under("env", environment).under("setpriv", nobody.iter().chain(&never));
        let command = match &self.mounts {
            Some(mounts) => command.under("nsenter", [format!("--mount={mounts}"), "--".to_owned()]),
            None => command,
        };
        match &self.network {
            Some(network) => command.network(network),
            None => command.under("unshare", ["--net"]),
        }
    }

    /// Gives the user a file with this text and its path.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.place.join(name);
        fs::write(&path, text).with_context(|| format!("Writing {}", path.display()))?;
        Command::new("chown").arg("1000:1000").arg(&path).ok()?;
        Ok(path)
    }

    /// Every file below a directory of the user, relative, sorted, with its size.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn files(&self, directory: &Path) -> Result<Vec<(String, u64)>> {
        let listed = Command::new("find").arg(directory).args(["-type", "f", "-printf", "%P\\t%s\\n"]).ok()?;
        let parse = |line: &str| -> Option<(String, u64)> {
            let (path, size) = line.split_once('\t')?;
            Some((path.to_owned(), size.parse().ok()?))
        };
        let mut files: Vec<_> = listed.lines().filter_map(parse).collect();
        files.sort();
        Ok(files)
    }
}
