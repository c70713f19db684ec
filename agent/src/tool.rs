//! External programs: every one that the agent starts, started here.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::host::Host;

/// A version is printed at once, or the program hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The node's Kubernetes agent.
    Kubelet,
    /// Joins, upgrades, resets.
    Kubeadm,
    /// The container runtime.
    Containerd,
    /// The key-value store.
    Etcd,
    /// Sets SELinux labels as the host's policy wants them.
    Restorecon,
}

impl Tool {
    /// Where the program may be, best first.
    fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Kubelet => &["/opt/bin/kubelet", "/usr/bin/kubelet"],
            Self::Kubeadm => &["/opt/bin/kubeadm", "/usr/bin/kubeadm"],
            Self::Containerd => &["/usr/bin/containerd", "/usr/local/bin/containerd", "/opt/bin/containerd"],
            Self::Etcd => &["/opt/bin/etcd", "/usr/bin/etcd"],
            Self::Restorecon => &["/usr/sbin/restorecon", "/sbin/restorecon"],
        }
    }

    /// What makes it print its version.
    fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kubeadm => &["version", "-o", "short"],
            Self::Kubelet | Self::Containerd | Self::Etcd | Self::Restorecon => &["--version"],
        }
    }

    /// The program below `host`, where it is installed.
    #[must_use]
    pub fn find(self, host: &Host) -> Option<PathBuf> {
        self.paths().iter().map(|path| host.path(path)).find(|path| path.is_file())
    }

    /// What the program prints when it is asked for its version; none where it is not installed.
    ///
    /// # Errors
    /// In words: it can't be started, fails, or does not answer in ten seconds.
    pub async fn ask_version(self, host: &Host) -> Option<Result<String, String>> {
        let arguments = self.version_arguments().iter().map(OsStr::new).collect::<Vec<_>>();
        self.run(host, &arguments, PATIENCE).await
    }

    /// What the program prints when it is run with `arguments`; none where it is not installed.
    ///
    /// # Errors
    /// In words: it can't be started, fails, or has not ended after `patience`.
    pub async fn run(self, host: &Host, arguments: &[&OsStr], patience: Duration) -> Option<Result<String, String>> {
        let path = self.find(host)?;
        #[expect(clippy::disallowed_methods, reason = "the one place where the agent starts programs")]
        let child = tokio::process::Command::new(&path)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        Some(match tokio::time::timeout(patience, child).await {
            Err(_) => Err(format!("{} did not answer in {} s", path.display(), patience.as_secs())),
            Ok(Err(e)) => Err(format!("{}: {e}", path.display())),
            Ok(Ok(output)) if !output.status.success() => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                Err(format!("{} ended with {}: {}", path.display(), output.status, stderr.trim()))
            }
            Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        })
    }
}
