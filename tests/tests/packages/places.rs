//! What is installed, and the roots that it is installed into.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cks_tests::process::{Command, Output};
use cks_tests::programs;
use cks_tests::tree::Tree;
use tempfile::TempDir;

/// A version of everything that is installed.
#[derive(Debug)]
pub(crate) struct Packages {
    pub(crate) directory: PathBuf,
    pub(crate) version: String,
}

/// This version: that of `CKS_PACKAGES`, or one made of `target/debug`.
pub(crate) fn made() -> &'static Packages {
    static MADE: OnceLock<Packages> = OnceLock::new();
    MADE.get_or_init(|| match named() {
        Some(directory) => Packages { directory, version: env!("CARGO_PKG_VERSION").to_owned() },
        None => make("made", env!("CARGO_PKG_VERSION"), &[]).unwrap(),
    })
}

/// The one before.
pub(crate) fn older() -> &'static Packages {
    static OLDER: OnceLock<Packages> = OnceLock::new();
    OLDER.get_or_init(|| make("older", "0.0.9", &["--only", "cks-agent"]).unwrap())
}

/// Whether the programs run on every glibc that is supported, or on this machine's alone.
pub(crate) fn run_everywhere() -> bool {
    named().is_some()
}

#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn named() -> Option<PathBuf> {
    std::env::var_os("CKS_PACKAGES").map(|directory| programs::workspace().join(directory))
}

fn make(place: &str, version: &str, more: &[&str]) -> Result<Packages> {
    let directory = programs::workspace().join("target/packages/tests").join(place);
    let tools = Command::new(programs::workspace().join("packaging/tools")).args(["deb", "rpm"]);
    tools.limit(Duration::from_secs(900)).ok()?;
    let build = Command::new(programs::workspace().join("packaging/build")).args(["--quick", "--version", version]);
    build.args(more).arg("-o").arg(&directory).limit(Duration::from_secs(600)).ok()?;
    Ok(Packages { directory, version: version.to_owned() })
}

impl Packages {
    pub(crate) fn deb(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}_{}-1_amd64.deb", self.version))
    }

    pub(crate) fn rpm(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}-{}-1.x86_64.rpm", self.version))
    }

    /// The unpacked tarball, in a directory of its own.
    pub(crate) fn unpacked(&self) -> Result<(TempDir, PathBuf)> {
        let place = cks_tests::scratch("tarball")?;
        let name = format!("cks-agent-{}-x86_64-linux", self.version);
        let tarball = self.directory.join(format!("{name}.tar.gz"));
        Command::new("tar").arg("-C").arg(place.path()).arg("-xzf").arg(tarball).ok()?;
        let inside = place.path().join(name);
        Ok((place, inside))
    }
}

/// The root of a machine that is switched off. Commands run in it by chroot.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) directory: TempDir,
}

/// What package managers and a boot write for themselves.
const NOT_OURS: [&str; 8] =
    ["dev", "proc", "tmp", "var/cache", "var/lib/dpkg", "var/lib/rpm", "var/lib/systemd", "var/log"];

/// Writes down how it is called. As a running systemd, it knows every unit as enabled.
const SYSTEMCTL: &str = "#!/bin/sh
echo \"systemctl $*\" >>/tmp/systemctl
case $* in *is-enabled*) echo enabled ;; esac
";

/// Where distributions with rpm have it; Debian's rpm keeps one for each user.
const DATABASE: [&str; 2] = ["--dbpath", "/var/lib/rpm"];

impl Root {
    /// A small Debian.
    pub(crate) fn debian(suite: &str) -> Result<Self> {
        let tool = Command::new(programs::workspace().join("tests/tools/root")).arg(suite);
        let tar = tool.limit(Duration::from_secs(900)).ok()?;
        let directory = cks_tests::scratch("root")?;
        let unpack = Command::new("tar").arg("-C").arg(directory.path()).args(["--numeric-owner", "-xpf", tar.trim()]);
        unpack.ok()?;
        Ok(Self { directory })
    }

    /// What rpm needs of a machine: a database and a shell.
    pub(crate) fn rpm() -> Result<Self> {
        let root = Self { directory: cks_tests::scratch("root")? };
        for directory in ["bin", "dev", "usr/bin", "etc", "tmp", "var/lib/rpm", "usr/lib"] {
            fs::create_dir_all(root.path(directory)).with_context(|| format!("Making {directory}"))?;
        }
        let busybox = root.path("bin/busybox");
        fs::copy("/bin/busybox", &busybox).context("Copying busybox")?;
        for applet in ["sh", "rmdir", "cat"] {
            std::os::unix::fs::symlink("busybox", root.path("bin").join(applet)).context("Linking busybox")?;
        }
        fs::write(root.path("etc/passwd"), "root:x:0:0::/:/bin/sh\n").context("Writing passwd")?;
        fs::write(root.path("etc/group"), "root:x:0:\n").context("Writing group")?;
        Command::new("mknod").arg("-m666").arg(root.path("dev/null")).args(["c", "1", "3"]).ok()?;
        Command::new("rpm").arg("--root").arg(root.directory.path()).args(DATABASE).arg("--initdb").ok()?;
        Ok(root)
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.directory.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether there is anything, be it a link that leads nowhere.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    pub(crate) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.path(path)).with_context(|| format!("Reading {path}"))
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("a path")?).with_context(|| format!("Making {}", path.display()))?;
        fs::write(&path, text).with_context(|| format!("Writing {}", path.display()))
    }

    pub(crate) fn tree(&self) -> Result<Tree> {
        Tree::read(self.directory.path(), &NOT_OURS)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Result<Output> {
        let command = Command::new("chroot").arg(self.directory.path()).args(words).bare();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive").output()
    }

    pub(crate) fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        ensure!(output.code == 0, "{words:?}: exit code {}\n{}{}", output.code, output.stdout, output.stderr);
        Ok(output.stdout)
    }

    /// `dpkg --install` of a file from outside.
    pub(crate) fn dpkg(&self, package: &Path, options: &[&str]) -> Result<String> {
        fs::copy(package, self.path("tmp/package.deb")).with_context(|| format!("Copying {}", package.display()))?;
        self.ok(&[&["dpkg"], options, &["--install", "/tmp/package.deb"]].concat())
    }

    /// `rpm` from outside. What it requires is no package of this root.
    pub(crate) fn rpm_command(&self, args: &[&str], package: Option<&Path>) -> Result<String> {
        let rpm = Command::new("rpm").arg("--root").arg(self.directory.path()).args(DATABASE).args(args);
        rpm.args(package.map(Path::as_os_str).into_iter().collect::<Vec<&OsStr>>()).ok()
    }

    /// From now on systemd seems to run the machine, and what it is asked is written down.
    pub(crate) fn seems_to_run(&self) -> Result<()> {
        fs::create_dir_all(self.path("run/systemd/system")).context("Making /run/systemd/system")?;
        for program in ["systemctl", "systemd-tmpfiles"] {
            let path = self.path("usr/bin").join(program);
            self.write(&format!("usr/bin/{program}"), &SYSTEMCTL.replace("systemctl $*", &format!("{program} $*")))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("Making it a program")?;
        }
        Ok(())
    }

    /// What systemd was asked since it was looked at last, but for questions.
    pub(crate) fn asked(&self) -> Result<Vec<String>> {
        let asked = self.read("tmp/systemctl").unwrap_or_default();
        self.write("tmp/systemctl", "")?;
        let question =
            |line: &str| ["is-enabled", "is-active", "show", "--version"].iter().any(|word| line.contains(word));
        Ok(asked.lines().filter(|line| !question(line)).map(str::to_owned).collect())
    }
}
