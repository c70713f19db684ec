//! A machine whose containerd is the real one, of any version: it has `/etc/containerd` and what containerd writes for
//! itself, and a `systemctl` that does what the unit's drop-in says.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::board::Board;
use agent::host::Host;
use agent::runtime::{Applied, Wish, apply};
use bootstrap::bundle::Role;
use bootstrap::failure::Failure;
use bootstrap::node_spec::Runtime;
use bootstrap::render::containerd::{CONFIG, DROP_IN, Format, SERVICE_DROP_IN, config, drop_in, service_drop_in};
use bootstrap::render::kubeadm::CgroupDriver;
use cks_tests::leash::Daemon;
use cks_tests::netns::Netns;
use cks_tests::process::{Command, Output};
use cks_tests::programs;
use tempfile::TempDir;

pub(crate) const SANDBOX: &str = "example.org/pause:9";

/// Stands for systemd: starts containerd as the drop-in says, again for each line that it reads, and tells whether it
/// came up. `$0` is the root, `$1` the directory of programs.
const SYSTEMD: &str = r#"
set -eu
mount --bind "$0/etc/containerd" /etc/containerd
mount --bind "$0/var/lib" /var/lib
mount --bind "$0/run" /run
[ "$1" = /usr/bin ] || mount --bind "$1/containerd" /usr/bin/containerd
export PATH="$1:$PATH"
start() {
    dropin=$0/etc/systemd/system/containerd.service.d/50-cks.conf
    command=$(sed -n 's/^ExecStart=\(..*\)/\1/p' "$dropin" 2>/dev/null || true)
    rm -f /run/containerd/containerd.sock
    (
        unset http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
        set -a
        [ ! -f /etc/containerd/cks-proxy.env ] || . /etc/containerd/cks-proxy.env
        exec ${command:-/usr/bin/containerd}
    ) & pid=$!
    while kill -0 $pid 2>/dev/null; do
        if ctr version >/dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    return 1
}
if start; then echo up; fi
while read -r _ <"$0/ask"; do
    kill $pid 2>/dev/null || true
    wait $pid || true
    if start; then echo up >"$0/answer"; else echo down >"$0/answer"; fi
done
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>ROOT/asked
[ "$1" = restart ] || exit 0
echo restart >ROOT/ask
read -r said <ROOT/answer
[ "$said" = up ] || { echo "Job for containerd.service failed." >&2; exit 1; }
"#;

pub(crate) struct Machine {
    pub(crate) host: Host,
    pub(crate) board: Board,
    pub(crate) format: Format,
    pub(crate) cgroup_driver: CgroupDriver,
    root: PathBuf,
    programs: PathBuf,
    daemon: Daemon,
    _directory: TempDir,
}

impl Machine {
    /// One with containerd of `version`, inside `netns`, started as the distribution does: with `config.toml` of this
    /// text, where there is one.
    pub(crate) fn new(version: Option<&str>, netns: &Netns, main: Option<&str>) -> Self {
        let programs = version.map_or_else(|| PathBuf::from("/usr/bin"), |v| programs::containerd_built(v).unwrap());
        let directory = cks_tests::scratch("runtime").unwrap();
        let root = directory.path().to_owned();
        for path in ["etc/containerd/conf.d", "var/lib/containerd", "run/containerd", "usr/bin", "opt/bin"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        Command::new("mkfifo").arg(root.join("ask")).arg(root.join("answer")).ok().unwrap();
        if let Some(main) = main {
            fs::write(root.join("etc/containerd/config.toml"), main).unwrap();
        }
        let systemd = Command::new("sh").args(["-c", SYSTEMD]).arg(&root).arg(&programs);
        let log = root.join("log");
        let mut daemon = netns.enter(systemd).daemon(&log).unwrap();
        let up = || fs::read_to_string(&log).is_ok_and(|log| log.lines().any(|line| line == "up"));
        daemon.ready(Duration::from_secs(60), up).unwrap();
        let script = |path: &str, text: String| {
            fs::write(root.join(path), text).unwrap();
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("usr/bin/systemctl", SYSTEMCTL.replace("ROOT", &root.display().to_string()));
        let within = format!("nsenter --mount=/proc/{}/ns/mnt --", daemon.pid());
        script("usr/bin/containerd", format!("#!/bin/sh\nexec {within} {}/containerd \"$@\"\n", programs.display()));
        symlink(programs::tool("crictl", None).unwrap().join("crictl"), root.join("opt/bin/crictl")).unwrap();
        let host = Host::new(&root).unwrap();
        let said = Command::new(programs.join("containerd")).arg("--version").ok().unwrap();
        let format = Format::of_version(said.split_whitespace().nth(2).unwrap());
        let (board, cgroup_driver) = (Board::new(Role::Worker), CgroupDriver::Systemd);
        Self { host, board, format, cgroup_driver, root, programs, daemon, _directory: directory }
    }

    /// As the plan of a bootstrap leaves it.
    pub(crate) fn planned(&self) {
        for (path, text) in [
            (CONFIG, config(self.format)),
            (DROP_IN, drop_in(self.format, Some(SANDBOX), self.cgroup_driver)),
            (SERVICE_DROP_IN, service_drop_in(None)),
        ] {
            fs::write(self.host.prepare(path).unwrap(), text).unwrap();
        }
    }

    pub(crate) fn apply(&self, runtime: &Runtime) -> Result<Applied, Failure> {
        let socket = self.socket();
        let wish = Wish {
            runtime,
            sandbox_image: Some(SANDBOX),
            cgroup_driver: self.cgroup_driver,
            socket: &socket,
            patience: Duration::from_secs(30),
        };
        let run = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        run.block_on(apply(&self.host, &self.board, &wish))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("run/containerd/containerd.sock")
    }

    /// A file of the machine.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A line of the server's script, run by a shell inside the machine.
    pub(crate) fn shell(&self, line: &str) -> Output {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.programs.display());
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.daemon.pid());
        Command::new("nsenter").arg(mounts).args(["--", "sh", "-c", line]).env("PATH", path).output().unwrap()
    }

    pub(crate) fn systemctl(&self, args: &[&str]) -> Output {
        Command::new(self.root.join("usr/bin/systemctl")).args(args).output().unwrap()
    }

    /// How often containerd was restarted.
    pub(crate) fn restarts(&self) -> usize {
        let asked = fs::read_to_string(self.root.join("asked")).unwrap_or_default();
        asked.lines().filter(|line| line.starts_with("restart")).count()
    }

    pub(crate) fn crictl(&self, args: &[&str]) -> Output {
        let endpoint = format!("unix://{}", self.socket().display());
        let crictl = Command::new(self.root.join("opt/bin/crictl")).args(["--config", "/dev/null", "--timeout", "60s"]);
        let crictl = crictl.args(["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint]);
        crictl.args(args).output().unwrap()
    }

    /// Pulls an image that is not there; gone again afterwards.
    pub(crate) fn pull(&self, reference: &str) -> Result<(), String> {
        let pulled = self.crictl(&["pull", reference]);
        let removed = self.crictl(&["rmi", reference]);
        match pulled.code {
            0 => {
                assert_eq!(removed.code, 0, "{removed:?}");
                Ok(())
            }
            _ => Err(pulled.stderr),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap()
    }
}

/// The text of a PEM file.
pub(crate) fn pem(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
